"""Batches that do not fit are halved; anything else that fails, fails."""

import warnings

import pytest
import torch

from speechgate.decoding.engine import Engine
from speechgate.decoding.memory import SAID, BatchHalvedWarning, halving
from speechgate.decoding.search import SearchOptions
from tests.model.tiny import TASKS, checkpoint_of, random_model, searchable, speech, tiny_config

CPU_MESSAGE = (
    "[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError(CPU_MESSAGE)])
@pytest.mark.parametrize("room", [1, 2, 3])
def test_parts_fit_and_order_is_kept(error, room):
    parts, freed = [], []

    def work(rows: slice) -> list[int]:
        items = list(range(7))[rows]
        if len(items) > room:
            raise error
        parts.append(len(items))
        return items

    with pytest.warns(BatchHalvedWarning, match="in halves"):
        assert halving(work, 7, lambda: freed.append(len(parts))) == list(range(7))
    assert max(parts) <= room
    assert freed[0] == 0  # before the first half is tried


def test_one_that_does_not_fit_alone_and_other_errors_are_raised():
    def fail(error: RuntimeError):
        def work(rows: slice) -> list[int]:
            raise error

        return work

    with pytest.raises(torch.OutOfMemoryError), pytest.warns(BatchHalvedWarning):
        halving(fail(torch.OutOfMemoryError("full")), 2, list)
    with pytest.raises(RuntimeError, match="shapes"):
        halving(fail(RuntimeError("shapes differ")), 2, list)


def test_memory_that_runs_out_while_a_graph_is_captured():
    def capture(rows: slice) -> list[int]:
        items = list(range(2))[rows]
        if len(items) > 1:
            try:
                raise torch.OutOfMemoryError("full")
            finally:  # as torch.cuda.graph does
                raise RuntimeError("operation failed due to a previous error during capture")
        return items

    with pytest.warns(BatchHalvedWarning):
        assert halving(capture, 2, list) == [0, 1]


@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))],
)
def test_memory_that_the_device_really_does_not_have(device):
    def work(rows: slice) -> list[int]:
        items = list(range(4))[rows]
        torch.empty(8 if len(items) == 1 else 1 << 48, dtype=torch.float64, device=device)
        return items

    with pytest.warns(BatchHalvedWarning):
        assert halving(work, 4, list) == [0, 1, 2, 3]


def test_it_is_said_once_whatever_the_sizes():
    def work(rows: slice) -> list[int]:
        items = list(range(9))[rows]
        if len(items) > 1:
            raise torch.OutOfMemoryError("full")
        return items

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("once", BatchHalvedWarning)  # as the command line has it
        for count in (9, 6, 9, 3):
            assert halving(work, count, list) == list(range(count))
    assert [str(each.message) for each in said] == [SAID]


def test_engine_decodes_a_halved_batch_as_the_whole(monkeypatch):
    config = tiny_config()
    engine = Engine(checkpoint_of(searchable(random_model(config)), config), SearchOptions(beam_size=2))
    batch, tasks = speech([5_000, 4_000, 6_000]), list(TASKS)
    expected = engine.decode(*batch, tasks)
    search = engine.search

    def small(encoded):
        if len(encoded) > 1:
            raise torch.OutOfMemoryError("full")
        return search(encoded)

    monkeypatch.setattr(engine, "search", small)
    with pytest.warns(BatchHalvedWarning):
        found = engine.decode(*batch, tasks)
    assert [each.text for each in found] == [each.text for each in expected]
