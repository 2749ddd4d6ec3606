"""Study `case_studies`, tables: its figures, with captions and alternative texts computed from the results."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from xai_lib import plotting
from xai_lib.plotting import number, style
from xai_lib.studies.case_tabular import CLASSES, INSIDE, KEYS, LEADS, METHODS, PUBLISHED, R2, SETTING, SPREAD, WEIGHT, WITHIN
from xai_lib.studies.common_figures import estimates_of

SHOWN = 4
"""Columns of each table in the figure of leading features."""


def listing(frame: pd.DataFrame) -> None:
    """Every published weight beside LIME's mean +- 3 sd over its seeds, for class 1 and for the predicted class."""
    own = {name: _values(frame, metric, method) for name, metric, method in _PARTS}
    terms = list(own["published"])
    places = _places(terms)
    figure = style.figure(0.9 + 0.19 * (places[-1] + 1))
    ax = figure.subplots()
    style.dress(ax, "weight of the term (probability)", grid="x")
    ax.axvline(0, color=style.FAINT, linewidth=1)
    for y, term in zip(places, terms, strict=True):
        mean, spread = own["mean"][term], WITHIN * own["spread"][term]
        ax.hlines(y, mean - spread, mean + spread, color=style.COLOURS[0], linewidth=3, alpha=0.6)
    for name, colour, marker, label in (
        ("mean", style.COLOURS[0], "|", f"class 1, mean and {WITHIN:g} sd over seeds"),
        ("predicted", style.COLOURS[2], "s", "predicted class, mean over seeds"),
        ("published", style.COLOURS[1], "D", "published"),
    ):
        values = [own[name][term] for term in terms]
        ax.plot(values, places, marker, color=colour, markerfacecolor="none", markeredgewidth=1.3, markersize=5, label=label)
    ax.set_yticks(places, [term.split(": ", 1)[1] for term in terms], fontsize=7.5)
    for heading, y in {term.split(": ", 1)[0]: y for y, term in reversed(list(zip(places, terms, strict=True)))}.items():
        ax.text(
            0,
            y - 0.85,
            f"heading: {heading}",
            transform=ax.get_yaxis_transform(),
            fontsize=style.SMALL,
            va="center",
            weight="bold",
        )
    ax.set_ylim(places[-1] + 0.7, -1.5)
    ax.tick_params(axis="y", length=0)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=style.SMALL)
    found = frame[(frame.metric == INSIDE) & np.isfinite(frame.value)]
    count = {label: int(found[found.method == label].value.sum()) for label in CLASSES}
    plotting.show(
        figure,
        name="lime-listings",
        caption="Every weight of the document's LIME listings, and LIME of the same fit today. The headings name the class that was "
        "predicted; the published weights are those of class 1.",
        alt=f"{len(terms)} published weights; {count[CLASSES[0]]} lie within {WITHIN:g} standard deviations of the mean for class 1, "
        f"{count[CLASSES[1]]} for the predicted class.",
    )


def leaders(frame: pd.DataFrame) -> None:
    """Which column has the largest weight, by method, on held-out rows."""
    own = frame[frame.metric == LEADS]
    means = own.groupby(["dataset", "method"], sort=False).value.mean()
    labels: list[str] = []
    cells: list[list[float]] = []
    for table in own.dataset.unique():
        names = list(dict.fromkeys(m.removeprefix(f"{table}: ").rsplit(" | ", 1)[0] for m in own[own.dataset == table].method))
        found = {
            name: [float(means.get((table, f"{table}: {name} | {method}"), np.nan)) for method in METHODS] for name in names
        }
        best = sorted(names, key=lambda name: -float(np.nansum(found[name])))[:SHOWN]
        for name in list(dict.fromkeys([*best, KEYS[table]])):
            labels.append(f"{name}{' *' if name == KEYS[table] else ''}")
            cells.append(found[name])
    n = own["sample"].nunique()
    keys = {label.removesuffix(" *"): cell[0] for label, cell in zip(labels, cells, strict=True) if label.endswith(" *")}
    plotting.show(
        plotting.matrix(np.array(cells), labels, columns=METHODS, xlabel="share of rows"),
        name="table-leaders",
        caption="How often a column has the largest |value| among all of its table, on held-out rows (for LIME and its seeds; permutation "
        f"has one order a net). Mean over n = {n} nets, each with its own split. A star marks what the document calls a key feature; a "
        "dash, a table with too many columns for exact Shapley values.",
        alt=f"Under LIME of the predicted class the document's key features lead in these shares: "
        f"{', '.join(f'{name} {number(value)}' for name, value in keys.items())}; n = {n} nets.",
    )


def stability(frame: pd.DataFrame) -> None:
    """Whether LIME names the same leading feature under another seed, and under other settings too."""
    labels = list(frame[frame.metric == SETTING].method.unique())
    pairs = estimates_of(frame, SETTING, labels)
    fits = estimates_of(frame, R2, labels)
    low = min(pairs, key=lambda pair: pair[1].value)
    plotting.show(
        plotting.estimates(pairs, xlabel="share of rows with the same leading feature under the next seed"),
        name="lime-stability",
        caption="LIME under each setting beside LIME as it is, under the next seed: share of held-out rows with the same leading feature, "
        "mean over nets with 95 % intervals. The first line of each table shows what the seed alone changes.",
        alt=f"Lowest share {number(low[1].value)} for {low[0]}; the surrogates' R2 runs from {number(min(e.value for _, e in fits))} to "
        f"{number(max(e.value for _, e in fits))}; n = {low[1].n} nets.",
    )


_PARTS = (
    ("published", WEIGHT, PUBLISHED),
    ("mean", WEIGHT, CLASSES[0]),
    ("spread", SPREAD, CLASSES[0]),
    ("predicted", WEIGHT, CLASSES[1]),
)


def _values(frame: pd.DataFrame, metric: str, method: str) -> dict[str, float]:
    own = frame[(frame.metric == metric) & (frame.method == method)]
    return dict(zip(own["sample"], own["value"], strict=True))


def _places(terms: Sequence[str]) -> list[float]:
    """Heights of the lines, with room above each listing for its heading."""
    headings = [term.split(": ", 1)[0] for term in terms]
    gaps = np.cumsum([0.0, *(1.6 * (a != b) for a, b in pairwise(headings))])
    return [k + float(gap) for k, gap in enumerate(gaps)]
