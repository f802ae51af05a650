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


def recordings(utterances: Iterable[Utterance], root: Path, home: Path) -> Iterator[tuple[Path, Path]]:
    """The recordings of the utterances in which the reader found no problem: (source, its FLAC file to be)."""
    for audio, _ in groupby(each.audio for each in utterances if not each.problem):
        yield audio, _converted_path(audio, root, home)


def stream_cuts(
    utterances: Iterable[Utterance], root: Path, home: Path, gate: Gate, workers: int
) -> Iterator[tuple[str, MonoCut]]:
    """Convert the recordings of ``utterances`` and yield (split, cut); what has no cut is rejected at the gate."""
    waiting: deque[list[Utterance]] = deque()

    def jobs() -> Iterator[tuple[Path, Path]]:
        for audio, group in groupby(_usable(utterances, gate), key=attrgetter("audio")):
            waiting.append(list(group))
            yield audio, _converted_path(audio, root, home)

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


def _converted_path(audio: Path, root: Path, home: Path) -> Path:
    """Below home/audio as the source is below the corpus's root; what lies elsewhere is told apart by a digest."""
    if audio.is_relative_to(root):
        return home / "audio" / audio.relative_to(root).with_suffix(".flac")
    digest = hashlib.sha256(str(audio.parent).encode()).hexdigest()[:12]
    return home / "audio" / "elsewhere" / digest / f"{audio.stem}.flac"


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
