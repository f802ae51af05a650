"""What a run tells of itself: throughput, and the batch on which numbers stopped being finite."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from speechgate.data.batch import SAMPLE_RATE, TAIL_SAMPLES, Batch
from speechgate.errors import TrainingError
from speechgate.training.checkpoints import save_whole
from speechgate.training.compute import BatchFlops, peak_tflops

NAMED = 20  # cut ids in a message


def describe(batch: Batch) -> str:
    """The size and the cuts of a batch, for a message."""
    rows, samples = batch.speech_BN.shape
    ids = ", ".join(batch.cut_ids[:NAMED]) + (", ..." if len(batch.cut_ids) > NAMED else "")
    return f"{rows} recordings padded to {samples / SAMPLE_RATE:.1f} s each ({ids})"


class Awaited:
    """The batches of a loader, and how long they were waited for.

    Attributes:
        first_seconds: until the first one came, the start of workers included; the other figure leaves it out.
        seconds: for the others together.
    """

    def __init__(self, loader: Iterable[Batch]) -> None:
        self.loader = loader
        self.first_seconds = self.seconds = 0.0

    def __iter__(self) -> Iterator[Batch]:
        asked = time.perf_counter()
        batches = iter(self.loader)
        for number, batch in enumerate(batches):
            waited = time.perf_counter() - asked
            if number:
                self.seconds += waited
            else:
                self.first_seconds = waited
            yield batch
            asked = time.perf_counter()


@dataclass
class Throughput(L.Callback):
    """Logs, every ``every`` batches, what passed since: hours of audio an hour, padding, waiting for data, arithmetic.

    Waiting is what ``batches`` took to give the next one; the time until the first of a session is said once, and is
    in no figure.  The arithmetic is a device's own: TFLOP/s of useful work (``speechgate.training.compute``) and, on a
    card of known peak, their share in it (MFU); so is the most memory of a GPU that tensors have had.  Validation and
    the writing of checkpoints are not counted.
    """

    every: int
    flops: BatchFlops | None  # None: of this model it is not known
    batches: Awaited
    audio_seconds: float = 0.0
    padded_seconds: float = 0.0
    total_seconds: float = 0.0
    wait_seconds: float = 0.0
    operations: float = 0.0
    peak_tflops: float | None = None
    mark: float | None = None  # when time was last counted; None: the time until the next batch is not
    waited: float = 0.0  # of the batches' seconds, those that were counted

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        self.peak_tflops = peak_tflops(trainer.strategy.root_device)

    def on_validation_end(self, *args: Any) -> None:
        self.mark = None

    def on_save_checkpoint(self, *args: Any) -> None:
        self.mark = None

    def on_train_batch_start(self, trainer: L.Trainer, module: Any, batch: Batch, index: int) -> None:
        now = time.perf_counter()
        if self.mark is not None:
            self.total_seconds += now - self.mark
            self.wait_seconds += self.batches.seconds - self.waited
        self.mark, self.waited = now, self.batches.seconds

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Batch, index: int) -> None:
        now = time.perf_counter()
        assert self.mark is not None
        self.total_seconds += now - self.mark
        self.mark = now
        rows = len(batch)
        self.audio_seconds += (int(batch.speech_lengths.sum()) - TAIL_SAMPLES * rows) / SAMPLE_RATE
        self.padded_seconds += batch.speech_BN.numel() / SAMPLE_RATE
        if self.flops is not None:
            self.operations += self.flops(batch, module.frames_B)
        if (index + 1) % self.every:
            return
        total = self.total_seconds
        values = {
            "audio_hours_an_hour": self.audio_seconds * trainer.world_size / total,
            "padding": 1 - self.audio_seconds / self.padded_seconds,
            "data_wait": self.wait_seconds / total,
            "first_batch_seconds": self.batches.first_seconds,
        }
        if self.flops is not None:
            values["tflop_a_second"] = self.operations / total / 1e12
            if self.peak_tflops is not None:
                values["mfu"] = values["tflop_a_second"] / self.peak_tflops
        if trainer.strategy.root_device.type == "cuda":
            values["memory_gib"] = torch.cuda.max_memory_allocated(trainer.strategy.root_device) / 2**30
        module.log_dict({f"speed/{name}": value for name, value in values.items()}, batch_size=rows)
        self.audio_seconds = self.padded_seconds = self.total_seconds = self.wait_seconds = self.operations = 0.0


class FiniteCheck(L.Callback):
    """Stops at the first loss or gradient norm that is not finite, with the batch saved.

    The flag of a batch is looked at one batch later, when a GPU has computed it anyway, so that the host never waits;
    ``settle`` looks at once, and comes before anything is saved.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pending: tuple[Tensor, torch.cuda.Event | None, Batch, int] | None = None

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Batch, index: int) -> None:
        self.settle()
        finite = outputs["loss"].detach().isfinite() & module.gradient_norm.isfinite()
        event = None
        if finite.is_cuda:
            copy = torch.empty((), dtype=torch.bool, pin_memory=True).copy_(finite, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
            finite = copy
        self.pending = (finite, event, batch, trainer.global_step)
        if event is None:
            self.settle()

    def on_save_checkpoint(self, *args: Any) -> None:
        self.settle()

    def on_validation_start(self, *args: Any) -> None:
        self.settle()

    def settle(self) -> None:
        """Wait for the flag of the last batch.

        Raises:
            TrainingError: it was not finite; the message names the cuts and the file with the batch.
        """
        if self.pending is None:
            return
        (finite, event, batch, update), self.pending = self.pending, None
        if event is not None:
            event.synchronize()
        if finite:
            return
        path = self.folder / f"not-finite-{update:08d}.pt"
        save_whole({**vars(batch.to("cpu")), "tasks": [str(task) for task in batch.tasks]}, path)
        raise TrainingError(
            f"the loss or its gradient is not finite at update {update}, on {describe(batch)}; the batch is saved in "
            f"{path}. Look at these cuts, or lower train.learning_rate and go on from the last checkpoint"
        )
