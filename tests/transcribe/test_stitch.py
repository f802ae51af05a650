from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechgate.task import Task
from speechgate.transcribe.segment import Event, Finished, Heard, Segment, Word
from speechgate.transcribe.stitch import stitch, stitched

FILE = Path("a.wav")


def segment(start: float, end: float, *words: tuple[str, float]) -> Segment:
    """Words of 0.2 s that begin at the times given."""
    timed = tuple(Word(text, at, at + 0.2) for text, at in words)
    return Segment(start, end, " ".join(word.text for word in timed), -0.1, timed)


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30), st.integers(2, 10), st.integers(1, 4))
def test_words_heard_twice_are_written_once(texts: list[str], cut: int, half: int) -> None:
    """Two pieces that both hear all words of their overlap right give the words of the whole, repeated ones too."""
    words = [(text, 0.5 * i) for i, text in enumerate(texts)]
    left = segment(0.0, cut + half, *(word for word in words if word[1] < cut + half))
    right = segment(cut - half, 99.0, *(word for word in words if word[1] > cut - half - 0.2))
    one, two = stitch(left, right, float(cut))
    assert [*one.words, *two.words] == [Word(text, at, at + 0.2) for text, at in words]
    assert f"{one.text} {two.text}".split() == texts
    assert one.end == two.start == cut


def test_halves_of_words_at_the_ends_of_an_overlap_are_dropped() -> None:
    left = segment(0.0, 5.0, ("press", 3.2), ("the", 3.7), ("star", 4.1), ("ke", 4.8))
    right = segment(4.0, 9.0, ("tar", 4.15), ("key", 4.6), ("now", 5.2))
    one, two = stitch(left, right, 4.5)
    assert (one.text, two.text) == ("press the star", "key now")


def test_the_same_word_at_another_time_is_another_word() -> None:
    left = segment(0.0, 6.0, ("no", 4.1), ("x", 4.5), ("yes", 5.6))
    right = segment(4.0, 9.0, ("y", 4.5), ("no", 5.5), ("so", 6.0))
    one, two = stitch(left, right, 5.0)
    assert (one.text, two.text) == ("no x", "no so")


def test_only_overlapping_neighbours_are_mended_and_the_rest_passes() -> None:
    left = segment(0.0, 5.0, ("one", 1.0), ("two", 4.4))
    events: list[Event] = [
        Heard(FILE, left, cut=4.5),
        Heard(FILE, segment(4.0, 8.0, ("two", 4.4), ("three", 6.0))),
        Heard(FILE, segment(9.0, 10.0)),
        Heard(FILE, left, cut=4.5),
        Finished(FILE, 10.0, Task.asr("en")),
        Heard(FILE, left, cut=4.5),
    ]
    texts = [event.segment.text if isinstance(event, Heard) else "end" for event in stitched(events)]
    assert texts == ["one two", "three", "one two", "end", "one two"]
    assert all(event.cut is None for event in stitched(events) if isinstance(event, Heard))


@pytest.mark.parametrize("count", [0, 1])
def test_few_events_pass(count: int) -> None:
    events: list[Event] = [Finished(FILE, 1.0, None)] * count
    assert list(stitched(events)) == events
