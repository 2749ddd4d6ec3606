"""Study `baseline_study`, part 4: its figures and tables, with captions and alternative texts computed from the results."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from xai_lib import METHODS, contours, maps, plotting, stats, toys
from xai_lib.plotting import number, style
from xai_lib.studies import common_figures
from xai_lib.studies.baseline_counts import PATCH, interpolation, label_of, slope_on_area
from xai_lib.studies.baseline_quality import BETTER
from xai_lib.studies.baseline_words import FORESTS
from xai_lib.studies.case import Case
from xai_lib.studies.common_figures import estimates_of, grid, measured

__all__ = ["estimates_of", "grid", "measured"]


def forest(frame: pd.DataFrame, metric: str, methods: Iterable[str], *, published: Mapping[str, float] | None = None) -> None:
    """Forest plot of one metric over several conditions."""
    common_figures.forest(frame, metric, methods, words=FORESTS[metric], published=published)


def top_values(nested: Mapping[tuple[int, str], Tensor], *, reduce: str) -> None:
    """The ten largest map values of the first image for the fewest and the most baselines (Figure 11 of the document)."""
    counts = sorted({count for count, _ in nested})
    shown = {f"{c} baseline{'s' * (c > 1)}": maps.reduce(nested[c, "mean"], reduce)[0] for c in (counts[0], counts[-1])}
    peaks = [float(v.max()) for v in shown.values()]
    plotting.show(
        plotting.top_values(shown),
        name="top-values",
        caption="The ten largest values of the map of the running image, for the fewest and the most baselines (Figure 11 of the "
        "document).",
        alt=f"Bars of the ten largest map values; the largest is {number(peaks[0])} with {counts[0]} and {number(peaks[1])} with "
        f"{counts[-1]} baselines.",
    )


def running_table(table: pd.DataFrame, how: str) -> None:
    """Table 1 (mean) or 2 (median) of the document, for the first image of this run."""
    caption = f"The running image, {how} aggregation (document: Table {1 if how == 'mean' else 2})."
    plotting.table(table, caption=caption, name=f"running-{how}")


def saturation() -> None:
    """The gradient against Integrated Gradients where the model saturates (Figure 4 of the document)."""
    model, x = toys.saturation(), torch.linspace(0, 2, 81)[:, None]
    t = torch.zeros(len(x), dtype=torch.int64)
    gradient = METHODS.bind("gradient")(model, x, t)[:, 0]
    integrated = METHODS.bind("integrated_gradients", steps=400, rule="middle")(model, x, t)[:, 0]
    fig = style.figure(3.2)
    ax = fig.subplots()
    style.dress(ax, "input x", "value", grid="both")
    drawn = {
        "f(x) = 1 - relu(1 - x)": model(x)[:, 0],
        "gradient at x": gradient,
        "Integrated Gradients, baseline 0": integrated,
    }
    for (label, values), (colour, _), dash in zip(drawn.items(), style.line_styles(3), ("-", "--", ":"), strict=True):
        ax.plot(x[:, 0], values, dash, color=colour, linewidth=2.4, label=label)
    ax.legend(frameon=False, fontsize=style.SMALL)
    plotting.show(
        fig,
        name="saturation",
        caption="A saturating model. Beyond x = 1 the gradient says that x does not matter; Integrated Gradients still credits it "
        "with the whole output.",
        alt=f"At x = 2 the gradient is {number(float(gradient[-1]))} and Integrated Gradients is {number(float(integrated[-1]))}, "
        "equal to the output; before x = 1 all agree.",
    )


def strip(case: Case, kind: Any = "black", image: int = 0) -> None:
    """Images on the way from the baseline to one image (Figure 5 of the document)."""
    alphas = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
    line, _, _ = interpolation(case, image, alphas, kind)
    plotting.show(
        plotting.interpolation_strip(line, alphas, case.samples),
        name="interpolation",
        caption=f"The straight path from a {kind} baseline to the image.",
        alt=f"Six copies of one photograph, from the {kind} baseline at 0 to the full image at 1, each brighter than the last.",
    )


def along_the_path(case: Case, kind: Any = "black", image: int = 0) -> None:
    """The model's probability and the size of its gradient on the way from the baseline to the image."""
    fine = np.linspace(0, 1, 21)
    _, probability, norm = interpolation(case, image, fine.tolist(), kind)
    fig = style.figure(2.8)
    left, right = fig.subplots(1, 2)
    for ax, values, label in ((left, probability, "probability of the class"), (right, norm, "norm of the gradient")):
        style.dress(ax, "position on the path", label, grid="both")
        ax.plot(fine, values, "o-", color=style.COLOURS[0], markersize=3.5)
    plotting.show(
        fig,
        name="along-the-path",
        caption="Along this path: what the model says, and how large its gradient is. Most of the integral comes from where the "
        "gradient is large, long before the image looks complete.",
        alt=f"The probability rises from {number(float(probability[0]))} to {number(float(probability[-1]))}; the gradient is largest "
        f"at position {number(float(fine[norm.argmax()]))} of the path and {number(float(norm[-1] / norm.max()))} of that at its end.",
    )


def agreement_matrix(frame: pd.DataFrame, kinds: Sequence[str]) -> None:
    """Mean Spearman correlation between the maps of every two kinds of baseline."""
    own = frame[frame.metric == "rank_correlation"].groupby("method").value
    means, n = own.mean(), int(own.count().max())
    values = np.eye(len(kinds))
    for i, a in enumerate(kinds):
        for j, b in enumerate(kinds[:i]):
            key = f"{a} vs {b}" if f"{a} vs {b}" in means else f"{b} vs {a}"
            values[i, j] = values[j, i] = means[key]
    (_, between), (_, floor) = estimates_of(frame, "rank_correlation", ["different kinds", "uniform, two draws"])
    plotting.show(
        plotting.matrix(values, kinds, xlabel="Spearman correlation of maps (mean over images)"),
        name="agreement",
        caption=f"How far maps from different baselines agree (mean over n = {n} images; intervals of the summary in the table of "
        "claims). Two draws of one kind, uniform noise, agree by "
        f"{plotting.estimate_text(floor)}; different kinds on average by {plotting.estimate_text(between)}.",
        alt=f"Matrix of {len(kinds)} kinds of baseline; off the diagonal the correlations lie between "
        f"{number(float(values[~np.eye(len(kinds), dtype=bool)].min()))} and {number(float(values[~np.eye(len(kinds), dtype=bool)].max()))}.",
    )


def approach_curve(frame: pd.DataFrame, kind: str, counts: Sequence[int], prefix: str = "", name: str = "approach") -> None:
    """Agreement with an independent reference against the number of baselines, for mean and median."""
    x = sorted(counts)[:-1]
    lines = {
        how: [e for _, e in estimates_of(frame, "agreement_with_reference", [prefix + label_of(kind, c, how) for c in x])]
        for how in ("mean", "median")
    }
    first, last = lines["mean"][0], lines["mean"][-1]
    plotting.show(
        plotting.curve(x, lines, xlabel="number of baselines B", ylabel="Spearman correlation with other baselines", log=True),
        name=name,
        caption=f"How the map of B {kind} baselines approaches the mean map of baselines it has not seen.",
        alt=f"The correlation rises from {number(first.value)} with 1 baseline to {number(last.value)} with {x[-1]} (mean map), "
        f"n = {last.n} images, 95 % intervals shown.",
    )


def pipeline(case: Case, attributions: Tensor, *, fraction: float, reduce: str, image: int = 0) -> None:
    """The steps of the contour analysis on one picture (Figure 14 of the document)."""
    record = contours.pipeline(maps.reduce(attributions, reduce)[image], fraction=fraction, seed=case.seed)
    plotting.show(
        plotting.contour_pipeline(record, case.inputs[image], case.samples),
        name="contour-steps",
        caption="Contour analysis step by step: top pixels, opening, dilation, contours with their common convex hull, patch.",
        alt=f"Of {int(record.top.sum())} top pixels, opening keeps {int(record.opened.sum())}; dilated they are "
        f"{int(record.dilated.sum())} in {len(record.contours)} contours, whose hull covers {number(float(record.patch.mean()))} of the image.",
    )


def confidence_against_area(frame: pd.DataFrame, case: Case) -> None:
    """Confidence in a patch against its area, over all conditions and images."""
    own = frame[frame.method.str.contains(" x") & (frame.dataset == case.samples.name)]
    pivot = own.pivot_table(index=["method", "sample"], columns="metric", values="value")[
        [PATCH, "contour_patch_area"]
    ].dropna()
    slope = slope_on_area(own, case)
    plotting.show(
        plotting.scatter_regression(
            pivot["contour_patch_area"],
            pivot[PATCH],
            xlabel="patch area (share of the image)",
            ylabel="probability of the class",
        ),
        name="confidence-area",
        caption="Confidence in the contour patch against the share of the image it covers, all numbers of baselines and both "
        "aggregations. The interval treats patches as independent.",
        alt=f"The confidence rises by {number(slope.value)} [{number(slope.low)}, {number(slope.high)}] per unit of area; areas run from "
        f"{number(float(pivot['contour_patch_area'].min()))} to {number(float(pivot['contour_patch_area'].max()))}, {len(pivot)} patches.",
    )


def table3(
    frame: pd.DataFrame,
    kind: str,
    counts: Sequence[int],
    *,
    published: Mapping[str, float],
    prefix: str = "",
    name: str = "table3",
) -> None:
    """Table 3 of the document: our values with intervals, and the published ones ("<metric> x<B>" -> value)."""
    lines = []
    for metric, better in BETTER.items():
        statistic = "median" if metric == "relative_output_stability" else "mean"
        labels = [prefix + label_of(kind, c, "mean") for c in counts]
        line: dict[str, Any] = {"metric": f"{metric.replace('_', ' ')} ({better} is better)"}
        for count, (_, estimate) in zip(counts, estimates_of(frame, metric, labels, statistic), strict=True):
            line[f"B = {count}"] = plotting.estimate_text(estimate)
        reported = [f"{number(published[f'{metric} x{c}'], 4)} (B = {c})" for c in counts if f"{metric} x{c}" in published]
        line["published"] = " · ".join(reported) or "none"
        lines.append(line)
    plotting.table(
        pd.DataFrame(lines),
        caption="The eight metrics for several numbers of baselines: mean (relative output stability: median) over images with "
        "95 % interval, beside the document's values for another network and unknown settings.",
        name=name,
    )


def convergence(frame: pd.DataFrame, tolerance: float) -> None:
    """Stated against measured error of `n_baselines: auto`, image by image."""
    pivot = frame.pivot_table(index="sample", columns="metric", values="value")
    needed = pivot["baselines_needed"]
    fig = style.figure(3.4)
    ax = fig.subplots()
    style.dress(ax, "stated relative error", "measured relative error", grid="both")
    ax.plot(pivot["stated_error"], pivot["measured_error"], "o", color=style.COLOURS[0], markersize=5)
    top = float(pivot[["stated_error", "measured_error"]].max().max()) * 1.1
    ax.plot([0, top], [0, top], "--", color=style.FAINT, linewidth=1)
    ratio = stats.bootstrap_interval((pivot["measured_error"] / pivot["stated_error"]).to_numpy())
    plotting.show(
        fig,
        name="auto-error",
        caption=f"The rule `n_baselines: auto` at tolerance {tolerance:g}: the error it states against the error measured with as many "
        f"other baselines. Measured / stated: {plotting.estimate_text(ratio)}.",
        alt=f"{len(pivot)} images; measured over stated error averages {number(ratio.value)}; between {int(needed.min())} and "
        f"{int(needed.max())} baselines were used. The dashed line marks equality.",
    )
