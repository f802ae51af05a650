"""A step as a CUDA graph."""

from collections.abc import Callable, Sequence

import torch


def capture(step: Callable[[], None], carried: Sequence[tuple[object, str]]) -> Callable[[], None]:
    """Capture ``step`` and return what runs it from now on.

    Args:
        step: work of which every shape and address stays the same, and which does not wait for the device.
        carried: object and attribute of each tensor that ``step`` replaces by a new one.  In the graph the new one is
            copied over the old at the end, for the next run to find it there.
    """
    before = [getattr(owner, name).clone() for owner, name in carried]
    for (owner, name), tensor in zip(carried, before, strict=True):
        setattr(owner, name, tensor)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
        for (owner, name), tensor in zip(carried, before, strict=True):
            tensor.copy_(getattr(owner, name))
            setattr(owner, name, tensor)
    return graph.replay
