"""One training run, from manifests to a checkpoint folder, told in the order in which it happens."""

import dataclasses
import json
import warnings
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lhotse.cut import Cut
from lightning.pytorch.callbacks import Timer

from speechgate.config import Experiment
from speechgate.data.augment import Augmentation
from speechgate.data.loaders import eval_loader, train_loader, usable
from speechgate.errors import CheckpointError, ConfigError, TrainingError
from speechgate.files import write_json, write_text
from speechgate.gates.cost_ms import measure_ms
from speechgate.locks import exclusive
from speechgate.model.build import count_parameters
from speechgate.model.checkpoint import save_checkpoint
from speechgate.runinfo import pick_device, run_info
from speechgate.task import Task
from speechgate.text.tokenizer import Tokenizer
from speechgate.training.calibrate import calibrate
from speechgate.training.checkpoints import Checkpoints, newest, update_of, weights_of_model
from speechgate.training.compute import BatchFlops, cost_table
from speechgate.training.data_order import Stream, halved, record, stream_at
from speechgate.training.description import describe_run, require_same
from speechgate.training.losses import merged
from speechgate.training.module import TrainingModule
from speechgate.training.moving_average import MovingAverage
from speechgate.training.processes import Processes, started
from speechgate.training.recompute import recompute_layers
from speechgate.training.sharding import ShardedStrategy
from speechgate.training.start import choose_what_trains, dense_teacher, make_recombiner, start
from speechgate.training.trainer import make_trainer
from speechgate.training.watch import Awaited, Throughput, describe


def train(
    experiment: Experiment,
    tasks: Sequence[Task],
    cuts: dict[str, Iterable[Cut]],
    tokenizer: Tokenizer,
    folder: Path,
    init: Path | None = None,
) -> Path:
    """Train ``experiment`` on ``tasks`` and write the checkpoint to ``folder``; returns it.

    A finished folder with the same configuration is left as it is; an unfinished one goes on where it stopped, as does
    a finished one that is now asked for more updates or minutes (docs/training.md).  ``init`` is a checkpoint to begin
    from: its model, its tokens and, if it has them, its gates.

    Args:
        cuts: "train" and "dev" cuts.

    Raises:
        ConfigError: neither a model nor ``init`` is given, or both; an unknown precision; no noise where it should be.
        CheckpointError: ``folder`` holds the training of another configuration (the message names the keys that
            differ), or none of its checkpoints can be read.
        BusyError: another process trains there.
        TrainingError: the loss is not finite, or memory runs out.
        Stopped: a signal ended the run, after a checkpoint.
    """
    work = folder / "training"
    description = describe_run(experiment, tasks, init)
    processes = started()
    advice = "wait for it, stop it, or choose another by --set name=..."
    alone = exclusive(work / "lock", folder, "trains there", advice) if processes.rank == 0 else nullcontext()
    with alone:
        if (folder / "description.json").is_file():
            earlier = json.loads((folder / "description.json").read_text())
            if require_same(folder, earlier, description):
                return folder
            if newest(work / "checkpoints") is None:
                raise CheckpointError(
                    f"{work}/checkpoints is gone: {folder} cannot go on; choose another by --set name=..."
                )
        if (work / "description.json").is_file():
            require_same(folder, json.loads((work / "description.json").read_text()), description)
        if processes.rank == 0:
            write_json(work / "description.json", description)
            for left in (work / "checkpoints").glob(".*"):  # by a process that was killed while it wrote
                left.unlink()
        begin = True
        while begin:
            begin = _session(experiment, tasks, cuts, tokenizer, folder, init, description, processes)
    return folder


def _session(
    experiment: Experiment,
    tasks: Sequence[Task],
    cuts: dict[str, Iterable[Cut]],
    tokenizer: Tokenizer,
    folder: Path,
    init: Path | None,
    description: dict[str, Any],
    processes: Processes,
) -> bool:
    """Train from the last checkpoint, if there is one, to the end; True if it must begin anew with half the batch."""
    config, work = experiment.train, folder / "training"
    last = newest(work / "checkpoints")
    done = update_of(last)
    if done > config.updates:
        raise ConfigError(f"train.updates is {config.updates}, but {folder} has had {done} updates: give at least that")
    stream = stream_at(work, done, config)
    augment = Augmentation(config.noise, config.reverb, stream.seed) if config.noise or config.reverb else None
    L.seed_everything(config.seed, verbose=False)
    torch.set_float32_matmul_precision("high")
    checkpoint = start(experiment, tokenizer, tasks, init)
    if experiment.gates is not None and experiment.gates.unit == "ms":
        checkpoint.model.gates.cost_S.copy_(measure_ms(checkpoint.model.to(pick_device())))
    recombiner = make_recombiner(checkpoint, cuts["train"], config, init)
    table = cost_table(checkpoint.model)
    adapters = choose_what_trains(checkpoint, config)
    if config.activation_checkpointing:
        recompute_layers(checkpoint.model)
    vectors = {} if checkpoint.gates is None else checkpoint.gates.vectors
    flops = None if table is None else BatchFlops(table, checkpoint.model, config.ctc_weight)
    clock = Timer(timedelta(minutes=config.max_minutes) if config.max_minutes else None, verbose=False)
    dense = dense_teacher(config, init, checkpoint.model)
    module = TrainingModule(checkpoint.model, config, checkpoint.gates, clock.time_elapsed, dense)
    keeper = Checkpoints(work / "checkpoints", config)
    average = MovingAverage(config.ema_decay) if config.average_of == "ema" else None
    min_seconds = checkpoint.config.min_seconds
    batches = Awaited(
        train_loader(
            cuts["train"],
            tasks,
            checkpoint.tokenizer,
            dataclasses.replace(config, seed=stream.seed, max_duration=stream.max_duration),
            min_seconds,
            recombiner,
            vectors,
            processes.rank,
            processes.world,
            stream.to_pass_over(done, config.accumulate),
            augment,
        )
    )
    throughput = Throughput(config.log_every * config.accumulate, flops, batches)
    trainer = make_trainer(config, checkpoint.gates, work, clock, keeper, average, throughput, done, processes)
    if trainer.is_global_zero:
        record(work, stream)
    dev_batches = eval_loader(
        usable(cuts["dev"], config),
        tasks,
        checkpoint.tokenizer,
        stream.max_duration,
        min_seconds,
        vectors=vectors,
        rank=processes.rank,
        world_size=processes.world,
    )
    if trainer.is_global_zero:
        device, size = trainer.accelerator.name(), count_parameters(checkpoint.model)
        trained = sum(each.numel() for each in checkpoint.model.parameters() if each.requires_grad)
        parameters = f"{size:,} parameters" + (f" ({trained:,} trained)" if trained < size else "")
        going_on = f", going on from update {done}" if done else ""
        how = " sharing the model out" if isinstance(trainer.strategy, ShardedStrategy) else ""
        print(f"{folder}: {parameters}, {config.updates} updates on {trainer.world_size} {device}{how}{going_on}")
    keeper.catch_signals()
    try:
        trainer.fit(module, batches, dev_batches, ckpt_path=last, weights_only=True)
    except torch.OutOfMemoryError as error:
        _out_of_memory(trainer, module, stream, error)
        record(work, halved(stream, update_of(newest(work / "checkpoints")), config))
        return True
    if average is not None:
        average.keep(module)
    sharded = isinstance(trainer.strategy, ShardedStrategy)
    weights = weights_of_model(trainer) if sharded else {}
    if trainer.is_global_zero:
        if sharded:
            checkpoint = start(experiment, tokenizer, tasks, init)
            adapters = choose_what_trains(checkpoint, config)
            checkpoint.model.load_state_dict(weights)
        if config.average > 1:
            checkpoint.model.load_state_dict(keeper.averaged(module.device))
        if adapters is not None:
            adapters.merge()
        if checkpoint.gates is not None and checkpoint.gates.rule == "threshold":
            checkpoint.model.to(trainer.strategy.root_device).eval()
            calibrate(checkpoint, usable(cuts["dev"], config), tasks)
        write_text(folder / "losses.csv", merged(work))
        info = run_info(trainer.strategy.root_device, config.seed) | {"description": description}
        save_checkpoint(folder, checkpoint, info)
        write_json(folder / "description.json", description)
    trainer.strategy.barrier()
    return False


def _out_of_memory(trainer: L.Trainer, module: TrainingModule, stream: Stream, error: Exception) -> None:
    """Tell of the batch that did not fit.

    Raises:
        TrainingError: it is not to be tried again with half the batch, or cannot be.
    """
    batch = "the model" if module.batch is None else describe(module.batch)
    what = f"out of memory at update {trainer.global_step} on {batch}"
    if module.config.on_oom == "stop" or trainer.world_size > 1 or stream.max_duration < 2:
        raise TrainingError(
            f"{what}; lower train.max_duration (it is {stream.max_duration:g} s a process), raise train.accumulate "
            "alike, and run the command again; with one process, train.on_oom=halve does so by itself"
        ) from error
    warnings.warn(f"{what}: going on with {stream.max_duration / 2:g} s a batch", stacklevel=2)
    print(f"{what}: going on with {stream.max_duration / 2:g} s a batch", flush=True)
