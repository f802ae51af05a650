import json
from pathlib import Path

import pytest

from speechgate.errors import CheckpointError, ConfigError
from speechgate.task import Task
from speechgate.transcribe.known import WINDOW_SECONDS, Known
from tests.model.tiny import TASKS, tokenizer

KNOWN = Known(
    (Task.asr("eng"), Task.asr("rus"), Task.st("rus", "eng"), Task.st("rus", "fra"), Task.st("fra", "eng")), 9.0
)


@pytest.mark.parametrize(
    ("kind", "src", "tgt", "found"),
    [
        (None, None, None, ["asr:eng", "asr:rus"]),
        (None, "ru", None, ["asr:rus"]),
        (None, None, "en", ["st:rus-eng", "st:fra-eng"]),
        ("st", "fra", None, ["st:fra-eng"]),
        ("st", "rus", "fr", ["st:rus-fra"]),
    ],
)
def test_what_is_not_said_stays_open(kind: str | None, src: str | None, tgt: str | None, found: list[str]) -> None:
    assert [str(task) for task in KNOWN.choose(kind, src, tgt)] == found


@pytest.mark.parametrize(
    ("kind", "src", "tgt", "message"),
    [
        (None, "de", None, "hears: eng, fra, rus"),
        (None, "xx", None, "unknown language"),
        ("asr", "fra", None, "no asr from fra; it has: asr:eng, asr:rus, st:rus-eng"),
        ("st", "rus", None, "give --tgt: the model translates into eng, fra"),
        ("asr", "rus", "eng", "excludes --tgt"),
        (None, "eng", "eng", "no st from eng into eng"),
        ("mt", None, None, "unknown task"),
    ],
)
def test_what_the_model_lacks_is_answered_with_what_it_has(
    kind: str | None, src: str | None, tgt: str | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        KNOWN.choose(kind, src, tgt)


def test_one_task_tells_each_language() -> None:
    assert sorted(map(str, KNOWN.by_language())) == ["asr:eng", "asr:rus", "st:fra-eng"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint's, with what is read of its config.yaml."""
    (tmp_path / "config.yaml").write_text("format: 1\n")
    return tmp_path


def test_a_checkpoint_tells_in_its_run(folder: Path) -> None:
    run = {"description": {"tasks": ["asr:rus"], "train": {"max_seconds": 12.5}}}
    (folder / "run.json").write_text(json.dumps(run))
    assert Known.of(folder, tokenizer()) == Known((Task.asr("rus"),), 12.5)
    (folder / "run.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"run\.json is not JSON"):
        Known.of(folder, tokenizer())


def test_a_specialised_checkpoint_knows_one_task(folder: Path) -> None:
    (folder / "config.yaml").write_text("format: 1\nspecialised:\n  task: st:rus-eng\n  closed: []\n")
    assert Known.of(folder, tokenizer()) == Known((TASKS[2],), WINDOW_SECONDS)
    run = {"description": {"tasks": [str(task) for task in TASKS], "train": {"max_seconds": 12.5}}}
    (folder / "run.json").write_text(json.dumps(run))
    assert Known.of(folder, tokenizer()) == Known((TASKS[2],), 12.5)


def test_a_checkpoint_from_elsewhere_knows_what_its_tokens_can_say(folder: Path) -> None:
    known = Known.of(folder, tokenizer())
    assert set(known.tasks) == set(TASKS)
    assert known.window_seconds == WINDOW_SECONDS
