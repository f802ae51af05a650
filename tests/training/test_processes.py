"""Two processes (gloo) on one machine: the losses of one process with twice the batch, whatever stops them."""

import os
import signal
from itertools import chain, islice, zip_longest
from pathlib import Path

import pytest
import torch
from safetensors.torch import load
from torch.utils._pytree import tree_flatten

from speechgate.data.loaders import train_loader
from speechgate.model.checkpoint import load_checkpoint
from speechgate.training.checkpoints import newest
from tests.data.dummies import dummy_cut, write_audio
from tests.data.test_loaders import CONFIG
from tests.model.tiny import TASKS, speech, tokenizer
from tests.training.faults import finish, prepare, result, start_two

# What is drawn at random differs between the processes, on purpose: here nothing is.  Half of the modules are closed,
# always the same: they take no part.
CLOSED = ("gates.policy=random", "gates.rule=budget", "gates.ramp=0.0", "gates.target=0.5")
PLAIN = ("train.speed_perturb=[]", "model.encoder.dropout_rate=0.0", "train.average=1")


@pytest.mark.timeout(200)
@pytest.mark.parametrize("gates", [("gates=null",), CLOSED], ids=["dense", "half closed"])
def test_two_processes_with_half_the_batch_agree_with_one_and_stop_and_resume_together(
    tmp_path: Path, gates: tuple[str, ...]
) -> None:
    prepare(tmp_path)
    assert finish(tmp_path, "one", (*PLAIN, *gates, "train.accumulate=2")) == 0
    recomputed = (*PLAIN, *gates, "train.activation_checkpointing=true")
    stopped(tmp_path, "two", recomputed)
    finished(tmp_path, "two", recomputed)
    require_alike(tmp_path, "one", "two", tolerance=2e-3)


@pytest.mark.timeout(200)
def test_a_sharded_model_trains_as_a_whole_one_and_their_checkpoints_are_alike(tmp_path: Path) -> None:
    prepare(tmp_path)
    averaged = ("train.average=1", "train.average_of=ema")
    finished(tmp_path, "whole", averaged)
    stopped(tmp_path, "sharded", averaged)
    finished(tmp_path, "sharded", (*averaged, "train.sharding=fsdp", "train.activation_checkpointing=true"))
    require_alike(tmp_path, "whole", "sharded", tolerance=2e-3)
    models = [load_checkpoint(tmp_path / "exp/prompts" / name).model for name in ("whole", "sharded")]
    with torch.inference_mode():
        for model in models:
            model.gates.set_context(TASKS[1:])
        one, two = (model.encode(*speech([6_000, 5_000]))[0] for model in models)
    torch.testing.assert_close(one, two, atol=1e-3, rtol=0)
    states = [
        torch.load(newest(tmp_path / "exp/prompts" / name / "training/checkpoints"), weights_only=True)
        for name in ("whole", "sharded")
    ]
    (one, shapes), (two, other_shapes) = (tree_flatten(state) for state in states)
    assert shapes == other_shapes
    for value, other in zip(one, two, strict=True):
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            # What has no gradient but by rounding, as the bias of attention's keys, has moments of 1e-6.
            torch.testing.assert_close(value, other, atol=1e-3 * float(value.abs().max()) + 5e-5, rtol=1e-2)


def stopped(home: Path, name: str, overrides: tuple[str, ...]) -> None:
    """Start two processes, and send a signal to one of them when there is a checkpoint; they may end before it."""
    processes = start_two(home, name, overrides)
    checkpoints = home / "exp/prompts" / name / "training/checkpoints"
    while processes[1].is_alive() and not list(checkpoints.glob("update-*.ckpt")):
        processes[1].join(0.05)
    if processes[1].is_alive():
        os.kill(processes[1].pid, signal.SIGTERM)  # the other one has to hear of it
    for process in processes:
        process.join()
    codes = {process.exitcode for process in processes}
    assert codes in ({128 + signal.SIGTERM}, {0})


def finished(home: Path, name: str, overrides: tuple[str, ...]) -> None:
    for process in (processes := start_two(home, name, overrides)):
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]


def require_alike(home: Path, one: str, two: str, tolerance: float) -> None:
    (rows, weights), (other_rows, other_weights) = result(home, one), result(home, two)
    compared = ("valid/loss", "train/gradient_norm")
    values = [[float(row[key]) for row in each for key in compared if key in row] for each in (rows, other_rows)]
    assert len(values[0]) == 12 + 2
    assert values[1] == pytest.approx(values[0], rel=1e-3)
    for name, value in load(weights).items():
        assert float((value - load(other_weights)[name]).abs().max()) < tolerance, name


@pytest.mark.parametrize("world_size", [2, 3])
def test_the_processes_share_one_stream_of_batches(tmp_path: Path, world_size: int) -> None:
    lengths = {f"{i}": 0.3 + 0.1 * (i % 5) for i in range(20)}
    cuts = [
        dummy_cut(name, seconds, path=write_audio(tmp_path / f"{name}.flac", seconds))
        for name, seconds in lengths.items()
    ]

    def batches(rank: int, world_size: int, skip: int = 0) -> list[list[str]]:
        loader = train_loader(cuts, TASKS[:1], tokenizer(), CONFIG, 0.0, rank=rank, world_size=world_size, skip=skip)
        return [batch.cut_ids for batch in islice(loader, 6)]

    ranks = [batches(rank, world_size) for rank in range(world_size)]
    together = list(chain.from_iterable(zip_longest(*ranks)))
    alone = batches(0, 1) if world_size == 2 else [*batches(0, 1)[:2], together[2], *batches(0, 1)[2:5]]
    assert together[:6] == alone
    assert batches(1, world_size, skip=2)[:4] == ranks[1][2:]
