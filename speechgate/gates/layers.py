"""Gated layers: subclasses of ESPnet's layers that multiply by the gates (training) or skip closed modules (inference).

Classes are swapped on existing layers, so parameter names stay and ESPnet checkpoints load.  A layer finds its gates in
the ``GateState`` that all gated layers of a model share.

Shapes: B batch, T frames, L target tokens, D width, K gates a layer.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from speechgate.gates.state import GateState
from speechgate.model.espnet_compat import DecoderLayer, EBranchformerEncoderLayer, mask_padded_frames


def _add(x: Tensor, y: Tensor | None) -> Tensor:
    return x if y is None else x + y


class GatedEBranchformerEncoderLayer(EBranchformerEncoderLayer):
    """E-Branchformer layer (Kim et al., SLT 2022) with gates on ffn1, attn, cgmlp and ffn2.

    With both branches closed the merge is skipped too: its biases would make it differ from the identity.
    ``norm_final`` always runs: it belongs to the residual stream.
    """

    gate_state: GateState
    gate_layer: int

    def forward(self, x_input: Any, mask: Tensor, cache: Any = None) -> Any:
        x_BTD, pos_emb = x_input if isinstance(x_input, tuple) else (x_input, None)
        gates = self.gate_state.of("encoder", self.gate_layer, x_BTD, mask)
        if gates is None:
            return super().forward(x_input, mask, cache)
        ffn1, attn, cgmlp, ffn2 = gates

        def feed_forward(norm: Any, module: Any) -> Callable[[Tensor], Tensor]:
            return lambda x: self.ff_scale * self.dropout(module(norm(x)))

        def attention(x: Tensor, mask: Tensor) -> Tensor:
            x = self.norm_mha(x)
            return self.dropout(self.attn(x, x, x, mask) if pos_emb is None else self.attn(x, x, x, pos_emb, mask))

        def local(x: Tensor, mask: Tensor) -> Tensor:
            return self.dropout(self.cgmlp(self.norm_mlp(x), mask))

        x_BTD = _add(x_BTD, ffn1.run(feed_forward(self.norm_ff_macaron, self.feed_forward_macaron), x_BTD))
        global_BTD = attn.run(attention, x_BTD, mask)
        local_BTD = cgmlp.run(local, x_BTD, mask)
        if global_BTD is not None or local_BTD is not None:
            zeros = torch.zeros_like(x_BTD)
            both = [zeros if branch is None else branch for branch in (global_BTD, local_BTD)]
            x_BTD = _add(x_BTD, (attn | cgmlp).run(self._merge, *both, mask))
        x_BTD = _add(x_BTD, ffn2.run(feed_forward(self.norm_ff, self.feed_forward), x_BTD))
        x_BTD = self.norm_final(x_BTD)
        return (x_BTD if pos_emb is None else (x_BTD, pos_emb)), mask

    def _merge(self, global_BTD: Tensor, local_BTD: Tensor, mask: Tensor) -> Tensor:
        both_BTD = torch.cat([global_BTD, local_BTD], dim=-1)
        conv_BTD = self.depthwise_conv_fusion(mask_padded_frames(both_BTD.transpose(1, 2), mask)).transpose(1, 2)
        return self.dropout(self.merge_proj(both_BTD + conv_BTD))


class GatedDecoderLayer(DecoderLayer):
    """Pre-norm Transformer decoder layer with gates on self_attn, src_attn and ffn."""

    gate_state: GateState
    gate_layer: int

    def forward(self, tgt: Any, tgt_mask: Any, memory: Any, memory_mask: Any, cache: Any = None, **kwargs: Any) -> Any:
        gates = self.gate_state.of("decoder", self.gate_layer, tgt, tgt_mask)
        if gates is None:
            return super().forward(tgt, tgt_mask, memory, memory_mask, cache, **kwargs)
        self_attn, src_attn, ffn = gates
        new = slice(None) if cache is None else slice(-1, None)  # with a cache only the last token is computed

        def self_attention(tgt: Tensor, tgt_mask: Tensor | None) -> Tensor:
            tgt = self.norm1(tgt)
            mask = None if tgt_mask is None else tgt_mask[:, new]
            return self.dropout(self.self_attn(tgt[:, new], tgt, tgt, mask))

        def source_attention(x: Tensor, memory: Tensor, memory_mask: Tensor | None) -> Tensor:
            return self.dropout(self.src_attn(self.norm2(x), memory, memory, memory_mask))

        x_BLD = _add(tgt[:, new], self_attn.run(self_attention, tgt, tgt_mask))
        x_BLD = _add(x_BLD, src_attn.run(source_attention, x_BLD, memory, memory_mask))
        x_BLD = _add(x_BLD, ffn.run(lambda x: self.dropout(self.feed_forward(self.norm3(x))), x_BLD))
        if cache is not None:
            x_BLD = torch.cat([cache, x_BLD], dim=1)
        return x_BLD, tgt_mask, memory, memory_mask


GATED_CLASSES: dict[type, type] = {
    EBranchformerEncoderLayer: GatedEBranchformerEncoderLayer,
    DecoderLayer: GatedDecoderLayer,
}
