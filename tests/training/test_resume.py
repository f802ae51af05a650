"""A run that stops, however it does, and the same command that goes on."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from speechgate.config import load_experiment
from speechgate.data.batch import SAMPLE_RATE, Batch
from speechgate.errors import BusyError, CheckpointError, ConfigError, Stopped, TrainingError
from speechgate.recipe import Recipe
from speechgate.training.checkpoints import Checkpoints, newest, save_whole
from speechgate.training.module import TrainingModule
from tests.training.faults import OVERRIDES, differences, finish, inject, prepare


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    prepare(folder)
    assert finish(folder, "whole") == 0
    return folder


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As in the runs of ``faults``: sums over more threads round otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def train(home: Path, name: str, *overrides: str) -> Path:
    experiment = load_experiment("debug", [f"name={name}", *OVERRIDES, *overrides])
    return Recipe("prompts", home / "data", home / "exp").train(experiment)


@pytest.mark.timeout(120)
def test_a_run_killed_at_random_moments_ends_as_the_one_that_was_not(home: Path) -> None:
    struck = inject(home, "killed", 3, random.Random(1), ("train.workers=1",))
    assert struck.total() > 0
    assert differences(home, "whole", "killed") == []


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    die_at(monkeypatch, update=9)
    with pytest.raises(RuntimeError, match="power"):
        train(home, "damaged")
    monkeypatch.undo()
    checkpoints = home / "exp/prompts/damaged/training/checkpoints"
    one, two = sorted(checkpoints.glob("update-*.ckpt"))
    content = bytearray(two.read_bytes())
    content[len(content) // 2] ^= 1  # a bit in the weights
    two.write_bytes(content)
    with pytest.warns(UserWarning, match=f"{two.name} is damaged: going on from the checkpoint before"):
        train(home, "damaged")
    assert f"going on from update {int(one.stem[7:])}" in capsys.readouterr().out
    assert differences(home, "whole", "damaged") == []
    for path in checkpoints.glob("update-*.ckpt"):
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(CheckpointError, match="every checkpoint"):
        newest(checkpoints)


def die_at(monkeypatch: pytest.MonkeyPatch, update: int) -> None:
    step = TrainingModule.training_step

    def dying(self: TrainingModule, batch: object, index: int) -> torch.Tensor:
        if index == update:
            raise RuntimeError("power loss")
        return step(self, batch, index)  # type: ignore[arg-type]

    monkeypatch.setattr(TrainingModule, "training_step", dying)


def test_more_updates_go_on_and_another_model_is_refused(home: Path, capsys: pytest.CaptureFixture) -> None:
    train(home, "longer", "train.updates=2", "train.average=1")
    folder = train(home, "longer", "train.updates=4", "train.average=1")
    assert "going on from update 2" in capsys.readouterr().out
    assert json.loads((folder / "description.json").read_text())["train"]["updates"] == 4
    with pytest.raises(CheckpointError, match=r"another configuration \(model.encoder.linear_units was 64, is 32"):
        train(home, "longer", "train.average=1", "model.encoder.linear_units=32")
    with pytest.raises(ConfigError, match="has had 4 updates: give at least that"):
        train(home, "longer", "train.updates=3", "train.average=1")


def test_activation_checkpointing_changes_no_loss_and_no_weight(home: Path) -> None:
    train(home, "recomputed", "train.activation_checkpointing=true")
    assert differences(home, "whole", "recomputed") == []


def test_a_new_data_order_at_a_resumption_if_asked(home: Path) -> None:
    train(home, "reordered", "train.updates=2", "train.average=1", "train.exact_resume=false")
    folder = train(home, "reordered", "train.updates=4", "train.average=1", "train.exact_resume=false")
    first, second = json.loads((folder / "training/data_order.json").read_text())
    assert (first["from_update"], second["from_update"]) == (0, 2)
    assert first["seed"] != second["seed"]


def test_a_second_process_is_refused_with_the_first_ones_host_and_pid(home: Path) -> None:
    lock = home / "exp/prompts/locked/training/lock"
    hold = f"""
import time
from collections.abc import Iterator
from pathlib import Path
from speechgate.locks import exclusive
lock = Path({str(lock)!r})
with exclusive(lock, lock.parent, "trains there", "wait"):
    print("held", flush=True)
    time.sleep(60)
"""
    holder = subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BusyError, match=f"process {holder.pid} on {os.uname().nodename} trains there"):
            train(home, "locked")
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    train(home, "locked", "train.updates=1", "train.average=1")  # the lock died with its holder


def test_a_loss_that_is_not_finite_stops_the_run_names_the_cuts_and_saves_the_batch(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = TrainingModule.training_step

    def broken(self: TrainingModule, batch: object, index: int) -> torch.Tensor:
        loss = step(self, batch, index)  # type: ignore[arg-type]
        return loss * float("nan") if index == 4 else loss

    monkeypatch.setattr(TrainingModule, "training_step", broken)
    with pytest.raises(
        TrainingError, match=r"not finite at update 5, on \d+ recordings padded to .* s each \("
    ) as info:
        train(home, "nan")
    work = home / "exp/prompts/nan/training"
    batch = torch.load(work / "not-finite-00000005.pt", weights_only=True)
    assert all(cut_id in str(info.value) for cut_id in batch["cut_ids"][:20])
    assert newest(work / "checkpoints").stem == "update-00000004"


def test_a_full_disk_is_named_and_leaves_the_earlier_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "update-00000002.ckpt"
    save_whole({"weights": torch.zeros(10)}, path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # no file may grow further: as on a full disk
    try:
        with pytest.raises(OSError, match="File too large") as info:
            save_whole({"weights": torch.zeros(100_000)}, tmp_path / "update-00000004.ckpt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert info.value.filename == str(tmp_path / "update-00000004.ckpt")
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    assert newest(tmp_path) == path


def test_out_of_memory_names_the_batch_or_halves_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loss = TrainingModule._task_loss

    def hungry(self: TrainingModule, batch: Batch, split: str) -> torch.Tensor:
        if split == "train" and batch.speech_BN.numel() > 4 * SAMPLE_RATE:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss(self, batch, split)

    monkeypatch.setattr(TrainingModule, "_task_loss", hungry)
    short = ("train.updates=4", "train.average=1", "train.max_seconds=3.5", "train.speed_perturb=[]")
    with pytest.raises(TrainingError, match=r"out of memory at update \d on \d+ recordings .*lower train.max_duration"):
        train(home, "hungry", *short)
    with pytest.warns(UserWarning, match="going on with 3 s a batch"):
        folder = train(home, "hungry", *short, "train.on_oom=halve")
    history = json.loads((folder / "training/data_order.json").read_text())
    assert [each["halvings"] for each in history] == [1]


def test_a_signal_waits_for_the_validation_that_is_due(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    noted = Checkpoints.on_train_batch_end

    def signalled(self: Checkpoints, trainer, module, outputs, batch, index) -> None:
        if index == 5:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
        noted(self, trainer, module, outputs, batch, index)

    monkeypatch.setattr(Checkpoints, "on_train_batch_end", signalled)
    with pytest.raises(Stopped, match="stopped at update 6 with a checkpoint: the same command goes on") as info:
        train(home, "signalled")
    assert info.value.signal == signal.SIGTERM
    monkeypatch.undo()
    train(home, "signalled")
    assert differences(home, "whole", "signalled") == []
