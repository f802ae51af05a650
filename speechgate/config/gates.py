"""The configuration of a model's gates."""

from dataclasses import dataclass, field

from speechgate.config.reading import check_keys, choices
from speechgate.errors import ConfigError

CONTEXTS = ("task", "source", "target", "audio", "difference", "budget")


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
