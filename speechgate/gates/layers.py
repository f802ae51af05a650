"""Gated layers: subclasses of ESPnet's layers that multiply by the gates (training) or skip closed modules (inference).

Classes are swapped on existing layers, so parameter names stay and ESPnet checkpoints load.  A layer finds its gates in
the ``GateState`` that all gated layers of a model share.

Shapes: B batch, T frames, L target tokens, D width, K gates a layer.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from speechgate.model.espnet_compat import DecoderLayer, EBranchformerEncoderLayer, mask_padded_frames


class GateState:
    """The gates in force for the batch at hand; empty for a stack that is not gated.

    ``skip`` chooses between multiplying every module's output by its gate, which keeps the autograd graph the same
    whatever the gates (training), and running a module on the rows with an open gate alone (inference).
    """

    def __init__(self) -> None:
        self.skip = False
        self._gates: dict[str, Tensor] = {}
        self._rows: dict[str, list[list[Tensor | bool]]] = {}

    def set(self, stack: str, gates_BLK: Tensor, skip: bool) -> None:
        """Put gates in force: (B, L layers, K) floats, or booleans where ``skip``; B may be 1 for any batch."""
        self.skip = skip
        self._gates[stack] = gates_BLK
        if skip:
            self._rows[stack] = [[_rows(gate_B) for gate_B in layer.unbind(1)] for layer in gates_BLK.cpu().unbind(1)]

    def clear(self) -> None:
        self._gates.clear()
        self._rows.clear()

    def of(self, stack: str, layer: int) -> "list[Gate] | None":
        """The gates of one layer, a kind each, or None if the stack has none in force."""
        if stack not in self._gates:
            return None
        if self.skip:
            return [Gate(rows=rows) for rows in self._rows[stack][layer]]
        return [Gate(factor_B=gate_B) for gate_B in self._gates[stack][:, layer].unbind(1)]


def _rows(open_B: Tensor) -> Tensor | bool:
    """True if every row is open, False if none is, else the indices of the open rows."""
    open_B = open_B.bool()
    if open_B.all():
        return True
    return open_B.nonzero().squeeze(1) if open_B.any() else False


class Gate:
    """One gate over a batch: either ``factor_B`` to multiply by, or ``rows`` (True all, False none, or indices)."""

    def __init__(self, factor_B: Tensor | None = None, rows: Tensor | bool = True) -> None:
        self.factor_B = factor_B
        self.rows = rows

    def __or__(self, other: "Gate") -> "Gate":
        """Open where either is: 1 - (1 - a)(1 - b)."""
        if self.factor_B is not None and other.factor_B is not None:
            return Gate(factor_B=1 - (1 - self.factor_B) * (1 - other.factor_B))
        if isinstance(self.rows, bool):
            return self if self.rows else other
        if isinstance(other.rows, bool):
            return other if other.rows else self
        return Gate(rows=torch.cat([self.rows, other.rows]).unique())

    def run(self, branch: Callable[..., Tensor], *inputs_B: Tensor | None) -> Tensor | None:
        """Return ``branch(*inputs_B)`` gated: zero on closed rows, None (not computed) if all rows are closed.

        Each input has the batch first; None, and inputs with a batch of 1, are passed on whole.
        """
        if self.factor_B is not None:
            out_BTD = branch(*inputs_B)
            return out_BTD * self.factor_B[:, None, None].to(out_BTD.dtype)
        if isinstance(self.rows, bool):
            return branch(*inputs_B) if self.rows else None
        first = inputs_B[0]
        assert first is not None
        rows = self.rows.to(first.device)
        taken = [x if x is None or len(x) == 1 else x[rows] for x in inputs_B]
        part = branch(*taken)
        return part.new_zeros(len(first), *part.shape[1:]).index_copy_(0, rows, part)


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
        gates = self.gate_state.of("encoder", self.gate_layer)
        if gates is None:
            return super().forward(x_input, mask, cache)
        ffn1, attn, cgmlp, ffn2 = gates
        x_BTD, pos_emb = x_input if isinstance(x_input, tuple) else (x_input, None)

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
        gates = self.gate_state.of("decoder", self.gate_layer)
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
