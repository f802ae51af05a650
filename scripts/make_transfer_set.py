"""Make a transfer set: speech that a teacher's knowledge passes through, where a corpus is too small for it.

A corpus of an hour or two teaches gates little beside its own sentences, and a model that closes modules forgets the
rest of what it knew.  This makes more speech, from text, by the synthesisers espeak-ng and SVOX Pico, as data of your
own:

    apt-get install espeak-ng libttspico-utils                     # Pico is in Debian's non-free, and may be left out
    python scripts/make_transfer_set.py sentences SOURCE TEXTS     # en.txt, es.txt, ... of a sentence a line
    python scripts/make_transfer_set.py speak TEXTS OUT            # audio and train.tsv, dev.tsv, test.tsv
    speechgate prepare --corpus own --source OUT

SOURCE is searched for programs' messages in gettext's format (es/LC_MESSAGES/*.mo, as in /usr/share/locale), which are
translated from English, and for Debian's package descriptions (Translation-es as apt keeps them).  Any other TEXTS do:
a sentence a line, and its English translation after a tab where there is one.
"""

import argparse
import csv
import random
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.progress import track

LETTERS = {
    "en": "a-zA-Z'",
    "es": "a-záéíóúüñA-ZÁÉÍÓÚÜÑ",
    "fr": "a-zàâçéèêëîïôùûœA-ZÀÂÇÉÈÊËÎÏÔÙÛŒ'’",
    "it": "a-zàèéìòùA-ZÀÈÉÌÒÙ'’",
    "ru": "а-яёА-ЯЁ",
}
COMMON = {
    "en": "the a of to is for and this with",
    "es": "de la el que para en los un una",
    "fr": "de la le les des un une pour est du",
    "it": "di il la per un una che del con",
    "ru": "и в для на с из это не по",
}
ESPEAK = {"en": ("en-us", "en-gb"), "es": ("es", "es-419"), "fr": ("fr-fr",), "it": ("it",), "ru": ("ru",)}
VARIANTS = ("", "+m1", "+m3", "+m4", "+m7", "+f1", "+f2", "+f3", "+f4")
PICO = {"en": ("en-US", "en-GB"), "es": ("es-ES",), "fr": ("fr-FR",), "it": ("it-IT",)}
WORDS = range(3, 14)  # of a sentence


def is_plain(sentence: str, language: str) -> bool:
    """Few words, no numbers, signs or names of programs, and clearly of the language."""
    letters, words = LETTERS[language], sentence.split()
    return (
        len(words) in WORDS
        and re.fullmatch(rf"[{letters}]+(?:[ ,]+[{letters}]+)*[.!?]?", sentence) is not None
        and sum(word.lower().strip(",.") in COMMON[language].split() for word in words) >= max(1, len(words) // 6)
        and sum(word[0].isupper() for word in words[1:]) <= 1
    )


def described(descriptions: str, language: str) -> set[str]:
    """The plain sentences of a Translation file."""
    found = set()
    for paragraph in re.split(r"\n\s*\.\n|\nPackage: |\n\n", descriptions):
        lines = paragraph.split("\n")
        titles = [
            line.split(": ", 1)[1]
            for line in lines
            if line.startswith("Description-") and ": " in line and not line.startswith("Description-md5")
        ]
        prose = " ".join(line.strip() for line in lines if line.startswith(" ") and not re.match(r"\s+[-*•o]", line))
        for each in titles + re.split(r"(?<=[.!?])\s+", prose):
            if is_plain(sentence := each.strip(), language):
                found.add(sentence)
    return found


def messages(catalogue: bytes) -> Iterator[tuple[str, str]]:
    """English and translation of every message of a .mo file (GNU gettext manual, "The Format of GNU MO Files")."""
    order = "<" if catalogue[:4] == b"\xde\x12\x04\x95" else ">"
    count, english, translated = struct.unpack(f"{order}3I", catalogue[8:20])
    for number in range(count):
        pair = []
        for table in (english, translated):
            length, start = struct.unpack_from(f"{order}2I", catalogue, table + 8 * number)
            text = catalogue[start : start + length].split(b"\x00")[0]  # the singular
            pair.append(re.sub("[_&]", "", text.split(b"\x04")[-1].decode("utf-8", "replace")).strip())
        yield pair[0], pair[1]


def write_sentences(source: Path, texts: Path, count: int) -> None:
    """``count`` sentences a language, or as many as there are, in an order that is always the same."""
    rng = random.Random(7)
    texts.mkdir(parents=True, exist_ok=True)
    for language in LETTERS:
        found: dict[str, str] = {}  # to English, where that is known
        for file in source.glob(f"*_main_i18n_Translation-{language}*"):
            read = subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", file], capture_output=True, check=True)
            found |= dict.fromkeys(described(read.stdout.decode(), language), "")
        for file in sorted(source.rglob(f"{language if language != 'en' else '*'}/LC_MESSAGES/*.mo")):
            for english, translated in messages(file.read_bytes()):
                spoken = english if language == "en" else translated
                if is_plain(spoken, language):
                    known = language != "en" and is_plain(english, "en")
                    found[spoken] = english if known else found.get(spoken, "")
        if not found:
            sys.exit(
                f"{source} has neither {language}/LC_MESSAGES/*.mo nor *_main_i18n_Translation-{language}: "
                "name /usr/share/locale, or set Acquire::Languages, run apt-get update and name apt's lists"
            )
        lines = sorted(f"{sentence}\t{english}".strip() for sentence, english in found.items())
        rng.shuffle(lines)
        (texts / f"{language}.txt").write_text("\n".join(lines[:count]) + "\n", encoding="utf-8")
        print(f"{language}: {min(count, len(lines))} of {len(lines)} sentences")


@dataclass(frozen=True)
class Utterance:
    """A sentence, and how it is spoken."""

    name: str
    text: str
    english: str
    language: str
    synthesiser: str
    voice: str
    words_per_minute: int
    pitch: int

    def command(self, file: Path) -> list[str | Path]:
        if self.synthesiser == "espeak":
            how = ["-v", self.voice, "-s", str(self.words_per_minute), "-p", str(self.pitch)]
            return ["espeak-ng", *how, "-w", file, self.text]
        speed, pitch = round(self.words_per_minute / 1.6), 75 + self.pitch // 2  # per cent of the voice's own
        return ["pico2wave", "-l", self.voice, "-w", file, f"<speed level='{speed}'><pitch level='{pitch}'>{self.text}"]


def plan(texts: Path, count: int, pico: bool) -> list[Utterance]:
    """The first ``count`` sentences of each language, in voices, speeds and pitches drawn with a fixed seed."""
    rng = random.Random(3)
    utterances = []
    for language, espeak in ESPEAK.items():
        lines = (texts / f"{language}.txt").read_text(encoding="utf-8").splitlines()[:count]
        for number, line in enumerate(lines):
            sentence, _, english = line.partition("\t")
            voice = rng.choice(espeak) + rng.choice(VARIANTS)
            words_per_minute, pitch = rng.randint(130, 185), rng.randint(30, 70)
            synthesiser = "espeak"
            if pico and language in PICO and rng.random() < 0.5:
                synthesiser, voice = "pico", rng.choice(PICO[language])
            name = f"{language}{number:05d}"
            utterances.append(Utterance(name, sentence, english, language, synthesiser, voice, words_per_minute, pitch))
    return utterances


def speak(texts: Path, out: Path, count: int) -> None:
    """Write a recording of each, and tables in which each language has one sentence for dev and one for test."""
    if missing := [f"{language}.txt" for language in ESPEAK if not (texts / f"{language}.txt").is_file()]:
        sys.exit(f"{texts} has no {', '.join(missing)}: write a sentence a line there, or run the step `sentences`")
    if shutil.which("espeak-ng") is None:
        sys.exit("espeak-ng is not installed: apt-get install espeak-ng")
    utterances = plan(texts, count, pico=shutil.which("pico2wave") is not None)
    (out / "audio").mkdir(parents=True, exist_ok=True)

    def synthesise(utterance: Utterance) -> None:
        subprocess.run(utterance.command(out / "audio" / f"{utterance.name}.wav"), check=True)

    with ThreadPoolExecutor() as pool:
        list(track(pool.map(synthesise, utterances), "speaking", len(utterances)))
    by_language = [[u for u in utterances if u.language == language] for language in ESPEAK]
    for split, of_each in (("dev", slice(0, 1)), ("test", slice(1, 2)), ("train", slice(2, None))):
        with (out / f"{split}.tsv").open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None)
            table.writerow(["audio", "text", "text_en", "language", "speaker"])
            for group in by_language:
                table.writerows(
                    [f"audio/{u.name}.wav", u.text, u.english, u.language, f"{u.synthesiser}-{u.voice}"]
                    for u in group[of_each]
                )
    spoken = {name: sum(u.synthesiser == name for u in utterances) for name in ("espeak", "pico")}
    print(f"{len(utterances)} sentences: {spoken['espeak']} by espeak-ng, {spoken['pico']} by Pico")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("sentences", "speak"))
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=720, help="sentences a language")
    arguments = parser.parse_args()
    step = write_sentences if arguments.step == "sentences" else speak
    step(arguments.source, arguments.out, arguments.count)


if __name__ == "__main__":
    main()
