"""The predictors: from an utterance's context to one score a gate (Someki et al., ICLR 2025, Algorithm 1).

``GlobalPredictor`` scores all gates of a stack in one call before it; ``LocalPredictor`` scores the gates of one layer
when the layer runs, from the context and the layer's own input.

Shapes: B batch, T frames or tokens, D width, C context, K gates of a layer, S gates of a stack.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from speechgate.config import GatesConfig
from speechgate.gates.context import Context, ContextEncoder, pool


def _network(inputs: int, outputs: int, config: GatesConfig) -> nn.Sequential:
    """Two layers; the last starts at zero weights and one bias: at the start every gate has the same score."""
    last = nn.Linear(config.hidden, outputs)
    nn.init.zeros_(last.weight)
    nn.init.constant_(last.bias, config.initial_logit)
    return nn.Sequential(nn.Linear(inputs, config.hidden), nn.ReLU(), last)


class GlobalPredictor(nn.Module):
    """A small network from the context to the scores of all gates of a stack."""

    def __init__(self, config: GatesConfig, width: int, sites: int, languages: Sequence[str]) -> None:
        super().__init__()
        self.context = ContextEncoder(config, width, languages)
        self.network = _network(self.context.size, sites, config)

    def forward(self, context: Context, x_BTD: Tensor, mask_BT: Tensor, budget_B: Tensor | None) -> Tensor:
        """Return scores (B, S) from the context and the stack's input ``x_BTD``."""
        return self.network(self.context(context, x_BTD, mask_BT, budget_B))


class LocalPredictor(nn.Module):
    """A small network a layer, from the context and the mean of the layer's input to its gates' scores."""

    def __init__(self, config: GatesConfig, width: int, layers: int, kinds: int, languages: Sequence[str]) -> None:
        super().__init__()
        self.context = ContextEncoder(config, width, languages)
        size = self.context.size + width
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.networks = nn.ModuleList(_network(size, kinds, config) for _ in range(layers))

    def forward(self, context_BC: Tensor, layer: int, x_BTD: Tensor, mask_BT: Tensor | None) -> Tensor:
        """Return scores (B, K) of one layer from the encoded context and the layer's own input."""
        own_BD = self.norms[layer](pool(x_BTD, mask_BT).to(context_BC))
        return self.networks[layer](torch.cat([context_BC, own_BD], dim=-1))
