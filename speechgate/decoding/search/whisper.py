"""The weights of Whisper's decoder, as transformers holds them, arranged for one-token steps.

Only attributes of ``WhisperDecoder`` are used, so that this file does not import transformers.
"""

from typing import Any

from torch import nn

from speechgate.decoding.search.blocks import Block, FeedForward, SelfAttention, SourceAttention
from speechgate.decoding.search.linear import Linear, Norm
from speechgate.decoding.search.output import Output
from speechgate.decoding.search.weights import DecoderWeights


def prepare_whisper_decoder(decoder: Any, output: nn.Linear) -> DecoderWeights:
    """Arrange the weights of a ``WhisperDecoder`` and of the output layer, ``proj_out``; see ``prepare_decoder``.

    Embeddings are not scaled, whatever ``scale_embedding`` says in the config: transformers does not heed it either.
    """
    return DecoderWeights(
        embedding_VD=decoder.embed_tokens.weight.detach(),
        embedding_scale=1.0,
        positions_PD=decoder.embed_positions.weight.detach(),
        learnt_positions=True,
        layers=tuple(_blocks(layer) for layer in decoder.layers),
        norm=Norm.of(decoder.layer_norm),
        output=Output(Linear.of(output)),
    )


def _blocks(layer: Any) -> tuple[Block, ...]:
    """The modules of a layer; those that a specialised model lacks are None in it."""
    own, source = layer.self_attn, layer.encoder_attn
    blocks: list[Block] = []
    if own is not None:
        query_key_value = Linear.of(own.q_proj, own.k_proj, own.v_proj)
        norm = Norm.of(layer.self_attn_layer_norm)
        blocks.append(SelfAttention(norm, query_key_value, Linear.of(own.out_proj), own.num_heads))
    if source is not None:
        query, key_value = Linear.of(source.q_proj), Linear.of(source.k_proj, source.v_proj)
        norm = Norm.of(layer.encoder_attn_layer_norm)
        blocks.append(SourceAttention(norm, query, key_value, Linear.of(source.out_proj), source.num_heads))
    if layer.fc1 is not None:
        norm = Norm.of(layer.final_layer_norm)
        blocks.append(FeedForward(norm, Linear.of(layer.fc1), layer.activation_fn, Linear.of(layer.fc2)))
    return tuple(blocks)
