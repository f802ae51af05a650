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

# What a closed gate saves in an encoder layer; the merge is saved where attn and cgmlp are both closed.
ENCODER_PARTS = {
    "ffn1": ("norm_ff_macaron", "feed_forward_macaron"),
    "attn": ("norm_mha", "attn"),
    "cgmlp": ("norm_mlp", "cgmlp"),
    "merge": ("depthwise_conv_fusion", "merge_proj"),
    "ffn2": ("norm_ff", "feed_forward"),
}
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
    watch(model.encoder.embed, "encoder.subsampling")
    for layer in model.encoder.encoders:
        for kind, names in ENCODER_PARTS.items():
            for name in names:
                watch(getattr(layer, name), f"encoder.{kind}")
    for kind, cls in DECODER_PARTS.items():
        patches.append(patch.object(cls, "__call__", timed(f"decoder.{kind}", cls.__call__)))
        patches.append(patch.object(cls, "__init__", timed(f"decoder.{kind}", vars(cls)["__init__"])))
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
