"""Many recordings to standard output or a folder; progress and failures go to standard error."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from speechgate.audio import Recording
from speechgate.config import choices
from speechgate.errors import AudioError, ConfigError
from speechgate.files import atomic_path
from speechgate.transcribe.formats import FORMATS
from speechgate.transcribe.segment import Event, Failed, Finished, Heard, Source, name_of
from speechgate.transcribe.transcriber import Transcriber

STANDARD_INPUT = Path("-")


def write_transcripts(
    transcriber: Transcriber,
    files: Sequence[Path],
    task: str | None,
    src: str | None,
    tgt: str | None,
    form: str,
    folder: Path | None,
) -> int:
    """Write the transcript of each file as it is found; a file that cannot be transcribed is told and left out.

    Args:
        files: recordings; "-" is standard input.
        task, src, tgt: as for ``Transcriber.stream``.
        form: one of ``FORMATS``.
        folder: where a recording NAME.* gets its NAME.<form>, whole or not at all; standard output if None.

    Returns:
        How many could not be transcribed.

    Raises:
        ConfigError: as ``check_outputs`` and ``Transcriber.stream``.
    """
    check_outputs(files, form, folder)
    sources: list[Source] = [sys.stdin.buffer if path == STANDARD_INPUT else path for path in files]
    events = transcriber.stream(sources, task, src, tgt)
    failures = 0
    with _Watch(sources) as watch:
        for path in files:
            try:
                with _opened(path, form, folder, headed=form == "txt" and len(files) > 1) as out:
                    for text in FORMATS[form](_of_one(events, watch)):
                        out.write(text)
                        out.flush()
            except AudioError as error:
                failures += 1
                watch.say(f"speechgate: {error}")
    return failures


def check_outputs(files: Sequence[Path], form: str, folder: Path | None) -> None:
    """See that every recording has a place for its transcript.

    Raises:
        ConfigError: an unknown format, subtitles of several recordings on standard output, or two of one name.
    """
    choices("--format", form, FORMATS)
    if folder is None and form in ("srt", "vtt") and len(files) > 1:
        raise ConfigError(f"{form} holds one recording, and there are {len(files)}: give --output-dir")
    if len(set(files)) < len(files):
        raise ConfigError("a recording is given twice")
    places: dict[Path, Path] = {}
    for path in files if folder is not None else ():
        other = places.setdefault(_place(path, form, folder or Path()), path)
        if other != path:
            raise ConfigError(f"{other} and {path} would both be written to {_place(path, form, folder or Path())}")


def _place(path: Path, form: str, folder: Path) -> Path:
    return folder / f"{'stdin' if path == STANDARD_INPUT else path.stem}.{form}"


def _of_one(events: Iterator[Event], watch: "_Watch") -> Iterator[Event]:
    """The events of the next recording.

    Raises:
        AudioError: after the last of them, if the recording has failed.
    """
    for event in events:
        watch.see(event)
        yield event
        if isinstance(event, Failed):
            raise event.error
        if isinstance(event, Finished):
            return


@contextmanager
def _opened(path: Path, form: str, folder: Path | None, headed: bool) -> Iterator[TextIO]:
    if folder is None:
        if headed:
            print(f"==> {path} <==")
        yield sys.stdout
        return
    with atomic_path(_place(path, form, folder)) as temporary, temporary.open("w", encoding="utf-8") as out:
        yield out


class _Watch:
    """A bar with the time remaining, where standard error is a terminal, and a line for each recording."""

    def __init__(self, sources: Sequence[Source]) -> None:
        seconds = [_seconds_of(source) for source in sources]
        known = sum(each or 0.0 for each in seconds)
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:.0f}%"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
            # Text goes above the bar if both share a terminal; otherwise the output must stay where it is sent.
            redirect_stdout=sys.stdout.isatty(),
        )
        self._bar = self._progress.add_task("", total=None if None in seconds else known)
        self._started = time.perf_counter()
        self._seconds = 0.0  # of the recordings that are finished
        self._heard = 0  # segments of this one

    def see(self, event: Event) -> None:
        """Move on."""
        match event:
            case Heard(source=source, segment=segment):
                self._heard += 1
                self._progress.update(self._bar, description=name_of(source), completed=self._seconds + segment.end)
            case Finished(source=source, seconds=seconds, task=task, language_probability=probability):
                self._seconds += seconds
                self._progress.update(self._bar, completed=self._seconds)
                found = "" if probability is None else f" (language found: {probability:.0%} sure)"
                what = f"{task}{found}" if self._heard else "no speech"
                self.say(f"{name_of(source)}: {seconds:.1f} s, {what}")
                self._heard = 0
            case Failed():
                self._heard = 0

    def say(self, line: str) -> None:
        self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()
        if error is None:
            spent = time.perf_counter() - self._started
            self.say(f"{self._seconds:.1f} s of audio in {spent:.1f} s")


def _seconds_of(source: Source) -> float | None:
    """The length in the header; None where that would read a stream, or for a file that will be told of later."""
    if not isinstance(source, Path):
        return None
    try:
        with Recording(source) as recording:
            return recording.seconds
    except AudioError:
        return 0.0
