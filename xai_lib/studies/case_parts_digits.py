"""Study `case_studies`, part `parts`: what maps say of digits: ink, centre, named parts (claims E9 and E10), and agreement."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from xai_lib import agreement, compute, maps, segments
from xai_lib.association import rank_products
from xai_lib.compendium.experiments import study_task
from xai_lib.randomness import image_generator
from xai_lib.studies.case import Case, explainer, rows
from xai_lib.studies.case_parts_regions import INK, centre_of, named_parts, part_names
from xai_lib.studies.wsol_scores import Methods, made_maps
from xai_lib.types import Spec

INK_SHARE, INK_GAIN = "share on ink", "share on ink above its area"
CENTRE = "goes with the margin"
CENTRE_GIVEN = f"{CENTRE}, logit taken out"
RANK, TOP, EXCESS = "rank of the part", "top segment in the part", "top segment in the part, above chance"
AGREE, AGREE_INK = "agreement of maps", "agreement of maps on ink"
STARTS: Mapping[str, Spec] = {"black": "black", "grey": {"constant": {"value": 0.5}}, "max distance": "max_distance"}
"""Baselines of Integrated Gradients; document 004 took the first."""
BLOCKS = "random segments"
PLACES = ("centre", "rest")
MIN_INK = 0.25
"""Share of a segment's pixels from which it counts as a segment of the digit."""


def gradients(case: Case, start: str, steps: int) -> Tensor:
    """(n, h, w) channel sums of Integrated Gradients from one of `STARTS`."""
    own = {"baseline": STARTS[start], "steps": steps}
    return maps.reduce(explainer(case, "integrated_gradients", **own)(case.model, case.inputs, case.targets))


def random_maps(case: Case) -> Tensor:
    """(n, h, w) of noise, which knows neither picture nor model."""
    return maps.reduce(explainer(case, "random_attribution")(case.model, case.inputs, case.targets))


def random_blocks(case: Case, cut: Spec) -> Tensor:
    """(n, h, w): a standard normal number for each segment, whatever its size."""
    labels = segments.segment(cut, case.inputs)
    generators = [image_generator(case.seed, "random_blocks", x) for x in case.inputs]
    drawn = [torch.randn(m, generator=g) for m, g in zip(segments.counts(labels), generators, strict=True)]
    return segments.spread(drawn, labels, case.inputs[:, :1])[:, 0]


def share_in(one: Tensor, masks: Tensor) -> Tensor:
    """Share of a map's mass, sum |S| over the mask / sum |S|.

    Args:
        one: (n, h, w).
        masks: (n, h, w) bool.

    Returns:
        (n,) float64 in [0, 1]; NaN for a map of zeros.
    """
    size = one.abs().double()
    return (size * masks).sum((1, 2)) / size.sum((1, 2))


@study_task(label="Integrated Gradients on ink")
def ink_rows(case: Case, *, steps: int) -> pd.DataFrame:
    """How much of |IG| lies on pixels that are not black, for each baseline, and for noise.

    From black it is all of it, whatever the net: A_i = (x_i - 0) times an average of gradients. Rows `INK_SHARE`, and
    `INK_GAIN`: less the share of the area, which is in rows of method "ink".
    """
    ink = case.inputs[:, 0] > 0
    area = ink.double().mean((1, 2))
    frames = [rows(case, "ink", INK_SHARE, area)]
    made = {f"IG, {start}": gradients(case, start, steps) for start in STARTS} | {"random": random_maps(case)}
    for label, one in made.items():
        share = share_in(one, ink)
        frames += [rows(case, label, INK_SHARE, share), rows(case, label, INK_GAIN, share - area)]
    return pd.concat(frames)


@study_task(label="Attribution in the centre of a digit")
def centre_values(case: Case, *, other: int, steps: int) -> dict[str, Tensor]:
    """Mean attribution in the centre and outside, and how sure the net is that the digit is not another.

    Args:
        other: the digit that it might be taken for.

    Returns:
        {"image | margin": z_own - z_other, "image | logit": z_own, "<map> | centre", "<map> | rest": (n,)}; NaN where the
        centre has no pixel.
    """
    out = compute.logits(case.model, case.inputs, max_batch=case.max_batch)
    own = out.gather(1, case.targets[:, None])[:, 0]
    centres = torch.stack([torch.from_numpy(centre_of((x[0] >= INK).numpy())) for x in case.inputs.cpu()])
    found = {"image | margin": own - out[:, other], "image | logit": own}
    for start in STARTS:
        one = gradients(case, start, steps)
        for place, masks in zip(PLACES, (centres, ~centres), strict=True):
            found[f"IG, {start} | {place}"] = (one * masks).sum((1, 2)) / masks.sum((1, 2))
    return {name: values.double() for name, values in found.items()}


def centre_rows(case: Case, values: Mapping[str, Tensor], digit: int) -> pd.DataFrame:
    """Rank correlation over images between the attribution of a place and the margin, as rows whose mean it is.

    Args:
        values: from `centre_values`, of all images.
        digit: put before the methods, "<digit>: <map> | <place>".

    Returns:
        Rows `CENTRE`, and `CENTRE_GIVEN` with the class's own logit taken out of both: the sum of Integrated Gradients is that
        logit up to a constant, so that any place goes with it.
    """
    found = {name: one.numpy() for name, one in values.items()}
    margin, logit = found.pop("image | margin"), found.pop("image | logit")
    frames = []
    for label, one in found.items():
        own = {CENTRE: rank_products(one, margin), CENTRE_GIVEN: rank_products(one, margin, given=logit)}
        frames += [rows(case, f"{digit}: {label}", metric, products) for metric, products in own.items()]
    return pd.concat(frames)


@study_task(label="Segments on named parts of a digit")
def part_rows(case: Case, *, digit: int, cut: Spec, steps: int) -> pd.DataFrame:
    """Where the parts of a 4 or 8 stand among the segments of the digit, by several values per segment.

    Segments with `MIN_INK` ink are compared; one belongs to a part when more than half of its ink does. `RANK` is the chance
    that a segment of the part has a larger value than one of the other ink (ties count half): 1/2 says nothing. `TOP` says
    whether the digit's segment of the largest value belongs to the part; `EXCESS` is that less the part's share of the digit's
    segments, which is what chance gives.

    Values: mean of Integrated Gradients from black, ablation from black, and two controls, noise and the amount of ink.
    Rows of method "<digit>, <part> | <value>"; undefined where the picture has no such part.
    """
    labels = segments.segment(cut, case.inputs)
    ablated = explainer(case, "feature_ablation", segments=labels, baseline="black")(case.model, case.inputs, case.targets)
    ink = case.inputs[:, 0] >= INK
    pixels = {
        "mean of IG": gradients(case, "black", steps),
        "ablation": maps.reduce(ablated),
        "random": random_maps(case),
        "ink": case.inputs[:, 0],
    }
    values = {label: segments.segment_means(one[:, None], labels)[:, 0].numpy() for label, one in pixels.items()}
    frames = []
    found = [segments_of_parts(digit, own.numpy(), cuts.numpy()) for own, cuts in zip(ink, labels, strict=True)]
    for part in part_names(digit):
        for label, one in values.items():
            scores = np.array([_placed(own[: len(of[0])], of, part) for own, of in zip(one, found, strict=True)])
            for metric, column in zip((RANK, TOP, EXCESS), scores.T, strict=True):
                frames.append(rows(case, f"{digit}, {part} | {label}", metric, column, flag="no such part"))
    return pd.concat(frames)


def segments_of_parts(digit: int, ink: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(which of the M segments are of the digit, {part: which of them belong to it}), each (M,) bool."""
    sizes = np.bincount(labels.ravel())
    inked = np.bincount(labels.ravel(), weights=ink.ravel(), minlength=len(sizes))
    drawn = inked >= MIN_INK * sizes
    owned = {}
    for part, mask in named_parts(digit, ink).items():
        covered = np.bincount(labels.ravel(), weights=(mask & ink).ravel(), minlength=len(sizes))
        owned[part] = drawn & (covered > inked / 2)
    return drawn, owned


def _placed(values: np.ndarray, found: tuple[np.ndarray, Mapping[str, np.ndarray]], part: str) -> tuple[float, float, float]:
    """`RANK`, `TOP` and `EXCESS` of a part of one image; NaN where there is none, or nothing beside it."""
    drawn, owned = found
    own = owned.get(part, np.zeros_like(drawn))
    if not own.any() or not (drawn & ~own).any():
        return np.nan, np.nan, np.nan
    difference = values[own][:, None] - values[drawn & ~own][None]
    rank = float((difference > 0).mean() + (difference == 0).mean() / 2)
    top = float(own[np.where(drawn, values, -np.inf).argmax()])
    return rank, top, top - float(own.sum() / drawn.sum())


@study_task(label="Agreement of methods on the same picture")
def agreement_rows(case: Case, *, methods: Methods, cut: Spec, on_ink: bool) -> pd.DataFrame:
    """Spearman correlation per image of |channel sum|, for every two methods: over all pixels, and over those of the ink.

    Rows of method "<one> | <other>", in the order of the alphabet.

    Args:
        methods: label -> (registered method, its parameters); `BLOCKS`, a random number per segment, is added as a control.
        cut: the segments of that control.
        on_ink: compare the pixels that are not black alone, too (rows `AGREE_INK`); a map that is 0 on black agrees with any
            other such map on where the digit is.
    """
    made = {label: one[:, 0].abs() for label, one in made_maps(case, methods).items()}
    made[BLOCKS] = random_blocks(case, cut).abs()
    made = dict(sorted(made.items()))  # a stored task gets its methods in another order than it was asked with
    frames = _pairs(case, AGREE, agreement.agreement_matrix(made, ids=case.samples.ids))
    if on_ink:
        ink = case.inputs[:, 0] > 0
        found = [
            agreement.agreement_matrix({label: one[k][ink[k]][None] for label, one in made.items()}, ids=[name])
            for k, name in enumerate(case.samples.ids)
        ]
        frames += _pairs(case, AGREE_INK, pd.concat(found))
    return pd.concat(frames)


def _pairs(case: Case, metric: str, found: pd.DataFrame) -> list[pd.DataFrame]:
    made = []
    for (one, other), own in found.groupby(["first", "second"], sort=False):
        values = own.set_index("sample").value.loc[list(case.samples.ids)]
        made.append(rows(case, f"{one} | {other}", metric, values.to_numpy()))
    return made


def panel(cut: Spec, *, steps: int, n_samples: int) -> dict[str, tuple[str, dict[str, Any]]]:
    """The methods whose maps are compared, and noise. Absent is black."""
    ig = {label: {"integrated_gradients": {"baseline": start, "steps": steps}} for label, start in STARTS.items()}
    return {
        "saliency": ("saliency", {}),
        "contrastive": ("contrastive_gradient", {}),
        "IG, black": ("integrated_gradients", ig["black"]["integrated_gradients"]),
        "IG, grey": ("integrated_gradients", ig["grey"]["integrated_gradients"]),
        "mean of IG": ("superpixel_mean", {"base": ig["black"], "segments": cut}),
        "ablation": ("feature_ablation", {"segments": cut, "baseline": "black"}),
        "LIME": ("lime_image", {"segments": cut, "baseline": "black", "n_samples": n_samples}),
        "random": ("random_attribution", {}),
    }


def shown(case: Case, methods: Methods, labels: Sequence[str]) -> dict[str, Tensor]:
    """(n, h, w) channel sums of some methods of a panel, for the figures."""
    return {label: one[:, 0] for label, one in made_maps(case, {k: methods[k] for k in labels}).items()}
