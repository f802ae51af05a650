"""Which gates open, given their scores: above a threshold, or all but the lowest that fill a budget exactly.

Shapes: B batch, S gates decided together.
"""

import torch
from torch import Tensor

GOLDEN = 0.6180339887498949  # (sqrt(5) - 1) / 2: its multiples modulo 1 spread more evenly than random numbers


def above_zero(scores_BS: Tensor, min_open: int) -> Tensor:
    """Booleans: open where the score is positive, and the ``min_open`` highest whatever their scores."""
    open_BS = scores_BS > 0
    if min_open:
        highest_BM = scores_BS.topk(min(min_open, scores_BS.size(1)), dim=1).indices
        open_BS = open_BS.scatter(1, highest_BM, True)
    return open_BS


def within_budget(
    scores_BS: Tensor, closed_B: Tensor, dither_B: Tensor, cost_S: Tensor, min_open: int
) -> tuple[Tensor, Tensor]:
    """Close the modules of lowest score until a share of the cost is saved.

    The modules in order of their scores fill a line, each as long as its cost.  Module j is closed where its point
    ``dither`` of the way along lies within the budget:

        cost of all before j + dither * cost of j < closed * total cost

    So for an utterance the saving misses the budget by less than one module, and its mean over evenly spread dithers
    is the budget itself.  A larger budget closes the same modules and more.

    Args:
        closed_B: shares of the cost to save, 0 to 1.
        dither_B: in [0, 1); 0.5 rounds to the nearest module.
        cost_S: positive costs; equal ones count modules.
        min_open: how many are never closed.

    Returns:
        open gates (B, S), booleans; and (B, 1) the score half-way between the highest closed and the lowest open.
    """
    ordered_BS, order_BS = scores_BS.sort(dim=1, stable=True)
    length_BS = cost_S[order_BS]
    end_BS = length_BS.cumsum(1)
    place_BS = torch.addcmul(end_BS, length_BS, dither_B[:, None] - 1)
    closed_BS = place_BS < closed_B[:, None] * end_BS[:, -1:]
    if min_open:
        closed_BS[:, -min_open:] = False
    count_B1 = closed_BS.sum(1, keepdim=True)
    padded_BS = torch.cat([ordered_BS[:, :1] - 1, ordered_BS, ordered_BS[:, -1:] + 1], dim=1)
    between_BS = padded_BS.unfold(1, 2, 1).mean(-1)
    return torch.empty_like(closed_BS).scatter_(1, order_BS, ~closed_BS), between_BS.gather(1, count_B1)


def spread_dither(index_B: Tensor) -> Tensor:
    """The dithers of utterances numbered ``index_B``: any run of numbers fills [0, 1) evenly (the golden sequence)."""
    return (0.5 + index_B.double() * GOLDEN).remainder(1.0).float()
