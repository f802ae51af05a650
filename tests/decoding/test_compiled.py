"""The decoder's modules as compiled functions: equal to PyTorch's in all shapes, left alone where they cannot be."""

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from speechgate.decoding.engine import Engine
from speechgate.decoding.execution import Execution
from speechgate.decoding.search import SearchOptions, compiler, prepare_decoder, search
from speechgate.decoding.search.compiled import CompiledLinear, CompiledModule, can_compile
from speechgate.decoding.search.hypothesis import SearchTokens
from speechgate.decoding.search.linear import Linear, Norm
from tests.model.tiny import TASKS, checkpoint_of, random_model, searchable, speech, tiny_config

pytestmark = pytest.mark.skipif(not can_compile(torch.zeros(1)), reason="there is no C++ compiler")
LENGTHS = [9_000, 4_000, 12_000]


def compiled(inputs: int, outputs: int, bias: bool = True) -> tuple[Linear, CompiledLinear]:
    linear = Linear.of(nn.Linear(inputs, outputs, bias=bias))
    return linear, CompiledLinear.of(linear)


def norm_of(width: int) -> Norm:
    return Norm(1 + 0.2 * torch.randn(width), 0.2 * torch.randn(width), 1e-12)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.sampled_from([(1,), (5,), (2, 3), (1, 1), (40,), (0, 2)]),
    inputs=st.integers(1, 70),
    outputs=st.integers(1, 90),
    bias=st.booleans(),
    threads=st.integers(1, 3),
    seed=st.integers(0, 2**16),
)
@torch.inference_mode()
def test_linear(shape, inputs, outputs, bias, threads, seed):
    torch.manual_seed(seed)
    linear, fast = compiled(inputs, outputs, bias)
    x = torch.randn(*shape, inputs)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    found = fast(x)
    torch.set_num_threads(before)
    torch.testing.assert_close(found, linear(x), atol=1e-5, rtol=1e-5)
    rows, columns = torch.randperm(outputs)[: outputs // 2 + 1], torch.randperm(inputs)[: inputs // 2 + 1]
    x = x[..., : len(columns)]
    torch.testing.assert_close(fast.slice(rows, columns)(x), linear.slice(rows, columns)(x), atol=1e-5, rtol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(1, 3),
    positions=st.integers(1, 19),
    earlier=st.integers(0, 70),
    heads=st.integers(1, 3),
    width=st.sampled_from([1, 8, 20, 32, 64, 72]),
    own=st.booleans(),
    mask=st.sampled_from([None, "causal", "positions", "frames", "spans"]),
    seed=st.integers(0, 2**16),
)
@torch.inference_mode()
def test_attention(batch, positions, earlier, heads, width, own, mask, seed):
    torch.manual_seed(seed)
    size, slots = heads * width + 3, earlier + positions
    norm = norm_of(size)
    first, fast_first = compiled(size, heads * width * (3 if own else 1))
    last, fast_last = compiled(heads * width, size)
    x = torch.randn(batch, positions, size)
    cache = torch.randn(batch, 2, heads, slots + 5, width)[:, :, :, :slots]
    hidden = torch.rand(batch, 1, positions, slots) < 0.3
    hidden[..., -1] = False
    addends = torch.zeros(batch, 1, positions, slots).masked_fill(hidden, float("-inf"))
    begins_B = torch.randint(0, earlier + 1, (batch,))
    ends_B = torch.stack([torch.randint(int(begin) + 1, slots + 1, ()) for begin in begins_B])
    at_S = torch.arange(slots)
    outside = (at_S < begins_B[:, None]) | (at_S >= ends_B[:, None])
    chosen = {
        None: None,
        "causal": torch.full((positions, slots), float("-inf")).triu(earlier + 1),
        "positions": addends,
        "frames": addends[:, :, :1],
        "spans": torch.zeros(batch, slots).masked_fill(outside, float("-inf"))[:, None, None],
    }[mask]

    projected = first(norm(x)).unflatten(2, (-1, heads, width)).permute(0, 2, 3, 1, 4)
    expected_cache = cache.clone()
    if own:
        expected_cache[:, :, :, earlier:] = projected[:, 1:]
    attended = F.scaled_dot_product_attention(projected[:, 0], *expected_cache.unbind(1), attn_mask=chosen)
    module = CompiledModule.of(norm, fast_first, fast_last, heads)
    spans = (None, begins_B, ends_B) if mask == "spans" else (chosen,)
    found = module.attend(x, cache, *spans)
    torch.testing.assert_close(found, last(attended.transpose(1, 2).flatten(2)), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(cache, expected_cache, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.GELU()])
@pytest.mark.parametrize("rows", [1, 7, 50])
@torch.inference_mode()
def test_feed_forward(activation, rows):
    torch.manual_seed(rows)
    norm, (up, fast_up), (down, fast_down) = norm_of(24), compiled(24, 50), compiled(50, 24)
    x = 5 * torch.randn(1, rows, 24)
    found = CompiledModule.of(norm, fast_up, fast_down, activation=activation).feed_forward(x)
    torch.testing.assert_close(found, down(activation(up(norm(x)))), atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_what_is_not_finite_stays_in_its_row():
    norm, (_, first), (_, last) = norm_of(16), compiled(16, 16), compiled(16, 16)
    x, cache = torch.randn(3, 2, 16), torch.randn(3, 2, 2, 9, 8)
    module = CompiledModule.of(norm, first, last, heads=2)
    alone = module.attend(x, cache, None)
    cache[1, 0, :, 4] = float("nan")
    cache[2, 1, :, 4] = float("inf")
    found = module.attend(x, cache, None)
    assert torch.equal(found[0], alone[0])
    assert found[1].isnan().all()
    assert not found[2].isfinite().any()


def test_modules_that_are_not_compiled():
    norm, (linear, fast) = norm_of(8), compiled(8, 8)
    assert CompiledModule.of(norm, linear, linear) is None
    assert CompiledModule.of(norm, fast, fast, activation=nn.Tanh()) is None
    assert not can_compile(torch.zeros(1, dtype=torch.float64))


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("open_all", [True, False])
def test_search_finds_what_it_finds_uncompiled(static, open_all):
    model = searchable(random_model(tiny_config(), seed=4))
    weights = prepare_decoder(model.decoder)
    torch.manual_seed(0)
    encoder_out = torch.randn(3, 30, model.encoder.output_size())
    log_probs = torch.randn(3, 30, len(weights.output)).log_softmax(-1)
    open_BM = None if open_all else torch.rand(3, len(weights.blocks)) < 0.6
    found, expected = (
        search(
            each,
            log_probs,
            encoder_out,
            torch.tensor([30, 12, 23]),
            [[3, 4]] * 3,
            SearchOptions(nbest=3),
            SearchTokens(sos=1, eos=2),
            static=static,
            open_BM=open_BM,
        )
        for each in (weights.compiled(), weights)
    )
    assert [[h.tokens for h in nbest] for nbest in found] == [[h.tokens for h in nbest] for nbest in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert [h.score for h in ours] == pytest.approx([h.score for h in theirs], abs=1e-4)


def test_without_a_compiler_the_engine_decodes_all_the_same(monkeypatch):
    config = tiny_config()
    checkpoint = checkpoint_of(searchable(random_model(config, seed=4)), config)
    batch, tasks = speech(LENGTHS), [TASKS[0], TASKS[2], TASKS[1]]
    expected = Engine(checkpoint, SearchOptions()).decode(*batch, tasks)
    compiler.library.cache_clear()
    monkeypatch.setenv("CXX", "no-such-compiler")
    try:
        with pytest.warns(compiler.NoCompilerWarning, match="no-such-compiler"):
            engine = Engine(checkpoint, SearchOptions())
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = engine.decode(*batch, tasks)
            Engine(checkpoint, SearchOptions())  # it is said once
            Engine(checkpoint, SearchOptions(), Execution(compiled=False))
    finally:
        compiler.library.cache_clear()
    assert [each.text for each in found] == [each.text for each in expected]


def test_compiled_once_for_a_source_and_a_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = compiler._compiled()
    written = path.stat().st_mtime_ns
    assert compiler._compiled() == path
    assert path.stat().st_mtime_ns == written
    monkeypatch.setenv("CXX", "c++ -O1")
    assert compiler._compiled() != path
    assert len(list((tmp_path / "speechgate").iterdir())) == 2
