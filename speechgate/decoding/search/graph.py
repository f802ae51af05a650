"""Steps of constant shapes, captured once as CUDA graphs and run by later searches too.

A captured step reads and writes fixed addresses.  So the tensors that a search holds when its step is captured stay
the graph's for good: what a step replaces is copied back to its place, and another search of the same shapes has its
own tensors copied there before it goes on.

Where there is no GPU the same happens step by step, without a graph: equal results, only slower.
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor


class Steps(Protocol):
    """A search: ``step`` neither changes a shape nor waits for the device."""

    def step(self) -> None: ...


def places_of(owner: object) -> Iterator[tuple[object, str]]:
    """Object and attribute of every tensor that ``owner`` and its parts hold, but for frozen parts such as weights."""
    for name, value in vars(owner).items():
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, Tensor):
                yield owner, name
            elif type(part).__module__.startswith(f"{__package__}.") and not _is_frozen(part):
                yield from places_of(part)


def _is_frozen(part: Any) -> bool:
    parameters = getattr(type(part), "__dataclass_params__", None)
    return parameters is not None and parameters.frozen


class CapturedStep[S: Steps]:
    """The step of ``search``, which has run at least once before in these very shapes, at fixed addresses.

    Args:
        search: gives its tensors away.
        pool: the memory that graphs share, where one runs at a time; None without a GPU.
    """

    def __init__(self, search: S, pool: Any) -> None:
        self.search = search
        self._places = list(places_of(search))
        self._tensors: list[Tensor] = []
        for owner, name in self._places:
            tensor = getattr(owner, name)
            self._tensors.append(tensor.clone() if _share_memory(tensor, self._tensors) else tensor)
        self._restore()
        self.run = self._step
        if pool is not None:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                self._step()
            self.run = graph.replay

    def load(self, search: S) -> None:
        """Go on with ``search``, which is of the same shapes: from now on ``self.search`` stands for it."""
        for tensor, (owner, name) in zip(self._tensors, places_of(search), strict=True):
            tensor.copy_(getattr(owner, name))
        self._restore()

    def _step(self) -> None:
        self.search.step()
        replaced = []
        for tensor, (owner, name) in zip(self._tensors, self._places, strict=True):
            value = getattr(owner, name)
            if value is not tensor:
                # What lies in a place that is about to be overwritten is saved first.
                replaced.append((tensor, value.clone() if _share_memory(value, self._tensors) else value))
        for tensor, value in replaced:
            tensor.copy_(value)
        self._restore()

    def _restore(self) -> None:
        for tensor, (owner, name) in zip(self._tensors, self._places, strict=True):
            setattr(owner, name, tensor)


def _share_memory(tensor: Tensor, others: list[Tensor]) -> bool:
    address = tensor.untyped_storage().data_ptr()
    return any(other.untyped_storage().data_ptr() == address for other in others)


class StepGraphs:
    """The captured steps of the latest searches, each for one key: what a step's shapes and weights depend on."""

    def __init__(self, most: int = 8) -> None:
        self._most = most
        self._by_key: OrderedDict[Hashable, CapturedStep[Any]] = OrderedDict()
        self._pool: Any = None

    def __len__(self) -> int:
        return len(self._by_key)

    def get(self, key: Hashable) -> CapturedStep[Any] | None:
        if key in self._by_key:
            self._by_key.move_to_end(key)
        return self._by_key.get(key)

    def capture(self, key: Hashable, search: Steps, on_gpu: bool) -> CapturedStep[Any]:
        """Capture the step of ``search``, and forget the one that was not used for longest if there are too many."""
        if on_gpu and self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        while len(self._by_key) >= self._most:
            self._by_key.popitem(last=False)
        self._by_key[key] = CapturedStep(search, self._pool if on_gpu else None)
        return self._by_key[key]

    def clear(self) -> None:
        """Forget all of them, and the memory they take."""
        self._by_key.clear()
        self._pool = None
