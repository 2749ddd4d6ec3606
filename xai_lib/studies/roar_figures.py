"""Study `roar`: its figures and tables, with captions and alternative texts computed from the results."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from xai_lib import METHODS, compute, plotting, stats
from xai_lib.compendium.retraining import Removal
from xai_lib.plotting import number
from xai_lib.removal import degrade, fill_of, removal_order, removed
from xai_lib.stats import Estimate
from xai_lib.studies import common_figures
from xai_lib.studies.roar import Experiment
from xai_lib.studies.roar_rows import BELOW_RANDOM, accuracy_at, curve
from xai_lib.types import Model, Samples

WORDS = {
    BELOW_RANDOM: (
        "mean distance below the random removal",
        "How far the accuracy lies below that of a random removal, on average over the shares of removed pixels. Right of 0, the "
        "method finds pixels that matter more than random ones; left of 0, fewer.",
    ),
}
"""Axis label and caption of each forest plot, by metric."""


def forest(
    frame: pd.DataFrame, metric: str, labels: Sequence[str], *, name: str = "", caption: str = "", axis: str = ""
) -> None:
    """Forest plot over trainings (or images, where the metric has them)."""
    words = WORDS.get(metric, (metric, metric))
    common_figures.forest(frame, metric, labels, words=(axis or words[0], caption or words[1]), name=name)


def curves(
    frame: pd.DataFrame,
    experiments: Mapping[str, Experiment],
    labels: Sequence[str],
    *,
    name: str,
    caption: str,
    untouched: str = "",
) -> None:
    """Accuracy against the share of removed (or kept) pixels: every training as a dot, the mean with its interval as a line.

    Args:
        labels: conditions of one plan.
        untouched: label of whole pictures, drawn at share 0.
    """
    lines: dict[str, list[Estimate]] = {}
    each: dict[str, np.ndarray] = {}
    for label in labels:
        fractions, values = curve(frame, label, experiments[label])
        runs = values.to_numpy()
        if untouched:
            whole = frame[(frame.method == untouched) & (frame.metric == "accuracy")].sort_values("seed").value.to_numpy()
            runs = np.column_stack([whole[: len(runs)], runs])
        each[label], lines[label] = runs, [stats.bootstrap_interval(column) for column in runs.T]
    at = [*([0.0] if untouched else []), *fractions]
    first, kept = labels[0], experiments[labels[0]].keep
    last = {label: points[-1] for label, points in lines.items()}
    lowest = min(last, key=lambda label: last[label].value)
    plotting.show(
        plotting.curve(
            at, lines, each=each, xlabel="share of the pixels that is " + ("kept" if kept else "removed"), ylabel="accuracy"
        ),
        name=name,
        caption=caption,
        alt=f"Accuracy with {100 * at[-1]:g} % {'kept' if kept else 'removed'}: lowest {number(last[lowest].value)} for {lowest}, "
        f"{number(last[first].value)} for {first}; {len(each[first])} trainings each, means with 95 % intervals.",
    )


def table(
    frame: pd.DataFrame,
    experiments: Mapping[str, Experiment],
    labels: Sequence[str],
    published: Mapping[str, Sequence[float]],
    *,
    name: str,
    caption: str,
    metric: str = "accuracy",
) -> None:
    """Ours beside a published table, in percent: one row per condition and source.

    Args:
        published: the document's accuracies by label, in the order of its shares.
        metric: "accuracy", or "accuracy as published".
    """
    rows = []
    for label in labels:
        fractions = [each for each in experiments[label].works() if each]
        cells = {}
        for fraction in fractions:
            own = frame[(frame.method == label) & (frame.metric == accuracy_at(fraction).replace("accuracy", metric, 1))].value
            cells[f"{100 * fraction:g} %"] = _cell(own.to_numpy())
        rows.append({"removal": label, "source": f"ours, n = {len(own)}", **cells})
        if label in published:
            given = dict(zip(cells, (f"{100 * value:.2f}" for value in published[label]), strict=False))
            rows.append({"removal": label, "source": "document", **given})
    plotting.table(pd.DataFrame(rows).fillna(""), caption=caption, name=name)


def _cell(values: np.ndarray) -> str:
    found = stats.bootstrap_interval(values)
    if np.isnan(found.low):
        return f"{100 * found.value:.1f}"
    return f"{100 * found.value:.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def strip(samples: Samples, model: Model, removals: Mapping[str, Removal], fractions: Sequence[float]) -> None:
    """One picture, greyed out by several removals at every share (Figure 6.1 of document 002).

    Args:
        samples: pictures that may be shown; the first is used.
        model: explained; its own prediction, or the true label, as each protocol says.
        removals: by label.
        fractions: shares of the pixels.
    """
    one = samples.subset([0])
    rows = {}
    for label, removal in removals.items():
        targets = one.targets if removal.rules.target == "label" else compute.logits(model, one.inputs).argmax(dim=1)
        made = METHODS.bind({removal.method[0]: removal.method[1]})(model, one.inputs, targets)
        order = removal_order(made, removal.rules, seed=removal.seed)
        fill = fill_of(removal.rules.fill, samples.inputs)
        gone = [removed(order, one.inputs.shape[1:], share, unit=removal.rules.unit) for share in fractions]
        left = [degrade(one.inputs, each, fill=fill, saved_as=removal.rules.saved_as) for each in gone]
        rows[label] = torch.cat(left)
    plotting.show(
        plotting.picture_rows(rows, [f"{100 * share:g} %" for share in fractions], one),
        name="strip",
        caption="A digit with a share of its pixels removed (compare Figure 6.1 of the document). As coded, the removed pixels are "
        "lighter than the background: the pattern of removal is visible.",
        alt=f"One digit under {len(rows)} removals ({', '.join(rows)}) at {len(fractions)} shares of removed pixels.",
    )
