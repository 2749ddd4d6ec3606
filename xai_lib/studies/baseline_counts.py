"""Study `baseline_study`, part 2: many random baselines (claims A2 to A5, A13 of document 000, and its future work)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from xai_lib import BASELINES, agreement, baselines, compute, contours, maps, stats
from xai_lib.compendium.experiments import stored, study_task
from xai_lib.methods.path import nested_aggregates, until_stable
from xai_lib.studies.case import Case, measure, rows

Nested = Mapping[tuple[int, str], Tensor]
PATCH = "contour_patch_prediction"


def label_of(kind: str, count: int, how: str) -> str:
    """Label of a condition: one baseline needs no aggregation.

    >>> label_of("uniform", 5, "mean"), label_of("uniform", 1, "median")
    ('uniform x5 mean', 'uniform x1')
    """
    return f"{kind} x1" if count == 1 else f"{kind} x{count} {how}"


@study_task(label="Aggregated maps for several numbers of random baselines")
def nested_maps(case: Case, *, kind: Any, counts: Sequence[int], steps: int) -> dict[str, Tensor]:
    """Mean and median maps for all counts from one computation, {"5 mean": (n, c, h, w), ...}."""
    made = nested_aggregates(
        case.model, case.inputs, case.targets, counts=counts, baseline=kind, steps=steps, seed=case.seed, score=case.score,
        max_batch=case.max_batch,
    )  # fmt: skip
    return {f"{count} {how}": a for (count, how), a in made.items()}


def nested(case: Case, kind: Any, counts: Sequence[int], *, steps: int) -> Nested:
    """The maps of `nested_maps` by (count, aggregate), from the store."""
    made = stored(case, nested_maps, kind=kind, counts=list(counts), steps=steps)
    return {(int(name.split()[0]), name.split()[1]): a for name, a in made.items()}


def conditions(kind: str, nested: Nested) -> dict[str, Tensor]:
    """The distinct maps by label; mean and median of one baseline are the same."""
    return {label_of(kind, count, how): a for (count, how), a in nested.items() if count > 1 or how == "mean"}


def approach(case: Case, kind: str, nested: Nested, *, reduce: str) -> pd.DataFrame:
    """How near the map of B baselines is to that of many others (claims A2, A13).

    The reference is the mean over the baselines from S + 1 to L (S and L the two largest counts), which no B <= S has seen:
    (L mean_L - S mean_S) / (L - S). Metrics: agreement_with_reference (Spearman of the reduced maps) and, against the
    largest count, agreement_with_largest, which is what a reader of the document compares by eye.
    """
    counts = sorted({count for count, _ in nested})
    small, large = counts[-2:]
    reference = (large * nested[large, "mean"] - small * nested[small, "mean"]) / (large - small)
    frames = []
    for (count, how), a in nested.items():
        if count == 1 and how == "median":
            continue
        label, own = label_of(kind, count, how), maps.reduce(a, reduce)
        if count <= small:
            values = agreement.rank_correlation(own, maps.reduce(reference, reduce))
            frames.append(rows(case, label, "agreement_with_reference", values, metric_parameters={"reduce": reduce}))
        if count < large:
            values = agreement.rank_correlation(own, maps.reduce(nested[large, "mean"], reduce))
            frames.append(rows(case, label, "agreement_with_largest", values, metric_parameters={"reduce": reduce}))
    return pd.concat(frames)


def patches(case: Case, kind: str, nested: Nested, *, fraction: float, reduce: str, fill: str = "black") -> pd.DataFrame:
    """Confidence in the contour patch of every condition, with its area and two controls of equal area (claims A3 to A5).

    Metrics: contour_patch_prediction, contour_patch_area, equal_area_random, equal_area_centre, patch_keeps_class.
    """
    own: dict[str, Any] = {"fraction": fraction, "reduce": reduce, "seed": case.seed}
    shared: dict[str, Any] = {**own, "fill": fill, "max_batch": case.max_batch}
    frames = []
    for label, a in conditions(kind, nested).items():
        frames.append(measure(case, label, PATCH, a, **shared))
        frames.append(measure(case, label, PATCH, a, name="equal_area_random", control="random", **shared))
        frames.append(measure(case, label, PATCH, a, name="equal_area_centre", control="centre", **shared))
        frames.append(measure(case, label, "contour_patch_area", a, **own))
        masks = contours.patch_masks(maps.reduce(a, reduce), fraction=fraction, seed=case.seed)
        kept = compute.logits(case.model, contours.fill_outside(case.inputs, masks, fill), max_batch=case.max_batch)
        frames.append(rows(case, label, "patch_keeps_class", (kept.argmax(1) == case.targets).double()))
    return pd.concat(frames)


@study_task(label="What several random baselines change")
def count_rows(case: Case, *, kind: Any, counts: Sequence[int], steps: int, fraction: float, reduce: str) -> pd.DataFrame:
    """`approach` and `patches` for one kind of random baseline."""
    made, name = nested(case, kind, counts, steps=steps), BASELINES.split(kind)[0]
    return pd.concat([approach(case, name, made, reduce=reduce), patches(case, name, made, fraction=fraction, reduce=reduce)])


def conditions_table(case: Case, kind: Any, counts: Sequence[int], *, steps: int, fraction: float, reduce: str) -> pd.DataFrame:
    """`count_rows` of all images, and what follows from all of them together.

    Further metric: area_adjusted_confidence, the confidence less what the patch's area explains (see `adjust_for_area`). Labels
    that end in "of B>1" average an image's values over all counts above 1.
    """
    own = {"steps": steps, "fraction": fraction, "reduce": reduce}
    frame = stored(case, count_rows, kind=kind, counts=list(counts), **own)
    patch = frame[~frame.metric.str.startswith("agreement_")]
    patch = pd.concat([patch, adjust_for_area(patch)])
    name = BASELINES.split(kind)[0]
    approaching = frame[frame.metric.str.startswith("agreement_")]
    return pd.concat([approaching, patch, *(averaged(case, patch, name, how) for how in ("mean", "median"))])


def adjust_for_area(frame: pd.DataFrame) -> pd.DataFrame:
    """Confidence - b x area, b the slope of confidence on area within images (least squares on deviations from image means)."""
    keys = ["method", "sample"]
    confidence = frame[frame.metric == PATCH]
    area = frame[frame.metric == "contour_patch_area"].set_index(keys).value
    joined = confidence.assign(area=area.loc[pd.MultiIndex.from_frame(confidence[keys])].to_numpy())
    y, x = (joined[c] - joined.groupby("sample")[c].transform("mean") for c in ("value", "area"))
    slope = float((x * y).sum() / (x**2).sum()) if (x**2).sum() > 0 else 0.0
    joined["metric"], joined["value"] = "area_adjusted_confidence", joined.value - slope * joined.area
    joined["metric_parameters"] = pd.Series([{"slope": slope}] * len(joined), index=joined.index, dtype=object)
    return joined.drop(columns="area")


def averaged(case: Case, frame: pd.DataFrame, kind: str, how: str) -> pd.DataFrame:
    """One row per image and metric: the mean over all counts above 1 of one aggregation."""
    several = frame[frame.method.str.endswith(f" {how}") & frame.method.str.startswith(f"{case.prefix}{kind} x")]
    means = several.groupby(["metric", "sample"], sort=False).value.mean().reset_index()
    frames = []
    for metric in means["metric"].unique():
        values = means[means["metric"] == metric].set_index("sample")["value"].loc[list(case.samples.ids)]
        frames.append(rows(case, f"{kind} {how} of B>1", str(metric), values))
    return pd.concat(frames)


def slope_on_area(frame: pd.DataFrame, case: Case) -> stats.Estimate:
    """Confidence regressed on area over all patches of a case: slope with its interval."""
    pivot = frame[frame.method.str.contains(" x") & frame.method.str.startswith(case.prefix)].pivot_table(
        index=["method", "sample"], columns="metric", values="value"
    )
    return stats.regress(pivot[PATCH].to_numpy(), pivot["contour_patch_area"].to_numpy())


def running_table(case: Case, frame: pd.DataFrame, kind: str, counts: Sequence[int], how: str) -> pd.DataFrame:
    """Table 1 or 2 of the document for the first image of the case: confidence of image and patch, class of the patch, area."""
    own = frame[(frame["sample"] == case.samples.ids[0]) & (frame.dataset == case.samples.name)]
    whole = compute.scores(case.model, case.inputs[:1], case.targets[:1], score="prob").item()
    lines = []
    for count in counts:
        one = own[own.method == case.prefix + label_of(kind, count, how)].set_index("metric").value
        lines.append(
            {
                "baselines": count,
                "aggregation": "none" if count == 1 else how,
                "p(image)": whole,
                "p(patch)": one[PATCH],
                "keeps the class": "yes" if one["patch_keeps_class"] else "no",
                "patch area": one["contour_patch_area"],
                "p(random patch)": one["equal_area_random"],
                "p(centre patch)": one["equal_area_centre"],
            }
        )
    return pd.DataFrame(lines)


@study_task(label="How many baselines are enough")
def convergence_rows(case: Case, *, kind: Any, tolerance: float, max_baselines: int, steps: int) -> pd.DataFrame:
    """`n_baselines: auto` on every image: baselines used, error stated, and the error held against other baselines.

    The check draws as many baselines again with another seed; two independent means with stated relative error e differ by
    about sqrt(2) e, so measured = ||A - A'|| / (sqrt(2) ||(A + A') / 2||).

    Returns:
        Rows baselines_needed, stated_error, measured_error.
    """
    own: dict[str, Any] = {"baseline": kind, "steps": steps, "score": case.score, "max_batch": case.max_batch}
    made, used, stated = until_stable(
        case.model, case.inputs, case.targets, tolerance=tolerance, max_baselines=max_baselines, seed=case.seed, **own
    )
    measured = []
    for i, count in enumerate(used.tolist()):
        again = nested_aggregates(
            case.model, case.inputs[i : i + 1], case.targets[i : i + 1], counts=(count,), aggregates=("mean",),
            seed=case.seed + 1, **own,
        )[count, "mean"][0]  # fmt: skip
        measured.append(float((made[i] - again).norm() / (2**0.5 * ((made[i] + again) / 2).norm())))
    label = f"auto at {tolerance:g}"
    return pd.concat(
        [
            rows(case, label, "baselines_needed", used.double()),
            rows(case, label, "stated_error", stated, flag="one baseline or noise only"),
            rows(case, label, "measured_error", measured),
        ]
    )


def interpolation(case: Case, image: int, alphas: Sequence[float], kind: Any) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Images between baseline and input (Figure 5), the score along the way, and the norm of the gradient there."""
    x = case.inputs[image : image + 1]
    start = baselines.draw(kind, x, seed=case.seed)
    line = torch.stack([start[0] + a * (x[0] - start[0]) for a in alphas])
    targets = case.targets[image].expand(len(line))
    probability = compute.scores(case.model, line, targets, score="prob", max_batch=case.max_batch)
    gradient = compute.input_gradient(case.model, line, targets, score=case.score, max_batch=case.max_batch)
    return line, probability.numpy(), gradient.flatten(1).norm(dim=1).numpy()
