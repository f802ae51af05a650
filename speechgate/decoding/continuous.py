"""Continuous batching: an utterance that is finished makes room for one that waits.

Utterances are encoded in batches as they come; the search holds as many as the largest of these batches would,
padding included.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from speechgate.decoding.encoded import Encoded
from speechgate.decoding.memory import is_out_of_memory, make_room
from speechgate.decoding.search import BeamSearch, Hypothesis
from speechgate.task import Task

Begin = Callable[[Sequence[tuple[Encoded, int]]], BeamSearch]


@dataclass(frozen=True, eq=False)
class Utterance:
    """Row ``row`` of ``encoded``, and the ``number``-th utterance of all, counted from 0.

    Those of one ``group`` can be searched together; those that enter together have equal ``prompt_length``.
    """

    number: int
    encoded: Encoded
    row: int
    group: Hashable
    prompt_length: int

    @property
    def frames(self) -> int:
        return int(self.encoded.frames_B[self.row])


def search_continuously(
    batches: Iterable[Encoded],
    begin: Begin,
    group_of: Callable[[Task], Hashable],
    prompt_of: Callable[[Task], Sequence[int]],
    free: Callable[[], None],
) -> Iterator[tuple[Utterance, list[Hypothesis]]]:
    """Yield the n best hypotheses of every utterance as its search ends.

    Args:
        batches: asked for when there is room for more.
        begin: starts a search for utterances of one group, with prompts of one length.
        group_of: tells which utterances can be searched together.
        prompt_of: what follows <sos>.
        free: gives back what memory can be spared.

    Raises:
        torch.OutOfMemoryError, RuntimeError: an utterance does not fit in memory alone.
    """
    queue = _Queue(batches, group_of, prompt_of)
    running = _Running(begin)
    changed = True
    while True:
        entering = queue.take(running.utterances) if changed else []
        together = [*running.utterances, *entering]
        if not together:
            return
        finished = None
        try:
            running.admit(entering)
            finished = running.step()
        except RuntimeError as error:
            if not is_out_of_memory(error) or len(together) == 1:
                raise
        if finished is None:  # out of the handler, where the error no longer holds the frames, and they their tensors
            running = _Running(begin)
            make_room(free)
            queue.put_back(together)
        else:
            yield from finished
        changed = finished is None or bool(finished)


class _Running:
    """The search that goes on, and who is in its rows: None where one has finished."""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin
        self._search: BeamSearch | None = None
        self._rows: list[Utterance | None] = []

    @property
    def utterances(self) -> list[Utterance]:
        return [utterance for utterance in self._rows if utterance is not None]

    def admit(self, entering: Sequence[Utterance]) -> None:
        """Let some enter, first in the rows of those that have finished, which leave."""
        rows = self._rows
        if not entering and len(rows) == len(self.utterances):
            return
        fresh = None
        if entering:
            fresh = self._begin([(utterance.encoded, utterance.row) for utterance in entering])
            fresh.extend()
        if self._search is None or not self.utterances:
            self._search, self._rows = fresh, list(entering)
            return
        arriving = deque(range(len(rows), len(rows) + len(entering)))
        sources = []
        for row, utterance in enumerate(rows):
            if utterance is not None:
                sources.append(row)
            elif arriving:
                sources.append(arriving.popleft())
        sources += arriving
        self._search.exchange(sources, fresh)
        self._rows = [[*rows, *entering][at] for at in sources]

    def step(self) -> list[tuple[Utterance, list[Hypothesis]]]:
        """One step for all; returns who has finished, with their hypotheses."""
        assert self._search is not None
        self._search.follow()
        self._search.extend()
        done = {row: self._rows[row] for row in self._search.finished()}
        finished = {row: utterance for row, utterance in done.items() if utterance is not None}
        for row in finished:
            self._rows[row] = None
        return list(zip(finished.values(), self._search.best(list(finished)), strict=True)) if finished else []


class _Queue:
    """Who waits; more are encoded when there is room for them."""

    def __init__(
        self,
        batches: Iterable[Encoded],
        group_of: Callable[[Task], Hashable],
        prompt_of: Callable[[Task], Sequence[int]],
    ) -> None:
        self._batches = iter(batches)
        self._group_of = group_of
        self._prompt_of = prompt_of
        self._waiting: list[Utterance] = []
        self._count = 0
        self._most_frames = 0  # utterances times the frames of the longest
        self._halved = False

    def take(self, going: Sequence[Utterance]) -> list[Utterance]:
        """Who enters a search of ``going``, or begins one: first come, first served."""
        taken: list[Utterance] = []
        while True:
            inside = [*going, *taken]
            longest = max((utterance.frames for utterance in inside), default=0)
            if inside and (len(inside) + 1) * longest > self._most_frames:
                break
            if not self._waiting and not self._encode():
                break
            fitting = (utterance for utterance in self._waiting if _searched_with(utterance, inside, taken))
            found = next(fitting, None)
            if found is None or (inside and (len(inside) + 1) * found.frames > self._most_frames):
                break
            self._waiting.remove(found)
            taken.append(found)
        return taken

    def put_back(self, utterances: Sequence[Utterance]) -> None:
        """Let them wait again, since together they did not fit in memory; from now on half as many are searched."""
        self._waiting = [*utterances, *self._waiting]
        self._most_frames = len(utterances) * max(utterance.frames for utterance in utterances) // 2
        self._halved = True

    def _encode(self) -> bool:
        encoded = next(self._batches, None)
        if encoded is None:
            return False
        for row in range(len(encoded)):
            task = encoded.tasks[row]
            group = self._group_of(task), len(self._prompt_of(task))
            self._waiting.append(Utterance(self._count, encoded, row, *group))
            self._count += 1
        if not self._halved:
            self._most_frames = max(self._most_frames, len(encoded) * int(encoded.frames_B.max()))
        return True


def _searched_with(utterance: Utterance, inside: Sequence[Utterance], entering: Sequence[Utterance]) -> bool:
    """Whether it can be searched with those inside, and read its prompt with those that enter."""
    if inside and inside[0].group != utterance.group:
        return False
    return not entering or entering[0].prompt_length == utterance.prompt_length
