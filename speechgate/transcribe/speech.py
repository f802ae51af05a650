"""Where a recording holds speech: pieces that fit the model's window, cut at pauses, from a stream of samples.

A voice activity detector (Silero VAD, https://github.com/snakers4/silero-vad) gives the probability of speech of every
32 ms; here they become pieces.  Memory holds one window of samples, whatever the length of the recording.

Speech that goes on beyond the window is cut where it is most likely a pause.  Where even there someone speaks, the two
pieces overlap, so that the words at the cut are heard whole at least once (see ``stitch``).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from speechgate.audio import SAMPLE_RATE_HZ
from speechgate.errors import ConfigError

FRAME = 512  # samples of a probability: what Silero takes at 16 kHz
FRAME_SECONDS = FRAME / SAMPLE_RATE_HZ
ON = 0.5  # speech begins at this probability
OFF = 0.35  # and ends below this one
PAUSE = 6  # frames below OFF that end a piece: 0.19 s
LONG_PAUSE = 62  # frames below OFF that end even a piece that could be filled up: 2 s
PAD = 2  # frames kept around speech; more of a silent background shifts what the model normalises by
SHORTEST = 3  # frames from ON up that make speech of a noise
OVERLAP = 32  # frames that two pieces share where speech is cut without a pause: 1.02 s
SHORTEST_WINDOW = 3.0  # seconds; OVERLAP and the search for a pause need this

Detector = Callable[[np.ndarray], float]


@dataclass(frozen=True)
class Piece:
    """Some seconds of a recording that hold speech.

    Attributes:
        samples: (N,) float32 at 16 kHz.
        start: of the first sample, seconds from the beginning of the recording.
        cut: the time before which this piece's words count, where the next piece overlaps it; None otherwise.
    """

    samples: np.ndarray
    start: float
    cut: float | None = None

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE_HZ

    @property
    def end(self) -> float:
        return self.start + self.seconds


class SileroDetector:
    """The probability that 512 samples hold speech; it remembers those before, so there is one for each recording."""

    def __init__(self) -> None:
        threads = torch.get_num_threads()
        from silero_vad import load_silero_vad  # its import sets torch to one thread

        torch.set_num_threads(threads)
        self._model: Any = load_silero_vad()

    @torch.inference_mode()
    def __call__(self, samples: np.ndarray) -> float:
        frame: Tensor = torch.from_numpy(samples)
        return self._model(frame, SAMPLE_RATE_HZ).item()


def pieces_of(
    blocks: Iterable[np.ndarray],
    detector: Detector,
    window_seconds: float,
    fill_seconds: float = 0.0,
    *,
    overlap: bool,
) -> Iterator[Piece]:
    """Yield the pieces of a recording that hold speech, in order.

    Args:
        blocks: its samples, (T,) float32 each, of any lengths.
        detector: the probability of speech of every ``FRAME`` samples, called in order.
        window_seconds: the longest piece.
        fill_seconds: shorter pauses than LONG_PAUSE end no piece below this length.
        overlap: whether pieces overlap where speech is cut without a pause.

    Raises:
        ConfigError: ``window_seconds`` is below ``SHORTEST_WINDOW``.
    """
    if not window_seconds >= SHORTEST_WINDOW:
        raise ConfigError(f"a window of {window_seconds} s is too short: give at least {SHORTEST_WINDOW}")
    held = _Held(int(window_seconds / FRAME_SECONDS), int(fill_seconds / FRAME_SECONDS), overlap)
    for frame in _frames(blocks):
        padded = np.pad(frame, (0, FRAME - len(frame)))
        yield from held.add(frame, detector(padded))
    yield from held.finish()


def _frames(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The same samples, FRAME at a time; the last frame may be shorter."""
    rest = np.zeros(0, np.float32)
    for block in blocks:
        rest = np.concatenate([rest, block])
        whole = len(rest) - len(rest) % FRAME
        yield from rest[:whole].reshape(-1, FRAME)
        rest = rest[whole:]
    if len(rest):
        yield rest


class _Held:
    """The frames not yet given away: a little of the last pause, or the speech that is going on."""

    def __init__(self, most: int, fill: int, overlap: bool) -> None:
        self._most = most
        self._fill = fill
        self._overlap = overlap
        self._frames: list[np.ndarray] = []
        self._probabilities: list[float] = []
        self._first = 0  # position in the recording of the first frame held
        self._speaking = False
        self._quiet = 0  # frames since speech was last heard

    def add(self, frame: np.ndarray, probability: float) -> Iterator[Piece]:
        self._frames.append(frame)
        self._probabilities.append(probability)
        if not self._speaking:
            self._speaking, self._quiet = probability >= ON, 0
            self._drop(len(self._frames) - PAD - self._speaking)
            return
        self._quiet = self._quiet + 1 if probability < OFF else 0
        count = len(self._frames) - self._quiet + PAD
        if self._quiet >= LONG_PAUSE or (self._quiet >= PAUSE and count >= self._fill):
            yield from self._give(count)
            self._speaking = False
        elif len(self._frames) == self._most:
            yield from self._cut()

    def finish(self) -> Iterator[Piece]:
        if self._speaking:
            yield from self._give(len(self._frames) - max(0, self._quiet - PAD))

    def _give(self, count: int) -> Iterator[Piece]:
        """Give the first ``count`` frames away, as a piece if enough of them are speech."""
        if sum(probability >= ON for probability in self._probabilities[:count]) >= SHORTEST:
            yield Piece(np.concatenate(self._frames[:count]), self._first * FRAME_SECONDS)
        self._drop(count)

    def _cut(self) -> Iterator[Piece]:
        """Cut a full window at the likeliest pause of its second half, with an overlap where that is none."""
        half, last = self._most // 2, self._most - OVERLAP // 2
        at = half + int(np.argmin(self._probabilities[half:last]))
        if self._probabilities[at] < ON or not self._overlap:
            yield from self._give(at)
            return
        cut = (self._first + last) * FRAME_SECONDS
        yield Piece(np.concatenate(self._frames), self._first * FRAME_SECONDS, cut)
        self._drop(self._most - OVERLAP)

    def _drop(self, count: int) -> None:
        if count > 0:
            del self._frames[:count], self._probabilities[:count]
            self._first += count
