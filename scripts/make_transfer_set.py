"""Make a transfer set: speech that a teacher's knowledge passes through, where a corpus is too small for it.

A corpus of an hour or two teaches gates little beside its own sentences, and a model that closes modules forgets the
rest of what it knew.  This makes more speech, from text, by the synthesisers espeak-ng and SVOX Pico, as data of your
own:

    apt-get install espeak-ng libttspico-utils                     # Pico is in Debian's non-free, and may be left out
    python scripts/make_transfer_set.py sentences SOURCE TEXTS     # en.txt, es.txt, ... of a sentence a line
    python scripts/make_transfer_set.py speak TEXTS OUT            # audio and train.tsv, dev.tsv, test.tsv
    speechgate prepare --corpus own --source OUT

SOURCE may have pairs of sentences as learners' exports of Tatoeba have them (spa.txt: English, tab, Spanish), plain
sentences (es.txt: one a line, its English after a tab where there is one), programs' messages in gettext's format
(es/LC_MESSAGES/*.mo, as in /usr/share/locale), which are translated from English, and Debian's package descriptions
(Translation-es as apt keeps them).  TEXTS begin with the sentences that cover most words.  Name the manifests or texts
of your dev and test sets after --without, and none of their sentences is taken.
"""

import argparse
import csv
import random
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.progress import track
from transfer_sentences import write_sentences

ESPEAK = {"en": ("en-us", "en-gb"), "es": ("es", "es-419"), "fr": ("fr-fr",), "it": ("it",), "ru": ("ru",)}
VARIANTS = ("", "+m1", "+m3", "+m4", "+m7", "+f1", "+f2", "+f3", "+f4")
PICO = {"en": ("en-US", "en-GB"), "es": ("es-ES",), "fr": ("fr-FR",), "it": ("it-IT",)}


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
    parser.add_argument("--without", type=Path, nargs="+", default=[], help="step sentences: dev and test, not to take")
    arguments = parser.parse_args()
    if arguments.step == "sentences":
        write_sentences(arguments.source, arguments.out, arguments.count, arguments.without)
    elif arguments.without:
        parser.error("--without is of the step `sentences`: `speak` speaks all that TEXTS have")
    else:
        speak(arguments.source, arguments.out, arguments.count)


if __name__ == "__main__":
    main()
