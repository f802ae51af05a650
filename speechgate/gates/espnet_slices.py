"""ESPnet's attention and feed-forward modules with some of their heads or channels: ordinary modules, but smaller.

A kernel that runs in the place of a module's forward pass, as the decoding engine puts it into the module, is sliced
with it: by its own ``slice`` (of a linear layer) or ``over`` (of an attention).
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from speechgate.gates.slicing import Split
from speechgate.model.espnet_compat import MultiHeadedAttention, PositionwiseFeedForward


def keep_heads(attn: Any, heads: Tensor) -> Any:
    """The attention with these heads: its projections have their rows, its output projection their columns."""
    rows = (heads[:, None] * attn.d_k + torch.arange(attn.d_k, device=heads.device)).flatten()
    sliced = _twin(attn)
    sliced.h = len(heads)
    for name in ("linear_q", "linear_k", "linear_v", "linear_pos"):
        if hasattr(attn, name):
            setattr(sliced, name, _slice(getattr(attn, name), rows, None))
    for name in ("pos_bias_u", "pos_bias_v"):
        if hasattr(attn, name):
            setattr(sliced, name, _parameter(getattr(attn, name)[heads]))
    sliced.linear_out = _slice(attn.linear_out, None, rows)
    if "forward" in vars(attn):
        vars(sliced)["forward"] = vars(attn)["forward"].over(sliced)
    return sliced


def keep_channels(ffn: Any, channels: Tensor) -> Any:
    """The feed-forward module with these channels between its two projections."""
    sliced = _twin(ffn)
    sliced.w_1 = _slice(ffn.w_1, channels, None)
    sliced.w_2 = _slice(ffn.w_2, None, channels)
    return sliced


HEADS = Split("heads", lambda attn: attn.h if isinstance(attn, MultiHeadedAttention) else 0, keep_heads)
CHANNELS = Split(
    "channels", lambda ffn: ffn.w_1.out_features if isinstance(ffn, PositionwiseFeedForward) else 0, keep_channels
)


def _twin(module: Any) -> Any:
    """A copy that shares everything with ``module``, but may get other parameters and submodules."""
    twin = copy.copy(module)
    for name in ("_parameters", "_buffers", "_modules"):
        vars(twin)[name] = dict(vars(module)[name])
    return twin


def _slice(linear: nn.Linear, rows: Tensor | None, columns: Tensor | None) -> nn.Linear:
    """Some outputs (rows) or inputs (columns) of a linear layer; with some inputs the bias stays whole."""
    sliced: Any = _twin(linear)
    weight = linear.weight if rows is None else linear.weight[rows]
    sliced.weight = _parameter(weight if columns is None else weight[:, columns])
    sliced.out_features, sliced.in_features = sliced.weight.shape
    if linear.bias is not None and rows is not None:
        sliced.bias = _parameter(linear.bias[rows])
    if "forward" in vars(linear):
        vars(sliced)["forward"] = vars(linear)["forward"].slice(rows, columns)
    return sliced


def _parameter(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach().clone(memory_format=torch.contiguous_format))
