"""Study `baseline_study`, part 1: one baseline of each kind (claims A1, A8, A10, A11, A12 of document 000)."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from xai_lib import BASELINES, agreement, baselines, compute, contours, maps
from xai_lib.compendium.experiments import stored, study_task
from xai_lib.errors import ConfigError
from xai_lib.studies.case import Case, explainer, measure, rows

TWO_DRAWS = "uniform, two draws"
REGIONS = ("whole image", "hull", "rectangle", "polylines", "centre patch", "random patch", "top pixels", "random pixels")


@study_task(label="Integrated Gradients from one baseline of each kind")
def single_maps(case: Case, *, kinds: Sequence[Any], steps: int) -> dict[str, Tensor]:
    """Integrated Gradients from one baseline of each kind, and a second draw of uniform noise as the floor.

    Returns:
        {label: (n, c, h, w)}; the second draw is labelled "uniform, second draw".
    """
    names = [BASELINES.split(kind)[0] for kind in kinds]
    if "uniform" not in names or "black" not in names:
        raise ConfigError(f"baselines: found {names}; black and uniform must be among them, the claims are about them")
    made = {}
    for kind in kinds:
        made[BASELINES.split(kind)[0]] = explainer(case, "integrated_gradients", baseline=kind, steps=steps)(
            case.model, case.inputs, case.targets
        )
    second = explainer(case, "integrated_gradients", baseline=_second_draw(case), steps=steps)
    made["uniform, second draw"] = second(case.model, case.inputs, case.targets)
    return made


def _second_draw(case: Case) -> Any:
    return lambda inputs: baselines.draw("uniform", inputs, 1, seed=case.seed)


@study_task(label="What one baseline of each kind changes")
def single_table(case: Case, *, kinds: Sequence[Any], steps: int, fraction: float, reduce: str) -> pd.DataFrame:
    """Everything this module measures, for the maps of `single_maps`; the regions are those of the black baseline."""
    attributions = stored(case, single_maps, kinds=kinds, steps=steps)
    return pd.concat(
        [
            agreement_of_kinds(case, attributions, fraction=fraction, reduce=reduce),
            blindness(case, attributions),
            high_frequency(case, attributions),
            completeness(case, attributions, kinds),
            localisation(case, attributions, reduce=reduce),
            kept_regions(case, attributions["black"], fraction=fraction, reduce=reduce),
        ]
    )


def agreement_of_kinds(case: Case, attributions: Mapping[str, Tensor], *, fraction: float, reduce: str) -> pd.DataFrame:
    """Spearman correlation and top-pixel overlap between the maps of every two kinds, image by image.

    Rows "<kind> vs <kind>", their mean over pairs "different kinds", and the floor "uniform, two draws": two draws of one
    kind differ by chance alone, so kinds differ from each other only where they agree less than that.
    """
    reduced = {label: maps.reduce(a, reduce) for label, a in attributions.items()}
    own = [label for label in reduced if label != "uniform, second draw"]
    parameters = {"reduce": reduce}
    frames = []
    for metric, compare in {
        "rank_correlation": agreement.rank_correlation,
        "top_overlap": lambda a, b: agreement.top_overlap(a, b, fraction, seed=case.seed),
    }.items():
        pairs = {f"{a} vs {b}": compare(reduced[a], reduced[b]) for a, b in combinations(own, 2)}
        pairs["different kinds"] = np.mean(np.stack(list(pairs.values())), axis=0)
        pairs[TWO_DRAWS] = compare(reduced["uniform"], reduced["uniform, second draw"])
        own_parameters = parameters | ({"fraction": fraction} if metric == "top_overlap" else {})
        frames += [rows(case, k, metric, v, metric_parameters=own_parameters) for k, v in pairs.items()]
    return pd.concat(frames)


def blindness(case: Case, attributions: Mapping[str, Tensor]) -> pd.DataFrame:
    """Share of |attribution| on the darkest tenth of the channel values, for each kind of baseline (claim A11)."""
    flat = case.inputs.flatten(1)
    darkest = maps.top_mask(-flat[:, None, :], 0.1, seed=case.seed).flatten(1)
    frames = []
    for label, a in attributions.items():
        size = a.abs().flatten(1).double()
        share = (size * darkest).sum(1) / size.sum(1)
        frames.append(rows(case, label, "share_on_darkest", share, metric_parameters={"fraction": 0.1}))
    return pd.concat(frames)


def high_frequency(case: Case, attributions: Mapping[str, Tensor]) -> pd.DataFrame:
    """Spearman correlation of |map| with the local energy of the image's Laplacian, for each kind (claim A12).

    The energy is the squared 3x3 Laplacian of the grey image, smoothed over 5x5 pixels. "mean of the others" is the mean over
    all kinds but blur.
    """
    grey = case.inputs.mean(1).cpu().numpy().astype(np.float32)
    energy = np.stack([cv2.blur(cv2.Laplacian(g, cv2.CV_32F) ** 2, (5, 5)) for g in grey])
    smooth = {}
    for label, a in attributions.items():
        size = maps.reduce(a, "sum").abs().cpu().numpy().astype(np.float32)
        smooth[label] = agreement.rank_correlation(np.stack([cv2.blur(s, (5, 5)) for s in size]), energy)
    others = [v for label, v in smooth.items() if label not in ("blur", "uniform, second draw")]
    if "blur" in smooth and others:
        smooth["mean of the others"] = np.mean(others, axis=0)
    return pd.concat([rows(case, k, "correlation_with_high_frequency", v) for k, v in smooth.items()])


def completeness(case: Case, attributions: Mapping[str, Tensor], kinds: Sequence[Any]) -> pd.DataFrame:
    """Relative completeness gap of each kind: the check that the integral was computed well enough."""
    frames = []
    for kind in kinds:
        label = BASELINES.split(kind)[0]
        frames.append(
            measure(
                case, label, "completeness_gap", attributions[label], baseline=kind, relative=True, seed=case.seed,
                score=case.score, max_batch=case.max_batch,
            )
        )  # fmt: skip
    return pd.concat(frames)


def localisation(case: Case, attributions: Mapping[str, Tensor], *, reduce: str) -> pd.DataFrame:
    """Energy in box and pointing game of each kind, beside a random map and a centred bump (claim A8)."""
    if case.samples.boxes is None:
        return pd.DataFrame()
    controls = {
        label: explainer(case, name)(case.model, case.inputs, case.targets)
        for label, name in {"random map": "random_attribution", "centre bump": "centre_gaussian"}.items()
    }
    frames = []
    for label, a in {**attributions, **controls}.items():
        frames.append(measure(case, label, "energy_in_box", a, reduce=reduce))
        frames.append(measure(case, label, "pointing_game", a, reduce=reduce, seed=case.seed))
    return pd.concat(frames)


def kept_regions(case: Case, attributions: Tensor, *, fraction: float, reduce: str) -> pd.DataFrame:
    """What the model says to top pixels, contour patch, and random regions of the same size (claims A9, A10).

    Metrics: kept_probability (of the explained class), kept_accuracy (is it still predicted), kept_area (share of pixels).
    Methods: the whole image, top pixels, random pixels, the three contour variants, and random and centred patches with the
    area of the hull.
    """
    reduced = maps.reduce(attributions, reduce)
    hull = contours.patch_masks(reduced, fraction=fraction, seed=case.seed)
    regions = {
        "whole image": torch.ones_like(hull),
        "top pixels": maps.top_mask(reduced, fraction, seed=case.seed),
        "random pixels": maps.top_mask(_noise(case), fraction, seed=case.seed),
        "hull": hull,
        "rectangle": contours.patch_masks(reduced, fraction=fraction, variant="rectangle", seed=case.seed),
        "polylines": contours.patch_masks(reduced, fraction=fraction, variant="polylines", seed=case.seed),
        "random patch": contours.random_masks(hull, seed=case.seed),
        "centre patch": contours.centre_masks(hull),
    }
    return pd.concat([predictions(case, label, masks, fraction) for label, masks in regions.items()])


def predictions(case: Case, label: str, masks: Tensor, fraction: float, fill: str = "black") -> pd.DataFrame:
    """kept_probability, kept_accuracy and kept_area of images with everything outside `masks` replaced."""
    logits = compute.logits(case.model, contours.fill_outside(case.inputs, masks, fill), max_batch=case.max_batch)
    probability = logits.softmax(1).gather(1, case.targets[:, None])[:, 0]
    right = (logits.argmax(1) == case.targets).double()
    own = {"fill": fill, "fraction": fraction}
    values = {"kept_probability": probability, "kept_accuracy": right, "kept_area": masks.flatten(1).double().mean(1)}
    return pd.concat([rows(case, label, metric, v, metric_parameters=own) for metric, v in values.items()])


def _noise(case: Case) -> Tensor:
    made = explainer(case, "random_attribution")(case.model, case.inputs, case.targets)
    return maps.reduce(made, "sum")
