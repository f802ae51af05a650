"""What gates see of ESPnet's models: an ``ESPnetS2TModel`` or ``ESPnetASRModel`` as stacks of layers.

Shapes: B batch, T frames, D width.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from speechgate.errors import ConfigError
from speechgate.gates.decoder_layers import GatedDecoderLayer
from speechgate.gates.encoder_layers import (
    GatedBranchformerEncoderLayer,
    GatedConformerEncoderLayer,
    GatedEBranchformerEncoderLayer,
    GatedTransformerEncoderLayer,
)
from speechgate.gates.layer import Gated
from speechgate.gates.sites import Stack
from speechgate.gates.transfer import real_frames
from speechgate.model.espnet_compat import (
    BranchformerEncoderLayer,
    ConformerEncoderLayer,
    DecoderLayer,
    EBranchformerEncoderLayer,
    TransformerEncoderLayer,
)

GATED: dict[type, type[Gated]] = {
    EBranchformerEncoderLayer: GatedEBranchformerEncoderLayer,
    BranchformerEncoderLayer: GatedBranchformerEncoderLayer,
    ConformerEncoderLayer: GatedConformerEncoderLayer,
    TransformerEncoderLayer: GatedTransformerEncoderLayer,
    DecoderLayer: GatedDecoderLayer,
}

# Options of a layer or stack that a gated forward pass does not run, and the value that turns each off.
_OFF = {
    "normalize_before": True,
    "concat_after": False,
    "sequential_attn": None,
    "stochastic_depth_rate": 0.0,
    "attn_branch_drop_rate": 0.0,
    "apply_ff_mask": False,
    "layer_drop_rate": 0.0,
}


def known_stacks(model: Any) -> tuple[Stack, ...]:
    """The stacks of a model that describes itself by a method ``stacks``, or of one of ESPnet's."""
    return model.stacks() if hasattr(model, "stacks") else espnet_stacks(model)


def espnet_stacks(model: Any) -> tuple[Stack, ...]:
    """The encoder of ``model``, and its Transformer decoder where it has one.

    Raises:
        ConfigError: a layer of another class, or an option that gates do not go with; the message names it.
    """
    encoder, decoder = model.encoder, model.decoder
    stacks = [_stack("encoder", encoder, getattr(encoder, "encoders", ()), _encoder_input)]
    if decoder is not None:
        stacks.append(_stack("decoder", decoder, getattr(decoder, "decoders", None) or (), _decoder_input))
    return tuple(stacks)


def _stack(name: str, owner: Any, layers: Any, read: Any) -> Stack:
    where = f"model.{name}"
    layers = tuple(layers)
    found = {type(layer) for layer in layers}
    if len(found) != 1 or not found <= GATED.keys() | set(GATED.values()):
        names = ", ".join(sorted(cls.__name__ for cls in found)) or type(owner).__name__
        known = ", ".join(cls.__name__ for cls in GATED)
        raise ConfigError(f"{where}: cannot gate layers of class {names}; known: {known}")
    for part in (owner, *layers):
        for option, off in _OFF.items():
            if getattr(part, option, off) != off:
                value = getattr(part, option)
                raise ConfigError(f"{where}.{option} is {value}: gates need {option} {off}")
    for layer in layers:
        for attribute in ("attn", "self_attn", "src_attn"):
            attn = getattr(layer, attribute, None)
            if attn is not None and not hasattr(attn, "linear_q"):
                raise ConfigError(f"{where}: the cost of {type(attn).__name__} is not known, so it cannot be gated")
    gated = found.pop()
    entry = owner if name == "decoder" else layers[0]
    return Stack(name, layers, GATED.get(gated, gated), layers[0].size, entry, read)


def _encoder_input(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """The first layer's input: the subsampled audio."""
    x_input, mask_B1T = args
    return (x_input[0] if isinstance(x_input, tuple) else x_input), mask_B1T[:, 0]


def _decoder_input(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """The encoder's output.  Steps of a search do not call the decoder as a whole, so they keep the gates they have."""
    encoder_out_BTD, lengths_B = args[:2]
    return encoder_out_BTD, real_frames(lengths_B, encoder_out_BTD.size(1), encoder_out_BTD.device)
