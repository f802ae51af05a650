"""The debug model trained for a few updates on the bundled slice, against its recorded losses (``make smoke``).

A change that moves them on purpose records them anew: ``python -m tests.test_smoke``.
"""

import csv
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch

from speechgate.config import load_experiment
from speechgate.preparation import prepare
from speechgate.recipe import Recipe

RECORDED = Path(__file__).parent / "assets" / "losses" / "debug.csv"
COLUMNS = ("step", "train/loss", "valid/loss", "valid/ctc", "valid/attention")


def losses(home: Path) -> list[dict[str, str]]:
    """Train, and return the rows of losses.csv that hold a validation."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        recipe = Recipe("prompts", home / "data", home / "exp")
        prepare(recipe, "bundled")
        folder = recipe.train(load_experiment("debug", ["train.log_every=1"]))
    finally:
        torch.set_num_threads(threads)
    with (folder / "losses.csv").open(newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if row["valid/loss"]]
    return [{name: row[name] for name in COLUMNS} for row in rows]


@pytest.mark.smoke
def test_the_debug_model_learns_as_recorded(tmp_path: Path) -> None:
    with RECORDED.open(newline="") as handle:
        recorded = list(csv.DictReader(handle))
    found = losses(tmp_path)
    assert [row["step"] for row in found] == [row["step"] for row in recorded]
    for row, expected in zip(found, recorded, strict=True):
        for name in COLUMNS[1:]:
            # processors round differently, and updates make it grow
            assert float(row[name]) == pytest.approx(float(expected[name]), rel=5e-3), (row["step"], name)
    assert float(found[-1]["valid/loss"]) < float(found[0]["valid/loss"])


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        rows = losses(Path(folder))
    RECORDED.parent.mkdir(exist_ok=True)
    with RECORDED.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
