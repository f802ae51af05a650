"""The configuration of a dense model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from speechgate.config.reading import choices, dataclass_in, from_mapping
from speechgate.whisper.config import WhisperConfig

ENCODERS = ("e_branchformer", "branchformer", "conformer", "transformer")


@dataclass(frozen=True)
class ModelConfig:
    """One model: keyword arguments of ESPnet's classes, a section a class.

    ``hybrid`` goes to ``ESPnetS2TModel`` (ctc_weight, lsm_weight...); ``specaug`` may be null.  ``encoder_class`` is
    the encoder's name in ESPnet's recipes: e_branchformer, branchformer, conformer or transformer.  ``normalize`` takes
    ``scope`` too: each utterance by its own statistics ("utterance"), or by those in the weights ("global").
    ``min_seconds`` pads shorter recordings with silence (OWSM's 30 s window, or what subsampling needs).
    """

    frontend: dict[str, Any] = field(default_factory=dict)
    specaug: dict[str, Any] | None = None
    normalize: dict[str, Any] = field(default_factory=dict)
    encoder_class: str = "e_branchformer"
    encoder: dict[str, Any] = field(default_factory=dict)
    decoder: dict[str, Any] = field(default_factory=dict)
    hybrid: dict[str, Any] = field(default_factory=dict)
    init: str = "xavier_uniform"
    min_seconds: float = 0.2

    def __post_init__(self) -> None:
        choices("model.encoder_class", self.encoder_class, ENCODERS)


AnyModel = WhisperConfig | ModelConfig  # Whisper's has the key ``whisper``, all others are for ESPnet's classes


def model_config(values: Mapping[str, Any], where: str) -> AnyModel:
    """The configuration of a model of either kind."""
    return from_mapping(dataclass_in(AnyModel, values), values, where)
