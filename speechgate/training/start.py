"""What a training begins with: the model, what of it trains, its teacher, recombined recordings."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lhotse.cut import Cut

from speechgate.config import Experiment, TrainConfig
from speechgate.data.loaders import usable
from speechgate.data.recombine import Recombiner
from speechgate.errors import ConfigError
from speechgate.model.build import build_model
from speechgate.model.checkpoint import Checkpoint, import_whisper, load_checkpoint
from speechgate.runinfo import pick_device
from speechgate.task import Task
from speechgate.text.tokenizer import Tokenizer
from speechgate.training.alignment import align_words
from speechgate.training.distillation import DenseTeacher
from speechgate.training.lora import Adapters
from speechgate.training.trained import choose_trained
from speechgate.whisper.config import WhisperConfig


def start(experiment: Experiment, tokenizer: Tokenizer, tasks: Sequence[Task], init: Path | None) -> Checkpoint:
    """The model that ``experiment`` describes, or that of the checkpoint ``init``, with gates if it is to have any.

    Raises:
        ConfigError: neither a model nor ``init`` is given, or both.
    """
    if (experiment.model is None) == (init is None):
        raise ConfigError(f"experiment {experiment.name}: give it either a model or a checkpoint to continue from")
    if init is not None:
        checkpoint = load_checkpoint(init)
        checkpoint.model.train()  # it comes in evaluation mode, in which Lightning would leave it
    elif isinstance(experiment.model, WhisperConfig):
        checkpoint = Checkpoint(*import_whisper().load_whisper(experiment.model, tasks))
    else:
        assert experiment.model is not None
        model = build_model(experiment.model, tokenizer.token_list)
        checkpoint = Checkpoint(model, tokenizer, experiment.model)
    if experiment.gates is not None:
        checkpoint.add_gates(experiment.gates, sorted({code for task in tasks for code in (task.src, task.tgt)}))
    return checkpoint


def choose_what_trains(checkpoint: Checkpoint, config: TrainConfig) -> Adapters | None:
    """Freeze what is to be frozen, and put low-rank adapters in if they are asked for."""
    choose_trained(checkpoint.model, config)
    return None if config.lora is None else Adapters(checkpoint.model, config.lora)


def dense_teacher(config: TrainConfig, init: Path | None, student: Any) -> DenseTeacher | None:
    """The teacher of ``train.distill``, for a model of which what trains is chosen.

    Raises:
        ConfigError: there is no checkpoint that could be the teacher.
    """
    if config.distill == 0.0:
        return None
    if init is None:
        raise ConfigError("train.distill needs a dense checkpoint to continue from, which is the teacher")
    return DenseTeacher(init, student)


def make_recombiner(
    checkpoint: Checkpoint, cuts: Iterable[Cut], config: TrainConfig, init: Path | None
) -> Recombiner | None:
    """What ``train.recombine`` needs; raises ConfigError where no checkpoint can tell where words lie."""
    if config.recombine == 0:
        return None
    if init is None:
        raise ConfigError("train.recombine needs a checkpoint to continue from, whose CTC has learnt to find words")
    checkpoint.model.to(pick_device())
    aligned = align_words(checkpoint, usable(cuts, config))
    checkpoint.model.train()
    return Recombiner(aligned, config.recombine, config.seed)
