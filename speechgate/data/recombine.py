"""New utterances from the words of old ones: aligned data augmentation (Lam et al., Interspeech 2021).

A small corpus holds few distinct sentences, and a model learns them by heart: its training loss falls to nothing while
held-out words are misspelt.  Here an ASR example gives way to a chain of fragments (a few successive words each) of
other recordings in its language, cut at the boundaries that CTC finds.  Where a language has one speaker, as in
``prompts``, the chain also sounds like one recording.

The choice depends on the seed and the example's id alone, so it is the same in any worker and after a resumption.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from lhotse.cut import Cut
from lhotse.utils import fastcopy
from torch import Tensor

from speechgate.task import Task

Seconds = float
FRAGMENT_WORDS = (1, 4)  # least and most of a fragment
MISSES = 8  # fragments in a row that are too long for the room left: the chain ends
FADE_SECONDS = 0.005  # at both ends of a fragment, so that the joints do not click


@dataclass(frozen=True)
class AlignedWords:
    """The words of a recording; word i sounds from ``edges[i]`` to ``edges[i + 1]`` (seconds)."""

    cut: Cut
    words: tuple[str, ...]
    edges: tuple[Seconds, ...]


@dataclass(frozen=True)
class Fragment:
    """Successive words of one recording."""

    cut: Cut
    text: str
    start: Seconds
    end: Seconds


class Recombiner:
    """Replaces a ``share`` of the ASR examples by chains of fragments, no longer than the example was."""

    def __init__(self, aligned: Iterable[AlignedWords], share: float, seed: int) -> None:
        self.share = share
        self.seed = seed
        self.by_language: dict[str, list[AlignedWords]] = {}
        for recording in aligned:
            self.by_language.setdefault(recording.cut.supervisions[0].language, []).append(recording)

    def __call__(self, cut: Cut) -> Cut:
        """Return ``cut`` or, in its place, one with another text and with ``custom["fragments"]`` (see load_chain)."""
        task = Task.parse(cut.custom["task"])
        rng = random.Random(f"{self.seed} {cut.id}")
        if task.kind != "asr" or task.src not in self.by_language or rng.random() >= self.share:
            return cut
        chain = list(self._chain(self.by_language[task.src], cut.duration, rng))
        if not chain:
            return cut
        supervision = fastcopy(cut.supervisions[0], text=" ".join(fragment.text for fragment in chain))
        return fastcopy(cut, supervisions=[supervision], custom={**cut.custom, "fragments": chain})

    def _chain(self, recordings: Sequence[AlignedWords], room: Seconds, rng: random.Random) -> Iterable[Fragment]:
        misses = 0
        while misses < MISSES:
            recording = rng.choice(recordings)
            count = min(rng.randint(*FRAGMENT_WORDS), len(recording.words))
            first = rng.randint(0, len(recording.words) - count)
            start, end = recording.edges[first], recording.edges[first + count]
            if end - start > room:
                misses += 1
                continue
            misses, room = 0, room - (end - start)
            yield Fragment(recording.cut, " ".join(recording.words[first : first + count]), start, end)


def load_chain(cut: Cut, load: Callable[[Cut], Tensor]) -> Tensor:
    """The samples (N,) of a cut: its own, or those of its fragments one after the other.

    Args:
        load: gives the samples of a recorded cut.
    """
    if "fragments" not in cut.custom:
        return load(cut)
    pieces = []
    for fragment in cut.custom["fragments"]:
        rate = fragment.cut.sampling_rate
        piece = load(fragment.cut)[int(fragment.start * rate) : int(fragment.end * rate)].clone()
        ramp = torch.linspace(0, 1, min(int(FADE_SECONDS * rate), len(piece) // 2))
        piece[: len(ramp)] *= ramp
        piece[len(piece) - len(ramp) :] *= ramp.flip(0)
        pieces.append(piece)
    return torch.cat(pieces)
