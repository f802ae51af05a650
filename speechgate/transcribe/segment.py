"""What transcription gives: segments of text with times and words, and what became of each recording."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from speechgate.errors import AudioError
from speechgate.task import Task

Source = Path | BinaryIO  # a file, or a stream open for reading


@dataclass(frozen=True)
class Word:
    """A word as it is written, with the time (seconds from the beginning of the recording) at which it is spoken."""

    text: str
    start: float
    end: float

    @property
    def middle(self) -> float:
        return (self.start + self.end) / 2


@dataclass(frozen=True)
class Segment:
    """The text of one piece of speech.

    Attributes:
        start, end: of the piece, seconds from the beginning of the recording.
        score: the model's log-probability a token (natural logarithm).
        words: with their times; empty for translations, which have no times of their own.
    """

    start: float
    end: float
    text: str
    score: float
    words: tuple[Word, ...] = ()


@dataclass(frozen=True)
class Heard:
    """A segment of a recording; ``cut``, until the seams are mended, is that of its ``Piece``."""

    source: Source
    segment: Segment
    cut: float | None = None


@dataclass(frozen=True)
class Finished:
    """A recording is done.

    Attributes:
        seconds: its length.
        task: None where it holds no speech and its language was not given.
        language_probability: how sure the model is of the language; None where it was given.
    """

    source: Source
    seconds: float
    task: Task | None
    language_probability: float | None = None


@dataclass(frozen=True)
class Failed:
    """A recording that cannot be transcribed, or no further; others go on."""

    source: Source
    error: AudioError


Event = Heard | Finished | Failed


@dataclass(frozen=True)
class Transcript:
    """All of one recording; fields as in ``Finished``."""

    segments: tuple[Segment, ...]
    seconds: float
    task: Task | None
    language_probability: float | None

    @property
    def text(self) -> str:
        return " ".join(segment.text for segment in self.segments)


def name_of(source: Source) -> str:
    return str(source) if isinstance(source, Path) else "standard input"
