"""Study `case_studies`, part `parts`: its figures, with captions and alternative texts computed from the results."""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from xai_lib import plotting, segments
from xai_lib.plotting import number
from xai_lib.plotting.overlay import slic_overlay
from xai_lib.stats import Estimate
from xai_lib.studies import case_parts, common_figures
from xai_lib.studies.case import Case
from xai_lib.studies.case_parts_digits import AGREE, AGREE_INK, BLOCKS, CENTRE, CENTRE_GIVEN, PLACES, STARTS, shown
from xai_lib.studies.case_parts_pictures import GAME_GAIN, PAIRED, WITH_ABLATION
from xai_lib.studies.common_figures import estimates_of

DRAWN = ("IG, black", "mean of IG", "ablation", "LIME", "saliency")
CLASS_WORDS = {
    WITH_ABLATION: (
        "rank correlation over segments",
        "Sum of Integrated Gradients over each segment beside what the logit loses without the segment, by class.",
    ),
    GAME_GAIN: (
        "insertion minus deletion, above that of noise",
        "Insertion minus deletion of Integrated Gradients by class, less that of noise on the same picture: a blurred picture or one of a "
        "single colour may speak for some classes, whatever the map.",
    ),
}


def drawn_digits(case: Case, p: Mapping[str, Any]) -> None:
    """Figures 6 and 7: Integrated Gradients with borders of segments over them, beside maps that have a value per segment."""
    labels = segments.segment(case_parts.cut_of(p), case.inputs)
    made = shown(case, case_parts.panel(p), DRAWN)
    counts = segments.counts(labels)
    plotting.show(
        slic_overlay(case.samples, made, labels, over=["IG, black"], rows=range(len(case.samples))),
        name="parts-digits",
        caption="Figures 6 and 7 with another net: Integrated Gradients with the borders of SLIC segments drawn over them, which changes no "
        "number, as in the document; the mean over each segment, the loss of the logit when a segment becomes black, LIME on the segments, and saliency.",
        alt=f"Maps of {len(made)} methods for the digits {', '.join(map(str, case.samples.targets.tolist()))}; "
        f"{min(counts)} to {max(counts)} segments each.",
    )


def centres(frame: pd.DataFrame) -> None:
    """Whether attribution in the centre of 4 and 9 goes with the margin between them."""
    labels = [f"{d}: IG, {start} | {place}" for d in case_parts.PAIRED_DIGITS for start in STARTS for place in PLACES]
    given = {m: e.value for m, e in estimates_of(frame, CENTRE_GIVEN, labels) if np.isfinite(e.value)}
    least, most = min(given.values(), default=0.0), max(given.values(), default=0.0)
    common_figures.forest(
        frame,
        CENTRE,
        labels,
        words=(
            "rank correlation with the margin",
            "Mean attribution in the centre of a digit, and outside, against the margin of the 4 over the 9 (of the 9 over the 4): a "
            "low value in the centre would mark ambiguity. Integrated Gradients add up to the class's logit, which is part of the "
            f"margin; with it taken out, correlations are {number(least)} to {number(most)}.",
        ),
        name="parts-centres",
    )


def by_class(frame: pd.DataFrame, metric: str) -> None:
    """One metric of Integrated Gradients by class, and the difference that the document names."""
    methods = [m for m in frame[frame.metric == metric].method.unique() if m.startswith("IG | ")]
    named = [m for m in methods if m != f"IG | {PAIRED}"]
    controls = [
        m
        for m in ("random", "ablation")
        if (metric, m) != (GAME_GAIN, "random") and m in set(frame[frame.metric == metric].method)
    ]
    common_figures.forest(
        frame,
        metric,
        [*named, *[m for m in methods if m not in named], *controls],
        words=CLASS_WORDS[metric],
        name=f"parts-classes-{'game' if metric == GAME_GAIN else 'ablation'}",
    )


def agreement(frame: pd.DataFrame, case: Case, p: Mapping[str, Any]) -> None:
    """Mean rank correlation between every two methods: above the diagonal over all pixels, below over those of the ink."""
    own = frame[(frame.dataset == case.samples.name) & (frame.model == case.model.name)]  # type: ignore[attr-defined]
    labels = [*case_parts.panel(p), BLOCKS]
    metrics = [AGREE, AGREE_INK] if (own.metric == AGREE_INK).any() else [AGREE, AGREE]
    cells = np.full((len(labels), len(labels)), np.nan)
    wide, sizes, found = 0.0, set(), {}
    for (i, one), (j, other) in combinations(enumerate(labels), 2):
        for at, metric in (((i, j), metrics[0]), ((j, i), metrics[1])):
            estimate: Estimate = estimates_of(own, metric, [" | ".join(sorted((one, other)))])[0][1]
            cells[at] = estimate.value
            wide = max(wide, np.nan_to_num((estimate.high - estimate.low) / 2))
            sizes.add(estimate.n)
        found[one, other] = float(cells[i, j])
    least, most = min(found, key=lambda k: found[k]), max(found, key=lambda k: found[k])
    below = " below the diagonal over those that are not black alone," if metrics[1] == AGREE_INK else ""
    plotting.show(
        plotting.matrix(cells, labels, xlabel="rank correlation of |maps|"),
        name=f"parts-agreement-{case.samples.name.replace('_', '-')}",
        caption=f"Agreement of methods on the same picture ({case.samples.name}): Spearman correlation of the absolute maps over all pixels,"
        f"{below} mean over n = {min(sizes)} pictures; 95 % intervals reach at most {number(wide, 2)} to either side. The last two "
        "rows are controls.",
        alt=f"Over all pixels: highest {number(found[most])} for {most[0]} and {most[1]}, lowest {number(found[least])} for {least[0]} and "
        f"{least[1]}; n = {min(sizes)} pictures.",
    )
