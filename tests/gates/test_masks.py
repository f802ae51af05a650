"""What any mask of gates means: multiplied or skipped is the same, open is dense, closed is the residual."""

import pytest
import torch
from hypothesis import given, settings

from speechgate.config import GatesConfig
from speechgate.errors import ConfigError
from speechgate.gates.attach import attach
from speechgate.gates.sites import GateSite
from tests.gates.gated import (
    batches,
    configs,
    count_calls,
    decode,
    encode,
    gated_layers,
    gated_model,
    random_mask,
    seeds,
    train,
)
from tests.model.tiny import LANGUAGES, TASKS, random_model, speech, tiny_config


def first(values):
    """The residual stream among a layer's inputs or outputs, in which positions may go with it."""
    return values[0][0] if isinstance(values[0], tuple) else values[0]


@pytest.mark.parametrize("training", [False, True])
@settings(max_examples=10, deadline=None)
@given(config=configs, lengths=batches, seed=seeds)
def test_all_open_is_the_ungated_model(training, config, lengths, seed):
    model = random_model(config, seed).train(training)
    speech_BN, lengths_B = speech(lengths, seed)
    expected = encode(model, speech_BN, lengths_B)
    expected_logits = decode(model, *expected, seed)

    gates = attach(model, GatesConfig(stack="both"), LANGUAGES)
    gates.force(torch.ones(1, len(gates.sites)))
    found = encode(model, speech_BN, lengths_B)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    assert torch.equal(decode(model, *found, seed), expected_logits)


@pytest.mark.parametrize("training", [False, True])
def test_gates_that_the_predictor_opens_are_exactly_one(training):
    config = tiny_config()
    dense = random_model(config).train(training)
    model, gates = gated_model(config)
    model.train(training)
    for predictor in gates.predictors.values():
        torch.nn.init.constant_(predictor.network[-1].bias, 50.0)
    speech_BN, lengths_B = speech([6_000, 4_000])
    gates.set_context([TASKS[0], TASKS[2]])
    expected, found = encode(dense, speech_BN, lengths_B), encode(model, speech_BN, lengths_B)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(decode(model, *found), decode(dense, *expected))


@settings(max_examples=30, deadline=None)
@given(config=configs, lengths=batches, seed=seeds)
def test_multiplied_equals_skipped(config, lengths, seed):
    model, gates = gated_model(config, seed)
    mask_BS = random_mask(gates, len(lengths), seed)
    inputs = speech(lengths, seed)
    outputs = []
    for training in (True, False):
        train(model) if training else model.eval()
        gates.force(mask_BS.float() if training else mask_BS)
        with torch.no_grad():
            encoded = encode(model, *inputs)
            outputs.append((encoded[0], decode(model, *encoded, seed)))
        assert torch.equal(gates.mask_BS(len(lengths)), mask_BS)
    for multiplied, skipped in zip(*outputs, strict=True):
        torch.testing.assert_close(multiplied, skipped, atol=1e-5, rtol=1e-5)


@settings(max_examples=10, deadline=None)
@given(config=configs, seed=seeds)
def test_one_mask_for_all_is_that_mask_for_each(config, seed):
    model, gates = gated_model(config, seed)
    inputs = speech([4_000, 7_000], seed)
    mask_1S = random_mask(gates, 1, seed)
    outputs = []
    for mask in (mask_1S, mask_1S.expand(2, -1)):
        gates.force(mask)
        encoded = encode(model, *inputs)
        outputs.append(decode(model, *encoded, seed))
        assert torch.equal(gates.mask_BS(2), mask_1S.expand(2, -1))
    assert torch.equal(*outputs)


@pytest.mark.parametrize("training", [False, True])
@settings(max_examples=5, deadline=None)
@given(config=configs, seed=seeds)
def test_all_closed_is_the_residual_stream(training, config, seed):
    model, gates = gated_model(config, seed)
    model.train(training)
    gates.force(torch.zeros(1, len(gates.sites)))
    seen = []
    for layer in gated_layers(model):
        layer.register_forward_hook(lambda layer, inputs, outputs: seen.append((layer, first(inputs), first(outputs))))
    decode(model, *encode(model, *speech([5_000, 3_000], seed)))
    assert [layer for layer, _, _ in seen] == gated_layers(model)
    for layer, x_BTD, y_BTD in seen:
        assert torch.equal(y_BTD, layer.norm_final(x_BTD) if hasattr(layer, "norm_final") else x_BTD)


@settings(max_examples=10, deadline=None)
@given(config=configs, lengths=batches, seed=seeds)
def test_a_module_runs_where_a_gate_of_the_batch_is_open_and_only_there(config, lengths, seed):
    model, gates = gated_model(config, seed)
    mask_BS = random_mask(gates, len(lengths), seed, share=0.3)
    gates.force(mask_BS)
    with count_calls(model) as calls:
        decode(model, *encode(model, *speech(lengths, seed)))
    any_open = {str(site): bool(open_B.any()) for site, open_B in zip(gates.sites, mask_BS.T, strict=True)}
    for layer in gated_layers(model):
        for joint in layer.joints:  # a merge too is left out where both of its branches are closed
            where = f"{layer.gate_stack}.{layer.gate_layer}"
            any_open[f"{where}.{joint.name}"] = any(any_open.get(f"{where}.{kind}", False) for kind in joint.of)
    assert calls == {name: 1 for name, is_open in any_open.items() if is_open}


def test_a_module_gets_only_the_rows_that_are_open():
    model, gates = gated_model(tiny_config(encoder_layers=1, decoder_layers=1))
    mask_BS = torch.tensor([[1, 0, 0, 1, 1, 0, 1], [0, 1, 0, 1, 0, 0, 0], [1, 0, 0, 1, 1, 1, 0]], dtype=torch.bool)
    gates.force(mask_BS)
    rows = {}
    layer, decoder_layer = model.encoder.encoders[0], model.decoder.decoders[0]
    for owner, name in [
        (layer, "feed_forward_macaron"),
        (layer, "attn"),
        (layer, "feed_forward"),
        (layer, "merge_proj"),
    ]:
        getattr(owner, name).register_forward_hook(lambda _, inputs, out, name=name: rows.update({name: len(out)}))
    for name in ("self_attn", "src_attn"):
        getattr(decoder_layer, name).register_forward_hook(
            lambda _, inputs, out, name=name: rows.update({name: len(out)})
        )
    decode(model, *encode(model, *speech([3_000, 5_000, 4_000])))
    assert rows == {
        "feed_forward_macaron": 2,
        "attn": 1,
        "feed_forward": 3,
        "merge_proj": 1,
        "self_attn": 2,
        "src_attn": 1,
    }


def test_training_runs_every_module():
    model, gates = gated_model(tiny_config())
    gates.force(torch.zeros(1, len(gates.sites)))
    model.train()
    with count_calls(model) as calls:
        decode(model, *encode(model, *speech([3_000])))
    assert set(calls.values()) == {1}
    assert len(calls) == len(gates.sites) + len(model.encoder.encoders)


def test_booleans_may_be_forced_while_training():
    model, gates = gated_model(tiny_config())
    model.train()
    inputs = speech([3_000, 4_000])
    mask_BS = random_mask(gates, 2, seed=3)
    outputs = []
    for forced in (mask_BS, mask_BS.float()):
        gates.force(forced)
        outputs.append(decode(model, *encode(model, *inputs)))
    assert torch.equal(*outputs)


def test_sites_are_in_the_order_of_execution():
    _, gates = gated_model(tiny_config(encoder_layers=2, decoder_layers=1))
    kinds = [(site.stack, site.layer, site.kind) for site in gates.sites]
    encoder = [("encoder", layer, kind) for layer in (0, 1) for kind in ("ffn1", "attn", "cgmlp", "ffn2")]
    assert kinds == [*encoder, *(("decoder", 0, kind) for kind in ("self_attn", "src_attn", "ffn"))]
    assert str(GateSite("encoder", 1, "cgmlp")) == "encoder.1.cgmlp"


def test_forced_masks_of_another_batch_are_refused():
    model, gates = gated_model(tiny_config())
    gates.force(random_mask(gates, 3, seed=0))
    with pytest.raises(ConfigError, match="3 forced masks for a batch of 2"):
        encode(model, *speech([3_000, 4_000]))


@settings(max_examples=20, deadline=None)
@given(config=configs, lengths=batches, seed=seeds)
def test_every_gate_has_a_gradient_whether_open_or_closed(config, lengths, seed):
    model, gates = gated_model(config, seed)
    mask_BS = random_mask(gates, len(lengths), seed).float().requires_grad_()
    gates.force(mask_BS)
    encoded = encode(train(model), *speech(lengths, seed))
    (encoded[0].sum() + decode(model, *encoded, seed).square().sum()).backward()  # CTC hears the encoder too
    assert (mask_BS.grad != 0).all()
