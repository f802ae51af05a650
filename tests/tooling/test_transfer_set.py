"""scripts/make_transfer_set.py: which sentences it takes, and what it says of them; a stand-in for espeak-ng speaks."""

import csv
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
FAKE_ESPEAK = """#!/bin/sh
while [ $# -gt 1 ]; do [ "$1" = -w ] && file=$2; shift; done
printf '%s' "$1" >"$file"
"""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import make_transfer_set

    return make_transfer_set


def test_sentences_are_plain_and_of_the_language(script) -> None:
    assert script.sentences(LISTS, "en") == {
        "editor for the text of a page",
        "This is a program for the editing of text.",
    }


def run(*arguments: Path | str, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments], env={"PATH": path}, capture_output=True, text=True, check=False
    )


def write_texts(folder: Path) -> Path:
    folder.mkdir()
    for language in ("en", "es", "fr", "it", "ru"):
        (folder / f"{language}.txt").write_text("".join(f"{language} sentence {i}\n" for i in range(4)))
    return folder


def test_every_sentence_is_spoken_once_and_told_in_one_table(tmp_path: Path) -> None:
    write_program(tmp_path / "bin" / "espeak-ng", FAKE_ESPEAK)
    texts, out = write_texts(tmp_path / "texts"), tmp_path / "out"
    done = run("speak", texts, out, "--count", "3", path=f"{tmp_path / 'bin'}:/usr/bin:/bin")
    assert done.returncode == 0, done.stderr
    rows = {}
    for split in ("train", "dev", "test"):
        with (out / f"{split}.tsv").open(newline="") as file:
            rows[split] = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert [len(rows[split]) for split in ("train", "dev", "test")] == [5, 5, 5]
    told = [row for split in rows.values() for row in split]
    assert len({row["audio"] for row in told}) == len(told) == len(list((out / "audio").iterdir()))
    for row in told:
        assert (out / row["audio"]).read_text() == row["text"]
        assert row["text"].startswith(row["language"])


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    lists = run("sentences", tmp_path, tmp_path / "texts", path="/usr/bin:/bin")
    assert (lists.returncode, "has no *_main_i18n_Translation-en" in lists.stderr) == (1, True)
    texts = run("speak", tmp_path, tmp_path / "out", path="/usr/bin:/bin")
    assert (texts.returncode, "has no en.txt, es.txt, fr.txt, it.txt, ru.txt" in texts.stderr) == (1, True)
    speaker = run("speak", write_texts(tmp_path / "all"), tmp_path / "out", path=str(tmp_path))
    assert (speaker.returncode, "espeak-ng is not installed" in speaker.stderr) == (1, True)
    assert not (tmp_path / "out").exists()
