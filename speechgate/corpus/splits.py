"""Splits by prompt id: no sentence that is tested occurs in training, in any language.

The lists are committed in recipes/prompts/splits; scripts/make_splits.py makes them.
"""

import hashlib
import random
from collections.abc import Collection, Mapping
from pathlib import Path

from speechgate.errors import ManifestError
from speechgate.text.normalize import fold, normalize_for_scoring

SPLITS = ("train", "dev", "test")
SPLITS_FOLDER = Path(__file__).resolve().parents[2] / "recipes" / "prompts" / "splits"


def read_splits(folder: Path = SPLITS_FOLDER) -> dict[str, str]:
    """Return the split of each prompt id.

    Raises:
        ManifestError: a list is missing, or an id is in two of them.
    """
    splits: dict[str, str] = {}
    for split in SPLITS:
        path = folder / f"{split}.txt"
        try:
            ids = path.read_text(encoding="utf-8").split()
        except OSError as error:
            raise ManifestError(f"split list {path} cannot be read: {error.strerror}") from error
        for prompt_id in ids:
            if prompt_id in splits:
                raise ManifestError(f"{path}: {prompt_id} is in {splits[prompt_id]} already")
            splits[prompt_id] = split
    return splits


def splits_digest(splits: Mapping[str, str]) -> str:
    """A short fingerprint of the lists, by which a preparation knows whether they have changed."""
    return hashlib.sha256(repr(sorted(splits.items())).encode()).hexdigest()[:16]


def make_splits(
    texts: Mapping[str, Mapping[str, str]], eligible: Collection[str], dev: int, test: int, seed: int
) -> dict[str, list[str]]:
    """Choose ``test`` and ``dev`` ids among the ``eligible`` ones; all others train.

    ``texts`` is {language: {prompt id: text}}.  Ids that share a text in any language stay together, so a group is
    held out only if all of it is eligible.
    """
    groups = _same_text_groups(texts)
    candidates = [group for group in groups if all(prompt_id in eligible for prompt_id in group)]
    random.Random(seed).shuffle(candidates)
    splits: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    for group in candidates:
        for split, size in (("test", test), ("dev", dev)):
            if len(splits[split]) + len(group) <= size:
                splits[split] += group
                break
    held_out = {prompt_id for ids in splits.values() for prompt_id in ids}
    splits["train"] = [prompt_id for group in groups for prompt_id in group if prompt_id not in held_out]
    return {split: sorted(ids) for split, ids in splits.items()}


def _same_text_groups(texts: Mapping[str, Mapping[str, str]]) -> list[list[str]]:
    """Connected components of the ids, joined where two have the same normalised text in a language."""
    leader: dict[str, str] = {}

    def find(prompt_id: str) -> str:
        while leader.setdefault(prompt_id, prompt_id) != prompt_id:
            prompt_id = leader[prompt_id]
        return prompt_id

    for language, entries in sorted(texts.items()):
        first_with: dict[str, str] = {}
        for prompt_id, text in sorted(entries.items()):
            text = normalize_for_scoring(fold(text, language, "prompts"), language)
            other = first_with.setdefault(text, prompt_id)
            leader[find(prompt_id)] = find(other)
    groups: dict[str, list[str]] = {}
    for prompt_id in sorted(leader):
        groups.setdefault(find(prompt_id), []).append(prompt_id)
    return list(groups.values())
