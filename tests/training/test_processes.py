"""Two processes (gloo) on one machine: the losses of one process with twice the batch, whatever stops them."""

import os
import signal
from itertools import chain, islice, zip_longest
from pathlib import Path

import pytest
from safetensors.torch import load

from speechgate.data.loaders import train_loader
from tests.data.dummies import dummy_cut, write_audio
from tests.data.test_loaders import CONFIG
from tests.model.tiny import TASKS, tokenizer
from tests.training.faults import finish, prepare, result, start_two

# What is drawn at random differs between the processes, on purpose: here nothing is.
PLAIN = ("train.speed_perturb=[]", "model.encoder.dropout_rate=0.0", "gates=null", "train.average=1")


@pytest.mark.timeout(200)
def test_two_processes_with_half_the_batch_agree_with_one_and_stop_and_resume_together(tmp_path: Path) -> None:
    prepare(tmp_path)
    assert finish(tmp_path, "one", (*PLAIN, "train.accumulate=2")) == 0
    recomputed = (*PLAIN, "train.activation_checkpointing=true")
    first = start_two(tmp_path, "two", recomputed)
    checkpoints = tmp_path / "exp/prompts/two/training/checkpoints"
    while first[1].is_alive() and not list(checkpoints.glob("update-*.ckpt")):
        first[1].join(0.05)
    if first[1].is_alive():
        os.kill(first[1].pid, signal.SIGTERM)  # the other one has to hear of it
    for process in first:
        process.join()
    if any(process.exitcode != 0 for process in first):
        for process in (second := start_two(tmp_path, "two", recomputed)):
            process.join()
        assert [process.exitcode for process in second] == [0, 0]
    (one, weights), (two, other_weights) = result(tmp_path, "one"), result(tmp_path, "two")
    compared = ("valid/loss", "train/gradient_norm")
    values = [[float(row[key]) for row in rows for key in compared if key in row] for rows in (one, two)]
    assert len(values[0]) == 12 + 2
    assert values[1] == pytest.approx(values[0], rel=1e-3)
    for name, value in load(weights).items():
        assert float((value - load(other_weights)[name]).abs().max()) < 2e-3, name


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
