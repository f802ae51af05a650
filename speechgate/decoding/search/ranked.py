"""The rule of transformers' beam search (``generation/utils.py``): which candidates end, which go on, when to stop.

Shapes: B utterances, K beam, C=2K candidates, best first.

A hypothesis ends where its <eos> is among the K best candidates; an <eos> further down is dropped.  At the last step
the K best end as they are.  Those that ended are ranked by log-probability / length ** length_penalty.
"""

import torch
from torch import Tensor

from speechgate.decoding.search.exchange import Exchange
from speechgate.decoding.search.held import Beam


class RankedHypotheses:
    """The scores of the K best hypotheses that have ended, -inf where there are fewer."""

    def __init__(self, batch: int, beam_size: int, length_penalty: float, device: torch.device) -> None:
        self._beam_size = beam_size
        self._length_penalty = length_penalty
        self._best_BK = torch.full((batch, beam_size), float("-inf"), dtype=torch.float64, device=device)

    def divide(self, steps_B1: Tensor, beam: Beam, ends_BC: Tensor) -> Tensor:
        """Reorder the candidates of a step: first K that go on, then the K best, whatever they do.

        The next step's parents are places among the first K.  In the second K the total becomes the final score; where
        fewer than K go on, the rest of the first K is impossible.

        Args:
            steps_B1: the steps before this one.
            beam: the candidates, best first; changed in place.
            ends_BC: which of them end.

        Returns:
            In the new order, which are hypotheses that have ended, (B, C).
        """
        best_BK = torch.arange(self._beam_size, device=ends_BC.device).expand(len(ends_BC), -1)
        going_totals_BK, going_BK = beam.total_BJ.masked_fill(ends_BC, float("-inf")).topk(self._beam_size)
        ended_BK = ends_BC[:, : self._beam_size]
        scores_BK = self._score(steps_B1, beam.total_BJ[:, : self._beam_size])
        fresh_BK = scores_BK.masked_fill(~ended_BK, float("-inf"))
        self._best_BK = torch.cat([self._best_BK, fresh_BK], dim=1).topk(self._beam_size).values
        beam.become(beam.at(torch.cat([going_BK, best_BK], dim=1)))
        beam.total_BJ = torch.cat([going_totals_BK, scores_BK], dim=1)
        beam.decoder_BJ = beam.decoder_BJ.masked_fill(beam.total_BJ == float("-inf"), float("-inf"))
        return torch.cat([torch.zeros_like(ended_BK), ended_BK], dim=1)

    def hopeless(self, steps_B1: Tensor, beam: Beam) -> Tensor:
        """Whether K have ended and the best that goes on would be no better than any of them if it ended here, (B,)."""
        worst_B = self._best_BK.amin(1)
        best_B1 = self._score(steps_B1, beam.total_BJ.amax(1, keepdim=True))
        return (worst_B > float("-inf")) & (best_B1[:, 0] <= worst_B)

    def exchange(self, exchange: Exchange, fresh: "RankedHypotheses | None" = None) -> None:
        """Go on with other utterances."""
        self._best_BK = exchange.rows(self._best_BK, None if fresh is None else fresh._best_BK)

    def _score(self, steps_B1: Tensor, totals_BX: Tensor) -> Tensor:
        return totals_BX / (steps_B1 + 1).double() ** self._length_penalty
