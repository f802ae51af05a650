"""Linear layers and modules of the decoder as functions of ``cpp/modules.cpp``: float32, on a CPU, for few rows.

Shapes: B utterances, Q positions computed at once, D width, S cache slots, H heads, E width of a head.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from speechgate.decoding.search.compiler import Address, Count, library
from speechgate.decoding.search.linear import Linear, Norm
from speechgate.errors import ConfigError

# Classes of PyTorch and transformers, as modules.cpp has them.
ACTIVATIONS = {"ReLU": 1, "GELU": 2, "GELUActivation": 2}


class _Norm(ctypes.Structure):
    _fields_ = (("weight", Address), ("bias", Address), ("eps", ctypes.c_float))


class _Product(ctypes.Structure):
    _fields_ = (("panels", Address), ("bias", Address), ("inner", Count), ("outer", Count))


class _Module(ctypes.Structure):
    _fields_ = (("norm", _Norm), ("first", _Product), ("last", _Product), ("heads", Count), ("activation", Count))


class _Cache(ctypes.Structure):
    _fields_ = (("at", Address), ("batch", Count), ("kind", Count), ("head", Count), ("slot", Count))


class _Mask(ctypes.Structure):
    _fields_ = (("at", Address), ("batch", Count), ("query", Count), ("begins", Address), ("ends", Address))


def can_compile(weight: Tensor) -> bool:
    """Whether layers of this weight can be compiled: float32 on a CPU, and there is a compiler."""
    return weight.device.type == "cpu" and weight.dtype is torch.float32 and library() is not None


@dataclass(frozen=True)
class CompiledLinear:
    """``panels``: the ``weight`` (out, in) in the order in which it is read, see ``cpp/modules.cpp``."""

    weight: Tensor
    bias: Tensor | None
    panels: Tensor

    @classmethod
    def of(cls, linear: Linear) -> "CompiledLinear":
        width = _functions().panel_width()
        weight = F.pad(linear.weight, (0, 0, 0, -len(linear.weight) % width))
        return cls(linear.weight, linear.bias, weight.unflatten(0, (-1, width)).transpose(1, 2).contiguous())

    def slice(self, rows: Tensor | None, columns: Tensor | None = None) -> "CompiledLinear":
        """Some outputs (rows) or inputs (columns) of the layer."""
        return CompiledLinear.of(Linear(self.weight, self.bias).slice(rows, columns))

    @cached_property
    def product(self) -> _Product:
        bias = None if self.bias is None else self.bias.data_ptr()
        return _Product(self.panels.data_ptr(), bias, self.weight.shape[1], len(self.weight))

    def __call__(self, x: Tensor) -> Tensor:
        x = x.contiguous()
        out = x.new_empty(*x.shape[:-1], len(self.weight))
        rows = x.numel() // x.shape[-1]
        _functions().linear(ctypes.addressof(self.product), x.data_ptr(), rows, out.data_ptr(), torch.get_num_threads())
        return out


Projection = Linear | CompiledLinear


class CompiledModule:
    """A module of the decoder: its norm, the first projection, attention or an activation, and the last projection."""

    def __init__(self, norm: Norm, first: CompiledLinear, last: CompiledLinear, heads: int, activation: int) -> None:
        self._parts = norm, first, last  # whose tensors the structure points to
        at = _Norm(norm.weight.data_ptr(), norm.bias.data_ptr(), norm.eps)
        self._module = _Module(at, first.product, last.product, heads, activation)
        self._address = ctypes.addressof(self._module)
        self._functions = _functions()

    @classmethod
    def of(
        cls,
        norm: Norm,
        first: Projection,
        last: Projection,
        heads: int = 0,
        activation: Callable[[Tensor], Tensor] | None = None,
    ) -> "CompiledModule | None":
        """None if the projections are not compiled or the activation is not one of ACTIVATIONS."""
        number = 0 if activation is None else ACTIVATIONS.get(type(activation).__name__)
        if number is None or not isinstance(first, CompiledLinear) or not isinstance(last, CompiledLinear):
            return None
        return cls(norm, first, last, heads, number)

    def feed_forward(self, x_BQD: Tensor) -> Tensor:
        x_BQD = x_BQD.contiguous()
        out_BQD = torch.empty_like(x_BQD)
        rows = x_BQD.shape[0] * x_BQD.shape[1]
        self._functions.feed_forward(self._address, x_BQD.data_ptr(), rows, out_BQD.data_ptr(), torch.get_num_threads())
        return out_BQD

    def attend(
        self,
        x_BQD: Tensor,
        cache_B2HSE: Tensor,
        mask: Tensor | None,
        begins_B: Tensor | None = None,
        ends_B: Tensor | None = None,
    ) -> Tensor:
        """Attend to the slots of ``cache_B2HSE``; those of the Q positions themselves, if it has them, come last.

        Args:
            x_BQD: the residual stream.
            cache_B2HSE: keys, then values, with any strides but the last; written to where the module's first
                projection gives keys and values too.
            mask: addends of the scores, as ``Masks`` has them.
            begins_B, ends_B: int64, the slots from which and up to which an utterance sees any; None: all.
        """
        x_BQD = x_BQD.contiguous()
        out_BQD = torch.empty_like(x_BQD)
        batch, positions, _ = x_BQD.shape
        self._functions.attention(
            self._address,
            x_BQD.data_ptr(),
            batch,
            positions,
            ctypes.byref(_Cache(cache_B2HSE.data_ptr(), *cache_B2HSE.stride()[:4])),
            cache_B2HSE.shape[3],
            ctypes.byref(_mask(mask, begins_B, ends_B)),
            out_BQD.data_ptr(),
            torch.get_num_threads(),
        )
        return out_BQD


def _functions() -> ctypes.CDLL:
    functions = library()
    if functions is None:
        raise ConfigError("there is no compiler for the decoder's modules: leave them uncompiled")
    return functions


def _mask(mask: Tensor | None, begins_B: Tensor | None, ends_B: Tensor | None) -> _Mask:
    """(Q, S) for all utterances, (B, 1, Q, S), or (B, 1, 1, S) for all positions; the last dimension without gaps."""
    spans = (None if each is None else each.data_ptr() for each in (begins_B, ends_B))
    if mask is None:
        return _Mask(None, 0, 0, *spans)
    if mask.dim() == 2:
        return _Mask(mask.data_ptr(), 0, mask.stride(0), *spans)
    return _Mask(mask.data_ptr(), mask.stride(0), mask.stride(2) if mask.shape[2] > 1 else 0, *spans)
