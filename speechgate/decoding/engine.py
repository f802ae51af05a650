"""The engine: speech and tasks in, hypotheses and the gates that made them out.

It reads no files, prints nothing and keeps no state but the prepared weights: the whole decoder's, which all masks
share, and those of modules in groups with some of these, as masks ask for them.

Shapes: B batch, N samples, T encoder frames, S gate sites.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from speechgate.decoding.encoded import Encoded
from speechgate.decoding.execution import DEFAULT, Execution
from speechgate.decoding.kernels import EncoderKernels
from speechgate.decoding.memory import halving
from speechgate.decoding.search import Hypothesis, SearchOptions, at_least_float32
from speechgate.decoding.searcher import Searcher
from speechgate.errors import ConfigError
from speechgate.gates.context import Context
from speechgate.gates.cost import CostTable
from speechgate.gates.transfer import real_frames
from speechgate.model.checkpoint import Checkpoint
from speechgate.task import Task
from speechgate.text.vocabulary import Vocabulary

# Speech (B, N), its lengths (B), tasks, and what the gates are to know: the tasks alone where it is None.
Inputs = tuple[Tensor, Tensor, Sequence[Task], Context | None]


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
        self.vocabulary = vocabulary
        self.searcher = Searcher(
            self.model, self.tokenizer, options, execution, self.cost.sites, self.specialised is not None, vocabulary
        )
        self.tokens = self.searcher.tokens
        self._kernels: EncoderKernels = execution.encoder(self.model)

    @torch.inference_mode()
    def decode(
        self, speech_BN: Tensor, lengths_B: Tensor, tasks: Sequence[Task], context: Context | None = None
    ) -> list[Decoded]:
        """Decode a batch of padded waveforms at 16 kHz (see ``speechgate.data.batch.pad_speech``).

        ``context`` is what the gates are to know; the tasks alone where it is None.  A batch that does not fit in
        memory is decoded in halves, with a ``BatchHalvedWarning``.
        """

        def part(rows: slice) -> list[Decoded]:
            [encoded] = self._encoded_part((speech_BN, lengths_B, tasks, context), rows)
            found = self.search(encoded)
            return [self._result(encoded, row, nbest) for row, nbest in enumerate(found)]

        return self.fitting(part, len(tasks))

    @torch.inference_mode()
    def decode_all(self, batches: Iterable[Inputs]) -> Iterator[tuple[int, Decoded]]:
        """Decode many batches, each of what ``decode`` takes; yield every utterance as it is finished.

        The search holds as many utterances as the largest batch, and takes one in when another has left; so it needs
        fewer steps where texts differ in length.  With the results come the numbers of their utterances, counted over
        all batches.
        """
        for number, encoded, row, nbest in self.search_all(self.encode_all(batches)):
            yield number, self._result(encoded, row, nbest)

    def fitting[T](self, work: Callable[[slice], list[T]], count: int) -> list[T]:
        """``work`` on the rows of a batch of ``count``, in halves where it does not fit in memory; see ``halving``."""
        return halving(work, count, self.searcher.free)

    def _encoded_part(self, batch: Inputs, rows: slice) -> list[Encoded]:
        speech_BN, lengths_B, tasks, context = batch
        known = None if context is None else context.rows(rows)
        return [self.with_ctc(self.encode(speech_BN[rows], lengths_B[rows], tasks[rows], known))]

    def _result(self, encoded: Encoded, row: int, nbest: Sequence[Hypothesis]) -> Decoded:
        task, frames, open_S = encoded.tasks[row], int(encoded.frames_B[row]), encoded.open_BS[row]
        ctc_text = None
        if encoded.ctc_log_probs is not None:
            ctc_text = self.searcher.ctc_text(encoded.ctc_log_probs[row], frames, task)
        features = int(encoded.samples_B[row]) // self.model.frontend.hop_length + 1
        tokens, steps = (nbest[0].tokens, nbest[0].steps) if nbest else ((), 0)
        macs, dense = self.cost.utterance_macs(open_S, features, frames, steps, self.options.beam_size)
        spared = self.searcher.macs_spared(task) * steps * self.options.beam_size
        text = self.tokenizer.decode(tokens)
        return Decoded(text, ctc_text, tuple(nbest), tuple(open_S.tolist()), macs - spared, dense - spared)

    @torch.inference_mode()
    def encode_all(self, batches: Iterable[Inputs]) -> Iterator[Encoded]:
        """Encode many batches, in order, CTC head included; in halves where they do not fit in memory."""
        for batch in batches:
            yield from self.fitting(partial(self._encoded_part, batch), len(batch[2]))

    @torch.inference_mode()
    def encode(
        self, speech_BN: Tensor, lengths_B: Tensor, tasks: Sequence[Task], context: Context | None = None
    ) -> Encoded:
        """Encode a batch, and let the gates of both stacks decide; the CTC head is left out, see ``with_ctc``.

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
            open_BS = self._always_open_S().expand(len(tasks), -1)
            return Encoded(out_BTD, lengths_B.cpu(), frames_B.cpu(), tasks, open_BS)
        frames_B = frames_B.cpu()
        mask_BT = real_frames(frames_B, out_BTD.size(1), out_BTD.device)
        if self.gates.decides_from_prompt:
            prompts = [[self.tokenizer.sos, *self.tokenizer.prompt(task)] for task in tasks]
            prompt_BL = torch.tensor(prompts, device=out_BTD.device)
            self.model.decoder(out_BTD, frames_B, prompt_BL, torch.full((len(tasks),), prompt_BL.size(1)))
        else:
            self.gates.decide("decoder", out_BTD, mask_BT)
        return Encoded(out_BTD, lengths_B.cpu(), frames_B, tasks, self.gates.mask_BS(len(tasks)))

    @torch.inference_mode()
    def with_ctc(self, encoded: Encoded) -> Encoded:
        """The same with the CTC head's log-probabilities, if the model has one."""
        with self.execution.autocast(encoded.encoder_out_BTD.device):
            log_probs = self.searcher.ctc_log_probs(encoded.encoder_out_BTD, encoded.tasks)
        return replace(encoded, ctc_log_probs=log_probs)

    @torch.inference_mode()
    def search(self, encoded: Encoded) -> list[list[Hypothesis]]:
        """Search for each utterance of a batch, with its own decoder gates."""
        return self.searcher.together(encoded)

    @torch.inference_mode()
    def search_all(self, batches: Iterable[Encoded]) -> Iterator[tuple[int, Encoded, int, list[Hypothesis]]]:
        """Search for the utterances of many batches; yield each with its number, batch and row as it is finished."""
        for utterance, nbest in self.searcher.continuously(batches):
            yield utterance.number, utterance.encoded, utterance.row, nbest

    def _always_open_S(self) -> Tensor:
        """The gates of a model without any that decide."""
        closed = () if self.specialised is None else self.specialised.closed
        return torch.tensor([str(site) not in closed for site in self.cost.sites])
