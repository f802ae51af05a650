"""What a search has found: its steps as they went, and of them the hypotheses that ended.

Shapes: B utterances, K beam, L steps.

A step records where each hypothesis came from and what it added; the texts are read backwards at the end.  Nothing
here waits for the device before that, so that steps can be a CUDA graph.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from speechgate.decoding.search.exchange import Exchange, first
from speechgate.decoding.search.hypothesis import Hypothesis

# ESPnet's values for eq. 50 of Watanabe et al., "Hybrid CTC/Attention Architecture" (2017): the search is hopeless
# when the best hypotheses of so many consecutive steps are so far below the best of all, in nats.
LENGTHS_BEHIND = 3
SCORE_BEHIND = -10.0
STEPS_AGO = 2  # ESPnet's search compares the hypotheses that ended two, three and four steps ago


class EndedHypotheses:
    """Records of all steps, and end detection.

    Attributes:
        done_B: utterances that are finished; they record no more endings.
        steps_B: the steps that each has taken.
    """

    def __init__(self, batch: int, max_steps: int, beam_size: int, nbest: int, eos: int, device: torch.device) -> None:
        self._nbest = nbest
        self._eos = eos
        self._rows_B = torch.arange(batch, device=device)
        self.steps_B = torch.zeros(batch, dtype=torch.int64, device=device)
        # Total, decoder's and CTC's score, parent, token, ended or not; the last step is where finished ones write.
        self._records_BLK6 = torch.zeros(batch, max_steps + 1, beam_size, 6, dtype=torch.float64, device=device)
        self._recent_B = self._records_BLK6.new_full((batch, LENGTHS_BEHIND + STEPS_AGO), float("-inf"))
        self._best_B = self._recent_B[:, 0]
        self.done_B = torch.zeros(batch, dtype=torch.bool, device=device)

    def add(
        self,
        ended_BK: Tensor,
        scores_BK: tuple[Tensor, Tensor, Tensor],
        parents_BK: Tensor,
        tokens_BK: Tensor,
    ) -> None:
        """Record one step, at which the hypotheses of ``ended_BK`` have ended; ``scores_BK`` begins with the total."""
        ended_BK = ended_BK & ~self.done_B[:, None]
        record_BK6 = torch.stack([*scores_BK, parents_BK, tokens_BK, ended_BK], dim=2).double()
        self._records_BLK6.index_put_((self._rows_B, self.steps_B), record_BK6)
        self.steps_B = self.steps_B + (~self.done_B).long()
        best_B1 = scores_BK[0].masked_fill(~ended_BK, float("-inf")).amax(1, keepdim=True)
        self._recent_B = torch.cat([self._recent_B[:, 1:], best_B1], dim=1)
        self._best_B = torch.maximum(self._best_B, best_B1[:, 0])

    def hopeless(self) -> Tensor:
        """Whether what ends now is too far behind to matter, (B,)."""
        recent_B3 = self._recent_B[:, :LENGTHS_BEHIND]
        behind_B3 = recent_B3 - self._best_B[:, None] < SCORE_BEHIND
        return (behind_B3 & (recent_B3 > float("-inf"))).all(1)

    def exchange(self, exchange: Exchange, fresh: "EndedHypotheses | None" = None) -> None:
        """Go on with other utterances."""
        most = max(each._records_BLK6.shape[1] for each in (self, fresh) if each is not None)
        records_NLK6 = None if fresh is None else first(fresh._records_BLK6, 1, most)
        self._records_BLK6 = exchange.into(first(self._records_BLK6, 1, most), records_NLK6)
        self._rows_B = torch.arange(len(exchange.sources), device=self._rows_B.device)
        for name in ("steps_B", "_recent_B", "_best_B", "done_B"):
            setattr(self, name, exchange.rows(getattr(self, name), None if fresh is None else getattr(fresh, name)))

    def best(self, rows: Sequence[int]) -> list[list[Hypothesis]]:
        """The n best hypotheses of some utterances."""
        index_R = torch.tensor(rows, dtype=torch.int64, device=self.steps_B.device)
        steps = self.steps_B[index_R].tolist()
        records_RLK6 = self._records_BLK6[index_R, : max(steps)].cpu()
        places = records_RLK6[..., 5].nonzero()
        totals = records_RLK6[places[:, 0], places[:, 1], places[:, 2], 0]
        records = records_RLK6.numpy()
        found: list[list[Hypothesis]] = [[] for _ in rows]
        for row, step, slot in places[totals.argsort(descending=True, stable=True)].tolist():
            if len(found[row]) < self._nbest:
                found[row].append(self._hypothesis(records[row], step, slot, steps[row]))
        return found

    def _hypothesis(self, records_LK6: np.ndarray, step: int, slot: int, steps: int) -> Hypothesis:
        total, decoder, ctc = records_LK6[step, slot, :3].tolist()
        tokens = []
        for at in range(step, -1, -1):
            tokens.append(int(records_LK6[at, slot, 4]))
            slot = int(records_LK6[at, slot, 3])
        if tokens[0] == self._eos:
            tokens.pop(0)
        return Hypothesis(tuple(reversed(tokens)), total, decoder, ctc, steps)
