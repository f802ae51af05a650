"""Multilingual TEDx (Salesky et al., Interspeech 2021), OpenSLR 100: talks in eight languages, some translated.

<src>-<src> has the transcripts of all talks; <src>-<tgt> those of the translated ones, which are joined to them.
"""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from speechgate.corpus.archives import WEB, Archive, chosen
from speechgate.corpus.directions import join_directions
from speechgate.corpus.frame import Corpus
from speechgate.corpus.lists import absent, read_parallel
from speechgate.corpus.utterance import Utterance
from speechgate.errors import ManifestError
from speechgate.task import to_iso3

_FOLDERS = {"train": "train", "dev": "valid", "test": "test"}


def _directions(root: Path) -> list[tuple[str, str, Path]]:
    """(source, target, folder), the transcripts of a language before its translations."""
    found = [(folder.name[:2], folder.name[3:], folder) for folder in root.glob("??-??") if folder.is_dir()]
    return sorted(found, key=lambda each: (each[0], each[0] != each[1], each[1]))


def read(root: Path) -> Iterator[Utterance]:
    """The utterances of every language that is there."""
    for src, directions in groupby(_directions(root), key=lambda each: each[0]):
        yield from join_directions(
            utterance for _, tgt, folder in directions for utterance in _direction(folder / "data", src, tgt)
        )


def _direction(data: Path, src: str, tgt: str) -> Iterator[Utterance]:
    src3 = to_iso3(src)
    for split, name in _FOLDERS.items():
        lists = data / name / "txt"
        files = [lists / "segments", lists / f"{name}.{src}", lists / f"{name}.{tgt}"]
        for number, (place, text, translation) in enumerate(read_parallel(*files), start=1):
            try:
                _, talk, start, end = place.split()
                begins, ends = float(start), float(end)
            except ValueError as error:
                raise ManifestError(f"{files[0]}, line {number}: {place!r} is not a Kaldi segment") from error
            yield Utterance(
                id=f"{src3}-{talk}-{round(100 * begins):07d}-{round(100 * ends):07d}",
                split=split,
                audio=data / name / "wav" / f"{talk}.flac",
                text=text,
                language=src3,
                translations={} if tgt == src else {to_iso3(tgt): translation},
                speaker=f"{src3}-{talk}",  # one talk, one speaker
                start=round(begins, 2),
                duration=round(ends - begins, 2),
                speech=f"{src3}-{talk}",
            )


def lacks(root: Path) -> list[str]:
    """Lists and folders of recordings that a direction lacks."""
    directions = _directions(root)
    if not directions:
        return [f"a folder such as {root / 'es-es'}"]
    wanted = []
    for src, tgt, folder in directions:
        for name in _FOLDERS.values():
            lists = folder / "data" / name / "txt"
            wanted += [
                folder / "data" / name / "wav",
                lists / "segments",
                lists / f"{name}.{src}",
                lists / f"{name}.{tgt}",
            ]
    return absent(wanted)


def archives(source: str) -> list[Archive]:
    """Talks with transcripts ("web:es") and their translations ("web:es,es-en"); their publisher gives no checksums."""
    return [Archive(f"{_URL}/mtedx_{name}.tgz") for name in chosen("mtedx", source, {name: name for name in _NAMES})]


_URL = "https://www.openslr.org/resources/100"
_NAMES = (
    *("ar", "de", "el", "es", "fr", "it", "pt", "ru"),
    *("el-en", "es-en", "es-fr", "es-it", "es-pt", "fr-en", "fr-es", "fr-pt"),
    *("it-en", "it-es", "pt-en", "pt-es", "ru-en"),
)
STEPS = (
    f"Multilingual TEDx (CC BY-NC-ND 4.0): --source {WEB}:es,es-en fetches talks and translations. Or fetch "
    "mtedx_<language>.tgz and mtedx_<source>-<target>.tgz from https://www.openslr.org/100 yourself (`wget -c` "
    "resumes), unpack them to PATH/<source>-<target>, and give --source PATH"
)
CORPUS = Corpus("mtedx", read, lacks, STEPS, lists=("??-??/data/*/txt/*",), archives=archives)
