"""Binary gates with a gradient: the straight-through Gumbel-Softmax (Jang et al., ICLR 2017) for two classes.

The difference of the two logits is all that matters for two classes, so a gate has one logit: open where positive.

Shapes: B batch, S gate sites.
"""

import torch
from torch import Tensor


def straight_through_gumbel(logits_BS: Tensor, temperature: float, noise: float) -> Tensor:
    """Sample gates: exactly 0 or 1 forward, the gradient of a tempered sigmoid backward.

    Args:
        logits_BS: log-odds of an open gate.
        temperature: of the sigmoid that lends its gradient; at most 1 for binary gates.
        noise: scale of the logistic noise (the difference of two Gumbel variables); 1 samples, 0 thresholds, so that
            a run that ends with 0 trains what inference uses.
    """
    if noise > 0:
        uniform_BS = torch.rand_like(logits_BS).clamp(1e-6, 1 - 1e-6)
        logits_BS = logits_BS + noise * torch.logit(uniform_BS)
    soft_BS = torch.sigmoid(logits_BS / temperature)
    hard_BS = (logits_BS > 0).to(soft_BS.dtype)
    return hard_BS + (soft_BS - soft_BS.detach())  # the brackets make the sum exact


def threshold(logits_BS: Tensor) -> Tensor:
    """The gates of inference: booleans, deterministic."""
    return logits_BS > 0
