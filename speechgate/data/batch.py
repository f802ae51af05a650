"""Batches of examples as tensors.

Shapes: B batch, N samples, L tokens.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from lhotse.cut import Cut
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from speechgate.data.augment import Augmentation
from speechgate.data.chain import load_chain
from speechgate.data.recombine import Recombiner
from speechgate.data.shar import in_memory
from speechgate.data.tasks import reference
from speechgate.data.vectors import load_vectors
from speechgate.errors import AudioError
from speechgate.task import Task
from speechgate.text.normalize import normalize_for_training
from speechgate.text.tokenizer import Tokens

SAMPLE_RATE = 16_000  # Hz
TAIL_SAMPLES = 512  # silence after each recording, so that its last frames never depend on its neighbours
IGNORE = -1  # label of positions without a loss


@dataclass
class Batch:
    """A batch on one device.  Lengths stay on the CPU, where padding, CTC and scheduling need them; so do vectors.

    Attributes:
        speech_BN: waveform in [-1, 1], 16 kHz, zero-padded; ``speech_lengths`` (B) counts samples with the tail.
        decoder_in_BL, decoder_out_BL: ``<sos> prompt text`` and ``prompt text <eos>`` (padded with <eos> and IGNORE).
        ctc_BL, ctc_lengths: the transcript in the spoken language, whatever the task (padded with 0).
        vectors: named vectors of the cuts, (B, size) each, NaN where a cut has none.
    """

    cut_ids: list[str]
    tasks: list[Task]
    speech_BN: Tensor
    speech_lengths: Tensor
    decoder_in_BL: Tensor
    decoder_in_lengths: Tensor
    decoder_out_BL: Tensor
    ctc_BL: Tensor
    ctc_lengths: Tensor
    vectors: dict[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> "Batch":
        """Move the tensors that modules read; lengths and vectors stay where they are, for they are looked at first."""
        return self._with(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """The tensors that modules read in page-locked memory, from which a GPU takes them while the host goes on."""
        return self._with(lambda tensor: tensor.pin_memory())

    def _with(self, move: Callable[[Tensor], Tensor]) -> "Batch":
        moved: dict[str, Any] = {
            f.name: move(getattr(self, f.name))
            for f in fields(self)
            if isinstance(getattr(self, f.name), Tensor) and not f.name.endswith("_lengths")
        }
        return Batch(**{f.name: getattr(self, f.name) for f in fields(self)} | moved)

    def __len__(self) -> int:
        return len(self.tasks)


def load_audio(cut: Cut) -> Tensor:
    """The cut's samples, (N,) float32 at 16 kHz.

    Raises:
        AudioError: unreadable, not 16 kHz, not mono, of another length than the manifest's (by half a second, lhotse's
            tolerance), or with samples that are not finite.
    """
    recording = cut.recording
    where = f"cut {cut.id}: {recording.sources[0].source}"
    if recording.sampling_rate != SAMPLE_RATE or recording.num_channels != 1:
        found = f"{recording.num_channels} channels at {recording.sampling_rate} Hz"
        raise AudioError(f"{where} has {found}: convert it to one at {SAMPLE_RATE} Hz, or prepare the corpus again")
    cut = in_memory(cut)
    try:
        samples = cut.load_audio()
    except Exception as error:  # of whichever decoder lhotse tried last
        reason = "missing, empty, damaged, or not as long as its manifest says"
        raise AudioError(f"{where} cannot be read ({reason}): prepare the corpus again") from error
    if samples.shape[0] != 1 or not np.isfinite(samples).all():
        raise AudioError(f"{where} has several channels or samples that are not finite: prepare the corpus again")
    return torch.from_numpy(samples[0])


def load_readable(cuts: Sequence[Cut], load: Callable[[Cut], Tensor] = load_audio) -> list[tuple[Cut, Tensor]]:
    """The cuts whose recordings can be read, with their samples; each of the others is named in a warning.

    Raises:
        AudioError: none can be read.
    """
    readable = []
    for cut in cuts:
        try:
            readable.append((cut, load(cut)))
        except AudioError as error:
            warnings.warn(f"left out: {error}", stacklevel=2)
    if not readable:
        raise AudioError(
            f"none of {len(cuts)} recordings can be read, such as that of cut {cuts[0].id}: see the warnings"
        )
    return readable


def pad_speech(recordings: Sequence[Tensor], min_seconds: float) -> tuple[Tensor, Tensor]:
    """Stack waveforms into (B, N) and their lengths (B), each followed by the tail of silence."""
    shortest = int(min_seconds * SAMPLE_RATE)
    lengths = torch.tensor([max(len(recording), shortest) + TAIL_SAMPLES for recording in recordings])
    speech_BN = torch.zeros(len(recordings), int(lengths.max()))
    for row, recording in zip(speech_BN, recordings, strict=True):
        row[: len(recording)] = recording
    return speech_BN, lengths


def make_batch(
    cuts: Sequence[Cut],
    tokenizer: Tokens,
    min_seconds: float,
    load: Callable[[Cut], Tensor] = load_audio,
    vectors: Mapping[str, int] | None = None,
) -> Batch:
    """Load and tokenize the examples of one batch, those that cannot be read left out with a warning.

    Args:
        load: gives the samples of a cut.
        vectors: names and sizes of the cuts' vectors to carry along.
    """
    readable = load_readable(cuts, load)
    cuts = [cut for cut, _ in readable]
    tasks = [Task.parse(cut.custom["task"]) for cut in cuts]
    speech_BN, speech_lengths = pad_speech([samples for _, samples in readable], min_seconds)
    texts, transcripts = [], []
    for cut, task in zip(cuts, tasks, strict=True):
        text = normalize_for_training(reference(cut, task), task.tgt)
        transcript = normalize_for_training(cut.supervisions[0].text, task.src)
        texts.append(torch.tensor(tokenizer.prompt(task) + tokenizer.encode(text)))
        transcripts.append(torch.tensor(tokenizer.encode(transcript), dtype=torch.long))
    sos, eos = torch.tensor([tokenizer.sos]), torch.tensor([tokenizer.eos])

    def pad(sequences: list[Tensor], value: int) -> Tensor:
        return pad_sequence(sequences, batch_first=True, padding_value=value)

    return Batch(
        cut_ids=[cut.custom["cut_id"] for cut in cuts],
        tasks=tasks,
        speech_BN=speech_BN,
        speech_lengths=speech_lengths,
        decoder_in_BL=pad([torch.cat([sos, text]) for text in texts], tokenizer.eos),
        decoder_in_lengths=torch.tensor([len(text) + 1 for text in texts]),
        decoder_out_BL=pad([torch.cat([text, eos]) for text in texts], IGNORE),
        ctc_BL=pad(transcripts, 0),
        ctc_lengths=torch.tensor([len(transcript) for transcript in transcripts]),
        vectors=load_vectors(cuts, vectors or {}),
    )


class ExampleDataset(torch.utils.data.Dataset):
    """Turns a CutSet of one batch, as lhotse's samplers yield it, into a ``Batch``."""

    def __init__(
        self,
        tokenizer: Tokens,
        min_seconds: float,
        cache: int = 0,
        recombine: Recombiner | None = None,
        vectors: Mapping[str, int] | None = None,
        augment: Augmentation | None = None,
    ) -> None:
        """``cache``: how many recordings to keep decoded in memory; ``recombine`` replaces examples (see there)."""
        self.tokenizer = tokenizer
        self.min_seconds = min_seconds
        self.cache = cache
        self.recombine = recombine
        self.vectors = vectors
        self.augment = augment
        self.kept: dict[str, Tensor] = {}

    def __getitem__(self, cuts: Any) -> Batch:
        chosen = list(cuts) if self.recombine is None else [self.recombine(cut) for cut in cuts]
        return make_batch(chosen, self.tokenizer, self.min_seconds, self._heard, self.vectors)

    def _heard(self, cut: Cut) -> Tensor:
        samples_N = load_chain(cut, self._load)
        return samples_N if self.augment is None else self.augment(cut.id, samples_N)

    def _load(self, cut: Cut) -> Tensor:
        name = (cut.custom or {}).get("cut_id", cut.id)  # an example's id has its task too
        if name in self.kept:
            return self.kept[name]
        samples = load_audio(cut)
        if len(self.kept) < self.cache:
            self.kept[name] = samples
        return samples
