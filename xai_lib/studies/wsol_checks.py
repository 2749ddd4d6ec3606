"""Study `wsol`, part 3: agreement between methods, repeats, completeness, noise, and the games that need the model again."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from xai_lib import agreement, baselines, boxes, maps, segments
from xai_lib.compendium.experiments import stored, study_task
from xai_lib.metrics.localisation_boxes import saliency_metric_of_boxes
from xai_lib.studies.case import Case, explainer, measure, rows
from xai_lib.studies.path_curves import curves_of
from xai_lib.studies.path_scores import GAME, GAMES
from xai_lib.studies.wsol_scores import Methods, localisation_maps, made_maps, reading, spread

MAPS_AGREE, MAPS_DIFFER = "correlation of maps", "distance of maps"
OVERLAP, OF_TOP = "overlap of the top fifths", 0.2
NOISE, SIDE = "total variation", 28
WHITE_NOISE = 2 * (2**0.5 - 1)
"""E||X| - |Y|| / E|X| of independent X, Y ~ N(0, 1)."""
COMPLETE = "completeness error"
COMPLETE_BY, SHAP = ("IG", "DeepLIFT", "GradientSHAP", "KernelSHAP"), "gradient_shap"
SALIENCY = "saliency metric"
OF_SEED = "box IoU of a seed"
REPEATS = "spread over seeds, over that over images"
SEGMENTS_AGREE = "overlap of the top five superpixels over seeds"
SIMILAR = ("perturbation mask", "gradient", "Guided Backprop", "Grad-CAM", "occlusion", "edges", "random")
"""The methods of Figure 2.7, and two controls."""
GRADIENTS: Methods = {
    "gradient": ("gradient", {}),
    "gradient x input": ("input_x_gradient", {}),
    "IG": ("integrated_gradients", {"baseline": "black", "steps": 32}),
    "DeepLIFT": ("deeplift", {"baseline": "black"}),
    "LRP, epsilon": ("lrp", {"rule": "epsilon"}),
}


@study_task(label="Agreement of maps")
def alike_rows(case: Case, *, methods: Methods) -> pd.DataFrame:
    """How alike the stored maps are: Spearman of the channel sums, overlap of the top fifths, noise of the gradient."""
    made = stored(case, localisation_maps, methods=methods)
    frames = [_alike(case, made, pair) for pair in (("DeepLIFT", "IG"), ("DeepLIFT", "GradientSHAP"), ("CAM", "Grad-CAM"))]
    for one, other in combinations(SIMILAR, 2):
        both = [made[label][:, 0].abs() for label in (one, other)]
        share = agreement.top_overlap(both[0], both[1], OF_TOP, seed=case.seed)
        union = share / (2 - share)
        frames.append(rows(case, f"{one} | {other}", OVERLAP, union, metric_parameters={"fraction": OF_TOP}))
    frames.append(rows(case, _net(case), NOISE, total_variation(made["gradient"])))
    return pd.concat(frames)


@study_task(label="Gradient methods on small nets")
def small_net_rows(case: Case) -> pd.DataFrame:
    """The same comparisons on a small net, where DeepLIFT and LRP are cheap enough to be held against 32 steps of IG."""
    made = made_maps(case, GRADIENTS)
    distance = (made["LRP, epsilon"] - made["gradient x input"]).flatten(1).norm(dim=1)
    size = made["gradient x input"].flatten(1).norm(dim=1)
    return pd.concat(
        [
            _alike(case, made, ("DeepLIFT", "IG")),
            rows(case, "LRP, epsilon | gradient x input", MAPS_DIFFER, distance / size),
            rows(case, _net(case), NOISE, total_variation(made["gradient"])),
        ]
    )


def _net(case: Case) -> str:
    """Label of a net's gradients."""
    return f"gradient, {getattr(case.model, 'name', 'model')}"


def _alike(case: Case, made: Mapping[str, Tensor], pair: Sequence[str]) -> pd.DataFrame:
    return rows(case, " | ".join(pair), MAPS_AGREE, agreement.rank_correlation(*(made[label] for label in pair)))


def total_variation(one: Tensor) -> Tensor:
    """(n,) mean |difference of neighbours| over the mean |value|, of |map| at every k-th pixel, some SIDE of them on a side.

    Pixels are left out, not averaged, which would take the noise away: maps of normal white noise have `WHITE_NOISE` at any
    resolution.
    """
    step = max(1, one.shape[-1] // SIDE)
    seen = one.abs()[:, 0, step // 2 :: step, step // 2 :: step]
    change = [seen.diff(dim=axis).abs().mean((1, 2)) for axis in (1, 2)]
    return (change[0] + change[1]) / 2 / seen.mean((1, 2))


@study_task(label="Insertion and deletion of the localisation panel")
def played_rows(case: Case, *, methods: Methods, points: int) -> pd.DataFrame:
    """Insertion (from the blur of RISE) minus deletion (to the mean colour), signed order, of the stored maps."""
    made = {label: spread(case, one) for label, one in stored(case, localisation_maps, methods=methods).items()}
    own = {"points": points}
    frames = []
    for label, (insertion, deletion) in curves_of(case, made, GAMES, points=points, tolerance=0.01).items():
        frames.append(rows(case, label, GAME, insertion.auc - deletion.auc, metric_parameters=own))
    return pd.concat(frames)


@study_task(label="Completeness of the localisation panel")
def additivity_rows(case: Case, *, methods: Methods) -> pd.DataFrame:
    """|sum A - (f(x) - f(x'))| over |f(x) - f(x')| of the stored maps that promise completeness, each with its own baseline.

    A superpixel counts once, whatever its size.
    """
    made = stored(case, localisation_maps, methods=methods)
    frames = []
    for label in COMPLETE_BY:
        name, own = methods[label]
        one = made[label]
        if "segments" in own:
            one = counted_once(one, segments.segment(own["segments"], case.inputs))
        baseline = own.get("baseline", "uniform")
        count = own["n_samples"] if name == SHAP and baselines.is_random(baseline) else 1
        words = {"baseline": baseline, "n_baselines": count}
        frames.append(
            measure(case, label, "completeness_gap", spread(case, one), name=COMPLETE, relative=True, seed=case.seed, **words)
        )
    return pd.concat(frames)


def counted_once(one: Tensor, labels: Tensor) -> Tensor:
    """Maps of superpixels with each pixel divided by the size of its superpixel: pixels add up as superpixels do."""
    sizes = torch.stack([torch.bincount(own.flatten())[own] for own in labels])
    return one / sizes[:, None]


@study_task(label="Crops around maps")
def crop_scores(case: Case, *, methods: Methods, labels: Sequence[str], shares: Sequence[float]) -> pd.DataFrame:
    """The metric of Dabkowski and Gal for the object's box, the whole image and the centre, and for maps cut at several shares.

    Rows `SALIENCY` of the boxes, and `SALIENCY` at each share of the maps (see `wsol_rows.crop_rows`).
    """
    shape = (case.inputs.shape[2], case.inputs.shape[3])
    truth = [largest(own, shape) for own in case.samples.boxes or ()]
    given = {
        "object's box": np.stack(truth),
        "whole image": np.tile(boxes.whole_box(shape), (len(truth), 1)),
        "centre box": np.tile(boxes.centre_box(shape), (len(truth), 1)),
    }
    request = (case.model, case.inputs, case.targets)
    frames = [
        rows(case, label, SALIENCY, saliency_metric_of_boxes(*request, own, max_batch=case.max_batch))
        for label, own in given.items()
    ]
    made = stored(case, localisation_maps, methods=methods)
    for label in labels:
        for share in shares:
            cut: dict[str, Any] = {"fraction": share, "reduce": reading(label)}
            frames.append(
                measure(case, label, "saliency_metric", spread(case, made[label]), name=f"{SALIENCY} at {share:g}", **cut)
            )
    return pd.concat(frames)


def largest(own: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The largest box of an image (the whole image where there is none)."""
    if not len(own):
        return boxes.whole_box(shape)
    return np.asarray(own, dtype=float)[np.prod(own[:, 2:] - own[:, :2], axis=1).argmax()]


@study_task(label="LIME under several seeds")
def repeat_rows(case: Case, *, lime: Sequence[Any], n_repeats: int) -> pd.DataFrame:
    """How much of LIME's map is the draw: its box's overlap over seeds beside its spread over images, and the top superpixels.

    A row of `box IoU of a seed` for each seed; what these give over images is in `wsol_rows.spread`.
    """
    name, own = lime
    made = [
        explainer(replace(case, seed=seed), name, **own)(case.model, case.inputs, case.targets) for seed in range(n_repeats)
    ]
    sums = [maps.reduce(one) for one in made]
    frames = []
    for seed, one in enumerate(made):
        frames.append(measure(replace(case, seed=seed), "LIME", "cam_box", one, name=OF_SEED, value="iou"))
    pairs = [[top_values(one[i]) for one in sums] for i in range(len(case.samples))]
    common = [np.mean([len(a & b) / len(a | b) for a, b in combinations(tops, 2)]) for tops in pairs]
    frames.append(rows(case, "LIME", SEGMENTS_AGREE, np.array(common)))
    frames.append(rows(case, "LIME", f"{MAPS_AGREE} of two seeds", agreement.rank_correlation(sums[0], sums[1])))
    return pd.concat(frames)


def top_values(one: Tensor, k: int = 5) -> set[int]:
    """Pixels' numbers, one for each of the k superpixels of largest weight: the first pixel of each."""
    flat = one.flatten()
    values = flat.unique().flip(0)[:k]
    return {int((flat == value).nonzero()[0]) for value in values}
