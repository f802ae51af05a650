"""Gated layers of transformers' Whisper, and the adapter that finds them.

Shapes: B batch, T frames, L tokens, D width.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.models.whisper.modeling_whisper import WhisperDecoderLayer, WhisperEncoderLayer

from speechgate.errors import ConfigError
from speechgate.gates import macs
from speechgate.gates.layer import Gated, Kind, add
from speechgate.gates.macs import Macs
from speechgate.gates.sites import Stack


def _projections(attn: Any) -> tuple[Any, ...]:
    return attn.q_proj, attn.k_proj, attn.v_proj, attn.out_proj


def _source_attention(layer: Any) -> Macs:
    attn = layer.encoder_attn
    once, each = macs.per_frame(attn.k_proj, attn.v_proj), macs.per_token(attn.q_proj, attn.out_proj)
    return once + each + Macs(token_frame=2 * layer.embed_dim)


def _branch(layer: Any, x: Tensor) -> Tensor:
    return F.dropout(x, layer.dropout, layer.training)


def _feed_forward(layer: Any) -> Any:
    def feed_forward(x: Tensor) -> Tensor:
        x = layer.activation_fn(layer.fc1(layer.final_layer_norm(x)))
        return _branch(layer, layer.fc2(F.dropout(x, layer.activation_dropout, layer.training)))

    return feed_forward


class GatedWhisperEncoderLayer(Gated, WhisperEncoderLayer):
    """Pre-norm encoder layer.  ``attention_mask`` is boolean, (B, 1, 1, T), True on real frames, or None."""

    kinds = (
        Kind(
            "attn",
            ("self_attn", "self_attn_layer_norm"),
            "self_attn.out_proj",
            lambda layer: macs.self_attention_over_frames(layer.embed_dim, *_projections(layer.self_attn)),
        ),
        Kind("ffn", ("fc1", "fc2", "final_layer_norm"), "fc2", lambda layer: macs.per_frame(layer.fc1, layer.fc2)),
    )

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor:
        mask_B11T = attention_mask
        gates = self.gates(hidden_states, None if mask_B11T is None else mask_B11T[:, 0])
        if gates is None:
            return super().forward(hidden_states, attention_mask, **kwargs)  # type: ignore[arg-type]

        def attention(x: Tensor, mask: Tensor | None) -> Tensor:
            return _branch(self, self.self_attn(self.self_attn_layer_norm(x), attention_mask=mask)[0])

        x_BTD = add(hidden_states, gates["attn"], attention, mask_B11T)
        return add(x_BTD, gates["ffn"], _feed_forward(self))


class GatedWhisperDecoderLayer(Gated, WhisperDecoderLayer):
    """Pre-norm decoder layer.

    A cache of transformers' has the keys and values of whole batches, which gates do not: with gates in force it is
    refused.  Decode with ``speechgate.decoding``, which has caches of its own, or with ``use_cache=False``.
    """

    kinds = (
        Kind(
            "self_attn",
            ("self_attn", "self_attn_layer_norm"),
            "self_attn.out_proj",
            lambda layer: macs.self_attention_over_tokens(layer.embed_dim, *_projections(layer.self_attn)),
        ),
        Kind("src_attn", ("encoder_attn", "encoder_attn_layer_norm"), "encoder_attn.out_proj", _source_attention),
        Kind("ffn", ("fc1", "fc2", "final_layer_norm"), "fc2", lambda layer: macs.per_token(layer.fc1, layer.fc2)),
    )

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        cache: Any = None,
        use_cache: bool | None = False,
        **kwargs: Any,
    ) -> Tensor:
        gates = self.gates(hidden_states, None)
        if gates is None:
            return super().forward(
                hidden_states,
                attention_mask,
                encoder_hidden_states,
                encoder_attention_mask,
                cache=cache,
                use_cache=use_cache,
                **kwargs,
            )
        if cache is not None:
            raise ConfigError("a gated Whisper has no cache of transformers': give use_cache=False, or use the engine")

        def self_attention(x: Tensor, mask: Tensor | None) -> Tensor:
            return _branch(self, self.self_attn(self.self_attn_layer_norm(x), attention_mask=mask)[0])

        def source_attention(x: Tensor, memory: Tensor, mask: Tensor | None) -> Tensor:
            x = self.encoder_attn_layer_norm(x)
            return _branch(self, self.encoder_attn(x, key_value_states=memory, attention_mask=mask)[0])

        x_BLD = add(hidden_states, gates["self_attn"], self_attention, attention_mask)
        x_BLD = add(x_BLD, gates["src_attn"], source_attention, encoder_hidden_states, encoder_attention_mask)
        return add(x_BLD, gates["ffn"], _feed_forward(self))


def whisper_stacks(model: Any) -> tuple[Stack, ...]:
    """The stacks of transformers' ``WhisperForConditionalGeneration``: the adapter to give ``attach``."""
    encoder, decoder = model.model.encoder, model.model.decoder
    return encoder_stack(encoder), decoder_stack(decoder, decoder, _decoder_input)


def encoder_stack(encoder: Any) -> Stack:
    """The stack of transformers' ``WhisperEncoder``."""
    layers = tuple(encoder.layers)
    return Stack("encoder", layers, GatedWhisperEncoderLayer, layers[0].embed_dim, layers[0], _encoder_input)


def decoder_stack(decoder: Any, entry: Any, read: Any) -> Stack:
    """The stack of transformers' ``WhisperDecoder``; ``entry`` and ``read`` as in ``Stack``."""
    layers = tuple(decoder.layers)
    return Stack("decoder", layers, GatedWhisperDecoderLayer, layers[0].embed_dim, entry, read)


def _encoder_input(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """The first layer's input; transformers gives no mask, since it encodes whole windows."""
    x_BTD = args[0]
    mask_B11T = args[1] if len(args) > 1 else kwargs.get("attention_mask")
    if mask_B11T is None:
        return x_BTD, _all_real(x_BTD)
    return x_BTD, mask_B11T[:, 0, 0]


def _decoder_input(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    encoder_out_BTD = kwargs["encoder_hidden_states"]
    return encoder_out_BTD, _all_real(encoder_out_BTD)


def _all_real(x_BTD: Tensor) -> Tensor:
    return torch.ones(x_BTD.shape[:2], dtype=torch.bool, device=x_BTD.device)
