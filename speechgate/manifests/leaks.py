"""What train and held-out sets share: sentences, speeches and speakers; and what one split holds twice.

Held-out manifests are read into memory, as fingerprints of eight bytes; training manifests are streamed.
"""

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from lhotse.cut import Cut

from speechgate.manifests.cuts import read_cuts
from speechgate.text.normalize import normalize_for_scoring

EXAMPLES = 10


def _fingerprint(*parts: str) -> int:
    return int.from_bytes(blake2b("\0".join(parts).encode(), digest_size=8).digest(), "little")


def _traits(cut: Cut) -> Iterator[tuple[str, int]]:
    """What a cut may share with one of another split: (what, fingerprint); a sentence said or written, by language."""
    supervision = cut.supervisions[0]
    texts = {supervision.language: supervision.text, **(supervision.custom or {}).get("translated_text", {})}
    for language, text in texts.items():
        yield f"{language} sentence", _fingerprint(language, normalize_for_scoring(text, language))
    yield "speech", _fingerprint(cut.recording.id)
    if supervision.speaker:
        yield "speaker", _fingerprint(supervision.speaker)


def find_leaks(manifests: Mapping[str, Iterable[Path]]) -> list[dict[str, Any]]:
    """Return a row for each pair of splits and each kind of trait that they share.

    ``count`` is the number of cuts of the second split of the pair whose trait is in the first, ``examples`` some of
    their ids.  Splits whose names begin alike, as test and test_he, are not compared with one another.

    Args:
        manifests: the manifests of each split; several where corpora are mixed.
    """
    train = [split for split in manifests if split.startswith("train")]
    held_out = {split: _traits_of(manifests[split]) for split in manifests if split not in train}
    rows = []
    for first, second in combinations(held_out, 2):
        if first.partition("_")[0] == second.partition("_")[0]:
            continue
        rows += _rows(first, second, _shared(held_out[first], held_out[second]))
    for split in train:
        shared: dict[str, dict[str, set[str]]] = {name: defaultdict(set) for name in held_out}
        for path in manifests[split]:
            for cut in read_cuts(path):
                for trait in _traits(cut):
                    for name, traits in held_out.items():
                        if trait in traits:
                            shared[name][trait[0]] |= traits[trait]
        for name, found in shared.items():
            rows += _rows(split, name, found)
    return rows


def _traits_of(paths: Iterable[Path]) -> dict[tuple[str, int], set[str]]:
    """The ids of the cuts with each trait."""
    ids: dict[tuple[str, int], set[str]] = defaultdict(set)
    for path in paths:
        for cut in read_cuts(path):
            for trait in _traits(cut):
                ids[trait].add(cut.id)
    return ids


def _shared(
    first: Mapping[tuple[str, int], set[str]], second: Mapping[tuple[str, int], set[str]]
) -> dict[str, set[str]]:
    shared: dict[str, set[str]] = defaultdict(set)
    for trait in first.keys() & second.keys():
        shared[trait[0]] |= second[trait]
    return shared


def _rows(first: str, second: str, shared: Mapping[str, set[str]]) -> list[dict[str, Any]]:
    return [
        {"splits": [first, second], "shared": what, "count": len(ids), "examples": sorted(ids)[:EXAMPLES]}
        for what, ids in sorted(shared.items())
        if ids
    ]


class Repeats:
    """Counts texts that one speaker says again in a split, and ids that occur twice: eight bytes a cut and kind."""

    def __init__(self) -> None:
        self._texts: dict[str, array] = defaultdict(lambda: array("Q"))
        self._ids: dict[str, array] = defaultdict(lambda: array("Q"))

    def add(self, cut: Cut, split: str) -> None:
        supervision = cut.supervisions[0]
        text = normalize_for_scoring(supervision.text, supervision.language)
        self._texts[split].append(_fingerprint(supervision.language, supervision.speaker or "", text))
        self.add_id(cut, split)

    def add_id(self, cut: Cut, split: str) -> None:
        """Only look for ids that occur twice."""
        self._ids[split].append(_fingerprint(cut.id))

    def repeated_texts(self) -> dict[str, int]:
        """By split, how many cuts repeat the text of an earlier one of the same speaker."""
        return {split: _repeats(values) for split, values in self._texts.items()}

    def repeated_ids(self) -> Counter[str]:
        """By split, how many cuts have the id of an earlier one."""
        return Counter({split: _repeats(values) for split, values in self._ids.items()})


def _repeats(values: array) -> int:
    return len(values) - len(np.unique(np.frombuffer(values, dtype=np.uint64)))
