"""Lesson `foundations_agnostic`: figures of curves over one column: PDP, ICE and ALE."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from xai_lib import effects, plotting
from xai_lib.plotting import number, style
from xai_lib.stats import Estimate
from xai_lib.studies import foundations_agnostic_toys as toys
from xai_lib.studies.foundations_agnostic import Task
from xai_lib.studies.foundations_agnostic_global import ALE, PDP, Curves, rise

BLUE, RED, GREEN = style.COLOURS[:3]


def ice(found: Mapping[str, Curves], task: Task, *, lines: int = 40) -> None:
    """Partial dependence over the curves that it is the mean of."""
    name = task.columns[task.column]
    figure = style.figure(3.5)
    axes = figure.subplots(1, 2, sharey=True)
    some = np.random.default_rng(0).permutation(len(task.x))[:lines]
    for ax, (model, curve) in zip(axes, found.items(), strict=True):
        style.dress(ax, f"{name} (standard deviations)", "P(malignant)" if ax is axes[0] else "", grid="y")
        ax.plot(curve.at, curve.ice[some].T, color=style.FAINT, linewidth=0.6, alpha=0.6)
        band(ax, curve.at, curve.mean, BLUE, "partial dependence, mean of all")
        ax.plot([], [], color=style.FAINT, linewidth=0.8, label=f"ICE, one row each ({lines} of {len(task.x)})")
        ax.set_title(model, fontsize=style.TEXT, color=style.INK, loc="left")
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=style.SMALL
    )
    swings = {model: np.ptp(curve.ice, axis=1) for model, curve in found.items()}
    plotting.show(
        figure,
        name="pdp-ice",
        caption=f"The probability of *malignant* with {name} set to each value in turn, everything else left as it is: single rows and their "
        f"mean with 95 % interval (bootstrap over n = {len(task.x)} training rows).",
        alt="; ".join(
            f"{model}: the mean curve rises by {number(rise(curve, PDP))}, single rows move by up to {number(float(swings[model].max()))}"
            for model, curve in found.items()
        )
        + f". n = {len(task.x)} rows.",
    )


def cancelling() -> None:
    """A product: the mean curve is flat, no single one is."""
    at, rows = np.linspace(-1, 1, 11), toys.square()
    lines = toys.curve(toys.crossing, rows, at)
    ale = effects.ale(toys.crossing, rows, 0)
    figure = style.figure(3.1, width=5.2)
    ax = figure.subplots()
    style.dress(ax, "$x_1$", "$f = x_1 x_2$", grid="both")
    for second in np.unique(rows[:, 1])[::3]:
        own = lines[np.argmax(rows[:, 1] == second)]
        ax.plot(at, own, color=RED if second > 0 else GREEN, linewidth=1, alpha=0.7)
    ax.plot([], [], color=RED, label="ICE, $x_2 > 0$")
    ax.plot([], [], color=GREEN, label="ICE, $x_2 < 0$")
    ax.plot(at, lines.mean(axis=0), color=BLUE, linewidth=2.6, label="partial dependence")
    ax.plot(ale.edges, ale.values, color=style.INK, linewidth=1.2, linestyle="--", label="ALE")
    figure.legend(loc="outside right center", frameon=False, fontsize=style.SMALL)
    plotting.show(
        figure,
        name="pdp-cancels",
        caption=f"$f = x_1 x_2$ on {len(rows)} rows of a grid, columns independent with mean 0. Means over rows are flat; no row is.",
        alt=f"ICE lines with slopes from {number(float(np.diff(lines).min() / 0.2))} to {number(float(np.diff(lines).max() / 0.2))}; the largest value "
        f"of partial dependence and ALE is {number(round(float(max(np.abs(lines.mean(axis=0)).max(), np.abs(ale.values).max())), 6))}.",
    )


def beside_the_rows() -> None:
    """Correlated columns: where the two curves ask, and what they say."""
    rows, at = toys.diagonal(), np.linspace(0, 1, 21)
    mean = toys.curve(toys.cliff, rows, at).mean(axis=0)
    ale = effects.ale(toys.cliff, rows, 0, bins=10)
    figure = style.figure(3.4)
    left, right = figure.subplots(1, 2)
    style.dress(left, "$x_1$", "$x_2$")
    asked = np.stack(np.meshgrid(at, rows[::7, 1]), axis=-1).reshape(-1, 2)
    left.fill_between([toys.APART, 1], [0, 1 - toys.APART], color="#f3ddcf", linewidth=0, label="the cliff")
    left.plot(*asked.T, ".", color=BLUE, markersize=2.5, label="asked by PDP and ICE")
    left.plot(*rows.T, color=style.INK, linewidth=2.5, label="the rows, and what ALE asks")
    style.dress(right, "$x_1$", "curve, less its value at 0", grid="both")
    right.plot(at, mean - mean[0], color=BLUE, marker="o", markersize=3.5, linewidth=1.8, label="partial dependence")
    right.plot(
        ale.edges, ale.values - ale.values[0] + ale.edges[0], color=RED, marker="s", markersize=3.5, linewidth=1.8, label="ALE"
    )
    right.plot(at, at, color=style.INK, linewidth=1, linestyle="--", label="$f$ along the rows")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=style.SMALL)
    plotting.show(
        figure,
        name="pdp-off-the-rows",
        caption=f"$f = ${toys.CLIFF} on {len(rows)} rows with $x_1 = x_2$, where it is nothing but $x_1$. Left: where the model is asked. "
        "Right: the curves that come of it.",
        alt=f"Over x1 from 0 to 1 the score along the rows rises by 1, ALE with a slope of {number(toys.slope(ale))}, partial dependence by "
        f"{number(float(mean[-1] - mean[0]))}, since it asks about pairs that never occur.",
    )


def ale(found: Mapping[str, Curves], task: Task) -> None:
    """Partial dependence and ALE of the table's column, both less their mean over the rows."""
    name, column = task.columns[task.column], task.x[:, task.column]
    figure = style.figure(3.5)
    axes = figure.subplots(1, 2, sharey=True)
    for ax, (model, curve) in zip(axes, found.items(), strict=True):
        style.dress(ax, f"{name} (standard deviations)", "P(malignant), centred" if ax is axes[0] else "", grid="y")
        band(ax, curve.at, curve.level, BLUE, "partial dependence")
        inside = (curve.ale.edges >= curve.at[0]) & (curve.ale.edges <= curve.at[-1])
        parts = (curve.ale.edges, curve.ale.values, curve.ale.low, curve.ale.high)
        x, y, low, high = (part[inside] for part in parts)
        ax.fill_between(x, low, high, color=RED, alpha=0.18, linewidth=0)
        ax.plot(x, y, color=RED, linewidth=2, marker="s", markersize=3, label="ALE")
        ax.plot(
            column,
            np.full(len(column), 0.02),
            "|",
            color=style.INK,
            alpha=0.25,
            markersize=5,
            transform=ax.get_xaxis_transform(),
        )
        ax.set_title(model, fontsize=style.TEXT, color=style.INK, loc="left")
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=style.SMALL
    )
    plotting.show(
        figure,
        name="pdp-ale",
        caption=f"Two curves of one column ({name}), both less their mean over n = {len(column)} training rows, with 95 % intervals over these; "
        "strokes at the foot are the rows. PDP sets every row to every value, ALE moves each row inside its own bin.",
        alt="; ".join(
            f"{model}: partial dependence rises by {number(rise(c, PDP))}, ALE by {number(rise(c, ALE))}"
            for model, c in found.items()
        )
        + f". Column {name}.",
    )


def band(ax: Axes, at: np.ndarray, found: Sequence[Estimate], colour: str, label: str, marker: str = "") -> None:
    """Estimates as a line with its interval."""
    value, low, high = (np.array([getattr(one, key) for one in found]) for key in ("value", "low", "high"))
    ax.fill_between(at, low, high, color=colour, alpha=0.2, linewidth=0)
    ax.plot(at, value, color=colour, linewidth=2.2, marker=marker, markersize=5, label=label)
