import gzip
from collections import Counter
from pathlib import Path

import pytest

from speechgate.corpus.transcripts import Transcript, is_speech, read_transcript
from speechgate.errors import ManifestError


@pytest.fixture
def read(tmp_path: Path):
    def make(content: str, lang3: str = "eng") -> Transcript:
        path = tmp_path / "core-sounds-xx.txt"
        path.write_text(content, encoding="utf-8")
        return read_transcript(path, lang3)

    return make


def kinds(transcript: Transcript) -> Counter[str]:
    return Counter(issue.kind for issue in transcript.issues)


# Lines of the real transcripts: language, line, id, what it becomes, the kind of issue.
REAL_LINES = [
    ("eng", "hello: Hello.", "hello", "Hello.", None),
    ("eng", "vm-leavemsg:  Press 5 to leave a message", "vm-leavemsg", "Press 5 to leave a message", None),
    ("eng", "vm-opts-full: press 2.  Press 3.", "vm-opts-full", "press 2. Press 3.", None),
    ("eng", "screen-callee-options: You have these options: Dial 1", "screen-callee-options", None, None),
    ("eng", "letters/dash: dash [-]", "letters/dash", "dash", "brackets resolved"),
    ("eng", "letters/space: space [ ]", "letters/space", "space", "brackets resolved"),
    ("eng", 'spy-iax2: IAX (note: does not say "2")', "spy-iax2", "IAX", "brackets resolved"),
    (
        "spa",
        "vm-tempgreetactive: Sus saludos [temporales]",
        "vm-tempgreetactive",
        "Sus saludos temporales",
        "brackets resolved",
    ),
    ("fra", "for: Pour (emphase)", "for", "Pour", "brackets resolved"),
    ("ita", "demo-instruct: asterisk (IAX) con", "demo-instruct", "asterisk IAX con", "brackets resolved"),
    ("ita", "letters/exclaimation-point: [!] punto", "letters/exclaimation-point", "punto", "brackets resolved"),
    ("ita", "vm-intro: il tasto. (un beep, ma non qui).", "vm-intro", "il tasto.", "brackets resolved"),
    (
        "ita",
        "if-correct-press: Se questo ? corretto, premi ...",
        "if-correct-press",
        "Se questo è corretto, premi ...",
        None,
    ),
    ("ita", "pls: chiamata pi? tardi", "pls", "chiamata più tardi", "lost accents restored"),
    ("ita", "cannot: non pu? essere cos? come", "cannot", "non può essere così come", "lost accents restored"),
    ("ita", "vm-changeto: Quale cartella?", "vm-changeto", "Quale cartella?", None),
    ("rus", "conf-adminmenu: conf-adminmenu: Нажмите 1", "conf-adminmenu", "Нажмите 1", "id repeated in the text"),
    ("rus", "vm-first: первoe", "vm-first", "первое", "letters of another script"),
    ("rus", "demo: сервер Asterisk, буквы «Q»", "demo", "сервер Asterisk, буквы «Q»", None),
]


@pytest.mark.parametrize(("lang3", "line", "prompt_id", "text", "kind"), REAL_LINES)
def test_mends_of_one_line(read, lang3: str, line: str, prompt_id: str, text: str | None, kind: str | None) -> None:
    transcript = read(line + "\n", lang3)
    assert transcript.texts[prompt_id] == (text or line.split(": ", 1)[1])
    if kind:
        assert kinds(transcript) == {kind: 1}


def test_byte_order_mark_and_comments_are_not_text(read) -> None:
    transcript = read("\ufeff; Core sounds: Italian\n\nhello: Ciao.\n", "ita")
    assert transcript.texts == {"hello": "Ciao."}
    assert transcript.entries == 1
    assert kinds(transcript) == {"byte-order mark": 1}


def test_tones_and_silence_are_left_out_by_id(read) -> None:
    transcript = read("beep: un suono beep\nsilence/1: (1 secondo di silenzio)\nconfbridge-join: <beep>\n", "ita")
    assert not transcript.texts
    assert kinds(transcript) == {"not speech": 3}
    assert is_speech("beep-beep")
    assert not is_speech("silence/10")


def test_glued_entries_are_cut(read) -> None:
    transcript = read(
        "vm-record: appuyez sur dièse.vm-review: Pour enlever\nvm-tempremoved: eliminato vm-review: poi premere\n"
        "vm-review: Pour\n",
        "fra",
    )
    assert transcript.texts == {
        "vm-record": "appuyez sur dièse.",
        "vm-tempremoved": "eliminato",
        "vm-review": "Pour",
    }
    assert kinds(transcript) == {"several entries in a line": 2}


def test_ids_get_the_names_of_their_recordings(read) -> None:
    assert read("digits/1f: una\nconfbridge-lock-out-0: ...para bloquear\n", "spa").texts == {
        "digits/1F": "una",
        "confbridge-lock-out": "...para bloquear",
    }
    assert read("letters/O: O\nphonetic/C_P: c come como\n", "ita").texts.keys() == {"letters/o", "phonetic/c_p"}


def test_duplicates(read) -> None:
    spanish = read("digits/0: cero\ndigits/0: diez\n", "spa")
    assert spanish.texts == {"digits/0": "cero", "digits/10": "diez"}
    english = read("hello: Hello.\nhello: Hi.\n")
    assert english.texts == {"hello": "Hello."}
    assert kinds(spanish) == kinds(english) == {"duplicate id": 1}
    assert english.issues[0].detail == "second line left out: Hi."


def test_empty_and_untranslated_texts_are_left_out(read) -> None:
    transcript = read("is:\nletters/at: at [@]\nnote: (emphase)\n", "rus")
    assert not transcript.texts
    assert transcript.ids == {"is", "letters/at", "note"}
    assert kinds(transcript) == {"empty text": 2, "text in another language": 1, "brackets resolved": 1}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("core.txt", "h\xe9llo: x".encode("latin-1")),
        ("core.txt.gz", b"not gzip"),
        ("core.txt.gz", gzip.compress(b"hello: Hello." * 99)[:-20]),
    ],
)
def test_damaged_transcript_names_the_file(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ManifestError, match=f"{name} cannot be read"):
        read_transcript(tmp_path / name, "eng")
