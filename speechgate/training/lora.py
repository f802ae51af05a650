"""Low-rank adapters (Hu et al., ICLR 2022) through peft: trained beside frozen weights, merged into them at the end."""

import re
from typing import Any

from torch import nn

from speechgate.config import LoraConfig
from speechgate.errors import ConfigError
from speechgate.training.trained import GATES, matching


class Adapters:
    """The adapters of a model; putting them in changes the names of its parameters until they are merged."""

    def __init__(self, model: Any, config: LoraConfig) -> None:
        """Put adapters beside the linear layers that ``config.targets`` names, and freeze all but these.

        Gates, and the parameters that ``config.full`` names, go on training.

        Raises:
            ConfigError: peft is not installed, a pattern fits nothing, or a layer's weight is also an embedding's.
        """
        try:
            import peft
        except ImportError as error:
            raise ConfigError("train.lora needs peft: install speechgate[lora]") from error
        modules = {name: part for name, part in model.named_modules() if not name.startswith(GATES)}
        linear = [name for name, part in modules.items() if isinstance(part, nn.Linear)]
        chosen = matching(linear, config.targets, "train.lora.targets")
        for name in chosen:
            _require_own_weight(modules, name)
        own = {name: each for name, each in model.named_parameters() if not name.startswith(GATES)}
        trained = [own[name] for name in matching(own, config.full, "train.lora.full")]
        if hasattr(model, "gates"):
            trained += [each for each in model.gates.parameters() if each.requires_grad]
        options = peft.LoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,
            lora_dropout=config.dropout,
            target_modules="|".join(re.escape(name) for name in chosen),  # a regular expression for the whole name
        )
        self.tuner = peft.LoraModel(model, options, "default")
        for parameter in trained:
            parameter.requires_grad_()

    def merge(self) -> None:
        """Add the adapters to the weights; the model has its ordinary layers and names again."""
        self.tuner.merge_and_unload(safe_merge=True)


def _require_own_weight(modules: dict[str, nn.Module], name: str) -> None:
    weight = modules[name].weight
    for other, part in modules.items():
        if other != name and getattr(part, "weight", None) is weight:
            raise ConfigError(f"train.lora.targets: {name} shares its weight with {other}, which merging would change")
