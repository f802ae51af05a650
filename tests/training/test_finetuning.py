"""Fine-tuning runs as a whole: stopped and gone on with, and what they leave behind."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from speechgate.config import load_experiment
from speechgate.model.checkpoint import load_checkpoint
from speechgate.recipe import Recipe
from speechgate.training.checkpoints import Checkpoints
from speechgate.training.module import TrainingModule
from tests.training.faults import OVERRIDES, differences, prepare
from tests.training.test_resume import die_at

LORA = "train.lora={targets: ['*.linear_q', '*.w_1'], rank: 2, dropout: 0.1, full: ['*.after_norm.*']}"
EMA = ("train.average_of=ema", "train.average=1", "train.ema_decay=0.5")
KINDS = {
    "lora": ("gates=null", LORA, "train.layer_decay=0.8"),
    "lora and gates": (LORA,),
    "ema": EMA,
    "distilled": ("train.distill=0.5",),
    "noisy": ("gates=null", "train.noise={sounds: HOME/data, snr_db: [0, 10]}", "train.reverb.share=0.5"),
    "frozen": ("train.freeze=['encoder.*']", "train.average=1"),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    prepare(folder)
    train(folder, "start", "gates=null", "train.average=1", "train.updates=4")
    return folder


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def train(home: Path, name: str, *overrides: str) -> Path:
    experiment = load_experiment("debug", [f"name={name}", *OVERRIDES, *overrides])
    return Recipe("prompts", home / "data", home / "exp").train(experiment)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_was_cut_off_ends_as_one_that_was_not_with_an_ordinary_checkpoint(
    home: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    shared = ("model=null", "init=start", "train.updates=8", "train.validate_every=4")
    overrides = (*shared, *(each.replace("HOME", str(home)) for each in KINDS[kind]))
    name = kind.replace(" ", "_")
    whole = train(home, f"{name}_whole", *overrides)
    die_at(monkeypatch, update=5)
    with pytest.raises(RuntimeError, match="power"):
        train(home, f"{name}_cut", *overrides)
    monkeypatch.undo()
    train(home, f"{name}_cut", *overrides)
    assert differences(home, f"{name}_whole", f"{name}_cut") == []
    begun, ended = (load_file(folder / "model.safetensors") for folder in (home / "exp/prompts/start", whole))
    assert {key for key in ended if not key.startswith("gates.")} == set(begun)
    load_checkpoint(whole)
    changed = {key for key, value in begun.items() if not torch.equal(value, ended[key])}
    assert changed
    if "lora" in kind:
        assert all(key.endswith(("linear_q.weight", "w_1.weight")) or ".after_norm." in key for key in changed)
    if kind == "noisy":
        train(home, "clean", *shared, "gates=null")
        assert differences(home, "noisy_whole", "clean")
    if kind == "frozen":
        assert not any(key.startswith("encoder.") for key in changed)


def test_a_run_cut_off_after_its_last_checkpoint_still_keeps_the_moving_average(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_power(*given: Any) -> None:
        raise RuntimeError("power")

    overrides = (*EMA, "gates=null", "train.updates=3", "train.validate_every=3")
    train(home, "undisturbed", *overrides)
    monkeypatch.setattr("speechgate.training.run.save_checkpoint", lose_power)
    with pytest.raises(RuntimeError, match="power"):
        train(home, "disturbed", *overrides)
    monkeypatch.undo()
    train(home, "disturbed", *overrides)
    assert differences(home, "undisturbed", "disturbed") == []


def test_the_kept_model_is_the_moving_average_and_validations_see_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw: list[dict[str, torch.Tensor]] = []
    validated: list[dict[str, torch.Tensor]] = []

    def snapshot(module: TrainingModule) -> dict[str, torch.Tensor]:
        return {name: each.detach().clone() for name, each in module.model.named_parameters()}

    start, after, validation = (
        Checkpoints.on_train_start,
        Checkpoints.on_train_batch_end,
        TrainingModule.validation_step,
    )

    def on_train_start(self: Checkpoints, trainer: Any, module: TrainingModule) -> None:
        raw.append(snapshot(module))
        start(self, trainer, module)

    def on_train_batch_end(self: Checkpoints, trainer: Any, module: TrainingModule, *rest: Any) -> None:
        raw.append(snapshot(module))
        after(self, trainer, module, *rest)

    def validation_step(self: TrainingModule, *given: Any) -> None:
        validated.append(snapshot(self))
        validation(self, *given)

    monkeypatch.setattr(Checkpoints, "on_train_start", on_train_start)
    monkeypatch.setattr(Checkpoints, "on_train_batch_end", on_train_batch_end)
    monkeypatch.setattr(TrainingModule, "validation_step", validation_step)
    folder = train(home, "averaged", *EMA, "gates=null", "train.updates=3", "train.validate_every=3")
    kept = load_file(folder / "model.safetensors")
    mean, *later = raw
    assert len(later) == 3
    for update, weights in enumerate(later, start=1):
        decay = min(0.5, (1 + update) / (10 + update))
        mean = {name: decay * mean[name] + (1 - decay) * weights[name] for name in weights}
    for name, value in mean.items():
        torch.testing.assert_close(kept[name], value)
        assert torch.equal(validated[-1][name], kept[name])
    assert any(not torch.equal(kept[name], value) for name, value in later[-1].items())
