"""Lesson `foundations_models`: pictures of the input space."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from xai_lib import plotting
from xai_lib.plotting import number, style
from xai_lib.studies.common_figures import estimates_of
from xai_lib.studies.foundations_models import TABLE
from xai_lib.studies.foundations_models_figures import CLASS_COLOURS, CLASSES
from xai_lib.studies.foundations_models_maps import DISAGREE, MODELS, NEAR, PRESERVED, RIGHT, Pictures, disparity

TEN = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B8860B", "#2E9BD6", "#000000", "#7F3C8D", "#6B6B6B", "#8B4513")
"""Colours of the digits; each is drawn as its own sign, so that no colour has to be told from another."""


def inputs(shown: Sequence[Pictures], frame: pd.DataFrame) -> None:
    """PCA and t-SNE side by side, a row a data set."""
    figure = style.figure(3.4 * len(shown))
    axes = figure.subplots(len(shown), 2, squeeze=False)
    words = []
    for line, own in zip(axes, shown, strict=True):
        first = next(iter(own.tsne))
        for ax, label, places in zip(line, ("PCA", "t-SNE"), (own.pca, own.tsne[first]), strict=True):
            _scatter(ax, places, own)
            kept = estimates_of(frame[frame.dataset == own.dataset], PRESERVED, [label])[0][1].value
            ax.set_title(f"{own.dataset}, {label}", fontsize=style.TEXT, color=style.INK, loc="left")
            words.append(f"{own.dataset}, {label} {number(kept)}")
        if own.dataset == TABLE:
            signs = line[0].get_legend_handles_labels()
            figure.legend(*signs, loc="outside lower center", ncols=2, frameon=False, fontsize=style.SMALL)
    plotting.show(
        figure,
        name="inputs",
        caption="The same rows by PCA and by t-SNE; no model is involved. A digit is drawn as itself. t-SNE's axes have no unit.",
        alt=f"Share of each row's {NEAR} nearest neighbours that stay its neighbours: {'; '.join(words)}.",
    )


def two_models(shown: Pictures, answers: Mapping[str, np.ndarray], frame: pd.DataFrame) -> None:
    """One picture, and on it the mistakes of two models."""
    figure = style.figure(3.7)
    axes = figure.subplots(1, 2)
    places = next(iter(shown.tsne.values()))
    for ax, (label, own) in zip(axes, answers.items(), strict=True):
        wrong = own != shown.labels
        _frame(ax, places)
        ax.plot(*places[~wrong].T, ".", color=style.NEUTRAL, markersize=5)
        _signs(ax, places[wrong], own[wrong], [style.COLOURS[1]] * 10, 6)
        ax.set_title(f"{label}: {wrong.sum()} of {len(wrong)} wrong", fontsize=style.TEXT, color=style.INK, loc="left")
    differ = estimates_of(frame, DISAGREE, ["both"])[0][1]
    right = [estimates_of(frame, RIGHT, [label])[0][1].value for label in MODELS]
    plotting.show(
        figure,
        name="two-models",
        caption="The t-SNE picture of the digits twice, place for place. Dots are digits that the model reads rightly, signs are what it says where it is wrong.",
        alt=f"Two models on one picture: accuracy {number(right[0])} ({MODELS[0]}) and {number(right[1])} ({MODELS[1]}); they disagree on {number(differ.value)} of {differ.n} digits.",
    )


def choices(shown: Pictures) -> None:
    """The same rows under another seed and under another perplexity."""
    keys = list(shown.tsne)
    first = keys[0]
    other_seed = next((key for key in keys if key[0] == first[0] and key[1] != first[1]), first)
    other_width = next((key for key in keys if key[0] != first[0] and key[1] == first[1]), first)
    picked = list(dict.fromkeys([first, other_seed, other_width]))
    figure = style.figure(2.9)
    axes = figure.subplots(1, len(picked), squeeze=False)[0]
    away = {key: disparity(shown.tsne[first], shown.tsne[key]) for key in picked}
    for ax, (perplexity, seed) in zip(axes, picked, strict=True):
        _scatter(ax, shown.tsne[perplexity, seed], shown)
        against = f"disparity {number(away[perplexity, seed], 2)}" if (perplexity, seed) != first else "the first picture"
        title = f"perplexity {perplexity:g}, seed {seed}\n{against}"
        ax.set_title(title, fontsize=style.SMALL, color=style.INK, loc="left")
    words = "; ".join(f"perplexity {w:g}, seed {s}: {number(away[w, s], 2)}" for w, s in picked[1:]) or "no other picture"
    plotting.show(
        figure,
        name="tsne-choices",
        caption="t-SNE of the same digits. Disparity: what is left of the squared distances after the best shift, turn, mirror and stretch onto the first picture.",
        alt=f"Procrustes disparity from the first picture of {len(shown.labels)} digits: {words}.",
    )


def _frame(ax: Axes, places: np.ndarray) -> None:
    """Equal units, no ticks, room for the signs."""
    low, high = places.min(axis=0), places.max(axis=0)
    pad = 0.06 * (high - low)
    ax.set(xlim=(low[0] - pad[0], high[0] + pad[0]), ylim=(low[1] - pad[1], high[1] + pad[1]), xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_color(style.NEUTRAL)


def _scatter(ax: Axes, places: np.ndarray, shown: Pictures) -> None:
    _frame(ax, places)
    if shown.dataset == TABLE:
        for label, colour, marker in zip((0, 1), CLASS_COLOURS, ("^", "o"), strict=True):
            own = places[shown.labels == label]
            ax.plot(*own.T, marker, color=colour, markersize=3.5, alpha=0.6, markeredgewidth=0, label=CLASSES[label])
        return
    _signs(ax, places, shown.labels, TEN, 5)


def _signs(ax: Axes, places: np.ndarray, digits: np.ndarray, colours: Sequence[str], size: float) -> None:
    """Each digit drawn as itself."""
    for digit in np.unique(digits):
        ax.plot(
            *places[digits == digit].T,
            marker=f"${digit}$",
            color=colours[digit],
            linestyle="",
            markersize=size,
            markeredgewidth=0,
        )
