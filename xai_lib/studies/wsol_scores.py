"""Study `wsol`, part 2: the maps, and how well they agree with boxes and masks."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from xai_lib import METHODS, METRICS, compute, maps
from xai_lib.compendium.experiments import stored, study_task
from xai_lib.metrics.localisation import box_masks
from xai_lib.metrics.localisation_sets import max_box_accuracies
from xai_lib.studies.case import Case, explainer

Methods = Mapping[str, Sequence[Any]]
"""By label: [registered method, its parameters]."""

SIGNED = ("CAM", "Grad-CAM", "occlusion", "superpixels left out", "LIME", "KernelSHAP", "RISE", "perturbation mask")
"""Methods whose negative values speak against the class; of all others the absolute value is read."""
MATCHED = ("DeepLIFT", "GradientSHAP", "Guided Grad-CAM", "LIME")
"""The document's panel; each has a random control of its own density."""
KS = (0.25, 0.5, 1.0, 2.0)
"""Standard deviations below which the finished document sets a map to 0."""
BOX, TIGHT, GAIN = "box IoU", "tightest box IoU", "tightest minus largest component"
SWEEP, SWEEP_ALL = "IoU by threshold", "IoU by threshold, all components"
LEVEL = 0.5
"""Overlap of two boxes that counts as found."""
MASS = "mass in the box above its area"
PRECISION = "pixel average precision"


def reading(label: str) -> str:
    """How channels become one map: signed where the sign speaks about the class, else without sign."""
    return "sum" if label in SIGNED else "abs_sum"


@study_task(label="Maps of the localisation panel")
def localisation_maps(case: Case, *, methods: Methods) -> dict[str, Tensor]:
    """Channel sums of the maps, (n, 1, h, w), by label; every metric of this study begins with them."""
    return made_maps(case, methods)


def made_maps(case: Case, methods: Methods) -> dict[str, Tensor]:
    """What `localisation_maps` stores, computed here."""
    request = (case.model, case.inputs, case.targets)
    return {label: maps.reduce(explainer(case, name, **own)(*request))[:, None] for label, (name, own) in methods.items()}


@study_task(label="Maps against boxes")
def localisation_scores(case: Case, *, methods: Methods, keep: bool, thresholds: int) -> dict[str, Tensor]:
    """Every localisation metric of every map: {"method | metric": (n,)}, and (n, thresholds) for the swept boxes.

    Args:
        keep: take the maps from the store, where other experiments find them.
        thresholds: of `SWEEP`, evenly spaced over [0, 1) of the map scaled by its least and largest value.
    """
    made = stored(case, localisation_maps, methods=methods) if keep else made_maps(case, methods)
    found: dict[str, Tensor] = {}
    for label, one in made.items():
        found |= {f"{label} | {metric}": values for metric, values in localised(case, label, one, thresholds).items()}
        if label in MATCHED:
            noise = as_dense(case, one)
            found[f"random, as dense as {label} | {iou_name(KS[1])}"] = asked(case, noise, "pixel_iou", k=KS[1])
    found["image | confidence"] = compute.scores(*_request(case), score="prob", max_batch=case.max_batch)
    found["image | area"] = box_masks(case.samples.boxes or (), case.inputs[:, 0]).double().mean((1, 2))
    return found


def as_dense(case: Case, one: Tensor, k: float = KS[1]) -> Tensor:
    """Ones at random pixels, as many as a map of channel sums keeps at k standard deviations, (n, 1, h, w)."""
    method = METHODS.bind("density_matched_random", base=lambda *_: spread(case, one), k=k, seed=case.seed)
    return maps.reduce(method(*_request(case)))[:, None]


def spread(case: Case, one: Tensor) -> Tensor:
    """Attributions of the inputs' shape with these channel sums."""
    return (one / case.inputs.shape[1]).expand_as(case.inputs)


def _request(case: Case) -> tuple[Any, Tensor, Tensor]:
    return case.model, case.inputs, case.targets


def iou_name(k: float, weighted: bool = False) -> str:
    """Name of the finished document's metric at a threshold."""
    return f"{'weighted' if weighted else 'pixel'} IoU, k = {k:g}"


def asked(case: Case, one: Tensor, metric: str, **own: Any) -> Tensor:
    """A localisation metric of maps of channel sums."""
    words = {"attributions": one, "boxes": case.samples.boxes, "masks": case.samples.masks}
    return METRICS.ask(METRICS.bind(metric, **own), words)


def localised(case: Case, label: str, one: Tensor, thresholds: int) -> dict[str, Tensor]:
    """The localisation metrics of one method's maps."""
    read = {"reduce": reading(label)}
    ask: dict[str, tuple[str, dict[str, Any]]] = {
        BOX: ("cam_box", {**read, "value": "iou"}),
        TIGHT: ("tightest_box", {**read, "value": "iou"}),
        "points at it": ("pointing_game", {**read, "tolerance": 0.0}),
        "points near it": ("pointing_game", {**read, "tolerance": 15.0}),
        MASS: ("attribution_mass", read),
        PRECISION: ("box_pixel_average_precision", read),
        **{iou_name(k): ("pixel_iou", {"k": k}) for k in KS},
        **{iou_name(k, True): ("weighted_iou", {"k": k}) for k in KS},
    }
    found = {metric: asked(case, one, name, **own) for metric, (name, own) in ask.items()}
    found["localised"] = (found[BOX] > LEVEL).where(~found[BOX].isnan(), torch.nan).to(one)
    found[GAIN] = found[TIGHT] - found[BOX]
    truth = case.samples.boxes or ()
    swept = max_box_accuracies(one, truth, thresholds=thresholds, reduce=reading(label))
    found[SWEEP], found[SWEEP_ALL] = (torch.from_numpy(own.ious) for own in swept)
    return found
