"""The figures of throughput: what they are made of, and the line that shows them."""

from collections.abc import Callable, Iterator
from itertools import islice
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from speechgate.data.batch import Batch
from speechgate.training import watch
from speechgate.training.progress import _speed
from speechgate.training.watch import Awaited, Throughput
from tests.gates.test_context import random_batch
from tests.model.tiny import TASKS


def logged(
    monkeypatch: pytest.MonkeyPatch,
    every: int,
    flops: Any,
    peak: float | None,
    device: str = "cpu",
    apart: Callable[[Throughput, int], bool] = lambda throughput, index: False,
) -> list[dict[str, float]]:
    """What ``3 * every`` batches log, each waited for half a second and computed in one and a half.

    ``apart`` says whether there are a hundred seconds of something else after a batch.
    """
    now = 0.0
    monkeypatch.setattr(watch.time, "perf_counter", lambda: now)
    monkeypatch.setattr(watch, "peak_tflops", lambda device: peak)
    rows: list[dict[str, float]] = []
    trainer: Any = SimpleNamespace(world_size=2, strategy=SimpleNamespace(root_device=torch.device(device)))
    module = SimpleNamespace(frames_B=torch.tensor([20, 10]), log_dict=lambda values, batch_size: rows.append(values))
    batch = random_batch([16_000, 8_000], list(TASKS[:2]))

    def loader() -> Iterator[Batch]:
        nonlocal now
        now += 30.0  # workers start
        while True:
            now += 0.5
            yield batch

    throughput = Throughput(every, flops, Awaited(loader()))
    throughput.on_train_start(trainer, module)
    for index, each in enumerate(islice(throughput.batches, 3 * every)):
        now += 0.25  # the batch's way to the device
        throughput.on_train_batch_start(trainer, module, each, index)
        now += 1.25
        throughput.on_train_batch_end(trainer, module, None, each, index)
        if apart(throughput, index):
            now += 100.0
    return rows


def test_hours_padding_waiting_and_arithmetic(monkeypatch):
    given = []

    def flops(batch: Any, frames_B: torch.Tensor) -> float:
        given.append(frames_B.tolist())
        return 6e12

    rows = logged(monkeypatch, 2, flops, peak=12.0)
    assert len(rows) == 3
    for row in rows[1:]:
        assert row["speed/audio_hours_an_hour"] == pytest.approx(2 * 2 * 1.5 / 4.0)  # of both processes
        assert row["speed/padding"] == pytest.approx(1 - 1.5 / (2 * (16_000 + 512) / 16_000))
        assert row["speed/data_wait"] == pytest.approx(0.25)
        assert row["speed/tflop_a_second"] == pytest.approx(3.0)  # of one
        assert row["speed/mfu"] == pytest.approx(0.25)
    assert given == [[20, 10]] * 6
    line = "2 h of audio an hour, padding 27%, waiting for data 25% (the first 30.5 s), 3 TFLOP/s (25% of the peak)"
    assert _speed(rows[1]) == line


def test_the_first_batch_validations_and_checkpoints_are_in_no_figure(monkeypatch):
    def apart(throughput: Throughput, index: int) -> bool:
        if index == 3:
            throughput.on_validation_end()
        if index == 6:
            throughput.on_save_checkpoint()
        return index in (3, 6)

    rows = logged(monkeypatch, 3, None, None, apart=apart)
    for row in rows:  # in each, one batch of three comes after something else, and only its computation counts
        assert row["speed/audio_hours_an_hour"] == pytest.approx(2 * 3 * 1.5 / (2 * 2.0 + 1.25))
        assert row["speed/data_wait"] == pytest.approx(2 * 0.5 / (2 * 2.0 + 1.25))
        assert row["speed/first_batch_seconds"] == 30.5


def test_the_memory_of_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: {"cuda": 3 * 2**29}[device.type])
    row = logged(monkeypatch, 4, None, None, "cuda")[1]
    assert row["speed/memory_gib"] == 1.5
    assert _speed(row).endswith("waiting for data 25% (the first 30.5 s), 1.5 GiB")


def test_without_a_known_peak_or_cost_nothing_is_made_up(monkeypatch):
    known = logged(monkeypatch, 4, lambda batch, frames_B: 1e12, peak=None)[1]
    assert "speed/mfu" not in known
    assert _speed(known).endswith("waiting for data 25% (the first 30.5 s), 0.5 TFLOP/s")
    unknown = logged(monkeypatch, 4, None, peak=12.0)[1]
    shown = ("audio_hours_an_hour", "data_wait", "first_batch_seconds", "padding")
    assert sorted(unknown) == [f"speed/{name}" for name in shown]
    assert _speed(unknown).endswith("waiting for data 25% (the first 30.5 s)")
    assert _speed({}) == ""
