"""Gates fixed for good: the model without the closed modules is the one with these gates forced."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgate.config import GatesConfig
from speechgate.errors import ConfigError
from speechgate.gates.attach import attach, detach
from speechgate.gates.fixed import drop_closed
from speechgate.model.build import count_parameters
from tests.gates.gated import batches, config_of, configs, decode, encode, gated_model, random_mask, seeds
from tests.model.tiny import LANGUAGES, random_model, speech


@settings(max_examples=25, deadline=None)
@given(config=configs, lengths=batches, seed=seeds, share=st.sampled_from([0.0, 0.3, 0.7, 1.0]))
def test_without_the_closed_modules_is_the_same_as_with_them_closed(config, lengths, seed, share):
    model, gates = gated_model(config, seed)
    mask_1S = random_mask(gates, 1, seed, share)
    gates.force(mask_1S)
    inputs = speech(lengths, seed)
    encoded = encode(model, *inputs)
    logits = decode(model, *encoded, seed)
    before = count_parameters(detach(model))

    drop_closed(model, [str(site) for site, is_open in zip(gates.sites, mask_1S[0], strict=True) if not is_open])
    found = encode(model, *inputs)
    assert torch.equal(found[0], encoded[0])
    assert torch.equal(decode(model, *found, seed), logits)
    assert torch.equal(decode(model.train(), *found, seed), logits)  # in any mode: the tiny decoders have no dropout
    if not mask_1S.all():
        assert count_parameters(model) < before
    left = {name.rpartition(".")[0] for name, _ in model.named_parameters()}
    for site, is_open in zip(gates.sites, mask_1S[0].tolist(), strict=True):
        place = "encoder.encoders" if site.stack == "encoder" else "decoder.decoders"
        layer = model.get_submodule(f"{place}.{site.layer}")
        kind = next(kind for kind in layer.kinds if kind.name == site.kind)
        own = [name for name in left if name.startswith(f"{place}.{site.layer}.{kind.parts[0]}.")]
        assert bool(own) == is_open, str(site)


def test_what_no_branch_feeds_goes_too():
    model = random_model(config_of("e_branchformer"))
    drop_closed(model, ["encoder.0.attn", "encoder.0.cgmlp", "encoder.1.attn"])
    first, second = model.encoder.encoders
    assert first.merge_proj is None
    assert first.depthwise_conv_fusion is None
    assert first.feed_forward is not None
    assert second.attn is None
    assert second.norm_mha is None
    assert second.merge_proj is not None


def test_a_site_of_another_model_is_refused():
    model = random_model(config_of("conformer"))
    with pytest.raises(ConfigError, match=r"no site 'encoder\.0\.cgmlp' to close"):
        drop_closed(model, ["encoder.0.conv", "encoder.0.cgmlp"])
    attach(model, GatesConfig(), LANGUAGES)  # and nothing was changed
