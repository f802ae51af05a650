"""The page's tables: all rows of results.json by kind of task, and the evidence that the dense model listens."""

from dataclasses import dataclass
from typing import Any

from speechgate.report.headlines import KIND_NAMES, LABELS, kind_of
from speechgate.report.results import gated_names, primary_rows

_MODEL_KEYS = ("stack", "sparsity_target", "checkpoint")


@dataclass(frozen=True)
class ResultTable:
    """Rows of one kind of task, and the values that they can be filtered by (the main metric first)."""

    kind: str
    rows: list[dict[str, Any]]
    languages: list[str]
    stacks: list[str]
    metrics: list[str]


def result_tables(results: dict[str, Any]) -> list[ResultTable]:
    """A table for each kind of task; a row also gets "label", "gated", "p_value" (None for dense) and "place".

    "place" says where interval and value lie on their metric's axis, in percent of its width: low, value, high.
    """
    p_values = {
        (*(model[key] for key in _MODEL_KEYS), test["task"], test["metric"]): test["p_value"]
        for model in results["diagnostics"]
        for test in model["versus_dense"]
    }
    names = gated_names(results["rows"])
    ends: dict[str, float] = {}
    for row in results["rows"]:
        ends[row["metric"]] = max(ends.get(row["metric"], 1.0), row["ci95"][1])
    tables = []
    for kind, name in KIND_NAMES.items():
        rows = [
            {
                **row,
                "label": LABELS[row["metric"]],
                "gated": names.get(row["checkpoint"], "dense"),
                "p_value": p_values.get(tuple(row[key] for key in (*_MODEL_KEYS, "task", "metric"))),
                "place": [100 * x / ends[row["metric"]] for x in (row["ci95"][0], row["value"], row["ci95"][1])],
            }
            for row in results["rows"]
            if kind_of(row) == kind
        ]
        rows.sort(key=lambda row: (row["task"], row["gated"] != "dense", row["gated"], row["sparsity_target"]))
        main = {row["metric"] for row in primary_rows(rows)}
        metrics = sorted({row["metric"] for row in rows}, key=lambda metric: (metric not in main, metric))
        if rows:
            tables.append(
                ResultTable(
                    kind=name,
                    rows=rows,
                    languages=sorted({row["src"] for row in rows}),
                    stacks=sorted({row["stack"] for row in rows} - {"none"}),
                    metrics=[LABELS[metric] for metric in metrics],
                )
            )
    return tables


def listening_rows(results: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a task of the dense model: main metric with real and with deaf audio, CTC, distinct outputs."""
    dense = next(model for model in results["diagnostics"] if model["stack"] == "none")
    ctc = {entry["task"]: entry["value"] for entry in dense["ctc"]}
    rows = []
    for row in primary_rows([row for row in results["rows"] if row["stack"] == "none"]):
        key = (row["task"], row["metric"])
        deaf = {entry["audio"]: entry["value"] for entry in dense["deaf"] if (entry["task"], entry["metric"]) == key}
        distinct = dense["distinct_hypotheses"][row["task"]]["distinct"]
        label = LABELS[row["metric"]]
        rows.append({**row, "label": label, "deaf": deaf, "ctc": ctc.get(row["task"]), "distinct": distinct})
    return rows
