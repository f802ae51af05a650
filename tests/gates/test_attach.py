"""Gates come and go without a trace in the model, and refuse what they do not fit."""

import copy
import pickle

import pytest
import torch

from speechgate.config import GatesConfig
from speechgate.errors import ConfigError
from speechgate.gates.attach import attach, detach
from speechgate.gates.layers import GatedDecoderLayer, GatedEBranchformerEncoderLayer
from tests.gates.gated import decode, encode, gated_model
from tests.model.tiny import LANGUAGES, TASKS, random_model, speech, tiny_config


@pytest.mark.parametrize("stack", ["encoder", "decoder", "both"])
def test_attach_keeps_keys_and_detach_gives_the_model_back(stack):
    config = tiny_config()
    model = random_model(config)
    inputs = speech([4_000, 6_000])
    keys, attributes = list(model.state_dict()), {name: set(vars(m)) for name, m in model.named_modules()}
    classes = {name: type(m) for name, m in model.named_modules()}
    encoded = encode(model, *inputs)
    logits = decode(model, *encoded)

    gates = attach(model, GatesConfig(stack=stack), LANGUAGES)
    assert [key for key in model.state_dict() if not key.startswith("gates.")] == keys
    assert any(key.startswith("gates.") for key in model.state_dict())
    assert all(isinstance(layer, GatedEBranchformerEncoderLayer) for layer in model.encoder.encoders)
    assert all(isinstance(layer, GatedDecoderLayer) for layer in model.decoder.decoders)
    gates.force(torch.zeros(1, len(gates.sites)))
    assert not torch.equal(encode(model, *inputs)[0], encoded[0])

    assert detach(model) is model
    assert {name: type(m) for name, m in model.named_modules()} == classes
    assert {name: set(vars(m)) for name, m in model.named_modules()} == attributes
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert list(model.state_dict()) == keys
    found = encode(model, *inputs)
    assert torch.equal(found[0], encoded[0])
    assert torch.equal(decode(model, *found), logits)
    attach(model, GatesConfig(stack=stack), LANGUAGES)  # and it can be gated again


@pytest.mark.parametrize("how", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_has_gates_of_its_own(how):
    model, gates = gated_model(tiny_config())
    inputs = speech([4_000, 6_000])
    gates.set_context(TASKS[:2])
    with torch.no_grad():
        encoded = encode(model, *inputs)
        logits = decode(model, *encoded)
    twin = how(model)
    twin.gates.set_context(TASKS[:2])
    gates.force(torch.zeros(1, len(gates.sites)))  # of the original alone
    with torch.no_grad():
        found = encode(twin, *inputs)
        assert torch.equal(found[0], encoded[0])
        assert torch.equal(decode(twin, *found), logits)
        assert not torch.equal(encode(model, *inputs)[0], encoded[0])
    assert twin.gates.state is twin.encoder.encoders[0].gate_state is twin.decoder.decoders[-1].gate_state
    assert twin.gates.state is not gates.state


def test_attach_takes_over_the_mode_of_the_model():
    model = random_model(tiny_config()).train()
    assert attach(model, GatesConfig(), LANGUAGES).training
    model = random_model(tiny_config()).eval()
    assert not attach(model, GatesConfig(), LANGUAGES).training


def test_attach_refuses():
    model, _ = gated_model(tiny_config())
    with pytest.raises(ConfigError, match="gates already"):
        attach(model, GatesConfig(), LANGUAGES)
    model = random_model(tiny_config())
    model.decoder.decoders[0].normalize_before = False
    with pytest.raises(ConfigError, match="pre-norm"):
        attach(model, GatesConfig(), LANGUAGES)
    model = random_model(tiny_config())
    model.encoder.encoders[1] = torch.nn.Identity()
    with pytest.raises(ConfigError, match="class Identity; known: EBranchformerEncoderLayer, DecoderLayer"):
        attach(model, GatesConfig(), LANGUAGES)
    assert not hasattr(model, "gates")


@pytest.mark.parametrize(
    "keys",
    [
        {"macaron_ffn": False},
        {"use_ffn": False},
        {"attention_layer_type": "fast_selfattn", "pos_enc_layer_type": "abs_pos"},
    ],
)
def test_an_encoder_without_all_the_modules_is_refused(keys):
    config = tiny_config()
    config.encoder.update(keys)
    with pytest.raises(ConfigError, match=r"model\.encoder"):
        attach(random_model(config), GatesConfig(), LANGUAGES)
