"""The race with faster-whisper, whose place a stand-in takes: the package is not needed."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from lhotse import Recording, SupervisionSegment
from lhotse.cut import Cut

from speechgate.bench.faster_whisper import WINDOW_SECONDS, compare_with_faster_whisper, load_faster_whisper
from speechgate.data.batch import SAMPLE_RATE
from speechgate.errors import ConfigError
from speechgate.model.checkpoint import Checkpoint, import_whisper
from speechgate.whisper.config import WhisperConfig


class StandIn:
    """Answers with ``texts`` in turn, and keeps what it was asked."""

    def __init__(self, *texts: str) -> None:
        self.texts, self.asked = texts, []

    def transcribe(self, samples_N: np.ndarray, **options: Any) -> tuple[list[SimpleNamespace], None]:
        self.asked.append((len(samples_N), options))
        return [SimpleNamespace(text=f" {self.texts[(len(self.asked) - 1) % len(self.texts)]}")], None


@pytest.fixture
def checkpoint(whisper_folder: Path) -> Checkpoint:
    found = Checkpoint(*import_whisper().load_whisper(WhisperConfig(str(whisper_folder)), []))
    found.model.eval()
    return found


@pytest.fixture
def cuts(tmp_path: Path) -> list[Cut]:
    made = []
    for index, language in enumerate(("eng", "fra")):
        path = tmp_path / f"{index}.wav"
        soundfile.write(path, 0.1 * np.random.default_rng(index).standard_normal(SAMPLE_RATE), SAMPLE_RATE)
        cut = Recording.from_file(path).to_cut()
        cut.supervisions = [SupervisionSegment(f"s{index}", cut.recording.id, 0, 1, text="a", language=language)]
        made.append(cut)
    return made


def test_both_are_asked_alike_and_their_words_compared(checkpoint: Checkpoint, cuts: list[Cut]) -> None:
    wrong = StandIn("other words")
    (first,) = compare_with_faster_whisper(checkpoint, {"int8": wrong}, cuts, [0.2], 1, 5, lambda count: None)
    assert (first.utterances, first.equal, first.equal_as_called) == (2, 0, 0)
    ours = [each.ours for each in first.disagreements]
    assert {each.theirs for each in first.disagreements} == {"other words"}
    assert first.speed > 0
    lengths = [length for length, _ in wrong.asked]
    assert lengths == [SAMPLE_RATE] * 2 + [WINDOW_SECONDS * SAMPLE_RATE] + [SAMPLE_RATE, WINDOW_SECONDS * SAMPLE_RATE]
    assert [options["language"] for _, options in wrong.asked] == ["en", "en", "en", "fr", "fr"]
    assert {1, 2} <= set(wrong.asked[0][1]["suppress_tokens"])

    # warm-up, then each cut as it is and with silence: of the second cut, as it is, the words differ
    right = StandIn(ours[0], ours[0], ours[0], "other words", ours[1])
    (second,) = compare_with_faster_whisper(checkpoint, {"float32": right}, cuts, [0.2], 1, 5, lambda count: None)
    assert (second.equal, second.equal_as_called) == (2, 1)
    assert second.disagreements == ()


def test_more_tokens_than_ctranslate2_writes_are_refused(checkpoint: Checkpoint, cuts: list[Cut]) -> None:
    with pytest.raises(ConfigError, match="at most 224"):
        compare_with_faster_whisper(checkpoint, {"int8": StandIn("a")}, cuts, [0.2], 1, 225, lambda count: None)


def test_a_missing_package_and_a_wrong_folder_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(ConfigError, match="pip install faster-whisper"):
        load_faster_whisper(tmp_path, "int8")

    def refuse(*args: Any, **options: Any) -> None:
        raise RuntimeError("unsupported model binary version")

    package = ModuleType("faster_whisper")
    monkeypatch.setattr(package, "WhisperModel", refuse, raising=False)
    monkeypatch.setitem(sys.modules, "faster_whisper", package)
    with pytest.raises(ConfigError, match=r"there is no model\.bin, config\.json, tokenizer\.json"):
        load_faster_whisper(tmp_path, "int8")
    for name in ("model.bin", "config.json", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(ConfigError, match="cannot be loaded as int8: unsupported model"):
        load_faster_whisper(tmp_path, "int8")
