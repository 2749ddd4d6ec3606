"""Lesson `foundations_models`: figures of the linear models, of trees and of nets, with computed captions and alternative texts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from xai_lib import plotting, stats
from xai_lib.plotting import number, style
from xai_lib.stats import Estimate
from xai_lib.studies.common_figures import estimates_of
from xai_lib.studies.foundations_models import ACCURACY, FAMILIES, Split, values_of
from xai_lib.studies.foundations_models_linear import PAIR, PENALTIES, Resampled, both_signs, signed_margins
from xai_lib.studies.foundations_models_trees import (
    BELOW,
    FIRST,
    IMPURITY,
    MANY,
    PERMUTATION,
    SAME_FIRST,
    TWINS,
    TWO,
    Node,
    logits,
    twins,
)

CLASSES = ("malignant", "benign")
CLASS_COLOURS = (style.COLOURS[1], style.COLOURS[0])
TALL = 7.5
"""Type size where thirty lines stand below each other."""
SHOWN = 12
"""Features in the figure of importances, besides the noise."""


def accuracies(frame: pd.DataFrame) -> None:
    """Accuracy of every model over the splits."""
    pairs = estimates_of(frame, ACCURACY, list(FAMILIES))
    order = sorted(pairs[1:], key=lambda pair: pair[1].value)
    (low, least), (high, most) = order[0], order[-1]
    plotting.show(
        plotting.estimates(pairs, xlabel="accuracy on held-out patients"),
        name="accuracies",
        caption="Accuracy on the held-out quarter, mean over splits with 95 % intervals; n is the number of splits.",
        alt=f"From {number(least.value)} ({low}) to {number(most.value)} ({high}); always the largest class {number(pairs[0][1].value)}; n = {most.n} splits.",
    )


def pair(found: Resampled) -> None:
    """Weights of two features that are nearly one, over resamples, under both penalties."""
    figure = style.figure(3.5)
    axes = figure.subplots(1, 2)
    for k, (ax, penalty) in enumerate(zip(axes, PENALTIES, strict=True)):
        own = found.pair[k]
        style.dress(ax, f"weight of {PAIR[0]}", f"weight of {PAIR[1]}" if k == 0 else "", grid="both")
        centre, half = (own.min(axis=0) + own.max(axis=0)) / 2, 0.6 * np.ptp(own, axis=0).max()
        (low, down), (high, up) = centre - half, centre + half
        total = own.sum(axis=1).mean()
        ax.plot([low, high], [total - low, total - high], color=style.FAINT, linewidth=1.2, linestyle="--")
        ax.plot(*own.T, "o", color=style.COLOURS[k], markersize=4, alpha=0.7, markeredgewidth=0)
        ax.set(xlim=(low, high), ylim=(down, up), aspect="equal")
        ax.locator_params(nbins=5)
        ax.set_title(penalty, fontsize=style.TEXT, color=style.INK, loc="left")
    apart = [float((own[:, 0] - own[:, 1]).mean()) for own in found.pair]
    spread = [(own.sum(axis=1).std(ddof=1), (own[:, 0] - own[:, 1]).std(ddof=1)) for own in found.pair]
    plotting.show(
        figure,
        name="pair",
        caption=f"Logistic regression on {PAIR[0]} and {PAIR[1]} only, one point a resample of the training rows; mind the two scales. On the dashed line the weights have one sum.",
        alt=f"Deviation of the sum and of the difference of the two weights: {number(spread[0][0])} and {number(spread[0][1])} under the usual penalty, "
        f"{number(spread[1][0])} and {number(spread[1][1])} under the weak one. Mean of the difference: {number(apart[0])} and {number(apart[1])}; "
        f"{found.pair.shape[1]} resamples.",
    )


def coefficients(found: Resampled, split: Split) -> None:
    """Every coefficient over the resamples: median and the middle 95 %, under both penalties."""
    order = np.argsort(np.median(found.weights[0], axis=0))
    figure = style.figure(6.4)
    axes = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(order))
    for k, (ax, penalty) in enumerate(zip(axes, PENALTIES, strict=True)):
        low, middle, high = np.quantile(found.weights[k][:, order], [0.025, 0.5, 0.975], axis=0)
        both = both_signs(found.weights[k])[order]
        style.dress(ax, "coefficient (per standard deviation)", grid="x")
        ax.axvline(0, color=style.FAINT, linewidth=1)
        ax.hlines(places, low, high, color=style.COLOURS[k], linewidth=2, alpha=0.7)
        for own, face, label in ((~both, style.COLOURS[k], "one sign"), (both, "white", "both signs")):
            ax.plot(middle[own], places[own], "o", color=style.COLOURS[k], markerfacecolor=face, markersize=4.5, label=label)
        ax.set_title(
            f"{penalty}: {both.sum()} of {len(both)} with both signs", fontsize=style.TEXT, color=style.INK, loc="left"
        )
    axes[0].set_yticks(places, [split.columns[j] for j in order], fontsize=TALL)
    axes[0].set_ylim(-0.7, len(order) - 0.3)
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=style.SMALL
    )
    wide = [np.median(np.ptp(np.quantile(own, [0.025, 0.975], axis=0), axis=0)) for own in found.weights]
    changing = [int(both_signs(own).sum()) for own in found.weights]
    plotting.show(
        figure,
        name="coefficients",
        caption="Median and middle 95 % of each coefficient over resamples of the training rows; positive speaks for benign. Hollow: each sign occurs in "
        "at least 5 % of the resamples. The two axes differ.",
        alt=f"{changing[0]} of {len(order)} coefficients have both signs under the usual penalty, {changing[1]} under the weak one; median width of the "
        f"ranges {number(wide[0])} and {number(wide[1])}; {found.weights.shape[1]} resamples.",
    )


def margins(split: Split) -> None:
    """Signed distances from the border, support vectors apart."""
    found = signed_margins(split)
    figure = style.figure(3.2)
    axes = figure.subplots(1, 2, sharey=True)
    for ax, (label, (values, holds)) in zip(axes, found.items(), strict=True):
        style.dress(ax, "score for the own class, y f(x)", "training patients" if ax is axes[0] else "", grid="y")
        width = 1 / max(1, round(30 / float(np.ptp(values))))
        edges = (
            np.arange(np.floor(values.min() / width), np.ceil(values.max() / width) + 1) * width + 1e-4
        )  # 1 falls left of its line
        parts = [values[~holds], values[holds]]
        names = ["other rows", "support vectors"]
        ax.hist(parts, edges, stacked=True, color=[style.NEUTRAL, style.COLOURS[1]], label=names)
        ax.axvline(0, color=style.INK, linewidth=1)
        ax.axvline(1, color=style.INK, linewidth=1, linestyle="--")
        ax.set_title(f"{label}: {holds.sum()} of {len(holds)}", fontsize=style.TEXT, color=style.INK, loc="left")
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=style.SMALL
    )
    counts = {label: int(holds.sum()) for label, (_, holds) in found.items()}
    wrong = {label: int((values < 0).sum()) for label, (values, _) in found.items()}
    plotting.show(
        figure,
        name="margins",
        caption="Training patients by the score of their own class. Left of the solid line they are on the wrong side; the dashed line is the edge of the margin.",
        alt="; ".join(
            f"{label}: {counts[label]} support vectors, {wrong[label]} training rows on the wrong side" for label in counts
        )
        + f"; {len(split.y_train)} training rows.",
    )


def tree(made: Sequence[Node], split: Split) -> None:
    """The tree from left to right: questions, counts, leaves in the colour of their class."""
    leaves = [one for one in made if one.question is None]
    deepest = max(one.depth for one in made)
    figure = style.figure(0.5 + 0.62 * len(leaves))
    ax = figure.subplots()
    ax.set(xlim=(-0.42, deepest + 0.42), ylim=(len(leaves) - 0.4, -0.6))
    ax.axis("off")
    for one in made:
        for to, word in ((one.yes, "yes"), (one.no, "no")):
            if to is not None:
                _edge(ax, one, made[to], word)
        _box(ax, one)
    wrong = sum(min(one.counts) for one in leaves)
    root = made[0].question or "none"
    plotting.show(
        figure,
        name="tree",
        caption=f"The tree, in original units. Numbers are training patients, {CLASSES[0]} and {CLASSES[1]}; a leaf says the class it has more of.",
        alt=f"First question: {root.replace('≤', 'at most')}; {len(leaves)} leaves; {wrong} of {len(split.y_train)} training patients in a leaf of the other class.",
    )


def _edge(ax: Axes, one: Node, other: Node, word: str) -> None:
    ax.plot([one.depth, other.depth], [one.height, other.height], color=style.FAINT, linewidth=1.2, zorder=1)
    at = (0.5 * (one.depth + other.depth), 0.5 * (one.height + other.height))
    ax.text(*at, word, fontsize=TALL, ha="center", va="center", zorder=2, color=style.INK, backgroundcolor="white")


def _box(ax: Axes, one: Node) -> None:
    counts = f"{one.counts[0]} + {one.counts[1]}"
    answer = CLASSES[int(np.argmax(one.counts))]
    if one.question:
        column, threshold = one.question.split(" ≤ ")
        answer = f"{style.wrapped([column], 18)[0]}\n≤ {threshold}"
    text = f"{answer}\n{counts}"
    edge = style.INK if one.question else CLASS_COLOURS[int(np.argmax(one.counts))]
    box = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": edge, "linewidth": 1.0 if one.question else 2.2}
    ax.text(one.depth, one.height, text, fontsize=TALL, ha="center", va="center", zorder=3, color=style.INK, bbox=box)


def first_questions(frame: pd.DataFrame) -> None:
    """Which column the trees of resamples ask first."""
    own = frame[frame.metric == FIRST]
    pairs = estimates_of(frame, FIRST, list(own.method.unique()))
    same = stats.bootstrap_interval(values_of(frame, SAME_FIRST, "decision tree"))
    top, most = pairs[0]
    plotting.show(
        plotting.estimates(pairs, xlabel="share of resamples whose tree asks it first"),
        name="first-questions",
        caption="The first question of trees fitted to resamples of the same training rows, with 95 % intervals; n is the number of resamples.",
        alt=f"{len(pairs)} columns come first in some resample; most often {top}, {number(most.value)}; the drawn tree's column in {number(same.value)}; n = {most.n}.",
    )


def importances(frame: pd.DataFrame) -> None:
    """Both importances of the forest: the features with the largest impurity importance, and the two columns of noise."""
    names = list(frame[frame.metric == IMPURITY].method.unique())
    mean = {name: values_of(frame, IMPURITY, name).mean() for name in names}
    shown = [*sorted(set(names) - {MANY, TWO}, key=lambda name: -mean[name])[:SHOWN], MANY, TWO]
    figure = style.figure(4.2)
    axes = figure.subplots(1, 2, sharey=True)
    for ax, metric, xlabel in zip(
        axes, (IMPURITY, PERMUTATION), ("share of the fall of impurity", "fall of the accuracy"), strict=True
    ):
        style.dress(ax, xlabel, grid="x")
        ax.axvline(0, color=style.FAINT, linewidth=1)
        for y, (name, own) in enumerate(estimates_of(frame, metric, shown)):
            colour = style.COLOURS[1] if name in (MANY, TWO) else style.COLOURS[0]
            ax.hlines(y, own.low, own.high, color=colour, linewidth=2)
            ax.plot([own.value], [y], "s" if name in (MANY, TWO) else "o", color=colour, markersize=5)
        ax.set_title(metric, fontsize=style.TEXT, color=style.INK, loc="left")
    axes[0].set_yticks(range(len(shown)), shown, fontsize=style.SMALL)
    axes[0].set_ylim(len(shown) - 0.5, -0.5)
    noise = {
        (metric, name): estimates_of(frame, metric, [name])[0][1] for metric in (IMPURITY, PERMUTATION) for name in (MANY, TWO)
    }
    below: Estimate = estimates_of(frame, BELOW, [IMPURITY])[0][1]
    plotting.show(
        figure,
        name="importances",
        caption=f"The {SHOWN} features with the largest impurity importance, and two columns of noise (squares); means over splits with 95 % intervals, n = {below.n} splits.",
        alt=f"Impurity importance of noise: {number(noise[IMPURITY, MANY].value)} with many values, {number(noise[IMPURITY, TWO].value)} with two; permutation "
        f"{number(noise[PERMUTATION, MANY].value, 2)} and {number(noise[PERMUTATION, TWO].value, 2)}; n = {below.n} splits.",
    )


def weights(split: Split, seed: int) -> None:
    """First-layer weights of a net, of two nets with the same function, and of one from another start."""
    own, others = twins(split, seed)
    made: dict[str, Any] = {"a net": own, **others}
    order = np.argsort(split.columns)
    top = np.quantile(np.abs(own.coefs_[0]), 0.99)
    figure = style.figure(4.3)
    axes = figure.subplots(1, len(made), sharey=True)
    z = logits(own, split.x_test)
    gaps = {label: float(np.abs(logits(one, split.x_test) - z).max()) for label, one in made.items()}
    for ax, (label, one) in zip(axes, made.items(), strict=True):
        image = ax.imshow(one.coefs_[0][order], cmap=style.SIGNED, vmin=-top, vmax=top, aspect="auto", interpolation="nearest")
        words = f"{style.wrapped([label], 14)[0]}\nlogits move {number(gaps[label], 1)}" if label in TWINS else label
        ax.set_title(words, fontsize=TALL, color=style.INK)
        ax.set_xticks([])
        ax.set_xlabel("hidden units", fontsize=TALL, color=style.INK)
        ax.tick_params(length=0)
    axes[0].set_yticks(range(len(order)), [split.columns[j] for j in order], fontsize=6.5)
    bar = figure.colorbar(image, ax=axes, pad=0.01, aspect=35, extend="both")
    bar.ax.tick_params(labelsize=TALL)
    same = ((logits(others[TWINS[2]], split.x_test) > 0) == (z > 0)).mean()
    plotting.show(
        figure,
        name="weights",
        caption="First-layer weights, a column a hidden unit. Above each: the largest change of a test patient's logit from the net on the left.",
        alt=f"Largest change of a logit: {number(gaps[TWINS[0]], 2)} with units in another order, {number(gaps[TWINS[1]], 2)} rescaled, {number(gaps[TWINS[2]], 2)} "
        f"from another start, which gives {number(float(same))} of {len(z)} test patients the same class.",
    )
