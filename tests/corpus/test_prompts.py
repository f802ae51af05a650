import errno
import gzip
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import CutSet
from rich.console import Console

from speechgate import files
from speechgate.corpus import prompts, prompts_report
from speechgate.corpus.prompts_source import BUNDLED, VOICES
from speechgate.corpus.splits import SPLITS, read_splits
from speechgate.errors import DownloadError
from speechgate.manifests.cuts import read_cuts, translations
from speechgate.task import Task


@pytest.fixture(scope="module")
def report(prepared: Path) -> dict:
    return json.loads(prompts_report.report_path(prepared).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def cuts(prepared: Path) -> dict[str, CutSet]:
    return {split: read_cuts(path).to_eager() for split, path in prompts.manifest_paths(prepared).items()}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tiny corpus that a test may spoil: five prompts a language."""
    root = tmp_path / "tree"
    shutil.copytree(BUNDLED / "usr/share/doc", root / "usr/share/doc")
    for voice in VOICES:
        for prompt_id in ("agent-loggedoff", "hello-world", "vm-from", "vm-last", "vm-nomore"):
            target = voice.sounds(root) / f"{prompt_id}.g722"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(voice.sounds(BUNDLED) / target.name, target)
    return root


def test_every_split_has_every_language(cuts: dict[str, CutSet]) -> None:
    for split, minimum in (("train", 40), ("dev", 6), ("test", 8)):
        for voice in VOICES:
            assert len(cuts[split].filter(lambda c, v=voice: c.supervisions[0].language == v.lang3)) >= minimum


def test_prompts_are_in_the_split_of_the_lists(cuts: dict[str, CutSet]) -> None:
    lists = read_splits()
    for split in SPLITS:
        assert {lists[cut.supervisions[0].custom["prompt_id"]] for cut in cuts[split]} == {split}


def test_a_cut_in_full(prepared: Path, cuts: dict[str, CutSet]) -> None:
    cut = cuts["test"]["spa-agent-loggedoff"]
    assert cut.recording.sources[0].source == str(prepared / "prompts/audio/spa/agent-loggedoff.flac")
    [supervision] = cut.supervisions
    assert (supervision.language, supervision.speaker) == ("spa", "allison")
    assert supervision.text == "Agente desconectado"
    assert supervision.custom["prompt_id"] == "agent-loggedoff"
    assert translations(cut)["eng"] == "Agent Logged off."
    assert translations(cut).keys() == {"eng", "fra", "ita", "rus"}
    samples = cut.load_audio()
    assert samples.shape == (1, cut.num_samples)
    assert np.abs(samples).max() > 0.05
    assert soundfile.info(cut.recording.sources[0].source).subtype == "PCM_16"


def test_ids_with_folders(cuts: dict[str, CutSet]) -> None:
    assert cuts["train"]["ita-letters_o"].supervisions[0].text == "O"
    assert cuts["train"]["ita-letters_o"].supervisions[0].custom["prompt_id"] == "letters/o"


def test_report_counts_every_quirk(report: dict) -> None:
    issues = {language: values["issues"] for language, values in report["languages"].items()}
    assert issues["eng"]["not speech"] == 3
    assert issues["eng"]["text without audio"] == 1
    assert issues["spa"]["duplicate id"] == 1
    assert issues["spa"]["id corrected"] == 2
    assert issues["spa"]["empty text"] == 1
    assert issues["fra"]["audio without text"] == 1
    assert issues["fra"]["several entries in a line"] == 1
    assert issues["ita"]["byte-order mark"] == 1
    assert issues["ita"]["lost accents restored"] == 1
    assert issues["rus"]["id repeated in the text"] == 1
    assert issues["rus"]["letters of another script"] == 1
    assert issues["rus"]["text in another language"] == 1
    assert all("shorter than 0.5 s" in issues[language] for language in ("spa", "fra", "ita", "rus"))
    assert report["usable_in_all_languages"] == 54
    assert report["languages"]["spa"]["texts_with_accents"] <= 1, "the Spanish transcripts mostly lack accents"
    assert {"language": "fra", "kind": "audio without text", "id": "letters/zed", "detail": ""} in report["issues"]


FULL_CORPUS_USABLE = {"eng": 551, "spa": 481, "fra": 510, "ita": 579, "rus": 553}


def test_counts_of_the_full_corpus() -> None:
    """Where a developer has prepared all of it: the counts that the documentation gives."""
    path = prompts_report.report_path(Path(__file__).parents[2] / "data")
    made_from = prompts_report.made_from(path)
    if made_from is None or made_from["source"] == "bundled":
        pytest.skip("the full corpus is not prepared in data/")
    report = json.loads(path.read_text(encoding="utf-8"))
    assert {language: values["usable"] for language, values in report["languages"].items()} == FULL_CORPUS_USABLE
    assert report["usable_in_all_languages"] == 446
    for values in report["languages"].values():
        assert (values["utterances"]["dev"], values["utterances"]["test"]) == (24, 48)


def test_report_adds_up(report: dict, cuts: dict[str, CutSet]) -> None:
    for language, values in report["languages"].items():
        in_splits = [cut for split in SPLITS for cut in cuts[split] if cut.supervisions[0].language == language]
        too_long = values["issues"].get("text too long for its audio", 0)
        assert sum(values["utterances"].values()) == len(in_splits) == values["usable"] - too_long
        listed = [issue for issue in report["issues"] if issue["language"] == language]
        assert len(listed) == sum(values["issues"].values())


def test_texts_that_cannot_be_right_do_not_train(report: dict, cuts: dict[str, CutSet]) -> None:
    assert "spa-vm-mismatch" not in cuts["train"].ids
    [issue] = [issue for issue in report["issues"] if issue["id"] == "vm-mismatch" and issue["language"] == "spa"]
    assert issue["detail"] == "22.4 characters/s"


def test_table_has_a_column_a_language(report: dict) -> None:
    with open(os.devnull, "w") as nowhere:
        console = Console(width=120, record=True, file=nowhere)
        console.print(prompts_report.summary_table(report))
    text = console.export_text()
    assert "54 prompts usable in all languages" in text
    assert all(voice.lang3 in text for voice in VOICES)
    assert "byte-order mark" in text


def test_preparing_again_changes_nothing(prepared: Path) -> None:
    paths = [*prompts.manifest_paths(prepared).values(), prompts_report.report_path(prepared)]
    before = [path.read_bytes() for path in paths]
    assert prompts.is_prepared(prepared)
    prompts.prepare(prepared, workers=1)
    assert [path.read_bytes() for path in paths] == before


def test_other_source_or_splits_ask_for_another_preparation(tree: Path, tmp_path: Path, monkeypatch) -> None:
    data_dir = tmp_path / "data"
    assert not prompts.is_prepared(data_dir)
    with pytest.raises(DownloadError, match="run `download` first"):
        prompts.prepare(data_dir)
    prompts.download(data_dir, str(tree))
    assert not prompts.is_prepared(data_dir)
    prompts.prepare(data_dir, workers=1)
    assert prompts.is_prepared(data_dir)
    prompts.download(data_dir, "bundled")
    assert not prompts.is_prepared(data_dir)
    prompts.download(data_dir, str(tree))
    assert prompts.is_prepared(data_dir)
    monkeypatch.setattr(prompts, "read_splits", dict)
    assert not prompts.is_prepared(data_dir)


def test_a_changed_transcript_asks_for_another_preparation(tree: Path, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    prompts.download(data_dir, str(tree))
    prompts.prepare(data_dir, workers=1)
    transcript = VOICES[0].transcript(tree)
    assert transcript is not None
    lines = gzip.decompress(transcript.read_bytes())
    transcript.write_bytes(gzip.compress(lines + b"\nan-id: Another line.\n"))
    assert not prompts.is_prepared(data_dir)
    prompts.prepare(data_dir, workers=1)
    assert prompts.is_prepared(data_dir)
    shutil.rmtree(tree)
    assert prompts.is_prepared(data_dir)


def test_bad_recordings_are_listed_and_left_out(tree: Path, tmp_path: Path) -> None:
    sounds = VOICES[0].sounds(tree)
    (sounds / "vm-from.g722").write_bytes(b"")
    (sounds / "vm-nomore.g722").unlink()
    (sounds / "vm-nomore.g722").mkdir()
    data_dir = tmp_path / "data"
    prompts.download(data_dir, str(tree))
    prompts.prepare(data_dir, workers=1)
    report = json.loads(prompts_report.report_path(data_dir).read_text())
    unreadable = {issue["id"]: issue["detail"] for issue in report["issues"] if issue["kind"] == "unreadable recording"}
    assert unreadable.keys() == {"vm-from", "vm-nomore"}
    assert unreadable["vm-from"].endswith("vm-from.g722 is empty: 0 bytes")
    assert report["languages"]["eng"]["issues"]["unreadable recording"] == 2
    ids = {cut.id for path in prompts.manifest_paths(data_dir).values() for cut in read_cuts(path)}
    assert "eng-vm-from" not in ids
    assert "fra-vm-from" in ids


def test_full_disk_leaves_no_manifest_and_nothing_prepared(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir = tmp_path / "data"
    prompts.download(data_dir, str(tree))
    prompts.prepare(data_dir, workers=1)
    before = prompts.manifest_paths(data_dir)["train"].read_bytes()

    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(OSError, match="No space left on device"):
        prompts.prepare(data_dir, workers=1)
    assert prompts.manifest_paths(data_dir)["train"].read_bytes() == before
    assert not prompts.is_prepared(data_dir)
    assert not [path for path in data_dir.rglob(".*") if path.is_file()]


def test_every_translation_task_has_data(cuts: dict[str, CutSet]) -> None:
    """What the recipe's tasks need: each language into English, on every split."""
    for task in (Task.st(voice.lang3, "eng") for voice in VOICES[1:]):
        for split in SPLITS:
            spoken = [cut for cut in cuts[split] if cut.supervisions[0].language == task.src]
            assert sum("eng" in translations(cut) for cut in spoken) >= 6
