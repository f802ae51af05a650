"""Logging to Weights & Biases: what a run is given, and the real thing offline where wandb is installed."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from speechgate.config import load_experiment
from speechgate.errors import ConfigError
from speechgate.recipe import Recipe
from speechgate.training.losses import loggers
from tests.training.faults import OVERRIDES, prepare


class FakeRun:
    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given
        self.rows: list[dict[str, float]] = []
        self.exit_codes: list[int] = []

    def log(self, row: dict[str, float]) -> None:
        self.rows.append(row)

    def finish(self, exit_code: int) -> None:
        self.exit_codes.append(exit_code)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[FakeRun]:
    """The runs begun, each with what ``wandb.init`` was given."""
    begun: list[FakeRun] = []
    wandb: Any = ModuleType("wandb")
    wandb.Error = type("Error", (Exception,), {})
    wandb.run = None

    def init(**given: Any) -> FakeRun:
        if given["project"] == "forbidden":
            raise wandb.Error("No API key configured")
        begun.append(FakeRun(given))
        return begun[-1]

    wandb.init = init
    lib, run = ModuleType("wandb.sdk.lib"), ModuleType("wandb.wandb_run")
    lib.RunDisabled, run.Run = type("RunDisabled", (), {}), FakeRun  # type: ignore[attr-defined]
    for name, module in {"wandb": wandb, "wandb.sdk": ModuleType("wandb.sdk"), "wandb.sdk.lib": lib}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "wandb.wandb_run", run)
    monkeypatch.setattr("lightning.pytorch.loggers.wandb._WANDB_AVAILABLE", True)
    return begun


def work_of(folder: Path) -> Path:
    work = folder / "exp" / "prompts" / "mine" / "training"
    work.mkdir(parents=True)
    (work / "description.json").write_text(json.dumps({"train": {"updates": 3}}))
    return work


def test_sessions_of_a_training_share_a_run_that_is_told_of_its_settings(tmp_path, runs):
    work = work_of(tmp_path)
    for update, status in ((0, "failed"), (2, "success")):
        *_, run = loggers(work, update, "speech")
        run.log_metrics({"train/loss": 5.0 - update}, step=update)
        run.finalize(status)
    first, second = runs
    assert first.given["project"] == "speech"
    assert first.given["name"] == "prompts/mine"
    assert first.given["config"] == {"train": {"updates": 3}}
    assert first.given["id"] == second.given["id"] == (work / "wandb_id").read_text()
    assert first.given["resume"] == "allow"
    assert first.rows == [{"train/loss": 5.0, "trainer/global_step": 0}]
    assert (first.exit_codes, second.exit_codes) == ([1], [0])


def test_what_wandb_refuses_is_an_error_that_says_what_to_do(tmp_path, runs):
    with pytest.raises(ConfigError, match=r"cannot begin a run in 'forbidden': No API key.*; WANDB_MODE=offline"):
        loggers(work_of(tmp_path), 0, "forbidden")


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"train\.wandb needs wandb: install speechgate\[wandb\]"):
        loggers(work_of(tmp_path), 0, "speech")
    assert len(loggers(tmp_path, 0)) == 2


@pytest.mark.parametrize(
    "real", [False, pytest.param(True, marks=pytest.mark.skipif(not find_spec("wandb"), reason="needs wandb"))]
)
def test_a_training_logs_its_losses_and_ends_its_run(tmp_path, request, monkeypatch, real):
    runs = [] if real else request.getfixturevalue("runs")
    monkeypatch.setenv("WANDB_MODE", "offline")
    prepare(tmp_path)
    overrides = [*OVERRIDES, "gates=null", "train.average=1", "train.updates=2", "train.validate_every=2"]
    experiment = load_experiment("debug", ["name=logged", *overrides, "train.wandb=speech"])
    folder = Recipe("prompts", tmp_path / "data", tmp_path / "exp").train(experiment)
    if real:
        (kept,) = (folder / "training" / "wandb").glob("offline-run-*/*.wandb")
        assert b"train/loss" in kept.read_bytes()
        assert sys.modules["wandb"].run is None
        return
    (run,) = runs
    assert run.exit_codes == [0]
    logged = [row for row in run.rows if "train/loss" in row]
    assert [row["trainer/global_step"] for row in logged] == [0, 1]
    assert any("valid/loss" in row for row in run.rows)
    assert run.given["config"]["train"]["updates"] == 2
