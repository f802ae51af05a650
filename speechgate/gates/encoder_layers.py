"""Gated layers of ESPnet's encoders.

Training computes every module and multiplies it by its gate; inference runs it on the rows whose gate is open (see
``Gate.run``).  With no gates in force a layer does what ESPnet's own class does.

Shapes: B batch, T frames, D width.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from speechgate.gates import macs
from speechgate.gates.espnet_slices import CHANNELS, HEADS
from speechgate.gates.layer import Gated, Joint, Kind, add
from speechgate.gates.macs import Macs
from speechgate.gates.state import Gate
from speechgate.model.espnet_compat import (
    BranchformerEncoderLayer,
    ConformerEncoderLayer,
    EBranchformerEncoderLayer,
    LegacyRelPositionMultiHeadedAttention,
    TransformerEncoderLayer,
    mask_padded_frames,
)


def _attention(attn: Any) -> Macs:
    width = attn.linear_q.out_features
    cost = macs.self_attention_over_frames(width, attn.linear_q, attn.linear_k, attn.linear_v, attn.linear_out)
    if not hasattr(attn, "linear_pos"):
        return cost
    legacy = isinstance(attn, LegacyRelPositionMultiHeadedAttention)
    return cost + macs.relative_positions(width, attn.linear_pos, distances_only=not legacy)


FFN1 = Kind(
    "ffn1",
    ("feed_forward_macaron", "norm_ff_macaron"),
    "feed_forward_macaron.w_2",
    lambda layer: macs.per_frame(layer.feed_forward_macaron),
    CHANNELS,
)
ATTN = Kind("attn", ("attn", "norm_mha"), "attn.linear_out", lambda layer: _attention(layer.attn), HEADS)
CGMLP = Kind("cgmlp", ("cgmlp", "norm_mlp"), "cgmlp.channel_proj2", lambda layer: macs.per_frame(layer.cgmlp))
FFN2 = Kind(
    "ffn2",
    ("feed_forward", "norm_ff"),
    "feed_forward.w_2",
    lambda layer: macs.per_frame(layer.feed_forward),
    CHANNELS,
)

# A branch asks its layer for the module when it runs: a gate may have put a sliced one in its place.


def _macaron(layer: Any) -> Callable[[Tensor], Tensor]:
    return lambda x: layer.ff_scale * layer.dropout(layer.feed_forward_macaron(layer.norm_ff_macaron(x)))


def _feed_forward(layer: Any) -> Callable[[Tensor], Tensor]:
    return lambda x: layer.ff_scale * layer.dropout(layer.feed_forward(layer.norm_ff(x)))


def _attend(layer: Any, name: str, pos_emb: Tensor | None) -> Callable[[Tensor, Tensor], Tensor]:
    def attention(x: Tensor, mask: Tensor) -> Tensor:
        module = getattr(layer, name)
        x = layer.norm_mha(x)
        return layer.dropout(module(x, x, x, mask) if pos_emb is None else module(x, x, x, pos_emb, mask))

    return attention


def _local(layer: Any) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, mask: layer.dropout(layer.cgmlp(layer.norm_mlp(x), mask))


def _merge_branches(x_BTD: Tensor, attn: Gate, cgmlp: Gate, layer: Any, pos_emb: Tensor | None, mask: Tensor) -> Tensor:
    """Add the merged branches to the residual stream; a closed branch is merged as zeros.

    With both closed the merge is skipped too: its biases would make it differ from the identity.
    """
    global_BTD = attn.run(_attend(layer, "attn", pos_emb), x_BTD, mask)
    local_BTD = cgmlp.run(_local(layer), x_BTD, mask)
    if global_BTD is None and local_BTD is None:
        return x_BTD
    zeros = torch.zeros_like(x_BTD)
    both = [zeros if branch is None else branch for branch in (global_BTD, local_BTD)]
    return (attn | cgmlp).add(x_BTD, layer.merge, *both, mask)


class GatedEBranchformerEncoderLayer(Gated, EBranchformerEncoderLayer):
    """E-Branchformer layer (Kim et al., SLT 2022); ``norm_final`` always runs: it belongs to the residual stream."""

    kinds = (FFN1, ATTN, CGMLP, FFN2)
    joints = (
        Joint(
            "merge",
            ("merge_proj", "depthwise_conv_fusion"),
            "merge_proj",
            lambda layer: macs.per_frame(layer.depthwise_conv_fusion, layer.merge_proj),
            of=("attn", "cgmlp"),
        ),
    )

    def forward(self, x_input: Any, mask: Tensor, cache: Any = None) -> Any:
        x_BTD, pos_emb = x_input if isinstance(x_input, tuple) else (x_input, None)
        gates = self.gates(x_BTD, mask)
        if gates is None:
            return super().forward(x_input, mask, cache)
        if "ffn1" in gates:
            x_BTD = add(x_BTD, gates["ffn1"], _macaron(self))
        x_BTD = _merge_branches(x_BTD, gates["attn"], gates["cgmlp"], self, pos_emb, mask)
        if "ffn2" in gates:
            x_BTD = add(x_BTD, gates["ffn2"], _feed_forward(self))
        x_BTD = self.norm_final(x_BTD)
        return (x_BTD if pos_emb is None else (x_BTD, pos_emb)), mask

    def merge(self, global_BTD: Tensor, local_BTD: Tensor, mask: Tensor) -> Tensor:
        both_BTD = torch.cat([global_BTD, local_BTD], dim=-1)
        conv_BTD = self.depthwise_conv_fusion(mask_padded_frames(both_BTD.transpose(1, 2), mask)).transpose(1, 2)
        return self.dropout(self.merge_proj(both_BTD + conv_BTD))


class GatedBranchformerEncoderLayer(Gated, BranchformerEncoderLayer):
    """Branchformer layer (Peng et al., ICML 2022) with any of its three ways to merge, or a single branch."""

    kinds = (ATTN, CGMLP)
    joints = (
        Joint(
            "merge",
            ("merge_proj", "pooling_proj1", "pooling_proj2", "weight_proj1", "weight_proj2"),
            "merge_proj",
            lambda layer: _branchformer_merge(layer),
            of=("attn", "cgmlp"),
        ),
    )

    def forward(self, x_input: Any, mask: Tensor, cache: Any = None) -> Any:
        x_BTD, pos_emb = x_input if isinstance(x_input, tuple) else (x_input, None)
        gates = self.gates(x_BTD, mask)
        if gates is None:
            return super().forward(x_input, mask, cache)
        if len(gates) == 2:
            x_BTD = _merge_branches(x_BTD, gates["attn"], gates["cgmlp"], self, pos_emb, mask)
        else:
            ((kind, gate),) = gates.items()
            branch = _attend(self, "attn", pos_emb) if kind == "attn" else _local(self)
            x_BTD = add(x_BTD, gate, lambda x, mask: self.dropout(self.merge_proj(branch(x, mask))), mask)
        x_BTD = self.norm_final(x_BTD)
        return (x_BTD if pos_emb is None else (x_BTD, pos_emb)), mask

    def merge(self, global_BTD: Tensor, local_BTD: Tensor, mask: Tensor) -> Tensor:
        if self.merge_method == "concat":
            return self.dropout(self.merge_proj(torch.cat([global_BTD, local_BTD], dim=-1)))
        global_weight: Any = 1.0 - self.cgmlp_weight
        local_weight: Any = self.cgmlp_weight
        if self.merge_method == "learned_ave":
            pooled_B2 = torch.cat(
                [
                    self.weight_proj1(self._pool(self.pooling_proj1, global_BTD, mask)),
                    self.weight_proj2(self._pool(self.pooling_proj2, local_BTD, mask)),
                ],
                dim=-1,
            )
            global_weight, local_weight = torch.softmax(pooled_B2, dim=-1)[..., None, None].unbind(1)
        return self.dropout(self.merge_proj(global_weight * global_BTD + local_weight * local_BTD))

    def _pool(self, score: Any, branch_BTD: Tensor, mask_B1T: Tensor) -> Tensor:
        """The frames of a branch, averaged by attention: (B, D)."""
        score_B1T = score(branch_BTD).transpose(1, 2) / self.size**0.5
        padded_B1T = mask_B1T.eq(0)
        score_B1T = score_B1T.masked_fill(padded_B1T, torch.finfo(score_B1T.dtype).min)
        weight_B1T = torch.softmax(score_B1T, dim=-1).masked_fill(padded_B1T, 0.0)
        return torch.matmul(weight_B1T, branch_BTD).squeeze(1)


def _branchformer_merge(layer: Any) -> Macs:
    cost = macs.per_frame(layer.merge_proj)
    if layer.use_two_branches and layer.merge_method == "learned_ave":
        pooled = macs.per_frame(layer.pooling_proj1, layer.pooling_proj2) + Macs(frame=2 * layer.size)
        cost += pooled + Macs(constant=macs.weights(layer.weight_proj1, layer.weight_proj2))
    return cost


class GatedConformerEncoderLayer(Gated, ConformerEncoderLayer):
    """Pre-norm Conformer layer (Gulati et al., Interspeech 2020), with or without macaron FFN and convolution."""

    kinds = (
        FFN1,
        Kind(
            "attn", ("self_attn", "norm_mha"), "self_attn.linear_out", lambda layer: _attention(layer.self_attn), HEADS
        ),
        Kind(
            "conv",
            ("conv_module", "norm_conv"),
            "conv_module.pointwise_conv2",
            lambda layer: macs.per_frame(layer.conv_module),
        ),
        FFN2,
    )

    def forward(self, x_input: Any, mask: Tensor, cache: Any = None) -> Any:
        x_BTD, pos_emb = x_input if isinstance(x_input, tuple) else (x_input, None)
        gates = self.gates(x_BTD, mask)
        if gates is None:
            return super().forward(x_input, mask, cache)
        if "ffn1" in gates:
            x_BTD = add(x_BTD, gates["ffn1"], _macaron(self))
        x_BTD = add(x_BTD, gates["attn"], _attend(self, "self_attn", pos_emb), mask)
        if "conv" in gates:
            x_BTD = add(x_BTD, gates["conv"], self._convolve, mask)
        x_BTD = add(x_BTD, gates["ffn2"], _feed_forward(self))
        if "conv" in gates:
            x_BTD = self.norm_final(x_BTD)
        return (x_BTD if pos_emb is None else (x_BTD, pos_emb)), mask

    def _convolve(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.norm_conv(x)
        return self.dropout(self.conv_module(x, mask_pad=mask) if self._conv_takes_mask else self.conv_module(x))


class GatedTransformerEncoderLayer(Gated, TransformerEncoderLayer):
    """Pre-norm Transformer encoder layer (Vaswani et al., NeurIPS 2017)."""

    kinds = (
        Kind("attn", ("self_attn", "norm1"), "self_attn.linear_out", lambda layer: _attention(layer.self_attn), HEADS),
        Kind(
            "ffn",
            ("feed_forward", "norm2"),
            "feed_forward.w_2",
            lambda layer: macs.per_frame(layer.feed_forward),
            CHANNELS,
        ),
    )

    def forward(self, x: Tensor, mask: Tensor, cache: Any = None) -> Any:
        gates = self.gates(x, mask)
        if gates is None:
            return super().forward(x, mask, cache)

        def attention(x: Tensor, mask: Tensor) -> Tensor:
            x = self.norm1(x)
            return self.dropout(self.self_attn(x, x, x, mask))

        x_BTD = add(x, gates["attn"], attention, mask)
        return add(x_BTD, gates["ffn"], lambda x: self.dropout(self.feed_forward(self.norm2(x)))), mask
