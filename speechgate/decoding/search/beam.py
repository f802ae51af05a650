"""Label-synchronous beam search over a batch of utterances.

Shapes: B utterances still searched, J hypotheses held of each (one at first, then K = beam_size), C candidate tokens
of a hypothesis, T frames, D width, V tokens, R of them that the output layer has rows for.

The reference is ESPnet's ``BatchBeamSearch`` (pre-beam on the decoder's scores, CTC over what follows the prompt, end
detection after eq. 50 of Watanabe et al., 2017), or transformers' beam search (see ``ranked``): same hypotheses,
whatever utterances share the batch.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from speechgate.decoding.search.ctc import CtcPrefixScorer
from speechgate.decoding.search.ended import EndedHypotheses
from speechgate.decoding.search.graph import StepGraphs
from speechgate.decoding.search.held import Beam
from speechgate.decoding.search.hypothesis import Hypothesis, SearchOptions, SearchTokens
from speechgate.decoding.search.ranked import RankedHypotheses
from speechgate.decoding.search.room import Room
from speechgate.decoding.search.running import RunningDecoder
from speechgate.decoding.search.weights import DecoderWeights
from speechgate.errors import ConfigError

STEPS_BETWEEN_LOOKS = 8


@torch.inference_mode()
def search(
    weights: DecoderWeights,
    ctc_log_probs_BTV: Tensor | None,
    encoder_out_BTD: Tensor,
    lengths_B: Tensor,
    prompts: Sequence[Sequence[int]],
    options: SearchOptions,
    tokens: SearchTokens,
    static: bool = False,
    open_BM: Tensor | None = None,
    graphs: StepGraphs | None = None,
) -> list[list[Hypothesis]]:
    """Find the best hypotheses of every utterance of a batch.

    Args:
        weights: the decoder's modules that are open for any utterance.  Where its output layer has the rows of some
            tokens alone (``DecoderWeights.writing``), probabilities are shared among these.
        ctc_log_probs_BTV: the CTC head's log-probabilities; may be None where ``options.ctc_weight`` is 0.
        encoder_out_BTD: encoder output, padded; it decides the device.
        lengths_B: frames of each utterance, at least 1.
        prompts: what follows <sos>, of one length for all utterances; only the decoder scores it.
        options: see SearchOptions.
        tokens: see SearchTokens.
        static: keep every shape the same from step to step: caches have room for the longest search and finished
            utterances stay.  On a GPU the steps are then a CUDA graph.  Elsewhere it gives the same hypotheses, only
            slower.
        open_BM: booleans, which of the M modules of ``weights`` run for which utterance; all for all where it is None.
        graphs: the graphs of earlier static searches, to be used again and added to; where it is None, the step is
            captured for this search alone.

    Returns:
        For each utterance at most ``options.nbest`` hypotheses, best first.  There is none where the encoder output
        is not finite, or where every hypothesis was shorter than ``options.min_length_ratio`` allows.

    Raises:
        ConfigError: the beam is wider than the vocabulary, that lacks <eos>, CTC is weighted but missing, or prompts or
            lengths are not as they should be.
    """
    _check(weights, ctc_log_probs_BTV, lengths_B, prompts, options, tokens)
    lengths_B = lengths_B.to(encoder_out_BTD.device, torch.int64)
    if open_BM is not None and bool(open_BM.all()):
        open_BM = None
    if static:
        room = Room.of(lengths_B.tolist(), options, weights.most_steps(1 + len(prompts[0])))
        one = _Search(
            weights,
            None if ctc_log_probs_BTV is None else room.fill(ctc_log_probs_BTV),
            room.fill(encoder_out_BTD),
            room.rows(lengths_B),
            [*prompts, *[prompts[-1]] * (room.batch - len(prompts))],
            options,
            tokens,
            room,
            None if open_BM is None else room.rows(open_BM),
        )
        found = one.run_static(StepGraphs() if graphs is None else graphs)[: len(prompts)]
    else:
        found = _Search(
            weights, ctc_log_probs_BTV, encoder_out_BTD, lengths_B, prompts, options, tokens, None, open_BM
        ).run()
    missing = [index for index, hypotheses in enumerate(found) if not hypotheses]
    if missing and options.min_length_ratio >= 0.1:
        again = search(
            weights,
            None if ctc_log_probs_BTV is None else ctc_log_probs_BTV[missing],
            encoder_out_BTD[missing],
            lengths_B[missing],
            [prompts[index] for index in missing],
            replace(options, min_length_ratio=max(0.0, options.min_length_ratio - 0.1)),
            tokens,
            static,
            None if open_BM is None else open_BM[missing],
            graphs,
        )
        for index, hypotheses in zip(missing, again, strict=True):
            found[index] = hypotheses
    return found


class _Search:
    """One search: the running decoder, the CTC state and the beam, cut down together as utterances finish."""

    def __init__(
        self,
        weights: DecoderWeights,
        ctc_log_probs_BTV: Tensor | None,
        encoder_out_BTD: Tensor,
        lengths_B: Tensor,
        prompts: Sequence[Sequence[int]],
        options: SearchOptions,
        tokens: SearchTokens,
        room: Room | None,
        open_BM: Tensor | None,
    ) -> None:
        device = encoder_out_BTD.device
        most_steps = weights.most_steps(1 + len(prompts[0]))
        limits = [options.step_limits(frames, most_steps) for frames in lengths_B.tolist()]
        self._max_steps = max(most for _, most in limits)
        capacity = self._max_steps if room is None else room.steps
        prompts_BP = torch.tensor([[tokens.sos, *prompt] for prompt in prompts], device=device)
        self._options = options
        self._tokens = tokens
        self._output = weights.output
        # What the shapes and the work of a step depend on.
        blocks = tuple(map(id, (weights.output, *weights.blocks)))  # a graph keeps its own, so these stay theirs
        self._key = (blocks, options, tokens, room, len(prompts[0]), ctc_log_probs_BTV is None, open_BM is None)
        self._lengths_B = lengths_B
        self._first_B, self._most_B = torch.tensor(limits, device=device).unbind(1)
        excluded = [*tokens.forbidden] + ([tokens.eos] if options.fixed_steps is not None else [])
        at_first = [*excluded, *tokens.forbidden_first]
        self._excluded_later, self._excluded = (
            torch.tensor(self._output.rows_of(ids), dtype=torch.int64, device=device) for ids in (excluded, at_first)
        )
        [self._eos_row] = self._output.rows_of([tokens.eos])
        self._decoder = RunningDecoder(
            weights, encoder_out_BTD, lengths_B, prompts_BP, options.beam_size, capacity, room is not None, open_BM
        )
        self._ctc = None
        if options.ctc_weight > 0.0 and ctc_log_probs_BTV is not None:
            self._ctc = CtcPrefixScorer(ctc_log_probs_BTV, lengths_B, tokens.blank, weights.is_compiled)
        self._ranked = None
        if options.finish == "transformers":
            self._ranked = RankedHypotheses(len(prompts), options.beam_size, options.length_penalty, device)
        self._ended = EndedHypotheses(len(prompts), capacity, options.candidates, options.nbest, tokens.eos, device)
        self._step = torch.zeros((), dtype=torch.int64, device=device)
        self._logits_BJR = self._decoder.start()
        zeros_B1 = self._logits_BJR.new_zeros(len(prompts), 1, dtype=torch.float64)
        self._beam = Beam(zeros_B1.long(), zeros_B1, zeros_B1.long(), zeros_B1, zeros_B1)

    def run(self) -> list[list[Hypothesis]]:
        """Search to the end; utterances leave as they finish."""
        while True:
            self._extend()
            done_B = self._ended.done_B
            if done_B.any():
                if done_B.all():
                    return self._ended.best()
                self._keep((~done_B).nonzero()[:, 0])
            self._follow()

    def run_static(self, graphs: StepGraphs) -> list[list[Hypothesis]]:
        """Search to the end in steps of one shape, with a look at the results but now and then."""
        self.step()  # from one hypothesis to K
        if self._max_steps == 1:
            return self._ended.best()
        done, captured = 1, graphs.get(self._key)
        if captured is None:
            self.step()  # kernels must have run before they can be captured
            done, captured = 2, graphs.capture(self._key, self, on_gpu=self._step.is_cuda)
        else:
            captured.load(self)
        ended = captured.search._ended
        for count in range(done, self._max_steps):
            captured.run()
            if count % STEPS_BETWEEN_LOOKS == 0 and bool(ended.done_B.all()):
                break
        return ended.best()

    def step(self) -> None:
        self._extend()
        self._follow()

    def _extend(self) -> None:
        """One step: the beam's successors, and those of them that end."""
        self._beam.become(self._choose(self._beam, self._logits_BJR))
        self._collect(self._beam)
        self._excluded = self._excluded_later
        self._step += 1

    def _follow(self) -> None:
        """Bring CTC and the decoder up to the beam."""
        if self._ctc is not None:
            self._ctc.advance(self._beam.parents_BJ, self._beam.last_BJ)
        self._logits_BJR = self._decoder.step(self._beam.parents_BJ, self._beam.last_BJ)

    def _choose(self, beam: Beam, logits_BJR: Tensor) -> Beam:
        """Extend every hypothesis by its candidate tokens and take the best of each utterance, as many as asked for."""
        options, tokens = self._options, self._tokens
        normaliser_BJ1 = logits_BJR.logsumexp(-1, keepdim=True)
        logits_BJR.index_fill_(2, self._excluded, float("-inf"))
        width = options.candidates if self._ctc is None else options.pre_beam_size
        top_BJC, row_BJC = logits_BJR.topk(min(width, logits_BJR.shape[2]))
        token_BJC = self._output.tokens_at(row_BJC)
        decoder_BJC = beam.decoder_BJ[..., None] + (top_BJC - normaliser_BJ1)
        total_BJC = decoder_BJC
        ctc_BJC = torch.zeros_like(decoder_BJC)
        if self._ctc is not None:
            # CTC always offers <eos>, in a column of its own; the pre-beam's is then taken out.
            prefix_BJC, complete_BJ = self._ctc.score(token_BJC)
            decoder_BJC.masked_fill_(token_BJC == tokens.eos, float("-inf"))
            eos_BJ1 = logits_BJR[:, :, self._eos_row, None] - normaliser_BJ1
            token_BJC = torch.cat([token_BJC, token_BJC.new_full(eos_BJ1.shape, tokens.eos)], dim=2)
            decoder_BJC = torch.cat([decoder_BJC, beam.decoder_BJ[..., None] + eos_BJ1], dim=2)
            ctc_BJC = torch.cat([prefix_BJC, complete_BJ[..., None]], dim=2)
            total_BJC = (1.0 - options.ctc_weight) * decoder_BJC + options.ctc_weight * ctc_BJC
        total_BK, chosen_BK = total_BJC.flatten(1).topk(options.candidates)
        parents_BK = chosen_BK // token_BJC.shape[2]
        return Beam(
            last_BJ=token_BJC.flatten(1).gather(1, chosen_BK),
            decoder_BJ=decoder_BJC.flatten(1).gather(1, chosen_BK),
            parents_BJ=parents_BK,
            ctc_BJ=ctc_BJC.flatten(1).gather(1, chosen_BK),
            total_BJ=total_BK + options.length_bonus * (self._step + 1).double(),
        )

    def _collect(self, beam: Beam) -> None:
        """Record the hypotheses that end at this step, out of the beam with them, and the utterances then finished."""
        last_step_B = self._most_B == self._step + 1
        held_BJ = beam.total_BJ > float("-inf")
        ends_BJ = held_BJ & ((beam.last_BJ == self._tokens.eos) | last_step_B[:, None])
        if self._ranked is not None:
            ends_BJ = self._ranked.divide(self._step, beam, ends_BJ)
        going_BJ = (beam.total_BJ > float("-inf")) & ~ends_BJ
        counts_BJ = ends_BJ & (self._step >= self._first_B)[:, None]
        scores_BJ = (beam.total_BJ, beam.decoder_BJ, beam.ctc_BJ)
        self._ended.add(self._step, counts_BJ, scores_BJ, beam.parents_BJ, beam.last_BJ)
        beam.decoder_BJ = beam.decoder_BJ.masked_fill(ends_BJ, float("-inf"))
        if self._ranked is not None:
            beam.become(beam.first(self._options.beam_size))
        done_B = ~going_BJ[:, : self._options.beam_size].any(1)
        if self._options.end_detect and self._options.fixed_steps is None:
            done_B |= self._ended.hopeless() if self._ranked is None else self._ranked.hopeless(self._step, beam)
        self._ended.done_B = self._ended.done_B | done_B

    def _keep(self, rows: Tensor) -> None:
        """Let all but ``rows`` leave the batch."""
        self._lengths_B, self._first_B, self._most_B = (
            value[rows] for value in (self._lengths_B, self._first_B, self._most_B)
        )
        frames = int(self._lengths_B.max())
        self._decoder.keep(rows, frames)
        if self._ctc is not None:
            self._ctc.keep(rows, frames)
        if self._ranked is not None:
            self._ranked.keep(rows)
        self._ended.keep(rows)
        self._beam = self._beam.keep(rows)


def _check(
    weights: DecoderWeights,
    ctc_log_probs_BTV: Tensor | None,
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
    if options.candidates >= vocabulary:
        raise ConfigError(f"beam_size {options.beam_size} with a vocabulary of {vocabulary}: give a narrower beam")
    if options.ctc_weight > 0.0 and ctc_log_probs_BTV is None:
        raise ConfigError(f"ctc_weight is {options.ctc_weight} but no CTC log-probabilities were given")
    if len(prompts) != len(lengths_B) or len({len(prompt) for prompt in prompts}) != 1:
        raise ConfigError("give every utterance of a batch a prompt, all of one length")
    if int(lengths_B.min()) < 1:
        raise ConfigError("an utterance of the batch has no frames")
