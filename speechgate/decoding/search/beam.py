"""Label-synchronous beam search over a batch of utterances.

Shapes: B utterances still searched, J hypotheses held of each (one at first, then K = beam_size), C candidate tokens
of a hypothesis, T frames, D width, R tokens that the output layer has rows for: a search numbers tokens by these.

The reference is ESPnet's ``BatchBeamSearch`` (pre-beam on the decoder's scores, CTC over what follows the prompt, end
detection after eq. 50 of Watanabe et al., 2017), or transformers' beam search (see ``ranked``): same hypotheses,
whatever utterances share the batch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from speechgate.decoding.search.ctc import CtcPrefixScorer
from speechgate.decoding.search.ended import EndedHypotheses
from speechgate.decoding.search.exchange import Exchange
from speechgate.decoding.search.graph import StepGraphs
from speechgate.decoding.search.held import Beam
from speechgate.decoding.search.hypothesis import Hypothesis, SearchOptions, SearchTokens
from speechgate.decoding.search.ranked import RankedHypotheses
from speechgate.decoding.search.room import Room
from speechgate.decoding.search.running import RunningDecoder
from speechgate.decoding.search.weights import DecoderWeights
from speechgate.errors import ConfigError

STEPS_BETWEEN_LOOKS = 8


class BeamSearch:
    """One search: the running decoder, the CTC state and the beam, whose utterances leave and enter together."""

    def __init__(
        self,
        weights: DecoderWeights,
        ctc_log_probs_BTR: Tensor | None,
        encoder_out_BTD: Tensor,
        lengths_B: Tensor,
        prompts: Sequence[Sequence[int]],
        options: SearchOptions,
        tokens: SearchTokens,
        open_BM: Tensor | None = None,
        room: Room | None = None,
    ) -> None:
        _check(weights, ctc_log_probs_BTR, lengths_B, prompts, options, tokens)
        if open_BM is not None and bool(open_BM.all()):
            open_BM = None
        device = encoder_out_BTD.device
        self.lengths: list[int] = lengths_B.tolist()
        most_steps = weights.most_steps(1 + len(prompts[0]))
        limits = [options.step_limits(frames, most_steps) for frames in self.lengths]
        self._max_steps = max(most for _, most in limits)
        capacity = self._max_steps if room is None else room.steps
        prompts_BP = torch.tensor([[tokens.sos, *prompt] for prompt in prompts], device=device)
        self._options = options
        self._output = weights.output
        # What the shapes and the work of a step depend on.
        blocks = tuple(map(id, (weights.output, *weights.blocks)))  # a graph keeps its own, so these stay theirs
        self._key = (blocks, options, tokens, room, len(prompts[0]), ctc_log_probs_BTR is None, open_BM is None)
        self._first_B, self._most_B = torch.tensor(limits, device=device).unbind(1)
        excluded = [*tokens.forbidden] + ([tokens.eos] if options.fixed_steps is not None else [])
        at_first = [*excluded, *tokens.forbidden_first]
        self._excluded_later, self._excluded = (
            torch.tensor(self._output.rows_of(ids), dtype=torch.int64, device=device) for ids in (excluded, at_first)
        )
        [self._eos_row] = self._output.rows_of([tokens.eos])
        self._decoder = RunningDecoder(
            weights, encoder_out_BTD, self.lengths, prompts_BP, options.beam_size, capacity, room is not None, open_BM
        )
        self._ctc = None
        if options.ctc_weight > 0.0 and ctc_log_probs_BTR is not None:
            [blank] = self._output.rows_of([tokens.blank])
            self._ctc = CtcPrefixScorer(ctc_log_probs_BTR, lengths_B, blank, weights.is_compiled)
        self._ranked = None
        if options.finish == "transformers":
            self._ranked = RankedHypotheses(len(prompts), options.beam_size, options.length_penalty, device)
        self._ended = EndedHypotheses(len(prompts), capacity, options.candidates, options.nbest, tokens.eos, device)
        self._logits_BJR = self._decoder.start()
        zeros_B1 = self._logits_BJR.new_zeros(len(prompts), 1, dtype=torch.float64)
        self._beam = Beam(zeros_B1.long(), zeros_B1, zeros_B1.long(), zeros_B1, zeros_B1)

    def __len__(self) -> int:
        return len(self.lengths)

    def run(self) -> list[list[Hypothesis]]:
        """Search to the end; utterances leave as they finish."""
        found: list[list[Hypothesis]] = [[] for _ in self.lengths]
        left = list(range(len(self)))
        self.extend()
        while True:
            done = self.finished()
            for row, hypotheses in zip(done, self.best(done) if done else (), strict=True):
                found[left[row]] = hypotheses
            rows = [row for row in range(len(self)) if row not in done]
            if not rows:
                return found
            if done:
                left = [left[row] for row in rows]
                self.exchange(rows)
            self.follow()
            self.extend()

    def finished(self) -> list[int]:
        """The rows whose search has ended."""
        return [row for row, done in enumerate(self._ended.done_B.tolist()) if done]

    def best(self, rows: Sequence[int]) -> list[list[Hypothesis]]:
        """The n best hypotheses of some rows."""
        return self._ended.best(rows)

    def run_static(self, graphs: StepGraphs) -> list[list[Hypothesis]]:
        """Search to the end in steps of one shape, with a look at the results but now and then."""
        self.step()  # from one hypothesis to K
        everyone = range(len(self))
        if self._max_steps == 1:
            return self.best(everyone)
        done, captured = 1, graphs.get(self._key)
        if captured is None:
            self.step()  # kernels must have run before they can be captured
            done, captured = 2, graphs.capture(self._key, self, on_gpu=self._first_B.is_cuda)
        else:
            captured.load(self)
        ended = captured.search._ended
        for count in range(done, self._max_steps):
            captured.run()
            if count % STEPS_BETWEEN_LOOKS == 0 and bool(ended.done_B.all()):
                break
        return ended.best(everyone)

    def step(self) -> None:
        self.extend()
        self.follow()

    def extend(self) -> None:
        """One step: the beam's successors, and those of them that end."""
        self._beam.become(self._choose(self._beam, self._logits_BJR))
        self._collect(self._beam)
        self._excluded = self._excluded_later

    def follow(self) -> None:
        """Bring CTC and the decoder up to the beam."""
        if self._ctc is not None:
            self._ctc.advance(self._beam.parents_BJ, self._beam.last_BJ)
        tokens_BJ = self._output.tokens_at(self._beam.last_BJ)
        self._logits_BJR = self._decoder.step(self._beam.parents_BJ, tokens_BJ)

    def _choose(self, beam: Beam, logits_BJR: Tensor) -> Beam:
        """Extend every hypothesis by its candidate tokens and take the best of each utterance, as many as asked for."""
        options = self._options
        normaliser_BJ1 = logits_BJR.logsumexp(-1, keepdim=True)
        logits_BJR.index_fill_(2, self._excluded, float("-inf"))
        width = options.candidates if self._ctc is None else options.pre_beam_size
        top_BJC, row_BJC = logits_BJR.topk(min(width, logits_BJR.shape[2]))
        decoder_BJC = beam.decoder_BJ[..., None] + (top_BJC - normaliser_BJ1)
        total_BJC = decoder_BJC
        ctc_BJC = torch.zeros_like(decoder_BJC)
        if self._ctc is not None:
            # CTC always offers <eos>, in a column of its own; the pre-beam's is then taken out.
            prefix_BJC, complete_BJ = self._ctc.score(row_BJC)
            decoder_BJC.masked_fill_(row_BJC == self._eos_row, float("-inf"))
            eos_BJ1 = logits_BJR[:, :, self._eos_row, None] - normaliser_BJ1
            row_BJC = torch.cat([row_BJC, row_BJC.new_full(eos_BJ1.shape, self._eos_row)], dim=2)
            decoder_BJC = torch.cat([decoder_BJC, beam.decoder_BJ[..., None] + eos_BJ1], dim=2)
            ctc_BJC = torch.cat([prefix_BJC, complete_BJ[..., None]], dim=2)
            total_BJC = (1.0 - options.ctc_weight) * decoder_BJC + options.ctc_weight * ctc_BJC
        total_BK, chosen_BK = total_BJC.flatten(1).topk(options.candidates)
        parents_BK = chosen_BK // row_BJC.shape[2]
        return Beam(
            last_BJ=row_BJC.flatten(1).gather(1, chosen_BK),
            decoder_BJ=decoder_BJC.flatten(1).gather(1, chosen_BK),
            parents_BJ=parents_BK,
            ctc_BJ=ctc_BJC.flatten(1).gather(1, chosen_BK),
            total_BJ=total_BK + options.length_bonus * (self._ended.steps_B[:, None] + 1).double(),
        )

    def _collect(self, beam: Beam) -> None:
        """Record the hypotheses that end at this step, out of the beam with them, and the utterances then finished."""
        steps_B = self._ended.steps_B
        last_step_B = self._most_B == steps_B + 1
        held_BJ = beam.total_BJ > float("-inf")
        ends_BJ = held_BJ & ((beam.last_BJ == self._eos_row) | last_step_B[:, None])
        if self._ranked is not None:
            ends_BJ = self._ranked.divide(steps_B[:, None], beam, ends_BJ)
        going_BJ = (beam.total_BJ > float("-inf")) & ~ends_BJ
        counts_BJ = ends_BJ & (steps_B >= self._first_B)[:, None]
        scores_BJ = (beam.total_BJ, beam.decoder_BJ, beam.ctc_BJ)
        self._ended.add(counts_BJ, scores_BJ, beam.parents_BJ, self._output.tokens_at(beam.last_BJ))
        beam.decoder_BJ = beam.decoder_BJ.masked_fill(ends_BJ, float("-inf"))
        if self._ranked is not None:
            beam.become(beam.first(self._options.beam_size))
        done_B = ~going_BJ[:, : self._options.beam_size].any(1)
        if self._options.end_detect and self._options.fixed_steps is None:
            done_B |= self._ended.hopeless() if self._ranked is None else self._ranked.hopeless(steps_B[:, None], beam)
        self._ended.done_B = self._ended.done_B | done_B

    def exchange(self, sources: Sequence[int], fresh: "BeamSearch | None" = None) -> None:
        """Go on with other utterances, between ``extend`` and ``follow``.

        Args:
            sources: for each row to come its row now, those of ``fresh`` counted on behind.
            fresh: a search with the same options, extended once and not yet followed; it is of no use afterwards.
        """
        exchange = Exchange(sources, len(self), self._first_B.device)
        self.lengths = exchange.pick(self.lengths, [] if fresh is None else fresh.lengths)
        for name in ("_first_B", "_most_B"):
            setattr(self, name, exchange.rows(getattr(self, name), None if fresh is None else getattr(fresh, name)))
        self._decoder.exchange(exchange, None if fresh is None else fresh._decoder)
        if self._ctc is not None:
            self._ctc.exchange(exchange, max(self.lengths), None if fresh is None else fresh._ctc)
        if self._ranked is not None:
            self._ranked.exchange(exchange, None if fresh is None else fresh._ranked)
        self._ended.exchange(exchange, None if fresh is None else fresh._ended)
        self._beam = self._beam.exchange(exchange, None if fresh is None else fresh._beam)


def _check(
    weights: DecoderWeights,
    ctc_log_probs_BTR: Tensor | None,
    lengths_B: Tensor,
    prompts: Sequence[Sequence[int]],
    options: SearchOptions,
    tokens: SearchTokens,
) -> None:
    vocabulary = len(weights.output)
    if not weights.output.rows_of([tokens.eos]):
        raise ConfigError(
            f"the {vocabulary} tokens that may be written lack <eos>, token {tokens.eos}: no text could end"
        )
    if options.ctc_weight > 0.0 and ctc_log_probs_BTR is not None:
        if ctc_log_probs_BTR.shape[2] != vocabulary:
            raise ConfigError(f"CTC knows {ctc_log_probs_BTR.shape[2]} tokens, the output layer {vocabulary}")
        if not weights.output.rows_of([tokens.blank]):
            raise ConfigError(f"the {vocabulary} tokens that may be written lack the blank, token {tokens.blank}")
    if options.candidates >= vocabulary:
        raise ConfigError(f"beam_size {options.beam_size} with a vocabulary of {vocabulary}: give a narrower beam")
    if options.ctc_weight > 0.0 and ctc_log_probs_BTR is None:
        raise ConfigError(f"ctc_weight is {options.ctc_weight} but no CTC log-probabilities were given")
    if len(prompts) != len(lengths_B) or len({len(prompt) for prompt in prompts}) != 1:
        raise ConfigError("give every utterance of a batch a prompt, all of one length")
    if int(lengths_B.min()) < 1:
        raise ConfigError("an utterance of the batch has no frames")
