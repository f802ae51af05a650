"""The gated sum of a residual stream and a branch, in as few operations as can be.

A training step on a GPU is often as long as its number of operations.  Autograd would make five of this sum, of which
the dense layer has one, and as many copies of a whole activation.

Shapes: B batch, T frames or tokens, D width.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _AddGated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BTD: Tensor, branch_BTD: Tensor, gate_B11: Tensor) -> Tensor:
        ctx.save_for_backward(branch_BTD, gate_B11)
        # Written to a given place, since autocast would first copy a branch of half precision to single.
        out_BTD = torch.empty_like(x_BTD, dtype=torch.promote_types(x_BTD.dtype, branch_BTD.dtype))
        return torch.addcmul(x_BTD, branch_BTD, gate_B11, out=out_BTD)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BTD: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        branch_BTD, gate_B11 = ctx.saved_tensors
        to_branch_BTD = to_gate_B11 = None
        if ctx.needs_input_grad[1]:
            to_branch_BTD = torch.mul(grad_BTD, gate_B11, out=torch.empty_like(branch_BTD))
        if ctx.needs_input_grad[2]:
            over = (1, 2) if len(gate_B11) == len(branch_BTD) else (0, 1, 2)
            to_gate_B11 = (grad_BTD * branch_BTD).sum(over, keepdim=True, dtype=gate_B11.dtype)
        return grad_BTD, to_branch_BTD, to_gate_B11


def add_gated(x_BTD: Tensor, branch_BTD: Tensor, gate_B11: Tensor) -> Tensor:
    """Return ``x_BTD + gate_B11 * branch_BTD``, in the higher precision of these two.

    One operation forward, as in a dense layer, and backward three, of which a dense layer under autocast has one.  The
    gate's batch may be 1 for any batch.
    """
    summed_BTD: Tensor = _AddGated.apply(x_BTD, branch_BTD, gate_B11)
    return summed_BTD
