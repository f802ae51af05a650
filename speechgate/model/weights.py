"""Weights in safetensors files: written whole or not at all, read into a model that they fit, averaged."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from speechgate.errors import CheckpointError
from speechgate.files import atomic_path


def save_weights(state: dict[str, Tensor], path: Path) -> None:
    """Write a safetensors file, whole or not at all.

    Raises:
        CheckpointError: there is no room for it, or no right to write it.
    """
    with atomic_path(path) as temporary:
        try:
            save_file(state, temporary, metadata={"format": "pt"})
        except SafetensorError as error:
            raise CheckpointError(f"{path} cannot be written: {error}") from error


def load_weights(model: torch.nn.Module, path: Path) -> None:
    """Load a safetensors file into ``model``, all keys and shapes being equal.

    Raises:
        CheckpointError: the file is damaged, or keys or shapes differ (the message names the first few).
    """
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}): copy or train it again") from error
    load_state(model, state, path)


def load_state(model: torch.nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load ``state``, which came from ``path``, into ``model``, all keys and shapes being equal.

    Raises:
        CheckpointError: keys or shapes differ (the message names the first few).
    """
    own = model.state_dict()
    problems = [f"{name} is missing" for name in own if name not in state]
    problems += [f"{name} is unknown" for name in state if name not in own]
    problems += [
        f"{name} is {tuple(state[name].shape)}, not {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise CheckpointError(f"{path} belongs to another model: {'; '.join(problems[:5])}{more}")
    model.load_state_dict({name: value.to(own[name].dtype) for name, value in state.items()})


def average_states(states: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of several state dicts with the same keys; integers are taken from the last."""
    states = list(states)
    return {
        name: torch.stack([state[name].float() for state in states]).mean(0).to(last.dtype)
        if last.is_floating_point()
        else last
        for name, last in states[-1].items()
    }
