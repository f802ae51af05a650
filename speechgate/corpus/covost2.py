"""CoVoST 2 (Wang et al., 2021): Common Voice 4 with translations, 21 languages into English and English into 15.

The splits are those of CoVoST's own tables: a larger train than Common Voice's, whose dev and test it keeps.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from speechgate.corpus.directions import join_directions
from speechgate.corpus.frame import Corpus
from speechgate.corpus.lists import read_table
from speechgate.corpus.utterance import Utterance
from speechgate.task import to_iso3

_TABLE = re.compile(r"covost_v2\.([\w-]+)_([\w-]+)\.(train|dev|test)\.tsv")
_COLUMNS = ("path", "sentence", "translation", "client_id")
_SPLITS = ("train", "dev", "test")


def read(root: Path) -> Iterator[Utterance]:
    """The utterances of every language that has tables; a clip that is not there is a ``problem``."""
    for folder in sorted({table.parent for table in root.glob("*/covost_v2.*.tsv")}):
        yield from join_directions(_directions(folder))


def _directions(folder: Path) -> Iterator[Utterance]:
    for table in sorted(folder.glob("covost_v2.*.tsv")):
        if not (parts := _TABLE.fullmatch(table.name)):
            continue
        src, tgt, split = parts.groups()
        src3, tgt3 = language(src), language(tgt)
        for row in read_table(table, _COLUMNS):
            clip = folder / "clips" / row["path"]
            yield Utterance(
                id=f"{src3}-{Path(row['path']).stem}",
                split=split,
                audio=clip,
                text=row["sentence"],
                language=src3,
                translations={tgt3: row["translation"]},
                speaker=row["client_id"] or None,
                speech=f"{src3}-{Path(row['path']).stem}",
                problem=None if clip.is_file() else "missing recording",
            )


def language(code: str) -> str:
    """ISO 639-3 of Common Voice's code: zh-CN, sv-SE and the like name a region too."""
    return to_iso3(code.partition("-")[0])


def lacks(root: Path) -> list[str]:
    """Clips or tables that a language lacks, and tables that are not split yet."""
    tables = sorted(root.glob("*/covost_v2.*.tsv"))
    if not tables:
        return [f"tables {root}/<language>/covost_v2.<language>_<target>.{{train,dev,test}}.tsv"]
    missing = [str(table.parent / "clips") for table in tables if not (table.parent / "clips").is_dir()]
    for table in tables:
        stem = re.sub(r"(\.(train|dev|test))?\.tsv$", "", table.name)
        names = [f"{stem}.{split}.tsv" for split in _SPLITS]
        missing += [str(table.parent / name) for name in names if not (table.parent / name).is_file()]
    return sorted(set(missing))


STEPS = (
    "Common Voice is handed out by https://commonvoice.mozilla.org/datasets after a form: take version 4 of each "
    "language and unpack it to PATH/<language>/clips. CoVoST's tables are at "
    "https://github.com/facebookresearch/covost: split them with its get_covost_splits.py (columns path, sentence, "
    "translation, client_id) into PATH/<language>. Then --source PATH"
)
CORPUS = Corpus("covost2", read, lacks, STEPS, lists=("*/covost_v2.*.tsv",))
