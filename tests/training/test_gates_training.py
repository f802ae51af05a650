"""Updates of gated models as Lightning makes them, for every kind of gates."""

from dataclasses import replace

import pytest
import torch

from speechgate.config import GatesConfig, TrainConfig
from speechgate.gates.attach import attach
from speechgate.training.module import TrainingModule
from tests.gates.test_context import random_batch
from tests.model.tiny import LANGUAGES, TASKS, random_model, tiny_config

KINDS = {
    "dial": {"rule": "budget", "budget": (0.0, 0.7), "context": ("task", "audio", "budget")},
    "local": {"scope": "local", "context_dropout": 0.2},
    "local dial": {"scope": "local", "rule": "budget", "budget": (0.0, 0.7)},
    "hard concrete": {"estimator": "hard_concrete", "unit": "macs"},
    "lagrangian": {"penalty": "lagrangian", "targets": {"asr": 0.7, "st": 0.2}},
    "heads and channels": {"groups": {"heads": 2, "channels": 4}, "rule": "budget", "context": ["task", "budget"]},
    "whole layers": {"granularity": "layer", "scope": "local", "min_open": 1},
    "layerdrop": {"policy": "layerdrop", "rule": "budget", "context": ()},
    "shuffled": {"rule": "budget", "shuffle_context": True},
}


def module_of(**keys) -> TrainingModule:
    torch.manual_seed(0)
    model = random_model(tiny_config())
    config = GatesConfig(**{"stack": "both", "ramp": 0.0, "learning_rate": 0.05, **keys})
    attach(model, config, LANGUAGES)
    return TrainingModule(model, TrainConfig(warmup=0), config, lambda: 0.0).train()


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
@pytest.mark.parametrize("kind", KINDS)
def test_an_update_trains_what_is_to_be_trained_and_saves_as_before(kind):
    module = module_of(**KINDS[kind])
    optimizer = module.configure_optimizers()["optimizer"]
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    for update in range(2):  # the last layers of predictors begin at 0: the first layers follow them
        optimizer.zero_grad()
        module.training_step(random_batch([6_000, 4_000, 5_000], list(TASKS), update), update).backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())
        optimizer.step()
    moved = {name for name, value in module.named_parameters() if not torch.equal(value, before[name])}
    predictors = [name for name in before if ".gates." in name]
    assert bool(predictors) == (kind != "layerdrop")
    assert any("network" in name for name in moved) or kind == "layerdrop"
    assert any("decoder.decoders" in name for name in moved)
    assert list(module.model.state_dict()) == list(module_of(**KINDS[kind]).model.state_dict())


def test_noise_and_temperature_are_logged_as_the_schedule_has_them(monkeypatch):
    module = module_of(temperature=2.0, final_temperature=0.5, settle=0.4)
    module.config = replace(module.config, log_every=1)
    logged = {}
    monkeypatch.setattr(module, "log", lambda name, value, **_: logged.update({name: value}))
    monkeypatch.setattr(TrainingModule, "progress", 0.9)
    module.training_step(random_batch([6_000], [TASKS[0]]), 0)
    assert logged["train/gate_temperature"] == pytest.approx(2.0 * 0.25**0.9)
    assert logged["train/gate_noise"] == pytest.approx(0.0)


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
def test_multipliers_climb_while_the_target_is_missed():
    module = module_of(penalty="lagrangian", target=0.9)
    optimizer = module.configure_optimizers()["optimizer"]
    for update in range(5):
        optimizer.zero_grad()
        module.training_step(random_batch([6_000, 4_000], list(TASKS[:2]), update), update).backward()
        optimizer.step()
    assert (module.multipliers[:, 0] < 0).all()  # too little is closed: each closed gate is rewarded
    assert (module.multipliers[:, 1] > 0).all()


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
def test_speed_perturbation_in_mixed_precision_leaves_samples_in_single():
    module = TrainingModule(random_model(tiny_config()), TrainConfig(speed_perturb=(0.9,)), None, lambda: 0.0).train()
    batch = random_batch([6_000, 4_000], list(TASKS[:2]))
    with torch.autocast("cpu", torch.bfloat16):
        loss = module.training_step(batch, 0)
    assert loss.isfinite()
    assert batch.speech_BN.dtype == torch.float32


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
@pytest.mark.parametrize("kind", ["dial", "local dial", "whole layers by budget", "shuffled"])
def test_settled_gates_skip_and_train_the_open_modules_as_if_closed_ones_were_multiplied(kind, monkeypatch):
    keys = {**KINDS, "whole layers by budget": {"rule": "budget", "granularity": "layer"}}[kind]
    batch = random_batch([6_000, 4_000, 5_000], list(TASKS))
    module = module_of(settle=0.4, **keys)
    gates = module.model.gates
    for predictor in gates.predictors.parameters():
        torch.nn.init.normal_(predictor)
    monkeypatch.setattr(TrainingModule, "progress", 0.9)
    skipped = gradients(module, batch)
    mask_BS = gates.mask_BS(len(batch))
    assert 0 < float(mask_BS.float().mean()) < 1
    assert gates.settled
    assert not any(name.startswith("model.gates.") for name in skipped)
    monkeypatch.setattr("speechgate.training.module.anneal", lambda gates, *_: setattr(gates, "settled", False))
    gates.force(mask_BS)
    multiplied = gradients(module, batch)
    assert skipped.keys() <= multiplied.keys()
    for name, value in multiplied.items():
        torch.testing.assert_close(skipped.get(name, torch.zeros_like(value)), value, atol=1e-5, rtol=1e-4, msg=name)


def gradients(module, batch):
    """Of all parameters that have one."""
    module.zero_grad()
    torch.manual_seed(0)
    module.training_step(replace(batch), 0).backward()
    return {name: value.grad.clone() for name, value in module.named_parameters() if value.grad is not None}


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
def test_a_sharded_model_multiplies_to_the_end(monkeypatch):
    module = module_of(**KINDS["dial"])
    monkeypatch.setattr(TrainingModule, "progress", 0.9)
    module.sharded = True
    assert any(name.startswith("model.gates.") for name in gradients(module, random_batch([6_000], [TASKS[0]])))
