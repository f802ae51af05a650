"""What every corpus is read into before its recordings are converted."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lhotse.utils import Seconds


@dataclass(frozen=True)
class Utterance:
    """One line of a corpus, as its publisher wrote it.

    ``id`` is unique in its split; languages are ISO 639-3.  ``duration`` is None for all of ``audio`` from ``start``
    on.  ``speech`` names what the recording is part of (a talk that two files hold), by default the file itself.
    ``problem`` is a reason, found in the corpus's own lists, for which the utterance must not be used.
    """

    id: str
    split: str
    audio: Path
    text: str
    language: str
    translations: Mapping[str, str] = field(default_factory=dict)
    speaker: str | None = None
    start: Seconds = 0.0
    duration: Seconds | None = None
    speech: str | None = None
    problem: str | None = None
