"""scripts/make_transfer_set.py speak: who speaks which sentence, and how; stand-ins for the synthesisers speak."""

import csv
import re
import sys
from pathlib import Path

import pytest

from tests.tooling.checkout import write_program
from tests.tooling.test_transfer_set import run

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
    (texts / "en.txt").write_text("one\ntwo\nthree\n")
    assert run("speak", texts, tmp_path / "out", path=str(tmp_path / "bin")).returncode == 0
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
    texts = run("speak", tmp_path, tmp_path / "out", path="/usr/bin:/bin")
    assert (texts.returncode, "has none of en.txt, es.txt, fr.txt, it.txt, ru.txt" in texts.stderr) == (1, True)
    speaker = run("speak", write_texts(tmp_path / "all"), tmp_path / "out", path=str(tmp_path))
    assert (speaker.returncode, "nothing is installed that speaks en" in speaker.stderr) == (1, True)
    assert not (tmp_path / "out").exists()
