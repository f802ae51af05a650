"""The hypotheses that have ended, and whether better ones may still come.

Shapes: B utterances still searched, J hypotheses held of each, L tokens of a hypothesis, N hypotheses that end.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from speechgate.decoding.search.hypothesis import Hypothesis

# End detection, Watanabe et al. (2017), eq. 50: that many successive lengths, all worse by that much (natural log).
LENGTHS_BEHIND = 3
SCORE_BEHIND = -10.0


@dataclass
class _Ending:
    """The hypotheses of one step that ended, over all utterances."""

    utterances_N: Tensor
    tokens_NL: Tensor
    scores_N3: Tensor


class EndedHypotheses:
    """Gathers ended hypotheses, a few tensors a step; they become Python objects once, in ``best``."""

    def __init__(self, batch: int, max_steps: int, nbest: int, eos: int, device: torch.device) -> None:
        self._batch = batch
        self._nbest = nbest
        self._eos = eos
        self._step = -1
        self._endings: list[_Ending] = []
        self._utterances_B = torch.arange(batch, device=device)
        self._steps = torch.zeros(batch, dtype=torch.int64, device=device)
        # The best score of those that ended at each step: what end detection compares.
        self._best_BL = torch.full((batch, max_steps), float("-inf"), dtype=torch.float64, device=device)

    def add(self, ended_BJ: Tensor, tokens_BJL: Tensor, total_BJ: Tensor, decoder_BJ: Tensor, ctc_BJ: Tensor) -> None:
        """Record one step: the hypotheses marked in ``ended_BJ`` have ended at it."""
        self._step += 1
        self._steps[self._utterances_B] = self._step + 1
        rows, columns = ended_BJ.nonzero(as_tuple=True)
        if len(rows):
            scores_N3 = torch.stack([total_BJ, decoder_BJ, ctc_BJ], dim=2)[rows, columns]
            self._endings.append(_Ending(self._utterances_B[rows], tokens_BJL[rows, columns], scores_N3))
            self._best_BL[:, self._step] = total_BJ.masked_fill(~ended_BJ, float("-inf")).amax(1)

    def hopeless(self) -> Tensor:
        """Whether what ends now is too far behind to matter, (B,).

        As in ESPnet, whose search looks at the hypotheses that ended two, three and four steps ago.
        """
        last = self._step - 2
        if last + 1 < LENGTHS_BEHIND:
            return torch.zeros_like(self._utterances_B, dtype=torch.bool)
        recent_B3 = self._best_BL[:, last + 1 - LENGTHS_BEHIND : last + 1]
        behind_B3 = recent_B3 - self._best_BL.amax(1, keepdim=True) < SCORE_BEHIND
        return (behind_B3 & (recent_B3 > float("-inf"))).all(1)

    def keep(self, rows: Tensor) -> None:
        """Go on with these utterances."""
        self._utterances_B = self._utterances_B[rows]
        self._best_BL = self._best_BL[rows]

    def best(self) -> list[list[Hypothesis]]:
        """The n best hypotheses of every utterance that the search began with."""
        found: list[list[Hypothesis]] = [[] for _ in range(self._batch)]
        if not self._endings:
            return found
        steps = self._steps.tolist()
        totals = torch.cat([ending.scores_N3[:, 0] for ending in self._endings])
        utterances = torch.cat([ending.utterances_N for ending in self._endings]).tolist()
        places = [(ending, row) for ending in self._endings for row in range(len(ending.utterances_N))]
        for index in totals.argsort(descending=True, stable=True).tolist():
            utterance = utterances[index]
            if len(found[utterance]) < self._nbest:
                ending, row = places[index]
                found[utterance].append(self._hypothesis(ending, row, steps[utterance]))
        return found

    def _hypothesis(self, ending: _Ending, row: int, steps: int) -> Hypothesis:
        tokens = ending.tokens_NL[row].tolist()
        if tokens[-1] == self._eos:
            tokens.pop()
        total, decoder, ctc = ending.scores_N3[row].tolist()
        return Hypothesis(tuple(tokens), total, decoder, ctc, steps)
