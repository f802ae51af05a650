"""What of a model trains, and how fast: frozen parameters, and the optimizer's groups with their learning rates."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from speechgate.config import GatesConfig, TrainConfig
from speechgate.errors import ConfigError

GATES = "gates."  # where a model keeps its gates, which no pattern freezes
NUMBERED = re.compile(r"(?P<owner>.*?)\.(?:layers|encoders|decoders)\.(?P<layer>\d+)\.")
BEFORE_LAYERS = ("embed", "conv")  # what a stack does before its first layer: subsampling, embeddings, positions


def numbered_layers(model: nn.Module, key: str) -> list[nn.Module]:
    """The layers of the model's stacks: parts named layers.N, encoders.N or decoders.N.

    Raises:
        ConfigError: there is none, and the option ``key`` needs them.
    """
    named = [(name, part) for name, part in model.named_modules() if not name.startswith(GATES)]
    layers = [part for name, part in named if NUMBERED.fullmatch(f"{name}.")]
    if not layers:
        raise ConfigError(f"{key}: this model has no numbered layers (layers.N, encoders.N or decoders.N)")
    return layers


def matching(names: Iterable[str], patterns: Sequence[str], key: str) -> list[str]:
    """The ``names`` that fit any of the glob ``patterns``, where ``*`` stands for dots too.

    Raises:
        ConfigError: a pattern of the option ``key`` fits none; the message has the nearest name.
    """
    names = list(names)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            near = difflib.get_close_matches(pattern, names, n=1, cutoff=0.0)
            raise ConfigError(f"{key}: nothing is named {pattern!r}; the nearest is {near[0] if near else 'nothing'!r}")
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def choose_trained(model: Any, config: TrainConfig) -> None:
    """Freeze what ``train.freeze`` names, and with ``train.gated_only`` all but the gates and the stacks they gate.

    Batch normalisation with frozen weights keeps its statistics too.

    Raises:
        ConfigError: a pattern fits no parameter, or nothing is left to train.
    """
    own = {name: each for name, each in model.named_parameters() if not name.startswith(GATES)}
    if config.gated_only and hasattr(model, "gates"):
        for name, parameter in own.items():
            parameter.requires_grad_(any(f".{stack}." in f".{name}" for stack in model.gates.stacks))
    for name in matching(own, config.freeze, "train.freeze"):
        own[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(f"train.freeze {list(config.freeze)} leaves nothing to train")
    for part in model.modules():
        if isinstance(part, _BatchNorm) and part.affine and not part.weight.requires_grad:
            part.eval()


def parameter_groups(
    parameters: Mapping[str, nn.Parameter], config: TrainConfig, gates: GatesConfig | None
) -> list[dict[str, Any]]:
    """Groups for the optimizer: gates at their own rate; of the rest only matrices decay, and deeper layers are slower.

    Args:
        parameters: by name; those without gradients are left out.
    """
    trained = {name: each for name, each in parameters.items() if each.requires_grad}
    model = {name: each for name, each in trained.items() if f".{GATES}" not in f".{name}"}
    scales = layer_scales(list(parameters), config.layer_decay)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {(1.0, True): [], (1.0, False): []}
    for name, parameter in model.items():
        groups.setdefault((scales[name], parameter.dim() > 1), []).append(parameter)
    found: list[dict[str, Any]] = [
        {
            "params": members,
            "weight_decay": config.weight_decay if decays else 0.0,
            "lr": config.learning_rate * scale,
        }
        for (scale, decays), members in groups.items()
    ]
    if gates is not None:
        of_gates = [each for name, each in trained.items() if name not in model]
        found.append({"params": of_gates, "weight_decay": 0.0, "lr": gates.learning_rate})
    return found


def layer_scales(names: Sequence[str], decay: float) -> dict[str, float]:
    """What the learning rate of each parameter is multiplied by (layer-wise decay, Clark et al., ICLR 2020).

    Of a stack of N numbered layers, the last has 1, the one before it ``decay``, the first ``decay ** (N - 1)``, and
    what comes before the layers ``decay ** N``; final norms, output layers and all else have 1.

    Raises:
        ConfigError: there is a decay, and no numbered layer.
    """
    if decay == 1.0:
        return dict.fromkeys(names, 1.0)
    places = {name: match for name in names if (match := NUMBERED.match(name))}
    sizes: dict[str, int] = {}
    for match in places.values():
        sizes[match["owner"]] = max(sizes.get(match["owner"], 0), int(match["layer"]) + 1)
    if not sizes:
        raise ConfigError("train.layer_decay: this model has no numbered layers (layers.N, encoders.N or decoders.N)")

    def scale(name: str) -> float:
        if name in places:
            return decay ** (sizes[places[name]["owner"]] - 1 - int(places[name]["layer"]))
        for owner, size in sizes.items():
            if name.startswith(tuple(f"{owner}.{part}" for part in BEFORE_LAYERS)):
                return decay**size
        return 1.0

    return {name: scale(name) for name in names}
