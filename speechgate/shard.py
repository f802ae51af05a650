"""The shard of a stage's work that this process does, where several were started for it."""

import heapq
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from speechgate.errors import ConfigError


@dataclass(frozen=True)
class Shard:
    """Shard ``index`` (from 0) of ``count``; people and file names count from 1."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ConfigError(f"shard {self.index + 1} of {self.count}: there is no such shard")

    def __str__(self) -> str:
        return f"{self.index + 1} of {self.count}"

    @property
    def name(self) -> str:
        return f"{self.index + 1:03}-of-{self.count:03}"


WHOLE = Shard()


def started_shard(environment: Mapping[str, str] = os.environ) -> Shard:
    """The shard that this process was started for; all, if it was started alone.

    By torchrun (or anything that sets RANK and WORLD_SIZE), by srun with several tasks, as an element of a Slurm array,
    or as one of the processes of an element.

    Raises:
        ConfigError: an array with holes, or a variable that is no number.
    """

    def number(name: str) -> int:
        try:
            return int(environment[name])
        except (KeyError, ValueError) as error:
            raise ConfigError(f"the variable {name} is {environment.get(name)!r}: it has to be a number") from error

    process, processes, element, elements = 0, 1, 0, 1
    if "RANK" in environment and "WORLD_SIZE" in environment:
        process, processes = number("RANK"), number("WORLD_SIZE")
    elif "SLURM_STEP_NUM_TASKS" in environment:  # set by srun; SLURM_NTASKS is also that of a script without srun
        process, processes = number("SLURM_PROCID"), number("SLURM_STEP_NUM_TASKS")
    if "SLURM_ARRAY_TASK_ID" in environment:
        first, last = number("SLURM_ARRAY_TASK_MIN"), number("SLURM_ARRAY_TASK_MAX")
        step = number("SLURM_ARRAY_TASK_STEP") if "SLURM_ARRAY_TASK_STEP" in environment else 1
        element, elements = (number("SLURM_ARRAY_TASK_ID") - first) // step, (last - first) // step + 1
        if elements != number("SLURM_ARRAY_TASK_COUNT"):
            raise ConfigError(
                f"the Slurm array has {environment['SLURM_ARRAY_TASK_COUNT']} elements between {first} and {last}: "
                f"shards need an array without holes, such as --array=1-{environment['SLURM_ARRAY_TASK_COUNT']}"
            )
    return Shard(element * processes + process, elements * processes)


def local_rank(environment: Mapping[str, str] = os.environ) -> int:
    """The number of this process among those of its job on this machine."""
    return int(environment.get("LOCAL_RANK", environment.get("SLURM_LOCALID", 0)))


def local_processes(environment: Mapping[str, str] = os.environ) -> int:
    """How many processes torchrun started on this machine; 1 where it was something else."""
    return int(environment.get("LOCAL_WORLD_SIZE", 1))


def cores(environment: Mapping[str, str] = os.environ) -> int:
    """The processor cores for this process: those that its job may use, shared with torchrun's others beside it."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, allowed // local_processes(environment))


def deal(costs: Sequence[float], count: int) -> list[list[int]]:
    """Deal pieces of work to ``count`` shards of nearly equal cost; returns the indices of each, in order.

    The most costly first, each to the shard that has least (Graham, 1969): no shard has more than another by more
    than one piece.  Equal costs are dealt equally, so that all processes find the same.
    """
    shards: list[list[int]] = [[] for _ in range(count)]
    loads = [(0.0, index) for index in range(count)]
    heapq.heapify(loads)
    for piece in sorted(range(len(costs)), key=lambda piece: -costs[piece]):
        load, index = loads[0]
        shards[index].append(piece)
        heapq.heapreplace(loads, (load + costs[piece], index))
    return [sorted(pieces) for pieces in shards]
