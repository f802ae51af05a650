"""The cuts of one or several manifests as a stream."""

from collections.abc import Iterator, Sequence

from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.utils import Seconds

from speechgate.manifests.cuts import read_cuts
from speechgate.manifests.index import ManifestIndex
from speechgate.manifests.view import CorpusView
from speechgate.task import Task


class LargeCuts:
    """Cuts that are read whenever they are iterated over; those of one language come from its shards alone."""

    def __init__(
        self, indexes: Sequence[ManifestIndex], views: Sequence[CorpusView] = (), times: Sequence[int] = ()
    ) -> None:
        """``views``, one a manifest or none, say how its cuts are shown, and ``times`` how often they come: once."""
        self.indexes = indexes
        self.views = views
        self.times = times or [1] * len(indexes)

    @property
    def count(self) -> int:
        """How many cuts there are."""
        return sum(times * index.cuts for index, times in zip(self.indexes, self.times, strict=True))

    def __iter__(self) -> Iterator[Cut]:
        for number, index in enumerate(self.indexes):
            for _ in range(self.times[number]):
                yield from self._shown(read_cuts(index.path), number)

    def of_language(self, language: str) -> CutSet:
        """A lazy set of the cuts in which ``language`` is spoken; the caller filters those of small manifests."""
        having = [
            (number, index, times)
            for number, (index, times) in enumerate(zip(self.indexes, self.times, strict=True))
            if not index.shards or language in index.shards
        ]
        sets = [
            self._shown(read_cuts(index.shards.get(language, index.path)), number).repeat(times, preserve_id=True)
            for number, index, times in having
        ]
        # Chained, the rest of a small corpus would come after all of a large one.
        sizes = [times * index.cuts for _, index, times in having]
        return CutSet.mux(*sets, weights=sizes, seed=0) if len(sets) > 1 else sets[0]

    def seconds_of(self, task: Task, shortest: Seconds, longest: Seconds) -> Seconds:
        """The audio of a task in cuts of ``shortest`` to ``longest`` seconds, to a whole second."""
        return sum(
            times * index.seconds_of(task, shortest, longest)
            for index, times in zip(self.indexes, self.times, strict=True)
        )

    def _shown(self, cuts: CutSet, number: int) -> CutSet:
        return cuts.map(self.views[number]) if self.views else cuts
