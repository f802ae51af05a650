"""The machine under the benchmark: what it could do at best, and who else is using it."""

import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from speechgate.decoding.execution import Execution
from speechgate.decoding.search.linear import Linear, can_pack
from speechgate.runinfo import device_name


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def describe(device: torch.device, execution: Execution) -> dict[str, Any]:
    """The machine's name, threads and floors: the most multiply-accumulates and bytes a second it was seen to do."""
    return {
        "device": device_name(device),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": list(os.getloadavg()),
        "precision": execution.precision,
        "gmacs_per_second": gmacs_per_second(device, execution),
        "gbytes_per_second": gbytes_per_second(device),
    }


def gmacs_per_second(device: torch.device, execution: Execution, size: int = 1024) -> float:
    """10^9 multiply-accumulates a second of a square matrix product, the fastest of some."""
    dtype = execution.dtype
    linear = Linear.of(nn.Linear(size, size, bias=False, device=device))
    x = torch.randn(size, size, device=device)
    if can_pack(linear.weight, dtype):
        linear = linear.pack(dtype)
    elif device.type == "cuda":
        linear, x = linear.to(dtype), x.to(dtype)
    return size**3 / 1e9 / _fastest(lambda: linear(x), device)


def gbytes_per_second(device: torch.device, size: int = 128 << 20) -> float:
    """10^9 bytes a second read from memory, beyond any cache, the fastest of some."""
    values = torch.ones(size // 4, device=device)
    return size / 1e9 / _fastest(lambda: values.sum(), device)


@torch.inference_mode()
def _fastest(work: Callable[[], Any], device: torch.device, repeats: int = 10) -> float:
    seconds = []
    for _ in range(repeats):
        synchronise(device)
        started = time.perf_counter()
        work()
        synchronise(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


class Crowding:
    """Whether other processes took CPU time that this one could have used, from Linux's own counts.

    Between ``begin`` and ``crowded``: this process may use ``threads`` cores, others what is left of the machine.
    """

    def __init__(self, threads: int, tolerance: float = 0.15) -> None:
        self._spare = (os.cpu_count() or 1) - threads + tolerance
        self.others: list[float] = []  # cores that other processes kept busy, one value an interval

    def begin(self) -> None:
        self._busy, self._own, self._wall = self._counts()

    def crowded(self) -> bool:
        busy, own, wall = self._counts()
        others = max(0.0, (busy - self._busy) - (own - self._own)) / max(wall - self._wall, 1e-3)
        self.others.append(others)
        return others > self._spare

    @property
    def summary(self) -> dict[str, Any]:
        return {
            "intervals": len(self.others),
            "median_cores_of_others": statistics.median(self.others) if self.others else 0.0,
            "most_cores_of_others": max(self.others, default=0.0),
        }

    def _counts(self) -> tuple[float, float, float]:
        """Seconds that all processes have kept the cores busy, those of this one, and wall-clock seconds."""
        try:
            fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
            user, nice, system, _idle, _iowait, irq, softirq, *_ = (int(field) for field in fields)
            busy = (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
        except OSError:  # no Linux: nothing is known of others
            busy = time.process_time()
        return busy, time.process_time(), time.perf_counter()
