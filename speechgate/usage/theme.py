"""The look of all figures, light and dark, and the colours that they share with the report's page.

Colours tell apart with any colour vision: one hue from faint to strong for shares, orange against blue for differences,
Okabe and Ito's set for lines.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure

from speechgate.files import atomic_path

WIDTH_INCHES = 4.5  # two figures side by side on a desktop, one on a phone, without small print on either
DOTS_PER_INCH = 190


@dataclass(frozen=True)
class Theme:
    """Colours as "#rrggbb"; ``closed`` and ``open`` are the ends of a gate's scale."""

    name: str
    surface: str
    text: str
    muted: str
    rule: str
    closed: str
    open: str
    less: str
    more: str
    lines: tuple[str, ...]

    @property
    def share_colours(self) -> Colormap:
        return LinearSegmentedColormap.from_list("share", [self.closed, self.open])

    @property
    def difference_colours(self) -> Colormap:
        return LinearSegmentedColormap.from_list("difference", [self.less, self.closed, self.more])

    @contextmanager
    def apply(self) -> Iterator[None]:
        """Draw in this theme inside the block."""
        settings: Any = {  # matplotlib types the keys as one long Literal
            "figure.facecolor": self.surface,
            "axes.facecolor": self.surface,
            "axes.edgecolor": self.rule,
            "axes.labelcolor": self.muted,
            "axes.titlecolor": self.text,
            "text.color": self.text,
            "xtick.color": self.muted,
            "ytick.color": self.muted,
            "grid.color": self.rule,
            "legend.frameon": False,
            "font.size": 9,
            "axes.titlesize": 9.5,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "legend.fontsize": 8.5,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.linewidth": 0.7,
            "xtick.major.size": 0,
            "ytick.major.size": 0,
        }
        with matplotlib.rc_context(settings):
            yield


LIGHT = Theme(
    name="light",
    surface="#ffffff",
    text="#1d2126",
    muted="#5f6770",
    rule="#e3e6e8",
    closed="#edf1f2",
    open="#0f6b74",
    less="#c8670a",
    more="#2b62b8",
    lines=("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b88a00", "#56b4e9", "#7a5195", "#8a8d91"),
)
DARK = Theme(
    name="dark",
    surface="#191c1f",
    text="#e9ecee",
    muted="#a0a8af",
    rule="#30353a",
    closed="#2a2f33",
    open="#5fd0d6",
    less="#f0993e",
    more="#74a9ff",
    lines=("#56b4e9", "#f0883e", "#2fc79a", "#e39bc4", "#f0e442", "#9ad5ff", "#b79ad6", "#b5b9bd"),
)
THEMES = (LIGHT, DARK)


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure, whole or not at all."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=DOTS_PER_INCH, format="png")
