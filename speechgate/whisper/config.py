"""Configuration of a Whisper host, the alternative to ``ModelConfig``."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class WhisperConfig:
    """A Whisper model to begin from, and what fine-tuning adds.

    Attributes:
        whisper: a checkpoint in transformers' format: a name on its hub (openai/whisper-base) or a local folder.
        architecture: transformers' ``WhisperConfig`` as plain values.  Kept with a checkpoint, which is rebuilt from
            it without the hub; left empty otherwise.
        dropout: of the residual branches while training; Whisper itself was trained without.
        lsm_weight: label smoothing.
        specaug: arguments of ESPnet's SpecAug, applied to the log-mel features while training; null for none.
        min_seconds: shorter recordings are padded with silence.  30 is Whisper's own window; the default encodes the
            true length.
    """

    whisper: str
    architecture: dict[str, Any] = field(default_factory=dict)
    dropout: float = 0.0
    lsm_weight: float = 0.1
    specaug: dict[str, Any] | None = None
    min_seconds: float = 0.2
