"""Study `case_studies`, part `parts`: what Integrated Gradients find in small photographs (claim E12)."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from xai_lib import agreement, compute, maps, segments
from xai_lib.association import rank_products
from xai_lib.compendium.experiments import study_task
from xai_lib.metrics.localisation_pixels import pixel_average_precision
from xai_lib.studies.case import Case, explainer, rows
from xai_lib.studies.case_parts_digits import gradients, random_maps, share_in
from xai_lib.studies.path_curves import curves_of
from xai_lib.studies.path_scores import GAME, GAMES
from xai_lib.types import Spec

WITH_ABLATION, GAME_GAIN = "goes with ablation", f"{GAME} above noise"
OBJECT, GAIN, PRECISION = (
    "share on the object",
    "share on the object above its area",
    "average precision on the object above its area",
)
CONTRAST, WITH_CONTRAST = "contrast of object and background", "goes with the contrast"
UNSEEN = "not recognised"
DISTINCT, INDISTINCT = ("frog", "cat"), "ship"
"""Classes that document 004 calls distinct, and the one that it does not."""
PAIRED = f"{' and '.join(DISTINCT)} minus {INDISTINCT}"


@study_task(label="Integrated Gradients beside ablation on small photographs")
def picture_rows(case: Case, *, cut: Spec, steps: int, points: int) -> pd.DataFrame:
    """What can be said of a map where nobody knows where the object is.

    `WITH_ABLATION`: Spearman correlation over an image's segments between the sum of a map over the segment and what the logit
    loses when the segment becomes black; 1 for Integrated Gradients from black of a linear model. `GAME`: insertion minus
    deletion of the pixels in signed order (see `path_scores.panel_rows`), and `GAME_GAIN`: less that of noise on the same
    picture, since a blurred ship may still be a ship, whatever the map. Each for Integrated Gradients and for noise; the game
    for ablation, too. Undefined where the net does not predict the explained class, as in `object_rows`.
    """
    labels = segments.segment(cut, case.inputs)
    request = (case.model, case.inputs, case.targets)
    seen = (compute.logits(case.model, case.inputs, max_batch=case.max_batch).argmax(1) == case.targets).numpy()
    ablated = explainer(case, "feature_ablation", segments=labels, baseline="black")(*request)
    made = {"IG": gradients(case, "black", steps), "random": random_maps(case)}
    lost = of_segments(maps.reduce(ablated), labels, "mean")
    frames = []
    for label, one in made.items():
        sums = of_segments(one, labels, "sum")
        alike = [agreement.rank_correlation(a[None], b[None])[0] for a, b in zip(sums, lost, strict=True)]
        frames.append(rows(case, label, WITH_ABLATION, np.where(seen, np.array(alike), np.nan), flag=UNSEEN))
    spread = {label: _spread(case, one) for label, one in made.items()} | {"ablation": ablated}
    curves = curves_of(case, spread, GAMES, points=points, tolerance=0.01)
    played = {label: insertion.auc - deletion.auc for label, (insertion, deletion) in curves.items()}
    for label, values in played.items():
        for metric, found in {GAME: values, GAME_GAIN: values - played["random"]}.items():
            shown = np.where(seen, np.asarray(found), np.nan)
            frames.append(rows(case, label, metric, shown, flag=UNSEEN, metric_parameters={"points": points}))
    return pd.concat(frames)


def of_segments(one: Tensor, labels: Tensor, how: str) -> list[np.ndarray]:
    """For each image the mean or sum of its map (h, w) over its segments 0 .. M - 1."""
    means = segments.segment_means(one[:, None], labels)[:, 0]
    sizes = torch.stack([torch.bincount(own.flatten(), minlength=means.shape[1]) for own in labels])
    values = means if how == "mean" else means * sizes
    return [own[:m].numpy() for own, m in zip(values, segments.counts(labels), strict=True)]


def _spread(case: Case, one: Tensor) -> Tensor:
    return (one[:, None] / case.inputs.shape[1]).expand_as(case.inputs)


@study_task(label="Integrated Gradients against exact masks")
def object_rows(case: Case, *, steps: int) -> pd.DataFrame:
    """How much of |IG| lies on objects whose masks are known, above their area, and whether pixels are in the right order.

    Where the net does not predict the explained class, the rows are undefined: a map of a class that the net does not see has
    no reason to lie on the object. `CONTRAST` is the distance between the mean colours inside and outside the mask.
    """
    masks = case.samples.masks
    assert masks is not None
    seen = compute.logits(case.model, case.inputs, max_batch=case.max_batch).argmax(1) == case.targets
    area = masks.double().mean((1, 2))
    frames = [
        rows(case, "mask", OBJECT, area.where(seen, torch.nan), flag=UNSEEN),
        rows(case, "picture", CONTRAST, contrast(case.inputs, masks).where(seen, torch.nan), flag=UNSEEN),
    ]
    for label, one in {"IG": gradients(case, "black", steps), "random": random_maps(case)}.items():
        share = share_in(one, masks)
        precision = pixel_average_precision(one[:, None], masks, reduce="abs_sum").double()
        for metric, values in {OBJECT: share, GAIN: share - area, PRECISION: precision - area}.items():
            frames.append(rows(case, label, metric, values.where(seen, torch.nan), flag=UNSEEN))
    return pd.concat(frames)


def contrast(inputs: Tensor, masks: Tensor) -> Tensor:
    """(n,) Euclidean distance between the mean colours inside and outside of masks (n, h, w), float64."""
    inside, outside = (
        (inputs.double() * own[:, None]).sum((2, 3)) / own.sum((1, 2))[:, None].clamp_min(1) for own in (masks, ~masks)
    )
    return (inside - outside).norm(dim=1)


def contrast_rows(case: Case, found: pd.DataFrame) -> pd.DataFrame:
    """Rank correlation over pictures between the object's contrast and how well the map finds it, as rows whose mean it is.

    Args:
        found: rows of `object_rows` for all pictures.
    """
    frames = []
    reference = _ordered(case, found, "picture", CONTRAST)
    for metric in (GAIN, PRECISION):
        for label in ("IG", "random"):
            products = rank_products(_ordered(case, found, label, metric), reference)
            frames.append(rows(case, f"{label}, {metric}", WITH_CONTRAST, products, flag=UNSEEN))
    return pd.concat(frames)


def _ordered(case: Case, found: pd.DataFrame, method: str, metric: str) -> np.ndarray:
    own = found[(found.method == case.prefix + method) & (found.metric == metric)]
    return own.set_index("sample").value.loc[list(case.samples.ids)].to_numpy(dtype=float)


def class_rows(case: Case, found: pd.DataFrame, metrics: Sequence[str], method: str = "IG") -> pd.DataFrame:
    """Rows of one method by class, method "<method> | <class>", and the difference of the classes that the document names.

    `PAIRED`: the k-th pictures of each class in the order of the case, mean of `DISTINCT` minus `INDISTINCT`. The pictures of
    different classes have nothing in common, so any pairing gives the same mean and a fair interval.
    """
    names = np.array([case.samples.class_names[t] for t in case.samples.targets.tolist()])
    frames = []
    for metric in metrics:
        own = found[(found.method == case.prefix + method) & (found.metric == metric)]
        own = own.set_index("sample").loc[list(case.samples.ids)].reset_index()
        groups = {name: own[names == name] for name in dict.fromkeys(names)}
        frames += [group.assign(method=f"{case.prefix}{method} | {name}") for name, group in groups.items()]
        if {*DISTINCT, INDISTINCT} <= set(groups):
            frames.append(_difference(groups, f"{case.prefix}{method} | {PAIRED}"))
    return pd.concat(frames)[list(found.columns)]


def _difference(groups: dict[str, pd.DataFrame], label: str) -> pd.DataFrame:
    k = min(len(groups[name]) for name in (*DISTINCT, INDISTINCT))
    high = np.mean([groups[name].value.to_numpy()[:k] for name in DISTINCT], axis=0)
    values = high - groups[INDISTINCT].value.to_numpy()[:k]
    flags = ["" if np.isfinite(v) else "undefined" for v in values]
    return groups[INDISTINCT][:k].assign(method=label, value=values, flag=flags)
