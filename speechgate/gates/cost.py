"""Multiply-accumulates (MACs) of each module, counted analytically, and what a mask of gates saves.

Counted: matrix products, convolutions and attention products.  Not counted: norms, activations, softmax, the STFT.
A test holds the table against PyTorch's FLOP counter.

Symbols: T encoder frames, L decoder steps, W hypotheses alive in a step (beam), D width.
"""

from typing import Any

import torch
from torch import Tensor, nn

from speechgate.gates.sites import list_sites


def _linear(module: nn.Module) -> int:
    """MACs a frame or token: one for each weight of the linear layers and (at stride 1) convolutions in ``module``."""
    kinds = (nn.Linear, nn.Conv1d)
    return sum(part.weight.numel() for part in module.modules() if isinstance(part, kinds))


class CostTable:
    """The MACs of one model's modules as functions of the lengths of an utterance."""

    def __init__(self, model: Any) -> None:
        self.sites = list_sites(model)
        self.model = model
        self.width: int = model.encoder.output_size()

    def site_macs(self, frames: int, steps: int, beam: int) -> Tensor:
        """(S,) float64: MACs of every gate site for an utterance of ``frames`` T, ``steps`` L and ``beam`` W.

        The decoder has key/value caches: a step computes one token a hypothesis, source attention projects the
        encoder's output once an utterance.  A beam of 1 and ``steps`` L is also the cost of teacher forcing, with
        attention counted over the tokens before.
        """
        return torch.tensor(
            [self._site(site.stack, site.layer, site.kind, frames, steps, beam) for site in self.sites]
        ).double()

    def _site(self, stack: str, layer: int, kind: str, frames: int, steps: int, beam: int) -> float:
        width = self.width
        if stack == "encoder":
            module = self.model.encoder.encoders[layer]
            if kind == "attn":
                attn = module.attn
                products = 2 * frames * frames * width
                per_frame = sum(
                    _linear(part) for part in (attn.linear_q, attn.linear_k, attn.linear_v, attn.linear_out)
                )
                if hasattr(attn, "linear_pos"):  # relative positions: 2T - 1 of them are projected and scored
                    positions = 2 * frames - 1
                    products += frames * positions * width + positions * _linear(attn.linear_pos)
                return products + frames * per_frame
            part = {"ffn1": module.feed_forward_macaron, "cgmlp": module.cgmlp, "ffn2": module.feed_forward}[kind]
            return frames * _linear(part)
        module = self.model.decoder.decoders[layer]
        tokens = steps * beam
        if kind == "ffn":
            return tokens * _linear(module.feed_forward)
        if kind == "self_attn":
            return tokens * _linear(module.self_attn) + beam * width * steps * (steps + 1)
        attn = module.src_attn
        once = frames * (_linear(attn.linear_k) + _linear(attn.linear_v))
        return once + tokens * (_linear(attn.linear_q) + _linear(attn.linear_out) + 2 * frames * width)

    def merge_macs(self, frames: int) -> Tensor:
        """(encoder layers,): the merge of the two branches, skipped where both are closed."""
        layers = self.model.encoder.encoders
        return torch.tensor(
            [frames * (_linear(m.depthwise_conv_fusion) + _linear(m.merge_proj)) for m in layers]
        ).double()

    def fixed_macs(self, feature_frames: int, frames: int, steps: int, beam: int) -> float:
        """What no gate can close: subsampling, CTC's and the decoder's output layers, and the predictors."""
        total = float(frames * _linear(self.model.ctc) + steps * beam * _linear(self.model.decoder.output_layer))
        time, bins = feature_frames, self.model.frontend.output_size()
        for part in self.model.encoder.embed.modules():
            if isinstance(part, nn.Conv2d):
                time, bins = (
                    (time - part.kernel_size[0]) // part.stride[0] + 1,
                    (bins - part.kernel_size[1]) // part.stride[1] + 1,
                )
                total += time * bins * part.weight.numel()
            elif isinstance(part, nn.Linear):
                total += frames * part.weight.numel()
        return total + self.predictor_macs()

    def predictor_macs(self) -> float:
        """The gates' own cost, once an utterance; 0 without gates."""
        return float(_linear(self.model.gates)) if hasattr(self.model, "gates") else 0.0

    def utterance_macs(
        self, open_S: Tensor, feature_frames: int, frames: int, steps: int, beam: int
    ) -> tuple[float, float]:
        """MACs of one utterance with the gates ``open_S`` (booleans), and with every gate open and no predictor."""
        sites_S = self.site_macs(frames, steps, beam)
        merges = self.merge_macs(frames)
        fixed = self.fixed_macs(feature_frames, frames, steps, beam)
        index = {str(site): i for i, site in enumerate(self.sites)}
        merged = torch.stack(
            [open_S[index[f"encoder.{i}.attn"]] | open_S[index[f"encoder.{i}.cgmlp"]] for i in range(len(merges))]
        )
        used = fixed + float((sites_S * open_S).sum() + (merges * merged).sum())
        dense = fixed - self.predictor_macs() + float(sites_S.sum() + merges.sum())
        return used, dense
