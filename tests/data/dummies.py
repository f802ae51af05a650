"""Cuts with tiny recordings of their own."""

from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from lhotse import AudioSource, MonoCut, Recording, SupervisionSegment

TEXTS = {"eng": "Please try again!", "rus": "Введите номер."}


def write_audio(path: Path, seconds: float, rate_hz: int = 16_000, channels: int = 1, samples: Any = None) -> Path:
    """Write noise, or ``samples``; .wav is written in floating point."""
    if samples is None:
        samples = np.random.default_rng(0).normal(0.0, 0.1, (round(seconds * rate_hz), channels)).clip(-1, 1)
    soundfile.write(path, samples, rate_hz, subtype="FLOAT" if path.suffix == ".wav" else None)
    return path


def dummy_cut(
    cut_id: str,
    seconds: float,
    language: str = "eng",
    translations: dict[str, str] | None = None,
    path: Path | str = "absent.flac",
    rate_hz: int = 16_000,
    channels: int = 1,
) -> MonoCut:
    """A cut of a whole recording, which need not exist unless it is loaded."""
    samples = round(seconds * rate_hz)
    source = AudioSource(type="file", channels=list(range(channels)), source=str(path))
    recording = Recording(cut_id, [source], rate_hz, samples, seconds)
    supervision = SupervisionSegment(
        cut_id,
        cut_id,
        0.0,
        seconds,
        text=TEXTS[language],
        language=language,
        custom={"translated_text": translations or {}, "prompt_id": cut_id},
    )
    return MonoCut(cut_id, 0.0, seconds, 0, supervisions=[supervision], recording=recording)


def example(cut: MonoCut, task: str) -> MonoCut:
    """The cut as an example of one task."""
    made = cut.with_id(f"{cut.id}:{task}")
    made.custom = {"task": task, "cut_id": cut.id}
    return made
