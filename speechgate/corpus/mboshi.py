"""Mboshi-French (Godard et al., LREC 2018): 4.5 hours of read Mboshi with transcripts and French translations.

The corpus has train and dev only, and published results are on dev.  So dev is ``test`` here, and one French sentence
in twenty of train, with all who say it, is ``dev``.  ``test_unseen`` is test without the French sentences of train.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from speechgate.corpus.frame import Corpus
from speechgate.corpus.lists import read_lines
from speechgate.corpus.utterance import Utterance
from speechgate.text.normalize import normalize_for_scoring

FOLDER = "full_corpus_newsplit"
_DEV_ONE_IN = 20


def read(root: Path) -> Iterator[Utterance]:
    """The utterances by recording; those of test with an unseen French sentence come twice, for both splits."""
    folder = root / FOLDER if (root / FOLDER).is_dir() else root
    trained = set()
    for wav in sorted((folder / "train").glob("*.wav")):
        sentence = _sentence(wav)
        trained.add(sentence)
        yield _utterance(wav, "dev" if held_out(sentence) else "train")
    for wav in sorted((folder / "dev").glob("*.wav")):
        yield _utterance(wav, "test")
        if _sentence(wav) not in trained:
            yield _utterance(wav, "test_unseen")


def _utterance(wav: Path, split: str) -> Utterance:
    text = _text(wav, ".mb")
    return Utterance(
        id=f"mdw-{wav.stem}",
        split=split,
        audio=wav,
        text=text or "",
        language="mdw",
        translations={"fra": _text(wav, ".fr") or ""},
        speaker=wav.stem.partition("_")[0],
        problem="missing transcript" if text is None else None,
    )


def _text(wav: Path, suffix: str) -> str | None:
    """The only line of a text as it was written; .cleaned files have lost apostrophes, or have HTML escapes."""
    path = wav.with_suffix(suffix)
    return " ".join(read_lines(path)).strip() if path.is_file() else None


def _sentence(wav: Path) -> str:
    return normalize_for_scoring(_text(wav, ".fr") or "", "fra")


def held_out(sentence: str) -> bool:
    """Whether a French sentence of train, normalised, is for dev."""
    return int.from_bytes(hashlib.sha256(sentence.encode()).digest()[:8], "big") % _DEV_ONE_IN == 0


def lacks(root: Path) -> list[str]:
    """Folders without recordings or texts."""
    folder = root / FOLDER if (root / FOLDER).is_dir() else root
    patterns = [(split, suffix) for split in ("train", "dev") for suffix in ("wav", "mb", "fr")]
    return [
        f"{split}/*.{suffix}" for split, suffix in patterns if next((folder / split).glob(f"*.{suffix}"), None) is None
    ]


STEPS = (
    "The corpus is public, 0.6 GB: git clone --depth 1 https://github.com/besacier/mboshi-french-parallel-corpus, "
    f"and give the clone, or its folder {FOLDER}: --source PATH"
)
LISTS = tuple(
    f"{top}{split}/*.{suffix}" for top in ("", f"{FOLDER}/") for split in ("train", "dev") for suffix in ("mb", "fr")
)
CORPUS = Corpus("mboshi", read, lacks, STEPS, LISTS, splits=("train", "dev", "test", "test_unseen"), units="char")
