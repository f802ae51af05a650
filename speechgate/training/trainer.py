"""Lightning's trainer, set up for one session of a run: devices, precision, callbacks in their order."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, Timer
from lightning.pytorch.strategies import DDPStrategy

from speechgate.config import GatesConfig, TrainConfig
from speechgate.errors import ConfigError
from speechgate.runinfo import pick_device
from speechgate.training.checkpoints import Checkpoints, WholeFiles, validation_interval
from speechgate.training.losses import loggers
from speechgate.training.moving_average import MovingAverage
from speechgate.training.processes import Processes
from speechgate.training.progress import ProgressLines
from speechgate.training.sharding import ShardedStrategy
from speechgate.training.watch import FiniteCheck, Throughput


def make_trainer(
    config: TrainConfig,
    gates: GatesConfig | None,
    work: Path,
    clock: Timer,
    keeper: Checkpoints,
    average: MovingAverage | None,
    throughput: Throughput,
    done: int,
    processes: Processes,
) -> L.Trainer:
    """The trainer of one session, which begins after ``done`` updates.

    Raises:
        ConfigError: an unknown precision, more processes than GPUs, or Weights & Biases is asked for and cannot be had.
    """
    device = pick_device()
    if device.type == "cuda" and processes.local > torch.cuda.device_count():
        raise ConfigError(
            f"{processes.local} processes were started on this machine, which shows them {torch.cuda.device_count()} "
            "GPUs: start one for each"
        )
    precision: Any = config.precision
    if precision == "auto":
        precision = "bf16-mixed" if device.type == "cuda" else "32-true"
    if precision not in ("bf16-mixed", "32-true"):
        raise ConfigError(f"train.precision: {precision!r} is not known; choose from: auto, bf16-mixed, 32-true")
    callbacks: list[L.Callback] = [
        clock,
        FiniteCheck(work),
        LearningRateMonitor(),
        throughput,
        ProgressLines(config.updates),
    ]
    if config.patience:
        callbacks.append(EarlyStopping("valid/loss", patience=config.patience))
    if average is not None:
        callbacks.append(average)
    callbacks.append(keeper)  # last, for what it saves holds the state of the others
    return L.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=processes.local,
        num_nodes=processes.nodes,
        strategy=_strategy(config, gates, processes.world),
        precision=precision,
        max_steps=config.updates,
        accumulate_grad_batches=config.accumulate,
        val_check_interval=validation_interval(config) * config.accumulate,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=config.log_every,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        callbacks=callbacks,
        logger=loggers(work, done, config.wandb if processes.rank == 0 else ""),
        plugins=[WholeFiles(), processes.environment],
    )


def _strategy(config: TrainConfig, gates: GatesConfig | None, processes: int) -> Any:
    if processes == 1:
        return "auto"
    if config.sharding == "fsdp":
        return ShardedStrategy(processes)
    one_branch = config.ctc_weight in (0.0, 1.0)  # then CTC's output layer or the decoder takes no part
    skips = gates is not None and gates.rule == "budget"  # closed modules, once the gates have settled
    return DDPStrategy(find_unused_parameters=one_branch or skips)
