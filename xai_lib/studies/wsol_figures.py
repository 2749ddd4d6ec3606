"""Study `wsol`, part 6: its figures, with captions and alternative texts computed from the results."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from matplotlib.patches import Rectangle
from torch import Tensor

from xai_lib import plotting, stats
from xai_lib.plotting import number
from xai_lib.studies import common_figures
from xai_lib.studies.case import Case
from xai_lib.studies.common_figures import estimates_of
from xai_lib.studies.wsol_checks import COMPLETE, NOISE, OVERLAP, SIDE, WHITE_NOISE
from xai_lib.studies.wsol_rows import LEVELS, Scores, by_metric
from xai_lib.studies.wsol_scores import BOX, KS, MATCHED, PRECISION, SWEEP, asked, iou_name, reading

WORDS = {
    BOX: ("IoU of the box", "Overlap of the box around the largest component above 20 % of the maximum with the object's box."),
    NOISE: (
        "total variation",
        f"Absolute gradient maps, read at some {SIDE} points on a side of each image: mean difference of neighbours over mean value. "
        f"Normal white noise has {number(WHITE_NOISE)} at any resolution, maps with a few large values more.",
    ),
    COMPLETE: (
        "completeness error, share of the score's change (median)",
        "How far the maps are from adding up to the score's change from their baseline to the image.",
    ),
    PRECISION: (
        "average precision of pixels",
        "Pictures of shapes with exact masks: area under precision and recall of the pixels.",
    ),
}
"""Axis label and caption of each forest plot, by metric."""
SHOWN = ("gradient", "IG", "DeepLIFT", "Guided Backprop", "CAM", "Grad-CAM", "LIME", "occlusion")
"""Methods on the sheets."""
AGAIN = ("centre box", "random")
"""Controls that are shown twice where the slow methods see fewer images."""


def forest(frame: pd.DataFrame, metric: str, methods: Sequence[str], *, name: str = "", caption: str = "") -> None:
    """Forest plot of one metric over several methods, under the metric's caption or another."""
    common_figures.forest(
        frame,
        metric,
        methods,
        words=(WORDS[metric][0], caption or WORDS[metric][1]),
        name=name or metric.lower().replace(" ", "-"),
    )


def box_forest(frame: pd.DataFrame, methods: Sequence[str], few: Case) -> None:
    """Overlap of the box; two controls also on the images that the slow methods see, where these are fewer."""
    own = frame[frame.metric == BOX]
    some = own[own["sample"].isin(few.samples.ids) & own.method.isin(AGAIN)]
    n = len(few.samples)
    relabelled = some.assign(method=some.method + f", those {n} images")
    twice = sorted(relabelled.method.unique()) if n < own["sample"].nunique() else []
    caption = f" Methods that change the image many times see {n} images; their controls are those of “those {n} images”."
    forest(pd.concat([own, relabelled]), BOX, [*methods, *twice], caption=WORDS[BOX][1] + (caption if twice else ""))


def sweep(scores: Scores, methods: Sequence[str]) -> None:
    """The share of localised objects at each threshold."""
    found = by_metric(scores, SWEEP)
    steps = next(iter(found.values())).shape[1]
    shown = sorted({round(k * (steps - 1) / 19) for k in range(20)})
    lines = {m: [stats.bootstrap_interval((found[m][:, k] >= LEVELS[SWEEP][0]).astype(float)) for k in shown] for m in methods}
    tops = {m: max((e.value, shown[i] / steps) for i, e in enumerate(points)) for m, points in lines.items()}
    plotting.show(
        plotting.curve([k / steps for k in shown], lines, xlabel="threshold, share of the maximum", ylabel="share localised"),
        name="sweep",
        caption="Share of objects whose box is overlapped by half or more, by the threshold at which the map is cut. A fixed threshold "
        "compares methods where none of them is at its best.",
        alt=f"Largest share: {', '.join(f'{m} {number(v)} at {t:.2f}' for m, (v, t) in tops.items())}; "
        f"n = {lines[methods[0]][0].n} images, 95 % intervals."[:245],
    )


def by_area(scores: Scores, methods: Sequence[str]) -> None:
    """Overlap by the size of the object, in four groups of images (fewer where these would hold less than four images)."""
    area = scores["image | area"].double().numpy()
    groups = min(4, max(1, len(area) // 4))
    edges = np.quantile(area, np.linspace(0, 1, groups + 1))
    group = np.clip(np.searchsorted(edges, area, side="right") - 1, 0, groups - 1)
    found = by_metric(scores, BOX)
    middle = [round(float(area[group == g].mean()), 2) for g in range(groups)]
    lines = {m: [stats.bootstrap_interval(found[m][group == g]) for g in range(groups)] for m in methods}
    last = {m: (points[0].value, points[-1].value) for m, points in lines.items()}
    plotting.show(
        plotting.curve(middle, lines, xlabel="share of the image that the object's box covers", ylabel="IoU of the box"),
        name="by-area",
        caption="Overlap of the box by the object's size, groups of equally many images. Where objects fill the image, the image's own frame is a "
        "good box.",
        alt=f"From small to large objects: {', '.join(f'{m} {number(a)} to {number(b)}' for m, (a, b) in last.items())}; "
        f"95 % intervals, n = {lines[methods[0]][0].n} to {lines[methods[0]][-1].n} images a group."[:245],
    )


def thresholds(frame: pd.DataFrame) -> None:
    """The finished document's metric at several thresholds."""
    lines = {m: [estimates_of(frame, iou_name(k), [m])[0][1] for k in KS] for m in (*MATCHED, "whole image", "random")}
    plotting.show(
        plotting.curve(KS, lines, xlabel="threshold, standard deviations", ylabel="pixel IoU"),
        name="thresholds",
        caption="The finished document's overlap at several thresholds: the order of the methods, and what no method needs.",
        alt=f"At {KS[1]:g} standard deviations: {', '.join(f'{m} {number(points[1].value)}' for m, points in lines.items())}; "
        f"95 % intervals, n = {lines[MATCHED[0]][0].n} images."[:245],
    )


def overlaps(frame: pd.DataFrame, methods: Sequence[str]) -> None:
    """Common share of the top fifths of every two methods."""
    cells = np.full((len(methods), len(methods)), np.nan)
    for (i, one), (j, other) in combinations(enumerate(methods), 2):
        cells[i, j] = cells[j, i] = estimates_of(frame, OVERLAP, [f"{one} | {other}"])[0][1].value
    pairs = {(methods[i], methods[j]): float(cells[i, j]) for i, j in combinations(range(len(methods)), 2)}
    high = max(pairs, key=lambda pair: pairs[pair])
    n = estimates_of(frame, OVERLAP, [f"{methods[0]} | {methods[1]}"])[0][1].n
    plotting.show(
        plotting.matrix(cells, list(methods), xlabel="IoU of the top fifths"),
        name="overlaps",
        caption=f"Overlap of the most relevant fifths of the pixels, mean over n = {n} images. Two random fifths overlap by 0.11.",
        alt=f"Largest overlap {number(pairs[high])} between {high[0]} and {high[1]}; n = {n} images.",
    )


def noise(frame: pd.DataFrame) -> None:
    """How rough the gradients of several nets are."""
    forest(frame, NOISE, list(frame[frame.metric == NOISE].method.unique()))


def exact(frame: pd.DataFrame, methods: Sequence[str]) -> None:
    """Average precision against exact masks."""
    forest(frame, PRECISION, [f"shapes: {m}" for m in methods], name="exact-masks")


def sheet(case: Case, made: Mapping[str, Tensor], method: str) -> None:
    """The best, the median and the worst image of a method, with the maps of others; the object's boxes are drawn."""
    made = {label: made[label] for label in {method: 0} | dict.fromkeys(SHOWN)}
    values = asked(case, made[method], "cam_box", value="iou", reduce=reading(method)).numpy()
    order = np.argsort(values)
    chosen = list(dict.fromkeys([int(order[-1]), int(order[len(order) // 2]), int(order[0])]))
    figure = plotting.attribution_grid(case.samples, {label: one[:, 0] for label, one in made.items()}, rows=chosen)
    drawn = [ax for ax in figure.axes if ax.images]
    per_image = 1 + len(made)
    for k, ax in enumerate(drawn[: per_image * len(chosen)]):
        for x0, y0, x1, y1 in (case.samples.boxes or ())[chosen[k // per_image]]:
            ax.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, edgecolor="#e69f00", linewidth=1.2))
    plotting.show(
        figure,
        name=f"sheet-{method.lower().replace(' ', '-')}",
        caption=f"Images whose box {method} finds best, median and worst (from top), and what other methods make of them. Orange: the "
        "object's boxes.",
        alt=f"Maps of {len(made)} methods for {len(chosen)} images; overlap of {method}'s box: "
        f"{', '.join(number(float(values[i])) for i in chosen)}.",
    )
