"""Adapters beside frozen weights: nothing at first, all of the training later, and an ordinary model in the end."""

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from speechgate.config import GatesConfig, LoraConfig, TrainConfig
from speechgate.errors import ConfigError
from speechgate.gates.attach import attach
from speechgate.training.lora import Adapters
from speechgate.training.module import TrainingModule
from tests.gates.test_context import random_batch
from tests.model.tiny import LANGUAGES, TASKS, speech
from tests.training.test_trained import espnet, tiny_host, tiny_whisper


def whisper_output(model: Any) -> torch.Tensor:
    mel_BMT = torch.randn(2, 8, 40, generator=torch.Generator().manual_seed(1))
    return model(input_features=mel_BMT, decoder_input_ids=torch.tensor([[1, 5, 6], [1, 7, 8]])).logits


def host_output(model: Any) -> torch.Tensor:
    out_BTD, lengths_B = model.encode(*speech([6_000, 5_000]))
    return model.decoder(out_BTD, lengths_B, torch.tensor([[1, 5, 6], [1, 7, 8]]), torch.tensor([3, 3]))[0]


def espnet_output(model: Any) -> torch.Tensor:
    out_BTD, lengths_B = model.encode(*speech([6_000, 5_000]))
    return model.decoder(out_BTD, lengths_B, torch.tensor([[3, 12, 13], [3, 14, 15]]), torch.tensor([3, 3]))[0]


@pytest.mark.parametrize(
    ("build", "output", "targets", "full"),
    [
        (tiny_whisper, whisper_output, ("*.q_proj", "*.decoder.*.fc?"), ("*.decoder.layer_norm.*",)),
        (tiny_host, host_output, ("*.q_proj", "decoder.*.fc?"), ("decoder.decoder.layer_norm.*",)),
        (espnet, espnet_output, ("*.linear_[qv]", "*.w_1"), ("decoder.after_norm.*",)),
    ],
)
def test_adapters_begin_as_nothing_train_alone_and_merge(
    build: Callable[[], Any], output: Callable[[Any], torch.Tensor], targets: tuple[str, ...], full: tuple[str, ...]
) -> None:
    model = build().eval()
    keys, dense = list(model.state_dict()), {name: each.clone() for name, each in model.state_dict().items()}
    before = output(model).detach()
    adapters = Adapters(model, LoraConfig(targets, rank=2, full=full))
    assert torch.equal(output(model), before)
    trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
    assert all("lora_" in name or "norm" in name for name in trained)
    optimizer = torch.optim.SGD(trained.values(), lr=1.0)
    for _ in range(2):  # the second factor begins at 0, so the first one moves an update later
        optimizer.zero_grad()
        output(model).square().mean().backward()
        optimizer.step()
    after = output(model).detach()
    assert (after - before).abs().max() > 1e-3
    adapters.merge()
    assert list(model.state_dict()) == keys
    assert not hasattr(model, "peft_config")
    torch.testing.assert_close(output(model), after, rtol=1e-4, atol=1e-5)
    changed = {name for name, each in model.state_dict().items() if not torch.equal(each, dense[name])}
    assert any("layer_norm" in name or "after_norm" in name for name in changed)
    ends = ("q_proj.weight", "fc1.weight", "fc2.weight", "linear_q.weight", "linear_v.weight", "w_1.weight")
    assert all(name.endswith(ends) or "norm" in name for name in changed)


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
@pytest.mark.parametrize(
    ("build", "targets", "ctc_weight"),
    [(espnet, ("*.linear_q",), 0.3), (tiny_host, ("*.q_proj",), 0.0)],
)
def test_gates_train_beside_adapters(build: Callable[[], Any], targets: tuple[str, ...], ctc_weight: float) -> None:
    model = build().train()
    gates = GatesConfig(stack="both", ramp=0.0)
    attach(model, gates, LANGUAGES)
    config = TrainConfig(warmup=0, ctc_weight=ctc_weight, lora=LoraConfig(targets, rank=2))
    adapters = Adapters(model, config.lora)
    module = TrainingModule(model, config, gates, lambda: 0.0)
    optimizer = module.configure_optimizers()["optimizer"]
    before = {name: each.detach().clone() for name, each in model.named_parameters()}
    for update in range(2):
        optimizer.zero_grad()
        module.training_step(random_batch([6_000, 4_000], list(TASKS[:2]), update), update).backward()
        optimizer.step()
    moved = {name for name, each in model.named_parameters() if not torch.equal(each, before[name])}
    assert {name.split(".")[0] for name in moved if "lora_" not in name} == {"gates"}
    assert any("lora_A" in name for name in moved)
    adapters.merge()
    fresh = build()
    attach(fresh, gates, LANGUAGES)
    fresh.load_state_dict(model.state_dict())


def test_what_cannot_be_adapted_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"train.lora.targets: nothing is named '\*.q_prj'"):
        Adapters(tiny_whisper(), LoraConfig(("*.q_prj",)))
    with pytest.raises(ConfigError, match=r"proj_out shares its weight with model\.decoder\.embed_tokens"):
        Adapters(tiny_whisper(), LoraConfig(("proj_out",)))
    with pytest.raises(ConfigError, match=r"no train.freeze"):
        TrainConfig(lora=LoraConfig(("*.q_proj",)), freeze=("encoder.*",))
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match=r"install speechgate\[lora\]"):
        Adapters(tiny_whisper(), LoraConfig(("*.q_proj",)))
