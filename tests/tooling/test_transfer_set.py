"""scripts/make_transfer_set.py: which sentences it takes, and what it says of them."""

import gzip
import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tooling.checkout import ROOT

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
    assert not list((tmp_path / "texts").iterdir())  # so nothing is written, beside what another source gave
    assert script.found_in(tmp_path, "es") == {
        "Escriba el nombre del archivo.": "Please give the name of the file.",
        "Salir de la aplicación": "Quit the program now",
    }
    assert "Please give the name of the file." in script.found_in(tmp_path, "en")


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


def test_missing_lists_of_packages_are_named(tmp_path: Path) -> None:
    lists = run("sentences", tmp_path, tmp_path / "texts", path="/usr/bin:/bin")
    assert (lists.returncode, "*_main_i18n_Translation-en" in lists.stderr) == (1, True)


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
