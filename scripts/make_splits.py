#!/usr/bin/env python3
"""Make the split lists of the prompts corpus, recipes/prompts/splits/{train,dev,test}.txt, from an unpacked tree.

    scripts/make_splits.py data/prompts/source

Held out are prompts that are real phrases in every language: usable in all, each recording long enough to say
something and short enough to score, no digits, letters or names, no text that cannot belong to its audio.
"""

import argparse
from pathlib import Path

from speechgate.corpus.frame import RECIPES
from speechgate.corpus.prompts_files import VoiceData, read_corpus
from speechgate.corpus.prompts_source import CORPUS
from speechgate.corpus.splits import SPLITS_FOLDER, make_splits
from speechgate.files import write_text
from speechgate.manifests.quality import Quality, load_quality
from speechgate.text.normalize import normalize_for_training

SEED = 0
TEST_IDS, DEV_IDS = 48, 24
MIN_SECONDS, MAX_SECONDS = 1.0, 15.0
NOT_PHRASES = ("digits/", "letters/", "phonetic/", "spy-")  # single words, and names of channel drivers
G722_BYTES_PER_SECOND = 8000


def is_phrase(data: VoiceData, prompt_id: str, quality: Quality) -> bool:
    """Whether a usable recording may be held out."""
    seconds = data.recordings[prompt_id].stat().st_size / G722_BYTES_PER_SECOND
    text = normalize_for_training(data.transcript.texts[prompt_id], data.voice.lang3)
    return (
        not prompt_id.startswith(NOT_PHRASES)
        and MIN_SECONDS <= seconds <= MAX_SECONDS
        and len(text) <= quality.max_characters_per_second * seconds
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="the folder that holds usr/share/asterisk/sounds")
    parser.add_argument("--out", type=Path, default=SPLITS_FOLDER, help="where the lists go")
    arguments = parser.parse_args()
    corpus = read_corpus(arguments.root)
    quality = load_quality(RECIPES / CORPUS / "conf" / "quality.yaml")
    eligible = set.intersection(*({i for i in data.usable if is_phrase(data, i, quality)} for data in corpus))
    texts = {data.voice.lang3: data.transcript.texts for data in corpus}
    for split, ids in make_splits(texts, eligible, dev=DEV_IDS, test=TEST_IDS, seed=SEED).items():
        write_text(arguments.out / f"{split}.txt", "\n".join(ids) + "\n")
        print(f"{split}: {len(ids)} ids")
    print(f"eligible to be held out: {len(eligible)} ids")


if __name__ == "__main__":
    main()
