"""Draw the course of trainings: the loss in training and on dev, from the losses.csv of each.

python scripts/plot_losses.py OUT.png EXP/CORPUS/EXPERIMENT [EXPERIMENT ...]
"""

import argparse
import csv
import sys
from pathlib import Path

import matplotlib.pyplot as plt

from speechgate.files import atomic_path


def course(folder: Path, column: str) -> list[tuple[int, float]]:
    """(update, value) of each row of losses.csv that has the column."""
    file = folder / "losses.csv"
    if not file.is_file():
        sys.exit(f"{folder} holds no losses.csv: give the folder of an experiment that was trained")
    with file.open(encoding="utf-8", newline="") as rows:
        return [(int(row["step"]) + 1, float(row[column])) for row in csv.DictReader(rows) if row.get(column)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("experiments", type=Path, nargs="+")
    arguments = parser.parse_args()
    figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    for number, folder in enumerate(arguments.experiments):
        colour, name = f"C{number}", f"{folder.parent.name}/{folder.name}"
        ax.plot(*zip(*course(folder, "train/loss"), strict=True), color=colour, alpha=0.25, linewidth=0.8)
        ax.plot(*zip(*course(folder, "valid/loss"), strict=True), "o-", color=colour, markersize=3, label=name)
    ax.set(xlabel="update", ylabel="loss, nats an utterance", yscale="log", title="dev (pale: batches of training)")
    ax.grid(alpha=0.3)
    ax.legend()
    with atomic_path(arguments.out) as temporary:
        figure.savefig(temporary, dpi=120)
    print(arguments.out)


if __name__ == "__main__":
    main()
