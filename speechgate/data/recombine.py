"""New utterances from the words of old ones: aligned data augmentation (Lam et al., Interspeech 2021).

A small corpus holds few distinct sentences, and a model learns them by heart: its training loss falls to nothing while
held-out words are misspelt.  Here an ASR example gives way to a chain of fragments (a few successive words each) of
other recordings in its language, cut at the boundaries that CTC finds.  Where a language has one speaker, as in
``prompts``, the chain also sounds like one recording.

The choice depends on the seed and the example's id alone, so it is the same in any worker and after a resumption.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lhotse.cut import Cut
from lhotse.utils import Seconds

from speechgate.data.chain import Fragment, as_chain
from speechgate.task import Task

FRAGMENT_WORDS = (1, 4)  # least and most of a fragment
MISSES = 8  # fragments in a row that are too long for the room left: the chain ends


@dataclass(frozen=True)
class AlignedWords:
    """The words of a recording; word i sounds from ``edges[i]`` to ``edges[i + 1]`` (seconds)."""

    cut: Cut
    words: tuple[str, ...]
    edges: tuple[Seconds, ...]


class Recombiner:
    """Replaces a ``share`` of the ASR examples by chains of fragments, no longer than the example was."""

    def __init__(self, aligned: Iterable[AlignedWords], share: float, seed: int) -> None:
        self.share = share
        self.seed = seed
        self.by_language: dict[str, list[AlignedWords]] = {}
        for recording in aligned:
            self.by_language.setdefault(recording.cut.supervisions[0].language, []).append(recording)

    def __call__(self, cut: Cut) -> Cut:
        """Return ``cut`` or, in its place, a chain of words of the same length."""
        task = Task.parse(cut.custom["task"])
        rng = random.Random(f"{self.seed} {cut.id}")
        if task.kind != "asr" or task.src not in self.by_language or rng.random() >= self.share:
            return cut
        chain = list(self._chain(self.by_language[task.src], cut.duration, rng))
        if not chain:
            return cut
        texts, fragments = zip(*chain, strict=True)
        return as_chain(cut, fragments, " ".join(texts))

    def _chain(
        self, recordings: Sequence[AlignedWords], room: Seconds, rng: random.Random
    ) -> Iterator[tuple[str, Fragment]]:
        """Words with where they sound, until no more fit."""
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
            yield " ".join(recording.words[first : first + count]), Fragment(recording.cut, start, end)
