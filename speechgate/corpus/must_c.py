"""MuST-C v1 to v3 (Di Gangi et al., NAACL 2019): English TED talks with translations, one folder a direction.

Each direction has a segmentation of its own, so English utterances of several directions overlap; the report counts the
repeated texts.  Train on one direction at a time, or on ST alone, where that matters.
"""

from collections.abc import Iterator
from pathlib import Path

import yaml

from speechgate.corpus.frame import Corpus
from speechgate.corpus.lists import absent, read_parallel
from speechgate.corpus.utterance import Utterance
from speechgate.errors import ManifestError
from speechgate.task import to_iso3

_FOLDERS = {"train": "train", "dev": "dev", "test": "tst-COMMON", "test_he": "tst-HE"}


def read(root: Path) -> Iterator[Utterance]:
    """The utterances of every direction that is there."""
    for data in sorted(root.glob("en-*/data")):
        for split, name in _FOLDERS.items():
            if (data / name).is_dir() or split != "test_he":  # v3 has no tst-HE in some directions
                yield from _split(data / name, split, name, data.parent.name.partition("-")[2])


def _split(folder: Path, split: str, name: str, tgt: str) -> Iterator[Utterance]:
    tgt3 = to_iso3(tgt)
    places = _segments(folder / "txt" / f"{name}.yaml")
    texts = list(read_parallel(folder / "txt" / f"{name}.en", folder / "txt" / f"{name}.{tgt}"))
    if len(places) != len(texts):
        raise ManifestError(f"{folder}/txt: {len(places)} segments in {name}.yaml, but {len(texts)} lines of text")
    for number, (place, (text, translation)) in enumerate(zip(places, texts, strict=True)):
        try:
            wav, start, duration = str(place["wav"]), float(place["offset"]), float(place["duration"])
            speaker = str(place["speaker_id"])
        except (KeyError, TypeError, ValueError) as error:
            raise ManifestError(f"{folder}/txt/{name}.yaml, segment {number}: {error}") from error
        yield Utterance(
            id=f"eng-{tgt3}-{Path(wav).stem}-{number:06d}",
            split=split,
            audio=folder / "wav" / wav,
            text=text,  # "(Applause)" and the like are part of the text and of its scoring
            language="eng",
            translations={tgt3: translation},
            speaker=speaker,
            start=start,
            duration=duration,
            speech=f"eng-{Path(wav).stem}",
        )


def _segments(path: Path) -> list[dict]:
    """The list of a YAML file; libyaml's loader, since the files have a quarter of a million entries."""
    try:
        places = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, yaml.YAMLError) as error:
        raise ManifestError(f"list {path} cannot be read: {error}") from error
    if not isinstance(places, list):
        raise ManifestError(f"{path} is not a list of segments")
    return places


def lacks(root: Path) -> list[str]:
    """Lists and folders of recordings that a direction lacks."""
    directions = sorted(root.glob("en-*"))
    if not directions:
        return [f"a folder such as {root / 'en-de'}"]
    wanted = []
    for direction in directions:
        for name in ("train", "dev", "tst-COMMON"):
            folder = direction / "data" / name
            wanted += [
                folder / "wav",
                *(folder / "txt" / f"{name}.{end}" for end in ("yaml", "en", direction.name[3:])),
            ]
    return absent(wanted)


STEPS = (
    "MuST-C (CC BY-NC-ND 4.0) is handed out by https://mt.fbk.eu/must-c after a form, where it still is: unpack "
    "MUSTC_v*_en-<target>.tar.gz to PATH/en-<target>, and give --source PATH"
)
CORPUS = Corpus("must_c", read, lacks, STEPS, lists=("en-*/data/*/txt/*",), splits=tuple(_FOLDERS))
