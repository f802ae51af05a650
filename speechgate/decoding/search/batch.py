"""The search over one batch, from its beginning to its end."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from speechgate.decoding.search.beam import BeamSearch
from speechgate.decoding.search.graph import StepGraphs
from speechgate.decoding.search.hypothesis import Hypothesis, SearchOptions, SearchTokens
from speechgate.decoding.search.room import Room
from speechgate.decoding.search.weights import DecoderWeights


@torch.inference_mode()
def search(
    weights: DecoderWeights,
    ctc_log_probs_BTR: Tensor | None,
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
        ctc_log_probs_BTR: the CTC head's log-probabilities of the tokens that the output layer has rows for, in
            the same order; may be None where ``options.ctc_weight`` is 0.
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
    lengths_B = lengths_B.to(encoder_out_BTD.device, torch.int64)
    if static:
        room = Room.of(lengths_B.tolist(), options, weights.most_steps(1 + len(prompts[0])))
        one = BeamSearch(
            weights,
            None if ctc_log_probs_BTR is None else room.fill(ctc_log_probs_BTR),
            room.fill(encoder_out_BTD),
            room.rows(lengths_B),
            [*prompts, *[prompts[-1]] * (room.batch - len(prompts))],
            options,
            tokens,
            None if open_BM is None else room.rows(open_BM),
            room,
        )
        found = one.run_static(StepGraphs() if graphs is None else graphs)[: len(prompts)]
    else:
        one = BeamSearch(weights, ctc_log_probs_BTR, encoder_out_BTD, lengths_B, prompts, options, tokens, open_BM)
        found = one.run()
    missing = [index for index, hypotheses in enumerate(found) if not hypotheses]
    if missing and options.min_length_ratio >= 0.1:
        again = search(
            weights,
            None if ctc_log_probs_BTR is None else ctc_log_probs_BTR[missing],
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
