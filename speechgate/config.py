"""Configuration: dataclasses for every YAML group, strict loading, and the resolved copy kept with a checkpoint.

A misspelt key is an error that names the file and suggests the nearest key.  Sections whose keys are ESPnet's
(``frontend``, ``encoder``, ``decoder``...) are checked against the constructor that they go to.
"""

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from speechgate.errors import ConfigError
from speechgate.whisper.config import WhisperConfig

CONF_DIR = Path(__file__).resolve().parents[1] / "conf"
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


@dataclass(frozen=True)
class GatesConfig:
    """The gates of one model; see docs/gates.md for the meaning and the formulas.

    ``groups`` divides modules that gates then close in part: attention into groups of "heads", FFNs of "channels".
    ``target`` is the share of ``stack`` to skip, in ``unit``; ``targets`` sets it apart for stacks, tasks and
    languages.  ``budget`` is the range of a dial, (low, high), empty without one; ``target`` is then where it stands
    until it is turned.  ``thresholds``, of stacks ("decoder") and of what ``targets`` sets apart in them
    ("decoder/asr"), are the scores above which gates open, 0 where there is none; the end of a training sets them.
    Shares of the run (``ramp``, ``settle``) are fractions of the number of updates.
    """

    stack: str = "decoder"
    scope: str = "global"
    granularity: str = "module"
    groups: dict[str, int] = field(default_factory=dict)
    policy: str = "learned"
    rule: str = "threshold"
    thresholds: dict[str, float] = field(default_factory=dict)
    target: float = 0.5
    targets: dict[str, float] = field(default_factory=dict)
    budget: tuple[float, ...] = ()
    unit: str = "modules"
    min_open: int = 0
    context: tuple[str, ...] = ("task", "source", "audio")
    context_dropout: float = 0.0
    shuffle_context: bool = False
    hidden: int = 32
    initial_logit: float = 2.0
    estimator: str = "gumbel"
    temperature: float = 0.66
    final_temperature: float = 0.66
    penalty: str = "both"
    alpha: float = 5.0
    ramp: float = 0.4
    settle: float = 0.4
    learning_rate: float = 1e-2
    seed: int = 0

    def __post_init__(self) -> None:
        choices("gates.stack", self.stack, ("encoder", "decoder", "both"))
        choices("gates.scope", self.scope, ("global", "local"))
        choices("gates.granularity", self.granularity, ("module", "layer"))
        choices("gates.policy", self.policy, ("learned", "random", "shallow", "layerdrop"))
        choices("gates.rule", self.rule, ("threshold", "budget"))
        choices("gates.unit", self.unit, ("modules", "macs", "ms"))
        choices("gates.estimator", self.estimator, ("gumbel", "straight_through", "hard_concrete"))
        choices("gates.penalty", self.penalty, ("absolute", "squared", "both", "lagrangian"))
        check_keys("gates.groups", self.groups, ("heads", "channels"))
        for unit, count in self.groups.items():
            if not isinstance(count, int) or count < 2:
                raise ConfigError(f"gates.groups.{unit} is {count}: give the number of groups of a module, at least 2")
        if self.groups and self.granularity == "layer":
            raise ConfigError("gates.groups and gates.granularity layer exclude each other: a layer has one gate")
        for name in self.context:
            if not name.startswith("vector:"):
                choices("gates.context", name, CONTEXTS)
        _ = self.vectors
        if not 0.0 <= self.target < 1.0:
            raise ConfigError(f"gates.target is {self.target}: give the share of modules to skip, 0 <= target < 1")
        if not 0.0 <= self.context_dropout < 1.0:
            raise ConfigError(f"gates.context_dropout is {self.context_dropout}: a probability, 0 <= p < 1")
        if self.ramp + self.settle > 1.0:
            raise ConfigError(f"gates.ramp {self.ramp} and gates.settle {self.settle} are shares of one run: sum <= 1")
        if min(self.temperature, self.final_temperature) <= 0:
            raise ConfigError("gates.temperature and gates.final_temperature must be above 0")
        if self.min_open < 0:
            raise ConfigError(f"gates.min_open is {self.min_open}: give how many modules of a stack always run")
        if self.budget:
            if len(self.budget) != 2 or not 0.0 <= self.budget[0] < self.budget[1] < 1.0:
                raise ConfigError(f"gates.budget is {list(self.budget)}: give [low, high] with 0 <= low < high < 1")
            if not self.budget[0] <= self.target <= self.budget[1]:
                raise ConfigError(f"gates.target {self.target} is outside gates.budget {list(self.budget)}")
            if self.targets:
                raise ConfigError("gates.budget and gates.targets exclude each other: a dial has one share for all")
        if self.rule == "threshold" and (self.budget or self.policy != "learned" or "budget" in self.context):
            raise ConfigError(
                "gates.budget, a policy that is not learned, and context 'budget' need gates.rule: budget"
            )
        if self.thresholds and self.rule != "threshold":
            raise ConfigError("gates.thresholds need gates.rule: threshold; under a budget no score opens by itself")
        for key in self.thresholds:
            choices("gates.thresholds", key.partition("/")[0], ("encoder", "decoder"))
        if self.policy != "learned" and self.scope == "local":
            raise ConfigError(f"gates.policy {self.policy} decides without inputs: it has no gates.scope local")

    @property
    def vectors(self) -> dict[str, int]:
        """The named vectors of the context with their sizes: ``vector:speaker:256`` is {"speaker": 256}."""
        found = {}
        for entry in self.context:
            if entry.startswith("vector:"):
                name, _, size = entry.removeprefix("vector:").partition(":")
                if not name.isidentifier() or not size.isdecimal() or int(size) == 0 or name in found:
                    raise ConfigError(f"gates.context: {entry!r}: write vector:NAME:SIZE, each name once")
                found[name] = int(size)
        return found


CONTEXTS = ("task", "source", "target", "audio", "difference", "budget")


@dataclass(frozen=True)
class TeacherConfig:
    """A pre-trained Whisper encoder whose output the encoder learns to predict (``model``: folder or hub name)."""

    model: str
    weight: float = 1.0


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters beside the linear layers that the patterns ``targets`` name, such as "*.linear_q".

    All else is frozen but the gates and the parameters that ``full`` names.  The adapters' output is scaled by
    ``alpha / rank``.
    """

    targets: tuple[str, ...]
    rank: int = 8
    alpha: int = 16
    dropout: float = 0.0
    full: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.targets or self.rank < 1:
            raise ConfigError("train.lora needs targets (patterns of linear layers) and a rank of at least 1")


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    ``max_duration`` is seconds of audio a batch, ``max_seconds`` the longest recording used.  ``max_minutes`` (0: no
    limit) ends the run by the clock, its schedules hurried along.  ``cache`` recordings are kept decoded in memory
    by each worker.  ``gated_only`` trains the gates and the stacks that they gate, and freezes the rest.
    ``recombine`` is the share of ASR examples replaced by words of other recordings (see data/recombine.py); it needs
    a checkpoint to continue from, whose CTC finds the words.
    ``freeze`` names parameters that keep their values by patterns such as "encoder.*"; ``lora`` trains adapters
    instead of weights; ``layer_decay`` multiplies the learning rate once for each layer below a stack's last one.
    ``accumulate`` batches make an update.  ``checkpoint_every`` and ``log_every`` count updates.  ``exact_resume``
    off begins a new data order at each resumption (docs/training.md).  ``on_oom``: "stop", or "halve" the seconds of
    a batch and go on.  ``distill`` is the share of the decoder's loss that the predictions of the dense model ``init``
    take from the reference (training/distillation.py).  The model that is kept has the mean weights of ``average``
    validations: the "best" or the "last" (``average_of``); or with "ema" the moving average over updates, of decay
    ``ema_decay``.
    """

    updates: int = 1000
    max_minutes: float = 0.0
    max_duration: float = 60.0
    min_seconds: float = 0.3
    max_seconds: float = 30.0
    buckets: int = 10
    workers: int = 0
    cache: int = 0
    gated_only: bool = False
    freeze: tuple[str, ...] = ()
    lora: LoraConfig | None = None
    layer_decay: float = 1.0
    task_temperature: float = 2.0
    ctc_weight: float = 0.3
    learning_rate: float = 1e-3
    warmup: int = 200
    final_scale: float = 0.02
    weight_decay: float = 1e-2
    clip: float = 1.0
    precision: str = "auto"
    speed_perturb: tuple[float, ...] = ()
    recombine: float = 0.0
    teacher: TeacherConfig | None = None
    distill: float = 0.0
    validate_every: int = 200
    patience: int = 0
    average: int = 1
    average_of: str = "best"
    ema_decay: float = 0.999
    accumulate: int = 1
    checkpoint_every: int = 200
    log_every: int = 20
    exact_resume: bool = True
    on_oom: str = "stop"
    seed: int = 0

    def __post_init__(self) -> None:
        choices("train.average_of", self.average_of, ("best", "last", "ema"))
        choices("train.on_oom", self.on_oom, ("stop", "halve"))
        for name in ("updates", "accumulate", "checkpoint_every", "validate_every", "log_every", "average"):
            if getattr(self, name) < 1:
                raise ConfigError(f"train.{name} is {getattr(self, name)}: give at least 1")
        if not 0.0 < self.layer_decay <= 1.0 or not 0.0 < self.ema_decay < 1.0:
            raise ConfigError(
                "train.layer_decay and train.ema_decay are factors: 0 < layer_decay <= 1, 0 < ema_decay < 1"
            )
        if not 0.0 <= self.distill <= 1.0 or (self.distill and self.ctc_weight == 1.0):
            raise ConfigError("train.distill is a share of the decoder's loss: 0 to 1, and 0 with train.ctc_weight: 1")
        if self.average_of == "ema" and self.average > 1:
            raise ConfigError(
                "train.average counts validations, and train.average_of: ema averages updates: leave it out"
            )
        if self.lora is not None and (self.freeze or self.gated_only):
            raise ConfigError(
                "train.lora freezes all but what train.lora.full names: no train.freeze, no train.gated_only"
            )


@dataclass(frozen=True)
class Experiment:
    """All of one training.

    Either ``model`` names a file of conf/model, or ``init`` an experiment of the same corpus whose model goes on.
    """

    name: str
    tasks: tuple[str, ...]
    model: ModelConfig | WhisperConfig | None = None
    init: str | None = None
    gates: GatesConfig | None = None
    train: TrainConfig = field(default_factory=TrainConfig)


def choices(key: str, value: str, known: Iterable[str]) -> str:
    """Return ``value`` if it is among ``known``; otherwise raise a ConfigError that lists them and the nearest."""
    known = list(known)
    if value in known:
        return value
    near = difflib.get_close_matches(str(value), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise ConfigError(f"{key}: {value!r} is not known{hint} Choose from: {', '.join(known)}")


def check_keys(where: str, given: Mapping[str, Any], allowed: Iterable[str]) -> None:
    """Raise a ConfigError for the first key of ``given`` that is not ``allowed``."""
    allowed = list(allowed)
    for key in given:
        choices(where, key, allowed)


def from_mapping[T](cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Build the dataclass ``cls`` from plain values; nested dataclasses are built from nested mappings.

    Raises:
        ConfigError: an unknown key, or a value of another type than the default's.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    check_keys(where, values, fields)
    built = {}
    for key, value in values.items():
        nested = _NESTED.get((cls.__name__, key))
        if key == "model" and isinstance(value, Mapping):
            value = model_config(value, f"{where}.{key}")
        elif nested is not None and isinstance(value, Mapping):
            value = from_mapping(nested, value, f"{where}.{key}")
        else:
            value = _checked(f"{where}.{key}", value, fields[key])
        built[key] = value
    try:
        return cls(**built)
    except TypeError as error:
        raise ConfigError(f"{where}: {error}") from error


def model_config(values: Mapping[str, Any], where: str) -> ModelConfig | WhisperConfig:
    """The configuration of a model: Whisper's has the key ``whisper``, all others are for ESPnet's classes."""
    if "whisper" in values:
        return from_mapping(WhisperConfig, values, where)
    return from_mapping(ModelConfig, values, where)


_NESTED: dict[tuple[str, str], type] = {
    ("Experiment", "gates"): GatesConfig,
    ("Experiment", "train"): TrainConfig,
    ("TrainConfig", "teacher"): TeacherConfig,
    ("TrainConfig", "lora"): LoraConfig,
}


def _checked(where: str, value: Any, spec: dataclasses.Field) -> Any:
    """Convert lists to tuples and integers to floats as the field's default asks; refuse other types."""
    default = spec.default
    if isinstance(value, list):
        return tuple(value)
    if isinstance(default, bool) or default is None or default is dataclasses.MISSING:
        return value
    if isinstance(default, float) and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, type(default)) or isinstance(value, bool):
        raise ConfigError(f"{where}: {value!r} is not of type {type(default).__name__}")
    return value


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ConfigError: no such file (the message lists its neighbours), or not a mapping.
    """
    if not path.is_file():
        known = sorted(p.stem for p in path.parent.glob("*.yaml"))
        raise ConfigError(f"no configuration {path}; in that folder: {', '.join(known) or 'nothing'}")
    values = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    if not isinstance(values, dict):
        raise ConfigError(f"{path} is not a mapping of keys to values")
    return {str(key): value for key, value in values.items()}


def load_experiment(conf: str | Path, overrides: Iterable[str] = ()) -> Experiment:
    """Read a training configuration: a path, or the stem of a file in conf/train.

    ``base: NAME`` takes over what the file does not say itself from conf/train/NAME.yaml; ``model: NAME`` is replaced
    by conf/model/NAME.yaml.  ``overrides`` are dotted, such as ``train.updates=10``.
    """
    path = _training_conf(conf)
    values = _with_base(path)
    if isinstance(values.get("model"), str):
        values["model"] = load_yaml(CONF_DIR / "model" / f"{values['model']}.yaml")
    try:
        merged = OmegaConf.merge(OmegaConf.create(values), OmegaConf.from_dotlist(list(overrides)))
    except ValueError as error:
        raise ConfigError(f"override of {path}: {error}") from error
    plain = OmegaConf.to_container(merged, resolve=True)
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


def to_mapping(config: Any) -> dict[str, Any]:
    """The plain form of a configuration dataclass, as stored in config.yaml."""
    return OmegaConf.to_container(OmegaConf.create(dataclasses.asdict(config)))  # type: ignore[return-value]


def to_yaml(config: Any) -> str:
    return OmegaConf.to_yaml(OmegaConf.create(to_mapping(config)))
