"""The engine: speech and tasks in, hypotheses and the gates that made them out.

It reads no files, prints nothing and keeps no state but the prepared weights: the whole decoder's, which all masks
share, and those of modules in groups with some of these, as masks ask for them.

Shapes: B batch, N samples, T encoder frames, V vocabulary, S gate sites.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor

from speechgate.decoding.execution import DEFAULT, Execution
from speechgate.decoding.kernels import EncoderKernels
from speechgate.decoding.memory import halving
from speechgate.decoding.search import (
    DecoderWeights,
    Hypothesis,
    SearchOptions,
    SearchTokens,
    StepGraphs,
    at_least_float32,
    greedy_ctc,
    prepare_decoder,
    prepare_whisper_decoder,
    search,
)
from speechgate.errors import ConfigError
from speechgate.gates.context import Context
from speechgate.gates.cost import CostTable
from speechgate.gates.sites import groups_of
from speechgate.gates.transfer import real_frames
from speechgate.model.checkpoint import Checkpoint
from speechgate.model.espnet_compat import TransformerDecoder
from speechgate.task import Task
from speechgate.text.tokenizer import Tokens
from speechgate.text.vocabulary import Vocabulary

NARROWED = 512  # decoder modules with some of their groups, kept at most


@dataclass(frozen=True)
class Decoded:
    """What decoding one utterance gave: texts, the n-best list, the gates in force (S) and the compute spent (MACs).

    ``ctc_text`` is None where the model has no CTC.  Where the search finds nothing (see ``search``), the text is
    empty, there are no hypotheses and no steps.
    """

    text: str
    ctc_text: str | None
    hypotheses: tuple[Hypothesis, ...]
    open_S: tuple[bool, ...]
    macs: float
    macs_dense: float


class Engine:
    """Decodes batches with one checkpoint.  Closed modules do not run; utterances do not influence each other.

    Weights are prepared for ``execution`` when the engine is made: one that trains on needs a new engine.  The gates
    then decide on the CPU, wherever the model runs.

    With a ``vocabulary`` texts are written with their language's tokens alone, whose rows of the output layer are
    gathered once a language.  Scores are then log-probabilities among these tokens, so they are higher.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        options: SearchOptions,
        execution: Execution = DEFAULT,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        self.model = checkpoint.model.eval()
        self.execution = execution
        self.tokenizer = checkpoint.tokenizer
        self.options = options
        self.gates = getattr(self.model, "gates", None)
        if self.gates is not None:
            self.gates.to("cpu")  # on a GPU, launches and waits would take longer than products so small take here
        self.specialised = checkpoint.specialised
        self.cost = checkpoint.full_cost or CostTable(self.model)
        if options.ctc_weight > 0 and self.model.ctc is None:
            raise ConfigError(f"ctc_weight is {options.ctc_weight}: this model has no CTC, set it to 0")
        self.tokens = search_tokens(self.tokenizer)
        self._dense = execution.decoder(prepare(self.model.decoder))
        self._kernels: EncoderKernels = execution.encoder(self.model)
        self._narrow = lru_cache(NARROWED)(lambda layer, kind, open_G: self._dense.layers[layer][kind].only(open_G))
        self._graphs = StepGraphs()
        self.vocabulary = vocabulary
        self._writing = cache(self._in_language)

    @torch.inference_mode()
    def decode(
        self, speech_BN: Tensor, lengths_B: Tensor, tasks: Sequence[Task], context: Context | None = None
    ) -> list[Decoded]:
        """Decode a batch of padded waveforms at 16 kHz (see ``speechgate.data.batch.pad_speech``).

        ``context`` is what the gates are to know; the tasks alone where it is None.  A batch that does not fit in
        memory is decoded in halves, with a ``BatchHalvedWarning``.
        """

        def part(rows: slice) -> list[Decoded]:
            known = None if context is None else context.rows(rows)
            return self._decode(speech_BN[rows], lengths_B[rows], tasks[rows], known)

        return self.fitting(part, len(tasks))

    def fitting[T](self, work: Callable[[slice], list[T]], count: int) -> list[T]:
        """``work`` on the rows of a batch of ``count``, in halves where it does not fit in memory; see ``halving``."""
        return halving(work, count, self._graphs.clear)

    def _decode(
        self, speech_BN: Tensor, lengths_B: Tensor, tasks: Sequence[Task], context: Context | None
    ) -> list[Decoded]:
        encoder_out_BTD, frames_B, open_BS = self.encode(speech_BN, lengths_B, tasks, context)
        log_probs_BTV = self.ctc_log_probs(encoder_out_BTD)
        found = self.search(encoder_out_BTD, log_probs_BTV, frames_B, tasks, open_BS)
        ctc_texts: list[str | None] = [None] * len(tasks)
        if log_probs_BTV is not None:
            ctc_ids = greedy_ctc(log_probs_BTV, frames_B, self.tokenizer.blank)
            ctc_texts = [self.tokenizer.decode(ids) for ids in ctc_ids]
        hop = self.model.frontend.hop_length
        decoded = []
        for i, hypotheses in enumerate(found):
            features = int(lengths_B[i]) // hop + 1
            tokens, steps = (hypotheses[0].tokens, hypotheses[0].steps) if hypotheses else ((), 0)
            macs, dense = self.cost.utterance_macs(
                open_BS[i], features, int(frames_B[i]), steps, self.options.beam_size
            )
            left_out = (self._dense.output.macs - self._writing(self._language(tasks[i])).output.macs) * (
                steps * self.options.beam_size
            )
            decoded.append(
                Decoded(
                    text=self.tokenizer.decode(tokens),
                    ctc_text=ctc_texts[i],
                    hypotheses=tuple(hypotheses),
                    open_S=tuple(open_BS[i].tolist()),
                    macs=macs - left_out,
                    macs_dense=dense - left_out,
                )
            )
        return decoded

    @torch.inference_mode()
    def encode(
        self, speech_BN: Tensor, lengths_B: Tensor, tasks: Sequence[Task], context: Context | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the encoder's output (B, T, D), its lengths (B) on the CPU and the gates of both stacks (B, S).

        Raises:
            ConfigError: a task other than the one that the checkpoint is specialised for.
        """
        for task in tasks:
            if self.specialised is not None and str(task) != self.specialised.task:
                raise ConfigError(f"this checkpoint is specialised for {self.specialised.task}: it cannot do {task}")
        if self.gates is not None:
            self.gates.set_context(tasks if context is None else context)
        with self._kernels.in_use(), self.execution.autocast(speech_BN.device):
            out_BTD, frames_B = self.model.encode(speech_BN, lengths_B)
        out_BTD = at_least_float32(out_BTD)
        if self.gates is None:
            return out_BTD, frames_B.cpu(), self._always_open_S().expand(len(tasks), -1)
        frames_B = frames_B.cpu()
        mask_BT = real_frames(frames_B, out_BTD.size(1), out_BTD.device)
        if self.gates.decides_from_prompt:
            prompts = [[self.tokenizer.sos, *self.tokenizer.prompt(task)] for task in tasks]
            prompt_BL = torch.tensor(prompts, device=out_BTD.device)
            self.model.decoder(out_BTD, frames_B, prompt_BL, torch.full((len(tasks),), prompt_BL.size(1)))
        else:
            self.gates.decide("decoder", out_BTD, mask_BT)
        return out_BTD, frames_B, self.gates.mask_BS(len(tasks))

    @torch.inference_mode()
    def ctc_log_probs(self, encoder_out_BTD: Tensor) -> Tensor | None:
        """The CTC head's log-probabilities, (B, T, V); None for a model without one."""
        if self.model.ctc is None:
            return None
        with self._kernels.in_use(), self.execution.autocast(encoder_out_BTD.device):
            return self.model.ctc.log_softmax(encoder_out_BTD)

    @torch.inference_mode()
    def search(
        self,
        encoder_out_BTD: Tensor,
        log_probs_BTV: Tensor | None,
        frames_B: Tensor,
        tasks: Sequence[Task],
        open_BS: Tensor,
    ) -> list[list[Hypothesis]]:
        """Search for each utterance with its own decoder gates.

        Utterances of the same kind of task are searched together; with a vocabulary, those that are written in the
        same language too, since tokens of a neighbour's language would change an utterance's probabilities.  CTC takes
        part in ASR alone: it knows the transcript in the spoken language, not the translation.
        """
        prompts = [self.tokenizer.prompt(task) for task in tasks]
        sites = [i for i, site in enumerate(self.cost.sites) if site.stack == "decoder"]
        found: list[list[Hypothesis]] = [[] for _ in tasks]
        groups = [(task.kind, self._language(task)) for task in tasks]
        for kind, language in dict.fromkeys(groups):
            rows = [row for row, group in enumerate(groups) if group == (kind, language)]
            options = self.options if kind == "asr" else replace(self.options, ctc_weight=0.0)
            index = torch.tensor(rows)
            longest = int(frames_B[index].max())
            at = index.to(encoder_out_BTD.device)
            weights, open_RM = self._weights(open_BS[index][:, sites], language)
            hypotheses = search(
                weights,
                None if log_probs_BTV is None or options.ctc_weight == 0 else log_probs_BTV[at, :longest],
                encoder_out_BTD[at, :longest],
                frames_B[index],
                [prompts[row] for row in rows],
                options,
                self.tokens,
                self.execution.cuda_graph,
                open_RM,
                self._graphs,
            )
            for row, nbest in zip(rows, hypotheses, strict=True):
                found[row] = nbest
        return found

    def _always_open_S(self) -> Tensor:
        """The gates of a model without any that decide."""
        closed = () if self.specialised is None else self.specialised.closed
        return torch.tensor([str(site) not in closed for site in self.cost.sites])

    def _language(self, task: Task) -> str | None:
        """The language that the output layer is to write; None with a vocabulary of all tokens."""
        return None if self.vocabulary is None else task.tgt

    def _in_language(self, language: str | None) -> DecoderWeights:
        if self.vocabulary is None or language is None:
            return self._dense
        return self._dense.writing(self.vocabulary.ids(language))

    def _weights(self, open_RS: Tensor, language: str | None = None) -> tuple[DecoderWeights, Tensor | None]:
        """The blocks that utterances with these masks need, and which of them runs for which (all: None)."""
        dense = self._writing(language)
        if self.specialised is not None:
            return dense, None  # of the modules that are left
        groups = groups_of(self.cost.sites, "decoder")
        return dense.for_rows(open_RS.unflatten(1, (-1, sum(groups))), groups, self._narrow)


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
