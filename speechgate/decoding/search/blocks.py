"""The modules of a Transformer decoder as weights for one-token steps; some of their heads or channels may be left out.

Shapes: G groups of a module, C inputs of its last projection.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from speechgate.decoding.search.compiled import Projection
from speechgate.decoding.search.linear import Norm


@dataclass(frozen=True)
class SelfAttention:
    norm: Norm
    query_key_value: Projection
    out: Projection
    heads: int

    def only(self, open_G: Sequence[bool]) -> "SelfAttention":
        """With the heads of the open groups alone."""
        kept = _kept(open_G, self.out)
        query_key_value = self.query_key_value.slice(_side_by_side(kept, 3, self.out), None)
        heads = self.heads * sum(open_G) // len(open_G)
        return replace(self, query_key_value=query_key_value, out=self.out.slice(None, kept), heads=heads)


@dataclass(frozen=True)
class SourceAttention:
    norm: Norm
    query: Projection
    key_value: Projection
    out: Projection
    heads: int

    def only(self, open_G: Sequence[bool]) -> "SourceAttention":
        """With the heads of the open groups alone."""
        kept = _kept(open_G, self.out)
        return replace(
            self,
            query=self.query.slice(kept, None),
            key_value=self.key_value.slice(_side_by_side(kept, 2, self.out), None),
            out=self.out.slice(None, kept),
            heads=self.heads * sum(open_G) // len(open_G),
        )


@dataclass(frozen=True)
class FeedForward:
    norm: Norm
    up: Projection
    activation: Callable[[Tensor], Tensor]
    down: Projection

    def only(self, open_G: Sequence[bool]) -> "FeedForward":
        """With the channels of the open groups alone."""
        kept = _kept(open_G, self.down)
        return replace(self, up=self.up.slice(kept, None), down=self.down.slice(None, kept))


Block = SelfAttention | SourceAttention | FeedForward


def _kept(open_G: Sequence[bool], out: Projection) -> Tensor:
    """Which inputs of the last projection belong to open groups."""
    open_C = torch.tensor(open_G).repeat_interleave(out.weight.shape[1] // len(open_G))
    return open_C.nonzero()[:, 0].to(out.weight.device)


def _side_by_side(kept: Tensor, count: int, out: Projection) -> Tensor:
    """``kept`` of each of ``count`` projections in one matrix."""
    return torch.cat([kept + index * out.weight.shape[1] for index in range(count)])
