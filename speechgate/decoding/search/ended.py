"""What a search has found: its steps as they went, and of them the hypotheses that ended.

Shapes: U utterances that the search began with, B of them still searched, K beam, L steps.

A step records where each hypothesis came from and what it added; the texts are read backwards at the end.  Nothing
here waits for the device before that, so that steps can be a CUDA graph.
"""

import numpy as np
import torch
from torch import Tensor

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
    """

    def __init__(self, batch: int, max_steps: int, beam_size: int, nbest: int, eos: int, device: torch.device) -> None:
        self._nbest = nbest
        self._eos = eos
        self._utterances_B = torch.arange(batch, device=device)
        self._steps_U = torch.zeros(batch, dtype=torch.int64, device=device)
        # Total, decoder's and CTC's score, parent, token, ended or not.
        self._records_LUK6 = torch.zeros(max_steps, batch, beam_size, 6, dtype=torch.float64, device=device)
        self._recent_B = self._records_LUK6.new_full((batch, LENGTHS_BEHIND + STEPS_AGO), float("-inf"))
        self._best_B = self._recent_B[:, 0]
        self.done_B = torch.zeros(batch, dtype=torch.bool, device=device)

    def add(
        self,
        step: Tensor,
        ended_BK: Tensor,
        scores_BK: tuple[Tensor, Tensor, Tensor],
        parents_BK: Tensor,
        tokens_BK: Tensor,
    ) -> None:
        """Record one step, at which the hypotheses of ``ended_BK`` have ended; ``scores_BK`` begins with the total."""
        self._steps_U.index_add_(0, self._utterances_B, (~self.done_B).long())
        ended_BK = ended_BK & ~self.done_B[:, None]
        record_BK6 = torch.stack([*scores_BK, parents_BK, tokens_BK, ended_BK], dim=2).double()
        self._records_LUK6.index_put_((step, self._utterances_B), record_BK6)
        best_B1 = scores_BK[0].masked_fill(~ended_BK, float("-inf")).amax(1, keepdim=True)
        self._recent_B = torch.cat([self._recent_B[:, 1:], best_B1], dim=1)
        self._best_B = torch.maximum(self._best_B, best_B1[:, 0])

    def hopeless(self) -> Tensor:
        """Whether what ends now is too far behind to matter, (B,)."""
        recent_B3 = self._recent_B[:, :LENGTHS_BEHIND]
        behind_B3 = recent_B3 - self._best_B[:, None] < SCORE_BEHIND
        return (behind_B3 & (recent_B3 > float("-inf"))).all(1)

    def keep(self, rows: Tensor) -> None:
        """Go on with these utterances."""
        self._utterances_B = self._utterances_B[rows]
        self._recent_B = self._recent_B[rows]
        self._best_B = self._best_B[rows]
        self.done_B = self.done_B[rows]

    def best(self) -> list[list[Hypothesis]]:
        """The n best hypotheses of every utterance that the search began with."""
        steps = self._steps_U.tolist()
        records_LUK6 = self._records_LUK6[: max(steps)].cpu()
        places = records_LUK6[..., 5].nonzero()
        totals = records_LUK6[places[:, 0], places[:, 1], places[:, 2], 0]
        records = records_LUK6.numpy()
        found: list[list[Hypothesis]] = [[] for _ in steps]
        for step, utterance, slot in places[totals.argsort(descending=True, stable=True)].tolist():
            if len(found[utterance]) < self._nbest:
                found[utterance].append(self._hypothesis(records[:, utterance], step, slot, steps[utterance]))
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
