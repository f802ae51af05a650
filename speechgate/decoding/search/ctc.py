"""CTC prefix scores for all hypotheses of a batch at once, without a loop over frames.

Shapes: B utterances, T frames, J hypotheses of an utterance, C candidate tokens of a hypothesis, K hypotheses kept.

The forward variables of a prefix h = g + c are Watanabe et al.'s ("Hybrid CTC/Attention Architecture", 2017,
algorithm 2), in logarithms:

    n_t(h) = x_t(c) + logaddexp(n_{t-1}(h), phi_{t-1}(g, c))       paths that end in c
    b_t(h) = x_t(blank) + logaddexp(b_{t-1}(h), n_{t-1}(h))        paths that end in blank
    psi(h) = logsumexp_t(phi_{t-1}(g, c) + x_t(c))                 probability of all labels that begin with h

phi(g, c) is n(g) + b(g), or b(g) alone where c repeats the last label of g.  With X_t the sum of x up to frame t,
n_t - X_t is a running logsumexp of phi_{t-1} - X_{t-1}, and so for b: two scans replace the loop.  A frame -1 before
the audio, where the empty prefix has probability one, makes the first frame like any other.
"""

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from speechgate.decoding.search.compiler import Address, Count, library
from speechgate.decoding.search.exchange import Exchange, first

# Stands for log 0.  Finite, as in ESPnet, so that two impossible prefixes can be compared and nothing becomes NaN.
LOG_ZERO = -1.0e10


class _Prefixes(ctypes.Structure):
    _fields_ = (
        ("log_probs", Address),
        ("vocabulary", Count),
        ("starts", Address),
        ("start_step", Count),
        *((name, Address) for name in ("lengths", "last", "in_blank", "total")),
        *((name, Count) for name in ("batch", "held", "frames", "blank")),
    )


class CtcPrefixScorer:
    """The CTC state of the hypotheses that a search holds: at first one empty prefix an utterance.

    Args:
        log_probs_BTV: log-probabilities of the CTC head, any floating type.  Those of utterances that left are written
            over where others enter.
        lengths_B: frames of each utterance; those beyond are ignored.
        blank: the id of the blank.
        compiled: on a CPU, and of log-probabilities in float32, by the functions of ``cpp/ctc.cpp``.

    The state is kept in float64, since X_t reaches tens of thousands for long recordings.  Frames come last: every
    operation then runs along them.
    """

    def __init__(self, log_probs_BTV: Tensor, lengths_B: Tensor, blank: int, compiled: bool = False) -> None:
        batch, frames, vocabulary = log_probs_BTV.shape
        can_compile = compiled and log_probs_BTV.device.type == "cpu" and log_probs_BTV.dtype is torch.float32
        self._functions = library() if can_compile else None
        # Each utterance has a place in them: those that leave do so by their indices, not by copies.
        self._log_probs_PTV = log_probs_BTV.contiguous()
        self._places = list(range(batch))
        # Where frame t of utterance b begins in them.
        starts = torch.arange(0, batch * frames * vocabulary, vocabulary, device=log_probs_BTV.device)
        self._starts_B1T = starts.view(batch, 1, frames)
        self._lengths_B = lengths_B
        self._blank = blank
        self._outside_B1T = _outside(lengths_B, frames)[:, None]
        self._last_BJ = torch.full((batch, 1), blank, device=lengths_B.device)
        self._blank_B1T = self._emissions(self._last_BJ)
        # The empty prefix, frames -1 to T-1: paths that end in blank, and all paths.
        certain_B11 = torch.zeros_like(self._blank_B1T[:, :, :1])
        self._in_blank_BJT = torch.cat([certain_B11, self._blank_B1T.cumsum(2)], dim=2)
        self._total_BJT = self._in_blank_BJT

    def score(self, candidates_BJC: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability of each prefix with a candidate appended, (B, J, C), and of each as it stands, (B, J).

        The second is the score of <eos>.  The blank is no label and scores LOG_ZERO.
        """
        held = self._total_BJT.shape[1]
        complete_BJ = self._total_BJT.gather(2, self._lengths_B[:, None, None].expand(-1, held, 1))[..., 0]
        if self._functions is not None:
            candidates_BJC = candidates_BJC.contiguous()
            psi_BJC = torch.empty_like(candidates_BJC, dtype=torch.float64)
            self._functions.ctc_scores(
                self._prefixes(),
                candidates_BJC.data_ptr(),
                candidates_BJC.shape[2],
                psi_BJC.data_ptr(),
                torch.get_num_threads(),
            )
            return psi_BJC, complete_BJ
        emissions_BJCT = self._emissions(candidates_BJC.flatten(1)).unflatten(1, candidates_BJC.shape[1:])
        phi_BJCT = torch.where(
            (candidates_BJC == self._last_BJ[..., None])[..., None],
            self._in_blank_BJT[:, :, None, :-1].masked_fill(self._outside_B1T[:, None], LOG_ZERO),
            self._total_BJT[:, :, None, :-1].masked_fill(self._outside_B1T[:, None], LOG_ZERO),
        )
        psi_BJC = _sum_over_frames(emissions_BJCT.add_(phi_BJCT))
        psi_BJC.masked_fill_(candidates_BJC == self._blank, LOG_ZERO)
        return psi_BJC, complete_BJ

    def advance(self, parents_BK: Tensor, tokens_BK: Tensor) -> None:
        """Replace the held prefixes by K new ones: those at ``parents_BK`` with ``tokens_BK`` appended."""
        if self._functions is not None:
            parents_BK, tokens_BK = parents_BK.contiguous(), tokens_BK.contiguous()
            in_blank_BKT, total_BKT = self._total_BJT.new_zeros(2, *tokens_BK.shape, self._total_BJT.shape[2])
            self._functions.ctc_advance(
                self._prefixes(),
                parents_BK.data_ptr(),
                tokens_BK.data_ptr(),
                tokens_BK.shape[1],
                in_blank_BKT.data_ptr(),
                total_BKT.data_ptr(),
                torch.get_num_threads(),
            )
            self._in_blank_BJT, self._total_BJT, self._last_BJ = in_blank_BKT, total_BKT, tokens_BK
            return
        index_BKT = parents_BK[..., None].expand(-1, -1, self._total_BJT.shape[2])
        phi_BKT = torch.where(
            (tokens_BK == self._last_BJ.gather(1, parents_BK))[..., None],
            self._in_blank_BJT.gather(1, index_BKT),
            self._total_BJT.gather(1, index_BKT),
        )
        in_label_BKT = _scan(self._emissions(tokens_BK), phi_BKT)
        self._in_blank_BJT = _scan(self._blank_B1T, in_label_BKT)
        self._total_BJT = torch.logaddexp(in_label_BKT, self._in_blank_BJT)
        self._last_BJ = tokens_BK

    def exchange(self, exchange: Exchange, frames: int, fresh: "CtcPrefixScorer | None" = None) -> None:
        """Go on with other utterances, the longest of ``frames`` frames; those of ``fresh`` hold the empty prefix."""
        held = self._last_BJ.shape[1]
        if fresh is not None:
            fresh._last_BJ = fresh._last_BJ.expand(-1, held)
            fresh._in_blank_BJT = fresh._in_blank_BJT.expand(-1, held, -1)
            fresh._total_BJT = fresh._total_BJT.expand(-1, held, -1)

        def rows(name: str, frames: int | None = None) -> None:
            parts = [getattr(each, name) for each in (self, fresh) if each is not None]
            if frames is not None:
                parts = [first(part, 2, frames) for part in parts]
            setattr(self, name, exchange.rows(parts[0], parts[1] if len(parts) > 1 else None))

        for name in ("_lengths_B", "_last_BJ"):
            rows(name)
        rows("_blank_B1T", frames)
        rows("_in_blank_BJT", frames + 1)
        rows("_total_BJT", frames + 1)
        self._outside_B1T = _outside(self._lengths_B, frames)[:, None]
        self._place_log_probs(exchange, frames, fresh)
        _, room, vocabulary = self._log_probs_PTV.shape
        places_B = torch.tensor(self._places, device=self._lengths_B.device)
        frames_T = torch.arange(frames, device=self._lengths_B.device)
        self._starts_B1T = (places_B[:, None, None] * room + frames_T) * vocabulary

    def _place_log_probs(self, exchange: Exchange, frames: int, fresh: "CtcPrefixScorer | None") -> None:
        """Give those who enter the places of those who left, or places of a larger room."""
        if fresh is None:
            self._places = exchange.pick(self._places)
            return
        batch = len(self._places)
        entering = [at - batch for at in exchange.sources if at >= batch]
        staying = [self._places[at] for at in exchange.sources if at < batch]
        free = [place for place in range(len(self._log_probs_PTV)) if place not in set(staying)]
        log_probs_NTV = fresh._log_probs_PTV[[fresh._places[at] for at in entering]]
        room = self._log_probs_PTV.shape[1]
        if len(entering) <= len(free) and log_probs_NTV.shape[1] <= room:
            free = free[: len(entering)]
            self._log_probs_PTV[free] = first(log_probs_NTV, 1, room)
        else:
            parts = [first(part, 1, frames) for part in (self._log_probs_PTV[staying], log_probs_NTV)]
            self._log_probs_PTV = torch.cat(parts)
            staying, free = list(range(len(staying))), list(range(len(staying), len(exchange.sources)))
        places = iter(free), iter(staying)
        self._places = [next(places[at < batch]) for at in exchange.sources]

    def _prefixes(self) -> Any:
        batch, held, room = self._total_BJT.shape
        self._in_blank_BJT, self._total_BJT, self._last_BJ = (
            state.contiguous() for state in (self._in_blank_BJT, self._total_BJT, self._last_BJ)
        )
        return ctypes.byref(
            _Prefixes(
                self._log_probs_PTV.data_ptr(),
                self._log_probs_PTV.shape[2],
                self._starts_B1T.data_ptr(),
                self._starts_B1T.stride(0),
                self._lengths_B.data_ptr(),
                self._last_BJ.data_ptr(),
                self._in_blank_BJT.data_ptr(),
                self._total_BJT.data_ptr(),
                batch,
                held,
                room - 1,
                self._blank,
            )
        )

    def _emissions(self, tokens_BN: Tensor) -> Tensor:
        """The log-probabilities of some tokens at every frame, (B, N, T)."""
        return self._log_probs_PTV.view(-1).take(self._starts_B1T + tokens_BN[..., None]).double().clamp_(min=LOG_ZERO)


def _outside(lengths_B: Tensor, frames: int) -> Tensor:
    return torch.arange(frames, device=lengths_B.device) >= lengths_B[:, None]


def _sum_over_frames(terms: Tensor) -> Tensor:
    """``logsumexp`` over the last dimension, overwriting ``terms``; without the denormal numbers that slow exp down."""
    greatest = terms.amax(-1, keepdim=True)
    return terms.sub_(greatest).clamp_(min=-200.0).exp_().sum(-1).log_() + greatest[..., 0]


def _scan(x_BKT: Tensor, feed_BKT: Tensor) -> Tensor:
    """r_t = x_t + logaddexp(r_{t-1}, feed_{t-1}) for all t, with feed and result beginning at frame -1."""
    sums_BKT = x_BKT.cumsum(2)
    scanned_BKT = torch.logcumsumexp(feed_BKT[..., :-1] - (sums_BKT - x_BKT), dim=2) + sums_BKT
    return F.pad(scanned_BKT, (1, 0), value=LOG_ZERO)


def greedy_ctc(log_probs_BTV: Tensor, lengths_B: Tensor, blank: int) -> list[list[int]]:
    """The most likely token of each frame, repetitions merged and blanks dropped (CTC's best path)."""
    best_BT = log_probs_BTV.argmax(-1)
    changed_BT = torch.ones_like(best_BT, dtype=torch.bool)
    changed_BT[:, 1:] = best_BT[:, 1:] != best_BT[:, :-1]
    outside_BT = _outside(lengths_B.to(best_BT.device), best_BT.shape[1])
    kept_BT = changed_BT & (best_BT != blank) & ~outside_BT
    return [row[kept].tolist() for row, kept in zip(best_BT.cpu(), kept_BT.cpu(), strict=True)]
