"""The weights of ESPnet's ``TransformerDecoder``, arranged for one-token steps.

Only attributes of it are used, so that this file does not import ESPnet.
"""

from typing import Any

from torch import Tensor, nn

from speechgate.decoding.search.blocks import Block, FeedForward, SelfAttention, SourceAttention
from speechgate.decoding.search.linear import Linear, Norm
from speechgate.decoding.search.output import Output
from speechgate.decoding.search.weights import DecoderWeights
from speechgate.errors import ConfigError


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
