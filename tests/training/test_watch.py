"""The figures of throughput: what they are made of, and the line that shows them."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from speechgate.training import watch
from speechgate.training.progress import _speed
from speechgate.training.watch import Throughput
from tests.gates.test_context import random_batch
from tests.model.tiny import TASKS


def logged(
    monkeypatch: pytest.MonkeyPatch, throughput: Throughput, peak: float | None, device: str = "cpu"
) -> list[dict[str, float]]:
    """What four batches log: each is waited for half a second and computed in one and a half."""
    now = 0.0
    monkeypatch.setattr(watch.time, "perf_counter", lambda: now)
    monkeypatch.setattr(watch, "peak_tflops", lambda device: peak)
    rows: list[dict[str, float]] = []
    trainer: Any = SimpleNamespace(world_size=2, strategy=SimpleNamespace(root_device=torch.device(device)))
    module = SimpleNamespace(frames_B=torch.tensor([20, 10]), log_dict=lambda values, batch_size: rows.append(values))
    throughput.on_train_start(trainer, module)
    batch = random_batch([16_000, 8_000], list(TASKS[:2]))
    for index in range(4):
        now += 0.5
        throughput.on_train_batch_start(trainer, module, batch, index)
        now += 1.5
        throughput.on_train_batch_end(trainer, module, None, batch, index)
        if index == 1:
            now += 100.0  # a validation
            throughput.on_validation_end()
    return rows


def test_hours_padding_waiting_and_arithmetic(monkeypatch):
    given = []

    def flops(batch: Any, frames_B: torch.Tensor) -> float:
        given.append(frames_B.tolist())
        return 6e12

    rows = logged(monkeypatch, Throughput(2, flops), peak=12.0)
    assert len(rows) == 2
    for row in rows:
        assert row["speed/audio_hours_an_hour"] == pytest.approx(2 * 2 * 1.5 / 4.0)  # of both processes
        assert row["speed/padding"] == pytest.approx(1 - 1.5 / (2 * (16_000 + 512) / 16_000))
        assert row["speed/data_wait"] == pytest.approx(0.25)
        assert row["speed/tflop_a_second"] == pytest.approx(3.0)  # of one
        assert row["speed/mfu"] == pytest.approx(0.25)
    assert given == [[20, 10]] * 4
    assert _speed(rows[0]) == "2 h of audio an hour, padding 27%, waiting for data 25%, 3 TFLOP/s (25% of the peak)"


def test_the_memory_of_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: {"cuda": 3 * 2**29}[device.type])
    row = logged(monkeypatch, Throughput(4, None), None, "cuda")[0]
    assert row["speed/memory_gib"] == 1.5
    assert _speed(row).endswith("waiting for data 25%, 1.5 GiB")


def test_without_a_known_peak_or_cost_nothing_is_made_up(monkeypatch):
    known = logged(monkeypatch, Throughput(4, lambda batch, frames_B: 1e12), peak=None)[0]
    assert "speed/mfu" not in known
    assert _speed(known).endswith("waiting for data 25%, 0.5 TFLOP/s")
    unknown = logged(monkeypatch, Throughput(4, None), peak=12.0)[0]
    assert sorted(unknown) == ["speed/audio_hours_an_hour", "speed/data_wait", "speed/padding"]
    assert _speed(unknown).endswith("waiting for data 25%")
    assert _speed({}) == ""
