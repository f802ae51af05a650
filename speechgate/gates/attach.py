"""Attach gates to a model and take them off again.

``attach`` swaps the classes of the layers, adds the predictors as ``model.gates`` and hooks them to the places where a
stack's input is known.  Nothing else of the model changes.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from speechgate.config import GatesConfig
from speechgate.errors import ConfigError
from speechgate.gates.espnet import known_stacks
from speechgate.gates.layer import Gated
from speechgate.gates.module import Gates
from speechgate.gates.sites import Adapter, Stack, in_groups, stacks_of
from speechgate.gates.state import GateState


def attach(model: Any, config: GatesConfig, languages: Sequence[str], adapter: Adapter = known_stacks) -> Gates:
    """Give ``model`` gates; returns them.

    They are also ``model.gates``, so that they are saved, moved and trained with the model.  Keys of the model's own
    parameters do not change.

    Args:
        model: an ESPnetS2TModel, ESPnetASRModel or WhisperHost; with another ``adapter``, any module that it describes.
        config: what to gate, and how the gates decide.
        languages: those that the gates are to know.
        adapter: describes the model's stacks; see "Gate your own model" in docs/gates.md.

    Raises:
        ConfigError: the model has gates already, lacks a stack to gate, or has a layer or option that cannot be gated.
    """
    if hasattr(model, "gates"):
        raise ConfigError("this model has gates already; detach them first")
    stacks = adapter(model)
    missing = set(stacks_of(config.stack)) - {stack.name for stack in stacks}
    if missing:
        raise ConfigError(f"gates.stack is {config.stack!r}: this model has no {missing.pop()} to gate")
    stacks = in_groups(stacks, config)
    gates = Gates(config, stacks, languages)
    swap_in(stacks, gates.state)
    for stack in stacks:
        gates.handles.append(
            stack.entry.register_forward_pre_hook(
                partial(_decide, gates.decide, stack.name, stack.read), prepend=True, with_kwargs=True
            )
        )
    model.gates = gates.to(next(model.parameters()).device).train(model.training)
    return gates


def detach(model: Any) -> Any:
    """Take the gates off; the model is what it was before ``attach``, with the weights that it has now."""
    for handle in model.gates.handles:
        handle.remove()
    state = model.gates.state
    layers: list[Any] = [part for part in model.modules() if isinstance(part, Gated) and part.gate_state is state]
    for layer in layers:
        layer.__class__ = next(base for base in type(layer).__bases__ if not issubclass(base, Gated))
        del layer.gate_state, layer.gate_stack, layer.gate_layer, layer.gate_kinds, layer.gate_groups
    del model.gates
    return model


def swap_in(stacks: Iterable[Stack], state: GateState) -> None:
    """Make all layers obey ``state``."""
    layer: Any
    for stack in stacks:
        kinds = tuple(kind.name for kind in stack.kinds)
        groups = tuple(len(stack.parts(kind)) for kind in stack.kinds)
        for index, layer in enumerate(stack.layers):
            layer.__class__ = stack.gated
            layer.gate_state, layer.gate_stack, layer.gate_layer = state, stack.name, index
            layer.gate_kinds, layer.gate_groups = kinds, groups


def _decide(decide: Any, name: str, read: Any, module: nn.Module, args: Any, kwargs: Any) -> None:
    x_BTD, mask_BT = read(args, kwargs)
    decided: Tensor | None = decide(name, x_BTD, mask_BT)
    del decided  # a hook's result would replace the arguments
