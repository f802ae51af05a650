"""The seams between pieces that overlap: words that both have heard are kept once."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from difflib import SequenceMatcher

from speechgate.transcribe.segment import Event, Heard, Segment, Word

NEAR_SECONDS = 0.5  # the two times of a word that both pieces have heard differ by less


def stitched(events: Iterable[Event]) -> Iterator[Event]:
    """Mend the seams in a stream of events, and leave out segments without text."""
    held: Heard | None = None
    for event in events:
        if held is not None:
            left = replace(held, cut=None)
            if isinstance(event, Heard) and held.cut is not None and event.segment.start < held.segment.end:
                left_segment, right_segment = stitch(held.segment, event.segment, held.cut)
                left, event = replace(left, segment=left_segment), replace(event, segment=right_segment)
            if left.segment.text:
                yield left
            held = None
        if isinstance(event, Heard):
            held = event
        else:
            yield event
    if held is not None and held.segment.text:
        yield replace(held, cut=None)


def stitch(left: Segment, right: Segment, cut: float) -> tuple[Segment, Segment]:
    """Take out of two overlapping segments what both have heard; ``cut`` is the middle of the overlap.

    Where the two agree on a word of the overlap, the text changes over behind the one nearest to ``cut``; else words
    belong to the segment on whose side of ``cut`` their middle lies.
    """
    begin = next((i for i, word in enumerate(left.words) if word.end > right.start), len(left.words))
    stop = sum(word.start < left.end for word in right.words)
    matcher = SequenceMatcher(
        None, [word.text for word in left.words[begin:]], [word.text for word in right.words[:stop]], autojunk=False
    )
    agreed = [(begin + block.a + i, block.b + i) for block in matcher.get_matching_blocks() for i in range(block.size)]
    near = [(a, b) for a, b in agreed if abs(left.words[a].middle - right.words[b].middle) < NEAR_SECONDS]
    if near:
        a, b = min(near, key=lambda pair: abs(left.words[pair[0]].middle - cut))
        kept_left, kept_right = left.words[: a + 1], right.words[b + 1 :]
    else:
        kept_left = tuple(word for word in left.words if word.middle < cut)
        kept_right = tuple(word for word in right.words if word.middle >= cut)
    return replace(left, end=cut, words=kept_left, text=_text(kept_left)), replace(
        right, start=cut, words=kept_right, text=_text(kept_right)
    )


def _text(words: tuple[Word, ...]) -> str:
    return " ".join(word.text for word in words)
