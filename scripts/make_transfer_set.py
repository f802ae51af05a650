"""Make a transfer set: speech that a teacher's knowledge passes through, where a corpus is too small for it.

A corpus of an hour or two teaches gates little beside its own sentences, and a model that closes modules forgets the
rest of what it knew.  This makes more speech, from text, by the synthesiser espeak-ng, as data of your own:

    apt-get install espeak-ng
    python scripts/make_transfer_set.py sentences LISTS TEXTS      # en.txt, es.txt, ... of a sentence a line
    python scripts/make_transfer_set.py speak TEXTS OUT            # audio and train.tsv, dev.tsv, test.tsv
    speechgate prepare --corpus own --source OUT

LISTS holds Debian's package descriptions (Translation-en, Translation-es, ... as apt keeps them); any other TEXTS do.
"""

import argparse
import csv
import random
import re
import shutil
import subprocess
import sys
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
VOICES = {"en": ("en-us", "en-gb"), "es": ("es", "es-419"), "fr": ("fr-fr",), "it": ("it",), "ru": ("ru",)}
VARIANTS = ("", "+m1", "+m3", "+m4", "+m7", "+f1", "+f2", "+f3", "+f4")
WORDS = range(3, 14)  # of a sentence


def sentences(description: str, language: str) -> set[str]:
    """The plain sentences of a Translation file: few words, no names of programs, and clearly of the language."""
    letters, common = LETTERS[language], set(COMMON[language].split())
    found = set()
    for paragraph in re.split(r"\n\s*\.\n|\nPackage: |\n\n", description):
        lines = paragraph.split("\n")
        titles = [
            line.split(": ", 1)[1]
            for line in lines
            if line.startswith("Description-") and ": " in line and not line.startswith("Description-md5")
        ]
        prose = " ".join(line.strip() for line in lines if line.startswith(" ") and not re.match(r"\s+[-*•o]", line))
        for each in titles + re.split(r"(?<=[.!?])\s+", prose):
            sentence = each.strip()
            words = sentence.split()
            if (
                len(words) in WORDS
                and re.fullmatch(rf"[{letters}]+(?:[ ,]+[{letters}]+)*[.!?]?", sentence)
                and sum(word.lower().strip(",.") in common for word in words) >= max(1, len(words) // 6)
                and sum(word[0].isupper() for word in words[1:]) <= 1
            ):
                found.add(sentence)
    return found


def write_sentences(lists: Path, texts: Path, count: int) -> None:
    """``count`` sentences a language, or as many as there are, in an order that is always the same."""
    rng = random.Random(7)
    texts.mkdir(parents=True, exist_ok=True)
    for language in LETTERS:
        files = list(lists.glob(f"*_main_i18n_Translation-{language}*"))
        if not files:
            sys.exit(
                f"{lists} has no *_main_i18n_Translation-{language}: set Acquire::Languages and run apt-get update"
            )
        release = max(files, key=lambda file: file.stat().st_size)  # the others are updates
        read = subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", release], capture_output=True, check=True)
        found = sorted(sentences(read.stdout.decode(), language))
        rng.shuffle(found)
        (texts / f"{language}.txt").write_text("\n".join(found[:count]) + "\n", encoding="utf-8")
        print(f"{language}: {min(count, len(found))} of {len(found)} sentences")


@dataclass(frozen=True)
class Utterance:
    """A sentence, and how it is spoken."""

    name: str
    text: str
    language: str
    voice: str
    words_per_minute: int
    pitch: int


def plan(texts: Path, count: int) -> list[Utterance]:
    """The first ``count`` sentences of each language, in voices, speeds and pitches drawn with a fixed seed."""
    rng = random.Random(3)
    return [
        Utterance(
            name=f"{language}{number:04d}",
            text=text,
            language=language,
            voice=rng.choice(voices) + rng.choice(VARIANTS),
            words_per_minute=rng.randint(130, 185),
            pitch=rng.randint(30, 70),
        )
        for language, voices in VOICES.items()
        for number, text in enumerate((texts / f"{language}.txt").read_text(encoding="utf-8").splitlines()[:count])
    ]


def speak(texts: Path, out: Path, count: int) -> None:
    """Write a recording of each, and tables in which each language has one sentence for dev and one for test."""
    if missing := [f"{language}.txt" for language in VOICES if not (texts / f"{language}.txt").is_file()]:
        sys.exit(f"{texts} has no {', '.join(missing)}: write a sentence a line there, or run the step `sentences`")
    if shutil.which("espeak-ng") is None:
        sys.exit("espeak-ng is not installed: apt-get install espeak-ng")
    utterances = plan(texts, count)
    (out / "audio").mkdir(parents=True, exist_ok=True)

    def synthesise(utterance: Utterance) -> None:
        how = ["-v", utterance.voice, "-s", str(utterance.words_per_minute), "-p", str(utterance.pitch)]
        file = out / "audio" / f"{utterance.name}.wav"
        subprocess.run(["espeak-ng", *how, "-w", file, utterance.text], check=True)

    with ThreadPoolExecutor() as pool:
        list(track(pool.map(synthesise, utterances), "speaking", len(utterances)))
    by_language = [[u for u in utterances if u.language == language] for language in VOICES]
    for split, of_each in (("dev", slice(0, 1)), ("test", slice(1, 2)), ("train", slice(2, None))):
        with (out / f"{split}.tsv").open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None)
            table.writerow(["audio", "text", "language", "speaker"])
            for group in by_language:
                table.writerows(
                    [f"audio/{u.name}.wav", u.text, u.language, f"espeak-{u.voice}"] for u in group[of_each]
                )


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
