"""The logged values of a run that was interrupted: one folder of metrics a session, one table in the end."""

import csv
import io
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from speechgate.training.weights_and_biases import WandbRun


def loggers(work: Path, update: int, wandb_project: str = "") -> list[Logger]:
    """CSV and TensorBoard for the session that begins at ``update``; what was undone before it is not shown.

    With the name of a project, Weights & Biases too (see ``WandbRun``).
    """
    found: list[Logger] = [
        CSVLogger(work / "metrics", name="", version=f"from-{update:08d}"),
        TensorBoardLogger(work, name="tensorboard", version="", purge_step=update or None),
    ]
    return [*found, WandbRun(wandb_project, work)] if wandb_project else found


def merged(work: Path) -> str:
    """One CSV of all sessions, a row an update; where two logged the same updates, the later session counts."""
    sessions = sorted((work / "metrics").glob("from-*/metrics.csv"))
    starts = [int(path.parent.name.partition("-")[2]) for path in sessions]
    columns: dict[str, None] = {}
    rows: dict[int, dict[str, str]] = {}
    for path, start in zip(sessions, starts, strict=True):
        with path.open(encoding="utf-8", newline="") as handle:
            reader = csv.DictReader(handle)
            columns |= dict.fromkeys(reader.fieldnames or ())
            rows = {step: row for step, row in rows.items() if step < start}
            for row in reader:
                rows.setdefault(int(row["step"]), {}).update({name: value for name, value in row.items() if value})
    out = io.StringIO()
    writer = csv.DictWriter(out, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row for _, row in sorted(rows.items()))
    return out.getvalue()
