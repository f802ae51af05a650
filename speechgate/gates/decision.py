"""From scores to gates: noise, the rule that opens and closes, and the estimator's gradient, one after the other.

Shapes: B batch, S gates decided together.
"""

from dataclasses import dataclass

from torch import Tensor

from speechgate.config import GatesConfig
from speechgate.gates.allocation import above_zero, within_budget
from speechgate.gates.estimator import hard_concrete, hard_concrete_open, perturb, straight_through


@dataclass(frozen=True)
class Sampling:
    """How gates are drawn while training: the scale of the noise and the temperature of the sigmoid."""

    noise: float
    temperature: float


def decide_gates(
    config: GatesConfig,
    scores_BS: Tensor,
    closed_B: Tensor | None,
    dither_B: Tensor | None,
    cost_S: Tensor,
    sampling: Sampling | None,
) -> tuple[Tensor, Tensor]:
    """Gates (B, S) from scores, and what the sparsity penalty counts as open.

    Booleans without ``sampling`` (inference), floats with gradients with it.  ``closed_B`` and ``dither_B`` (see
    ``within_budget``) are None under the threshold rule.
    """
    logits_BS = scores_BS
    if sampling is not None and config.policy == "learned" and config.estimator != "straight_through":
        logits_BS = perturb(scores_BS, sampling.noise)
    if closed_B is None or dither_B is None:
        open_BS, edge_B1 = above_zero(logits_BS.detach(), config.min_open), None
    else:
        open_BS, edge_B1 = within_budget(logits_BS.detach(), closed_B, dither_B, cost_S, config.min_open)
    if sampling is None:
        return open_BS, open_BS
    if config.estimator == "hard_concrete":
        return (
            hard_concrete(logits_BS, open_BS, sampling.temperature, sampling.noise, edge_B1),
            hard_concrete_open(scores_BS, open_BS, sampling.temperature, sampling.noise),
        )
    gates_BS = straight_through(logits_BS, open_BS, sampling.temperature, edge_B1)
    return gates_BS, gates_BS
