"""Decode directory -> scores.json and alignments.txt.

scores.json holds ``rows`` in the shape of results.json (plus ``counts`` for error rates) and ``diagnostics``: greedy
CTC, the deaf baselines, how many distinct hypotheses there are, and how many run on.  A model that guesses or repeats
itself shows there.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jiwer

from speechgate.files import write_json, write_text
from speechgate.gates.sites import module_shares
from speechgate.scoring import bootstrap
from speechgate.scoring.bleu import translation_score
from speechgate.scoring.decoded import Decoded, Utterance, by_task, read_decoded
from speechgate.scoring.metric import UNSEGMENTED, MetricStatistics
from speechgate.scoring.wer import COUNTS, align, error_rate
from speechgate.task import Task

SCHEMA = 1


def score_directory(decode_dir: Path) -> dict[str, Any]:
    """Score a decode directory, write scores.json and alignments.txt into it, and return the scores.

    Raises:
        ConfigError, ManifestError: as ``read_decoded``, and for an empty reference (the message names the cut).
    """
    decoded = read_decoded(decode_dir)
    scores = score_decoded(decoded)
    write_text(decode_dir / "alignments.txt", alignments(decoded.utterances))
    write_json(decode_dir / "scores.json", scores)
    return scores


def score_decoded(decoded: Decoded) -> dict[str, Any]:
    groups = by_task(decoded.utterances)
    rows = [
        _row(decoded, task, utterances, statistics)
        for task, utterances in groups.items()
        for statistics in task_statistics(task, utterances)
    ]
    diagnostics = {
        "ctc": [
            {"task": str(task), "decoder": "ctc", **_score(_ctc_errors(task, heard))}
            for task, utterances in groups.items()
            if task.kind == "asr" and (heard := [u for u in utterances if u.ctc_hypothesis is not None])
        ],
        "deaf": [
            {"task": str(task), "audio": condition, **_score(statistics)}
            for condition, deaf_utterances in decoded.deaf.items()
            for task, utterances in by_task(deaf_utterances).items()
            for statistics in task_statistics(task, utterances)
        ],
        "distinct_hypotheses": {
            str(task): {"distinct": len({u.hypothesis for u in utterances}), "utterances": len(utterances)}
            for task, utterances in groups.items()
        },
        "run_on_hypotheses": {
            str(task): sum(runs_on(utterance) for utterance in utterances) for task, utterances in groups.items()
        },
    }
    return {"schema": SCHEMA, "run": decoded.run, "rows": rows, "diagnostics": diagnostics}


def task_statistics(task: Task, utterances: Sequence[Utterance]) -> list[MetricStatistics]:
    """The metrics of a task: WER and CER for ASR (CER alone without word boundaries), BLEU and chrF for ST."""
    ids = [utterance.id for utterance in utterances]
    references = [utterance.reference for utterance in utterances]
    hypotheses = [utterance.hypothesis for utterance in utterances]
    if task.kind == "st":
        return [translation_score(metric, ids, references, hypotheses, task.tgt) for metric in ("bleu", "chrf")]
    metrics = ("cer",) if task.src in UNSEGMENTED else ("wer", "cer")
    return [error_rate(metric, ids, references, hypotheses, task.src) for metric in metrics]


def runs_on(utterance: Utterance) -> bool:
    """Whether a hypothesis has over twice the reference's words and four: one that repeats itself and does not end.

    Characters count where words are not set apart.
    """
    unsegmented = utterance.task.tgt in UNSEGMENTED
    length, expected = (
        len(text.replace(" ", "") if unsegmented else text.split())
        for text in (utterance.hypothesis, utterance.reference)
    )
    return length > 2 * expected + 4


def alignments(utterances: Iterable[Utterance]) -> str:
    """Word alignments (characters for languages without word boundaries) of all ASR utterances, by task and cut id."""
    blocks = []
    for task, group in by_task(utterances).items():
        if task.kind == "st":
            continue
        metric = "cer" if task.src in UNSEGMENTED else "wer"
        blocks.append(f"##### {task}\n")
        for utterance in group:
            output = align(metric, [utterance.id], [utterance.reference], [utterance.hypothesis], task.src)
            drawing = jiwer.visualize_alignment(output, show_measures=False, skip_correct=False)
            blocks.append(f"{utterance.id}\n{drawing.split(chr(10), 2)[2]}")  # without jiwer's own sentence heading
    return "\n".join(blocks)


def _row(decoded: Decoded, task: Task, utterances: Sequence[Utterance], statistics: MetricStatistics) -> dict[str, Any]:
    macs_vs_dense = sum(u.macs for u in utterances) / sum(u.macs_dense for u in utterances)
    gated = decoded.gated_sites
    share = module_shares(decoded.sites)
    closed = sum(share[site] for utterance in utterances for site in gated if utterance.gates[site] == "0")
    return {
        "corpus": decoded.corpus,
        "split": decoded.split,
        "task": str(task),
        "src": task.src,
        "tgt": task.tgt,
        "stack": decoded.stack,
        "sparsity_target": float(decoded.sparsity_target),
        "sparsity_modules": closed / (len(utterances) * sum(share[site] for site in gated)) if gated else 0.0,
        "sparsity_macs": 1.0 - macs_vs_dense,
        **_score(statistics),
        "seconds_per_utterance": decoded.seconds_per_utterance.get(str(task)),
        "time_vs_dense": 1.0 if decoded.is_dense else decoded.time_vs_dense.get(str(task)),
        "macs_vs_dense": macs_vs_dense,
        "checkpoint": decoded.checkpoint,
    }


def _score(statistics: MetricStatistics) -> dict[str, Any]:
    score = {
        "metric": statistics.metric,
        "value": statistics.value,
        "ci95": list(bootstrap.interval(statistics)),
        "signature": statistics.signature,
        "utterances": statistics.utterances,
    }
    if statistics.metric in ("wer", "cer"):
        score["counts"] = dict(zip(COUNTS, statistics.statistics_UK.sum(axis=0).tolist(), strict=True))
    return score


def _ctc_errors(task: Task, utterances: Sequence[Utterance]) -> MetricStatistics:
    return error_rate(
        "cer",
        [utterance.id for utterance in utterances],
        [utterance.reference for utterance in utterances],
        [utterance.ctc_hypothesis or "" for utterance in utterances],
        task.src,
    )
