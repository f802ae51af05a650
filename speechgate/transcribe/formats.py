"""Transcripts as txt, json, srt and vtt: from the events of one recording to text, piece by piece as they come."""

import html
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from speechgate.transcribe.segment import Event, Failed, Finished, Heard, Segment, name_of
from speechgate.transcribe.subtitles import cues_of


def as_txt(events: Iterable[Event]) -> Iterator[str]:
    """A line a segment."""
    for segment in _segments(events):
        yield f"{segment.text}\n"


def as_srt(events: Iterable[Event]) -> Iterator[str]:
    """SubRip: numbered cues."""
    cues = (cue for segment in _segments(events) for cue in cues_of(segment))
    for number, cue in enumerate(cues, start=1):
        yield f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n{cue.text}\n\n"


def as_vtt(events: Iterable[Event]) -> Iterator[str]:
    """WebVTT (https://www.w3.org/TR/webvtt1/)."""
    yield "WEBVTT\n\n"
    for segment in _segments(events):
        for cue in cues_of(segment):
            text = html.escape(cue.text, quote=False)
            yield f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{text}\n\n"


def as_json(events: Iterable[Event]) -> Iterator[str]:
    """One object a recording, a line a segment; it is valid JSON whether the recording finishes or fails."""
    count = 0
    for event in events:
        match event:
            case Heard(segment=segment):
                yield (",\n  " if count else '{"segments": [\n  ') + _dump(_record(segment))
                count += 1
            case Finished() | Failed():
                yield ("\n], " if count else '{"segments": [], ') + _dump(_summary(event))[1:] + "\n"


FORMATS: dict[str, Callable[[Iterable[Event]], Iterator[str]]] = {
    "txt": as_txt,
    "json": as_json,
    "srt": as_srt,
    "vtt": as_vtt,
}


def _segments(events: Iterable[Event]) -> Iterator[Segment]:
    return (event.segment for event in events if isinstance(event, Heard))


def _record(segment: Segment) -> dict[str, Any]:
    return {
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": segment.text,
        "score": round(segment.score, 4),
        "words": [
            {"text": word.text, "start": round(word.start, 3), "end": round(word.end, 3)} for word in segment.words
        ],
    }


def _summary(event: Finished | Failed) -> dict[str, Any]:
    values: dict[str, Any] = {"file": name_of(event.source)}
    if isinstance(event, Failed):
        return values | {"error": str(event.error)}
    values |= {"seconds": round(event.seconds, 3), "task": event.task and str(event.task)}
    if event.language_probability is not None:
        values["language_probability"] = round(event.language_probability, 4)
    return values


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _clock(seconds: float, point: str) -> str:
    """00:01:02,345"""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{point}{rest % 1000:03}"
