"""Common Voice (Ardila et al., LREC 2020): sentences read by volunteers, a folder a language.

The layout is that which lhotse's recipe reads; that recipe opens every recording before the first cut and ends at an
unreadable one, so the tables are read here.
"""

from collections.abc import Iterator
from pathlib import Path

from speechgate.corpus.covost2 import language
from speechgate.corpus.frame import Corpus
from speechgate.corpus.lists import absent, read_table
from speechgate.corpus.splits import SPLITS
from speechgate.corpus.utterance import Utterance


def read(root: Path) -> Iterator[Utterance]:
    """The utterances of every language that has tables."""
    for folder in _folders(root):
        lang3 = language(folder.name)
        for split in SPLITS:
            for row in read_table(folder / f"{split}.tsv", ("client_id", "path", "sentence")):
                clip = folder / "clips" / row["path"]
                yield Utterance(
                    id=f"{lang3}-{Path(row['path']).stem}",
                    split=split,
                    audio=clip,
                    text=row["sentence"],
                    language=lang3,
                    speaker=row["client_id"] or None,
                    problem=None if clip.is_file() else "missing recording",
                )


def _folders(root: Path) -> list[Path]:
    return sorted(table.parent for table in root.glob("*/train.tsv"))


def lacks(root: Path) -> list[str]:
    """Tables and clips that a language lacks."""
    folders = _folders(root)
    if not folders:
        return [f"tables {root}/<language>/train.tsv (give the folder of the release, cv-corpus-...)"]
    return absent(folder / name for folder in folders for name in ("dev.tsv", "test.tsv", "clips"))


STEPS = (
    "Common Voice (CC0) is handed out by https://commonvoice.mozilla.org/datasets after a form, with the SHA-256 of "
    "each archive: unpack them, which share the folder cv-corpus-<release>, and give it: --source PATH/cv-corpus-..."
)
LISTS = tuple(f"*/{split}.tsv" for split in SPLITS)
CORPUS = Corpus("common_voice", read, lacks, STEPS, LISTS)
