"""What a training folder is the training of, and what may change when it goes on."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from speechgate.config import Experiment, TrainConfig, to_mapping
from speechgate.errors import CheckpointError
from speechgate.task import Task

LENGTH = {"train.updates", "train.max_minutes"}  # a change asks for more (or less) training
FREE = {  # a change neither alters what is trained nor asks for more of it
    "train.max_duration",
    "train.workers",
    "train.cache",
    "train.patience",
    "train.checkpoint_every",
    "train.log_every",
    "train.exact_resume",
    "train.on_oom",
    "train.activation_checkpointing",
    "train.sharding",
    "train.wandb",
}
SHOWN = 5  # differing keys in a message


def describe_run(experiment: Experiment, tasks: Sequence[Task], init: Path | None) -> dict[str, Any]:
    """The configuration, the tasks and where the model began, as JSON has them."""
    values = {**to_mapping(experiment), "tasks": [str(task) for task in tasks], "init": init and str(init)}
    return json.loads(json.dumps(values))


def require_same(folder: Path, earlier: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether the run described ``now`` is as long as the ``earlier`` one; what else may change is passed over.

    Raises:
        CheckpointError: they differ in anything else; the message names the keys.
    """
    defaults = to_mapping(TrainConfig())  # of options that an earlier version of this project did not have
    one, two = dict(_flat({**earlier, "train": defaults | earlier["train"]})), dict(_flat(now))
    differing = {key for key in one.keys() | two.keys() if one.get(key) != two.get(key)}
    if other := sorted(differing - LENGTH - FREE):
        shown = "; ".join(f"{key} was {one.get(key)}, is {two.get(key)}" for key in other[:SHOWN])
        more = f" and {len(other) - SHOWN} more" if len(other) > SHOWN else ""
        raise CheckpointError(
            f"{folder} holds the training of another configuration ({shown}{more}): choose another by --set name=..."
        )
    return not differing & LENGTH


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
