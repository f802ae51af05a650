"""A few utterances of every task with what each model made of them and the gates that it used."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from speechgate.gates.sites import GateSite, kinds_of, stacks_of
from speechgate.report.models import Model
from speechgate.scoring.decoded import by_task
from speechgate.task import Task
from speechgate.usage.maps import KIND_LABELS, layer_grid

PER_TASK = 2


@dataclass(frozen=True)
class GateRow:
    """One kind of module: the share of it that ran in each layer, first layer first; 0 or 1 without groups."""

    label: str
    open_L: tuple[float, ...]


@dataclass(frozen=True)
class Output:
    """One model's hypothesis; ``gates`` maps a gated stack to its rows, empty for the dense model."""

    model: str
    hypothesis: str
    gates: dict[str, list[GateRow]]


@dataclass(frozen=True)
class Sample:
    task: Task
    id: str
    audio_seconds: float
    reference: str
    outputs: list[Output]


def choose_samples(models: Sequence[Model]) -> list[Sample]:
    """Take PER_TASK utterances of each task, evenly spread over the cut ids, never chosen by their score.

    Shown are the dense model (the first) and of each gated stack the model whose target is nearest to 50%.
    """
    dense, *gated = models
    nearest: dict[str, Model] = {}
    for model in sorted(gated, key=lambda model: abs(model.decoded.sparsity_target - 0.5)):
        nearest.setdefault(model.decoded.stack, model)
    shown = [dense, *nearest.values()]
    found = [{(u.task, u.id): u for u in model.decoded.utterances} for model in shown]
    samples = []
    for task, utterances in by_task(dense.decoded.utterances).items():
        step = len(utterances) / PER_TASK
        for utterance in dict.fromkeys(utterances[int((index + 0.5) * step)] for index in range(PER_TASK)):
            key = (task, utterance.id)
            outputs = [
                Output(model.decoded.label, found_in[key].hypothesis, gate_rows(model, found_in[key].gates))
                for model, found_in in zip(shown, found, strict=True)
                if key in found_in
            ]
            samples.append(Sample(task, utterance.id, utterance.audio_seconds, utterance.reference, outputs))
    return samples


def gate_rows(model: Model, gates: str) -> dict[str, list[GateRow]]:
    """Lay one utterance's gates out by gated stack, kind and layer."""
    if model.decoded.is_dense:
        return {}
    return {stack: list(_rows_of(stack, model.decoded.sites, gates)) for stack in stacks_of(model.decoded.stack)}


def _rows_of(stack: str, sites: Sequence[GateSite], gates: str) -> Iterator[GateRow]:
    grid_KL = layer_grid(np.array([float(gate) for gate in gates]), sites, stack)
    for kind, open_L in zip(kinds_of(sites, stack), grid_KL.tolist(), strict=True):
        yield GateRow(KIND_LABELS.get(kind, kind), tuple(open_L))
