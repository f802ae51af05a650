"""results.json: a contract with other tools.

``{"schema": 1, "run": {...}, "rows": [...], "diagnostics": [...]}``; a row is one task, model and metric and holds
exactly the keys of ROW_TYPES.  What else the report needs (deaf baselines, CTC, paired tests) is in ``diagnostics``, an
entry a model.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speechgate.errors import ConfigError
from speechgate.files import write_json
from speechgate.report.models import Model
from speechgate.scoring.decoded import variant_of
from speechgate.scoring.metric import primary_metric

SCHEMA = 1
STACKS = ("encoder", "decoder", "both", "none")
METRICS = ("wer", "cer", "bleu", "chrf")
ROW_TYPES: dict[str, str] = {
    "corpus": "text",
    "split": "text",
    "task": "text",
    "src": "text",
    "tgt": "text",
    "stack": "stack",
    "sparsity_target": "number",
    "sparsity_modules": "number",
    "sparsity_macs": "number",
    "metric": "metric",
    "value": "number",
    "ci95": "interval",
    "signature": "text",
    "utterances": "count",
    "seconds_per_utterance": "time",
    "time_vs_dense": "time",
    "macs_vs_dense": "number",
    "checkpoint": "text",
}


def collect_results(models: Sequence[Model], run: dict[str, Any]) -> dict[str, Any]:
    """Put the scores of several models together, dense first, in the shape of results.json."""
    return {
        "schema": SCHEMA,
        "run": run,
        "rows": [{key: row[key] for key in ROW_TYPES} for model in models for row in model.scores["rows"]],
        "diagnostics": [
            {
                "stack": model.decoded.stack,
                "sparsity_target": float(model.decoded.sparsity_target),
                "checkpoint": model.decoded.checkpoint,
                **model.scores["diagnostics"],
                "versus_dense": model.versus_dense,
            }
            for model in models
        ],
    }


def write_results(path: Path, results: dict[str, Any]) -> None:
    """Check ``results`` against the contract and write them."""
    validate_results(results)
    write_json(path, results)


def validate_results(results: dict[str, Any]) -> None:
    """Check the contract.

    Raises:
        ConfigError: a key is missing, unknown or of the wrong type; the message names the row and the key.
    """
    if results.get("schema") != SCHEMA:
        raise ConfigError(f"results.json: schema is {results.get('schema')!r}, this version reads {SCHEMA}")
    if not isinstance(results.get("run"), dict):
        raise ConfigError("results.json: 'run' must be a mapping")
    if not isinstance(results.get("rows"), list):
        raise ConfigError("results.json: 'rows' must be a list")
    for number, row in enumerate(results["rows"]):
        where = f"results.json, row {number}"
        if not isinstance(row, dict):
            raise ConfigError(f"{where}: must be a mapping")
        if missing_or_extra := sorted(row.keys() ^ ROW_TYPES.keys()):
            raise ConfigError(f"{where}: missing or unknown keys {', '.join(missing_or_extra)}")
        for key, kind in ROW_TYPES.items():
            if not _is(kind, row[key]):
                raise ConfigError(f"{where}: {key!r} must be a {kind}, is {row[key]!r}")
        if row["stack"] == "none" and row["sparsity_target"] != 0:
            raise ConfigError(f"{where}: 'sparsity_target' of stack 'none' must be 0, is {row['sparsity_target']}")


def primary_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a task and model: the metric that its summary shows."""
    metrics: dict[str, list[str]] = {}
    for row in rows:
        metrics.setdefault(row["task"], []).append(row["metric"])
    return [row for row in rows if row["metric"] == primary_metric(metrics[row["task"]])]


def gated_names(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """What is gated in each checkpoint: "decoder", or "decoder (dial)" where several experiments gate that stack."""
    gated = {row["checkpoint"]: row["stack"] for row in rows if row["stack"] != "none"}
    variants = {checkpoint: variant_of(checkpoint, stack) for checkpoint, stack in gated.items()}
    several = {stack for stack in STACKS if len({variants[each] for each in gated if gated[each] == stack}) > 1}
    return {
        checkpoint: f"{stack} ({variants[checkpoint]})" if stack in several and variants[checkpoint] else stack
        for checkpoint, stack in gated.items()
    }


def _is(kind: str, value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match kind:
        case "text":
            return isinstance(value, str)
        case "stack":
            return value in STACKS
        case "metric":
            return value in METRICS
        case "number":
            return number
        case "time":  # null where it was not measured
            return number or value is None
        case "count":
            return isinstance(value, int) and number and value > 0
        case "interval":
            return isinstance(value, list) and len(value) == 2 and all(_is("number", bound) for bound in value)
    raise ValueError(f"unknown kind {kind!r}")
