"""Packed weights, faster kernels and bfloat16 beneath an unchanged model."""

import copy

import pytest
import torch
from torch import nn

from speechgate.decoding.encoded import Encoded
from speechgate.decoding.engine import Engine
from speechgate.decoding.execution import Execution
from speechgate.decoding.kernels import EncoderKernels
from speechgate.decoding.search import SearchOptions
from speechgate.decoding.search.linear import Linear, can_pack
from speechgate.errors import ConfigError
from tests.model.tiny import TASKS, checkpoint_of, random_model, searchable, speech, tiny_config

needs_bfloat16 = pytest.mark.skipif(
    not can_pack(torch.zeros(2, 2), torch.bfloat16), reason="the processor has no bfloat16 products"
)
LENGTHS = [9_000, 4_000, 12_000]


@pytest.mark.parametrize("shape", [(5, 12), (2, 3, 12), (1, 1, 12)])
@pytest.mark.parametrize("bias", [True, False])
def test_packed_linear_equals_linear(shape, bias):
    torch.manual_seed(0)
    layer, x = nn.Linear(12, 30, bias=bias), torch.randn(shape)
    packed = Linear.of(layer).pack(torch.float32)
    with torch.inference_mode():
        torch.testing.assert_close(packed(x), layer(x), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(packed(x.transpose(0, -2)), layer(x.transpose(0, -2)), atol=1e-5, rtol=1e-5)


def test_float64_is_not_packed():
    with pytest.raises(ConfigError, match="float64"):
        Linear.of(nn.Linear(3, 4).double()).pack(torch.float32)


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=needs_bfloat16)])
def test_encoder_kernels_change_nothing_but_time(relative, dtype):
    model = random_model(tiny_config(relative=relative))
    batch = speech(LENGTHS)
    state = copy.deepcopy(model.state_dict())
    kernels = EncoderKernels(model, dtype, packed=True)
    with torch.inference_mode():
        expected, lengths = model.encode(*batch)
        with kernels.in_use():
            found, found_lengths = model.encode(*batch)
        again, _ = model.encode(*batch)
    tolerance = 1e-4 if dtype is torch.float32 else 0.1
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)
    assert torch.equal(found_lengths, lengths)
    assert (found != expected).any()  # other kernels did run
    assert torch.equal(again, expected)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not any("forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize("options", [SearchOptions(beam_size=1, ctc_weight=0.0), SearchOptions(nbest=3)])
def test_packed_engine_finds_the_same(options):
    config = tiny_config()
    checkpoint = checkpoint_of(searchable(random_model(config, seed=4)), config)
    batch, tasks = speech(LENGTHS), [TASKS[0], TASKS[2], TASKS[1]]
    expected = Engine(checkpoint, options, Execution(packed=False)).decode(*batch, tasks)
    found = Engine(checkpoint, options).decode(*batch, tasks)
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.text, ours.ctc_text) == (theirs.text, theirs.ctc_text)
        assert [h.score for h in ours.hypotheses] == pytest.approx([h.score for h in theirs.hypotheses], abs=1e-3)


@needs_bfloat16
def test_bfloat16_engine_scores_nearly_the_same():
    config = tiny_config()
    checkpoint = checkpoint_of(searchable(random_model(config, seed=4)), config)
    options = SearchOptions(fixed_steps=5, nbest=1)
    batch, tasks = speech(LENGTHS), [TASKS[0]] * 3
    expected = Engine(checkpoint, options).decode(*batch, tasks)
    found = Engine(checkpoint, options, Execution(precision="bfloat16")).decode(*batch, tasks)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.hypotheses[0].score != theirs.hypotheses[0].score
        assert ours.hypotheses[0].score == pytest.approx(theirs.hypotheses[0].score, abs=1.0)


def test_float64_model_runs_as_it_is():
    config = tiny_config()
    model = searchable(random_model(config, seed=4)).double()
    engine = Engine(checkpoint_of(model, config), SearchOptions(nbest=2))
    encoder_out = torch.randn(2, 9, model.encoder.output_size(), dtype=torch.float64)
    lengths = torch.tensor([9, 9])
    encoded = Encoded(encoder_out, 1024 * lengths, lengths, TASKS[:2], torch.ones(2, 14).bool())
    found = engine.search(engine.with_ctc(encoded))
    assert all(found)


def test_refused_executions():
    with pytest.raises(ConfigError, match="precision is 'half'"):
        Execution(precision="half")
    config = tiny_config()
    checkpoint = checkpoint_of(random_model(config), config)
    for execution in (Execution(cuda_graph=True), Execution(precision="bfloat16", packed=False)):
        with pytest.raises(ConfigError, match=r"cuda_graph|bfloat16"):
            Engine(checkpoint, SearchOptions(), execution)
