"""The time of a corpus's gated experiments against its dense one."""

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from speechgate.decoding.decode import examples_of
from speechgate.decoding.execution import Execution
from speechgate.decoding.timing import times_against_dense
from speechgate.errors import ConfigError
from speechgate.hypotheses import decode_options, usual_search
from speechgate.model.checkpoint import load_checkpoint
from speechgate.recipe import Recipe
from speechgate.runinfo import pick_device, read_description
from speechgate.task import Task


def bench_experiments(recipe: Recipe, names: Sequence[str], execution: Execution) -> Table:
    """A table of the time of gated experiments against the dense ones that they began as, turn by turn on test.

    Each is timed on the tasks that it was trained for.

    Raises:
        ConfigError: there is no gated experiment, or one has no gates.
    """
    device = pick_device()
    folders = [recipe.folder_of(name) for name in names] or sorted(
        path.parent for path in recipe.home.glob("**/model.safetensors") if "gates_" in path.parent.name
    )
    if not folders:
        raise ConfigError(f"no gated experiment below {recipe.home}: train one with --sparsity first")
    available, cuts = recipe.available_tasks(), list(recipe.cuts("test"))
    columns: dict[str, dict[str, float]] = {}
    for folder in folders:
        dense_folder = recipe.dense_of(folder)
        if dense_folder is None:
            raise ConfigError(f"{folder} has no gates: nothing to time against its dense model")
        name = str(folder.relative_to(recipe.home)) if folder.is_relative_to(recipe.home) else str(folder)
        gated, dense = load_checkpoint(folder, device), load_checkpoint(dense_folder, device)
        examples, options = examples_of(cuts, _tasks_of(folder, available)), decode_options(usual_search(folder))
        columns[name] = times_against_dense(gated, dense, examples, options, execution, label=f"timing {name}")
    table = Table(title="Time against the dense model (1 = as slow), equal audio and output length")
    table.add_column("task")
    for name in columns:
        table.add_column(name, justify="right", overflow="fold")
    for task in sorted({task for ratios in columns.values() for task in ratios}):
        table.add_row(task, *(f"{ratios[task]:.2f}" if task in ratios else "" for ratios in columns.values()))
    return table


def _tasks_of(folder: Path, available: Sequence[Task]) -> list[Task]:
    """Those of ``available`` that the experiment was trained for, or all where it does not say."""
    trained = read_description(folder).get("tasks")
    return [task for task in available if trained is None or str(task) in trained]
