"""The output layer in 8 bits: how far its results may be off, and what does not depend on neighbours."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from speechgate.decoding.engine import Engine
from speechgate.decoding.execution import Execution
from speechgate.decoding.search import SearchOptions
from speechgate.decoding.search.int8 import Int8Linear, can_quantise
from speechgate.decoding.search.linear import Linear
from speechgate.errors import ConfigError
from tests.model.tiny import TASKS, checkpoint_of, random_model, searchable, speech, tiny_config

needs_int8 = pytest.mark.skipif(not can_quantise(torch.zeros(2, 2)), reason="the processor has no int8 products")
LENGTHS = [9_000, 4_000, 12_000]


def layer_of(width: int, outputs: int, bias: bool, seed: int) -> Linear:
    torch.manual_seed(seed)
    layer = nn.Linear(width, outputs, bias=bias)
    with torch.no_grad():
        layer.weight.mul_(torch.rand(outputs, 1) * 4.0)
        layer.weight[0] = 0.0
    return Linear.of(layer)


@needs_int8
@settings(max_examples=40, deadline=None)
@given(
    shape=st.sampled_from([(1,), (5,), (2, 3), (1, 1), (17,)]),
    width=st.integers(1, 70),
    outputs=st.integers(2, 90),
    bias=st.booleans(),
    seed=st.integers(0, 2**16),
)
@torch.inference_mode()
def test_error_is_within_the_rounding_of_weights_and_inputs(shape, width, outputs, bias, seed):
    linear = layer_of(width, outputs, bias, seed)
    x = torch.randn(*shape, width) * 10 ** torch.randn(*shape, 1)
    expected, found = linear(x), Int8Linear.of(linear)(x)
    half_weight_R1 = linear.weight.abs().amax(1, keepdim=True) / 254
    half_x = x.abs().amax(-1, keepdim=True) / 254
    bound = half_x * (linear.weight.abs() + half_weight_R1).sum(1) + x.abs() @ half_weight_R1.expand_as(linear.weight).T
    assert found.shape == expected.shape
    assert found.dtype is torch.float32
    assert ((found - expected).abs() <= 1.01 * bound + 1e-5).all()


@needs_int8
@torch.inference_mode()
def test_a_row_is_the_same_whatever_its_neighbours_hold():
    linear = Int8Linear.of(layer_of(48, 30, True, 0))
    x = torch.randn(6, 48)
    alone = torch.cat([linear(row[None]) for row in x])
    x[1] *= 1e6
    x[2, 5] = float("nan")
    x[3, 7] = float("inf")
    x[4] = 0.0
    together = linear(x)
    assert torch.equal(together[[0, 5]], alone[[0, 5]])
    assert together[[2, 3]].isnan().all()
    assert torch.equal(together[4], linear.bias)


@needs_int8
@torch.inference_mode()
def test_some_rows_are_those_of_the_whole_layer():
    linear = Int8Linear.of(layer_of(24, 40, True, 1))
    rows, x = torch.tensor([0, 3, 17, 39]), torch.randn(5, 24)
    assert torch.equal(linear.slice(rows)(x), linear(x)[:, rows])


@needs_int8
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("ctc_weight", [0.0, 0.3])
def test_engine_scores_nearly_the_same(precision, ctc_weight):
    config = tiny_config()
    checkpoint = checkpoint_of(searchable(random_model(config, seed=4)), config)
    options = SearchOptions(fixed_steps=5, ctc_weight=ctc_weight)
    batch, tasks = speech(LENGTHS), [TASKS[0], TASKS[2], TASKS[1]]
    expected = Engine(checkpoint, options, Execution(precision=precision)).decode(*batch, tasks)
    engine = Engine(checkpoint, options, Execution(precision=precision, int8_output=True))
    found = engine.decode(*batch, tasks)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.hypotheses[0].score != theirs.hypotheses[0].score
        assert ours.hypotheses[0].score == pytest.approx(theirs.hypotheses[0].score, abs=0.5)
    alone = engine.decode(batch[0][:1], batch[1][:1], tasks[:1])[0]
    assert alone.text == found[0].text
    assert alone.hypotheses[0].score == pytest.approx(found[0].hypotheses[0].score, abs=1e-3)


def test_refused_where_there_are_no_such_products():
    with pytest.raises(ConfigError, match=r"float64 on cpu"):
        Int8Linear.of(Linear.of(nn.Linear(3, 4).double()))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_refused_on_a_gpu():
    config = tiny_config()
    checkpoint = checkpoint_of(random_model(config).cuda(), config)
    with pytest.raises(ConfigError, match="VNNI"):
        Engine(checkpoint, SearchOptions(), Execution(int8_output=True))
