"""How much of a stack each utterance closes: what the targets say, or where the dial stands.

Shapes: B batch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from speechgate.config import GatesConfig
from speechgate.errors import ConfigError
from speechgate.gates.allocation import GOLDEN
from speechgate.gates.context import Context
from speechgate.gates.targets import target_of


class Shares:
    """The shares of a model's gates under the budget rule.

    Attributes:
        dial: the share to skip at inference, for gates with a dial; ``target`` until it is turned.
    """

    def __init__(self, config: GatesConfig) -> None:
        self.config = config
        self.dial = config.target
        self._drawn_B: Tensor | None = None

    def turn(self, share: float) -> None:
        """Raises ConfigError if there is no dial, or it was not trained for this share."""
        if not self.config.budget:
            raise ConfigError("these gates have no dial: train with gates.budget to choose the sparsity at inference")
        low, high = self.config.budget
        if not low <= share <= high:
            raise ConfigError(
                f"sparsity {share:g} is outside the range {low:g} to {high:g} that the dial was trained for"
            )
        self.dial = share

    def begin(self, size: int, training: bool) -> None:
        """Begin a batch; while training a dial is turned for each utterance anew."""
        self._drawn_B = None
        if self.config.budget and training:
            # one draw for each of B equal parts of the range, so that every batch sees all of it
            low, high = self.config.budget
            self._drawn_B = low + (high - low) * (torch.randperm(size) + torch.rand(size)) / max(1, size)

    def of(self, stack: str, context: Context, decisions: int, ramp: float, training: bool) -> Sequence[Tensor]:
        """(B,) shares of the stack's cost, and how each of its decisions is rounded: dithers (B,), on the CPU."""
        if self._drawn_B is not None:
            share_B = self._drawn_B
        elif self.config.budget:
            share_B = torch.full((len(context.tasks),), self.dial)
        else:
            share_B = torch.tensor([target_of(self.config, stack, task) for task in context.tasks])
        if training:
            share_B, dither_B = share_B * ramp, torch.rand_like(share_B)
        else:
            given_B = context.dither_B
            dither_B = torch.full_like(share_B, 0.5) if given_B is None else given_B.to(share_B)
        # layers round differently, so that an utterance as a whole keeps to its budget
        return [share_B, dither_B, *((dither_B + layer * GOLDEN).remainder(1.0) for layer in range(1, decisions))]
