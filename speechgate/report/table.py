"""The results as a table for the terminal."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from speechgate.report.headlines import LABELS
from speechgate.report.numbers import interval, percent, points
from speechgate.report.results import primary_rows


def results_table(results: dict[str, Any]) -> Table:
    """A line a task and model: sparsity, WER or BLEU with its 95% interval, compute and time saved against dense.

    It fits a terminal of 80 columns, and the 80 columns that a log file is taken for.
    """
    table = Table(
        title="Quality and cost against the dense model", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    for column in ("task", "stack"):
        table.add_column(column, no_wrap=True)
    for column in ("target", "closed", "score", "95% interval", "compute\nsaved", "time\nsaved"):
        table.add_column(column, justify="right", no_wrap=True)
    rows = sorted(primary_rows(results["rows"]), key=lambda row: (row["task"], row["stack"] != "none", row["stack"]))
    for index, row in enumerate(rows):
        dense = row["stack"] == "none"
        last_of_task = index + 1 == len(rows) or rows[index + 1]["task"] != row["task"]
        languages = row["src"] if row["src"] == row["tgt"] else f"{row['src']}→{row['tgt']}"
        table.add_row(
            f"{row['task'].partition(':')[0].upper()} {languages}",
            "dense" if dense else row["stack"],
            "" if dense else percent(row["sparsity_target"], 0),
            "" if dense else percent(row["sparsity_modules"]),
            f"{LABELS[row['metric']]} {points(row['value']):>5}",
            interval(row["ci95"]),
            "" if dense else percent(row["sparsity_macs"]),
            "" if dense or row["time_vs_dense"] is None else percent(1 - row["time_vs_dense"]),
            end_section=last_of_task,
        )
    return table
