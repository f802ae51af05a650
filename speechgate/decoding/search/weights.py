"""The weights of a Transformer decoder's open modules, arranged for one-token steps.

Shapes: L layers, K=3 kinds of module, D width, V tokens, P positions.
Only attributes of ESPnet's ``TransformerDecoder`` are used, so that this file does not import ESPnet.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from speechgate.decoding.search.compiled import CompiledLinear, Projection
from speechgate.decoding.search.int8 import Int8Linear
from speechgate.decoding.search.linear import Linear, Norm
from speechgate.decoding.search.output import Output
from speechgate.errors import ConfigError

DECODER_KINDS = ("self_attn", "src_attn", "ffn")


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


def prepare_decoder(decoder: Any, open_modules_LK: Tensor | None = None) -> DecoderWeights:
    """Arrange the weights of an ESPnet ``TransformerDecoder``; of its open modules only, where a mask is given.

    Self-attention's three projections become one matrix, source-attention's K and V another; all else is shared with
    the decoder.  For many masks of one decoder, prepare it once and use ``DecoderWeights.only``.

    Raises:
        ConfigError: a variant other than pre-norm layers, sinusoidal positions and plain attention, or a wrong mask.
    """
    _check(decoder)
    weights = DecoderWeights(
        embedding_VD=decoder.embed[0].weight.detach(),
        embedding_scale=decoder.embed[0].embedding_dim ** 0.5,
        positions_PD=decoder.embed[1].pe[0].to(decoder.embed[0].weight),
        learnt_positions=False,
        layers=tuple(_blocks(layer) for layer in decoder.decoders),
        norm=Norm.of(decoder.after_norm),
        output=Output(Linear.of(decoder.output_layer)),
    )
    return weights if open_modules_LK is None else weights.only(open_modules_LK)


def _blocks(layer: Any) -> tuple[Block, ...]:
    """The modules of a layer; those that a specialised model lacks are None in it."""
    own, source, ffn = layer.self_attn, layer.src_attn, layer.feed_forward
    blocks: list[Block] = []
    if own is not None:
        query_key_value = Linear.of(own.linear_q, own.linear_k, own.linear_v)
        blocks.append(SelfAttention(Norm.of(layer.norm1), query_key_value, Linear.of(own.linear_out), own.h))
    if source is not None:
        key_value = Linear.of(source.linear_k, source.linear_v)
        blocks.append(
            SourceAttention(
                Norm.of(layer.norm2), Linear.of(source.linear_q), key_value, Linear.of(source.linear_out), source.h
            )
        )
    if ffn is not None:
        blocks.append(FeedForward(Norm.of(layer.norm3), Linear.of(ffn.w_1), ffn.activation, Linear.of(ffn.w_2)))
    return tuple(blocks)


def _check(decoder: Any) -> None:
    def refuse(key: str, reason: str) -> None:
        raise ConfigError(f"model.decoder.{key}: {reason}, which the decoding engine does not run")

    if not decoder.normalize_before:
        refuse("normalize_before", "layers are normalised after each module")
    if not isinstance(decoder.embed[0], nn.Embedding):
        refuse("input_layer", "the input is not an embedding")
    # The other encodings of ESPnet (scaled, learnt) derive from this one or lack its scale.
    if type(decoder.embed[1]).__name__ != "PositionalEncoding":
        refuse("pos_enc_class", f"positions are encoded by {type(decoder.embed[1]).__name__}")
    if decoder.output_layer is None:
        refuse("use_output_layer", "there is no output layer")
    for layer in decoder.decoders:
        if layer.concat_after:
            refuse("concat_after", "attention is concatenated to its input")
        if getattr(layer, "sequential_attn", None) is not None:
            refuse("sequential_attn", "there is a second source attention")
        if layer.self_attn is not None and not isinstance(layer.self_attn.q_norm, nn.Identity):
            refuse("qk_norm", "queries and keys are normalised")


def _sinusoids(count: int, width: int) -> Tensor:
    """Positional encodings of Vaswani et al. (2017): sines in the even columns, cosines in the odd ones."""
    rates = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * -(math.log(10000.0) / width))
    angles = torch.arange(count, dtype=torch.float32)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :width]
