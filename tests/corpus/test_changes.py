"""What changed in a source or in a corpus of a mix is noticed, and prepared anew."""

import json
import os
import shutil
from pathlib import Path

import pytest

from speechgate.corpus import frame
from speechgate.corpus.known import CORPORA
from speechgate.corpus.own import CORPUS as OWN
from speechgate.files import write_json
from speechgate.manifests.cuts import read_cuts
from speechgate.manifests.quality import Quality
from speechgate.preparation import prepare
from speechgate.recipe import Recipe
from tests.corpus.clips import Clip
from tests.corpus.layouts import LAYOUTS, Expected

NOT_LISTS = {".flac", ".m4a", ".mp3", ".ogg", ".opus", ".wav"}
UNREAD = {"metainfo.txt"}  # of MLS


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trap in ten utterances is allowed, and recordings are converted in this process."""
    monkeypatch.setattr(frame, "load_quality", lambda path: Quality(max_bad_percent=40))
    monkeypatch.setattr(frame, "cores", lambda: 1)


def raw_corpus(name: str, folder: Path, clips: list[Clip]) -> str:
    root = folder / "raw" / name
    root.mkdir(parents=True)
    LAYOUTS[name](root, clips)
    return str(root)


def edit(source: str, text: str, other: str) -> None:
    table = Path(source, "train.tsv")
    table.write_text(table.read_text(encoding="utf-8").replace(text, other), encoding="utf-8")


def texts(recipe: Recipe) -> list[str]:
    return [cut.supervisions[0].text for path in recipe.manifests("train").values() for cut in read_cuts(path)]


def test_an_edited_table_is_prepared_anew(tmp_path: Path, clips: list[Clip], lenient: None) -> None:
    source, recipe = raw_corpus("own", tmp_path, clips), Recipe("own", tmp_path / "data")
    prepare(recipe, source)
    kept = {path: path.stat().st_mtime_ns for path in recipe.data.rglob("*") if path.is_file()}
    prepare(recipe, source)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept

    edit(source, clips[0].texts["fra"], "Autre chose.")
    assert not recipe.is_prepared
    prepare(recipe, source)
    assert texts(recipe) == ["Autre chose.", *(clip.texts["fra"] for clip in clips[1:4])]
    assert recipe.is_prepared


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_list_that_a_corpus_reads_is_watched(
    corpora: tuple[Path, dict[str, Expected]], name: str, lenient: None
) -> None:
    folder, _ = corpora
    corpus, files = CORPORA[name], [path for path in (folder / "raw" / name).rglob("*") if path.is_file()]
    lists = [path for path in files if path.suffix not in NOT_LISTS and path.name not in UNREAD]
    assert lists
    for path in lists:
        assert corpus.is_prepared(folder / "data")
        before = path.stat()
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000_000))
        changed = not corpus.is_prepared(folder / "data")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert changed, path


def test_the_lists_of_all_forms_of_own_data_are_watched(tmp_path: Path) -> None:
    kaldi = [f"dev/{name}" for name in ("wav.scp", "text", "utt2spk", "utt2lang", "segments")]
    for name in ("train.tsv", "cuts_test.jsonl.gz", *kaldi):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
        assert tmp_path / name in [path for pattern in OWN.lists for path in tmp_path.glob(pattern)]


def test_a_preparation_outlives_its_source(tmp_path: Path, clips: list[Clip], lenient: None) -> None:
    source = raw_corpus("own", tmp_path, clips)
    OWN.download(tmp_path, source)
    OWN.prepare(tmp_path)
    shutil.rmtree(source)
    assert OWN.is_prepared(tmp_path)


def test_a_preparation_that_noted_no_lists_is_done_anew_once(tmp_path: Path, clips: list[Clip], lenient: None) -> None:
    source = raw_corpus("own", tmp_path, clips)
    recipe, path = Recipe("own", tmp_path), tmp_path / "own" / "report.json"
    prepare(recipe, source)
    report = json.loads(path.read_text(encoding="utf-8"))
    del report["made_from"]["lists"]
    write_json(path, report)
    assert not recipe.is_prepared
    prepare(recipe, "auto")
    assert recipe.is_prepared
    write_json(path, report)
    shutil.rmtree(source)
    assert recipe.is_prepared


def test_a_mix_follows_its_corpora(tmp_path: Path, clips: list[Clip], lenient: None) -> None:
    alone, mix = Recipe("own", tmp_path / "data"), Recipe("own,mtedx", tmp_path / "data")
    other = Recipe("mtedx", tmp_path / "data")
    sources = {name: raw_corpus(name, tmp_path, clips) for name in ("own", "mtedx")}
    for recipe in (alone, other):
        prepare(recipe, sources[recipe.corpus])
    prepare(mix, "auto")
    assert mix.is_prepared
    before = mix.tokenizer().token_list
    kept = (other.tokens / "tokens.txt").stat().st_mtime_ns

    edit(sources["own"], clips[0].texts["fra"], "Kiwi, kiwi, kiwi.")
    prepare(alone, sources["own"])
    assert alone.is_prepared
    assert not mix.is_prepared
    prepare(mix, "auto")
    assert mix.is_prepared
    assert mix.tokenizer().token_list != before
    assert (other.tokens / "tokens.txt").stat().st_mtime_ns == kept
