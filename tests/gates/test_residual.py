"""The gated sum of a residual stream and a branch, beside the plain product."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgate.gates.residual import add_gated
from tests.gates.operations import Operations

SINGLE, HALF = torch.float32, torch.bfloat16
DTYPES = [(SINGLE, SINGLE), (SINGLE, HALF), (HALF, HALF), (HALF, SINGLE)]  # of the stream and of the branch
seeds = st.integers(0, 999)


def inputs(seed: int, batch: int, dtypes: tuple[torch.dtype, torch.dtype], one: bool = False) -> list[torch.Tensor]:
    """Stream, branch and gates, with gradients; ``one`` gate for all utterances, or one each."""
    generator = torch.Generator().manual_seed(seed)
    x_BTD, branch_BTD = (torch.randn(batch, 5, 6, generator=generator).to(dtype) for dtype in dtypes)
    gate_B11 = torch.rand(1 if one else batch, 1, 1, generator=generator).round()
    return [each.requires_grad_() for each in (x_BTD, branch_BTD, gate_B11)]


def with_gradients(function, tensors: list[torch.Tensor]) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    y_BTD = function(*tensors)
    weight_BTD = torch.linspace(-1, 1, y_BTD.numel()).view(y_BTD.shape)
    return y_BTD, torch.autograd.grad((y_BTD.float() * weight_BTD).sum(), tensors)


def plain(x_BTD, branch_BTD, gate_B11):
    return x_BTD + branch_BTD * gate_B11.to(branch_BTD.dtype)


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(1, 4), st.booleans())
def test_gradients_are_those_of_finite_differences(seed, batch, one):
    tensors = [each.detach().double().requires_grad_() for each in inputs(seed, batch, (SINGLE, SINGLE), one)]
    assert torch.autograd.gradcheck(add_gated, tensors)


@pytest.mark.parametrize("dtypes", DTYPES)
@settings(max_examples=20, deadline=None)
@given(seed=seeds, batch=st.integers(1, 4), one=st.booleans(), autocast=st.booleans())
def test_equals_the_plain_product(dtypes, seed, batch, one, autocast):
    """Binary gates multiply exactly; the plain product rounds a gate's gradient to the type of the branch."""
    tensors = inputs(seed, batch, dtypes, one)
    with torch.autocast("cpu", HALF, enabled=autocast):
        found_BTD, found = with_gradients(add_gated, tensors)
        expected_BTD, expected = with_gradients(plain, tensors)
    assert torch.equal(found_BTD, expected_BTD)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    rounding = 0.1 if HALF in dtypes else 1e-5
    torch.testing.assert_close(found[2], expected[2], atol=rounding, rtol=rounding)
    assert [each.dtype for each in found] == [each.dtype for each in tensors]


def test_only_the_gradients_asked_for_are_computed():
    x_BTD, branch_BTD, gate_B11 = inputs(0, 2, (SINGLE, SINGLE))
    add_gated(x_BTD, branch_BTD.detach(), gate_B11).sum().backward()
    assert torch.equal(x_BTD.grad, torch.ones_like(x_BTD))
    torch.testing.assert_close(gate_B11.grad, branch_BTD.detach().sum((1, 2), keepdim=True))
    assert branch_BTD.grad is None


@pytest.mark.parametrize("dtypes", DTYPES[:3])
def test_is_one_operation_forward_and_three_backward(dtypes):
    tensors = inputs(0, 2, dtypes)
    with torch.autocast("cpu", HALF), Operations() as forward:
        y_BTD = add_gated(*tensors)
    grad_BTD = torch.ones_like(y_BTD)
    with Operations() as backward:
        torch.autograd.grad(y_BTD, tensors, grad_BTD)
    assert forward.count == {"addcmul": 1}
    assert backward.count == {"mul": 2, "sum": 1}
