"""Progress of a training: a bar on a terminal, a line now and then elsewhere, always with the time that remains."""

import time
from typing import Any

import lightning as L
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_SECONDS = 15.0  # between two lines where there is no terminal
SHOWN = ("train/", "valid/")


class ProgressLines(L.Callback):
    """Shows updates done, the remaining time, the latest losses and the throughput; the first process only."""

    def __init__(self, updates: int) -> None:
        self.updates = updates
        self.console = Console()
        self.bar: Progress | None = None

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.started = self.last = time.monotonic()
        self.first = trainer.global_step
        if self.console.is_terminal and trainer.is_global_zero:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self.bar = Progress(*columns, console=self.console)
            self.bar.start()
            self.task = self.bar.add_task("training", total=self.updates, completed=self.first)

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, index: int) -> None:
        now, step = time.monotonic(), trainer.global_step
        if self.bar is not None:
            self.bar.update(self.task, completed=step)
        if not trainer.is_global_zero or (now - self.last < LINE_SECONDS and step < self.updates):
            return
        self.last = now
        remaining = (now - self.started) / max(1, step - self.first) * (self.updates - step)
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        shown = {name: value for name, value in metrics.items() if name.startswith(SHOWN) and name.count("/") == 1}
        losses = "  ".join(f"{name} {value:.3f}" for name, value in shown.items() if "gate_" not in name)
        text = f"update {step}/{self.updates}, {int(remaining // 60)}:{int(remaining % 60):02d} left  {losses}"
        speed = _speed(metrics)
        if self.bar is not None:
            self.bar.update(self.task, description=f"training  {losses}  {speed}")
        else:
            print(f"{text}  {speed}".rstrip(), flush=True)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if self.bar is not None:
            self.bar.stop()

    def on_exception(self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException) -> None:
        self.on_train_end(trainer, module)


def _speed(metrics: dict[str, float]) -> str:
    if "speed/audio_hours_an_hour" not in metrics:
        return ""
    text = (
        f"{metrics['speed/audio_hours_an_hour']:.0f} h of audio an hour, padding {metrics['speed/padding']:.0%}, "
        f"waiting for data {metrics['speed/data_wait']:.0%} (the first {metrics['speed/first_batch_seconds']:.1f} s)"
    )
    if "speed/tflop_a_second" in metrics:
        text += f", {metrics['speed/tflop_a_second']:.3g} TFLOP/s"
    if "speed/mfu" in metrics:
        text += f" ({metrics['speed/mfu']:.0%} of the peak)"
    if "speed/memory_gib" in metrics:
        text += f", {metrics['speed/memory_gib']:.1f} GiB"
    return text
