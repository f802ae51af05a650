"""Gate sites: the modules of a model that a gate may close, in the one order that everything else indexes.

Predictor, penalty, cost, recorded masks and maps all follow ``list_sites``: stack by stack, layer by layer, each
layer's kinds in the order of their execution, the groups of a module in order.  A model is described by its ``Stack``s;
what can be closed in a layer is said by the gated class of that layer (``speechgate.gates.layer``).

Shapes: B batch, T frames, D width.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from speechgate.config import GatesConfig
from speechgate.errors import ConfigError
from speechgate.gates.layer import Gated, Kind


@dataclass(frozen=True)
class GateSite:
    """One module: ``stack`` is "encoder" or "decoder", ``layer`` counts from 0, ``kind`` names the module in it.

    ``part`` is empty, or the group of a module in groups: "h2" the third group of its heads, "c0" the first of its
    channels.
    """

    stack: str
    layer: int
    kind: str
    part: str = ""

    def __str__(self) -> str:
        return f"{self.stack}.{self.layer}.{self.kind}" + (f".{self.part}" if self.part else "")


@dataclass(frozen=True)
class Stack:
    """One stack of a model.

    Attributes:
        name: "encoder" or "decoder".
        layers: its layers, all of one class.
        gated: the subclass of that class that obeys gates.
        width: D of the input that the gates look at.
        entry: the module whose call shows that input, before any layer of the stack runs.
        read: returns x_BTD and mask_BT (True on real frames) from that call's positional and keyword arguments.
            At module level, so that a gated model can be copied and pickled.
        groups: into how many groups its attention's "heads" and its FFNs' "channels" are divided; see ``in_groups``.
    """

    name: str
    layers: tuple[nn.Module, ...]
    gated: type[Gated]
    width: int
    entry: nn.Module
    read: Callable[[tuple[Any, ...], Mapping[str, Any]], tuple[Tensor, Tensor]]
    groups: Mapping[str, int] = field(default_factory=dict)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The modules that gates may close in each of its layers, in the order of execution.

        Raises:
            ConfigError: layers differ in the modules that they have.
        """
        kinds = {self.gated.kinds_in(layer) for layer in self.layers}
        if len(kinds) != 1:
            raise ConfigError(f"cannot gate the {self.name}: its layers differ in the modules that they have")
        return kinds.pop()

    def parts(self, kind: Kind) -> tuple[str, ...]:
        """The groups of a module of this kind, or one empty name for the whole module."""
        count = 1 if kind.split is None else self.groups.get(kind.split.unit, 1)
        return ("",) if kind.split is None or count == 1 else tuple(f"{kind.split.unit[0]}{i}" for i in range(count))

    def sites(self, layer: int, kind: Kind) -> tuple[GateSite, ...]:
        """The sites of one module."""
        return tuple(GateSite(self.name, layer, kind.name, part) for part in self.parts(kind))


Adapter = Callable[[Any], tuple[Stack, ...]]  # describes a model; raises a ConfigError if it cannot be gated


def stacks_of(stack: str) -> tuple[str, ...]:
    """The stacks that "encoder", "decoder" or "both" name."""
    return ("encoder", "decoder") if stack == "both" else (stack,)


def in_groups(stacks: Iterable[Stack], config: GatesConfig | None) -> tuple[Stack, ...]:
    """The stacks with the modules of those that are gated in the groups that ``config`` asks for.

    Raises:
        ConfigError: nothing to divide, a module that cannot be divided, or not into so many groups of equal size.
    """
    if config is None or not config.groups:
        return tuple(stacks)
    gated = stacks_of(config.stack)
    grouped = tuple(replace(s, groups=dict(config.groups)) if s.name in gated else s for s in stacks)
    for unit, count in config.groups.items():
        where = f"gates.groups.{unit} is {count}"
        units = 0
        for stack in grouped:
            for index, layer in enumerate(stack.layers):
                for kind in stack.kinds if stack.groups else ():
                    if kind.split is not None and kind.split.unit == unit:
                        units = kind.split.count(layer.get_submodule(kind.parts[0]))
                        if units == 0 or units % count:
                            site = GateSite(stack.name, index, kind.name)
                            raise ConfigError(f"{where}: {site} has {units or 'no'} {unit} that can be so divided")
        if not units:
            raise ConfigError(
                f"{where}: no module of the stack to gate ({config.stack}) has {unit} that can be divided; "
                f"leave {unit} out"
            )
    return grouped


def list_sites(stacks: Iterable[Stack]) -> tuple[GateSite, ...]:
    """All sites of a model's stacks, gated or not, in execution order."""
    return tuple(
        site
        for stack in stacks
        for layer in range(len(stack.layers))
        for kind in stack.kinds
        for site in stack.sites(layer, kind)
    )


def kinds_of(sites: Iterable[GateSite], stack: str) -> tuple[str, ...]:
    """The kinds of module that one stack's sites have, in the order of execution."""
    return tuple(dict.fromkeys(site.kind for site in sites if site.stack == stack))


def groups_of(sites: Iterable[GateSite], stack: str) -> tuple[int, ...]:
    """How many gates each of a stack's kinds has in a layer: 1, or one a group."""
    return tuple(Counter(site.kind for site in sites if site.stack == stack and site.layer == 0).values())


def module_shares(sites: Sequence[GateSite]) -> tuple[float, ...]:
    """What share of a module each site is: all of it, or one of its groups."""
    modules = [(site.stack, site.layer, site.kind) for site in sites]
    counts = Counter(modules)
    return tuple(1 / counts[module] for module in modules)
