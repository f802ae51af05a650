"""Time several ways of doing the same, turn by turn, so that a slow minute falls on all of them."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from speechgate.bench.machine import Crowding, synchronise

Parts = dict[str, float]  # milliseconds of each part of one run


@dataclass
class Samples:
    """Repeated runs of one candidate: milliseconds of each part, and which runs others disturbed."""

    parts: list[Parts] = field(default_factory=list)
    crowded: list[bool] = field(default_factory=list)

    @property
    def dropped(self) -> int:
        """Disturbed runs that are left out; none, if fewer than two would remain."""
        return sum(self.crowded) if sum(not each for each in self.crowded) >= 2 else 0

    @property
    def disturbed(self) -> bool:
        """Whether disturbed runs had to be kept."""
        return any(self.crowded) and not self.dropped

    def median(self, part: str) -> float:
        kept = [p[part] for p, c in zip(self.parts, self.crowded, strict=True) if not (c and self.dropped)]
        return statistics.median(kept)


class Stopwatch:
    """Milliseconds of named parts of one run, the device synchronised between them.

    For every part "x_ms" there is "x_cpu_ms" too: the processor time of this process, all threads together.  On the
    CPU it hardly grows when others take the cores away.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.parts: Parts = {}
        synchronise(device)
        self._started, self._started_cpu = time.perf_counter(), time.process_time()

    def lap(self, name: str) -> None:
        synchronise(self._device)
        now, now_cpu = time.perf_counter(), time.process_time()
        self.parts[f"{name}_ms"] = (now - self._started) * 1e3
        self.parts[f"{name}_cpu_ms"] = (now_cpu - self._started_cpu) * 1e3
        self._started, self._started_cpu = now, now_cpu


def take_turns(
    candidates: Mapping[str, Callable[[], Parts]], repeats: int, crowding: Crowding, said: Callable[[str], None]
) -> dict[str, Samples]:
    """Run every candidate ``repeats`` times after a warm-up; ``said`` is told of every turn."""
    samples = {name: Samples() for name in candidates}
    for repeat in range(repeats + 1):
        for name, run in candidates.items():
            said(f"{name}, {f'run {repeat} of {repeats}' if repeat else 'warm-up'}")
            crowding.begin()
            parts = run()
            crowded = crowding.crowded()
            if repeat:
                samples[name].parts.append(parts)
                samples[name].crowded.append(crowded)
    return samples
