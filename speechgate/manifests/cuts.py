"""Reading, writing and checking manifests: lhotse CutSets as .jsonl.gz, one supervision a cut.

``text`` is the source transcript, ``language`` the spoken language (ISO 639-3), and
``custom["translated_text"][tgt]`` a translation.
"""

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from pathlib import Path

from lhotse import CutSet, MonoCut
from lhotse.cut import Cut
from lhotse.lazy import LazyManifestIterator

from speechgate.audio import SAMPLE_RATE_HZ
from speechgate.errors import ConfigError, ManifestError
from speechgate.files import atomic_path
from speechgate.task import Task, to_iso3

# Durations are rounded when they are written, so a cut may seem to end this much after its recording.
_TOLERANCE_SECONDS = 1e-3
PACKED = "shar"  # the type of an audio source that is not in a file of its own


def read_cuts(path: Path | str) -> CutSet:
    """Open a manifest lazily; a damaged line raises a ManifestError when it is reached.

    Raises:
        ManifestError: no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise ManifestError(f"no manifest {path}: run `prepare` first")
    return CutSet(_ManifestIterator(path))


def is_packed(path: Path | str) -> bool:
    """Whether the recordings of a manifest lie in shards (see ``speechgate.data.pack``)."""
    return any(cut.recording.sources[0].type == PACKED for cut in islice(read_cuts(path), 1))


class _ManifestIterator(LazyManifestIterator):
    """lhotse's lazy iterator with errors that name the file."""

    def __iter__(self) -> Iterator[Cut]:
        with _damage_named(self.path):
            yield from super().__iter__()

    def __len__(self) -> int:
        with _damage_named(self.path):
            return super().__len__()


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise ManifestError(f"manifest {path} is damaged: {error}; prepare again") from error


@contextmanager
def open_manifest(path: Path | str) -> Iterator[Callable[[Cut], None]]:
    """Give a function that appends a cut to a .jsonl.gz manifest, which is there when the block ends without an error.

    Equal cuts make equal bytes.
    """
    with (
        atomic_path(path) as temporary,
        temporary.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed,
    ):

        def write(cut: Cut) -> None:
            packed.write((json.dumps(cut.to_dict(), ensure_ascii=False) + "\n").encode())

        yield write


def write_cuts(cuts: Iterable[Cut], path: Path | str) -> None:
    """Write a .jsonl.gz manifest one cut after the other, whole or not at all; equal cuts make equal bytes."""
    with open_manifest(path) as write:
        for cut in cuts:
            write(cut)


def translations(cut: Cut) -> dict[str, str]:
    """The translations of a cut's only supervision by language."""
    return (cut.supervisions[0].custom or {}).get("translated_text", {})


def validate(cuts: Iterable[Cut], tasks: Iterable[Task] = ()) -> None:
    """Check every cut; with ``tasks``, also that each cut has the translation that a task from its language needs.

    Raises:
        ManifestError: names the first cut that cannot be used, and why.
    """
    tasks = [task for task in tasks if task.kind == "st"]
    seen: set[str] = set()
    for cut in cuts:
        if cut.id in seen:
            raise ManifestError(f"cut {cut.id}: the id occurs twice in the manifest")
        seen.add(cut.id)
        check_cut(cut)
        for task in tasks:
            if task.src == cut.supervisions[0].language and not translations(cut).get(task.tgt, "").strip():
                raise ManifestError(
                    f"cut {cut.id}: custom['translated_text']['{task.tgt}'] is missing or empty; task {task} needs it"
                )


def check_cut(cut: Cut) -> None:
    """Raise a ManifestError that says what is wrong with ``cut``, if anything is."""
    for problem in (_audio_problem(cut), _text_problem(cut)):
        if problem:
            raise ManifestError(f"cut {cut.id}: {problem}")


def _audio_problem(cut: Cut) -> str | None:
    if not isinstance(cut, MonoCut) or cut.recording is None:
        return "not a cut of one channel of a recording"
    recording = cut.recording
    if recording.sampling_rate != SAMPLE_RATE_HZ or recording.num_channels != 1:
        return (
            f"recording {recording.id} has {recording.num_channels} channels at {recording.sampling_rate} Hz; "
            f"convert it to one at {SAMPLE_RATE_HZ} Hz"
        )
    if cut.duration <= 0:
        return f"its duration is {cut.duration} s"
    if cut.start < 0 or cut.end > recording.duration + _TOLERANCE_SECONDS:
        return f"{cut.start:g} to {cut.end:g} s is outside its recording {recording.id} of {recording.duration:g} s"
    return None


_to_iso3 = lru_cache(to_iso3)  # once a language, not once a cut


def _text_problem(cut: Cut) -> str | None:
    if len(cut.supervisions) != 1:
        return f"it has {len(cut.supervisions)} supervisions; each cut needs one"
    supervision = cut.supervisions[0]
    if not (supervision.text or "").strip():
        return "its supervision has no text"
    try:
        code = _to_iso3(supervision.language or "")
    except ConfigError as error:
        return str(error)
    if code != supervision.language:
        return f"language {supervision.language!r} is not ISO 639-3: write {code!r}"
    return None
