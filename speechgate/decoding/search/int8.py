"""A linear layer with weights of 8 bits, for the CPU's int8 products (AVX-512 VNNI) through oneDNN.

Weights have a scale for each output, inputs one for each row: a row's result does not depend on the rows beside it, as
it would with PyTorch's ``linear_dynamic``, whose one scale for all lets an utterance change its neighbours.

Shapes: R outputs, D inputs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from speechgate.decoding.search.compiled import Projection
from speechgate.decoding.search.linear import Linear, on_onednn
from speechgate.errors import ConfigError

LARGEST = 127
ZERO_POINT = 128  # oneDNN is fast with unsigned inputs alone


def can_quantise(weight: Tensor) -> bool:
    """Whether ``weight`` can be used in int8 products: float32 on a CPU that has them."""
    return on_onednn(weight) and hasattr(torch.ops.onednn, "qlinear_prepack") and torch.cpu._is_vnni_supported()


@dataclass(frozen=True)
class Int8Linear:
    """``packed`` holds the ``weight`` in 8 bits, as oneDNN wants it, each output divided by its scale."""

    weight: Tensor
    bias: Tensor | None
    packed: Tensor
    scale_R: Tensor

    @classmethod
    def of(cls, linear: "Projection | Int8Linear") -> "Int8Linear":
        """Quantise a layer.

        Raises:
            ConfigError: this device or processor has no int8 products.
        """
        weight = linear.weight
        if not can_quantise(weight):
            found = f"weights of {weight.dtype} on {weight.device}"
            raise ConfigError(f"int8 products need float32 weights on a CPU with AVX-512 VNNI, and these are {found}")
        scale_R = weight.abs().amax(1) / LARGEST
        quantised_RD = (weight / scale_R[:, None]).nan_to_num_(0.0).round_().to(torch.int8)
        packed = torch.ops.onednn.qlinear_prepack(quantised_RD, None)
        return cls(weight, None if linear.bias is None else linear.bias.float(), packed, scale_R)

    def slice(self, rows: Tensor) -> "Int8Linear":
        """Some outputs of the layer."""
        return Int8Linear.of(Linear(self.weight[rows], None if self.bias is None else self.bias[rows]))

    def __call__(self, x: Tensor) -> Tensor:
        x_ND = x.reshape(-1, x.shape[-1])
        scale_N1 = x_ND.abs().amax(1, keepdim=True) / LARGEST
        # Rows that are zero or not finite count as zeros here; their scale makes them what they were.
        steps_ND = (x_ND / scale_N1).nan_to_num_(0.0, 0.0, 0.0).round_()
        product_NR = torch.ops.onednn.qlinear_pointwise(
            steps_ND.add_(ZERO_POINT).to(torch.uint8),
            1.0,
            ZERO_POINT,
            self.packed,
            self.scale_R,
            torch.zeros_like(self.scale_R, dtype=torch.int64),
            None,
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "",
        )
        out_NR = product_NR * scale_N1 if self.bias is None else torch.addcmul(self.bias, product_NR, scale_N1)
        return out_NR.unflatten(0, x.shape[:-1])
