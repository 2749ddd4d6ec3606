"""Lesson `foundations_agnostic`: its figures, with captions and alternative texts computed from the results."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from xai_lib import plotting
from xai_lib.plotting import number, style
from xai_lib.stats import Estimate, bootstrap_interval
from xai_lib.studies.foundations_agnostic import SHORT, Task
from xai_lib.studies.foundations_agnostic_curve_figures import BLUE, GREEN, RED, band
from xai_lib.studies.foundations_agnostic_global import (
    AGREEMENT,
    ALONE,
    FALL,
    TWIN,
    TWINS,
    Stand,
    leading,
)
from xai_lib.studies.foundations_agnostic_local import SAME, VALUE, WEIGHT

SHOWN = 8
"""Columns in a figure that ranks them."""


def importance(frame: pd.DataFrame) -> None:
    """Permutation importance of the leading columns, and of a column beside its copy."""
    names = leading(frame, SHOWN)
    figure = style.figure(3.9)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    style.dress(left, "fall of accuracy on held-out rows", grid="x")
    for shift, colour, marker, model in ((-0.15, BLUE, "o", SHORT[0]), (0.15, RED, "s", SHORT[1])):
        _dots(left, [_mean(frame, FALL, model, name) for name in names], shift, colour, marker, model)
    left.set_yticks(range(len(names)), names)
    left.locator_params(axis="x", nbins=5)
    style.dress(right, "fall of accuracy", grid="x")
    pair = [_mean(frame, FALL, TWINS, label) for label in (ALONE, TWIN)]
    _dots(right, pair, 0.0, GREEN, "^", TWINS)
    right.set_yticks([0, 1], style.wrapped([ALONE, TWIN], 14))
    right.set_xlim(0, None)
    for ax in (left, right):
        ax.invert_yaxis()
        ax.margins(y=0.08)
        ax.axvline(0, color=style.FAINT, linewidth=1, linestyle="--", zorder=1)
    right.set_ylim(1.6, -0.6)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=style.SMALL)
    means = {model: frame[(frame.metric == FALL) & (frame.model == model)].groupby("method").value.mean() for model in SHORT}
    span = "; ".join(f"{model} from {number(float(own.min()))} to {number(float(own.max()))}" for model, own in means.items())
    plotting.show(
        figure,
        name="permutation",
        caption=f"Permutation importance, mean and 95 % interval over {pair[0].n} shuffles. Left: the {len(names)} columns whose mean is "
        "furthest from 0 under either model; below 0 the model does better on these rows with the column shuffled. "
        "Right: a forest that has one column, and one that has the same column twice.",
        alt=f"Mean fall of accuracy over all columns: {span}. A column alone "
        f"{number(pair[0].value)}, beside its copy {number(pair[1].value)}; {pair[0].n} shuffles.",
    )


def stand(found: Stand, task: Task) -> None:
    """Prototypes and criticisms in the plane of most variance, and how well they stand for the table."""
    figure = style.figure(3.7)
    left, right = figure.subplots(1, 2)
    style.dress(left, "first principal component", "second principal component")
    for group, colour, marker in ((0, RED, "."), (1, BLUE, ".")):
        own = found.plane[task.y == group]
        left.plot(*own.T, marker, color=colour, alpha=0.35, markersize=4, label=task.test.class_names[group])
    for numbers, marker, face, label in ((found.chosen, "D", "white", "prototype"), (found.odd, "X", style.INK, "criticism")):
        left.plot(*found.plane[list(numbers)].T, marker, color=style.INK, markerfacecolor=face, markersize=7, label=label)
    style.dress(right, "number of rows chosen", "distance to the table (MMD)", grid="y")
    at = np.arange(1, len(found.chosen) + 1)
    right.plot(at, found.mmd, color=style.INK, marker="D", markersize=4, markerfacecolor="white", label="prototypes, greedy")
    band(
        right,
        at,
        [bootstrap_interval(values) for values in found.random.T],
        style.COLOURS[4],
        f"random rows ({len(found.random)} draws)",
    )
    right.set_ylim(0, None)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=style.SMALL)
    own = found.frame[(found.frame.metric == AGREEMENT) & (found.frame.method == "prototypes")]
    plotting.show(
        figure,
        name="prototypes",
        caption=f"{len(at)} prototypes and as many criticisms of n = {len(task.x)} training rows, chosen in all {len(task.columns)} columns and "
        "drawn in two. Right: the kernel distance between the chosen rows and all, beside random rows (mean and 95 % interval over draws).",
        alt=f"{len(at)} prototypes reach a distance of {number(float(found.mmd[-1]))}, random rows {number(float(found.random[:, -1].mean()))}. The nearest "
        f"prototype has the model's class for {', '.join(f'{number(v)} ({m})' for m, v in zip(own.model, own.value, strict=True))} of held-out rows.",
    )


def lime(frame: pd.DataFrame, p: Mapping[str, object]) -> None:
    """LIME's largest weights under the forest by seed, and how far the five largest stay the same."""
    weights = frame[(frame.metric == WEIGHT) & (frame.model == SHORT[0])]
    means = weights.groupby("method", sort=False).value.mean()
    names = list(means.abs().sort_values(ascending=False, kind="stable").index[:SHOWN])
    figure = style.figure(3.7)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    style.dress(left, "weight (probability)", grid="x")
    for y, name in enumerate(names):
        own = weights[weights.method == name].value
        left.plot(own, np.full(len(own), y), "o", color=BLUE, alpha=0.6, markersize=4)
    left.set_yticks(range(len(names)), names)
    left.invert_yaxis()
    left.axvline(0, color=style.FAINT, linewidth=1, linestyle="--")
    left.set_title(f"{SHORT[0]}, {weights.seed.nunique()} seeds", fontsize=style.TEXT, color=style.INK, loc="left")
    style.dress(right, "rows that LIME draws", "same five columns (Jaccard)", grid="y")
    counts = [int(label.split()[0]) for label in frame[frame.metric == SAME].method.unique()]
    found = {model: [_mean(frame, SAME, model, f"{count} draws") for count in counts] for model in SHORT}
    for (model, own), colour, marker in zip(found.items(), (BLUE, RED), ("o", "s"), strict=True):
        band(right, np.array(counts), own, colour, model, marker)
    right.set_xscale("log")
    right.set_xticks(counts, [str(count) for count in counts])
    right.minorticks_off()
    right.set_ylim(0, 1.05)
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=style.SMALL)
    plotting.show(
        figure,
        name="lime",
        caption=f"LIME at one held-out row. Left: its {len(names)} largest weights with {max(counts)} drawn rows, one dot a seed. Right: how far two "
        f"seeds name the same five columns, |A ∩ B| / |A ∪ B|, mean and 95 % interval over n = {found[SHORT[0]][0].n} pairs of seeds.",
        alt="; ".join(
            f"{model}: overlap {number(own[0].value)} with {counts[0]} draws, {number(own[-1].value)} with {counts[-1]}"
            for model, own in found.items()
        )
        + f". Largest weight: {names[0]}, {number(float(means[names[0]]))}.",
    )


def shares(lime_frame: pd.DataFrame, shap_frame: pd.DataFrame) -> None:
    """LIME and Shapley values of the same row, model by model."""
    figure = style.figure(4.0)
    axes = figure.subplots(1, 2)
    agree = []
    for ax, model in zip(axes, SHORT, strict=True):
        parts = [(lime_frame, WEIGHT), (shap_frame, VALUE)]
        own = [frame[(frame.metric == metric) & (frame.model == model)] for frame, metric in parts]
        means = [part.groupby("method", sort=False).value.mean() for part in own]
        names = list(means[1].abs().sort_values(ascending=False, kind="stable").index[:SHOWN])
        agree.append(float(means[0].corr(means[1].reindex(means[0].index), method="spearman")))
        style.dress(ax, "share of P(malignant)", grid="x")
        for frame, metric, shift, colour, marker, label in (
            (lime_frame, WEIGHT, -0.15, BLUE, "o", "LIME, weight"),
            (shap_frame, VALUE, 0.15, RED, "s", "SHAP, Shapley value"),
        ):
            _dots(ax, [_mean(frame, metric, model, name) for name in names], shift, colour, marker, label)
        ax.set_yticks(range(len(names)), style.wrapped(names, 14))
        ax.invert_yaxis()
        ax.axvline(0, color=style.FAINT, linewidth=1, linestyle="--", zorder=1)
        ax.set_title(model, fontsize=style.TEXT, color=style.INK, loc="left")
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=style.SMALL
    )
    n = [_mean(frame, metric, SHORT[0], names[0]).n for frame, metric in ((lime_frame, WEIGHT), (shap_frame, VALUE))]
    plotting.show(
        figure,
        name="shap-lime",
        caption=f"One row, two ways to share its probability out: means and 95 % intervals over {n[0]} seeds of LIME and {n[1]} of SHAP, the "
        f"{SHOWN} columns with the largest Shapley values. The two units are not the same question.",
        alt=f"Rank correlation of LIME's weights and Shapley values over all columns: {', '.join(f'{m} {number(v)}' for m, v in zip(SHORT, agree, strict=True))}; "
        f"largest Shapley value under the {SHORT[1]}: {names[0]}.",
    )


def _mean(frame: pd.DataFrame, metric: str, model: str, method: str) -> Estimate:
    """Mean over seeds, with its interval."""
    own = frame[(frame.metric == metric) & (frame.model == model) & (frame.method == method)]
    return bootstrap_interval(own.value.to_numpy(), resamples=1000)


def _dots(ax: Axes, found: Sequence[Estimate], shift: float, colour: str, marker: str, label: str) -> None:
    for y, one in enumerate(found):
        ax.hlines(y + shift, one.low, one.high, color=colour, linewidth=1.8)
    ax.plot([one.value for one in found], np.arange(len(found)) + shift, marker, color=colour, markersize=5, label=label)
