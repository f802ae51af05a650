"""Modules with some of their heads or channels: how they are made, and where they are kept.

Shapes: G groups.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

KEPT = 256  # sliced modules of a model, at most


@dataclass(frozen=True)
class Split:
    """How modules of one kind are divided.

    Attributes:
        unit: "heads" or "channels", a key of ``gates.groups``.
        count: the units of a module; 0 if a module like this cannot be divided.
        keep: the module with these units (indices) alone, leaving the given one as it is.
    """

    unit: str
    count: Callable[[Any], int]
    keep: Callable[[Any, Tensor], nn.Module]

    def units(self, module: nn.Module, open_G: Sequence[bool]) -> Tensor:
        """The indices of the units in the open groups."""
        each = self.count(module) // len(open_G)
        return torch.tensor(open_G).repeat_interleave(each).nonzero().squeeze(1)


class Slices:
    """Sliced modules, kept until their weights change; of too many, those that were used longest ago go first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Any, tuple[Any, nn.Module, Any]] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {"_kept": OrderedDict()}  # a copy of a model has weights of its own

    def of(self, split: Split, module: nn.Module, open_G: tuple[bool, ...]) -> nn.Module:
        """``module`` with its open groups alone."""
        if all(open_G):
            return module
        # A kernel that stands in for a forward pass is sliced too (speechgate.decoding.kernels).
        running = [getattr(part, "forward", None) for part in module.modules() if "forward" in vars(part)]
        key = (id(module), open_G, *map(id, running))
        weights = [(value.data_ptr(), value._version) for value in module.parameters()]
        if key not in self._kept or self._kept[key][0] != weights:
            with torch.inference_mode(False), torch.no_grad():
                sliced = split.keep(module, split.units(module, open_G).to(next(module.parameters()).device))
            self._kept[key] = (weights, sliced, (module, running))  # held, so that no other object gets their ids
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key][1]
