"""Any recording that FFmpeg opens, decoded piece by piece to 16 kHz mono: an hour needs no more memory than a second.

Channels are averaged and other rates resampled.
"""

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self

import av
import numpy as np
from av.audio.resampler import AudioResampler

from speechgate.errors import AudioError

SAMPLE_RATE_HZ = 16_000

# Without a header, so FFmpeg cannot recognise them by their content.
_RAW_FORMATS = {".g722": "g722"}


class Recording:
    """An open recording, to be used in a ``with`` block.

    Attributes:
        rate_hz, channels: of the source.
        seconds: its length as its header has it, which may be wrong; None where it has none.
    """

    def __init__(self, source: Path | BinaryIO) -> None:
        """``source``: a file, or a stream that is open for reading, such as standard input.

        Raises:
            AudioError: the file is missing, empty, holds no audio, or is damaged.
        """
        self.name = str(source) if isinstance(source, Path) else "standard input"
        form = _RAW_FORMATS.get(source.suffix.lower()) if isinstance(source, Path) else None
        try:
            if isinstance(source, Path) and source.stat().st_size == 0:
                raise AudioError(f"{self.name} is empty: 0 bytes")
            self._container = av.open(str(source) if isinstance(source, Path) else source, mode="r", format=form)
        except (av.FFmpegError, OSError) as error:
            raise self._damaged(error) from error
        if not self._container.streams.audio:
            self._container.close()
            raise AudioError(f"{self.name} holds no audio")
        self._stream = self._container.streams.audio[0]
        self.rate_hz = self._stream.rate
        self.channels = self._stream.channels
        duration = self._container.duration
        self.seconds = duration / av.time_base if duration else None

    def blocks(self, sample_format: Literal["s16", "flt"]) -> Iterator[np.ndarray]:
        """Yield the samples at 16 kHz, (T,) int16 or float32, a few hundred or thousand at a time.

        Raises:
            AudioError: the recording is damaged or has no samples.
        """
        resampler = AudioResampler(format=sample_format, layout="mono", rate=SAMPLE_RATE_HZ)
        samples = 0
        for frame in self._frames():
            for part in resampler.resample(frame):
                samples += part.samples
                yield part.to_ndarray()[0]
        if not samples:
            raise AudioError(f"{self.name} has a length of zero")

    def _frames(self) -> Iterator[av.AudioFrame | None]:
        """The frames, then None, which makes the resampler give what it still holds."""
        frames = self._container.decode(self._stream)
        while True:
            try:
                frame = next(frames, None)
            except (av.FFmpegError, OSError) as error:
                raise self._damaged(error) from error
            yield frame
            if frame is None:
                return

    def _damaged(self, error: Exception) -> AudioError:
        return AudioError(f"{self.name} cannot be decoded: {getattr(error, 'strerror', None) or error}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._container.close()
