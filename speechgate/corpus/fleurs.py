"""FLEURS (Conneau et al., SLT 2022): the sentences of FLORES-101 read aloud in 102 languages, parallel by id.

Several speakers may read a sentence.  A cut of another language has the English text as its translation, a cut of
English those of all languages that are there; others would make manifests of gigabytes.
"""

from collections.abc import Iterator
from pathlib import Path

from lhotse.recipes.fleurs import DEFAULT_LANGUAGES

from speechgate.corpus.archives import WEB, Archive, chosen
from speechgate.corpus.frame import Corpus
from speechgate.corpus.lists import absent, read_lines
from speechgate.corpus.utterance import Utterance
from speechgate.errors import ManifestError
from speechgate.task import to_iso3

ENGLISH = "en_us"
_SPLITS = ("train", "dev", "test")
_FIELDS = 7


def read(root: Path) -> Iterator[Utterance]:
    """The utterances of every language with metadata."""
    folders = [path.name for path in sorted((root / "metadata").iterdir()) if path.is_dir()]
    english = _texts(root, ENGLISH) if ENGLISH in folders else {}
    others = {folder: _texts(root, folder) for folder in folders if folder != ENGLISH} if english else {}
    for folder in folders:
        targets = others if folder == ENGLISH else {ENGLISH: english}
        for split in _SPLITS:
            for number, name, text in _rows(root, folder, split):
                audio = root / folder / split / name
                yield Utterance(
                    id=f"{folder}-{split}-{Path(name).stem}",
                    split=split,
                    audio=audio,
                    text=text,
                    language=language(folder),
                    translations={language(tgt): texts[number] for tgt, texts in targets.items() if number in texts},
                    problem=None if audio.is_file() else "missing recording",
                )


def language(folder: str) -> str:
    """ISO 639-3 of a folder such as de_de or cmn_hans_cn."""
    return to_iso3(folder.partition("_")[0])


def _texts(root: Path, folder: str) -> dict[str, str]:
    """The text of each sentence id, as it is written (raw_transcription), whatever the split."""
    return {number: text for split in _SPLITS for number, _, text in _rows(root, folder, split)}


def _rows(root: Path, folder: str, split: str) -> Iterator[tuple[str, str, str]]:
    """(sentence id, file, raw transcription) of a table, which has no header."""
    path = root / "metadata" / folder / f"{split}.tsv"
    for line_number, line in enumerate(read_lines(path), start=1):
        fields = line.split("\t")
        if len(fields) != _FIELDS:
            raise ManifestError(f"{path}, line {line_number}: {len(fields)} fields instead of {_FIELDS}")
        yield fields[0], fields[1], fields[2]


def lacks(root: Path) -> list[str]:
    """Tables and folders of recordings that a language with metadata lacks."""
    folders = sorted(path.name for path in root.glob("metadata/*") if path.is_dir())
    if not folders:
        return [f"{root}/metadata/<language>/{{train,dev,test}}.tsv"]
    tables = [root / "metadata" / folder / f"{split}.tsv" for folder in folders for split in _SPLITS]
    return absent([*tables, *(root / folder / split for folder in folders for split in _SPLITS)])


def archives(source: str) -> list[Archive]:
    """Tables and recordings of "web:de_de,fr_fr"; their publisher gives no checksums in a list."""
    folders = chosen("fleurs", source, {folder: folder for folder in DEFAULT_LANGUAGES})
    tables = [Archive(f"{_URL}/{folder}/{split}.tsv", f"metadata/{folder}") for folder in folders for split in _SPLITS]
    recordings = [Archive(f"{_URL}/{folder}/audio/{split}.tar.gz", folder) for folder in folders for split in _SPLITS]
    return tables + recordings


_URL = "https://huggingface.co/datasets/google/fleurs/resolve/main/data"
STEPS = (
    f"FLEURS (CC BY 4.0): --source {WEB}:en_us,de_de fetches some languages. Or from "
    "https://huggingface.co/datasets/google/fleurs yourself: data/<language>/{train,dev,test}.tsv go to "
    "PATH/metadata/<language>, the recordings of data/<language>/audio/*.tar.gz to PATH/<language>/{train,dev,test}. "
    "Then --source PATH"
)
CORPUS = Corpus("fleurs", read, lacks, STEPS, lists=("metadata/*/*.tsv",), archives=archives)
