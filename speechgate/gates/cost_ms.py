"""Milliseconds of each kind of module on the machine at hand: what a target in ``unit: ms`` counts.

A module's time is what closing it saves: the model is timed with all gates open and with one kind closed in all layers
of a stack, so any model that has sites can be measured, whatever its modules.
"""

import statistics
import time
from collections import Counter
from typing import Any

import torch
from torch import Tensor

from speechgate.gates.targets import BEAM, STEPS

SAMPLES = 64_000  # 4 s of audio at 16 kHz
REPEATS = 7
LEAST = 0.02  # of the mean: noise must not make a module free, or pay for closing it


@torch.inference_mode()
def measure_ms(model: Any, repeats: int = REPEATS) -> Tensor:
    """(S,) relative milliseconds of every site, 1 on average, of a model with gates on the device where it lies.

    The groups of a module get an equal share of its time each.

    One recording through the encoder; ``STEPS`` tokens of each of ``BEAM`` hypotheses through the decoder.  Medians of
    ``repeats`` turns, in which all variants alternate, so that other load on the machine falls on all.
    """
    gates, training = model.gates, model.training
    device = next(model.parameters()).device
    model.eval()
    sites = gates.sites
    kinds = list(dict.fromkeys((site.stack, site.kind) for site in sites))
    masks: dict[Any, Tensor] = {None: torch.ones(1, len(sites), dtype=torch.bool)}
    for stack, kind in kinds:
        masks[stack, kind] = torch.tensor([[(site.stack, site.kind) != (stack, kind) for site in sites]])
    seconds: dict[Any, list[tuple[float, float]]] = {key: [] for key in masks}
    for _ in range(repeats + 1):
        for key, mask in masks.items():
            gates.force(mask)
            seconds[key].append(_timed(model, device))
    gates.force(None)
    model.train(training)
    median = {
        key: [statistics.median(values) for values in zip(*taken[1:], strict=True)]  # the first turn warms up
        for key, taken in seconds.items()
    }
    saved = []
    sharing = Counter((site.stack, site.kind) for site in sites)
    for site in sites:
        place = 0 if site.stack == "encoder" else 1
        saved.append((median[None][place] - median[site.stack, site.kind][place]) / sharing[site.stack, site.kind])
    saved_S = torch.tensor(saved)
    mean = float(saved_S.clamp(min=0).mean())
    return (saved_S / max(mean, 1e-9)).clamp(min=LEAST)


def _timed(model: Any, device: torch.device) -> tuple[float, float]:
    """Seconds of the encoder and of the decoder."""
    generator = torch.Generator().manual_seed(0)
    speech_1N = (0.1 * torch.randn(1, SAMPLES, generator=generator)).to(device)
    start = _now(device)
    out_1TD, lengths_1 = model.encode(speech_1N, torch.tensor([SAMPLES]))
    middle = _now(device)
    tokens_WL = torch.randint(model.vocab_size, (BEAM, STEPS), generator=generator).to(device)
    steps_W = torch.full((BEAM,), STEPS)
    model.decoder(out_1TD.expand(BEAM, -1, -1), lengths_1.cpu().expand(BEAM), tokens_WL, steps_W)
    return middle - start, _now(device) - middle


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
