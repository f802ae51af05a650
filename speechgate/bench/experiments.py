"""The time of a corpus's gated experiments against its dense one."""

from collections.abc import Sequence

from rich.progress import track
from rich.table import Table

from speechgate.decoding.decode import examples_of
from speechgate.decoding.timing import times_against_dense
from speechgate.errors import ConfigError
from speechgate.hypotheses import decode_options, usual_search
from speechgate.model.checkpoint import load_checkpoint
from speechgate.recipe import Recipe
from speechgate.runinfo import pick_device


def bench_experiments(recipe: Recipe, names: Sequence[str]) -> Table:
    """A table of the time of gated experiments against the dense ones that they began as, turn by turn on test.

    Raises:
        ConfigError: there is no gated experiment, or one has no gates.
    """
    device = pick_device()
    folders = [recipe.folder_of(name) for name in names] or sorted(
        path.parent for path in recipe.home.glob("**/model.safetensors") if "gates_" in path.parent.name
    )
    if not folders:
        raise ConfigError(f"no gated experiment below {recipe.home}: train one with --sparsity first")
    examples = examples_of(recipe.cuts("test"), recipe.available_tasks())
    table = Table(title="Time against the dense model (1 = as slow), equal audio and output length")
    table.add_column("task")
    rows = {}
    for folder in track(folders, "timing"):
        dense_folder = recipe.dense_of(folder)
        if dense_folder is None:
            raise ConfigError(f"{folder} has no gates: nothing to time against its dense model")
        gated, dense = load_checkpoint(folder, device), load_checkpoint(dense_folder, device)
        rows[folder.name] = times_against_dense(gated, dense, examples, decode_options(usual_search(folder)))
    for name in rows:
        table.add_column(name, justify="right", overflow="fold")
    for task in next(iter(rows.values())):
        table.add_row(task, *(f"{ratios[task]:.2f}" for ratios in rows.values()))
    return table
