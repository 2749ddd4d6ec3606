"""One look for all figures: size, type sizes, colours. Sizes are in inches at 100 px per inch of the page's 700 px column."""

from collections.abc import Sequence
from itertools import cycle, islice
from textwrap import fill
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 7.0
DPI = 150
"""Pixels stored per inch: 1.5 times what the column shows, for screens with small pixels."""
TEXT = 9.5
SMALL = 8.5
INK = "#222222"
FAINT = "#8a8a8a"
NEUTRAL = "#d9d9d9"
"""Ground drawn where a picture may not be published, and for undefined cells."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, strongest on white first."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
SIGNED = "RdBu_r"
POSITIVE = "viridis"
CELLS = "YlGnBu"
"""For positive values that carry text: light where they are small."""


def figure(height: float, width: float = WIDTH, layout: Literal["constrained", "compressed"] = "constrained") -> Figure:
    """An empty opaque figure, laid out so that labels never overlap axes; "compressed" is for panels of fixed aspect."""
    fig = Figure(figsize=(width, height), dpi=DPI, layout=layout, facecolor="white", edgecolor="white")
    fig.get_layout_engine().set(w_pad=0.06, h_pad=0.06)  # type: ignore[union-attr, call-arg]
    return fig


def line_styles(n: int) -> list[tuple[str, str]]:
    """n pairs of colour and marker; both change from line to line."""
    return list(zip(islice(cycle(COLOURS), n), islice(cycle(MARKERS), n), strict=True))


def dress(ax: Axes, xlabel: str = "", ylabel: str = "", grid: str = "") -> None:
    """Labels, type sizes, two spines; `grid` is "", "x", "y" or "both"."""
    ax.set_xlabel(xlabel, fontsize=TEXT, color=INK)
    ax.set_ylabel(ylabel, fontsize=TEXT, color=INK)
    ax.tick_params(labelsize=SMALL, colors=INK, length=3)
    ax.spines[["top", "right"]].set_visible(False)
    if grid:
        ax.grid(axis="both" if grid == "both" else "x" if grid == "x" else "y", color="#e5e5e5", linewidth=0.8)
        ax.set_axisbelow(True)


def wrapped(texts: Sequence[str], width: int) -> list[str]:
    """Each text broken at spaces into lines of about `width` characters; words stay whole."""
    return [fill(text, width, break_long_words=False, break_on_hyphens=False) for text in texts]
