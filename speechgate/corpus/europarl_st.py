"""Europarl-ST v1.1 (Iranzo-Sánchez et al., ICASSP 2020): debates of the European Parliament, nine languages.

There is no ASR set: the segments of all directions of a language are joined, which gives its transcripts once, each
with up to eight translations.  The split ``train_noisy`` is prepared too and not trained on by default.
"""

from collections.abc import Iterator
from pathlib import Path

from speechgate.corpus.archives import WEB, Archive
from speechgate.corpus.directions import join_directions
from speechgate.corpus.frame import Corpus
from speechgate.corpus.lists import absent, read_lines, read_parallel
from speechgate.corpus.utterance import Utterance
from speechgate.errors import ConfigError, ManifestError
from speechgate.task import to_iso3

LANGUAGES = ("de", "en", "es", "fr", "it", "nl", "pl", "pt", "ro")
_FOLDERS = {"train": "train", "train_noisy": "train-noisy", "dev": "dev", "test": "test"}


def read(root: Path) -> Iterator[Utterance]:
    """The utterances of every language that is there."""
    for src in LANGUAGES:
        yield from join_directions(_directions(root / src, src))


def _targets(folder: Path) -> list[str]:
    return [tgt for tgt in LANGUAGES if (folder / tgt).is_dir()]


def _directions(folder: Path, src: str) -> Iterator[Utterance]:
    src3 = to_iso3(src)
    for tgt in _targets(folder):
        for split, name in _FOLDERS.items():
            lists = folder / tgt / name
            if not lists.is_dir() and split == "train_noisy":
                continue
            # speakers.lst goes with speeches.lst, not with the segments; the id is the last "_" field.
            speeches = read_parallel(lists / "speeches.lst", lists / "speakers.lst")
            speakers = {speech.strip(): speaker.strip().rpartition("_")[2] for speech, speaker in speeches}
            segments = read_parallel(lists / "segments.lst", lists / f"segments.{src}", lists / f"segments.{tgt}")
            for number, (place, text, translation) in enumerate(segments, start=1):
                speech, start, end = _place(place, lists / "segments.lst", number)
                yield Utterance(
                    id=f"{src3}-{speech}-{round(100 * start):06d}-{round(100 * end):06d}",
                    split=split,
                    audio=folder / "audios" / f"{speech}.m4a",
                    text=text,
                    language=src3,
                    translations={to_iso3(tgt): translation},
                    speaker=speakers.get(speech),
                    start=start,
                    duration=end - start,
                    speech=f"{src3}-{speech}",
                )


def _place(line: str, path: Path, number: int) -> tuple[str, float, float]:
    try:
        speech, start, end = line.split()
        return speech, float(start), float(end)
    except ValueError as error:
        raise ManifestError(f"{path}, line {number}: {line!r} is not '<speech> <start> <end>'") from error


def lacks(root: Path) -> list[str]:
    """What is missing of the languages that are there: folders that a release or a broken download did not bring."""
    there = [src for src in LANGUAGES if (root / src).is_dir()]
    if not there:
        return [f"a folder of a language, such as {root / 'de'} (give the folder v1.1 itself)"]
    missing = []
    for src in there:
        targets = _targets(root / src)
        missing += absent([root / src / "audios"])
        missing += [] if targets else [f"a direction in {root / src}"]
        for tgt in targets:
            for name in ("train", "dev", "test"):
                folder = root / src / tgt / name
                names = ("segments.lst", f"segments.{src}", f"segments.{tgt}", "speeches.lst", "speakers.lst")
                missing += absent(folder / each for each in names)
        if not missing and not any(_first_speeches(root / src, targets[0])):
            missing.append(f"any of the first recordings that its lists name in {root / src / 'audios'}")
    return missing


def _first_speeches(folder: Path, tgt: str) -> Iterator[bool]:
    for line in read_lines(folder / tgt / "dev" / "speeches.lst")[:10]:
        yield (folder / "audios" / f"{line.strip()}.m4a").is_file()


def archives(source: str) -> list[Archive]:
    """All of it, about 21 GB; its publisher gives no checksum."""
    if source != WEB:
        raise ConfigError(f"source {source!r}: Europarl-ST is one archive, --source {WEB}")
    return [Archive(_URL, strip=True)]


_URL = "https://www.mllp.upv.es/europarl-st/v1.1.tar.gz"
STEPS = (
    f"Europarl-ST is free for non-commercial use (CC BY-NC 4.0), about 21 GB: --source {WEB} fetches it. Or fetch "
    f"{_URL} yourself (`wget -c` resumes), unpack it, and give the folder: --source PATH/v1.1"
)
LISTS = tuple(f"??/??/*/{name}" for name in ("segments.*", "speeches.lst", "speakers.lst"))
CORPUS = Corpus("europarl_st", read, lacks, STEPS, LISTS, splits=tuple(_FOLDERS), archives=archives)
