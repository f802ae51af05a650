"""Masks that are not learnt: what learnt gates have to beat at the same sparsity.

Each is an order in which a stack's modules are closed, as scores; the budget rule closes the lowest.

Shapes: B batch, S gate sites.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from speechgate.config import GatesConfig
from speechgate.gates.sites import GateSite


def fixed_scores(config: GatesConfig, sites: Sequence[GateSite]) -> Tensor:
    """(S,) scores of all sites: zeros for learnt gates, which have none.

    ``random``: one order of the modules, drawn from ``seed``.  ``shallow``: layers close from the last to the first.
    ``layerdrop``: layers close evenly spread over the depth, every other one at a half (Fan et al., ICLR 2020).
    """
    if config.policy == "random":
        return torch.rand(len(sites), generator=torch.Generator().manual_seed(config.seed))
    if config.policy == "shallow":
        return torch.tensor([-float(site.layer) for site in sites])
    if config.policy == "layerdrop":
        return torch.tensor([-_turn(site.layer) for site in sites])
    return torch.zeros(len(sites))


def _turn(layer: int) -> float:
    """In (0, 1): the bits of the layer's number mirrored at the point, so that any few of the highest lie far apart."""
    value, place = 0.0, 0.5
    while layer:
        value, layer, place = value + place * (layer & 1), layer >> 1, place / 2
    return value


def layer_order(scores_BS: Tensor, kinds: int) -> Tensor:
    """LayerDrop's training: scores of the layers drawn anew for each utterance, one for all modules of a layer."""
    return torch.rand_like(scores_BS[:, ::kinds]).repeat_interleave(kinds, dim=1)
