"""Binary gates with a gradient: three ways to train through a decision.

The Gumbel-Softmax over two classes depends on the difference of its logits alone, so a gate has one logit.  What is
decided (``open_BS``) comes from ``allocation``; an estimator says what multiplies a module and lends it a gradient.

Shapes: B batch, S gate sites.
"""

import math

import torch
from torch import Tensor

ESTIMATORS = ("gumbel", "straight_through", "hard_concrete")
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


def straight_through(logits_BS: Tensor, open_BS: Tensor, temperature: float) -> Tensor:
    """Exactly 0 or 1 forward, the gradient of a tempered sigmoid backward.

    On perturbed logits this is the straight-through Gumbel-Softmax (Jang et al., ICLR 2017), on plain ones the
    deterministic estimator (Bengio et al., arXiv 1308.3432, with a sigmoid's gradient).
    """
    soft_BS = torch.sigmoid(logits_BS / temperature)
    return open_BS.to(soft_BS.dtype) + (soft_BS - soft_BS.detach())  # the brackets make the sum exact


def hard_concrete(logits_BS: Tensor, open_BS: Tensor, temperature: float, noise: float) -> Tensor:
    """Samples in [0, 1] with mass at both ends (Louizos et al., ICLR 2018), of perturbed logits.

    As the noise goes, samples become what is decided: with ``noise`` 0 they are ``open_BS``, and keep their gradient.
    """
    low, high = STRETCH
    soft_BS = (torch.sigmoid(logits_BS / temperature) * (high - low) + low).clamp(0, 1)
    return soft_BS + (1 - noise) * (open_BS.to(soft_BS.dtype) - soft_BS).detach()


def hard_concrete_open(logits_BS: Tensor, open_BS: Tensor, temperature: float, noise: float) -> Tensor:
    """What the penalty counts: the probability that a hard-concrete gate is not 0 (of logits without noise).

    As above, it becomes ``open_BS`` as the noise goes.
    """
    low, high = STRETCH
    probability_BS = torch.sigmoid(logits_BS - temperature * math.log(-low / high))
    return probability_BS + (1 - noise) * (open_BS.to(probability_BS.dtype) - probability_BS).detach()


def shift_free(logits_BS: Tensor, edge_B1: Tensor, temperature: float) -> Tensor:
    """Logits relative to the edge of a budget, with the gradient of that edge.

    A budget opens as many gates as it did whatever is added to all logits.  The edge moves with the logits so that the
    sum of the soft gates stays (implicit differentiation): each gate's gradient loses the weighted mean over all.
    """
    centred_BS = logits_BS - edge_B1.detach()
    soft_BS = torch.sigmoid(centred_BS.detach() / temperature)
    weight_BS = soft_BS * (1 - soft_BS) + 1e-6
    moved_B1 = (weight_BS * (logits_BS - logits_BS.detach())).sum(1, keepdim=True) / weight_BS.sum(1, keepdim=True)
    return centred_BS - moved_B1
