"""Subtitles: segments broken into cues that can be read, at most two lines of 42 characters and 7 seconds.

The limits are those of common subtitling guides (such as the BBC's and Netflix's).
"""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from speechgate.transcribe.segment import Segment, Word

LINE_CHARACTERS = 42
LINES = 2
CUE_SECONDS = 7.0


@dataclass(frozen=True)
class Cue:
    """Text, in lines, with its times in seconds."""

    start: float
    end: float
    text: str


def cues_of(segment: Segment) -> Iterator[Cue]:
    """Break a segment into cues.  Words without times of their own are spread evenly over the segment."""
    taken: list[Word] = []
    for word in segment.words or _spread(segment):
        lines = textwrap.wrap(" ".join(each.text for each in [*taken, word]), LINE_CHARACTERS)
        if taken and (len(lines) > LINES or word.end - taken[0].start > CUE_SECONDS):
            yield _cue(taken)
            taken = []
        taken.append(word)
    if taken:
        yield _cue(taken)


def _cue(words: list[Word]) -> Cue:
    text = textwrap.wrap(" ".join(word.text for word in words), LINE_CHARACTERS)
    return Cue(words[0].start, words[-1].end, "\n".join(text))


def _spread(segment: Segment) -> Iterator[Word]:
    """The words, each with a share of the segment's time by its number of letters."""
    words = segment.text.split()
    total = sum(map(len, words))
    at = segment.start
    for word in words:
        end = at + (segment.end - segment.start) * len(word) / total
        yield Word(word, at, end)
        at = end
