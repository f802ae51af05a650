"""bench.png: the time of every whole decoding, beside what the machine could do at best."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from speechgate.files import atomic_path

PARTS = (
    ("encoder_ms", "encoder", "#4477aa"),
    ("ctc_head_ms", "CTC head", "#ccbb44"),
    ("decoder_ms", "search", "#ee6677"),
)


def write_figure(result: dict[str, Any], path: Path) -> None:
    """Bars of encoder, CTC head and search for each case; ticks for the floors of compute and of bandwidth.

    The compute floor is all multiply-accumulates at the rate of a large matrix product; the bandwidth floor is the
    weights that the steps read, once a step, at the rate of a long sum.
    """
    cases = [case for case in result["cases"] if not case["name"].startswith("no ")]
    machine, model = result["machine"], result["model"]
    figure = Figure(figsize=(10, 0.34 * len(cases) + 1.6), layout="constrained")
    axes = figure.subplots()
    left = [0.0] * len(cases)
    rows = range(len(cases))
    for key, label, colour in PARTS:
        widths = [case[key] for case in cases]
        axes.barh(rows, widths, left=left, label=label, color=colour)
        left = [begin + width for begin, width in zip(left, widths, strict=True)]
    compute = [case["gmacs"] / machine["gmacs_per_second"] * 1e3 for case in cases]
    bandwidth = [case["gbytes_read_by_steps"] / machine["gbytes_per_second"] * 1e3 for case in cases]
    axes.scatter(compute, rows, marker="|", s=120, color="black", label="compute floor, all of it", zorder=3)
    axes.scatter(bandwidth, rows, marker="x", s=30, color="black", label="bandwidth floor, search", zorder=3)
    axes.set_yticks(rows, [case["name"] for case in cases])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds a batch")
    axes.set_title(f"{model['name']}, {model['vocabulary']} tokens; {machine['device']}, {machine['precision']}")
    axes.legend(loc="lower right", fontsize="small")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
