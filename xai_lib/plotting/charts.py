"""Figures that show numbers: estimates with intervals, curves with bands, matrices, rankings and regressions."""

import math
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from xai_lib import stats
from xai_lib.errors import InputError
from xai_lib.plotting import style
from xai_lib.stats import Estimate
from xai_lib.wording import number

Rows = pd.DataFrame | Sequence[tuple[str, Estimate]]
Numbers = Tensor | np.ndarray | pd.DataFrame | Sequence[Sequence[Estimate]]


def estimates(
    rows: Rows, *, xlabel: str, published: Mapping[str, float] | None = None, reference: float | None = None
) -> Figure:
    """Forest plot: one line per label with its interval, n at the right; published values as hollow diamonds.

    Args:
        rows: (label, Estimate) pairs, or a frame with columns label, value, low, high, n; drawn from top to bottom.
        xlabel: the quantity with its unit and direction.
        published: label -> value of the document, for labels that it reports.
        reference: where a vertical line marks no effect, for instance 0.
    """
    pairs = _pairs(rows)
    unknown = sorted(set(published or {}) - {label for label, _ in pairs})
    if unknown or not pairs:
        raise InputError(f"estimates: published values for {unknown}, but rows are {[label for label, _ in pairs]}")
    labels = style.wrapped([label for label, _ in pairs], 34)
    fig = style.figure(0.75 + sum(0.2 + 0.16 * (text.count("\n") + 1) for text in labels) + (0.35 if published else 0))
    ax = fig.subplots()
    style.dress(ax, xlabel, grid="x")
    if reference is not None:
        ax.axvline(reference, color=style.FAINT, linewidth=1, linestyle="--", zorder=1)
    for y, (label, estimate) in enumerate(pairs):
        ax.hlines(y, estimate.low, estimate.high, color=style.COLOURS[0], linewidth=2)
        face = "white" if math.isnan(estimate.low) else style.COLOURS[0]
        ours = ax.plot([estimate.value], [y], "o", color=style.COLOURS[0], markerfacecolor=face, markersize=6)[0]
        if y == 0:
            ours.set_label("this run, 95 % interval over images")
        if published and label in published:
            ax.plot(
                [published[label]], [y], "D", markersize=7, markerfacecolor="none", markeredgecolor=style.COLOURS[1],
                markeredgewidth=1.6, label="published" if label == next(iter(k for k, _ in pairs if k in published)) else None,
            )  # fmt: skip
        right = ax.get_yaxis_transform()
        ax.text(1.01, y, f"n = {estimate.n}", transform=right, va="center", fontsize=style.SMALL, color=style.INK)
    ax.set_yticks(range(len(pairs)), labels)
    ax.set_ylim(len(pairs) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    if published:
        fig.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=style.SMALL)
    return fig


def curve(
    x: Sequence[float],
    lines: Mapping[str, Sequence[Estimate]],
    *,
    xlabel: str,
    ylabel: str,
    log: bool = False,
    each: Mapping[str, np.ndarray] | None = None,
) -> Figure:
    """Estimates against x, one line with an interval band per label; a point without interval is hollow.

    Args:
        x: k positions.
        lines: label -> k estimates.
        log: logarithmic x axis, with a tick at each position (k up to 12).
        each: label -> (runs, k) values behind the estimates, each drawn as a small dot.
    """
    wrong = {label: len(points) for label, points in lines.items() if len(points) != len(x)}
    if wrong or not lines:
        raise InputError(f"curve: {len(x)} positions, but lines have {wrong or 'no entries'}; one estimate per position")
    fig = style.figure(3.9)
    ax = fig.subplots()
    style.dress(ax, xlabel, ylabel, grid="y")
    if log:
        ax.set_xscale("log")
    if len(x) <= 12:
        ax.set_xticks(list(x), [f"{value:g}" for value in x])
        ax.minorticks_off()
    for (label, points), (colour, marker) in zip(lines.items(), style.line_styles(len(lines)), strict=True):
        value, low, high = (np.array([getattr(p, key) for p in points]) for key in ("value", "low", "high"))
        ax.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
        ax.plot(x, value, color=colour, linewidth=1.8, marker=marker, markersize=5, label=label)
        for run in (each or {}).get(label, ()):
            ax.plot(x, run, ".", color=colour, markersize=3.5, alpha=0.6)
        alone = np.isnan(low)
        ax.plot(np.asarray(x)[alone], value[alone], marker, color=colour, markerfacecolor="white", markersize=5)
    fig.legend(loc="outside lower center", ncols=min(3, len(lines)), frameon=False, fontsize=style.SMALL)
    return fig


LINE = 70
"""Characters of the small size that fit side by side into the cells of a row."""


def matrix(
    values: Numbers, labels: Sequence[str], *, xlabel: str, columns: Sequence[str] | None = None, digits: int = 2
) -> Figure:
    """Annotated heat map; estimates are written with their intervals, NaN as a dash on grey.

    Colours run from -1 to 1 around white if a value is negative, else from 0 to 1 or to the largest value.

    Args:
        values: (rows, columns) numbers, or rows of `Estimate`.
        labels: row names.
        xlabel: what the colour means.
        columns: column names; default `labels`.
        digits: decimals written in the cells.
    """
    cells, columns = [list(row) for row in np.asarray(values, dtype=object)], list(columns or labels)
    if len(cells) != len(labels) or any(len(row) != len(columns) for row in cells):
        raise InputError(f"matrix: {len(labels)} labels and {len(columns)} columns do not fit the values")
    array = np.array([[cell.value if isinstance(cell, Estimate) else float(cell) for cell in row] for row in cells])
    signed = bool((array < 0).any())
    top = max(1.0, float(np.nanmax(np.abs(array)))) if np.isfinite(array).any() else 1.0
    cmap = matplotlib.colormaps[style.SIGNED if signed else style.CELLS].with_extremes(bad=style.NEUTRAL)
    intervals = any(isinstance(cell, Estimate) for row in cells for cell in row)
    fig = style.figure(1.3 + (0.52 if intervals else 0.42) * len(labels))
    ax = fig.subplots()
    shown = ax.imshow(np.ma.masked_invalid(array), cmap=cmap, vmin=-top if signed else 0, vmax=top, aspect="auto")
    texts = [[_cell_text(cell, digits) for cell in row] for row in cells]
    longest = max((len(line) for row in texts for text in row for line in text.splitlines()), default=1)
    size = max(6.0, min(style.SMALL if len(columns) <= 8 else 7.5, style.SMALL * LINE / (len(columns) * longest)))
    for i, row in enumerate(texts):
        for j, text in enumerate(row):
            dark = bool(np.isfinite(array[i, j])) and _luminance(*shown.to_rgba(array[i, j])[:3]) < 0.179
            ax.text(j, i, text, ha="center", va="center", fontsize=size, color="white" if dark else "black")
    names = style.wrapped(columns, max(8, 72 // len(columns)))
    slanted = max(len(word) for name in names for word in name.split()) > 72 // len(columns)
    ax.set_xticks(range(len(columns)), columns if slanted else names)
    ax.set_yticks(range(len(labels)), style.wrapped(labels, 22))
    ax.tick_params(labelsize=style.SMALL, length=0, colors=style.INK)
    if slanted:
        for tick in ax.get_xticklabels():
            tick.set(rotation=35, ha="right", rotation_mode="anchor")
    ax.spines[:].set_visible(False)
    bar = fig.colorbar(shown, ax=ax, pad=0.02, aspect=25)
    bar.set_label(xlabel, fontsize=style.SMALL, color=style.INK)
    bar.ax.tick_params(labelsize=style.SMALL, colors=style.INK)
    return fig


def top_values(values: Mapping[str, Tensor], *, k: int = 10, ylabel: str = "attribution") -> Figure:
    """The k largest values of one map per label as bars, on one common scale (Figure 11 of document 000).

    Args:
        values: label -> any shape, one image's map or attributions; signed values are ranked as they are.
        k: bars per label.
    """
    if not values:
        raise InputError("top_values: nothing to show; give label -> map of one image")
    columns = 2 if len(values) == 4 else min(3, len(values))
    lines = math.ceil(len(values) / columns)
    fig = style.figure(2.6 * lines)
    axes = fig.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    for ax in axes[len(values) :]:
        ax.axis("off")
    for i, (ax, (label, tensor)) in enumerate(zip(axes, values.items(), strict=False)):
        ordered = tensor.detach().cpu().double().flatten().sort(descending=True).values[:k].numpy()
        style.dress(ax, "rank" if i >= len(values) - columns else "", ylabel if i % columns == 0 else "", grid="y")
        ax.bar(np.arange(1, len(ordered) + 1), ordered, color=style.COLOURS[0], width=0.72)
        ax.set_xticks(range(1, len(ordered) + 1))
        ax.set_title(style.wrapped([label], 28)[0], fontsize=style.TEXT, color=style.INK)
        ax.axhline(0, color=style.INK, linewidth=0.8)
    return fig


def scatter_regression(
    x: stats.Values, y: stats.Values, *, xlabel: str, ylabel: str, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Figure:
    """Points, the least-squares line, and the fan of slopes inside the bootstrap interval through the point of means.

    NaN pairs are left out. The slope, its interval and n stand above the points.
    """
    slope = stats.regress(y, x, level=level, resamples=resamples, seed=seed)
    xs, ys = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    defined = ~(np.isnan(xs) | np.isnan(ys))
    xs, ys = xs[defined], ys[defined]
    fig = style.figure(3.9)
    ax = fig.subplots()
    style.dress(ax, xlabel, ylabel, grid="both")
    ax.plot(xs, ys, "o", color=style.COLOURS[0], markersize=4.5, alpha=0.65, markeredgewidth=0)
    if not math.isnan(slope.value):
        ends = np.array([xs.min(), xs.max()])
        low, middle, high = (ys.mean() + s * (ends - xs.mean()) for s in (slope.low, slope.value, slope.high))
        _fan(ax, ends, xs.mean(), ys.mean(), low, high)
        ax.plot(ends, middle, color=style.COLOURS[1], linewidth=2)
    interval = f"[{number(slope.low)}, {number(slope.high)}]" if not math.isnan(slope.low) else "(no interval)"
    title = f"slope {number(slope.value)} {interval}, n = {slope.n}"
    ax.set_title(title, fontsize=style.TEXT, color=style.INK, loc="left")
    return fig


def _luminance(*rgb: float) -> float:
    """Relative luminance of WCAG; black and white text are equally readable at 0.179."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _fan(ax: Axes, ends: np.ndarray, x: float, y: float, low: np.ndarray, high: np.ndarray) -> None:
    across = np.array([ends[0], x, ends[1]])
    one, other = (np.array([line[0], y, line[1]]) for line in (low, high))
    ax.fill_between(across, one, other, color=style.COLOURS[1], alpha=0.2, linewidth=0)


def _pairs(rows: Rows) -> list[tuple[str, Estimate]]:
    if not isinstance(rows, pd.DataFrame):
        return list(rows)
    missing = sorted({"label", "value", "low", "high", "n"} - set(rows.columns))
    if missing:
        raise InputError(f"estimates: the frame lacks columns {missing}; it has {list(rows.columns)}")
    columns = (rows[key].tolist() for key in ("label", "value", "low", "high", "n"))
    return [(label, Estimate(value, low, high, int(n))) for label, value, low, high, n in zip(*columns, strict=True)]


def _cell_text(cell: object, digits: int) -> str:
    if isinstance(cell, Estimate):
        if math.isnan(cell.value):
            return "–"
        ends = "" if math.isnan(cell.low) else f"\n[{cell.low:.{digits}f}, {cell.high:.{digits}f}]"
        return f"{cell.value:.{digits}f}{ends}".replace("-", "−")
    value = float(cell)  # type: ignore[arg-type]
    return "–" if math.isnan(value) else f"{value:.{digits}f}".replace("-", "−")
