"""Make a transfer set: speech that a teacher's knowledge passes through, where a corpus is too small for it.

A corpus of an hour or two teaches gates little beside its own sentences, and a model that closes modules forgets the
rest of what it knew.  This makes more speech, from text, as data of your own, by SVOX Pico, for Russian by Festival, or
by espeak-ng where the clearer one of a language is not installed:

    apt-get install libttspico-utils festival festvox-ru espeak-ng # Pico is in Debian's non-free
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
import sys
from collections import Counter
from pathlib import Path

from transfer_sentences import write_sentences
from transfer_voices import PROGRAMS, installed, plan, speak

SPLITS = {"dev": slice(0, 1), "test": slice(1, 2), "train": slice(2, None)}  # of the sentences of each language


def speak_all(texts: Path, out: Path, count: int) -> None:
    """Write a recording of each, and tables in which each language has one sentence for dev and one for test."""
    planned = plan(texts, count, installed())
    (out / "audio").mkdir(parents=True, exist_ok=True)
    for split in SPLITS:  # of an earlier run, whose recordings make way
        (out / f"{split}.tsv").unlink(missing_ok=True)
    spoken = speak(planned, out / "audio")
    if not spoken:
        sys.exit(f"none of {len(planned)} sentences gave a sound: is there room at {out}?")
    languages = list(dict.fromkeys(each.language for each in spoken))
    by_language = [[each for each in spoken if each.language == language] for language in languages]
    for split, of_each in SPLITS.items():
        with (out / f"{split}.tsv").open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None)
            table.writerow(["audio", "text", "text_en", "language", "speaker"])
            for group in by_language:
                table.writerows(
                    [f"audio/{each.name}.wav", each.text, each.english, each.language, each.speaker]
                    for each in group[of_each]
                )
    heard = Counter((each.language, each.synthesiser) for each in spoken)
    for (language, synthesiser), asked in Counter((each.language, each.synthesiser) for each in planned).items():
        number = heard[language, synthesiser]
        lost = f"; {asked - number} gave no sound, and are left out" if number < asked else ""
        print(f"{language}: {number} sentences, by {PROGRAMS[synthesiser]}{lost}")


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
        speak_all(arguments.source, arguments.out, arguments.count)


if __name__ == "__main__":
    main()
