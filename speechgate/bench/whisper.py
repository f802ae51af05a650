"""This engine beside transformers' ``generate`` on a Whisper checkpoint: the same encoder outputs, hypotheses, time.

Utterances go one by one, because transformers' decoder cannot mask the frames that pad a batch.  Both take turns on
each; times are of decoding alone.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lhotse.cut import Cut
from torch import Tensor
from transformers import GenerationConfig, GenerationMixin, WhisperForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from speechgate.data.batch import load_audio, pad_speech
from speechgate.decoding.execution import DEFAULT
from speechgate.decoding.search import SearchOptions, search
from speechgate.decoding.searcher import prepare, search_tokens
from speechgate.task import Task
from speechgate.text.tokenizer import Tokens

TIE = 1e-3  # nats: hypotheses closer than this may swap places by rounding


@dataclass(frozen=True)
class Difference:
    """An utterance on which the two disagree; scores are log-probabilities by this engine's and transformers' own."""

    cut: str
    ours: str
    theirs: str
    score: float
    score_theirs: float

    @property
    def is_tie(self) -> bool:
        return abs(self.score - self.score_theirs) < TIE


@dataclass(frozen=True)
class Comparison:
    """``speed`` is the median over utterances of transformers' seconds over this engine's."""

    window_seconds: float
    beam_size: int
    utterances: int
    equal: int
    differences: tuple[Difference, ...]
    seconds: float
    seconds_theirs: float
    speed: float


@torch.inference_mode()
def compare_with_transformers(
    host: Any,
    tokens: Tokens,
    cuts: Iterable[Cut],
    window_seconds: float,
    beam_size: int,
    most_tokens: int,
    said: Callable[[int], None],
) -> Comparison:
    """Decode the spoken language of ``cuts`` by both, at most ``most_tokens`` each.

    Args:
        host: a ``WhisperHost`` without gates.
        window_seconds: shorter recordings are padded to it; 30 is Whisper's own.
        said: is told how many utterances are done.
    """
    theirs = _transformers_model(host, tokens)
    rules = search_tokens(tokens)
    weights = DEFAULT.decoder(prepare(host.decoder))
    options = SearchOptions(beam_size, ctc_weight=0.0, finish="transformers", max_length_ratio=-most_tokens)
    differences, taken, taken_theirs = [], [], []
    for count, cut in enumerate(cuts, start=1):
        prompt = tokens.prompt(Task.asr(cut.supervisions[0].language))
        out_1TD, frames_1 = host.encode(*pad_speech([load_audio(cut)], window_seconds))
        started = time.perf_counter()
        best = search(weights, None, out_1TD, frames_1, [prompt], options, rules)[0][0]
        middle = time.perf_counter()
        found, score = _generate(theirs, tokens, out_1TD, prompt, options, most_tokens)
        taken_theirs.append(time.perf_counter() - middle)
        taken.append(middle - started)
        if best.tokens != found:
            texts = tokens.decode(best.tokens), tokens.decode(found)
            differences.append(Difference(cut.id, *texts, best.score, score))
        said(count)
    speed = statistics.median(b / a for a, b in zip(taken, taken_theirs, strict=True))
    equal = len(taken) - len(differences)
    return Comparison(
        window_seconds, beam_size, len(taken), equal, tuple(differences), sum(taken), sum(taken_theirs), speed
    )


def _transformers_model(host: Any, tokens: Tokens) -> Any:
    """The same weights in transformers' own class, with Whisper's rules of generation."""
    model = WhisperForConditionalGeneration(host.config).eval()
    model.model.encoder, model.model.decoder = host.encoder, host.decoder.decoder
    model.proj_out = host.decoder.output_layer
    model.generation_config = GenerationConfig(
        eos_token_id=tokens.eos, pad_token_id=tokens.eos, decoder_start_token_id=tokens.sos
    )
    return model


def _generate(
    model: Any, tokens: Tokens, out_1TD: Tensor, prompt: Sequence[int], options: SearchOptions, most_tokens: int
) -> tuple[tuple[int, ...], float]:
    """The best hypothesis without prompt and <eos>, and its score."""
    rules = search_tokens(tokens)
    start = [tokens.sos, *prompt]
    # Whisper's own ``generate`` adds prompts and windows around this one.
    found = GenerationMixin.generate(
        model,
        encoder_outputs=BaseModelOutput(out_1TD),
        decoder_input_ids=torch.tensor([start]),
        num_beams=options.beam_size,
        length_penalty=options.length_penalty,
        do_sample=False,
        suppress_tokens=list(rules.forbidden),
        begin_suppress_tokens=list(rules.forbidden_first),
        max_length=len(start) + most_tokens,
        return_dict_in_generate=True,
        output_scores=True,
    )
    sequence = found.sequences[0, len(start) :].tolist()
    text = tuple(token for token in sequence if token != tokens.eos)
    if options.beam_size > 1:
        return text, float(found.sequences_scores[0])
    steps = [float(step.log_softmax(-1)[0, token]) for step, token in zip(found.scores, sequence, strict=False)]
    return text, sum(steps) / max(1, len(steps))
