"""Gates fixed for good: closed modules leave the model, and its layers run without them.

Where task and language are known in advance the gates are too, and what they close need not be kept.
"""

from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import nn

from speechgate.errors import ConfigError
from speechgate.gates.attach import swap_in
from speechgate.gates.espnet import known_stacks
from speechgate.gates.layer import Kind
from speechgate.gates.sites import Adapter, GateSite, Stack, list_sites
from speechgate.gates.state import GateState


def drop_closed(model: Any, closed: Collection[str], adapter: Adapter = known_stacks) -> None:
    """Fix the gates of ``model``: the sites named in ``closed`` leave it with their parameters, all others stay open.

    The model must have no deciding gates (``detach`` takes them off).  It then runs, in any mode, as it did with these
    gates forced.

    Raises:
        ConfigError: a name that is no site of the model.
    """
    stacks = adapter(model)
    parts = list(closed_parts(stacks, closed))
    state = GateState()
    swap_in(stacks, state)
    for stack in stacks:
        mask = [
            [str(GateSite(stack.name, layer, kind)) not in closed for kind in stack.kinds]
            for layer in range(len(stack.layers))
        ]
        state.set(stack.name, torch.tensor(mask)[None], skip=True)
    for layer, kind in parts:
        for part in kind.parts:
            if hasattr(layer, part):
                setattr(layer, part, None)


def closed_parts(stacks: tuple[Stack, ...], closed: Collection[str]) -> Iterator[tuple[nn.Module, Kind]]:
    """Each layer with each of its modules that does not run where the sites named in ``closed`` are closed.

    Raises:
        ConfigError: a name that is no site.
    """
    unknown = set(closed) - {str(site) for site in list_sites(stacks)}
    if unknown:
        raise ConfigError(f"this model has no site {sorted(unknown)[0]!r} to close")
    for stack in stacks:
        for index, layer in enumerate(stack.layers):
            shut = {kind for kind in stack.kinds if str(GateSite(stack.name, index, kind)) in closed}
            yield from ((layer, kind) for kind in stack.gated.kinds if kind.name in shut)
            own = set(stack.kinds)
            yield from ((layer, joint) for joint in stack.gated.joints if own & set(joint.of) <= shut)
