"""Where the time of one decoding goes, by the kind of module.

Every module is timed on its own, the device synchronised around it, which costs a little: shares are of use, not sums.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch

from speechgate.bench.machine import synchronise
from speechgate.decoding.search import ctc, modules, running
from speechgate.gates.espnet import known_stacks

DECODER_PARTS = {
    "self_attn": modules.RunningSelfAttention,
    "src_attn": modules.RunningSourceAttention,
    "ffn": modules.RunningFeedForward,
}


@contextmanager
def module_times(model: Any, device: torch.device) -> Iterator[Counter[str]]:
    """Milliseconds of each kind of module while the block runs this engine, by names such as "decoder.ffn"."""
    spent: Counter[str] = Counter()
    began: dict[str, float] = {}
    patches: list[Any] = []
    handles: list[Any] = []

    def timed(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            synchronise(device)
            started = time.perf_counter()
            try:
                return work(*args, **kwargs)
            finally:
                synchronise(device)
                spent[name] += (time.perf_counter() - started) * 1e3  # type: ignore[assignment]

        return run

    def watch(module: torch.nn.Module, name: str) -> None:
        def begin(*_: Any) -> None:
            synchronise(device)
            began[name] = time.perf_counter()

        def end(*_: Any) -> None:
            synchronise(device)
            spent[name] += (time.perf_counter() - began[name]) * 1e3  # type: ignore[assignment]

        handles.extend((module.register_forward_pre_hook(begin), module.register_forward_hook(end)))

    watch(model.frontend, "frontend")
    encoder = model.encoder
    for part in (encoder.embed,) if hasattr(encoder, "embed") else (encoder.conv1, encoder.conv2):
        watch(part, "encoder.subsampling")
    [stack] = [stack for stack in known_stacks(model) if stack.name == "encoder"]
    for layer in stack.layers:
        for kind in (*stack.kinds, *stack.gated.joints):
            for name in kind.parts:
                if isinstance(part := getattr(layer, name, None), torch.nn.Module):
                    watch(part, f"encoder.{kind.name}")
    for name, cls in DECODER_PARTS.items():
        patches.append(patch.object(cls, "__call__", timed(f"decoder.{name}", cls.__call__)))
        patches.append(patch.object(cls, "__init__", timed(f"decoder.{name}", vars(cls)["__init__"])))
    scorer = ctc.CtcPrefixScorer
    for method in ("score", "advance"):
        patches.append(patch.object(scorer, method, timed("ctc.prefix_scores", getattr(scorer, method))))
    output = running.RunningDecoder._output
    patches.append(patch.object(running.RunningDecoder, "_output", timed("decoder.output", output)))
    try:
        for each in patches:
            each.start()
        yield spent
    finally:
        for each in reversed(patches):
            each.stop()
        for handle in handles:
            handle.remove()
