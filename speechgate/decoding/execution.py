"""How the engine computes, whatever it searches for: precision, packed weights, CUDA graphs."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from speechgate.decoding.kernels import EncoderKernels
from speechgate.decoding.search import DecoderWeights, Linear, Output
from speechgate.decoding.search.compiled import can_compile
from speechgate.decoding.search.linear import can_pack
from speechgate.errors import ConfigError

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Execution:
    """Options of speed; only ``precision`` and ``int8_output`` can change a hypothesis.

    Attributes:
        precision: "float32", or "bfloat16": on the CPU of matrix products alone, on a GPU of the decoder's weights,
            caches and residual stream too.
        packed: arrange weights for the CPU's matrix kernels, which takes as much memory again; no effect on a GPU.
        cuda_graph: run the steps of a search as a CUDA graph; needs a GPU.
        int8_output: weights and inputs of the decoder's output layer in 8 bits; needs a CPU with AVX-512 VNNI.
        compiled: search by the functions of ``cpp``, on a CPU, with packed weights in float32; without a C++ compiler
            by PyTorch's operations, and a ``NoCompilerWarning`` says so once.
    """

    precision: str = "float32"
    packed: bool = True
    cuda_graph: bool = False
    int8_output: bool = False
    compiled: bool = True

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ConfigError(f"precision is {self.precision!r}: give one of {', '.join(PRECISIONS)}")

    @property
    def dtype(self) -> torch.dtype:
        return PRECISIONS[self.precision]

    def decoder(self, weights: DecoderWeights) -> DecoderWeights:
        """``weights`` as this execution runs them.

        Raises:
            ConfigError: the device cannot do what is asked for.
        """
        weight = weights.output.linear.weight
        if self.int8_output:
            weights = weights.with_int8_output()
        if self.cuda_graph and weight.device.type != "cuda":
            raise ConfigError("cuda_graph: the model is not on a GPU")
        if weight.device.type == "cuda":
            return weights if self.precision == "float32" else weights.to(self.dtype)
        if self.compiles(weight):
            return weights.compiled()
        if self.packed and can_pack(weight, self.dtype):
            return weights.pack(self.dtype)
        if self.precision != "float32":
            raise ConfigError("precision bfloat16: this processor has no such products, or packed is off")
        return weights

    def compiles(self, weight: Tensor) -> bool:
        """Whether searches with such weights are compiled."""
        return self.compiled and self.packed and self.precision == "float32" and can_compile(weight)

    def head(self, linear: Linear) -> Output:
        """The CTC head; on a GPU ``autocast`` sees to its precision."""
        return Output(linear.pack(self.dtype) if self.packed and can_pack(linear.weight, self.dtype) else linear)

    def encoder(self, model: Any) -> EncoderKernels:
        weight = model.decoder.output_layer.weight
        return EncoderKernels(model, self.dtype, packed=self.packed and can_pack(weight, self.dtype))

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """Autocast for the encoder on a GPU; on the CPU its kernels see to the precision."""
        enabled = device.type == "cuda" and self.precision != "float32"
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


DEFAULT = Execution()
