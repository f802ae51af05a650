"""Draw a study of gates: quality against the share of closed modules, and which modules each task uses.

    python scripts/plot_study.py EXP/CORPUS OUT.png --map EXPERIMENT

Experiments are told by their names: dense; g_STACK_TARGET, a training each; dial_STACK, whose dial was turned; and the
baselines shallow_STACK_TARGET and layerdrop_STACK_TARGET.
"""

import argparse
import json
import sys
from pathlib import Path
from statistics import fmean

import matplotlib.pyplot as plt
import numpy as np

from speechgate.files import atomic_path
from speechgate.scoring.decoded import by_task, read_decoded

BASELINES = {"shallow": "x", "layerdrop": "+"}
COLOURS = {"decoder": "#1f6fb4", "encoder": "#c4511d", "both": "#5b8c2a"}


def curve(folders: list[Path], metric: str) -> list[tuple[float, float]]:
    """(closed share in percent, mean over the tasks) of each decoded folder that has the metric, by that share."""
    points = []
    for folder in folders:
        rows = [row for row in json.loads((folder / "scores.json").read_text())["rows"] if row["metric"] == metric]
        if rows:
            points.append(
                (100 * fmean(row["sparsity_modules"] or 0 for row in rows), fmean(row["value"] for row in rows))
            )
    return sorted(points)


def module_use(folder: Path) -> tuple[list[str], list[str], np.ndarray]:
    """Sites, tasks, and the share of utterances of each task in which a site is open (tasks, sites)."""
    decoded = read_decoded(folder)
    groups = by_task(decoded.utterances)
    use = [np.mean([[c == "1" for c in utterance.gates] for utterance in group], axis=0) for group in groups.values()]
    return [str(site) for site in decoded.sites], [str(task) for task in groups], np.array(use)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--map", required=True, help="experiment whose modules are shown")
    arguments = parser.parse_args()
    home: Path = arguments.corpus
    figure = plt.figure(figsize=(11, 7.2), layout="constrained")
    axes = figure.subplot_mosaic([["wer", "bleu"], ["map", "map"]], height_ratios=[3, 2])
    for metric, quality in (("wer", "WER, mean of the languages (%)"), ("bleu", "BLEU, mean of the pairs")):
        ax = axes[metric]
        for stack, colour in COLOURS.items():
            separate = curve([each.parent for each in home.glob(f"g_{stack}_*/decode_test/scores.json")], metric)
            dial = curve([each.parent for each in home.glob(f"dial_{stack}/decode_test_*/scores.json")], metric)
            for points, style, label in ((separate, "o-", "a training each"), (dial, "s--", "one dial")):
                if points:
                    ax.plot(*zip(*points, strict=True), style, color=colour, markersize=5, label=f"{stack}, {label}")
            for name, marker in BASELINES.items():
                points = curve([each.parent for each in home.glob(f"{name}_{stack}_*/decode_test/scores.json")], metric)
                if points:
                    ax.plot(*zip(*points, strict=True), marker, color=colour, markersize=8, label=f"{stack}, {name}")
        if not ax.lines:
            sys.exit(
                f"{home}: no g_STACK_TARGET or dial_STACK has {metric} in decode_test*/scores.json; score them first"
            )
        if not (home / "dense" / "decode_test" / "scores.json").is_file():
            sys.exit(f"{home}/dense/decode_test/scores.json is missing: decode and score the dense model first")
        dense = curve([home / "dense" / "decode_test"], metric)[0][1]
        ax.axhline(dense, color="black", linewidth=0.8, linestyle=":")
        ax.annotate(
            "dense", (ax.get_xlim()[1], dense), ha="right", textcoords="offset points", xytext=(0, 3), fontsize=8
        )
        ax.set(xlabel="modules of the gated stack closed (%)", ylabel=quality)
        ax.spines[["top", "right"]].set_visible(False)
    top = axes["wer"].get_ylim()[1]
    axes["wer"].set(yscale="log", yticks=[tick for tick in (5, 10, 20, 50, 100, 500, 1000) if tick < top])
    axes["wer"].minorticks_off()
    axes["wer"].yaxis.set_major_formatter("{x:g}")
    axes["wer"].legend(fontsize=8, frameon=False, loc="upper left")
    sites, tasks, use = module_use(home / arguments.map / "decode_test")
    gated = {site.split(".")[0] for site, least in zip(sites, use.min(0), strict=True) if least < 1}
    shown = [index for index, site in enumerate(sites) if site.split(".")[0] in gated]
    axes["map"].imshow(use[:, shown], aspect="auto", cmap="Blues", vmin=0, vmax=1)
    axes["map"].set_yticks(range(len(tasks)), tasks, fontsize=8)
    axes["map"].set_xticks(range(len(shown)), [sites[index] for index in shown], rotation=55, ha="right", fontsize=8)
    axes["map"].set_title(f"share of utterances in which a module runs: {arguments.map}", fontsize=9)
    with atomic_path(arguments.out) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


if __name__ == "__main__":
    main()
