"""Recordings that lie in tar files, as lhotse's Shar format keeps them, each read by its place there.

So examples come in the order that the sampler asks for, as from files, and a run that goes on passes over those it has
used without reading them.  The shards themselves are lhotse's: ``CutSet.from_shar`` reads them too.
"""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Self

from lhotse import AudioSource
from lhotse.cut import MonoCut
from lhotse.utils import fastcopy

from speechgate.errors import AudioError, ManifestError
from speechgate.manifests.cuts import PACKED

OPEN = 64  # tar files at once in each process


@dataclass(frozen=True)
class Place:
    """``size`` bytes of a tar file from byte ``offset`` on; in a manifest "PATH@OFFSET+SIZE"."""

    tar: Path
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.tar}@{self.offset}+{self.size}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ManifestError if ``text`` is no place."""
        tar, _, span = text.rpartition("@")
        offset, _, size = span.partition("+")
        if not (tar and offset.isdecimal() and size.isdecimal()):
            raise ManifestError(f"{text!r} is no place in a tar file: prepare the corpus again")
        return cls(Path(tar), int(offset), int(size))

    def read(self) -> bytes:
        """Raises AudioError if the file is not there, or shorter than that."""
        try:
            content = os.pread(_opened(self.tar).fileno(), self.size, self.offset)
        except OSError as error:
            raise AudioError(f"{self.tar}: {error.strerror}: prepare and pack the corpus again") from error
        if len(content) != self.size:
            raise AudioError(f"{self.tar} ends before byte {self.offset + self.size}: pack the corpus again")
        return content


def place_of(cut: MonoCut) -> Place | None:
    """Where the recording lies; None if it is a file of its own."""
    source = cut.recording.sources[0]
    return Place.parse(source.source) if source.type == PACKED else None


def at_place(cut: MonoCut, place: Place) -> MonoCut:
    """The cut with its recording said to be there."""
    return _from(cut, AudioSource(PACKED, channels=[0], source=str(place)))


def in_memory(cut: MonoCut) -> MonoCut:
    """The cut with the bytes of its recording, for lhotse to decode, if it lies in a tar file."""
    place = place_of(cut)
    return cut if place is None else _from(cut, AudioSource("memory", channels=[0], source=place.read()))


def _from(cut: MonoCut, source: AudioSource) -> MonoCut:
    return fastcopy(cut, recording=fastcopy(cut.recording, sources=[source]))


@lru_cache(OPEN)
def _opened(tar: Path) -> BinaryIO:
    return tar.open("rb", buffering=0)
