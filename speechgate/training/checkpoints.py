"""Checkpoints of a run: written whole or not at all, the last two kept, checked before one is used.

``update-00000200.ckpt`` is all that a resumption needs (weights, optimizer, schedules, counters, time used);
``weights-00000200.pt`` are the model's weights alone, for the average at the end.
"""

import os
import signal
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from speechgate.config import TrainConfig
from speechgate.errors import CheckpointError, Stopped
from speechgate.files import atomic_path
from speechgate.model.weights import average_states

KEPT = 2  # resumption checkpoints
LOGGED = ("train/", "speed/")


class WholeFiles(TorchCheckpointIO):
    """Lightning's way to its files: a temporary name, fsync, rename."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        save_whole(checkpoint, path)


def save_whole(value: Any, path: Path | str) -> None:
    """Write ``value`` as PyTorch does, whole or not at all.

    Raises:
        OSError: there is no room for it, or no right to write it.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as handle:
        try:
            torch.save(value, handle)
        except RuntimeError as error:
            cause = error.__context__  # the archive's end failed too, and hides why
            while cause is not None and not isinstance(cause, OSError):
                cause = cause.__context__
            raise cause or error from None


def newest(folder: Path) -> Path | None:
    """The newest sound checkpoint of ``folder``, None without any; damaged ones are named in a warning.

    Raises:
        CheckpointError: there are checkpoints, and all are damaged.
    """
    paths = sorted(folder.glob("update-*.ckpt"), reverse=True)
    for path in paths:
        if is_sound(path):
            return path
        warnings.warn(f"{path} is damaged: going on from the checkpoint before", stacklevel=2)
    if paths:
        raise CheckpointError(f"every checkpoint in {folder} is damaged: remove the folder to begin anew")
    return None


def is_sound(path: Path) -> bool:
    """Whether every record of a checkpoint is there with the checksum (CRC-32) that PyTorch wrote with it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError):
        return False


def update_of(path: Path | None) -> int:
    """The update after which a checkpoint was written; 0 for None."""
    return 0 if path is None else int(path.stem.partition("-")[2])


class Checkpoints(L.Callback):
    """Writes checkpoints, stops on a signal, keeps the weights that the average needs.

    Where an update is followed by a validation the checkpoint comes after it, so that a resumption never has to repeat
    or skip one.  SIGINT and SIGTERM end the run at the next such moment with a checkpoint and ``Stopped``; a second
    signal ends it at once.  Several processes agree on the moment.
    """

    def __init__(self, folder: Path, config: TrainConfig) -> None:
        self.folder = folder
        self.config = config
        self.weights: dict[str, float] = {}  # file name -> rank of its weights, lower is better
        self.needs: dict[str, set[str]] = {}  # resumption checkpoint -> the weights that its run goes on with
        self.signal: int | None = None
        self.handlers: dict[int, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.weights = dict(state["weights"])

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if trainer.global_step:
            self.needs[_name("update", trainer.global_step, "ckpt")] = set(self.weights)
        self.catch_signals()

    def catch_signals(self) -> None:
        """Take SIGINT and SIGTERM, before the training begins and again when Lightning has put its own in between."""
        for number in (signal.SIGINT, signal.SIGTERM):
            earlier = signal.signal(number, self._note)
            self.handlers.setdefault(number, earlier)

    def _note(self, number: int, frame: Any) -> None:
        if self.signal is not None:
            self._restore_handlers()
            os.kill(os.getpid(), number)
        self.signal = number

    def _restore_handlers(self) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        self.handlers = {}

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, index: int) -> None:
        update = trainer.global_step
        if (index + 1) % self.config.accumulate or self._validates(trainer, update):
            return
        stopping = self._stopping(trainer)
        if stopping or update % self.config.checkpoint_every == 0 or update >= self.config.updates:
            self._log(trainer, update)
            self._save(trainer)
        if stopping:
            raise self._stopped(update)

    def _log(self, trainer: L.Trainer, update: int) -> None:
        """Log this update, which Lightning does only after this hook: too late for a run that ends here."""
        if update % self.config.log_every == 0:
            values = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith(LOGGED)}
            for logger in trainer.loggers:
                logger.log_metrics({"epoch": trainer.current_epoch, **values}, step=update - 1)

    def _validates(self, trainer: L.Trainer, update: int) -> bool:
        return trainer.should_stop or update % validation_interval(self.config) == 0

    def _stopping(self, trainer: L.Trainer) -> bool:
        mine = self.signal is not None
        return mine if trainer.world_size == 1 else trainer.strategy.reduce_boolean_decision(mine, all=False)

    def _stopped(self, update: int) -> Stopped:
        return Stopped(
            f"stopped at update {update} with a checkpoint: the same command goes on", self.signal or signal.SIGTERM
        )

    def on_validation_end(self, trainer: L.Trainer, module: Any) -> None:
        update = trainer.global_step
        if self.config.average > 1:
            self._keep_weights(trainer, module, update)
        self._save(trainer)
        if self._stopping(trainer):
            raise self._stopped(update)

    def _keep_weights(self, trainer: L.Trainer, module: Any, update: int) -> None:
        name = _name("weights", update, "pt")
        self.weights[name] = {
            "best": float(trainer.callback_metrics["valid/loss"]),
            "last": -float(update),
        }[self.config.average_of]
        kept = sorted(self.weights, key=self.weights.__getitem__)[: self.config.average]
        self.weights = {each: self.weights[each] for each in kept}
        if name in kept:
            state = weights_of_model(trainer)
            if trainer.is_global_zero:
                save_whole(state, self.folder / name)

    def _save(self, trainer: L.Trainer) -> None:
        for logger in trainer.loggers:  # what is logged until here, a resumption does not log again
            logger.save()
        name = _name("update", trainer.global_step, "ckpt")
        trainer.save_checkpoint(self.folder / name)
        self.needs[name] = set(self.weights)
        self.needs = dict(sorted(self.needs.items())[-KEPT:])
        if trainer.is_global_zero:
            keep = set(self.needs).union(*self.needs.values())
            for path in self.folder.iterdir():
                if path.name not in keep:
                    path.unlink()

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._restore_handlers()

    def on_exception(self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException) -> None:
        self._restore_handlers()

    def averaged(self, device: torch.device) -> dict[str, torch.Tensor]:
        """The mean of the kept weights."""
        paths = [self.folder / name for name in sorted(self.weights)]
        return average_states(torch.load(path, map_location=device, weights_only=True) for path in paths)


def weights_of_model(trainer: L.Trainer) -> dict[str, torch.Tensor]:
    """The whole weights of the model that trains, on the first process; all processes have to ask for them."""
    state = trainer.strategy.lightning_module_state_dict()
    return {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}


def validation_interval(config: TrainConfig) -> int:
    """Updates between two validations."""
    return min(config.validate_every, config.updates)


def _name(kind: str, update: int, suffix: str) -> str:
    return f"{kind}-{update:08d}.{suffix}"
