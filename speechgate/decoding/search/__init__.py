"""Exact, batched, label-synchronous search over a Transformer decoder and CTC, closed modules left out.

It finds the hypotheses of ESPnet's ``BatchBeamSearch`` on the same weights, or those of transformers' ``generate``.
It reads no files, prints nothing and keeps no state between calls; the device is that of the tensors given.
"""

from speechgate.decoding.search.batch import search
from speechgate.decoding.search.beam import BeamSearch
from speechgate.decoding.search.ctc import CtcPrefixScorer, greedy_ctc
from speechgate.decoding.search.espnet import prepare_decoder
from speechgate.decoding.search.graph import StepGraphs
from speechgate.decoding.search.hypothesis import Hypothesis, SearchOptions, SearchTokens
from speechgate.decoding.search.linear import Linear, at_least_float32
from speechgate.decoding.search.output import Output
from speechgate.decoding.search.weights import DECODER_KINDS, DecoderWeights
from speechgate.decoding.search.whisper import prepare_whisper_decoder

__all__ = [
    "DECODER_KINDS",
    "BeamSearch",
    "CtcPrefixScorer",
    "DecoderWeights",
    "Hypothesis",
    "Linear",
    "Output",
    "SearchOptions",
    "SearchTokens",
    "StepGraphs",
    "at_least_float32",
    "greedy_ctc",
    "prepare_decoder",
    "prepare_whisper_decoder",
    "search",
]
