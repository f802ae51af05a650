"""The rows that a batch goes on with: those of its own that are left, and those of a fresh batch that enter.

Shapes: B rows held, N fresh ones, R rows to go on with, X anything.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional as F


class Exchange:
    """Row r of the batch to come is row ``sources[r]`` of the held ones, with the fresh ones counted on behind them."""

    def __init__(self, sources: Sequence[int], held: int, device: torch.device) -> None:
        self.sources = tuple(sources)
        self._held = held
        self._device = device
        self._stay = len(self.sources) == held and all(at == row for row, at in enumerate(self.sources) if at < held)

    @cached_property
    def _index_R(self) -> Tensor:
        return torch.tensor(self.sources, dtype=torch.int64, device=self._device)

    def pick[T](self, held: Sequence[T], fresh: Sequence[T] = ()) -> list[T]:
        """The same of what the host knows of each row."""
        both = [*held, *fresh]
        return [both[at] for at in self.sources]

    def rows(self, held_BX: Tensor, fresh_NX: Tensor | None) -> Tensor:
        """The rows to come, (R, X), copied."""
        both = held_BX if fresh_NX is None else torch.cat([held_BX, fresh_NX])
        return both[self._index_R]

    def into(self, held_BX: Tensor, fresh_NX: Tensor | None) -> Tensor:
        """The same, written into ``held_BX`` if no held row moves: then only the fresh ones are copied."""
        if not self._stay or fresh_NX is None:
            return self.rows(held_BX, fresh_NX)
        entering = [(row, at - self._held) for row, at in enumerate(self.sources) if at >= self._held]
        places, fresh = torch.tensor(entering, dtype=torch.int64, device=self._device).view(-1, 2).unbind(1)
        return held_BX.index_copy_(0, places, fresh_NX[fresh])

    def among(self, held: Sequence[bool], fresh: Sequence[bool]) -> "Exchange":
        """The exchange of what only these rows have, such as a module that is open for some."""
        has = [*held, *fresh]
        place = list(accumulate(has, initial=0))
        return Exchange([place[at] for at in self.sources if has[at]], sum(held), self._device)


def first(x: Tensor, dim: int, size: int, value: float = 0.0) -> Tensor:
    """The first ``size`` entries of a dimension, with ``value`` added behind where there are fewer."""
    missing = size - x.shape[dim]
    return x.narrow(dim, 0, size) if missing <= 0 else F.pad(x, _padding(x, dim, 0, missing), value=value)


def last(x: Tensor, dim: int, size: int, value: float = 0.0) -> Tensor:
    """The last ``size`` entries of a dimension, with ``value`` added before them where there are fewer."""
    missing = size - x.shape[dim]
    return x.narrow(dim, -missing, size) if missing <= 0 else F.pad(x, _padding(x, dim, missing, 0), value=value)


def _padding(x: Tensor, dim: int, before: int, behind: int) -> list[int]:
    return [*[0, 0] * (x.dim() - 1 - dim), before, behind]
