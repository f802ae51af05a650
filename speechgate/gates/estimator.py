"""Binary gates with a gradient: three ways to train through a decision.

The Gumbel-Softmax over two classes depends on the difference of its logits alone, so a gate has one logit.  What is
decided (``open_BS``) comes from ``allocation``; an estimator says what multiplies a module and lends it a gradient.

Shapes: B batch, S gate sites.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

STRETCH = (-0.1, 1.1)  # of the hard-concrete distribution, as in its paper


def perturb(logits_BS: Tensor, noise: float) -> Tensor:
    """Add logistic noise (the difference of two Gumbel variables): where positive is then a sample of the gates.

    Args:
        noise: scale; 1 samples, 0 changes nothing, so that a run that ends with 0 trains what inference uses.
    """
    if noise == 0:
        return logits_BS
    logistic_BS = torch.logit(torch.rand_like(logits_BS), eps=1e-6)
    return torch.add(logits_BS, logistic_BS, alpha=noise)


class _Lent(torch.autograd.Function):
    """``lend``: written out, for autograd would take three times the operations."""

    @staticmethod
    def forward(ctx: Any, logits_BS: Tensor, value_BS: Tensor, slope_BS: Tensor, share_BS: Tensor | None) -> Tensor:
        ctx.save_for_backward(slope_BS, share_BS)
        return value_BS

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BS: Tensor) -> tuple[Tensor, None, None, None]:
        slope_BS, share_BS = ctx.saved_tensors
        sloped_BS = grad_BS * slope_BS
        if share_BS is not None:
            sloped_BS = torch.addcmul(sloped_BS, share_BS, sloped_BS.sum(1, keepdim=True), value=-1)
        return sloped_BS, None, None, None


def lend(logits_BS: Tensor, value_BS: Tensor, slope_BS: Tensor, share_BS: Tensor | None = None) -> Tensor:
    """``value_BS`` forward, with the gradient of a function of the logits that has the slopes ``slope_BS``.

    Args:
        share_BS: how much the edge of a budget moves with each logit (see ``edge_share``); it takes the gates with it.
    """
    gates_BS: Tensor = _Lent.apply(logits_BS, value_BS, slope_BS, share_BS)
    return gates_BS


def bell(logits_BS: Tensor, temperature: float) -> Tensor:
    """The slope of a tempered sigmoid times its temperature, s (1 - s): without a gradient."""
    soft_BS = torch.sigmoid(logits_BS.detach() / temperature)
    return torch.addcmul(soft_BS, soft_BS, soft_BS, value=-1)


def straight_through(logits_BS: Tensor, open_BS: Tensor, temperature: float, edge_B1: Tensor | None = None) -> Tensor:
    """Exactly 0 or 1 forward, the gradient of a tempered sigmoid backward.

    On perturbed logits this is the straight-through Gumbel-Softmax (Jang et al., ICLR 2017), on plain ones the
    deterministic estimator (Bengio et al., arXiv 1308.3432, with a sigmoid's gradient).

    Args:
        edge_B1: of a budget, from which the logits are then measured, with the gradient that ``edge_share`` tells.
    """
    bell_BS = bell(logits_BS if edge_B1 is None else logits_BS.detach() - edge_B1, temperature)
    share_BS = None if edge_B1 is None else edge_share(bell_BS)
    return lend(logits_BS, open_BS.to(logits_BS.dtype), bell_BS / temperature, share_BS)


def hard_concrete(
    logits_BS: Tensor, open_BS: Tensor, temperature: float, noise: float, edge_B1: Tensor | None = None
) -> Tensor:
    """Samples in [0, 1] with mass at both ends (Louizos et al., ICLR 2018), of perturbed logits.

    As the noise goes, samples become what is decided: with ``noise`` 0 they are ``open_BS``, and keep their gradient.
    """
    low, high = STRETCH
    at_BS = logits_BS.detach() if edge_B1 is None else logits_BS.detach() - edge_B1
    stretched_BS = torch.sigmoid(at_BS / temperature) * (high - low) + low
    soft_BS = stretched_BS.clamp(0, 1)
    bell_BS = bell(at_BS, temperature)
    slope_BS = bell_BS * ((stretched_BS >= 0) & (stretched_BS <= 1)) * ((high - low) / temperature)
    value_BS = soft_BS + (1 - noise) * (open_BS.to(soft_BS.dtype) - soft_BS)
    return lend(logits_BS, value_BS, slope_BS, None if edge_B1 is None else edge_share(bell_BS))


def hard_concrete_open(logits_BS: Tensor, open_BS: Tensor, temperature: float, noise: float) -> Tensor:
    """What the penalty counts: the probability that a hard-concrete gate is not 0 (of logits without noise).

    As above, it becomes ``open_BS`` as the noise goes.
    """
    low, high = STRETCH
    at_BS = logits_BS.detach() - temperature * math.log(-low / high)
    probability_BS = torch.sigmoid(at_BS)
    value_BS = probability_BS + (1 - noise) * (open_BS.to(probability_BS.dtype) - probability_BS)
    return lend(logits_BS, value_BS, bell(at_BS, 1.0))


def edge_share(bell_BS: Tensor) -> Tensor:
    """How much the edge of a budget moves with each logit; the shares of an utterance sum to 1.

    A budget opens as many gates as it did whatever is added to all logits.  The edge moves with the logits so that the
    sum of the soft gates stays (implicit differentiation): each gate's gradient loses the weighted mean over all.
    """
    weight_BS = bell_BS + 1e-6
    return weight_BS / weight_BS.sum(1, keepdim=True)
