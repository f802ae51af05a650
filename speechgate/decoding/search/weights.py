"""The weights of a Transformer decoder's open modules, arranged for one-token steps.

Shapes: L layers, K=3 kinds of module, D width, V tokens, P positions.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from speechgate.decoding.search.blocks import Block, FeedForward, SelfAttention, SourceAttention
from speechgate.decoding.search.compiled import CompiledLinear, Projection
from speechgate.decoding.search.int8 import Int8Linear
from speechgate.decoding.search.linear import Linear, Norm
from speechgate.decoding.search.output import Output
from speechgate.errors import ConfigError

DECODER_KINDS = ("self_attn", "src_attn", "ffn")


Narrow = Callable[[int, int, tuple[bool, ...]], Block]  # of a layer and kind, the open groups (G)


@dataclass(frozen=True)
class DecoderWeights:
    """A decoder as the sequence of its open modules: each adds to the residual stream, closed ones are absent.

    The embedding is multiplied by ``embedding_scale``.  Positions go on beyond ``positions_PD`` as sinusoids, unless
    they are learnt: then there are no others.
    """

    embedding_VD: Tensor
    embedding_scale: float
    positions_PD: Tensor
    learnt_positions: bool
    layers: tuple[tuple[Block, ...], ...]
    norm: Norm
    output: Output
    is_compiled: bool = False

    @property
    def blocks(self) -> tuple[Block, ...]:
        return tuple(block for layer in self.layers for block in layer)

    def only(self, open_modules_LK: Tensor | Sequence[Sequence[bool]]) -> "DecoderWeights":
        """The same weights, shared and not copied, without the closed modules; kinds are ordered as DECODER_KINDS.

        Raises:
            ConfigError: the mask is not of this decoder's shape, or some modules are closed already.
        """
        mask = torch.as_tensor(open_modules_LK, dtype=torch.bool)
        return self.for_rows(mask[None])[0]

    def for_rows(
        self, open_BLK: Tensor, groups: Sequence[int] = (1, 1, 1), narrow: "Narrow | None" = None
    ) -> tuple["DecoderWeights", Tensor]:
        """The blocks that the masks of a batch need, and which of these run for which utterance, (B, M) booleans.

        A module in groups becomes a block for each set of its groups that some utterances have open.

        Args:
            open_BLK: K gates a layer.
            groups: how many of these gates each of DECODER_KINDS has; they sum to K.
            narrow: makes the block of a layer and kind with some groups alone; here is the place to keep them.

        Raises:
            ConfigError: the masks are not of this decoder's shape, or some modules are closed already.
        """
        if any(len(layer) != len(DECODER_KINDS) for layer in self.layers):
            raise ConfigError("decoder mask: some modules are closed already; apply the mask to the dense weights")
        if open_BLK.shape[1:] != (len(self.layers), sum(groups)):
            raise ConfigError(
                f"decoder mask of shape {tuple(open_BLK.shape[1:])}: this decoder has "
                f"{len(self.layers)} layers of {sum(groups)} gates"
            )
        narrow = narrow or (lambda layer, kind, open_G: self.layers[layer][kind].only(open_G))
        layers, columns = [], []
        for index, (layer, open_BK) in enumerate(zip(self.layers, open_BLK.cpu().unbind(1), strict=True)):
            blocks: list[Block] = []
            for kind, open_BG in enumerate(open_BK.split(list(groups), dim=1)):
                rows_open = [tuple(row) for row in open_BG.tolist()]
                for open_G in dict.fromkeys(row for row in rows_open if any(row)):
                    blocks.append(layer[kind] if all(open_G) else narrow(index, kind, open_G))
                    columns.append([row == open_G for row in rows_open])
            layers.append(tuple(blocks))
        open_BM = torch.tensor(columns, dtype=torch.bool).reshape(len(columns), len(open_BLK)).T
        return replace(self, layers=tuple(layers)), open_BM

    def writing(self, ids: Iterable[int]) -> "DecoderWeights":
        """The same weights with the output layer's rows of the tokens ``ids`` alone: a search writes no others.

        Raises:
            ConfigError: there is no such token, or the rows are some tokens' already.
        """
        return replace(self, output=self.output.only(ids))

    def pack(self, dtype: torch.dtype) -> "DecoderWeights":
        """The same weights packed for the CPU, products in ``dtype`` and all else in float32; see ``Linear.pack``."""
        return self._map(lambda linear: linear.pack(dtype), lambda norm: norm)

    def compiled(self) -> "DecoderWeights":
        """The same weights for the functions of ``cpp/modules.cpp``, but for those of an output layer in 8 bits.

        Raises:
            ConfigError: there is no compiler.
        """
        return replace(self._map(CompiledLinear.of, lambda norm: norm), is_compiled=True)

    def to(self, dtype: torch.dtype) -> "DecoderWeights":
        """The same weights in ``dtype``, which the caches and the residual stream then have too."""
        weights = self._map(lambda linear: linear.to(dtype), lambda norm: norm.to(dtype))
        return replace(weights, embedding_VD=self.embedding_VD.to(dtype), positions_PD=self.positions_PD.to(dtype))

    def with_int8_output(self) -> "DecoderWeights":
        """The same weights, those of the output layer in 8 bits; see ``Int8Linear``.

        Raises:
            ConfigError: this device or processor has no such products.
        """
        return replace(self, output=replace(self.output, linear=Int8Linear.of(self.output.linear)))

    def _map(self, linear: Callable[[Linear], Projection], norm: Callable[[Norm], Norm]) -> "DecoderWeights":
        def changed(part: Any) -> Any:
            if isinstance(part, Linear):
                return linear(part)
            if isinstance(part, Norm):
                return norm(part)
            if isinstance(part, SelfAttention | SourceAttention | FeedForward):
                return type(part)(**{name: changed(value) for name, value in vars(part).items()})
            return part

        layers = tuple(tuple(changed(block) for block in layer) for layer in self.layers)
        output = replace(self.output, linear=changed(self.output.linear))
        return replace(self, layers=layers, norm=norm(self.norm), output=output)

    def most_steps(self, prompt_length: int) -> int | None:
        """The most steps after a prompt, <sos> included, that there are positions for; None: any number.

        Raises:
            ConfigError: there are none left.
        """
        if not self.learnt_positions:
            return None
        # The last token chosen is not read by the decoder, and could do without; transformers counts it too.
        steps = len(self.positions_PD) - prompt_length
        if steps < 1:
            raise ConfigError(
                f"a prompt of {prompt_length} tokens: this decoder has {len(self.positions_PD)} positions"
            )
        return steps

    def positions(self, count: int) -> Tensor:
        """The first ``count`` or more positional encodings, (P, D).

        Raises:
            ConfigError: so many were not learnt.
        """
        if count <= len(self.positions_PD):
            return self.positions_PD
        if self.learnt_positions:
            raise ConfigError(
                f"prompt and steps take {count} positions: this decoder has learnt {len(self.positions_PD)}"
            )
        return _sinusoids(count, self.positions_PD.shape[1]).to(self.positions_PD)


def _sinusoids(count: int, width: int) -> Tensor:
    """Positional encodings of Vaswani et al. (2017): sines in the even columns, cosines in the odd ones."""
    rates = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * -(math.log(10000.0) / width))
    angles = torch.arange(count, dtype=torch.float32)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :width]
