"""How much of a device's arithmetic a training uses: FLOPs of its batches, and the peaks of cards.

Counted are the products that the model asks for (``speechgate.gates.macs``) on the real frames and tokens of a batch:
no padding, no activations computed again, no teachers, no log-mel features.  A multiply-accumulate is two operations.
The backward pass takes as many again for the gradients of activations, wherever something below is trained, and as many
again for those of weights, for the share of the weights that is: three times the forward pass where all are.

Shapes: B batch, M monomials.
"""

import re
from typing import Any

import torch
from torch import Tensor

from speechgate.data.batch import Batch
from speechgate.errors import ConfigError
from speechgate.gates.cost import CostTable
from speechgate.gates.macs import monomials, weights
from speechgate.training.trained import GATES

# Dense bfloat16 TFLOP/s with sums in float32, from NVIDIA's data sheets (half of what they give "with sparsity").
PEAK_TFLOPS = {
    "B200": 2250.0,
    "GH200": 989.5,
    "H200 NVL": 835.5,
    "H200": 989.5,
    "H100 NVL": 835.5,
    "H100 PCIe": 756.5,
    "H100": 989.5,
    "A100": 312.0,
    "L40S": 366.0,
    "L40": 181.0,
    "L4": 121.0,
    "A40": 149.7,
    "A10": 125.0,
    "RTX A6000": 154.8,
    "RTX 4090": 165.2,
    "RTX 3090": 71.0,
}


def peak_tflops(device: torch.device) -> float | None:
    """The dense bfloat16 peak of a card in TFLOP/s; None where the table has none, and for a part of a card (MIG)."""
    return peak_of(torch.cuda.get_device_name(device)) if device.type == "cuda" else None


def peak_of(name: str) -> float | None:
    """As ``peak_tflops``, by the name that CUDA gives a card."""
    if "MIG" in name:
        return None
    return next((peak for card, peak in PEAK_TFLOPS.items() if re.search(rf"\b{re.escape(card)}\b", name)), None)


def cost_table(model: Any) -> CostTable | None:
    """The model's cost; None if it has layers that are trained as they are, but whose cost nobody has written down."""
    try:
        return CostTable(model)
    except ConfigError:
        return None


class BatchFlops:
    """The floating-point operations of training one model on a batch."""

    def __init__(self, table: CostTable, model: Any, ctc_weight: float) -> None:
        """``table`` is the model's, made before adapters; what of the model is trained is to be settled."""
        self._table = table
        self._hop: int = model.frontend.hop_length
        self._encoder_M = _passes(model, "encoder") * table.stack_coefficients("encoder")
        self._subsampling = _passes(model, "encoder")
        self._decoder_M, self._output = torch.zeros_like(self._encoder_M), 0.0
        if ctc_weight < 1:
            self._output = _passes(model, "decoder")
            self._decoder_M = self._output * table.stack_coefficients("decoder")
        self._ctc_a_frame = 0 if model.ctc is None else weights(model.ctc)
        self._ctc = _passes(model, "ctc") if ctc_weight > 0 else 0.0

    def __call__(self, batch: Batch, frames_B: Tensor) -> float:
        """Operations of the forward and the backward pass; ``frames_B`` are the encoder's frames."""
        features_B = (batch.speech_lengths // self._hop + 1).tolist()
        lengths = list(zip(features_B, frames_B.tolist(), batch.decoder_in_lengths.tolist(), strict=True))
        lengths_BM = torch.tensor([monomials(frames, tokens, 1) for _, frames, tokens in lengths], dtype=torch.float64)
        in_stacks = float(lengths_BM.sum(0) @ (self._encoder_M + self._decoder_M))
        return 2 * (in_stacks + sum(self._outside(*each) for each in lengths))

    def _outside(self, features: int, frames: int, tokens: int) -> float:
        """Subsampling, CTC and the output layer, for one utterance."""
        ctc = self._ctc_a_frame * frames
        below = self._table.fixed_macs(features, frames, 0, 1) - ctc
        output = self._table.fixed_macs(features, frames, tokens, 1) - ctc - below
        return self._subsampling * below + self._ctc * ctc + self._output * output


def _passes(model: Any, part: str) -> float:
    """What the forward and the backward pass of ``part`` ("encoder", "ctc" or "decoder") take, in forward passes."""
    named = dict(model.named_parameters())
    matrices = [each for name, each in named.items() if name.startswith(f"{part}.") and each.dim() > 1]
    trained = sum(each.numel() for each in matrices if each.requires_grad) / sum(each.numel() for each in matrices)
    # What gradients go to through this part: anything for the decoder, since its gates and embedding come before.
    before = () if part == "decoder" else ("encoder.", f"{GATES}predictors.encoder.", f"{part}.")
    passed = any(each.requires_grad for name, each in named.items() if not before or name.startswith(before))
    return 1.0 + passed + trained
