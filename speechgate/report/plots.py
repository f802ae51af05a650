"""Quality against sparsity and time, and compute against time, drawn from the rows of results.json."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from speechgate.report.headlines import metric_label
from speechgate.usage.theme import WIDTH_INCHES, Theme

Row = dict[str, Any]
_HEIGHT_INCHES = 3.2
_MARKERS = "osD^vP*X"


def draw_quality_against_sparsity(
    shown: Sequence[Row], rows: Sequence[Row], stack: str, languages: Sequence[str], theme: Theme
) -> Figure:
    """One line a task, with 95% intervals, and their mean.

    Args:
        shown: primary rows of one kind of task and series of models that gate ``stack``, dense included.
        rows: those of all series, which both axes cover, so that figures compare.
        languages: all spoken languages of the report: a language keeps its colour and mark from figure to figure.
    """
    with theme.apply():
        figure, ax = _figure()
        tasks = sorted({row["task"] for row in shown})
        for index, task in enumerate(tasks):
            line = sorted((row for row in shown if row["task"] == task), key=lambda row: row["sparsity_modules"])
            values = [row["value"] for row in line]
            style = languages.index(line[0]["src"])
            whiskers = [
                [max(0.0, row["value"] - row["ci95"][0]) for row in line],
                [max(0.0, row["ci95"][1] - row["value"]) for row in line],
            ]
            ax.errorbar(
                # Intervals of tasks at the same sparsity would hide each other: a hair to the side for each.
                [100 * row["sparsity_modules"] + 0.5 * (index - (len(tasks) - 1) / 2) for row in line],
                values,
                yerr=whiskers,
                label=_language(line[0]),
                color=theme.lines[style % len(theme.lines)],
                marker=_MARKERS[style % len(_MARKERS)],
                markersize=4.5,
                linewidth=1.3,
                elinewidth=0.9,
            )
        _draw_mean(ax, shown, "sparsity_modules", theme)
        ax.set_xlim(-4, 104 * max(row["sparsity_modules"] for row in rows) + 2)
        ax.set_ylim(0, 1.05 * max(row["ci95"][1] for row in rows))
        ax.set_xlabel(f"{'modules' if stack == 'both' else stack + ' modules'} closed (%)")
        _label_quality(ax, rows)
        _legend(figure, ax)
    return figure


def draw_quality_against_time(rows: Sequence[Row], names: Mapping[str, str], theme: Theme) -> Figure:
    """The mean quality of each model against its time relative to dense; a line a series, targets written beside.

    Args:
        rows: primary rows of one kind of task whose time was measured, dense included.
        names: what is gated in each checkpoint (``gated_names``).
    """
    with theme.apply():
        figure, ax = _figure()
        ungated = [row for row in rows if row["stack"] == "none"]
        for index, (name, series) in enumerate(_series(rows, names)):
            colour = theme.lines[index % len(theme.lines)]
            times, values, targets = _means([*ungated, *series], "time_vs_dense")
            own = [(100 * row["time_vs_dense"], row["value"]) for row in series]
            _scatter(ax, own, markersize=3, color=colour, alpha=0.4)
            marked = [index for index, target in enumerate(targets) if target]
            line: dict[str, Any] = {
                "color": colour,
                "marker": _MARKERS[index % len(_MARKERS)],
                "linewidth": 1.8,
                "label": f"{name} gated",
            }
            ax.plot(times, values, markevery=marked, **line)
            for time, value, target in zip(times, values, targets, strict=True):
                if target:  # above and below in turn, since two stacks may come out alike
                    offset = (0, 8 if index % 2 == 0 else -15)
                    text = ax.annotate(f"{100 * target:.0f}%", (time, value), offset, textcoords="offset points")
                    text.set(ha="center", fontsize=8, color=colour)
        dense = [(100.0, row["value"]) for row in ungated]
        _scatter(ax, dense, markersize=3, color=theme.text, alpha=0.4)
        mean = [(100.0, fmean(value for _, value in dense))]
        _scatter(ax, mean, markersize=7, color=theme.text, label="dense", zorder=5)
        ax.set_ylim(0, 1.08 * max(row["value"] for row in rows))
        ax.set_xlabel("time of an utterance, dense = 100 (%)")
        _label_quality(ax, rows)
        _legend(figure, ax)
    return figure


def draw_compute_against_time(rows: Sequence[Row], names: Mapping[str, str], theme: Theme) -> Figure:
    """Time saved against multiply-accumulates saved, a point a task and model, beside the line where both agree.

    Args:
        rows: primary rows whose time was measured; dense ones are left out.
        names: what is gated in each checkpoint (``gated_names``).
    """
    with theme.apply():
        figure, ax = _figure()
        saved = {
            name: [(100 * row["sparsity_macs"], 100 * (1 - row["time_vs_dense"])) for row in series]
            for name, series in _series(rows, names)
        }
        every = [pair for points in saved.values() for pair in points]
        limit = 1.08 * max(5.0, *(max(pair) for pair in every))
        ax.plot([0, limit], [0, limit], color=theme.muted, linewidth=1, linestyle=(0, (4, 3)), label="as much time")
        for index, (name, points) in enumerate(saved.items()):
            style = {"color": theme.lines[index % len(theme.lines)], "marker": _MARKERS[index % len(_MARKERS)]}
            _scatter(ax, points, markersize=5, label=f"{name} gated", **style)
        ax.set_xlim(min(0, *(x for x, _ in every)), limit)
        ax.set_xlabel("compute saved (% of multiply-accumulates)")
        ax.set_ylabel("time saved (%)")
        _legend(figure, ax)
    return figure


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH_INCHES, _HEIGHT_INCHES), layout="constrained")
    ax = figure.subplots()
    ax.grid(axis="x", visible=False)
    return figure, ax


def _draw_mean(ax: Axes, rows: Sequence[Row], x_key: str, theme: Theme) -> None:
    xs, values, _ = _means(rows, x_key)
    ax.plot(xs, values, color=theme.text, linewidth=3, alpha=0.9, label="mean", zorder=5, solid_capstyle="round")


def _means(rows: Sequence[Row], x_key: str) -> tuple[list[float], list[float], list[float]]:
    """Mean x (in percent) and mean value of each model, and its target, ordered by target."""
    models: dict[tuple[float, str], list[Row]] = {}
    for row in rows:
        models.setdefault((row["sparsity_target"], row["checkpoint"]), []).append(row)
    ordered = sorted(models.items())
    xs = [100 * fmean(row[x_key] for row in group) for _, group in ordered]
    return xs, [fmean(row["value"] for row in group) for _, group in ordered], [target for (target, _), _ in ordered]


def _series(rows: Sequence[Row], names: Mapping[str, str]) -> list[tuple[str, list[Row]]]:
    """The rows of each series of gated models, with its name."""
    series: dict[str, list[Row]] = {}
    for row in rows:
        if row["stack"] != "none":
            series.setdefault(names[row["checkpoint"]], []).append(row)
    return sorted(series.items())


def _scatter(ax: Axes, points: Sequence[tuple[float, float]], **style: Any) -> None:
    xs, ys = zip(*points, strict=True)
    ax.plot(xs, ys, **{"marker": "o", "linestyle": "none", "markeredgewidth": 0, **style})


def _language(row: Row) -> str:
    return row["src"] if row["src"] == row["tgt"] else f"{row['src']}→{row['tgt']}"


def _label_quality(ax: Axes, rows: Sequence[Row]) -> None:
    better = "lower" if rows[0]["metric"] in ("wer", "cer") else "higher"
    ax.set_ylabel(f"{metric_label(rows)} ({better} is better)")


def _legend(figure: Figure, ax: Axes) -> None:
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, handlelength=1.6, columnspacing=1.4)
