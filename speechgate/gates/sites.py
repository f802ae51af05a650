"""Gate sites: the modules of a model that a gate may close, in the one order that everything else indexes.

Predictor, penalty, cost, recorded masks and maps all follow ``list_sites``: encoder layers first, then decoder layers,
each layer's kinds in the order of their execution.
"""

from dataclasses import dataclass
from typing import Any

from speechgate.errors import ConfigError

STACK_KINDS = {
    "encoder": ("ffn1", "attn", "cgmlp", "ffn2"),
    "decoder": ("self_attn", "src_attn", "ffn"),
}


@dataclass(frozen=True, order=True)
class GateSite:
    """One module: ``stack`` is "encoder" or "decoder", ``layer`` counts from 0, ``kind`` is one of STACK_KINDS."""

    stack: str
    layer: int
    kind: str

    def __str__(self) -> str:
        return f"{self.stack}.{self.layer}.{self.kind}"


def stacks_of(stack: str) -> tuple[str, ...]:
    """The stacks that "encoder", "decoder" or "both" name."""
    return ("encoder", "decoder") if stack == "both" else (stack,)


def layers_of(model: Any, stack: str) -> Any:
    """The layers of one stack of an ESPnetS2TModel, as ESPnet holds them."""
    return model.encoder.encoders if stack == "encoder" else model.decoder.decoders


def list_sites(model: Any) -> tuple[GateSite, ...]:
    """All sites of both stacks of ``model``, gated or not, in execution order.

    Raises:
        ConfigError: an encoder layer lacks a module that has a site, or attends in a way whose cost is not known.
    """
    for layer in layers_of(model, "encoder"):
        if layer.feed_forward_macaron is None or not hasattr(layer.attn, "linear_q"):
            raise ConfigError(
                "model.encoder: gates and costs are defined for use_ffn and macaron_ffn true, and attention_layer_type "
                "selfattn or rel_selfattn"
            )
    return tuple(
        GateSite(stack, layer, kind)
        for stack, kinds in STACK_KINDS.items()
        for layer in range(len(layers_of(model, stack)))
        for kind in kinds
    )
