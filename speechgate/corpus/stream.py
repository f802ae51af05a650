"""Utterances with recordings of any format become cuts of 16 kHz FLAC files, as a stream."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from lhotse import AudioSource, MonoCut, Recording, SupervisionSegment
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from speechgate.audio import SAMPLE_RATE_HZ
from speechgate.corpus.audio import Converted, convert_all
from speechgate.corpus.utterance import Utterance
from speechgate.manifests.gate import Gate

# Publishers round the ends of segments up; more than this is another recording's segment.
_OVERHANG_SECONDS = 0.5
# Names with more suffixes than there are formats have dots for other reasons: utterance.000001, utterance.000002.
_MAX_SUFFIXES = 16


def recordings(utterances: Iterable[Utterance], root: Path, home: Path) -> Iterator[tuple[Path, Path]]:
    """The recordings of the utterances in which the reader found no problem: (source, its FLAC file to be)."""
    targets = _Targets(root, home)
    for audio, _ in groupby(each.audio for each in utterances if not each.problem):
        yield audio, targets.of(audio)


def stream_cuts(
    utterances: Iterable[Utterance], root: Path, home: Path, gate: Gate, workers: int
) -> Iterator[tuple[str, MonoCut]]:
    """Convert the recordings of ``utterances`` and yield (split, cut); what has no cut is rejected at the gate."""
    waiting: deque[list[Utterance]] = deque()
    targets = _Targets(root, home)

    def jobs() -> Iterator[tuple[Path, Path]]:
        for audio, group in groupby(_usable(utterances, gate), key=attrgetter("audio")):
            waiting.append(list(group))
            yield audio, targets.of(audio)

    with counting("preparing", "utterances") as count:
        for target, result in convert_all(jobs(), workers, reuse=True):
            group = waiting.popleft()
            count(len(group))
            if isinstance(result, str):
                for utterance in group:
                    gate.reject("unreadable recording", utterance.id, utterance.language, utterance.split, result)
                continue
            for note in result.notes:
                gate.note("recording converted", group[0].id, group[0].language, group[0].split, note)
            for utterance in group:
                cut = _cut(utterance, target, result, gate)
                if cut is not None:
                    yield utterance.split, cut


@contextmanager
def counting(doing: str, what: str) -> Iterator[Callable[[int], None]]:
    """Show how many of a stream of unknown length are done; gives a function that counts some more."""
    columns = (SpinnerColumn(), TextColumn(f"{doing} {{task.completed:,}} {what}"), TimeElapsedColumn())
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task(doing, total=None)
        yield partial(progress.advance, task)


def _usable(utterances: Iterable[Utterance], gate: Gate) -> Iterator[Utterance]:
    """Those in which the reader found no problem."""
    for utterance in utterances:
        if utterance.problem:
            gate.reject(utterance.problem, utterance.id, utterance.language, utterance.split, str(utterance.audio))
        else:
            yield utterance


class _Targets:
    """The FLAC file that each recording of a corpus becomes, no two the same one.

    It lies below home/audio as its source does below the corpus's root.  A source elsewhere is told apart by a digest,
    and so is x.mp3 where x.wav lies beside it and other recordings with that suffix came before: a memory of suffixes
    does for any number of recordings.
    """

    def __init__(self, root: Path, home: Path) -> None:
        self._root, self._audio = root, home / "audio"
        self._suffixes: set[str] = set()

    def of(self, audio: Path) -> Path:
        if self._has_twin(audio):
            return self._apart(audio, str(audio))
        if audio.is_relative_to(self._root):
            return self._audio / audio.relative_to(self._root).with_suffix(".flac")
        return self._apart(audio, str(audio.parent))

    def _apart(self, audio: Path, told_by: str) -> Path:
        digest = hashlib.sha256(told_by.encode()).hexdigest()[:12]
        return self._audio / "elsewhere" / digest / f"{audio.stem}.flac"

    def _has_twin(self, audio: Path) -> bool:
        self._suffixes.add(audio.suffix)
        if len(self._suffixes) > _MAX_SUFFIXES:
            return True
        return any(audio.with_suffix(each).is_file() for each in self._suffixes if each != audio.suffix)


def _cut(utterance: Utterance, path: Path, converted: Converted, gate: Gate) -> MonoCut | None:
    """The cut of an utterance, or None, with the reason given at the gate, where it lies outside its recording."""
    seconds = converted.num_samples / SAMPLE_RATE_HZ
    duration = seconds - utterance.start if utterance.duration is None else utterance.duration
    overhang = utterance.start + duration - seconds
    where = (utterance.id, utterance.language, utterance.split)
    if utterance.start < 0 or utterance.start >= seconds or overhang > _OVERHANG_SECONDS:
        end = utterance.start + duration
        gate.reject("outside its recording", *where, f"{utterance.start:g} to {end:g} s of {seconds:g} s")
        return None
    translations = {tgt: text.strip() for tgt, text in utterance.translations.items() if text.strip()}
    for tgt in utterance.translations.keys() - translations.keys():
        gate.note("empty translation", *where, tgt)
    source = AudioSource(type="file", channels=[0], source=str(path))
    recording_id = utterance.speech or utterance.id
    recording = Recording(recording_id, [source], SAMPLE_RATE_HZ, converted.num_samples, seconds)
    # Whole samples, so that a reader of the manifest and a reader of the file agree on the length.
    start = round(utterance.start * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    duration = round(min(duration, seconds - start) * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    cut = MonoCut(utterance.id, start=start, duration=duration, channel=0, recording=recording)
    cut.supervisions = [
        SupervisionSegment(
            utterance.id,
            recording_id,
            start=0.0,
            duration=duration,
            text=utterance.text.strip(),
            language=utterance.language,
            speaker=utterance.speaker,
            custom={"translated_text": translations},
        )
    ]
    return cut
