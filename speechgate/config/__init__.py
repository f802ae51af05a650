"""Configuration: dataclasses for every YAML group, strict loading, and the resolved copy kept with a checkpoint.

Sections whose keys are ESPnet's (``frontend``, ``encoder``, ``decoder``...) are checked against the constructor that
they go to.
"""

from speechgate.config.experiment import CONF_DIR, Experiment, load_experiment, phases
from speechgate.config.gates import CONTEXTS, GatesConfig
from speechgate.config.model import ENCODERS, ModelConfig, model_config
from speechgate.config.reading import check_keys, choices, from_mapping, load_yaml, to_mapping, to_yaml
from speechgate.config.training import LoraConfig, NoiseConfig, ReverbConfig, TeacherConfig, TrainConfig

__all__ = [
    "CONF_DIR",
    "CONTEXTS",
    "ENCODERS",
    "Experiment",
    "GatesConfig",
    "LoraConfig",
    "ModelConfig",
    "NoiseConfig",
    "ReverbConfig",
    "TeacherConfig",
    "TrainConfig",
    "check_keys",
    "choices",
    "from_mapping",
    "load_experiment",
    "load_yaml",
    "model_config",
    "phases",
    "to_mapping",
    "to_yaml",
]
