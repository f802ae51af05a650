"""The gates in force for the batch at hand: set by ``Gates``, read by the gated layers.

Shapes: B batch, T frames, D width, L layers, K gates a layer.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from speechgate.gates.residual import add_gated
from speechgate.gates.slicing import Slices
from speechgate.gates.transfer import send


class GateState:
    """The gates in force for the batch at hand; empty for a stack that is not gated.

    ``skip`` chooses between multiplying every module's output by its gate, which tells closed gates what they would
    add (while gates learn), and running a module on the rows with an open gate alone (inference).  Where batches stay
    ``whole``, a module runs on all rows or none: to part them and join them again, gradients too, takes longer on a GPU
    than what it saves (training with settled gates).
    A stack's gates are either ``set`` before it runs, or decided layer by layer as each asks (``decide_by``).
    """

    def __init__(self) -> None:
        self.skip, self.whole = False, False
        self.slices = Slices()
        self._deciders: dict[str, Callable[[int, Tensor, Tensor | None], Tensor]] = {}
        self._gates: dict[str, list[list[Gate]]] = {}

    def set(self, stack: str, gates_BLK: Tensor, skip: bool, whole: bool = False) -> None:
        """Put gates in force: (B, L layers, K) floats, or booleans where ``skip``; B may be 1 for any batch."""
        self.skip, self.whole = skip, whole
        self._deciders.pop(stack, None)
        self._gates[stack] = self._each(gates_BLK)

    def decide_by(
        self, stack: str, decide: Callable[[int, Tensor, Tensor | None], Tensor], skip: bool, whole: bool = False
    ) -> None:
        """Let ``decide(layer, x_BTD, mask)`` give the gates (B, K) of each layer from the layer's own input."""
        self.skip, self.whole = skip, whole
        self._gates.pop(stack, None)
        self._deciders[stack] = decide

    def clear(self) -> None:
        self._deciders.clear()
        self._gates.clear()

    def of(self, stack: str, layer: int, x_BTD: Tensor, mask: Tensor | None) -> "list[Gate] | None":
        """The gates of one layer, a kind each, or None if the stack has none in force.

        ``x_BTD`` is the layer's input and ``mask`` its padding mask as ESPnet passes it: what local gates decide from.
        """
        if stack in self._deciders:
            return self._each(self._deciders[stack](layer, x_BTD, mask)[:, None])[0]
        return self._gates[stack][layer] if stack in self._gates else None

    def _each(self, gates_BLK: Tensor) -> "list[list[Gate]]":
        """One gate after another, by layer and kind.

        A training step on a GPU is as long as its number of small operations, so that what all gates need is done once.
        """
        if self.skip and not self.whole:
            return [[Gate(rows=rows) for rows in layer] for layer in _rows(gates_BLK)]
        values_BLK = gates_BLK.float() if self.skip else gates_BLK
        gates = [Gate(factor_B11=gate_B11) for gate_B11 in values_BLK.flatten(1)[..., None, None].unbind(1)]
        if self.skip:
            counts = gates_BLK.flatten(1).sum(0).tolist()
            gates = [
                Gate(rows=count > 0) if count in (0, len(gates_BLK)) else gate
                for gate, count in zip(gates, counts, strict=True)
            ]
        kinds = gates_BLK.size(2)
        return [gates[first : first + kinds] for first in range(0, len(gates), kinds)]


def _rows(gates_BLK: Tensor) -> list[list[Tensor | bool]]:
    """For every gate True if all rows are open, False if none is, else the indices of the open rows."""
    open_BLK = gates_BLK.bool().cpu()
    counts_LK = open_BLK.sum(0).tolist()  # one wait for the device and one operation for all gates

    def rows(layer: int, kind: int, count: int) -> Tensor | bool:
        if count in (0, len(open_BLK)):
            return count > 0
        return open_BLK[:, layer, kind].nonzero().squeeze(1)

    return [[rows(layer, k, count) for k, count in enumerate(row)] for layer, row in enumerate(counts_LK)]


class Gate:
    """One gate over a batch: either ``factor_B11`` to multiply by, or ``rows`` (True all, False none, or indices)."""

    def __init__(self, factor_B11: Tensor | None = None, rows: Tensor | bool = True) -> None:
        self.factor_B11 = factor_B11
        self.rows = rows

    def __or__(self, other: "Gate") -> "Gate":
        """Open where either is: 1 - (1 - a)(1 - b)."""
        if self.factor_B11 is not None and other.factor_B11 is not None:
            return Gate(factor_B11=1 - (1 - self.factor_B11) * (1 - other.factor_B11))
        if self.factor_B11 is None and isinstance(self.rows, bool):
            return self if self.rows else other
        if other.factor_B11 is None and isinstance(other.rows, bool):
            return other if other.rows else self
        assert isinstance(self.rows, Tensor)  # where a batch is parted there are no factors
        assert isinstance(other.rows, Tensor)
        return Gate(rows=torch.cat([self.rows, other.rows]).unique())

    def add(self, x_BTD: Tensor, branch: Callable[..., Tensor], *inputs_B: Tensor | None) -> Tensor:
        """Return ``x_BTD + run(branch, *inputs_B)``."""
        if self.factor_B11 is not None:
            return add_gated(x_BTD, branch(*inputs_B), self.factor_B11)
        y_BTD = self.run(branch, *inputs_B)
        return x_BTD if y_BTD is None else x_BTD + y_BTD

    def run(self, branch: Callable[..., Tensor], *inputs_B: Tensor | None) -> Tensor | None:
        """Return ``branch(*inputs_B)`` gated: zero on closed rows, None (not computed) if all rows are closed.

        Each input has the batch first; None, and inputs with a batch of 1, are passed on whole.
        """
        if self.factor_B11 is not None:
            out_BTD = branch(*inputs_B)
            return out_BTD * self.factor_B11.to(out_BTD.dtype)
        if isinstance(self.rows, bool):
            return branch(*inputs_B) if self.rows else None
        first = inputs_B[0]
        assert first is not None
        rows = send(self.rows, first.device)
        taken = [x if x is None or len(x) == 1 else x[rows] for x in inputs_B]
        part = branch(*taken)
        return part.new_zeros(len(first), *part.shape[1:]).index_copy_(0, rows, part)
