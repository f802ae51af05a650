"""Pieces from a made-up detector, which reads the probability of speech off the samples themselves."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgate.audio import Recording
from speechgate.corpus.prompts_source import BUNDLED
from speechgate.errors import ConfigError
from speechgate.transcribe.speech import (
    FRAME,
    FRAME_SECONDS,
    LONG_PAUSE,
    OFF,
    ON,
    OVERLAP,
    PAD,
    PAUSE,
    SHORTEST,
    Piece,
    SileroDetector,
    pieces_of,
)

WINDOW_FRAMES = 100
WINDOW_SECONDS = (WINDOW_FRAMES + 0.5) * FRAME_SECONDS
REAL = BUNDLED / "usr/share/asterisk/sounds/en_US_f_Allison/agent-loggedoff.g722"


def recording(probabilities: list[float]) -> np.ndarray:
    """Frames whose first sample is the probability and whose second is the frame's number."""
    frames = np.zeros((len(probabilities), FRAME), np.float32)
    frames[:, 0] = probabilities
    frames[:, 1] = range(len(probabilities))
    return frames.reshape(-1)


def find(probabilities: list[float], fill_frames: int = 0, overlap: bool = True) -> list[tuple[int, int, Piece]]:
    """The pieces with their first frame and the one after their last; each is checked against the recording."""
    samples = recording(probabilities)
    pieces = pieces_of(
        [samples], lambda frame: float(frame[0]), WINDOW_SECONDS, fill_frames * FRAME_SECONDS, overlap=overlap
    )
    found = []
    for piece in pieces:
        first = round(piece.start / FRAME_SECONDS)
        end = first + len(piece.samples) // FRAME
        np.testing.assert_array_equal(piece.samples, samples[first * FRAME : end * FRAME])
        found.append((first, end, piece))
    return found


runs = st.lists(st.tuples(st.sampled_from([0.0, 0.4, 0.6, 1.0]), st.integers(1, 130)), max_size=12)


@given(runs, st.sampled_from([0, 50]), st.booleans())
@settings(deadline=None)
def test_all_speech_is_in_pieces_that_fit(spans: list[tuple[float, int]], fill: int, overlap: bool) -> None:
    probabilities = [probability for probability, frames in spans for _ in range(frames)]
    found = find(probabilities, fill, overlap)
    covered = np.zeros(len(probabilities), bool)
    previous_end, previous_cut = 0, None
    for first, end, piece in found:
        assert end - first <= WINDOW_FRAMES
        assert first == previous_end - OVERLAP if previous_cut is not None else first >= previous_end
        covered[first:end] = True
        previous_end, previous_cut = end, piece.cut
        assert piece.cut is None or (overlap and piece.start < piece.cut < piece.end)
    start = 0
    for probability, frames in spans:
        if probability >= ON and frames > 2 * SHORTEST:  # a cut may part it
            assert covered[start + SHORTEST : start + frames - SHORTEST].all()
        start += frames


def test_pieces_end_at_pauses_with_a_margin() -> None:
    found = find([0.0] * 20 + [0.9] * 30 + [0.1] * PAUSE + [0.9] * 10 + [0.1] * (PAUSE - 1) + [0.9] * 10 + [0.0] * 50)
    assert [(first, end) for first, end, _ in found] == [
        (20 - PAD, 50 + PAD),
        (50 + PAUSE - PAD, 50 + PAUSE + 20 + PAUSE - 1 + PAD),
    ]


def test_a_piece_to_be_filled_goes_on_over_a_short_pause_and_not_over_a_long_one() -> None:
    short, long = [0.1] * (PAUSE + 5), [0.1] * LONG_PAUSE
    found = find([0.9] * 10 + short + [0.9] * 10 + long + [0.9] * 10, fill_frames=60)
    assert len(found) == 2
    assert found[0][1] == 20 + len(short) + PAD


def test_a_window_is_cut_at_the_likeliest_pause_of_its_second_half() -> None:
    probabilities = [0.9] * 200
    probabilities[20], probabilities[70], probabilities[80] = OFF + 0.01, OFF + 0.02, OFF + 0.05
    found = find(probabilities)
    assert found[0][:2] == (0, 70)
    assert found[0][2].cut is None


def test_speech_without_a_pause_is_cut_with_an_overlap() -> None:
    (_, end, left), (first, _, right) = find([0.9] * 150)
    assert (end, first) == (WINDOW_FRAMES, WINDOW_FRAMES - OVERLAP)
    assert left.cut == pytest.approx((first + end) / 2 * FRAME_SECONDS)
    assert right.cut is None


def test_a_click_is_not_speech() -> None:
    assert not find([0.0] * 10 + [0.9] * (SHORTEST - 1) + [0.0] * 30)


@pytest.mark.parametrize("sizes", [[1], [511, 513, 7], [5000]])
def test_the_sizes_of_blocks_do_not_matter(sizes: list[int]) -> None:
    samples = recording([0.0] * 10 + [0.9] * 30 + [0.0] * 10)[:-100]
    cuts = np.cumsum((sizes * len(samples))[: len(samples) // max(sizes)])
    blocks = np.split(samples, cuts[cuts < len(samples)])
    pieces = list(pieces_of(blocks, lambda frame: float(frame[0]), 5.0, overlap=True))
    (whole,) = pieces_of([samples], lambda frame: float(frame[0]), 5.0, overlap=True)
    assert len(pieces) == 1
    np.testing.assert_array_equal(pieces[0].samples, whole.samples)


def test_a_window_too_short_is_refused() -> None:
    for seconds in (0.0, 1.0, float("nan")):
        with pytest.raises(ConfigError, match="too short"):
            list(pieces_of([], lambda frame: 0.0, seconds, overlap=True))


def test_memory_does_not_grow_with_the_recording() -> None:
    def peak(minutes: int) -> int:
        block = recording([0.9] * 60 + [0.0] * 40)
        blocks = (block for _ in range(minutes * 60 * 16_000 // len(block)))
        tracemalloc.start()
        count = sum(1 for _ in pieces_of(blocks, lambda frame: float(frame[0]), 20.0, overlap=True))
        assert count > 15 * minutes
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(12) < 1.1 * peak(3)


def test_silero_hears_speech_between_silences() -> None:
    silence = np.zeros(16_000, np.float32)
    with Recording(REAL) as opened:
        blocks = [silence, *opened.blocks("flt"), silence, silence]
    seconds = sum(map(len, blocks)) / 16_000
    pieces = list(pieces_of(blocks, SileroDetector(), 20.0, overlap=True))
    assert pieces[0].start == pytest.approx(1.0, abs=0.4)
    assert pieces[-1].end == pytest.approx(seconds - 2.0, abs=0.4)
    assert not list(pieces_of([silence], SileroDetector(), 20.0, overlap=True))
