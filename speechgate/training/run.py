"""One training run, from manifests to a checkpoint folder, told in the order in which it happens."""

import json
import shutil
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lhotse.cut import Cut
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from speechgate.config import Experiment, TrainConfig, to_mapping
from speechgate.data.loaders import eval_loader, train_loader, usable
from speechgate.data.recombine import Recombiner
from speechgate.errors import CheckpointError, ConfigError
from speechgate.files import write_json, write_text
from speechgate.gates.cost_ms import measure_ms
from speechgate.model.build import build_model, count_parameters
from speechgate.model.checkpoint import Checkpoint, average_states, load_checkpoint, save_checkpoint
from speechgate.runinfo import pick_device, run_info
from speechgate.task import Task
from speechgate.text.tokenizer import Tokenizer
from speechgate.training.alignment import align_words
from speechgate.training.module import TrainingModule
from speechgate.training.progress import ProgressLines


def train(
    experiment: Experiment,
    tasks: Sequence[Task],
    cuts: dict[str, Iterable[Cut]],
    tokenizer: Tokenizer,
    folder: Path,
    init: Path | None = None,
) -> Path:
    """Train ``experiment`` on ``tasks`` and write the checkpoint to ``folder``; returns it.

    A finished folder with the same configuration is left as it is.  ``init`` is a checkpoint to continue from: its
    model, its tokens and, if it has them, its gates.

    Args:
        cuts: "train" and "dev" cuts.

    Raises:
        ConfigError: neither a model nor ``init`` is given, or both; an unknown precision.
        CheckpointError: ``folder`` holds the checkpoint of another configuration.
    """
    description = {**to_mapping(experiment), "tasks": [str(task) for task in tasks], "init": init and str(init)}
    if is_done(folder, description):
        return folder
    L.seed_everything(experiment.train.seed, verbose=False)
    torch.set_float32_matmul_precision("high")
    checkpoint = _start(experiment, tokenizer, tasks, init)
    config = experiment.train
    if experiment.gates is not None and experiment.gates.unit == "ms":
        checkpoint.model.gates.cost_S.copy_(measure_ms(checkpoint.model.to(pick_device())))
    vectors = {} if checkpoint.gates is None else checkpoint.gates.vectors
    module = TrainingModule(checkpoint.model, config, checkpoint.gates)
    min_seconds = checkpoint.config.min_seconds
    recombine = _recombiner(checkpoint, cuts["train"], config, init)
    train_batches = train_loader(cuts["train"], tasks, checkpoint.tokenizer, config, min_seconds, recombine, vectors)
    dev = usable(cuts["dev"], config)
    dev_batches = eval_loader(dev, tasks, checkpoint.tokenizer, config.max_duration, min_seconds, vectors=vectors)
    work = folder / "training"
    best = ModelCheckpoint(
        work / "checkpoints",
        monitor="valid/loss",
        save_top_k=config.average,
        filename="{step}",
        auto_insert_metric_name=False,
    )
    trainer = _trainer(config, work, best)
    size, device = count_parameters(checkpoint.model), trainer.accelerator.name()
    print(f"{folder}: {size:,} parameters, {config.updates} updates on {device}")
    trainer.fit(module, train_batches, dev_batches)
    if not torch.isfinite(torch.tensor([float(trainer.callback_metrics["train/loss"])])).all():
        raise ConfigError(f"{folder}: the loss is not finite; lower train.learning_rate")
    if config.average > 1:
        checkpoint.model.load_state_dict(_average(best, module))
    write_text(folder / "losses.csv", (work / "metrics.csv").read_text())
    info = run_info(trainer.strategy.root_device, config.seed) | {"description": description}
    save_checkpoint(folder, checkpoint, info)
    write_json(folder / "description.json", description)
    shutil.rmtree(work / "checkpoints", ignore_errors=True)
    return folder


def is_done(folder: Path, description: dict[str, Any]) -> bool:
    """Whether ``folder`` holds the finished training of this very description.

    Raises:
        CheckpointError: it holds another's.
    """
    written = folder / "description.json"
    if not written.is_file():
        return False
    if json.loads(written.read_text()) == json.loads(json.dumps(description)):
        return True
    raise CheckpointError(f"{folder} holds the training of another configuration: choose another --name, or remove it")


def _start(experiment: Experiment, tokenizer: Tokenizer, tasks: Sequence[Task], init: Path | None) -> Checkpoint:
    if (experiment.model is None) == (init is None):
        raise ConfigError(f"experiment {experiment.name}: give it either a model or a checkpoint to continue from")
    if init is not None:
        checkpoint = load_checkpoint(init)
        checkpoint.model.train()  # it comes in evaluation mode, in which Lightning would leave it
    else:
        assert experiment.model is not None
        model = build_model(experiment.model, tokenizer.token_list)
        checkpoint = Checkpoint(model, tokenizer, experiment.model)
    if experiment.gates is not None:
        checkpoint.add_gates(experiment.gates, sorted({code for task in tasks for code in (task.src, task.tgt)}))
        if experiment.train.gated_only:
            trained = ("gates.", *(f"{stack}." for stack in checkpoint.model.gates.stacks))
            for name, parameter in checkpoint.model.named_parameters():
                parameter.requires_grad_(name.startswith(trained))
    return checkpoint


def _recombiner(
    checkpoint: Checkpoint, cuts: Iterable[Cut], config: TrainConfig, init: Path | None
) -> Recombiner | None:
    if config.recombine == 0:
        return None
    if init is None:
        raise ConfigError("train.recombine needs a checkpoint to continue from, whose CTC has learnt to find words")
    checkpoint.model.to(pick_device())
    aligned = align_words(checkpoint, usable(cuts, config))
    checkpoint.model.train()
    return Recombiner(aligned, config.recombine, config.seed)


def _trainer(config: TrainConfig, work: Path, best: ModelCheckpoint) -> L.Trainer:
    device = pick_device()
    precision: Any = config.precision
    if precision == "auto":
        precision = "bf16-mixed" if device.type == "cuda" else "32-true"
    if precision not in ("bf16-mixed", "32-true"):
        raise ConfigError(f"train.precision: {precision!r} is not known; choose from: auto, bf16-mixed, 32-true")
    callbacks: list[L.Callback] = [best, LearningRateMonitor(), ProgressLines(config.updates)]
    if config.patience:
        callbacks.append(EarlyStopping("valid/loss", patience=config.patience))
    work.mkdir(parents=True, exist_ok=True)
    return L.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=1,
        precision=precision,
        max_steps=config.updates,
        max_time=timedelta(minutes=config.max_minutes) if config.max_minutes else None,
        val_check_interval=min(config.validate_every, config.updates),
        check_val_every_n_epoch=None,
        gradient_clip_val=config.clip,
        num_sanity_val_steps=0,
        log_every_n_steps=20,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
        logger=[CSVLogger(work, name="", version=""), TensorBoardLogger(work, name="tensorboard", version="")],
    )


def _average(best: ModelCheckpoint, module: TrainingModule) -> dict[str, torch.Tensor]:
    """The mean of the model's weights over the checkpoints with the lowest validation loss."""
    states = []
    for path in best.best_k_models:
        state = torch.load(path, map_location=module.device, weights_only=True)["state_dict"]
        states.append(
            {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}
        )
    return average_states(states)
