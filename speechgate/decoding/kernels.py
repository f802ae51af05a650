"""The encoder as it is, with faster kernels beneath them.

While ``EncoderKernels.in_use`` lasts, modules of the model compute otherwise:

- linear layers with weights packed beforehand (see ``search.linear``);
- the subsampling's convolutions channels-last;
- depthwise convolutions over time, which PyTorch runs on the CPU channel by channel, as channels-last ones of two
  dimensions: the encoder's frames lie so in memory already;
- attention by PyTorch's fused kernel, by ESPnet's own switch; in bfloat16, where that is asked for, if positions are
  absolute; if they are relative, in float32 on the CPU, an utterance after the other.

Afterwards the model is as before.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechgate.decoding.search.linear import Linear, can_pack
from speechgate.model.espnet_compat import MultiHeadedAttention, RelPositionMultiHeadedAttention

Kernel = Callable[..., Tensor]


class EncoderKernels:
    """The kernels for one ESPnetS2TModel; weights are copied now, so a model that trains on needs new ones.

    Args:
        model: on a CPU, in float32, to be packed; elsewhere only attention changes.
        dtype: of the products of linear layers and of the subsampling: float32 or bfloat16.
        packed: False leaves everything but attention to PyTorch's defaults.
    """

    def __init__(self, model: Any, dtype: torch.dtype, packed: bool) -> None:
        self._attentions = [module for module in model.encoder.modules() if hasattr(module, "use_sdpa")]
        self._kernels: list[tuple[nn.Module, Kernel]] = []
        if packed:
            for module in model.encoder.modules():
                kernel = _kernel(module, dtype)
                if kernel is not None:
                    self._kernels.append((module, kernel))

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Run the model's encoder with these kernels."""
        before = [attention.use_sdpa for attention in self._attentions]
        try:
            for attention in self._attentions:
                attention.use_sdpa = True
            for module, kernel in self._kernels:
                vars(module)["forward"] = kernel
            yield
        finally:
            for module, _ in self._kernels:
                vars(module).pop("forward", None)
            for attention, value in zip(self._attentions, before, strict=True):
                attention.use_sdpa = value


def _kernel(module: nn.Module, dtype: torch.dtype) -> Kernel | None:
    """What computes ``module`` faster on the CPU, if it is one of the kinds above."""
    if isinstance(module, nn.Linear) and can_pack(module.weight, dtype):
        return Linear.of(module).pack(dtype)
    if isinstance(module, nn.Conv2d) and module.groups == 1 and can_pack(module.weight, dtype):
        return _Conv2d(module, dtype)
    if isinstance(module, nn.Conv1d) and module.groups == module.in_channels and can_pack(module.weight, dtype):
        return _DepthwiseConv1d(module)
    if dtype is not torch.float32 and type(module) is MultiHeadedAttention:
        return _Attention(module, dtype)
    if dtype is torch.float32 and type(module) is RelPositionMultiHeadedAttention and not module.zero_triu:
        return _RelativeAttention(module)
    return None


class _Attention:
    """Attention whose products of queries, keys and values are in ``dtype``."""

    def __init__(self, module: MultiHeadedAttention, dtype: torch.dtype) -> None:
        self._module, self._dtype = module, dtype

    def over(self, module: MultiHeadedAttention) -> "_Attention":
        """The same for another attention, such as one with fewer heads."""
        return _Attention(module, self._dtype)

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        module = self._module
        query, key, value = (x.to(self._dtype) for x in module.forward_qkv(query, key, value))
        attended_BHTE = F.scaled_dot_product_attention(query, key, value, None if mask is None else mask[:, None])
        return module.linear_out(attended_BHTE.float().transpose(1, 2).flatten(2))


class _RelativeAttention:
    """Attention with relative positions (Dai et al., ACL 2019).

    ESPnet makes seven tensors of heads x T x T or 2T, most of the encoder's time on a CPU.  Here the positions'
    scores, heads x T x (2T - 1), are one, read in place: row i begins T - 1 - i further on.
    """

    def __init__(self, module: RelPositionMultiHeadedAttention) -> None:
        self._module = module

    def over(self, module: RelPositionMultiHeadedAttention) -> "_RelativeAttention":
        """The same for another attention, such as one with fewer heads."""
        return _RelativeAttention(module)

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, pos_emb: Tensor, mask: Tensor | None) -> Tensor:
        module = self._module
        query_BHTE, key_BHTE, value_BHTE = module.forward_qkv(query, key, value)
        place_BHPE = module.linear_pos(pos_emb).unflatten(-1, (module.h, module.d_k)).transpose(1, 2)
        place_BHPE = place_BHPE.expand(len(query), -1, -1, -1)  # the encoder gives one for all
        content_BHTE = query_BHTE + module.pos_bias_u[:, None]
        position_BHTE = (query_BHTE + module.pos_bias_v[:, None]) * module.d_k**-0.5
        heads, frames = query_BHTE.shape[1:3]
        attended = []
        for row in range(len(query_BHTE)):
            scores_HTP = position_BHTE[row] @ place_BHPE[row].transpose(-2, -1)
            step_H, step_T, _ = scores_HTP.stride()
            bias_HTT = scores_HTP.as_strided((heads, frames, frames), (step_H, step_T - 1, 1), frames - 1)
            if mask is not None:
                bias_HTT.masked_fill_(~mask[row], torch.finfo(bias_HTT.dtype).min)
            own = slice(row, row + 1)
            attended.append(
                F.scaled_dot_product_attention(
                    content_BHTE[own], key_BHTE[own], value_BHTE[own], attn_mask=bias_HTT[None]
                )
            )
        return module.linear_out(torch.cat(attended).transpose(1, 2).flatten(2))


class _Conv2d:
    """A convolution in channels-last layout; its output stays in ``dtype``, since another or a linear follows."""

    def __init__(self, module: nn.Conv2d, dtype: torch.dtype) -> None:
        self._module, self._dtype = module, dtype
        self._weight = module.weight.detach().to(dtype, memory_format=torch.channels_last)
        self._bias = None if module.bias is None else module.bias.detach().to(dtype)

    def __call__(self, x_BCTF: Tensor) -> Tensor:
        module = self._module
        x_BCTF = x_BCTF.to(self._dtype).contiguous(memory_format=torch.channels_last)
        return F.conv2d(x_BCTF, self._weight, self._bias, module.stride, module.padding, module.dilation)


class _DepthwiseConv1d:
    """A depthwise convolution over time, as one over an image of height 1, channels last."""

    def __init__(self, module: nn.Conv1d) -> None:
        self._module = module
        self._weight = module.weight.detach()[:, :, None]
        self._bias = None if module.bias is None else module.bias.detach()

    def __call__(self, x_BCT: Tensor) -> Tensor:
        module = self._module
        x_BC1T = x_BCT[:, :, None].contiguous(memory_format=torch.channels_last)
        out_BC1T = F.conv2d(
            x_BC1T,
            self._weight,
            self._bias,
            (1, *module.stride),
            (0, *module.padding),
            (1, *module.dilation),
            module.groups,
        )
        return out_BC1T[:, :, 0]
