"""Gates of groups of heads and channels: sliced equals multiplied, gradients are exact, the budget is met."""

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgate.config import GatesConfig
from speechgate.errors import ConfigError
from speechgate.gates.attach import attach, detach
from speechgate.gates.context import Context
from speechgate.gates.fixed import drop_closed
from speechgate.gates.sites import groups_of, module_shares
from speechgate.model.build import count_parameters
from speechgate.model.espnet_compat import PositionwiseFeedForward
from speechgate.whisper.layers import whisper_stacks
from tests.decoding.tiny_whisper import random_whisper
from tests.gates.gated import (
    batches,
    config_of,
    decode,
    encode,
    gated_layers,
    gated_model,
    grouped_configs,
    groups,
    random_mask,
    seeds,
    train,
)
from tests.model.tiny import LANGUAGES, TASKS, random_model, speech

SPLIT = {"heads": 2, "channels": 4}


def both(model, inputs, seed):
    encoded = encode(model, *inputs)
    return encoded[0], decode(model, *encoded, seed)


def test_sites_name_their_groups():
    config = config_of("e_branchformer", 16, 4, encoder_layers=1, decoder_layers=1)
    _, gates = gated_model(config, groups=SPLIT)
    channels = [f"c{i}" for i in range(4)]
    assert [str(site) for site in gates.sites] == [
        *(f"encoder.0.ffn1.{c}" for c in channels),
        "encoder.0.attn.h0",
        "encoder.0.attn.h1",
        "encoder.0.cgmlp",
        *(f"encoder.0.ffn2.{c}" for c in channels),
        *(f"decoder.0.{kind}.{h}" for kind in ("self_attn", "src_attn") for h in ("h0", "h1")),
        *(f"decoder.0.ffn.{c}" for c in channels),
    ]
    assert groups_of(gates.sites, "encoder") == (4, 2, 1, 4)
    assert sum(module_shares(gates.sites)) == pytest.approx(7)
    _, gates = gated_model(config, groups=SPLIT, stack="decoder")  # what is not gated stays whole
    assert groups_of(gates.sites, "encoder") == (1, 1, 1, 1)


@pytest.mark.parametrize("training", [False, True])
@settings(max_examples=8, deadline=None)
@given(config=grouped_configs, split=groups, lengths=batches, seed=seeds)
def test_all_open_is_the_ungated_model(training, config, split, lengths, seed):
    model = random_model(config, seed).train(training)
    inputs = speech(lengths, seed)
    expected = both(model, inputs, seed)
    gates = attach(model, GatesConfig(stack="both", groups=split), LANGUAGES)
    gates.force(torch.ones(1, len(gates.sites)))
    assert all(map(torch.equal, both(model, inputs, seed), expected))


@settings(max_examples=30, deadline=None)
@given(config=grouped_configs, split=groups, lengths=batches, seed=seeds, share=st.sampled_from([0.2, 0.5, 0.8]))
def test_multiplied_equals_sliced(config, split, lengths, seed, share):
    model, gates = gated_model(config, seed, groups=split)
    mask_BS = random_mask(gates, len(lengths), seed, share)
    inputs = speech(lengths, seed)
    outputs = []
    for training in (True, False):
        train(model) if training else model.eval()
        gates.force(mask_BS.float() if training else mask_BS)
        with torch.no_grad():
            outputs.append(both(model, inputs, seed))
    for multiplied, sliced in zip(*outputs, strict=True):
        torch.testing.assert_close(multiplied, sliced, atol=1e-5, rtol=1e-5)


@settings(max_examples=8, deadline=None)
@given(config=grouped_configs, split=groups, lengths=batches, seed=seeds)
def test_a_mask_of_whole_modules_is_that_of_modules_without_groups(config, split, lengths, seed):
    whole, gates = gated_model(config, seed)
    grouped = random_model(config, seed)
    grouped_gates = attach(grouped, GatesConfig(stack="both", groups=split), LANGUAGES)
    mask_BS = random_mask(gates, len(lengths), seed)
    place = {(s.stack, s.layer, s.kind): i for i, s in enumerate(gates.sites)}
    inputs = speech(lengths, seed)
    for mode in (True, False):
        gates.force(mask_BS)
        grouped_gates.force(mask_BS[:, [place[s.stack, s.layer, s.kind] for s in grouped_gates.sites]])
        outputs = [both(train(model) if mode else model.eval(), inputs, seed) for model in (whole, grouped)]
        for one, other in zip(*outputs, strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)


@settings(max_examples=15, deadline=None)
@given(config=grouped_configs, split=groups, lengths=batches, seed=seeds, share=st.sampled_from([0.0, 0.5, 0.8]))
def test_without_the_closed_groups_is_the_same_as_with_them_closed(config, split, lengths, seed, share):
    model, gates = gated_model(config, seed, groups=split)
    mask_1S = random_mask(gates, 1, seed, share)
    gates.force(mask_1S)
    inputs = speech(lengths, seed)
    expected = both(model, inputs, seed)
    before = count_parameters(detach(model))
    drop_closed(
        model,
        [str(site) for site, is_open in zip(gates.sites, mask_1S[0], strict=True) if not is_open],
        config=gates.config,
    )
    assert all(map(torch.equal, both(model, inputs, seed), expected))
    assert count_parameters(model) < before or bool(mask_1S.all())


@settings(max_examples=15, deadline=None)
@given(config=grouped_configs, split=groups, lengths=batches, seed=seeds, share=st.sampled_from([0.0, 0.5, 1.0]))
def test_every_gate_has_a_gradient_whether_open_or_closed(config, split, lengths, seed, share):
    model, gates = gated_model(config, seed, groups=split)
    mask_BS = random_mask(gates, len(lengths), seed, share).float().requires_grad_()
    gates.force(mask_BS)
    for part in model.modules():
        if isinstance(part, PositionwiseFeedForward):
            part.w_1.bias.data += 3.0  # or all channels of a group may be 0 over a few frames, by ReLU
    encoded = encode(train(model), *speech(lengths, seed))
    (encoded[0].sum() + decode(model, *encoded, seed).square().sum()).backward()
    if share == 0.0:  # through closed layers the first of a stack alone is heard: its norm ends each encoder layer
        mask_BS.grad[:, [site.stack == "encoder" for site in gates.sites]] += 1.0
    assert (mask_BS.grad != 0).all()


def test_what_a_closed_group_would_add_is_its_gradient():
    """With all groups closed too: the bias comes with the first that opens, the heads each with their own."""
    model, gates = gated_model(config_of("transformer", 16, 4, 1, 1), groups={"heads": 4})
    layer = gated_layers(model)[0]
    x_1TD = torch.randn(1, 5, 16)
    heads = [i for i, site in enumerate(gates.sites) if str(site).startswith("encoder.0.attn")]
    mask_1S = torch.zeros(1, len(gates.sites), requires_grad=True)
    model.train()
    gates.force(mask_1S)
    gates.decide("encoder", x_1TD, torch.ones(1, 5))
    layer(x_1TD, torch.ones(1, 1, 5, dtype=torch.bool))[0].sum().backward()
    model.eval()
    for head in heads:
        opened_1S = torch.zeros(1, len(gates.sites))
        opened_1S[0, head] = 1
        gates.force(opened_1S)
        gates.decide("encoder", x_1TD, torch.ones(1, 5))
        with torch.no_grad():
            added = layer(x_1TD, torch.ones(1, 1, 5, dtype=torch.bool))[0] - x_1TD
        torch.testing.assert_close(mask_1S.grad[0, head], added.sum(), atol=1e-4, rtol=1e-4)


def test_slices_follow_the_weights_and_copies_have_their_own():
    model, gates = gated_model(config_of("e_branchformer", 16, 4), groups=SPLIT)
    mask_1S = random_mask(gates, 1, 3)
    inputs = speech([5_000])
    gates.force(mask_1S)
    with torch.inference_mode():
        before = both(model, inputs, 0)
        assert gates.state.slices._kept
        kept = {id(sliced) for _, sliced, _ in gates.state.slices._kept.values()}
        both(model, inputs, 0)
        assert {id(sliced) for _, sliced, _ in gates.state.slices._kept.values()} == kept  # and are not made anew
    twin = copy.deepcopy(model)
    assert not twin.gates.state.slices._kept
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.mul_(1.1)
    fresh, fresh_gates = gated_model(config_of("e_branchformer", 16, 4), groups=SPLIT)
    fresh.load_state_dict(model.state_dict())
    fresh_gates.force(mask_1S)
    with torch.inference_mode():
        assert all(map(torch.equal, both(model, inputs, 0), both(fresh, inputs, 0)))
        assert all(map(torch.equal, both(twin, inputs, 0), before))


@pytest.mark.parametrize("unit", ["modules", "macs"])
@pytest.mark.parametrize("scope", ["global", "local"])
def test_the_budget_is_met_to_a_group(unit, scope):
    config = config_of("e_branchformer", 24, 4, 3, 3)
    model, gates = gated_model(config, rule="budget", target=0.4, groups=SPLIT, unit=unit, scope=scope)
    lengths = [3_000, 4_000, 5_000] * 4
    dither_B = (torch.arange(12) + 0.5) / 12
    gates.set_context(Context([TASKS[i % 3] for i in range(12)], dither_B=dither_B))
    both(model, speech(lengths), 0)
    mask_BS = gates.mask_BS(12)
    for stack in ("encoder", "decoder"):
        at = gates.sites_of(stack)
        cost_S = gates.cost_S[at]
        closed_B = (~mask_BS[:, at]).float() @ cost_S / cost_S.sum()
        largest = float(cost_S.max() / cost_S.sum()) * (gates.layers[stack] if scope == "local" else 1)
        assert ((closed_B - 0.4).abs() < largest).all()
        assert float(closed_B.mean()) == pytest.approx(0.4, abs=largest / 4)


@pytest.mark.parametrize(
    ("encoder", "keys", "message"),
    [
        ("transformer", {"groups": {"head": 2}}, r"gates\.groups: 'head' is not known; did you mean 'heads'"),
        ("transformer", {"groups": {"heads": 1}}, r"gates\.groups\.heads is 1: give the number of groups"),
        ("transformer", {"groups": {"heads": 2}, "granularity": "layer"}, "granularity layer exclude each other"),
        ("transformer", {"groups": {"heads": 3}}, r"gates\.groups\.heads is 3: encoder\.0\.attn has 2 heads"),
        ("branchformer of cgMLP", {"groups": {"heads": 2}, "stack": "encoder"}, r"no module .*\(encoder\) has heads"),
    ],
)
def test_what_cannot_be_divided_is_refused(encoder, keys, message):
    with pytest.raises(ConfigError, match=message):
        attach(random_model(config_of(encoder)), GatesConfig(**{"stack": "both", **keys}), LANGUAGES)


def test_feed_forward_modules_of_convolutions_cannot_be_divided():
    config = config_of("transformer")
    config = replace(config, encoder=config.encoder | {"positionwise_layer_type": "conv1d"})
    with pytest.raises(ConfigError, match=r"channels is 2: encoder\.0\.ffn has no channels that can be so divided"):
        attach(random_model(config), GatesConfig(stack="both", groups={"channels": 2}), LANGUAGES)


def test_whisper_s_modules_cannot_be_divided():
    model = random_whisper()
    with pytest.raises(ConfigError, match=r"no module .*\(decoder\) has heads that can be divided; leave heads out"):
        attach(model, GatesConfig(stack="decoder", groups={"heads": 2}), LANGUAGES, whisper_stacks)
    assert not hasattr(model, "gates")
