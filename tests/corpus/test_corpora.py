"""Every corpus from its true layout to a training: the traps of each are in tests/corpus/layouts.py."""

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment

from speechgate.config import load_experiment
from speechgate.corpus import frame
from speechgate.corpus.known import CORPORA
from speechgate.errors import ConfigError, DownloadError, ManifestError
from speechgate.hypotheses import decode
from speechgate.manifests.cuts import read_cuts, validate
from speechgate.manifests.gate import issue_totals
from speechgate.preparation import prepare, report_leaks
from speechgate.recipe import Recipe
from tests.corpus.clips import Clip, write, write_audio
from tests.corpus.layouts import LAYOUTS, Expected, report_of

TASKS = {
    "europarl_st": ["asr:fra", "st:fra-eng", "st:fra-ita"],
    "covost2": ["asr:fra", "st:fra-eng"],
    "fleurs": ["asr:eng", "asr:fra", "asr:rus", "st:eng-fra", "st:eng-rus", "st:fra-eng", "st:rus-eng"],
    "must_c": ["asr:eng", "st:eng-ita"],
    "mtedx": ["asr:spa", "st:spa-eng"],
    "voxpopuli": ["asr:fra"],
    "mls": ["asr:ita"],
    "common_voice": ["asr:rus"],
    "mboshi": ["asr:mdw", "st:mdw-fra"],
    "own": ["asr:fra", "st:fra-eng"],
}
# Everything of a recipe's configuration is tried but its size.
TINY = ("train.updates=1", "train.validate_every=1", "train.workers=0", "train.warmup=1", "train.precision=32-true")


def test_every_corpus_has_a_layout() -> None:
    assert set(CORPORA) == {"prompts", *LAYOUTS}


@pytest.mark.parametrize("name", LAYOUTS)
def test_preparation_finds_what_is_there(corpora: tuple[Path, dict[str, Expected]], name: str) -> None:
    folder, expected = corpora
    cuts = {split: list(read_cuts(path)) for split, path in CORPORA[name].manifest_paths(folder / "data").items()}
    assert {split: len(some) for split, some in cuts.items()} == expected[name].cuts
    for some in cuts.values():
        validate(some)
        for cut in some:
            assert cut.load_audio().shape == (1, cut.num_samples)
    report = report_of(folder / "data" / name)
    found = issue_totals(report)
    assert {kind: found[kind] for kind in expected[name].problems} == expected[name].problems
    assert found.keys() - expected[name].problems.keys() <= {"recording converted"}
    quarantine = (folder / "data" / name / "quarantine.jsonl").read_text(encoding="utf-8").splitlines()
    assert len({json.loads(line)["id"] for line in quarantine}) == report["kept_out"]
    assert report["seen"] == report["kept_out"] + sum(expected[name].cuts.values())


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_debug_training_of_each(corpora: tuple[Path, dict[str, Expected]], name: str, tmp_path: Path) -> None:
    """With the recipe's own configurations, dense and gated, on the debug model."""
    recipe = Recipe(name, corpora[0] / "data", tmp_path)
    debug = load_experiment("debug").model
    for conf in [*recipe.configurations(), *recipe.configurations(gated=True)]:
        experiment = load_experiment(conf, TINY)
        folder = recipe.train(dataclasses.replace(experiment, model=debug) if experiment.model else experiment)
        assert (folder / "model.safetensors").is_file()
    trained = json.loads((folder / "description.json").read_text())["tasks"]
    assert trained == TASKS[name]


def test_europarl_st_goes_on_from_a_published_model(corpora: tuple[Path, dict[str, Expected]], tmp_path: Path) -> None:
    recipe = Recipe("europarl_st", corpora[0] / "data", tmp_path)
    published = load_experiment("debug", ["name=owsm", "train.updates=1", "train.validate_every=1"])
    recipe.train(dataclasses.replace(published, tasks=("asr", "st")))
    folder = recipe.train(load_experiment(frame.RECIPES / "europarl_st/conf/finetune.yaml", TINY))
    assert folder == recipe.folder_of("dense")
    assert json.loads((folder / "description.json").read_text())["tasks"] == TASKS["europarl_st"]


def test_one_training_over_a_mix(corpora: tuple[Path, dict[str, Expected]], tmp_path: Path) -> None:
    recipe = Recipe("mtedx,covost2", corpora[0] / "data", tmp_path)
    assert [str(task) for task in recipe.available_tasks()] == ["asr:fra", "asr:spa", "st:fra-eng", "st:spa-eng"]
    ids = [cut.id for cut in recipe.cuts("train")]
    assert {id_.partition("/")[0] for id_ in ids} == {"covost2", "mtedx"}
    assert len(set(ids)) == 8
    short = ["train.updates=2", "train.validate_every=2"]
    folder = recipe.train(load_experiment("debug", [*short, "train.repeat.mtedx=3"]), ["asr", "st"], ["fr"])
    assert folder == tmp_path / "covost2+mtedx" / "asr_st_fra" / "debug"
    assert recipe.held_out("test") == ["covost2_test", "mtedx_test"]
    assert {cut.supervisions[0].language for cut in recipe.cuts("mtedx_test")} == {"spa"}
    with pytest.raises(ConfigError, match="give covost2_test or mtedx_test"):
        decode(recipe, folder)
    with pytest.raises(ConfigError, match="split: 'tset' is not known; did you mean 'test'"):
        recipe.cuts("tset")
    with pytest.raises(ConfigError, match="'mtedz' is not trained on here, only: covost2, mtedx"):
        recipe.train(load_experiment("debug", [*short, "train.repeat.mtedz=3"]))


def test_a_corpus_of_a_mix_that_counts_0_times_is_left_out(
    corpora: tuple[Path, dict[str, Expected]], tmp_path: Path
) -> None:
    recipe = Recipe("mtedx,covost2", corpora[0] / "data", tmp_path)
    assert {cut.id.partition("/")[0] for cut in recipe.cuts("dev", {"mtedx": 0})} == {"covost2"}
    short = ["train.updates=2", "train.validate_every=2", "tasks=[asr,st]"]
    folder = recipe.train(load_experiment("debug", [*short, "train.repeat.mtedx=0"]))
    assert json.loads((folder / "description.json").read_text())["tasks"] == ["asr:fra", "st:fra-eng"]
    with pytest.raises(ConfigError, match="leaves out every corpus with the split 'train'"):
        recipe.train(load_experiment("debug", [*short, "train.repeat={mtedx: 0, covost2: 0}"]))
    with pytest.raises(ConfigError, match=r"train.repeat.mtedx is -1: give a whole number of times, 0 for none"):
        load_experiment("debug", ["train.repeat.mtedx=-1"])


def test_a_mix_finds_leaks_between_its_corpora(corpora: tuple[Path, dict[str, Expected]], tmp_path: Path) -> None:
    """French of CoVoST trains on sentences that own tests: here the fixtures share all of each split."""
    shutil.copytree(corpora[0] / "data", tmp_path / "data", ignore=shutil.ignore_patterns("audio"))
    recipe = Recipe("covost2,voxpopuli", tmp_path / "data")
    shutil.copy(recipe.manifests("train")["covost2"], recipe.manifests("test")["voxpopuli"])
    assert not recipe.is_prepared
    with pytest.raises(ConfigError, match="prepare each corpus by itself"):
        prepare(recipe, "raw")
    report_leaks(recipe)
    [row] = [
        row
        for row in json.loads((tmp_path / "data/covost2+voxpopuli/leaks.json").read_text())
        if row["splits"] == ["train", "voxpopuli_test"] and row["shared"] == "fra sentence"
    ]
    assert row["count"] == 4


def test_preparing_again_keeps_recordings_and_bytes(tmp_path: Path, clips: list[Clip]) -> None:
    (tmp_path / "raw").mkdir()
    LAYOUTS["must_c"](tmp_path / "raw", clips)
    corpus = CORPORA["must_c"]
    corpus.download(tmp_path, str(tmp_path / "raw"))
    assert not corpus.is_prepared(tmp_path)
    corpus.prepare(tmp_path, workers=1)
    assert corpus.is_prepared(tmp_path)
    home = corpus.home(tmp_path)
    kept = {path: path.stat().st_mtime_ns for path in home.rglob("*.flac")}
    before = {path: path.read_bytes() for path in [*home.glob("cuts_*.jsonl.gz"), *home.glob("report.*")]}
    corpus.prepare(tmp_path, workers=2)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("europarl_st", lambda root: (root / "fr/en/test/segments.en").unlink(), r"lacks .*fr/en/test/segments\.en"),
        ("europarl_st", lambda root: shutil.rmtree(root / "fr"), "a folder of a language"),
        ("covost2", lambda root: shutil.rmtree(root / "fr/clips"), "lacks .*clips"),
        ("covost2", lambda root: (root / "fr/covost_v2.fr_en.dev.tsv").unlink(), r"covost_v2\.fr_en\.dev\.tsv"),
        ("fleurs", lambda root: (root / "metadata/fr_fr/dev.tsv").write_text(""), r"lacks .*fr_fr/dev\.tsv"),
        ("must_c", lambda root: shutil.rmtree(root / "en-it/data/dev/wav"), "lacks .*en-it/data/dev/wav"),
        ("mtedx", lambda root: (root / "es-en/data/valid/txt/segments").unlink(), "lacks .*valid/txt/segments"),
        ("voxpopuli", lambda root: shutil.rmtree(root / "raw_audios"), "lacks recordings in .*raw_audios/fr"),
        ("mls", lambda root: shutil.rmtree(root / "mls_italian_opus"), "mls_german_opus"),
        ("common_voice", lambda root: (root / "ru/test.tsv").unlink(), r"lacks .*ru/test\.tsv"),
        ("mboshi", lambda root: shutil.rmtree(root / "full_corpus_newsplit/dev"), r"lacks dev/\*\.wav"),
        ("own", lambda root: (root / "dev.tsv").unlink(), r"lacks dev\.tsv"),
    ],
)
def test_incomplete_corpora_are_told_with_the_steps(
    corpora: tuple[Path, dict[str, Expected]], tmp_path: Path, name: str, spoil: Callable[[Path], None], message: str
) -> None:
    shutil.copytree(corpora[0] / "raw" / name, tmp_path / "raw")
    spoil(tmp_path / "raw")
    with pytest.raises(DownloadError, match=f"{name} is not complete: .*{message}.*--source"):
        CORPORA[name].download(tmp_path, str(tmp_path / "raw"))
    assert not CORPORA[name].is_downloaded(tmp_path)


def test_parallel_lists_of_unequal_length_are_told(tmp_path: Path, clips: list[Clip]) -> None:
    LAYOUTS["mtedx"](tmp_path / "raw", clips)
    path = tmp_path / "raw/es-es/data/train/txt/train.es"
    path.write_text(path.read_text(encoding="utf-8").rpartition("\n")[0].rpartition("\n")[0], encoding="utf-8")
    corpus = CORPORA["mtedx"]
    corpus.download(tmp_path, str(tmp_path / "raw"))
    with pytest.raises(ManifestError, match=r"train\.es has 3 lines, but segments beside it 4: fetch"):
        corpus.prepare(tmp_path, workers=1)
    assert not corpus.is_prepared(tmp_path)


def test_too_much_that_is_bad_stops_with_the_list(tmp_path: Path, clips: list[Clip]) -> None:
    LAYOUTS["covost2"](tmp_path / "raw", clips)
    corpus = CORPORA["covost2"]
    corpus.download(tmp_path, str(tmp_path / "raw"))
    with pytest.raises(
        ManifestError, match=r"2 of 10 utterances \(20\.0 %\) cannot be used, .*5 % allowed: missing rec"
    ):
        corpus.prepare(tmp_path, workers=1)
    home = corpus.home(tmp_path)
    assert {json.loads(line)["id"] for line in (home / "quarantine.jsonl").read_text().splitlines()} == {
        "fra-common_voice_fr_gone",
        "fra-common_voice_fr_empty",
    }
    assert "missing recording: 1" in (home / "report.html").read_text()
    assert not list(home.glob("cuts_*"))


@pytest.mark.parametrize("form", ["CutSets", "Kaldi"])
def test_own_data_in_other_forms(tmp_path: Path, clips: list[Clip], form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("a process that holds threads was forked"))
    root = tmp_path / "raw"
    for number, split in enumerate(("train", "dev", "test")):
        some = clips[2 * number : 2 * number + 2]
        places = write_audio(root / f"{split}.flac", *some)
        recording = Recording.from_file(root / f"{split}.flac")
        if form == "CutSets":
            supervisions = [
                SupervisionSegment(
                    f"{split}-{i}", recording.id, start, end - start, text=clip.texts["fra"], language="fr",
                    custom={"translated_text": {"en": clip.texts["eng"]}},
                )
                for i, ((start, end), clip) in enumerate(zip(places, some, strict=True))
            ]  # fmt: skip
            cut = MonoCut(split, 0, recording.duration, 0, supervisions, recording=recording)
            CutSet([cut]).to_file(root / f"cuts_{split}.jsonl.gz")
        else:
            ids = [f"{split}-{i}" for i in range(2)]
            write(root / split / "wav.scp", f"{split} {root / f'{split}.flac'}")
            write(root / split / "text", *(f"{i} {clip.texts['fra']}" for i, clip in zip(ids, some, strict=True)))
            write(root / split / "utt2spk", *(f"{i} me" for i in ids))
            write(root / split / "utt2lang", *(f"{i} fr" for i in ids))
            write(root / split / "segments", *(f"{i} {split} {a} {b}" for i, (a, b) in zip(ids, places, strict=True)))
    corpus = CORPORA["own"]
    corpus.download(tmp_path, str(root))
    paths = corpus.prepare(tmp_path, workers=1)
    cuts = list(read_cuts(paths["train"]))
    assert [cut.id for cut in cuts] == ["train-0", "train-1"]
    assert [cut.supervisions[0].text for cut in cuts] == [clip.texts["fra"] for clip in clips[:2]]
    assert [cut.duration for cut in cuts] == pytest.approx([clip.seconds for clip in clips[:2]], abs=0.02)
    assert all(cut.supervisions[0].language == "fra" for cut in cuts)
