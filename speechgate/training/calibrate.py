"""After training: the scores above which gates open, so that held-out utterances skip the target.

A penalty only pulls, and averaged weights move what it reached.  Here each stack gets one threshold, or one for each
entry of ``gates.targets``.

Shapes: U utterances, S decisions about a stack.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from lhotse.cut import Cut
from torch import Tensor

from speechgate.decoding.decode import examples_of, gates_of
from speechgate.decoding.engine import Engine
from speechgate.decoding.search import SearchOptions
from speechgate.gates.targets import closest_key, target_of
from speechgate.model.checkpoint import Checkpoint
from speechgate.task import Task

PASSES = 16  # at most, over the utterances, a stack; gates that see no other gate's effect need two
CLOSE, NEAR = 0.0025, 0.01  # of the target: near enough to stop, and to say nothing
FINEST = 1e-3  # difference of thresholds


@dataclass
class _Search:
    """The search for one threshold: between ``low``, which skips too little, and ``high``, which skips too much."""

    target: float
    threshold: float
    rows: list[int] = field(default_factory=list)
    low: float = -math.inf
    high: float = math.inf
    best: tuple[float, float, float] = (math.inf, 0.0, 0.0)  # what it missed the target by, threshold, share skipped
    halve: bool = False
    done: bool = False

    def look(self, scores_US: Tensor, cost_S: Tensor, *, fixed: bool) -> None:
        """Note what the threshold skips, and move on.

        ``fixed`` scores do not depend on the threshold: the nearest that they allow ends the search.  Others follow it,
        and may move on as it comes: every other step then halves what is left.
        """
        share = share_below(scores_US, cost_S, self.threshold)
        missed = abs(share - self.target)
        self.best = min(self.best, (missed, self.threshold, share))
        found, reached = nearest_threshold(scores_US, cost_S, self.target)
        closable_N = scores_US[scores_US.isfinite()]
        nearest = fixed and missed <= abs(reached - self.target) + 1e-9
        self.done = missed <= CLOSE or nearest or not len(closable_N)
        if self.done:
            return
        if math.isinf(self.low):
            self.low, self.high = float(closable_N.min()) - 1, float(closable_N.max()) + 1
        if share < self.target:
            self.low = max(self.low, self.threshold)
        else:
            self.high = min(self.high, self.threshold)
        follow = self.low < found < self.high and not self.halve
        self.threshold = found if follow else (self.low + self.high) / 2
        self.halve = not fixed and not self.halve
        self.done = self.high - self.low < FINEST


def calibrate(checkpoint: Checkpoint, cuts: Iterable[Cut], tasks: Sequence[Task]) -> None:
    """Set the thresholds of gates of the threshold rule by the examples of ``cuts``, and say what they skip.

    Stacks are taken in the order in which they run, for the encoder's gates change what the decoder's see.  An example
    counts as much as any other.  What no example stands for keeps its threshold.
    """
    examples = examples_of(cuts, tasks)
    given = [Task.parse(cut.custom["task"]) for cut in examples]
    engine = Engine(checkpoint, SearchOptions(ctc_weight=0.0))
    gates: Any = checkpoint.model.gates
    for stack in gates.stacks:
        kept, cost_S = dict(gates.config.thresholds), gates.decision_costs(stack).cpu()
        searches: dict[str, _Search] = {}
        for row, task in enumerate(given):
            key = _name(gates.config.targets, stack, task)
            start = kept[key] if key in kept else kept.get(stack, 0.0)
            searches.setdefault(key, _Search(target_of(gates.config, stack, task), start)).rows.append(row)
        for _ in range(PASSES):
            checkpoint.calibrate(kept | {key: search.threshold for key, search in searches.items()})
            scores_US = _scores(engine, examples, checkpoint.config.min_seconds, stack)
            for search in searches.values():
                if not search.done:
                    search.look(scores_US[search.rows], cost_S, fixed=gates.config.scope == "global")
            if all(search.done for search in searches.values()):
                break
        checkpoint.calibrate(kept | {key: search.best[1] for key, search in searches.items()})
        for key, search in searches.items():
            missed, threshold, share = search.best
            reached = f"{share:.1%} skipped of {search.target:.1%}, {len(search.rows)} held-out examples"
            note = "" if missed <= NEAR else ": no threshold was found that comes nearer"
            print(f"gates of {key} open above {threshold:.4g}: {reached}{note}")


def share_below(scores_US: Tensor, cost_S: Tensor, threshold: float) -> float:
    """The share of the cost that is closed where gates open above ``threshold``, a mean over the utterances."""
    closed_US = scores_US <= threshold
    return float((closed_US * cost_S.double()).sum() / (cost_S.double().sum() * len(scores_US)))


def nearest_threshold(scores_US: Tensor, cost_S: Tensor, target: float) -> tuple[float, float]:
    """The threshold whose closed share is nearest to ``target``, the lower of two as near; and that share.

    Equal scores open and close together.  Infinite scores never close.  A threshold is half-way between two scores.
    """
    ordered_N, order_N = scores_US.flatten().sort(stable=True)
    share_N = cost_S.double().expand_as(scores_US).flatten()[order_N] / (cost_S.double().sum() * len(scores_US))
    closed_N1 = torch.cat([share_N.new_zeros(1), share_N.cumsum(0)])
    edges = torch.cat([ordered_N.new_tensor([-math.inf]), ordered_N, ordered_N.new_tensor([math.inf])])
    possible_N1 = edges[:-1] < edges[1:]
    miss_N1 = torch.where(possible_N1, (closed_N1 - target).abs(), math.inf)
    place = int((miss_N1 == miss_N1.min()).nonzero()[0])
    low, high = float(edges[place]), float(edges[place + 1])
    if math.isinf(low):  # nothing is to close, or nothing can
        return (0.0 if math.isinf(high) else high - 1.0), 0.0
    if math.isinf(high):
        return low + 1.0, float(closed_N1[place])
    middle = float(torch.tensor((low + high) / 2, dtype=scores_US.dtype))  # gates compare in single precision
    return (middle if middle < high else low), float(closed_N1[place])


def never_closed(scores_US: Tensor, min_open: int) -> Tensor:
    """Scores with those of the ``min_open`` highest, which open whatever they are, as infinity."""
    highest_UM = scores_US.topk(min(min_open, scores_US.size(1)), dim=1).indices
    return scores_US.scatter(1, highest_UM, math.inf)


def _name(targets: dict[str, float], stack: str, task: Task) -> str:
    """The key of a task's threshold: what its target is set for, in this stack."""
    key = closest_key(targets, stack, task)
    return stack if key in (None, stack) else f"{stack}/{str(key).removeprefix(f'{stack}/')}"


def _scores(engine: Engine, examples: Sequence[Cut], min_seconds: float, stack: str) -> Tensor:
    """(U, S): what the gates of ``stack`` are decided by, as decoding has it, on the CPU."""
    gates: Any = engine.gates
    scores: dict[str, Tensor] = {}
    for batch, _ in gates_of(engine, examples, min_seconds):
        parts = [never_closed(each.cpu(), gates.config.min_open) for each in gates.scores[stack]]
        scores |= {cut.id: scores_S for cut, scores_S in zip(batch, torch.cat(parts, 1), strict=True)}
    return torch.stack([scores[cut.id] for cut in examples])
