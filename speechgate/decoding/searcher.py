"""The decoder's half of the engine: searches over what the encoder left, each utterance with its own modules.

Shapes: B batch, T encoder frames, D width, S gate sites, M modules of the decoder, R tokens that may be written.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from speechgate.decoding.continuous import Utterance, search_continuously
from speechgate.decoding.encoded import Encoded, stack
from speechgate.decoding.execution import Execution
from speechgate.decoding.memory import halving
from speechgate.decoding.search import (
    BeamSearch,
    DecoderWeights,
    Hypothesis,
    Linear,
    Output,
    SearchOptions,
    SearchTokens,
    StepGraphs,
    greedy_ctc,
    prepare_decoder,
    prepare_whisper_decoder,
    search,
)
from speechgate.gates.sites import GateSite, groups_of
from speechgate.model.espnet_compat import TransformerDecoder
from speechgate.task import Task
from speechgate.text.tokenizer import Tokens
from speechgate.text.vocabulary import Vocabulary

NARROWED = 512  # decoder modules with some of their groups, kept at most


class Searcher:
    """The decoder and the CTC head of one model, prepared for ``execution``; it keeps weights and graphs, no texts.

    Args:
        model: an ESPnetS2TModel or a Whisper host.
        sites: the gates of both stacks, in the order of a mask.
        specialised: whether ``model`` has only the modules that its one task needs.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Tokens,
        options: SearchOptions,
        execution: Execution,
        sites: Sequence[GateSite],
        specialised: bool,
        vocabulary: Vocabulary | None,
    ) -> None:
        self.tokens = search_tokens(tokenizer)
        self.graphs = StepGraphs()
        self._tokenizer = tokenizer
        self._options = options
        self._execution = execution
        self._vocabulary = vocabulary
        self._specialised = specialised
        self._groups = groups_of(sites, "decoder")
        self._sites = [i for i, site in enumerate(sites) if site.stack == "decoder"]
        self._dense = execution.decoder(prepare(model.decoder))
        self._ctc = None if model.ctc is None else execution.head(Linear.of(model.ctc.ctc_lo))
        self._narrow = lru_cache(NARROWED)(lambda layer, kind, open_G: self._dense.layers[layer][kind].only(open_G))
        self._writing = cache(self._in_language)

    def together(self, encoded: Encoded) -> list[list[Hypothesis]]:
        """Search for each utterance of a batch; groups of them that cannot share a search, one after the other."""
        found: list[list[Hypothesis]] = [[] for _ in encoded.tasks]
        groups = [(self._group(task), len(self._tokenizer.prompt(task))) for task in encoded.tasks]
        for group in dict.fromkeys(groups):
            rows = [row for row, other in enumerate(groups) if other == group]
            nbests = self._search([(encoded, row) for row in rows])
            for row, nbest in zip(rows, nbests, strict=True):
                found[row] = nbest
        return found

    def continuously(self, batches: Iterable[Encoded]) -> Iterator[tuple[Utterance, list[Hypothesis]]]:
        """Search for the utterances of many batches, and yield each as it is finished: others then enter.

        The steps of a CUDA graph take fixed batches, one after the other.
        """
        if self._execution.cuda_graph:
            yield from self._one_by_one(batches)
            return
        prompt = self._tokenizer.prompt
        for utterance, nbest in search_continuously(batches, self._begin, self._group, prompt, self.free):
            if not nbest and self._options.min_length_ratio >= 0.1:
                [nbest] = self._search([(utterance.encoded, utterance.row)])  # with the ratio lowered, as ESPnet does
            yield utterance, nbest

    def _one_by_one(self, batches: Iterable[Encoded]) -> Iterator[tuple[Utterance, list[Hypothesis]]]:
        count = 0
        for encoded in batches:

            def part(rows: slice, encoded: Encoded = encoded) -> list[list[Hypothesis]]:
                return self.together(stack([(encoded, row) for row in range(len(encoded))[rows]]))

            for row, nbest in enumerate(halving(part, len(encoded), self.free)):
                yield Utterance(count, encoded, row, None, 0), nbest
                count += 1

    def ctc_log_probs(self, encoder_out_BTD: Tensor, tasks: Sequence[Task]) -> list[Tensor] | None:
        """The CTC head's log-probabilities of each utterance, (T, R); None for a model without one."""
        if self._ctc is None:
            return None
        found: list[Tensor] = [encoder_out_BTD] * len(tasks)
        languages = [self._language(task) for task in tasks]
        for language in dict.fromkeys(languages):
            rows = [row for row, other in enumerate(languages) if other == language]
            own_BTD = encoder_out_BTD if len(rows) == len(tasks) else encoder_out_BTD[rows]
            for row, log_probs_TR in zip(rows, F.log_softmax(self._writing(language)[1](own_BTD), dim=-1), strict=True):
                found[row] = log_probs_TR
        return found

    def output(self, task: Task) -> Output:
        """The output layer, whose rows are the tokens that a task may write."""
        return self._writing(self._language(task))[0].output

    def ctc_text(self, log_probs_TR: Tensor, frames: int, task: Task) -> str:
        """The most likely token of each frame, as text."""
        output = self.output(task)
        [blank] = output.rows_of([self.tokens.blank])
        [rows] = greedy_ctc(log_probs_TR[None], torch.tensor([frames]), blank)
        return self._tokenizer.decode(rows if output.ids_R is None else output.ids_R[rows].tolist())

    def macs_spared(self, task: Task) -> int:
        """Multiply-accumulates of the output layer, a hypothesis and step, that a vocabulary spares."""
        return self._dense.output.macs - self.output(task).macs

    def free(self) -> None:
        """Give back the memory that can be spared."""
        self.graphs.clear()

    def _search(self, utterances: Sequence[tuple[Encoded, int]]) -> list[list[Hypothesis]]:
        static = self._execution.cuda_graph
        return search(**self._given(utterances), static=static, graphs=self.graphs if static else None)

    def _begin(self, utterances: Sequence[tuple[Encoded, int]]) -> BeamSearch:
        return BeamSearch(**self._given(utterances))

    def _given(self, utterances: Sequence[tuple[Encoded, int]]) -> dict[str, Any]:
        """What a search takes, for utterances that can share one."""
        encoded, row = utterances[0]
        task = encoded.tasks[row]
        options = self._options if task.kind == "asr" else replace(self._options, ctc_weight=0.0)
        batch = stack(utterances, with_ctc=options.ctc_weight > 0)
        weights, open_BM = self._weights(batch.open_BS[:, self._sites], self._language(task))
        return {
            "weights": weights,
            "ctc_log_probs_BTR": None if batch.ctc_log_probs is None else torch.stack(list(batch.ctc_log_probs)),
            "encoder_out_BTD": batch.encoder_out_BTD,
            "lengths_B": batch.frames_B,
            "prompts": [self._tokenizer.prompt(each) for each in batch.tasks],
            "options": options,
            "tokens": self.tokens,
            "open_BM": open_BM,
        }

    def _group(self, task: Task) -> tuple[str, str | None]:
        """Utterances of equal groups can share a search.

        CTC takes part in ASR alone: it knows the transcript in the spoken language, not the translation.  With a
        vocabulary the tokens of a neighbour's language would change an utterance's probabilities.
        """
        return task.kind, self._language(task)

    def _language(self, task: Task) -> str | None:
        """The language that is written; None with a vocabulary of all tokens."""
        return None if self._vocabulary is None else task.tgt

    def _in_language(self, language: str | None) -> tuple[DecoderWeights, Any]:
        """The decoder, and the CTC head if there is one, with the rows of a language's tokens."""
        if self._vocabulary is None or language is None:
            return self._dense, self._ctc
        ids = self._vocabulary.ids(language)
        return self._dense.writing(ids), None if self._ctc is None else self._ctc.only(ids)

    def _weights(self, open_BS: Tensor, language: str | None = None) -> tuple[DecoderWeights, Tensor | None]:
        """The blocks that utterances with these masks need, and which of them runs for which (all: None)."""
        dense = self._writing(language)[0]
        if self._specialised:
            return dense, None  # of the modules that are left
        return dense.for_rows(open_BS.unflatten(1, (-1, sum(self._groups))), self._groups, self._narrow)


def search_tokens(tokens: Tokens) -> SearchTokens:
    """What the search is to know of a model's tokens: it writes no special symbol but <eos>, and none suppressed."""
    forbidden = (tokens.specials - {tokens.eos}) | tokens.suppressed
    blank = -1 if tokens.blank is None else tokens.blank  # nothing reads it without CTC
    return SearchTokens(tokens.sos, tokens.eos, blank, tuple(sorted(forbidden)), tuple(sorted(tokens.suppressed_first)))


def prepare(decoder: Any) -> DecoderWeights:
    """The weights of an ESPnet decoder, or of a ``WhisperTextDecoder``."""
    if isinstance(decoder, TransformerDecoder):
        return prepare_decoder(decoder)
    return prepare_whisper_decoder(decoder.decoder, decoder.output_layer)
