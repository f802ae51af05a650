"""Two systems on the same utterances: the paired bootstrap of every task, and of all tasks of a kind together."""

from collections.abc import Mapping, Sequence
from typing import Any

from speechgate.errors import ManifestError
from speechgate.scoring import bootstrap
from speechgate.scoring.decoded import Decoded, Utterance, by_task
from speechgate.scoring.metric import MetricStatistics, pool
from speechgate.scoring.score import task_statistics
from speechgate.task import KINDS, Task


def compare_decoded(baseline: Decoded, system: Decoded) -> list[dict[str, Any]]:
    """Paired bootstrap of ``system`` against ``baseline`` for every task and metric that both decoded.

    Raises:
        ManifestError: the two decoded different cuts for a task.
    """
    comparisons = [
        _comparison(str(task), before, after)
        for task, (one, other) in _paired(baseline, system).items()
        for before, after in zip(task_statistics(task, one), task_statistics(task, other), strict=True)
    ]
    return sorted(comparisons, key=lambda comparison: (comparison["task"], comparison["metric"]))


def compare_pooled(baseline: Decoded, system: Decoded) -> list[dict[str, Any]]:
    """The same over the utterances of all recognitions ("asr") and of all translations ("st").

    Metrics of different signatures (BLEU has a tokeniser for Chinese) are not pooled, and compared apart.

    Raises:
        ManifestError: as ``compare_decoded``.
    """
    paired = _paired(baseline, system)
    comparisons = []
    for kind in KINDS:
        pairs: dict[tuple[str, str], list[tuple[MetricStatistics, MetricStatistics]]] = {}
        for task, (one, other) in paired.items():
            if task.kind == kind:
                for pair in zip(task_statistics(task, one), task_statistics(task, other), strict=True):
                    pairs.setdefault((pair[0].metric, pair[0].signature), []).append(pair)
        for group in pairs.values():
            before, after = (pool(side) for side in zip(*group, strict=True))
            comparisons.append(_comparison(kind, before, after))
    return comparisons


def _paired(baseline: Decoded, system: Decoded) -> Mapping[Task, tuple[Sequence[Utterance], Sequence[Utterance]]]:
    groups = by_task(baseline.utterances), by_task(system.utterances)
    paired = {}
    for task in sorted(groups[0].keys() & groups[1].keys()):
        one, other = groups[0][task], groups[1][task]
        if odd := {utterance.id for utterance in one} ^ {utterance.id for utterance in other}:
            where = f"only one of {baseline.directory} and {system.directory}"
            raise ManifestError(f"cut {min(odd)}: decoded for {task} in {where}")
        paired[task] = one, other
    return paired


def _comparison(task: str, before: MetricStatistics, after: MetricStatistics) -> dict[str, Any]:
    found = bootstrap.compare(before, after)
    return {
        "task": task,
        "metric": before.metric,
        "baseline": before.value,
        "system": after.value,
        "delta": found.delta,
        "ci95": list(found.ci95),
        "p_value": found.p_value,
    }
