"""Activation checkpointing: each layer computes its activations a second time in the backward pass, keeping none.

Memory then grows with the layers' inputs alone, for about a third more computation (Chen et al., arXiv 1604.06174).
The second time a layer draws the same dropout masks and the same noise of its gates, and leaves no trace: statistics of
batch normalisation and recorded decisions of gates are those of the first.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from speechgate.training.trained import numbered_layers


def recompute_layers(model: Any) -> None:
    """Make every layer of the model's stacks do so, wherever gradients are computed; names and weights stay.

    Gates are to be attached before, not after.

    Raises:
        ConfigError: no numbered layer (layers.N, encoders.N or decoders.N).
    """
    layers = numbered_layers(model, "train.activation_checkpointing")
    unrecorded = model.gates.unrecorded if hasattr(model, "gates") else nullcontext
    for layer in layers:
        layer.forward = partial(_forward, layer, layer.forward, unrecorded)


def _forward(
    layer: nn.Module,
    forward: Callable[..., Any],
    unrecorded: Callable[[], AbstractContextManager[None]],
    *args: Any,
    **kwargs: Any,
) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return _without_maps(layer), _again(layer, unrecorded)

    return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)


@contextmanager
def _again(layer: nn.Module, unrecorded: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """The second computation of a layer."""
    before = [(buffer, buffer.clone()) for buffer in layer.buffers()]
    try:
        with _without_maps(layer), unrecorded():
            yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)


@contextmanager
def _without_maps(layer: nn.Module) -> Iterator[None]:
    """ESPnet's attention keeps its last map, (B, heads, T, T), as an attribute: let it go."""
    try:
        yield
    finally:
        for part in layer.modules():
            if isinstance(vars(part).get("attn"), Tensor):
                part.attn = None  # type: ignore[assignment]
