"""The configuration of an experiment: what is trained, from what, and with which files and overrides."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from speechgate.config.gates import GatesConfig
from speechgate.config.model import AnyModel
from speechgate.config.reading import from_mapping, load_yaml
from speechgate.config.training import TrainConfig
from speechgate.errors import ConfigError

CONF_DIR = Path(__file__).resolve().parents[2] / "conf"


@dataclass(frozen=True)
class Experiment:
    """All of one training.

    Either ``model`` names a file of conf/model, or ``init`` an experiment of the same corpus whose model goes on.
    """

    name: str
    tasks: tuple[str, ...]
    model: AnyModel | None = None
    init: str | None = None
    gates: GatesConfig | None = None
    train: TrainConfig = field(default_factory=TrainConfig)

    def with_gates(self, stack: str | None, target: float | None) -> "Experiment":
        """The experiment with another stack or target, where given, and a name that says so: gates_decoder_0.50.

        Raises:
            ConfigError: it has no gates, or a dial, whose target is chosen when decoding.
        """
        if self.gates is None:
            if stack is not None or target is not None:
                raise ConfigError(f"experiment {self.name} has no gates: --stack and --sparsity need a conf with them")
            return self
        if target is not None and self.gates.budget:
            raise ConfigError(f"experiment {self.name} has a budget dial: --sparsity belongs to its decoding")
        stack = self.gates.stack if stack is None else stack
        target = self.gates.target if target is None else target
        gates = replace(self.gates, stack=stack, target=target)
        name = f"{self.name}_{stack}"  # one with a dial stands for all targets
        return replace(self, gates=gates, name=name if gates.budget else f"{name}_{target:.2f}")


def load_experiment(conf: str | Path, overrides: Iterable[str] = ()) -> Experiment:
    """Read a training configuration: a path, or the stem of a file in conf/train.

    ``base: NAME`` takes over what the file does not say itself from conf/train/NAME.yaml; ``model: NAME`` is replaced
    by conf/model/NAME.yaml.  ``overrides`` are dotted, such as ``train.updates=10``.
    """
    path = _training_conf(conf)
    values, overrides = _with_base(path), list(overrides)
    if wrong := [each for each in overrides if "=" not in each]:
        raise ConfigError(f"--set {wrong[0]!r}: give key=value, such as train.updates=10")
    if isinstance(values.get("model"), str):
        values["model"] = load_yaml(CONF_DIR / "model" / f"{values['model']}.yaml")
    try:
        merged = OmegaConf.merge(OmegaConf.create(values), OmegaConf.from_dotlist(overrides))
        plain = OmegaConf.to_container(merged, resolve=True)
    except (ValueError, YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"override of {path}: {error}") from error
    return from_mapping(Experiment, plain, str(path))  # type: ignore[arg-type]


def phases(conf: str | Path) -> list[Path]:
    """``conf`` after the configurations beside it that its ``init`` goes back to: together they begin from nothing."""
    path = _training_conf(conf)
    before = path.with_name(f"{load_experiment(path).init}.yaml")
    return [*(phases(before) if before.is_file() else ()), path]


def _training_conf(conf: str | Path) -> Path:
    return Path(conf) if str(conf).endswith(".yaml") else CONF_DIR / "train" / f"{conf}.yaml"


def _with_base(path: Path) -> dict[str, Any]:
    """The values of a training configuration and, where it does not say, those of its base."""
    values: dict[str, Any] = {"name": path.stem, **load_yaml(path)}
    if "base" not in values:
        return values
    base = _with_base(_training_conf(values.pop("base")))
    return OmegaConf.to_container(OmegaConf.merge(base, values))  # type: ignore[return-value]
