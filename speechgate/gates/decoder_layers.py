"""Gated layers of ESPnet's Transformer decoder.

Shapes: B batch, L target tokens, D width.
"""

from typing import Any

import torch
from torch import Tensor

from speechgate.gates import macs
from speechgate.gates.espnet_slices import CHANNELS, HEADS
from speechgate.gates.layer import Gated, Kind, add
from speechgate.model.espnet_compat import DecoderLayer


class GatedDecoderLayer(Gated, DecoderLayer):
    """Pre-norm Transformer decoder layer."""

    kinds = (
        Kind(
            "self_attn",
            ("self_attn", "norm1"),
            "self_attn.linear_out",
            lambda layer: macs.self_attention_over_tokens(layer.size, layer.self_attn),
            HEADS,
        ),
        Kind(
            "src_attn",
            ("src_attn", "norm2"),
            "src_attn.linear_out",
            lambda layer: macs.source_attention(layer.src_attn, layer.size),
            HEADS,
        ),
        Kind(
            "ffn",
            ("feed_forward", "norm3"),
            "feed_forward.w_2",
            lambda layer: macs.per_token(layer.feed_forward),
            CHANNELS,
        ),
    )

    def forward(self, tgt: Any, tgt_mask: Any, memory: Any, memory_mask: Any, cache: Any = None, **kwargs: Any) -> Any:
        gates = self.gates(tgt, tgt_mask)
        if gates is None:
            return super().forward(tgt, tgt_mask, memory, memory_mask, cache, **kwargs)
        new = slice(None) if cache is None else slice(-1, None)  # with a cache only the last token is computed

        def self_attention(x: Tensor, tgt: Tensor, tgt_mask: Tensor | None) -> Tensor:
            tgt = self.norm1(tgt)
            mask = None if tgt_mask is None else tgt_mask[:, new]
            return self.dropout(self.self_attn(tgt[:, new], tgt, tgt, mask))

        def source_attention(x: Tensor, memory: Tensor, memory_mask: Tensor | None) -> Tensor:
            return self.dropout(self.src_attn(self.norm2(x), memory, memory, memory_mask))

        x_BLD = add(tgt[:, new], gates["self_attn"], self_attention, tgt, tgt_mask)
        x_BLD = add(x_BLD, gates["src_attn"], source_attention, memory, memory_mask)
        x_BLD = add(x_BLD, gates["ffn"], lambda x: self.dropout(self.feed_forward(self.norm3(x))))
        if cache is not None:
            x_BLD = torch.cat([cache, x_BLD], dim=1)
        return x_BLD, tgt_mask, memory, memory_mask
