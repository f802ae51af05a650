"""What patterns freeze, and how fast each layer learns, in models that name their parameters differently."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import WhisperConfig, WhisperForConditionalGeneration

from speechgate.config import GatesConfig, TrainConfig
from speechgate.errors import ConfigError
from speechgate.gates.attach import attach
from speechgate.training.module import TrainingModule
from speechgate.training.trained import choose_trained, layer_scales, parameter_groups
from speechgate.whisper.host import WhisperHost
from tests.gates.test_context import random_batch
from tests.model.tiny import LANGUAGES, TASKS, random_model, tiny_config

pytestmark = pytest.mark.filterwarnings("ignore:You are trying to `self.log")


def tiny_whisper() -> Any:
    torch.manual_seed(0)
    sizes = {"d_model": 16, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "vocab_size": 60}
    sizes |= {"encoder_layers": 3, "decoder_layers": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24}
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    return WhisperForConditionalGeneration(WhisperConfig(**sizes, **special, num_mel_bins=8, max_source_positions=20))


def tiny_host() -> Any:
    return WhisperHost(tiny_whisper(), lsm_weight=0.1, specaug=None)


def espnet() -> Any:
    return random_model(tiny_config())


def frozen(model: Any) -> set[str]:
    return {name for name, each in model.named_parameters() if not each.requires_grad}


@pytest.mark.parametrize(
    ("build", "pattern", "prefix"),
    [
        (espnet, "encoder.*", "encoder."),
        (tiny_whisper, "model.encoder.*", "model.encoder."),
        (tiny_host, "decoder.decoder.layers.*", "decoder.decoder.layers."),
    ],
)
def test_a_pattern_freezes_what_it_names_and_nothing_else(build: Callable[[], Any], pattern: str, prefix: str) -> None:
    model = build()
    before = frozen(model)  # Whisper's sinusoidal positions
    choose_trained(model, TrainConfig(freeze=(pattern,)))
    names = {name for name, _ in model.named_parameters()}
    assert frozen(model) - before == {name for name in names - before if name.startswith(prefix)}


@pytest.mark.parametrize(("build", "ctc_weight"), [(espnet, 0.3), (tiny_host, 0.0)])
def test_an_update_moves_the_rest_and_the_gates_whatever_the_pattern(
    build: Callable[[], Any], ctc_weight: float
) -> None:
    for patterns, moving in ((("decoder.*",), "encoder."), (("*",), "gates.")):
        model = build().train()
        gates = GatesConfig(stack="both", ramp=0.0)
        attach(model, gates, LANGUAGES)
        config = TrainConfig(freeze=patterns, warmup=0, ctc_weight=ctc_weight)
        choose_trained(model, config)
        module = TrainingModule(model, config, gates, lambda: 0.0)
        optimizer = module.configure_optimizers()["optimizer"]
        before = {name: each.detach().clone() for name, each in model.named_parameters()}
        module.training_step(random_batch([6_000, 4_000], list(TASKS[:2])), 0).backward()
        optimizer.step()
        moved = {name for name, each in model.named_parameters() if not torch.equal(each, before[name])}
        assert any(name.startswith(moving) for name in moved)
        assert not moved & frozen(model)
        assert frozen(model)


def test_patterns_that_fit_nothing_or_leave_nothing_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"train.freeze: nothing is named 'encodr.after_norm.bias'; the nearest is 'enc"
    ):
        choose_trained(espnet(), TrainConfig(freeze=("encodr.after_norm.bias",)))
    with pytest.raises(ConfigError, match="leaves nothing to train"):
        choose_trained(espnet(), TrainConfig(freeze=("*",)))


def test_frozen_batch_normalisation_keeps_its_statistics() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).train()
    choose_trained(model, TrainConfig(freeze=("1.*",)))
    model(torch.randn(8, 3))
    assert torch.equal(model[1].running_mean, torch.zeros(3))


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (
            espnet,
            {
                "encoder.encoders.1.attn.linear_q.weight": 1.0,
                "encoder.encoders.0.attn.linear_q.weight": 0.5,
                "encoder.embed.conv.0.weight": 0.25,
                "encoder.after_norm.weight": 1.0,
                "decoder.embed.0.weight": 0.25,
                "decoder.decoders.0.feed_forward.w_1.weight": 0.5,
                "decoder.output_layer.weight": 1.0,
                "ctc.ctc_lo.weight": 1.0,
            },
        ),
        (
            tiny_whisper,
            {
                "model.encoder.layers.2.fc1.weight": 1.0,
                "model.encoder.layers.0.fc1.weight": 0.25,
                "model.encoder.conv1.weight": 0.125,
                "model.encoder.layer_norm.weight": 1.0,
                "model.decoder.layers.0.encoder_attn.k_proj.weight": 0.5,
                "model.decoder.embed_positions.weight": 0.25,
            },
        ),
        (
            tiny_host,
            {
                "encoder.layers.0.self_attn.q_proj.weight": 0.25,
                "encoder.conv1.weight": 0.125,
                "decoder.decoder.layers.1.fc2.weight": 1.0,
                "decoder.decoder.layers.0.fc2.weight": 0.5,
                "decoder.decoder.embed_tokens.weight": 0.25,
                "decoder.decoder.layer_norm.weight": 1.0,
            },
        ),
    ],
)
def test_layers_learn_more_slowly_the_deeper_they_lie(build: Callable[[], Any], expected: dict[str, float]) -> None:
    parameters = dict(build().named_parameters())
    scales = layer_scales(list(parameters), 0.5)
    assert {name: scales[name] for name in expected} == expected
    groups = parameter_groups(parameters, TrainConfig(layer_decay=0.5, learning_rate=0.1), None)
    rates = {id(each): group["lr"] for group in groups for each in group["params"]}
    trained = {name: each for name, each in parameters.items() if each.requires_grad}
    assert len(rates) == len(trained) == sum(len(group["params"]) for group in groups)
    assert all(rates[id(each)] == pytest.approx(0.1 * scales[name]) for name, each in trained.items())


def test_a_decay_needs_numbered_layers() -> None:
    with pytest.raises(ConfigError, match="no numbered layers"):
        layer_scales(["weight", "bias"], 0.9)
