"""Gates fixed for good: closed modules, heads and channels leave the model, and its layers run without them.

Where task and language are known in advance the gates are too, and what they close need not be kept.

Shapes: G groups of a module.
"""

from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import nn

from speechgate.config import GatesConfig
from speechgate.errors import ConfigError
from speechgate.gates.attach import swap_in
from speechgate.gates.espnet import known_stacks
from speechgate.gates.layer import Kind
from speechgate.gates.sites import Adapter, Stack, in_groups, list_sites
from speechgate.gates.state import GateState


def drop_closed(
    model: Any, closed: Collection[str], adapter: Adapter = known_stacks, config: GatesConfig | None = None
) -> None:
    """Fix the gates of ``model``: the sites named in ``closed`` leave it with their parameters, all others stay open.

    The model must have no deciding gates (``detach`` takes them off).  It then runs, in any mode, as it did with these
    gates forced.

    Args:
        config: of the gates, where these close groups of heads or channels.

    Raises:
        ConfigError: a name that is no site of the model.
    """
    whole = adapter(model)
    stacks = in_groups(whole, config)
    parts = list(closed_parts(stacks, closed))
    modules = [(layer, kind.parts[0], narrowed) for layer, kind, narrowed in _narrowed(stacks, closed)]
    state = GateState()
    swap_in(whole, state)
    for stack in stacks:
        mask = [
            [any(str(site) not in closed for site in stack.sites(layer, kind)) for kind in stack.kinds]
            for layer in range(len(stack.layers))
        ]
        state.set(stack.name, torch.tensor(mask)[None], skip=True)
    for layer, kind in parts:
        for part in kind.parts:
            if hasattr(layer, part):
                setattr(layer, part, None)
    for layer, name, narrowed in modules:
        setattr(layer, name, narrowed)


def _narrowed(stacks: tuple[Stack, ...], closed: Collection[str]) -> Iterator[tuple[nn.Module, Kind, nn.Module]]:
    """Each layer and kind of which some groups are closed, and the module that is left of it."""
    for layer, kind, open_G in partly_closed(stacks, closed):
        assert kind.split is not None  # or there were no groups
        module = layer.get_submodule(kind.parts[0])
        yield layer, kind, kind.split.keep(module, kind.split.units(module, open_G))


def silence(stacks: tuple[Stack, ...], closed: Collection[str]) -> None:
    """Let the closed modules of layers that have to keep them add exactly 0: the last projection becomes zero.

    Raises:
        ConfigError: a name that is no site.
    """
    for layer, kind in closed_parts(stacks, closed):
        for parameter in layer.get_submodule(kind.out).parameters():
            nn.init.zeros_(parameter)


def closed_parts(stacks: tuple[Stack, ...], closed: Collection[str]) -> Iterator[tuple[nn.Module, Kind]]:
    """Each layer with each of its modules that does not run where the sites named in ``closed`` are closed.

    Raises:
        ConfigError: a name that is no site.
    """
    unknown = set(closed) - {str(site) for site in list_sites(stacks)}
    if unknown:
        raise ConfigError(f"this model has no site {sorted(unknown)[0]!r} to close")
    for stack in stacks:
        own = {kind.name for kind in stack.kinds}
        for index, layer in enumerate(stack.layers):
            shut = [kind for kind in stack.kinds if all(str(site) in closed for site in stack.sites(index, kind))]
            names = {kind.name for kind in shut}
            yield from ((layer, kind) for kind in shut)
            yield from ((layer, joint) for joint in stack.gated.joints if own & set(joint.of) <= names)


def partly_closed(
    stacks: tuple[Stack, ...], closed: Collection[str]
) -> Iterator[tuple[nn.Module, Kind, tuple[bool, ...]]]:
    """Each layer with each kind of which some groups are closed and some open, and which (G)."""
    for stack in stacks:
        for index, layer in enumerate(stack.layers):
            for kind in stack.kinds:
                open_G = tuple(str(site) not in closed for site in stack.sites(index, kind))
                if any(open_G) and not all(open_G):
                    yield layer, kind, open_G
