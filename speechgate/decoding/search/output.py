"""The output layer, or the rows of it that belong to some tokens.

Shapes: V tokens, R rows that are computed, D width.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from speechgate.decoding.search.compiled import Projection
from speechgate.decoding.search.int8 import Int8Linear
from speechgate.errors import ConfigError


@dataclass(frozen=True)
class Output:
    """``linear`` gives a row for each token of ``ids_R``, ascending; for every token, in order, where that is None.

    ``rows`` is the same the other way round, so that a token's row is known without asking the device.
    """

    linear: Projection | Int8Linear
    ids_R: Tensor | None = None
    rows: Mapping[int, int] | None = None

    def __call__(self, x: Tensor) -> Tensor:
        return self.linear(x)

    def __len__(self) -> int:
        return len(self.linear.weight)

    @property
    def macs(self) -> int:
        """Multiply-accumulates a hypothesis and step."""
        return self.linear.weight.numel()

    def only(self, ids: Iterable[int]) -> "Output":
        """The rows of the tokens ``ids`` alone, gathered and, if the layer is packed, packed for themselves.

        Raises:
            ConfigError: there is no such token, or the rows are some tokens' already.
        """
        chosen = sorted(set(ids))
        if self.ids_R is not None:
            raise ConfigError("output layer: it has the rows of some tokens already; choose among those of all")
        if not chosen or chosen[0] < 0 or chosen[-1] >= len(self):
            raise ConfigError(f"output layer: it has {len(self)} tokens, and the ids of others, or none, were given")
        ids_R = torch.tensor(chosen, device=self.linear.weight.device)
        rows = {token: row for row, token in enumerate(chosen)}
        return replace(self, linear=self.linear.slice(ids_R), ids_R=ids_R, rows=rows)

    def rows_of(self, ids: Iterable[int]) -> list[int]:
        """The rows of those tokens of ``ids`` that have one."""
        return list(ids) if self.rows is None else [self.rows[token] for token in ids if token in self.rows]

    def tokens_at(self, rows: Tensor) -> Tensor:
        """The tokens whose ``rows`` these are."""
        return rows if self.ids_R is None else self.ids_R[rows]
