"""The figures of a report: what each shows, the sentence that helps to read it, and its files in light and dark."""

import base64
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from speechgate.report import plots
from speechgate.report.headlines import KIND_NAMES, kind_of, metric_label
from speechgate.report.models import Model
from speechgate.report.results import gated_names, primary_rows
from speechgate.usage.maps import draw_differences, draw_distances, draw_usage, from_mean
from speechgate.usage.masks import masks_by_context
from speechgate.usage.statistics import distances
from speechgate.usage.theme import THEMES, Theme, save_png


@dataclass(frozen=True)
class FigureSpec:
    """A figure not drawn yet; ``reading`` is its one-sentence reading aid, ``name`` that of its files."""

    name: str
    title: str
    reading: str
    draw: Callable[[Theme], Figure]


@dataclass(frozen=True)
class Drawn:
    """A figure on disk, with data URIs of its light and dark versions and its shape in pixels of the page."""

    name: str
    title: str
    reading: str
    light: str
    dark: str
    width: int
    height: int


def quality_figures(results: dict[str, Any]) -> list[FigureSpec]:
    """Quality against sparsity, a figure a kind of task and series of gated models (``gated_names``)."""
    specs = []
    names = gated_names(results["rows"])
    languages = sorted({row["src"] for row in results["rows"]})
    for kind, rows in _by_kind(primary_rows(results["rows"])).items():
        for name, stack in sorted({(names[row["checkpoint"]], row["stack"]) for row in rows if row["stack"] != "none"}):
            title = f"{metric_label(rows)}, {name.replace('both', 'encoder and decoder')} gated"
            reading = "Dense is on the left; a flat line means that closing modules costs nothing. Bars: 95% intervals."
            shown = [row for row in rows if row["stack"] == "none" or names[row["checkpoint"]] == name]
            draw = partial(plots.draw_quality_against_sparsity, shown, rows, stack, languages)
            file = f"quality_{kind}_{'_'.join(re.findall(r'[\w.]+', name))}"
            specs.append(FigureSpec(file, title, reading, draw))
    return specs


def time_figures(results: dict[str, Any]) -> list[FigureSpec]:
    """Quality against time and time against compute; none where time was not measured."""
    names = gated_names(results["rows"])
    timed = [row for row in primary_rows(results["rows"]) if row["time_vs_dense"] is not None]
    if all(row["stack"] == "none" for row in timed):
        return []
    specs = []
    for kind, rows in _by_kind(timed).items():
        if any(row["stack"] != "none" for row in rows):
            title = f"{metric_label(rows)} of {KIND_NAMES[kind]} against time"
            reading = "The further left, the faster; a large mark is the mean of one model, small ones are its tasks."
            specs.append(
                FigureSpec(f"time_{kind}", title, reading, partial(plots.draw_quality_against_time, rows, names))
            )
    reading = "On the dashed line all compute saved becomes time saved; below it some is lost to overhead."
    draw_compute = partial(plots.draw_compute_against_time, timed, names)
    return [*specs, FigureSpec("compute_time", "Time saved against compute saved", reading, draw_compute)]


def usage_figures(model: Model) -> list[FigureSpec]:
    """Heat maps of one gated model: tasks side by side, their difference, languages, distances."""
    decoded = model.decoded
    sites = [decoded.sites[index] for index in decoded.gated_sites]
    masks = masks_by_context(decoded)
    usage = {level: {c: masks_US.mean(axis=0) for c, masks_US in contexts.items()} for level, contexts in masks.items()}
    name = "_".join([*decoded.variant.split(), decoded.stack])
    stem = f"usage_{name}_{100 * decoded.sparsity_target:.0f}"
    tasks = {kind.upper(): usage["task"][kind] for kind in KIND_NAMES if kind in usage["task"]}
    specs = [
        FigureSpec(
            f"{stem}_tasks",
            "Modules in use, by task",
            "Strong colour: nearly every utterance runs the module; faint: nearly none does.",
            partial(draw_usage, tasks, sites),
        )
    ]
    if len(tasks) > 1:
        specs.append(
            FigureSpec(
                f"{stem}_difference",
                "Translation minus recognition",
                "Blue modules are used more for translation, orange ones more for recognition.",
                partial(draw_differences, {"ST − ASR": tasks["ST"] - tasks["ASR"]}, sites),
            )
        )
    if len(usage["language"]) > 1:
        specs.append(
            FigureSpec(
                f"{stem}_languages",
                "Each language minus the mean",
                "Faint maps mean that the language does not matter to the gates.",
                partial(draw_differences, from_mean(usage["language"]), sites),
            )
        )
    if len(masks["task x language"]) > 1:
        specs.append(
            FigureSpec(
                f"{stem}_distances",
                "Distance between contexts",
                "Faint blocks are contexts that share their modules; the diagonal is the spread inside one context.",
                partial(draw_distances, distances(masks["task x language"])),
            )
        )
    return specs


def draw(specs: Sequence[FigureSpec], folder: Path) -> list[Drawn]:
    """Write each figure as <name>.png and <name>-dark.png."""
    drawn = []
    for spec in specs:
        uris = {}
        for theme in THEMES:
            path = folder / (f"{spec.name}.png" if theme.name == "light" else f"{spec.name}-{theme.name}.png")
            figure = spec.draw(theme)
            save_png(figure, path)
            uris[theme.name] = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
        width, height = (round(96 * inches) for inches in figure.get_size_inches())
        drawn.append(Drawn(spec.name, spec.title, spec.reading, uris["light"], uris["dark"], width, height))
    return drawn


def _by_kind(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    kinds = {kind: [row for row in rows if kind_of(row) == kind] for kind in KIND_NAMES}
    return {kind: of_kind for kind, of_kind in kinds.items() if of_kind}
