"""Multiply-accumulates (MACs) of a module as a polynomial in the lengths of an utterance.

Counted: matrix products, convolutions and attention products.  Not counted: norms, activations, softmax, the STFT.

Symbols: T encoder frames, L decoder steps, W hypotheses alive in a step (beam), D width.
"""

from dataclasses import astuple, dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Macs:
    """Coefficients of 1, T, T^2, WL, WL^2 and WLT."""

    constant: float = 0.0
    frame: float = 0.0
    frame_pair: float = 0.0
    token: float = 0.0
    token_pair: float = 0.0
    token_frame: float = 0.0

    def __add__(self, other: "Macs") -> "Macs":
        return Macs(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def monomials(frames: int, steps: int, beam: int) -> tuple[float, ...]:
    """What the coefficients are multiplied by, for an utterance of so many frames T, steps L and hypotheses W."""
    tokens = beam * steps
    return (1.0, frames, frames * frames, tokens, tokens * steps, tokens * frames)


def weights(*modules: nn.Module) -> int:
    """MACs a frame or token: one for each weight of the linear layers and (at stride 1) 1-d convolutions."""
    parts = (part for module in modules for part in module.modules())
    return sum(part.weight.numel() for part in parts if isinstance(part, nn.Linear | nn.Conv1d))


def per_frame(*modules: nn.Module) -> Macs:
    """Modules that compute each encoder frame once."""
    return Macs(frame=weights(*modules))


def per_token(*modules: nn.Module) -> Macs:
    """Modules that compute each token of each hypothesis once."""
    return Macs(token=weights(*modules))


def self_attention_over_frames(width: int, *projections: nn.Module) -> Macs:
    """Scores and weighted sums between all frames: 2 T^2 D, and the projections."""
    return per_frame(*projections) + Macs(frame_pair=2 * width)


def relative_positions(width: int, projection: nn.Module, distances_only: bool) -> Macs:
    """What relative positions add (Dai et al., ACL 2019): projecting and scoring P of them.

    P is 2T - 1, the distances to either side; T in ESPnet's older form, which has no ``distances_only``.
    """
    projected = weights(projection)
    if not distances_only:
        return Macs(frame=projected, frame_pair=width)
    return Macs(constant=-projected, frame=2 * projected - width, frame_pair=2 * width)


def self_attention_over_tokens(width: int, *projections: nn.Module) -> Macs:
    """With a key/value cache a step scores the tokens so far: W L (L + 1) D in all, and the projections."""
    return per_token(*projections) + Macs(token=width, token_pair=width)


def source_attention(attn: Any, width: int) -> Macs:
    """Keys and values of the encoder's frames once an utterance, and 2 T D a token."""
    once = per_frame(attn.linear_k, attn.linear_v)
    return once + per_token(attn.linear_q, attn.linear_out) + Macs(token_frame=2 * width)
