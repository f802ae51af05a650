"""scripts/make_transfer_set.py: which sentences it takes, and who speaks them, for which there are stand-ins."""

import csv
import gzip
import json
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tooling.checkout import ROOT, write_program

SCRIPT = ROOT / "scripts" / "make_transfer_set.py"
LISTS = """Package: one
Description-md5: 0123456789abcdef
Description-en: editor for the text of a page
 This is a program for the editing of text. It needs GTK+ 3.0 and a mouse.
  - the item of a list is no sentence
 .
 It is the best of Free Open Source Software. Two words.

Package: two
Description-en: editor for the text of a page
 Das ist kein englischer Satz mit Umlauten.
"""
FAKE = """#!/bin/sh
given=$*
while [ $# -gt 1 ]; do [ "$1" = -w ] && file=$2; shift; done
[ "$1" = fail ] && echo 'no such voice' >&2 && exit 3
[ "$1" = silence ] && exit 0
printf '%044d%s' 0 "$1" >"$file"
printf '%s' "$given" >"$file.arguments"
"""
FAKE_FESTIVAL = f"""#!{sys.executable}
import re, sys
if sys.argv[1] == "-b":
    print("(msu_ru_nsh_clunits kal_diphone)")
else:
    first, *rest = open(sys.argv[2]).read().splitlines()
    assert first == "(voice_msu_ru_nsh_clunits)"
    said = r'\\(unwind-protect \\(utt.save.wave \\(utt.synth \\(Utterance Text "(.*?)"\\)\\) "(.*?)" .riff\\) nil\\)'
    for line in rest:
        text, file = re.fullmatch(said, line).groups()
        open(file, "w").write("0" * 44 + (text if text != "молчание" else ""))
"""


def heard(file: Path) -> str:
    """What a stand-in said: the text after 44 bytes, which are of the header."""
    return file.read_text()[44:]


def read_table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def write_catalogue(path: Path, messages: dict[str, str], order: str = "<") -> None:
    """A .mo file as msgfmt writes it."""
    texts = [text.encode() for table in (messages, messages.values()) for text in table]
    count, start = len(messages), 28 + 16 * len(messages)
    body, places = b"", []
    for text in texts:
        places += [len(text), start + len(body)]
        body += text + b"\x00"
    head = struct.pack(f"{order}7I", 0x950412DE, 0, count, 28, 28 + 8 * count, 0, 0)
    path.parent.mkdir(parents=True)
    path.write_bytes(head + struct.pack(f"{order}{len(places)}I", *places) + body)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import transfer_sentences

    return transfer_sentences


def test_sentences_are_plain_and_of_the_language(script) -> None:
    assert script.described(LISTS, "en") == {
        "editor for the text of a page",
        "This is a program for the editing of text.",
    }


@pytest.mark.parametrize("order", ["<", ">"])
def test_messages_of_programs_come_with_their_english(script, tmp_path: Path, order: str) -> None:
    write_catalogue(
        tmp_path / "es" / "LC_MESSAGES" / "a.mo",
        {
            "": "Content-Type: text/plain; charset=UTF-8\n",
            "Please give the _name of the file.": "Escriba el _nombre del archivo.",
            "dialog\x04%d files in the folder": "%d archivos en la carpeta",
            "menu\x04Quit the program now": "Salir de la aplicación\x00Salir de las aplicaciones",
        },
        order,
    )
    assert list(script.messages((tmp_path / "es" / "LC_MESSAGES" / "a.mo").read_bytes()))[1:] == [
        ("Please give the name of the file.", "Escriba el nombre del archivo."),
        ("%d files in the folder", "%d archivos en la carpeta"),
        ("Quit the program now", "Salir de la aplicación"),
    ]
    done = run("sentences", tmp_path, tmp_path / "texts", path="/usr/bin:/bin")
    assert "fr/LC_MESSAGES" in done.stderr  # English and Spanish were found, and no French
    spanish = (tmp_path / "texts" / "es.txt").read_text().splitlines()
    assert sorted(spanish) == [
        "Escriba el nombre del archivo.\tPlease give the name of the file.",
        "Salir de la aplicación\tQuit the program now",
    ]
    assert "Please give the name of the file." in (tmp_path / "texts" / "en.txt").read_text().splitlines()


def test_pairs_and_plain_sentences_are_read_and_held_out_ones_are_not_taken(script, tmp_path: Path) -> None:
    source, texts = tmp_path / "source", tmp_path / "texts"
    source.mkdir()
    for language in ("en", "es", "it", "ru"):
        letter = "ж" if language == "ru" else "x"
        (source / f"{language}.txt").write_text("".join(f"{letter * n} {letter} {letter}\n" for n in range(1, 4)))
    (source / "fra.txt").write_text(
        "How are you today?\tComment allez-vous ?\tCC-BY\n"  # two words are too few
        "Where did you park?\tOù vous êtes-vous garé ?\tCC-BY 2.0\n"
        "I have 3 cats.\tJ'ai trois petits chats.\n"  # spoken without its English, which has a number
        "Call us tomorrow.\tAppelez-nous donc demain.\n"
        "Nobody was there.\tPersonne n'était là.\n"
    )
    (source / "fr.txt").write_text("Il appelle sa mère.\tHe calls his mother.\nElle a 3 ans.\n")
    cut = {"supervisions": [{"text": "Nemo", "custom": {"translated_text": {"eng": "nobody was there"}}}]}
    with gzip.open(tmp_path / "cuts_test.jsonl.gz", "wt") as file:
        file.write(json.dumps(cut) + "\n")
    (tmp_path / "dev.txt").write_text("APPELEZ NOUS donc, demain\n")
    held_out = (tmp_path / "cuts_test.jsonl.gz", tmp_path / "dev.txt")
    done = run("sentences", source, texts, "--without", *held_out, path="/usr/bin:/bin")
    assert done.returncode == 0, done.stderr
    assert "fr: 3 of 3 sentences, 2 with English; 2 left out" in done.stdout
    assert sorted((texts / "fr.txt").read_text().splitlines()) == [
        "Il appelle sa mère.\tHe calls his mother.",
        "J'ai trois petits chats.",
        "Où vous êtes-vous garé?\tWhere did you park?",
    ]
    english = (texts / "en.txt").read_text().splitlines()
    assert "Where did you park?" in english
    assert "Nobody was there." not in english


def test_the_first_sentences_cover_the_common_words(script) -> None:
    sentences = [f"the same old {word}" for word in ("song", "song", "song", "dog", "dog", "cat", "cat", "rarity")]
    sentences = [f"{sentence} {'x' * number}".strip() for number, sentence in enumerate(sentences)]
    ordered = script.by_words(sentences)
    assert sorted(ordered) == sorted(sentences)
    assert [sentence.split()[3] for sentence in ordered] == [
        *("song", "cat", "dog"),  # common words first, each once
        *("song", "cat", "dog", "song"),  # a second time, a third
        "rarity",  # a word of a single sentence covers nothing
    ]


def run(*arguments: Path | str, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments], env={"PATH": path}, capture_output=True, text=True, check=False
    )


def write_texts(folder: Path, count: int = 4) -> Path:
    folder.mkdir()
    for language in ("en", "es", "fr", "it", "ru"):
        (folder / f"{language}.txt").write_text("".join(f"{language} sentence {i}\n" for i in range(count)))
    return folder


def test_every_sentence_is_spoken_once_and_told_in_one_table(tmp_path: Path) -> None:
    write_program(tmp_path / "bin" / "espeak-ng", FAKE)
    texts, out = write_texts(tmp_path / "texts"), tmp_path / "out"
    done = run("speak", texts, out, "--count", "3", path=str(tmp_path / "bin"))
    assert done.returncode == 0, done.stderr
    rows = {split: read_table(out / f"{split}.tsv") for split in ("train", "dev", "test")}
    assert [len(rows[split]) for split in ("train", "dev", "test")] == [5, 5, 5]
    told = [row for split in rows.values() for row in split]
    assert len({row["audio"] for row in told}) == len(told) == len(list((out / "audio").glob("*.wav")))
    for row in told:
        assert heard(out / row["audio"]) == row["text"]
        assert row["text"].startswith(row["language"])
        assert (row["text_en"], row["speaker"].split("-")[0]) == ("", "espeak")


def test_the_clearest_voice_that_is_installed_speaks_a_language(tmp_path: Path) -> None:
    for name, program in (("espeak-ng", FAKE), ("pico2wave", FAKE), ("festival", FAKE_FESTIVAL)):
        write_program(tmp_path / "bin" / name, program)
    texts = write_texts(tmp_path / "texts", count=150)
    (texts / "fr.txt").write_text("une phrase\ta sentence\n" * 4)
    (texts / "en.txt").write_text("one < two & three\n" + "en sentence\n" * 149)
    (texts / "ru.txt").write_text('сказал "да" — (и) всё\nмолчание\nза\u0301мок и\u0306од\n' + "раз два три\n" * 147)
    done = run("speak", texts, tmp_path / "out", path=str(tmp_path / "bin"))
    assert done.returncode == 0, done.stderr
    assert "ru: 149 sentences, by festival; 1 gave no sound, and are left out" in done.stdout
    assert "en: 150 sentences, by pico2wave\n" in done.stdout
    rows = [row for split in ("train", "dev", "test") for row in read_table(tmp_path / "out" / f"{split}.tsv")]
    assert {(row["language"], row["speaker"].split("-")[0]) for row in rows} == {
        *((language, "pico") for language in ("en", "es", "fr", "it")),
        ("ru", "festival"),
    }
    assert {row["text_en"] for row in rows if row["language"] == "fr"} == {"a sentence"}
    for row in rows:
        audio = tmp_path / "out" / row["audio"]
        said = heard(audio).split(">")[-1]
        assert said.split() == re.sub(r'["—<&()]', " ", row["text"]).replace("за\u0301мок и\u0306", "замок й").split()
        if row["language"] != "ru":
            voice, speed, pitch = re.fullmatch(
                rf"-l (\S+) -w {audio.name} <speed level='(\d+)'><pitch level='(\d+)'>.*",
                audio.with_name(f"{audio.name}.arguments").read_text(),
            ).groups()
            assert row["speaker"] == f"pico-{voice}"
            assert 81 <= int(speed) <= 116
            assert 90 <= int(pitch) <= 110
    assert not list((tmp_path / "out" / "audio").glob("*.scm"))


def test_a_second_run_says_what_its_texts_have(tmp_path: Path) -> None:
    write_program(tmp_path / "bin" / "espeak-ng", FAKE)
    texts, out = tmp_path / "texts", tmp_path / "out"
    texts.mkdir()
    (texts / "en.txt").write_text("one\ntwo\nthree\n")
    assert run("speak", texts, out, path=str(tmp_path / "bin")).returncode == 0
    (texts / "en.txt").write_text("-5 degrees\n\nsilence\nfour\n")
    done = run("speak", texts, out, path=str(tmp_path / "bin"))
    assert "en: 2 sentences, by espeak-ng; 1 gave no sound" in done.stdout
    assert [row["text"] for row in read_table(out / "dev.tsv") + read_table(out / "test.tsv")] == ["-5 degrees", "four"]
    assert [heard(out / "audio" / f"en0000{number}.wav") for number in (0, 3)] == ["-5 degrees", "four"]
    assert not (out / "audio" / "en00002.wav").exists()
    given = (out / "audio" / "en00000.wav.arguments").read_text()
    speed, pitch = re.fullmatch(r"-v en-(?:us|gb) -s (\d+) -p (\d+) -w en00000.wav -- -5 degrees", given).groups()
    assert 130 <= int(speed) <= 185
    assert 30 <= int(pitch) <= 70


@pytest.mark.parametrize(
    ("sentence", "message"),
    [("fail", "espeak-ng failed, called as .*: no such voice"), ("silence", "none of 2 sentences")],
)
def test_a_synthesiser_that_fails_ends_the_run_and_is_named(tmp_path: Path, sentence: str, message: str) -> None:
    write_program(tmp_path / "bin" / "espeak-ng", FAKE)
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "en.txt").write_text(f"{sentence}\n{sentence}\n")
    done = run("speak", texts, tmp_path / "out", path=str(tmp_path / "bin"))
    assert done.returncode == 1
    assert re.search(message, done.stderr)
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "out").glob("*.tsv"))


def test_a_language_without_a_voice_that_is_installed_is_refused(tmp_path: Path) -> None:
    write_program(tmp_path / "bin" / "festival", FAKE_FESTIVAL.replace("msu_ru_nsh_clunits", "kal_diphone"))
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "ru.txt").write_text("раз два три\n")
    done = run("speak", texts, tmp_path / "out", path=str(tmp_path / "bin"))
    assert done.returncode == 1
    assert "nothing is installed that speaks ru: it takes festival or espeak-ng" in done.stderr
    write_program(tmp_path / "bin" / "espeak-ng", FAKE)
    done = run("speak", texts, tmp_path / "out", path=str(tmp_path / "bin"))
    assert done.returncode == 0
    assert "espeak-ng speaks ru, and is hard to understand: festival is clearer" in done.stderr
    assert heard(tmp_path / "out" / "audio" / "ru00000.wav") == "раз два три"


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    lists = run("sentences", tmp_path, tmp_path / "texts", path="/usr/bin:/bin")
    assert (lists.returncode, "*_main_i18n_Translation-en" in lists.stderr) == (1, True)
    texts = run("speak", tmp_path, tmp_path / "out", path="/usr/bin:/bin")
    assert (texts.returncode, "has none of en.txt, es.txt, fr.txt, it.txt, ru.txt" in texts.stderr) == (1, True)
    speaker = run("speak", write_texts(tmp_path / "all"), tmp_path / "out", path=str(tmp_path))
    assert (speaker.returncode, "nothing is installed that speaks en" in speaker.stderr) == (1, True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("files", "without", "message"),
    [
        ({"fra.txt": "Good day to you.\tBonjour à vous.\nno tab here\n"}, (), "fra.txt, line 2: no tab"),
        ({"fr.txt": "Bonjour à vous tous.\n"}, ("gone.txt",), "--without: there is no"),
    ],
)
def test_a_bad_source_ends_in_one_line_that_names_it(tmp_path, files, without, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    given = [tmp_path / name for name in without]
    command = [
        sys.executable,
        SCRIPT,
        "sentences",
        tmp_path,
        tmp_path / "texts",
        *(["--without", *given] if given else []),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert message in ended.stderr
    assert ended.stderr.count("\n") == 1
