"""What is wrong with a cut: the checks that every preparation puts its cuts through.

A problem is *fatal* where nothing can be done with the cut, *bad* where it must not train, else only *noted*.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lhotse.cut import Cut

from speechgate.config import CONF_DIR, from_mapping, load_yaml
from speechgate.errors import ConfigError
from speechgate.text.normalize import normalize_for_training
from speechgate.text.scripts import script_share

LONG_SECONDS = 30.0  # OWSM's window; longer cuts do not train by default, but stay in the manifest

# Traces of broken encodings and of mark-up that nobody says.
_SUSPICIOUS = {
    "replacement character": re.compile("\ufffd"),
    "UTF-8 read as Latin-1": re.compile("Ã[\u0080-\u00bf]|â€"),
    "control character": re.compile("[\x00-\x08\x0b-\x1f\x7f]"),
    "mark-up": re.compile(r"&(?:#\d+|[a-z]+);|</?[a-z]+[^>]*>"),
    "a character over and over": re.compile(r"(\w)\1{5,}"),
}


@dataclass(frozen=True)
class Quality:
    """Thresholds; conf/quality.yaml says what each is for."""

    min_seconds: float = 0.1
    max_characters_per_second: float = 30.0
    min_script_share: float = 0.5
    max_bad_percent: float = 5.0

    def __post_init__(self) -> None:
        if self.min_seconds < 0 or self.max_characters_per_second <= 0:
            raise ConfigError("quality: min_seconds must not be negative, max_characters_per_second positive")
        if not 0 <= self.min_script_share <= 1 or not 0 <= self.max_bad_percent <= 100:
            raise ConfigError("quality: min_script_share is a share from 0 to 1, max_bad_percent from 0 to 100")


def load_quality(corpus_conf: Path | None = None) -> Quality:
    """The thresholds of conf/quality.yaml, single values replaced by those of ``corpus_conf`` where it exists."""
    values = load_yaml(CONF_DIR / "quality.yaml")
    if corpus_conf is not None and corpus_conf.is_file():
        values |= load_yaml(corpus_conf)
    return from_mapping(Quality, values, "quality")


@dataclass(frozen=True)
class Problem:
    kind: str
    detail: str
    severity: Literal["fatal", "bad", "noted"]


def problems(cut: Cut, quality: Quality) -> Iterator[Problem]:
    """Yield what is wrong with a cut that has one supervision in a known language."""
    supervision = cut.supervisions[0]
    text, lang3 = supervision.text or "", supervision.language or ""
    if cut.duration <= 0:
        yield Problem("no audio", f"{cut.duration:g} s", "fatal")
        return
    if not text.strip():
        yield Problem("empty text", "", "fatal")
        return
    normalized = normalize_for_training(text, lang3)
    if not normalized:
        yield Problem("nothing but punctuation", text, "fatal")
        return
    if cut.duration < quality.min_seconds:
        yield Problem("too short", f"{cut.duration:.2f} s", "bad")
    if cut.duration > LONG_SECONDS:
        yield Problem(f"longer than {LONG_SECONDS:g} s", f"{cut.duration:.1f} s", "noted")
    # Of the normalised text: stops and spaces between words count little.
    rate = len(normalized) / cut.duration
    if rate > quality.max_characters_per_second:
        yield Problem("text too long for its audio", f"{rate:.1f} characters/s", "bad")
    yield from _text_problems(text, lang3, "", quality)
    for tgt, translation in (supervision.custom or {}).get("translated_text", {}).items():
        yield from _text_problems(translation, tgt, f"{tgt}: ", quality)


def _text_problems(text: str, lang3: str, prefix: str, quality: Quality) -> Iterator[Problem]:
    share = script_share(text, lang3)
    if share < quality.min_script_share:
        yield Problem("another script", f"{prefix}{share:.0%} of the letters fit {lang3}: {text}", "bad")
    for kind, pattern in _SUSPICIOUS.items():
        if found := pattern.search(text):
            yield Problem("suspicious text", f"{prefix}{kind} {found[0]!r}: {text}", "noted")
