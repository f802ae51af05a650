"""Modules in groups: a gate for each group of an attention's heads, or of a feed-forward module's channels.

The last projection of such a module is linear in its heads (channels).  Training multiplies what that projection reads
by the gates.  Inference runs the module with the open groups' weights alone: smaller projections and fewer heads, which
are copied once for every set of groups.  With all groups closed the module adds nothing, nor its bias.

Shapes: B batch, T frames or tokens, D width, G groups, C what the last projection reads (heads x width, channels).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from speechgate.gates.slicing import Slices, Split
from speechgate.gates.state import Gate


class GroupGate(Gate):
    """The gate of a module in groups; to others, such as a joint, it is open where any of its groups is."""

    def __init__(self, gates: Sequence[Gate], split: Split, layer: nn.Module, name: str, out: str, slices: Slices):
        """``name`` is the module's attribute in ``layer``, ``out`` the dotted name of its last projection."""
        if gates[0].factor_B11 is not None:
            factors = [gate.factor_B11 for gate in gates if gate.factor_B11 is not None]
            self._factor_B1G1 = torch.stack(factors, dim=2)
            super().__init__(factor_B11=1 - (1 - self._factor_B1G1).prod(2))
        else:
            union = gates[0]
            for gate in gates[1:]:
                union = union | gate
            super().__init__(rows=union.rows)
        self._gates, self._split, self._layer, self._slices = gates, split, layer, slices
        self._name, self._out = name, out

    def add(self, x_BTD: Tensor, branch: Callable[..., Tensor], *inputs_B: Tensor | None) -> Tensor:
        y_BTD = self.run(branch, *inputs_B)
        return x_BTD if y_BTD is None else x_BTD + y_BTD

    def run(self, branch: Callable[..., Tensor], *inputs_B: Tensor | None) -> Tensor | None:
        if self.factor_B11 is not None:
            with self._multiplied(self.factor_B11):
                return branch(*inputs_B)
        first = inputs_B[0]
        assert first is not None
        out_BTD: Tensor | None = None
        for open_G, rows in self._by_groups(len(first)):
            with self._sliced(open_G):
                part = Gate(rows=rows).run(branch, *inputs_B)
            out_BTD = part if out_BTD is None or part is None else out_BTD + part
        return out_BTD

    def _by_groups(self, batch: int) -> Iterator[tuple[tuple[bool, ...], Tensor | bool]]:
        """The sets of open groups that there are, with the rows of each; rows without an open group are in none."""
        if all(isinstance(gate.rows, bool) for gate in self._gates):
            if self.rows:
                yield tuple(bool(gate.rows) for gate in self._gates), True
            return
        open_GB = torch.stack([_booleans(gate.rows, batch) for gate in self._gates])
        sets: dict[tuple[bool, ...], list[int]] = {}
        for row, open_G in enumerate(open_GB.T.tolist()):
            if any(open_G):
                sets.setdefault(tuple(open_G), []).append(row)
        for found, rows in sets.items():
            yield found, len(rows) == batch or torch.tensor(rows)

    @contextmanager
    def _sliced(self, open_G: tuple[bool, ...]) -> Iterator[None]:
        """While this lasts, the layer has the sliced module in the place of its own."""
        own = self._layer.get_submodule(self._name)
        setattr(self._layer, self._name, self._slices.of(self._split, own, open_G))
        try:
            yield
        finally:
            setattr(self._layer, self._name, own)

    @contextmanager
    def _multiplied(self, any_B11: Tensor) -> Iterator[None]:
        """While this lasts, the last projection reads gated heads or channels, and adds its bias where any is open.

        The product itself is not multiplied by ``any_B11``: where all groups are closed, each would lose the gradient
        that tells it what it would add.
        """
        out: Any = self._layer.get_submodule(self._out)

        def scale(_: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
            x_BTGC = inputs[0].unflatten(-1, (len(self._gates), -1))
            return (x_BTGC * self._factor_B1G1.to(x_BTGC.dtype)).flatten(-2)

        def take_bias(_: nn.Module, inputs: tuple[Tensor, ...], y_BTD: Tensor) -> Tensor:
            return y_BTD if out.bias is None else y_BTD + ((any_B11 - 1) * out.bias).to(y_BTD.dtype)

        handles = [out.register_forward_pre_hook(scale), out.register_forward_hook(take_bias)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _booleans(rows: Tensor | bool, batch: int) -> Tensor:
    if isinstance(rows, bool):
        return torch.full((batch,), rows)
    return torch.zeros(batch, dtype=torch.bool).index_fill_(0, rows, True)
