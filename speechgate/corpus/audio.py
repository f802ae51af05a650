"""Any recording that FFmpeg opens becomes 16 kHz mono 16-bit FLAC.

Stereo is averaged to mono and other rates are resampled; both are told to the caller, who counts them.
"""

import io
import itertools
import multiprocessing
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from speechgate.audio import SAMPLE_RATE_HZ, Recording
from speechgate.errors import AudioError
from speechgate.files import atomic_path

_BATCH = 16  # recordings that a process is handed at once


@dataclass(frozen=True)
class Converted:
    """A recording after conversion; ``notes`` say what had to be done to it beyond decoding."""

    num_samples: int
    notes: tuple[str, ...] = ()


def decode_audio(path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the samples (T,) int16 at 16 kHz, and what was done to get them.

    Raises:
        AudioError: the file is missing, empty, holds no audio, or is damaged.
    """
    with Recording(path) as recording:
        return np.concatenate(list(recording.blocks("s16"))), _notes(recording)


def _notes(recording: Recording) -> tuple[str, ...]:
    """What has to be done to a recording beyond decoding."""
    averaged = [f"{recording.channels} channels averaged"] if recording.channels != 1 else []
    resampled = [f"resampled from {recording.rate_hz} Hz"] if recording.rate_hz != SAMPLE_RATE_HZ else []
    return tuple(averaged + resampled)


def convert(source: Path, target: Path) -> Converted:
    """Decode ``source`` and write ``target``, a FLAC file, whole or not at all.

    Raises:
        AudioError: as `decode_audio`.
        OSError: ``target`` cannot be written (it is named), for instance on a full disk.
    """
    samples, notes = decode_audio(source)
    # libsndfile hides the reason of a failed write, so it writes to memory.
    encoded = io.BytesIO()
    soundfile.write(encoded, samples, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
    try:
        with atomic_path(target) as temporary:
            temporary.write_bytes(encoded.getvalue())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(target)) from error
    return Converted(len(samples), notes)


def reusable(source: Path, target: Path) -> Converted | None:
    """What an earlier, broken-off preparation made of ``source``, judged by the headers and times of both files."""
    try:
        if not target.is_file() or target.stat().st_mtime < source.stat().st_mtime:
            return None
        with Recording(source) as recording:
            return Converted(soundfile.info(str(target)).frames, _notes(recording))
    except (AudioError, soundfile.LibsndfileError, OSError):
        return None


def convert_all(
    jobs: Iterable[tuple[Path, Path]], workers: int, reuse: bool = False
) -> Iterator[tuple[Path, Converted | str]]:
    """Convert (source, target) pairs; yield each target in their order, with the reason if its source is unusable.

    ``jobs`` is read only a little ahead of what is yielded, so that any number of them needs the same memory.
    With ``reuse``, a target that is there and newer than its source is kept.

    Raises:
        OSError: a target cannot be written; the conversions that have not begun are given up.
    """
    # A recording takes a few milliseconds.
    batches = itertools.batched(jobs, _BATCH)
    if workers == 1:
        for batch in batches:
            yield from _convert_some(batch, reuse)
        return
    # Forking a process that holds threads (torch, FFmpeg) may hang the child.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        running: deque[Future] = deque()
        try:
            for batch in batches:
                running.append(pool.submit(_convert_some, batch, reuse))
                if len(running) > 3 * workers:
                    yield from running.popleft().result()
            while running:
                yield from running.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _convert_some(jobs: Sequence[tuple[Path, Path]], reuse: bool) -> list[tuple[Path, Converted | str]]:
    results: list[tuple[Path, Converted | str]] = []
    for source, target in jobs:
        try:
            results.append((target, (reusable(source, target) if reuse else None) or convert(source, target)))
        except AudioError as error:
            results.append((target, str(error)))
    return results
