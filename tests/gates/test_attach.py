"""Gates come and go without a trace in the model, and refuse what they do not fit."""

import copy
import pickle

import pytest
import torch
from espnet2.asr.ctc import CTC
from espnet2.asr.espnet_model import ESPnetASRModel

from speechgate.config import GatesConfig
from speechgate.errors import ConfigError
from speechgate.gates.attach import attach, detach
from speechgate.gates.layer import Gated
from tests.gates.gated import ENCODERS, config_of, decode, encode, gated_model
from tests.model.tiny import LANGUAGES, TASKS, random_model, speech, tiny_config, tokenizer


def asr_model(config):
    """An ``ESPnetASRModel`` with the encoder and decoder of that S2T model."""
    model = random_model(config)
    tokens = [*tokenizer().token_list[:-1], "<sos/eos>"]
    return ESPnetASRModel(
        len(tokens), tokens, model.frontend, None, model.normalize, None, model.encoder, None, model.decoder,
        CTC(len(tokens), model.encoder.output_size()), None, report_cer=False, report_wer=False,
    ).eval()  # fmt: skip


@pytest.mark.parametrize("build", [random_model, asr_model])
@pytest.mark.parametrize("encoder", sorted(ENCODERS))
@pytest.mark.parametrize("stack", ["encoder", "decoder", "both"])
def test_attach_keeps_keys_and_detach_gives_the_model_back(stack, encoder, build):
    model = build(config_of(encoder))
    inputs = speech([4_000, 6_000])
    keys, attributes = list(model.state_dict()), {name: set(vars(m)) for name, m in model.named_modules()}
    classes = {name: type(m) for name, m in model.named_modules()}
    encoded = encode(model, *inputs)
    logits = decode(model, *encoded)

    gates = attach(model, GatesConfig(stack=stack), LANGUAGES)
    assert [key for key in model.state_dict() if not key.startswith("gates.")] == keys
    assert any(key.startswith("gates.") for key in model.state_dict())
    assert all(isinstance(layer, Gated) for layer in (*model.encoder.encoders, *model.decoder.decoders))
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


def test_a_model_without_a_decoder_has_an_encoder_to_gate():
    model = random_model(config_of("conformer"))
    model.decoder = None
    with pytest.raises(ConfigError, match="no decoder to gate"):
        attach(model, GatesConfig(stack="both"), LANGUAGES)
    gates = attach(model, GatesConfig(stack="encoder"), LANGUAGES)
    assert {site.stack for site in gates.sites} == {"encoder"}


@pytest.mark.parametrize(
    ("encoder", "kinds"),
    [
        ("e_branchformer", ("ffn1", "attn", "cgmlp", "ffn2")),
        ("e_branchformer with one FFN, legacy positions", ("attn", "cgmlp", "ffn2")),
        ("e_branchformer without FFN", ("attn", "cgmlp")),
        ("branchformer", ("attn", "cgmlp")),
        ("branchformer of attention", ("attn",)),
        ("branchformer of cgMLP", ("cgmlp",)),
        ("conformer", ("ffn1", "attn", "conv", "ffn2")),
        ("conformer without macaron", ("attn", "conv", "ffn2")),
        ("conformer without convolution, legacy positions", ("ffn1", "attn", "ffn2")),
        ("transformer", ("attn", "ffn")),
    ],
)
def test_a_layer_has_a_site_for_each_of_its_modules(encoder, kinds):
    gates = attach(random_model(config_of(encoder)), GatesConfig(), LANGUAGES)
    assert [(site.layer, site.kind) for site in gates.sites if site.stack == "encoder"] == [
        (layer, kind) for layer in (0, 1) for kind in kinds
    ]


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
    detach(twin)
    assert not any(m._forward_pre_hooks for m in twin.modules())
    assert model.encoder.encoders[0]._forward_pre_hooks


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
    with pytest.raises(ConfigError, match=r"model\.decoder\.normalize_before is False: gates need"):
        attach(model, GatesConfig(), LANGUAGES)
    model = random_model(tiny_config())
    model.encoder.encoders[1] = torch.nn.Identity()
    with pytest.raises(ConfigError, match="class EBranchformerEncoderLayer, Identity; known: EBr"):
        attach(model, GatesConfig(), LANGUAGES)
    assert not hasattr(model, "gates")


@pytest.mark.parametrize(
    ("encoder", "option", "value"),
    [
        ("conformer", "stochastic_depth_rate", 0.1),
        ("branchformer learned average", "attn_branch_drop_rate", 0.1),
        ("e_branchformer", "layer_drop_rate", 0.1),
        ("transformer", "normalize_before", False),
        ("transformer", "concat_after", True),
    ],
)
def test_an_option_that_gates_do_not_go_with_is_refused(encoder, option, value):
    config = config_of(encoder)
    config.encoder[option] = value
    with pytest.raises(ConfigError, match=rf"model\.encoder\.{option} is {value}: gates need {option}"):
        attach(random_model(config), GatesConfig(), LANGUAGES)


def test_layers_of_different_modules_are_refused():
    config = config_of("branchformer fixed average, legacy positions")
    config.encoder["cgmlp_weight"] = [0.5, 1.0]
    with pytest.raises(ConfigError, match="its layers differ in the modules that they have"):
        attach(random_model(config), GatesConfig(), LANGUAGES)


def test_an_attention_of_unknown_cost_is_refused():
    config = tiny_config()
    config.encoder.update(attention_layer_type="fast_selfattn", pos_enc_layer_type="abs_pos")
    with pytest.raises(ConfigError, match=r"model\.encoder: the cost of FastSelfAttention is not known"):
        attach(random_model(config), GatesConfig(), LANGUAGES)
