"""Linear layers of the search, on the CPU with weights that are packed once for its matrix kernels.

``F.linear`` gives float32 products to the BLAS that PyTorch was built with, which arranges the weight anew in every
call and is slow on other makers' processors.  oneDNN, which PyTorch brings too, takes a weight arranged beforehand.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechgate.errors import ConfigError


def on_onednn(weight: Tensor) -> bool:
    """Whether oneDNN's products can take ``weight``: float32 on a CPU."""
    return weight.device.type == "cpu" and weight.dtype is torch.float32 and torch.backends.mkldnn.is_available()


def can_pack(weight: Tensor, dtype: torch.dtype) -> bool:
    """Whether ``weight`` can be packed for products in ``dtype``: on a CPU, float32 or bfloat16 where it has them."""
    if not on_onednn(weight) or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    return dtype is torch.float32 or (dtype is torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def at_least_float32(x: Tensor) -> Tensor:
    """``x``, in float32 where its dtype is narrower."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


@dataclass(frozen=True)
class Norm:
    weight: Tensor
    bias: Tensor
    eps: float

    @classmethod
    def of(cls, norm: nn.LayerNorm) -> "Norm":
        return cls(norm.weight.detach(), norm.bias.detach(), norm.eps)

    def to(self, dtype: torch.dtype) -> "Norm":
        return replace(self, weight=self.weight.to(dtype), bias=self.bias.to(dtype))

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


@dataclass(frozen=True)
class Linear:
    """A weight (out, in) and a bias (out); ``packed`` is the weight as oneDNN wants it, in the dtype of the product."""

    weight: Tensor
    bias: Tensor | None
    packed: Tensor | None = None
    dtype: torch.dtype = torch.float32

    @classmethod
    def of(cls, *layers: nn.Linear) -> "Linear":
        """One matrix for several layers of the same input, their outputs side by side; a missing bias is zero."""
        if len(layers) == 1:
            return cls(layers[0].weight.detach(), None if layers[0].bias is None else layers[0].bias.detach())
        weight = torch.cat([layer.weight.detach() for layer in layers])
        if all(layer.bias is None for layer in layers):
            return cls(weight, None)
        biases = [layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias for layer in layers]
        return cls(weight, torch.cat([bias.detach() for bias in biases]))

    def pack(self, dtype: torch.dtype) -> "Linear":
        """The same layer with its weight packed for products in ``dtype``; what comes out stays float32.

        Raises:
            ConfigError: this device or processor has no such products.
        """
        if not can_pack(self.weight, dtype):
            raise ConfigError(f"weights of {self.weight.dtype} on {self.weight.device} cannot be packed for {dtype}")
        packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.to(dtype).contiguous())
        return replace(self, packed=packed, dtype=dtype, bias=None if self.bias is None else self.bias.to(dtype))

    def slice(self, rows: Tensor | None, columns: Tensor | None = None) -> "Linear":
        """Some outputs (rows) or inputs (columns) of the layer, packed if it is."""
        weight = self.weight if rows is None else self.weight[rows]
        weight = weight if columns is None else weight[:, columns].contiguous()
        bias = self.bias if self.bias is None or rows is None else self.bias[rows]
        return Linear(weight, bias) if self.packed is None else Linear(weight, bias).pack(self.dtype)

    def to(self, dtype: torch.dtype) -> "Linear":
        return Linear(self.weight.to(dtype), None if self.bias is None else self.bias.to(dtype))

    def __call__(self, x: Tensor) -> Tensor:
        if self.packed is None:
            return F.linear(x, self.weight, self.bias)
        out = torch.ops.mkldnn._linear_pointwise(x.to(self.dtype), self.packed, self.bias, "none", [], "")
        return out.float()
