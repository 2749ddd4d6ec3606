"""Study `roar`: its figures and tables, with captions and alternative texts computed from the results."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from xai_lib import METHODS, compute, plotting, stats
from xai_lib.compendium import study
from xai_lib.compendium.retraining import Removal
from xai_lib.plotting import number
from xai_lib.removal import degrade, fill_of, removal_order, removed
from xai_lib.stats import Estimate
from xai_lib.studies import common_figures
from xai_lib.studies.common_figures import measured
from xai_lib.studies.roar import UNTOUCHED, Experiment
from xai_lib.studies.roar_evaluations import CHECK, COMPLETE, FLOOR, SOUND
from xai_lib.studies.roar_rows import BELOW_RANDOM, CHANGE, PUBLISHED, accuracy_at, curve
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


def beside(frame: pd.DataFrame, experiments: Mapping[str, Experiment], labels: Sequence[str], claim: str) -> None:
    """Table 1: ours beside the document's, in per cent and measured as its code measures it.

    Args:
        claim: whose published values are named "label | share in per cent".
    """
    published = next(each.published.values for each in study.load("roar").claims if each.id == claim)
    rows = []
    for label in labels:
        ours, theirs, n = {}, {}, 0
        for fraction in (each for each in experiments[label].works() if each):
            column, given = f"{100 * fraction:g} %", f"{label} | {100 * fraction:g}"
            own = frame[
                (frame.method == label) & (frame.metric == accuracy_at(fraction).replace("accuracy", PUBLISHED, 1))
            ].value
            found, n = stats.bootstrap_interval(100 * own.to_numpy()), len(own)
            ours[column] = f"{found.value:.1f} [{found.low:.1f}, {found.high:.1f}]"
            theirs[column] = f"{100 * published[given]:.2f}" if given in published else ""
        rows += [{"removal": label, "source": f"ours, n = {n}", **ours}, {"removal": label, "source": "document", **theirs}]
    caption = "Accuracy in per cent, measured as the document's code measures it (628 digits, percentages cut)."
    plotting.table(pd.DataFrame(rows), caption=caption, name="table-1")


def steps(frame: pd.DataFrame, experiments: Mapping[str, Experiment], labels: Sequence[str]) -> None:
    """Accuracy on the way from one protocol to the other."""
    caption = "Integrated Gradients under the document's protocol, and with one difference after the other taken out."
    curves(frame, experiments, labels, name="steps", caption=caption, untouched=f"panel: {UNTOUCHED}")


def longer(frame: pd.DataFrame, shares: Sequence[float]) -> None:
    """Accuracies of the document's removals under two recipes, side by side."""
    labels = ["loreth: random", "longer: random", "loreth: IG", "longer: IG"]
    matrix(
        frame, labels, [accuracy_at(each) for each in shares], name="longer",
        caption="The document's removals: its recipe (loreth), and a larger learning rate with twice the epochs (longer).",
    )  # fmt: skip


def leak(frame: pd.DataFrame, labels: Sequence[str], shares: Sequence[float]) -> None:
    """Accuracies by method and by whose class the maps explain."""
    matrix(
        frame, labels, [accuracy_at(each) for each in shares], name="leak",
        caption="Accuracy after removal, by the class that the maps explain. Maps of the true label, and those as coded, know the label.",
    )  # fmt: skip


def change(frame: pd.DataFrame, labels: Sequence[str], share: float) -> None:
    """What a removal changes against whole pictures, seed by seed."""
    metric = accuracy_at(share).replace("accuracy", CHANGE, 1)
    forest(
        frame, metric, labels, name="change",
        caption="Accuracy after removal minus that of whole pictures, the same seeds. Right of 0, the network profits from the holes.",
    )  # fmt: skip


def patterns(frame: pd.DataFrame, labels: Sequence[str]) -> None:
    """Accuracy from the removal pattern alone."""
    caption = "Accuracy of networks that see the removal pattern and nothing of the picture."
    forest(frame, "accuracy of the pattern", labels, name="patterns", caption=caption)


def recipes(frame: pd.DataFrame, labels: Sequence[str]) -> None:
    """Whole colour pictures under several recipes."""
    caption = (
        "Accuracy on whole colour pictures, under the recipe of this study (first) and under the document's with one addition."
    )
    forest(frame, "accuracy", labels, name="recipes", caption=caption)


def matrix(
    frame: pd.DataFrame, labels: Sequence[str], metrics: Sequence[str], *, name: str, caption: str, scale: str = "accuracy"
) -> None:
    """Conditions by metrics, with intervals over trainings or images."""
    cells = [[common_figures.estimates_of(frame, metric, [label])[0][1] for metric in metrics] for label in labels]
    best = [_largest(labels, [row[k].value for row in cells]) for k in range(len(metrics))]
    columns = [metric.removeprefix("accuracy ") for metric in metrics]
    plotting.show(
        plotting.matrix(cells, labels, columns=columns, xlabel=scale),
        name=name,
        caption=caption,
        alt=f"Largest value {', '.join(f'{c}: {b}' for c, b in zip(columns, best, strict=True))}; n = {cells[0][0].n} each, "
        "means with 95 % intervals.",
    )


def _largest(labels: Sequence[str], values: Sequence[float]) -> str:
    """The label of the largest value that is defined."""
    defined = [(value, label) for value, label in zip(values, labels, strict=True) if np.isfinite(value)]
    return max(defined)[1] if defined else "none (undefined)"


def shift(frame: pd.DataFrame, shares: Sequence[float]) -> None:
    """Accuracy lost with and without retraining."""
    lines = {
        label: [common_figures.estimates_of(frame, f"accuracy lost at {100 * each:g} %", [label])[0][1] for each in shares]
        for label in frame.method.unique()
    }
    last = {label: number(points[-1].value) for label, points in lines.items()}
    plotting.show(
        plotting.curve(shares, lines, xlabel="share of the pixels that is removed at random", ylabel="accuracy lost"),
        name="shift",
        caption="What a random removal costs a network that never saw holes, and one that was retrained. The gap is unfamiliarity.",
        alt=f"Accuracy lost at {100 * shares[-1]:g} %: {', '.join(f'{k} {v}' for k, v in last.items())}.",
    )


def cascade(frame: pd.DataFrame, labels: Sequence[str], kind: str = "Spearman, absolute") -> None:
    """Similarity to the maps of a network whose layers are random from the top down, and of two random networks."""
    found = [m for m in frame.metric.unique() if m.startswith(f"{CHECK} ({kind}, cascading")]
    floor = f"{FLOOR} ({kind})"
    cells = [[common_figures.estimates_of(frame, metric, [label])[0][1] for metric in [*found, floor]] for label in labels]
    columns = [*(metric.rsplit(", ", 1)[1].rstrip(")") for metric in found), "two random"]
    fails = _largest(labels, [row[-2].value for row in cells])
    plotting.show(
        plotting.matrix(cells, labels, columns=columns, xlabel=f"similarity ({kind})"),
        name="cascade",
        caption="Rank correlation of absolute maps with those of the same network after its layers were made random from the top down, "
        "up to all of them; last column: maps of two random networks. A map that does not notice is no explanation of the network.",
        alt=f"With every layer random, {fails} is most like itself; n = {cells[0][0].n} images, 95 % intervals.",
    )


def certificates(frame: pd.DataFrame, labels: Sequence[str]) -> None:
    """Completeness and soundness, worst over labels."""
    matrix(
        frame, labels, [COMPLETE, SOUND], name="certificates", scale="worst over labels",
        caption="Completeness: what the network believes has a map that shows it. Soundness: what it does not believe has none.",
    )  # fmt: skip


def bam(frame: pd.DataFrame) -> None:
    """The three metrics of BAM by method."""
    matrix(
        frame, list(frame.method.unique()), list(frame.metric.unique()), name="two-labels", scale="mean over pictures",
        caption="Pictures with an object and a scene: contrast between the two networks (0 for a map that ignores the network), "
        "dependence on the object, and independence of a patch that changes no logit.",
    )  # fmt: skip


def agreement(frame: pd.DataFrame) -> None:
    """Kendall's tau between the orders that evaluations give."""
    pairs = [
        (f"{a} | {b} ({methods})", Estimate(float(tau), float(low), float(high), int(methods)))
        for a, b, tau, low, high, methods in frame[["first", "second", "tau", "low", "high", "methods"]].itertuples(index=False)
    ]
    defined = [pair for pair in pairs if np.isfinite(pair[1].value)]
    low, high = (f(defined, key=lambda pair: pair[1].value) for f in (min, max))
    plotting.show(
        plotting.estimates(pairs, xlabel="Kendall's tau between two orders of methods"),
        name="agreement",
        caption="Do two evaluations put the same methods (their number in brackets) in the same order? Intervals over images and trainings.",
        alt=f"Highest agreement {number(high[1].value)} for {high[0]}, lowest {number(low[1].value)} for {low[0]}.",
    )


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


__all__ = ["beside", "curves", "measured"]
