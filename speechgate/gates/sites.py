"""Gate sites: the modules of a model that a gate may close, in the one order that everything else indexes.

Predictor, penalty, cost, recorded masks and maps all follow ``list_sites``: stack by stack, layer by layer, each
layer's kinds in the order of their execution.  A model is described by its ``Stack``s; what can be closed in a layer is
said by the gated class of that layer (``speechgate.gates.layer``).

Shapes: B batch, T frames, D width.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from speechgate.errors import ConfigError
from speechgate.gates.layer import Gated


@dataclass(frozen=True, order=True)
class GateSite:
    """One module: ``stack`` is "encoder" or "decoder", ``layer`` counts from 0, ``kind`` names the module in it."""

    stack: str
    layer: int
    kind: str

    def __str__(self) -> str:
        return f"{self.stack}.{self.layer}.{self.kind}"


@dataclass(frozen=True)
class Stack:
    """One stack of a model.

    Attributes:
        name: "encoder" or "decoder".
        layers: its layers, all of one class.
        gated: the subclass of that class that obeys gates.
        width: D of the input that the gates look at.
        entry: the module whose call shows that input, before any layer of the stack runs.
        read: returns x_BTD and mask_BT (True on real frames) from that call's positional and keyword arguments.
            At module level, so that a gated model can be copied and pickled.
    """

    name: str
    layers: tuple[nn.Module, ...]
    gated: type[Gated]
    width: int
    entry: nn.Module
    read: Callable[[tuple[Any, ...], Mapping[str, Any]], tuple[Tensor, Tensor]]

    @property
    def kinds(self) -> tuple[str, ...]:
        """The names of the modules that gates may close in each of its layers, in the order of execution.

        Raises:
            ConfigError: layers differ in the modules that they have.
        """
        kinds = {self.gated.kinds_in(layer) for layer in self.layers}
        if len(kinds) != 1:
            raise ConfigError(f"cannot gate the {self.name}: its layers differ in the modules that they have")
        return tuple(kind.name for kind in kinds.pop())


Adapter = Callable[[Any], tuple[Stack, ...]]  # describes a model; raises a ConfigError if it cannot be gated


def stacks_of(stack: str) -> tuple[str, ...]:
    """The stacks that "encoder", "decoder" or "both" name."""
    return ("encoder", "decoder") if stack == "both" else (stack,)


def list_sites(stacks: Iterable[Stack]) -> tuple[GateSite, ...]:
    """All sites of a model's stacks, gated or not, in execution order."""
    return tuple(
        GateSite(stack.name, layer, kind)
        for stack in stacks
        for layer in range(len(stack.layers))
        for kind in stack.kinds
    )


def kinds_of(sites: Iterable[GateSite], stack: str) -> tuple[str, ...]:
    """The kinds of module that one stack's sites have, in the order of execution."""
    return tuple(dict.fromkeys(site.kind for site in sites if site.stack == stack))
