"""Heat maps of module use: layers from left to right, kinds of module from top to bottom, one colour scale for all.

S gated sites, L layers, K kinds of one stack.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from speechgate.gates.sites import GateSite, kinds_of, module_shares
from speechgate.usage.statistics import Distances
from speechgate.usage.theme import WIDTH_INCHES, Theme

KIND_LABELS = {
    "ffn1": "FFN 1",
    "attn": "attention",
    "cgmlp": "cgMLP",
    "conv": "convolution",
    "ffn2": "FFN 2",
    "self_attn": "self-attention",
    "src_attn": "source attention",
    "ffn": "FFN",
}
_NUMBERED_LAYERS = 6  # more columns than this leave no room for a number in each cell
_NUMBERED_CONTEXTS = 10
_LEAST_LIMIT = 10.0  # percent: noise of a few utterances must not fill the whole scale
_COLUMNS = 2


@dataclass(frozen=True)
class Scale:
    """How percents become colours and text."""

    colours: Colormap
    low: float
    high: float
    form: str

    def mappable(self) -> ScalarMappable:
        return ScalarMappable(Normalize(self.low, self.high), self.colours)

    def text(self, value: float) -> str:
        text = self.form.format(value)
        return "0" if text in ("-0", "+0") else text.replace("-", "\u2212")


def draw_usage(usage: Mapping[str, np.ndarray], sites: Sequence[GateSite], theme: Theme) -> Figure:
    """One panel a context: the share of its utterances that run each module; ``usage`` holds (S,) shares in 0 to 1."""
    scale = Scale(theme.share_colours, 0, 100, "{:.0f}")
    return _draw(usage, sites, theme, scale, "share of utterances that run the module (%)")


def draw_differences(differences: Mapping[str, np.ndarray], sites: Sequence[GateSite], theme: Theme) -> Figure:
    """One panel a comparison: differences of such shares, (S,) in -1 to 1, on a scale centred on 0."""
    limit = max(_LEAST_LIMIT, *(100 * float(np.abs(values_S).max()) for values_S in differences.values()))
    scale = Scale(theme.difference_colours, -limit, limit, "{:+.0f}")
    return _draw(differences, sites, theme, scale, "difference in use (points)")


def draw_distances(found: Distances, theme: Theme) -> Figure:
    """Hamming distances between contexts; the diagonal is the distance of utterances of one context."""
    count = len(found.contexts)
    with theme.apply():
        figure = Figure(figsize=(WIDTH_INCHES, 1.2 + 0.36 * count), layout="constrained")
        ax = figure.subplots()
        percents_CC = 100 * found.hamming_CC
        scale = Scale(theme.share_colours, 0, max(_LEAST_LIMIT, float(np.nanmax(percents_CC))), "{:.1f}")
        _draw_cells(ax, percents_CC, scale, numbered=count <= _NUMBERED_CONTEXTS)
        ax.set_xticks(np.arange(count) + 0.5, found.contexts, rotation=40, ha="right", rotation_mode="anchor")
        ax.set_yticks(np.arange(count) + 0.5, found.contexts)
        ax.set_title("decisions that differ between two utterances (%)")
    return figure


def from_mean(usage: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Each context's use minus the mean over the contexts."""
    mean_S = np.mean(list(usage.values()), axis=0)
    return {context: usage_S - mean_S for context, usage_S in usage.items()}


def layer_grid(values_S: np.ndarray, sites: Sequence[GateSite], stack: str) -> np.ndarray:
    """Lay the values of one stack's sites out as (K, L); a module in groups has the mean over these."""
    layers, kinds = 1 + max(site.layer for site in sites if site.stack == stack), kinds_of(sites, stack)
    grid_KL, seen_KL = np.zeros((2, len(kinds), layers))
    for site, value, share in zip(sites, values_S, module_shares(sites), strict=True):
        if site.stack == stack:
            place = kinds.index(site.kind), site.layer
            grid_KL[place] += share * value
            seen_KL[place] = 1
    return np.where(seen_KL > 0, grid_KL, np.nan)


def _draw(
    panels: Mapping[str, np.ndarray], sites: Sequence[GateSite], theme: Theme, scale: Scale, label: str
) -> Figure:
    stacks = list(dict.fromkeys(site.stack for site in sites))
    kinds = [len(kinds_of(sites, stack)) for stack in stacks]
    columns = min(_COLUMNS, len(panels))
    bands = math.ceil(len(panels) / columns)
    height = bands * (0.32 * sum(kinds) + 0.5 * len(stacks)) + 0.6
    with theme.apply():
        figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
        axes = figure.subplots(bands * len(stacks), columns, squeeze=False, height_ratios=kinds * bands)
        for ax in axes.flat:
            ax.set_axis_off()  # an odd number of panels leaves a place empty
        for index, (context, values_S) in enumerate(panels.items()):
            band, column = divmod(index, columns)
            for row, stack in enumerate(stacks):
                ax = axes[band * len(stacks) + row, column]
                _draw_panel(ax, layer_grid(values_S, sites, stack), stack, kinds_of(sites, stack), scale)
                ax.set_title(context if len(stacks) == 1 else f"{context}, {stack}")
                if column:
                    ax.set_yticklabels([])
        bar = figure.colorbar(scale.mappable(), ax=axes, orientation="horizontal", aspect=45, shrink=0.6, pad=0.03)
        bar.outline.set_visible(False)
        bar.set_label(label)
    return figure


def _draw_panel(ax: Axes, grid_KL: np.ndarray, stack: str, kinds: Sequence[str], scale: Scale) -> None:
    layers = grid_KL.shape[1]
    ax.set_axis_on()
    _draw_cells(ax, 100 * grid_KL, scale, numbered=layers <= _NUMBERED_LAYERS)
    step = math.ceil(layers / 10)
    ax.set_xticks(np.arange(0, layers, step) + 0.5, [str(layer) for layer in range(0, layers, step)])
    ax.set_yticks(np.arange(len(kinds)) + 0.5, [KIND_LABELS.get(kind, kind) for kind in kinds])
    ax.set_xlabel(f"{stack} layer")


def _draw_cells(ax: Axes, percents: np.ndarray, scale: Scale, *, numbered: bool) -> None:
    ax.grid(False)
    ax.spines[:].set_visible(False)
    cells = ax.pcolormesh(percents, cmap=scale.colours, vmin=scale.low, vmax=scale.high)
    cells.set(edgecolor=ax.get_facecolor(), linewidth=1.5)
    ax.invert_yaxis()
    if not numbered:
        return
    for row, column in np.argwhere(~np.isnan(percents)):
        value = percents[row, column]
        red, green, blue, _ = scale.mappable().to_rgba(value)
        ink = "#101418" if 0.30 * red + 0.59 * green + 0.11 * blue > 0.5 else "#ffffff"
        ax.text(column + 0.5, row + 0.5, scale.text(value), ha="center", va="center", fontsize=7, color=ink)
