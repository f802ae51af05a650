"""Attach gates to a model and take them off again.

``attach`` swaps the classes of the layers, adds the predictors as ``model.gates`` and hooks them to the places where a
stack's input is known: after the encoder's subsampling, and before the decoder.  Nothing else of the model changes.
"""

from collections.abc import Sequence
from typing import Any

from speechgate.config import GatesConfig
from speechgate.errors import ConfigError
from speechgate.gates.layers import GATED_CLASSES
from speechgate.gates.module import Gates
from speechgate.gates.sites import STACK_KINDS, layers_of


def attach(model: Any, config: GatesConfig, languages: Sequence[str]) -> Gates:
    """Give ``model`` (an ESPnetS2TModel with E-Branchformer encoder and Transformer decoder) gates; returns them.

    They are also ``model.gates``, so that they are saved, moved and trained with the model.  Keys of the model's own
    parameters do not change.

    Raises:
        ConfigError: the model has gates already, or a layer that cannot be gated.
    """
    if hasattr(model, "gates"):
        raise ConfigError("this model has gates already; detach them first")
    for stack in STACK_KINDS:
        for layer in layers_of(model, stack):
            if type(layer) not in GATED_CLASSES:
                known = ", ".join(cls.__name__ for cls in GATED_CLASSES)
                raise ConfigError(f"cannot gate a layer of class {type(layer).__name__}; known: {known}")
            if stack == "decoder" and (not layer.normalize_before or layer.concat_after or layer.sequential_attn):
                raise ConfigError(
                    "only pre-norm decoder layers, without concat_after and sequential_attn, can be gated"
                )
    gates = Gates(config, model, languages)
    for stack in STACK_KINDS:
        for index, layer in enumerate(layers_of(model, stack)):
            layer.__class__ = GATED_CLASSES[type(layer)]
            layer.gate_state, layer.gate_layer = gates.state, index
    model.gates = gates.to(next(model.parameters()).device).train(model.training)
    return gates


def detach(model: Any) -> Any:
    """Take the gates off; the model is what it was before ``attach``, with the weights that it has now."""
    model.gates.remove_hooks()
    for stack in STACK_KINDS:
        for layer in layers_of(model, stack):
            layer.__class__ = type(layer).__bases__[0]
            del layer.gate_state, layer.gate_layer
    del model.gates
    return model
