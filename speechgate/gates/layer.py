"""What makes a layer gated: its class says which modules can be closed, and its forward pass asks for their gates.

A gated class is a subclass of the layer's own class.  It is swapped in on existing layers, so parameter names stay and
checkpoints load.

Shapes: B batch, T frames, D width, K gates a layer.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, ClassVar

from torch import Tensor, nn

from speechgate.gates.groups import GroupGate
from speechgate.gates.macs import Macs
from speechgate.gates.slicing import Split
from speechgate.gates.state import Gate, GateState


@dataclass(frozen=True)
class Kind:
    """One kind of module of a layer that a gate closes.

    Attributes:
        name: as it stands in a site's name.
        parts: the layer's attributes that serve this module alone, the module itself first.  A layer in which that
            one is None or missing has no such module; gates that are closed for good drop all parts.
        out: dotted name of the module's last projection; with zero weights there it adds nothing.
        macs: the multiply-accumulates of a layer's module.
        split: how the module is divided into groups, each with a gate; None where it cannot be.
    """

    name: str
    parts: tuple[str, ...]
    out: str
    macs: Callable[[Any], Macs]
    split: Split | None = None


@dataclass(frozen=True)
class Joint(Kind):
    """A module without a gate of its own: it runs where any of the gates ``of`` is open."""

    of: tuple[str, ...] = field(kw_only=True)


class Gated:
    """Mixin of gated layers: ``class GatedX(Gated, X)``; attributes are set when the class is swapped in."""

    kinds: ClassVar[tuple[Kind, ...]]
    joints: ClassVar[tuple[Joint, ...]] = ()

    gate_state: GateState
    gate_layer: int
    gate_stack: str
    gate_kinds: tuple[str, ...]  # what this layer has of ``kinds``, fixed before any part is dropped
    gate_groups: tuple[int, ...]  # how many gates each of them has

    @classmethod
    def kinds_in(cls, layer: nn.Module) -> tuple[Kind, ...]:
        """Those of the class's kinds that ``layer`` has."""
        return tuple(kind for kind in cls.kinds if getattr(layer, kind.parts[0], None) is not None)

    def gates(self, x_BTD: Tensor, mask_B1T: Tensor | None) -> dict[str, Gate] | None:
        """The gates in force for this layer by the kind's name, or None if its stack has none.

        The layer's input, and True on its real frames, are for gates that are decided layer by layer.
        """
        gates = self.gate_state.of(self.gate_stack, self.gate_layer, x_BTD, mask_B1T)
        if gates is None:
            return None
        found = {}
        own = iter(gates)
        for kind, count in zip(self.gate_kinds, self.gate_groups, strict=True):
            found[kind] = next(own) if count == 1 else self._grouped(kind, list(islice(own, count)))
        return found

    def _grouped(self, name: str, gates: list[Gate]) -> GroupGate:
        layer: Any = self
        kind = next(kind for kind in self.kinds if kind.name == name)
        assert kind.split is not None  # only what can be divided has groups
        return GroupGate(gates, kind.split, layer, kind.parts[0], kind.out, self.gate_state.slices)


def add(x_BTD: Tensor, gate: Gate, branch: Callable[..., Tensor], *inputs_B: Tensor | None) -> Tensor:
    """The residual stream after a gated branch, ``branch(x_BTD, *inputs_B)``; each input has the batch first."""
    return gate.add(x_BTD, branch, x_BTD, *inputs_B)
