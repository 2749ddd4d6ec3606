"""Figures that several studies have, with captions and alternative texts computed from the results."""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd
from torch import Tensor

from xai_lib import maps, plotting, stats
from xai_lib.plotting import number
from xai_lib.stats import Estimate
from xai_lib.studies.case import Case


def estimates_of(
    frame: pd.DataFrame, metric: str, methods: Sequence[str], statistic: str = "mean"
) -> list[tuple[str, Estimate]]:
    """(label, mean over images with its bootstrap interval) for one metric and several conditions."""
    own = frame[frame.metric == metric]
    return [(m, stats.bootstrap_interval(own[own.method == m].value.to_numpy(), statistic=statistic)) for m in methods]


def forest(
    frame: pd.DataFrame,
    metric: str,
    methods: Iterable[str],
    *,
    words: tuple[str, str],
    published: Mapping[str, float] | None = None,
    name: str = "",
) -> None:
    """Forest plot of one metric over several conditions, with an alternative text that names the largest and the smallest.

    Args:
        words: axis label (with "median" in it, medians are shown) and caption.
        published: the document's numbers by condition.
        name: of the figure, the metric's when not given.
    """
    xlabel, caption = words
    labels = list(methods)
    published = {k: v for k, v in (published or {}).items() if k in labels}
    pairs = estimates_of(frame, metric, labels, "median" if "median" in xlabel else "mean")
    ordered = sorted(pairs, key=lambda p: p[1].value)
    low, high = ordered[0], ordered[-1]
    fewest, most = min(e.n for _, e in pairs), max(e.n for _, e in pairs)
    plotting.show(
        plotting.estimates(pairs, xlabel=xlabel, published=published),
        name=name or metric.replace("_", "-").replace(" ", "-"),
        caption=caption,
        alt=f"{xlabel}: highest {number(high[1].value)} for {high[0]}, lowest {number(low[1].value)} for {low[0]}, "
        f"{len(pairs)} conditions with 95 % intervals, n = {f'{fewest} to {most} images' if fewest < most else f'{most} images each'}.",
    )


def grid(
    case: Case, attributions: Mapping[str, Tensor], *, reduce: str, images: Sequence[int], name: str, caption: str
) -> None:
    """Maps of some images under several conditions."""
    reduced = {label: maps.reduce(a, reduce) for label, a in attributions.items()}
    n = len(images)
    plotting.show(
        plotting.attribution_grid(case.samples, reduced, rows=images),
        name=name,
        caption=caption,
        alt=f"Signed maps of {n} image{'s' * (n > 1)} under {len(reduced)} conditions ({', '.join(reduced)})."[:245],
    )


def measured(table: pd.DataFrame) -> None:
    """How much was measured, by data set and model."""
    counts = table.groupby(["dataset", "model"]).agg(
        values=("value", "size"), metrics=("metric", "nunique"), conditions=("method", "nunique")
    )
    plotting.table(counts.reset_index(), caption="What was measured.", name="measured")
