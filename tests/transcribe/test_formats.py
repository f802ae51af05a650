import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechgate.errors import AudioError
from speechgate.task import Task
from speechgate.transcribe.formats import FORMATS, as_json, as_srt, as_txt, as_vtt
from speechgate.transcribe.segment import Event, Failed, Finished, Heard, Segment, Word
from speechgate.transcribe.subtitles import CUE_SECONDS, LINE_CHARACTERS, LINES, cues_of

FILE = Path("talk.mp3")
WORDS = (Word("l'été", 0.6, 1.0), Word("&", 1.1, 1.2), Word("<tout>", 1.2, 1.9))
SEGMENTS = [
    Segment(
        0.5, 2.0, "l'été & <tout>", -0.25, (Word("l'été", 0.6, 1.0), Word("&", 1.1, 1.2), Word("<tout>", 1.2, 1.9))
    ),
    Segment(3661.0, 3662.25, "fin", -0.5),
]
EVENTS: list[Event] = [
    *(Heard(FILE, segment) for segment in SEGMENTS),
    Finished(FILE, 4000.0, Task.st("fr", "en"), 0.987654),
]


def test_txt() -> None:
    assert "".join(as_txt(EVENTS)) == "l'été & <tout>\nfin\n"


def test_srt() -> None:
    assert "".join(as_srt(EVENTS)) == (
        "1\n00:00:00,600 --> 00:00:01,900\nl'été & <tout>\n\n2\n01:01:01,000 --> 01:01:02,250\nfin\n\n"
    )


def test_vtt_escapes_markup() -> None:
    assert "".join(as_vtt(EVENTS)) == (
        "WEBVTT\n\n00:00:00.600 --> 00:00:01.900\nl'été &amp; &lt;tout&gt;\n\n01:01:01.000 --> 01:01:02.250\nfin\n\n"
    )


def test_json() -> None:
    assert json.loads("".join(as_json(EVENTS))) == {
        "segments": [
            {
                "start": 0.5,
                "end": 2.0,
                "text": "l'été & <tout>",
                "score": -0.25,
                "words": [
                    {"text": "l'été", "start": 0.6, "end": 1.0},
                    {"text": "&", "start": 1.1, "end": 1.2},
                    {"text": "<tout>", "start": 1.2, "end": 1.9},
                ],
            },
            {"start": 3661.0, "end": 3662.25, "text": "fin", "score": -0.5, "words": []},
        ],
        "file": "talk.mp3",
        "seconds": 4000.0,
        "task": "st:fra-eng",
        "language_probability": 0.9877,
    }


@pytest.mark.parametrize("heard", [0, 1])
def test_json_of_a_failure_is_json(heard: int) -> None:
    events = [*EVENTS[:heard], Failed(FILE, AudioError("broken"))]
    values = json.loads("".join(as_json(events)))
    assert (values["file"], values["error"], len(values["segments"])) == ("talk.mp3", "broken", heard)


def test_no_speech() -> None:
    silent: list[Event] = [Finished(FILE, 2.0, None)]
    texts = {name: "".join(form(silent)) for name, form in FORMATS.items()}
    assert (texts["txt"], texts["srt"], texts["vtt"]) == ("", "", "WEBVTT\n\n")
    assert json.loads(texts["json"]) == {"segments": [], "file": "talk.mp3", "seconds": 2.0, "task": None}


@pytest.mark.parametrize("name", FORMATS)
def test_text_comes_as_it_is_found(name: str) -> None:
    drawn = []

    def events():
        for event in EVENTS:
            drawn.append(event)
            yield event

    pieces = FORMATS[name](events())
    while "tout" not in next(pieces):
        pass
    assert len(drawn) == 1


def test_the_clock_rounds_into_the_next_minute() -> None:
    (text,) = as_srt([Heard(FILE, Segment(59.9996, 60.0, "a", 0.0))])
    assert "00:01:00,000 --> 00:01:00,000" in text


words = st.lists(st.tuples(st.text("abcdé", min_size=1, max_size=20), st.floats(0.05, 3.0)), min_size=1, max_size=40)


@given(words, st.booleans())
def test_cues_hold_all_words_within_their_limits(drawn: list[tuple[str, float]], timed: bool) -> None:
    at, spoken = 0.0, []
    for text, seconds in drawn:
        spoken.append(Word(text, at, at + seconds))
        at += seconds
    segment = Segment(0.0, at, " ".join(text for text, _ in drawn), 0.0, tuple(spoken) if timed else ())
    cues = list(cues_of(segment))
    assert re.split(r"\s", " ".join(cue.text for cue in cues)) == [text for text, _ in drawn]
    for cue in cues:
        lines = cue.text.split("\n")
        assert len(lines) <= LINES
        assert max(map(len, lines)) <= LINE_CHARACTERS
        assert cue.end - cue.start <= CUE_SECONDS or " " not in cue.text.replace("\n", " ")
    assert all(one.end <= other.start + 1e-6 for one, other in pairwise(cues))
    assert (cues[0].start, cues[-1].end) == pytest.approx((0.0, at))
