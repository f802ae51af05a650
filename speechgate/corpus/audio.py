"""Any recording that FFmpeg opens becomes 16 kHz mono 16-bit FLAC.

Stereo is averaged to mono and other rates are resampled; both are told to the caller, who counts them.
"""

import io
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from speechgate.audio import SAMPLE_RATE_HZ, Recording
from speechgate.errors import AudioError
from speechgate.files import atomic_path


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
        notes = []
        if recording.channels != 1:
            notes.append(f"{recording.channels} channels averaged")
        if recording.rate_hz != SAMPLE_RATE_HZ:
            notes.append(f"resampled from {recording.rate_hz} Hz")
        return np.concatenate(list(recording.blocks("s16"))), tuple(notes)


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


def convert_all(jobs: Sequence[tuple[Path, Path]], workers: int) -> Iterator[tuple[Path, Converted | str]]:
    """Convert (source, target) pairs; yield each target as it is done, with the reason if its source is unusable.

    Raises:
        OSError: a target cannot be written; the conversions that have not begun are given up.
    """
    # Forking a process that holds threads (torch, FFmpeg) may hang the child.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        # A recording takes a few milliseconds, so a process is handed many at once.
        size = max(1, min(32, len(jobs) // workers))
        futures = [pool.submit(_convert_some, jobs[start : start + size]) for start in range(0, len(jobs), size)]
        try:
            for future in as_completed(futures):
                yield from future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _convert_some(jobs: Sequence[tuple[Path, Path]]) -> list[tuple[Path, Converted | str]]:
    results: list[tuple[Path, Converted | str]] = []
    for source, target in jobs:
        try:
            results.append((target, convert(source, target)))
        except AudioError as error:
            results.append((target, str(error)))
    return results
