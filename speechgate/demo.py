"""The sweep and the demo: train gates at several points, decode and score each beside the dense model, report."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from speechgate.config import load_experiment
from speechgate.corpus.prompts_report import report_path, summary_table
from speechgate.errors import CheckpointError
from speechgate.hypotheses import decode
from speechgate.preparation import counts_of, prepare
from speechgate.recipe import Recipe
from speechgate.report.models import read_models
from speechgate.report.page import write_report
from speechgate.report.results import collect_results
from speechgate.report.table import results_table
from speechgate.runinfo import pick_device, run_info
from speechgate.scoring.score import score_directory


@dataclass(frozen=True)
class Point:
    """One point of a sweep: the stack to gate and the share of its modules to skip."""

    stack: str
    target: float


# One training a stack, its budget dial turned to each target.
DEMO_GATES = "gates_dial"
DEMO_POINTS = (
    Point("decoder", 0.25),
    Point("decoder", 0.5),
    Point("decoder", 0.7),
    Point("encoder", 0.25),
    Point("encoder", 0.5),
)


def run_demo(source: str, from_scratch: bool, data: Path, exp: Path) -> None:
    """Prepare the prompts corpus, start from the pretrained dense model (or train one), sweep, report."""
    console = Console()
    recipe = Recipe("prompts", data, exp)
    home = recipe.home / "demo"
    console.rule("1 of 3: the corpus")
    prepare(recipe, source)
    console.print(summary_table(json.loads(report_path(data).read_text())))
    console.rule("2 of 3: the dense model")
    if from_scratch:
        for conf in recipe.configurations():
            recipe.train(load_experiment(conf))
        dense = recipe.folder_of("dense")
    else:
        dense = copy_pretrained(recipe, home / "dense")
    console.rule("3 of 3: gates")
    run_points(recipe, DEMO_POINTS, DEMO_GATES, home, dense=dense)


def copy_pretrained(recipe: Recipe, folder: Path) -> Path:
    """Copy the recipe's dense checkpoint to ``folder``, the weights last, so that results can lie beside it."""
    if not (folder / "model.safetensors").is_file():
        if not (recipe.pretrained / "model.safetensors").is_file():
            raise CheckpointError(f"{recipe.pretrained} holds no checkpoint: train one from scratch")
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(recipe.pretrained.iterdir(), key=lambda path: path.suffix == ".safetensors"):
            shutil.copy(path, folder / path.name)
    return folder


def run_points(
    recipe: Recipe,
    points: Sequence[Point],
    conf: str | Path,
    home: Path,
    kinds: Sequence[str] = (),
    languages: Sequence[str] = (),
    dense: Path | None = None,
) -> Path:
    """Train, decode and score each point below ``home``, showing the table as it grows; returns the report's page."""
    console = Console()
    dense = dense or recipe.folder_of("dense")
    decoded = [decode(recipe, dense, kinds=kinds, languages=languages, deaf=True)]
    score_directory(decoded[0])
    console.print(table_of(decoded))
    for number, point in enumerate(points, start=1):
        console.rule(f"point {number} of {len(points)}: {point.stack}, {point.target:.0%} of its modules skipped")
        gates = load_experiment(conf).gates
        dial = gates is not None and bool(gates.budget)  # trained once for all points, then turned
        experiment = load_experiment(conf).with_gates(point.stack, None if dial else point.target)
        folder = recipe.train(experiment, kinds, languages, folder=home / experiment.name, init=dense)
        decoded.append(
            decode(recipe, folder, kinds=kinds, languages=languages, dense=dense, budget=point.target if dial else None)
        )
        score_directory(decoded[-1])
    page = write_page(recipe, decoded, home / "report")
    console.print(table_of(decoded))
    console.print(f"report: {page}")
    return page


def table_of(decoded: Sequence[Path]) -> Table:
    models = read_models(decoded)
    return results_table(collect_results(models, {}))


def write_page(recipe: Recipe, decoded: Sequence[Path], out: Path) -> Path:
    """The report over several decoded and scored models, with the counts of the corpus's preparation."""
    extra: dict[str, Any] = {"run": run_info(pick_device())}
    if counts := counts_of(recipe):
        extra["preparation"] = counts
    return write_report(decoded, out, f"speechgate: {recipe.corpus}", extra)
