#!/usr/bin/env python3
"""Make the slice of the prompts corpus that is committed in tests/assets/prompts, from an unpacked tree.

    scripts/make_bundled_slice.py data/prompts/source

The recordings and the lines of the transcripts are the originals in the packages' own layout, so that the slice goes
through the same code as the corpus; it holds prompts of every split, and one of each kind of defect.
"""

import argparse
import gzip
import random
import shutil
from pathlib import Path

from speechgate.corpus.prompts_files import VoiceData, read_corpus
from speechgate.corpus.prompts_source import BUNDLED
from speechgate.corpus.splits import read_splits

SEED = 0
IDS = {"test": 8, "dev": 6, "train": 40}
# Of a prompt in all languages together (8000 bytes are a second): words and short phrases train, phrases are held out.
BYTES = {"test": (40_000, 110_000), "dev": (40_000, 110_000), "train": (0, 75_000)}

# Prompts with something wrong, by language.
DEFECTS = {
    "eng": ["ascending-2tone", "silence/1", "pls-try-call-later", "spy-iax2", "letters/dash", "confbridge-join"],
    "spa": ["digits/0", "digits/10", "digits/1F", "confbridge-lock-out", "dir-first", "dir-welcome", "vm-mismatch"],
    "fra": [
        "beeperr",
        "confbridge-lock-out",
        "letters/zed",
        "is",
        "spy-dahdi",
        "vm-record-prepend",
        "vm-review-nonurgent",
        "for",
    ],
    "ita": [
        "beep",
        "conf-full",
        "is",
        "letters/o",
        "phonetic/c_p",
        "spy-h323",
        "vm-tempremoved",
        "vm-then-pound",
        "digits/a",
    ],
    "rus": ["is", "conf-adminmenu", "vm-first", "letters/at", "phone", "tt-monkeys"],
}
LINES_WITHOUT_RECORDING = {"spa": ["digits/1f", "confbridge-lock-out-0"], "fra": ["confbridge-lock-out-0"]}
LINES_WITHOUT_RECORDING |= {"ita": ["letters/O", "phonetic/C_P"]}


def choose(corpus: list[VoiceData]) -> set[str]:
    """Choose short prompts of every split that all languages have."""
    splits = read_splits()
    sizes = {
        prompt_id: sum(data.recordings[prompt_id].stat().st_size for data in corpus)
        for prompt_id in sorted(set.intersection(*(set(data.usable) for data in corpus)))
    }
    chosen: set[str] = set()
    for split, number in IDS.items():
        least, most = BYTES[split]
        ids = [i for i, size in sizes.items() if splits[i] == split and least <= size <= most]
        random.Random(SEED).shuffle(ids)
        chosen.update(ids[:number])
    return chosen


def copy_voice(data: VoiceData, chosen: set[str], source: Path, target: Path) -> None:
    """Copy the chosen recordings of one language, and the lines of its transcript that belong to them."""
    ids = chosen | set(DEFECTS[data.voice.lang3])
    for prompt_id in sorted(ids & data.recordings.keys()):
        copy = target / data.recordings[prompt_id].relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(data.recordings[prompt_id], copy)
    ids |= set(LINES_WITHOUT_RECORDING.get(data.voice.lang3, ()))
    transcript = data.voice.transcript(source)
    assert transcript is not None  # read_corpus has read it
    lines = gzip.decompress(transcript.read_bytes()).decode().splitlines(keepends=True)
    kept = [line for line in lines if line.lstrip("\ufeff").startswith(";") or line.split(":", 1)[0] in ids]
    copy = target / transcript.relative_to(source)
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_bytes(gzip.compress("".join(kept).encode(), mtime=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="the folder that holds usr/share/asterisk/sounds")
    parser.add_argument("--out", type=Path, default=BUNDLED, help="where the slice goes")
    arguments = parser.parse_args()
    shutil.rmtree(arguments.out / "usr", ignore_errors=True)
    corpus = read_corpus(arguments.root)
    chosen = choose(corpus)
    for data in corpus:
        copy_voice(data, chosen, arguments.root, arguments.out)
    # The packages' copyright files are all the same; this one carries the licences in full.
    shutil.copyfile(arguments.root / "usr/share/doc/asterisk-core-sounds-en/copyright", arguments.out / "LICENSE")
    size = sum(file.stat().st_size for file in arguments.out.rglob("*") if file.is_file())
    print(f"{len(chosen)} prompts in every language, {size / 1e6:.2f} MB in {arguments.out}")


if __name__ == "__main__":
    main()
