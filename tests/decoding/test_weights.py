"""Closed modules: the search over the open ones equals ESPnet's over a decoder whose closed ones add nothing."""

import pytest
import torch
from espnet2.asr.decoder.transformer_decoder import TransformerDecoder
from torch import nn

from speechgate.decoding.search import SearchOptions, prepare_decoder
from speechgate.decoding.search.blocks import SelfAttention, SourceAttention
from speechgate.decoding.search.running import RunningDecoder
from speechgate.decoding.search.weights import _sinusoids
from speechgate.errors import ConfigError
from tests.decoding.reference import assert_same, random_model

KIND_NAMES = ("self_attn", "src_attn", "feed_forward")


def silence(decoder, mask):
    """Make the closed modules of an ESPnet decoder return zeros; the handles undo it."""
    return [
        getattr(layer, name).register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
        for layer, row in zip(decoder.decoders, mask.tolist(), strict=True)
        for name, is_open in zip(KIND_NAMES, row, strict=True)
        if not is_open
    ]


@pytest.mark.parametrize("seed", range(6))
def test_masked_equals_espnet_with_silent_modules(seed):
    model = random_model(layers=3, seed=seed, eos_bias=2.0)
    mask = torch.rand(3, 3, generator=torch.Generator().manual_seed(seed)) < 0.5
    options = SearchOptions(beam_size=3, ctc_weight=(0.0, 0.3)[seed % 2], nbest=2)
    inputs = model.encoder_out([15, 6, 21], seed)
    silence(model.decoder, mask)
    assert_same(model.search(*inputs, options, mask=mask), model.espnet_search(*inputs, options))


def test_all_open_is_the_dense_decoder_and_all_closed_the_embedding():
    model = random_model()
    dense = prepare_decoder(model.decoder)
    assert dense.only(torch.ones(2, 3)).blocks == dense.blocks
    assert dense.only(torch.zeros(2, 3)).blocks == ()
    inputs = model.encoder_out([9, 12])
    silence(model.decoder, torch.zeros(2, 3))
    options = SearchOptions(nbest=2)
    assert_same(model.search(*inputs, options, mask=torch.zeros(2, 3)), model.espnet_search(*inputs, options))


def test_closed_modules_leave_nothing_behind():
    weights = prepare_decoder(random_model().decoder, torch.tensor([[True, False, False], [False, True, True]]))
    kept = [type(block).__name__ for block in weights.blocks]
    assert kept == ["SelfAttention", "SourceAttention", "FeedForward"]
    running = RunningDecoder(weights, torch.randn(2, 5, 32), [5, 5], torch.tensor([[1], [1]]), 2, 4)
    assert len(running._modules) == 3


def test_masks_share_the_weights():
    dense = prepare_decoder(random_model().decoder)
    half = dense.only([[True, True, False], [False, True, True]])
    assert half.blocks[0] is dense.blocks[0]
    assert isinstance(half.blocks[0], SelfAttention)
    assert isinstance(half.blocks[2], SourceAttention)


def test_wrong_masks():
    dense = prepare_decoder(random_model().decoder)
    with pytest.raises(ConfigError, match=r"shape \(3, 3\).*2 layers"):
        dense.only(torch.ones(3, 3))
    with pytest.raises(ConfigError, match="closed already"):
        dense.only(torch.zeros(2, 3)).only(torch.ones(2, 3))


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"normalize_before": False}, "normalize_before"),
        ({"concat_after": True}, "concat_after"),
        ({"qk_norm": True}, "qk_norm"),
        ({"use_output_layer": False}, "use_output_layer"),
        ({"input_layer": "linear"}, "input_layer"),
        ({"pos_enc_class": lambda width, dropout: nn.Identity()}, "pos_enc_class"),
    ],
)
def test_decoders_of_another_kind_are_refused(options, key):
    decoder = TransformerDecoder(20, 16, attention_heads=2, linear_units=8, num_blocks=1, **options)
    with pytest.raises(ConfigError, match=f"model.decoder.{key}"):
        prepare_decoder(decoder)


@pytest.mark.parametrize("width", [16, 36])
def test_positions_beyond_the_table_are_espnets(width):
    decoder = TransformerDecoder(20, width, attention_heads=2, linear_units=8, num_blocks=1)
    torch.testing.assert_close(_sinusoids(5000, width), decoder.embed[1].pe[0])
