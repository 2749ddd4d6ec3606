"""Lesson `foundations_gradients`, part 1: the cases, and what lies on the way from a baseline to an image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from xai_lib import agreement, baselines, compute, data, maps
from xai_lib.paths import quadrature
from xai_lib.randomness import per_image
from xai_lib.studies.case import Case, explainer, measure, open_case, rows

PHOTOS = ("chelsea", "coffee", "flower", "china", "camera", "rocket")
"""One cut of each photograph."""
RULES = ("left", "middle", "gauss_legendre")
GRID = 64
"""Pieces of the line that is drawn."""
POSITIONS = (0.25, 0.5, 0.75, 0.9375)
EARLY = (0.0625, 0.25)
"""Where the share of the rise is read off."""
NOISES = (0.01, 0.05, 0.15)
COSINE, TURNED, MOVED = (
    "cosine with the gradient at the image",
    "cosine with the gradient of a noisy copy",
    "change of the logit",
)
SLOPE, RISE = "slope at the image over the mean slope", "share of the rise in the last quarter"
REACHED = "share of the rise that is reached"
GAP, RANK = "completeness gap over the change of the logit", "rank correlation"


def open_cases(p: Mapping[str, Any]) -> tuple[Case, Case]:
    """Digits for `mnist_cnn` and photographs for `efficientnet_lite0`, their predicted classes explained."""
    shared = {"seed": p["seed"], "max_batch": p["max_batch"]}
    digits = open_case("mnist_cnn", {"mnist_5k": {"split": "test"}}, n=p["n_digits"], **shared)
    chosen = {"photos": {"ids": list(PHOTOS[: p["n_photos"]])}}
    return digits, open_case("efficientnet_lite0", chosen, n=p["n_photos"], size=p["photo_size"], **shared)


@dataclass(frozen=True)
class Line:
    """The straight line x' + a (x - x') of each image, all (n, m) float64.

    positions  (m,) a, from 0 to 1
    scores     f there
    slopes     df/da = sum_i (x_i - x'_i) df/dx_i there
    cosines    of the gradient there with the gradient at x; NaN where one of them is 0
    """

    positions: np.ndarray
    scores: np.ndarray
    slopes: np.ndarray
    cosines: np.ndarray

    def at(self, positions: Sequence[float]) -> np.ndarray:
        """Columns of these positions, which must be among those of the line."""
        return np.searchsorted(self.positions, np.asarray(positions) - 1e-9)

    @property
    def change(self) -> np.ndarray:
        """f(x) - f(x'), (n,)."""
        return self.scores[:, -1] - self.scores[:, 0]


def line(case: Case, positions: Sequence[float] | np.ndarray, *, baseline: Any = "black") -> Line:
    """Score, slope and gradient along the line from a baseline to each image; 0 and 1 are added to the positions.

    Each position costs one gradient per image.
    """
    places = np.unique(np.round([0.0, *positions, 1.0], 12))
    inputs, m = case.inputs, len(places)
    start = baselines.draw(baseline, inputs, seed=case.seed)
    asked: dict[str, Any] = {"score": case.score, "max_batch": case.max_batch}
    last = compute.input_gradient(case.model, inputs, case.targets, **asked)
    along = torch.as_tensor(places).to(inputs)
    out = np.full((3, len(inputs), m), np.nan)

    def points(index: Tensor) -> tuple[Tensor, Tensor]:
        image, a = index // m, along[index % m].reshape(-1, *[1] * (inputs.ndim - 1))
        return start[image] + a * (inputs[image] - start[image]), case.targets[image]

    for index, (scores, gradients) in compute.scored_gradient_rows(case.model, points, len(inputs) * m, inputs, **asked):
        image = index // m
        slopes = (gradients * (inputs - start)[image]).flatten(1).double().sum(1)
        made = torch.stack([scores.double(), slopes, cosine(gradients, last[image])])
        out[:, image.cpu(), (index % m).cpu()] = made.cpu().numpy()
    return Line(places, *out)


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """Cosine of the rows, (n,) float64; NaN where a row is zero.

    >>> cosine(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[2.0, 0.0], [1.0, 0.0]])).tolist()
    [1.0, nan]
    """
    one, two = first.flatten(1).double(), second.flatten(1).double()
    return (one * two).sum(1) / (one.norm(dim=1) * two.norm(dim=1))


def drawn_lines(cases: Sequence[Case]) -> list[Line]:
    """The lines from black, on an even grid that holds every position that is measured."""
    return [line(case, np.arange(GRID + 1) / GRID) for case in cases]


def local_rows(case: Case, made: Line) -> pd.DataFrame:
    """What a gradient says elsewhere: along the line, and on copies of the image with normal noise.

    Also (f(x' + a (x - x')) - f(x')) / (f(x) - f(x')) at each a of `EARLY`, which is a for a linear score.

    Args:
        case: the images.
        made: their lines, which hold every one of `POSITIONS` and `EARLY`.
    """
    frames = [rows(case, f"at {a:g}", COSINE, made.cosines[:, made.at([a])[0]]) for a in POSITIONS]
    reached = (made.scores[:, made.at(EARLY)] - made.scores[:, :1]) / made.change[:, None]
    frames += [rows(case, f"at {a:g}", REACHED, share) for a, share in zip(EARLY, reached.T, strict=True)]
    before = made.scores[:, made.at([0.75])[0]]
    frames += [
        rows(case, "line from black", SLOPE, made.slopes[:, -1] / made.change),
        rows(case, "line from black", RISE, (made.scores[:, -1] - before) / made.change),
    ]
    asked: dict[str, Any] = {"score": case.score, "max_batch": case.max_batch}
    noise = per_image(case.inputs, case.seed, "foundations_gradients", lambda x, g: torch.randn(x.shape, generator=g))
    own = compute.input_gradient(case.model, case.inputs, case.targets, **asked)
    for sigma in NOISES:
        noisy = case.inputs + sigma * noise
        turned = cosine(own, compute.input_gradient(case.model, noisy, case.targets, **asked))
        there, here = (compute.scores(case.model, x, case.targets, **asked).double() for x in (noisy, case.inputs))
        frames.append(rows(case, f"noise {sigma:g}", TURNED, turned))
        frames.append(rows(case, f"noise {sigma:g}", MOVED, ((there - here) / here).abs()))
    return pd.concat(frames)


def gap_rows(case: Case, steps: Sequence[int], drawn: Line) -> pd.DataFrame:
    """Relative completeness gap of Integrated Gradients from black, for each rule and number of steps.

    The sum of such a map is the rule's mean of the slopes along the line, so that the gap needs the slopes alone; those of
    `drawn` are used again.
    """
    plans = {(rule, m): quadrature(rule, m) for rule in RULES for m in steps}
    asked = np.unique(np.round(np.concatenate([positions for positions, _ in plans.values()]), 12))
    more = line(case, np.setdiff1d(asked, drawn.positions))
    known = {a: made.slopes[:, k] for made in (drawn, more) for k, a in enumerate(made.positions)}
    frames = []
    for (rule, m), (positions, weights) in plans.items():
        total = np.stack([known[a] for a in np.round(positions, 12)], axis=1) @ weights
        values = np.abs(total - drawn.change) / np.abs(drawn.change)
        frames.append(rows(case, f"{rule}, {m} steps", GAP, values, method_parameters={"rule": rule, "steps": m}))
    return pd.concat(frames)


def bank(case: Case) -> Tensor:
    """Images whose mean is the baseline "data set mean": 500 training digits, or all packaged photographs."""
    if case.samples.name == "mnist_5k":
        return data.load("mnist_5k", split="train", n=500, seed=case.seed).inputs
    return data.load("photos", size=case.inputs.shape[-1]).inputs


def starts(case: Case) -> dict[str, Any]:
    """The baselines that are compared, by the name a reader sees."""
    mean = {"dataset_mean": {"reference": bank(case)}}
    return {"black": "black", "white": "white", "blur": "blur", "uniform": "uniform", "data set mean": mean} | {
        "maximum distance": "max_distance"
    }


def baseline_maps(case: Case, steps: int) -> dict[str, Tensor]:
    """Integrated Gradients from each of `starts`, (n, c, h, w) by name."""
    ask = {"steps": steps, "rule": "middle"}
    return {
        name: explainer(case, "integrated_gradients", baseline=spec, **ask)(case.model, case.inputs, case.targets)
        for name, spec in starts(case).items()
    }


def ground_rows(case: Case, attributions: Mapping[str, Tensor]) -> pd.DataFrame:
    """Share of |attribution| on values that are exactly 0, and what the net does when those turn grey."""
    ground = case.inputs == 0
    metric = "share of the attribution on the black ground"
    frames = [rows(case, name, metric, _share(a.abs(), ground), flag="zero map") for name, a in attributions.items()]
    frames.append(rows(case, "area", metric, ground.flatten(1).double().mean(1)))
    grey = torch.where(ground, torch.full_like(case.inputs, 0.5), case.inputs)
    asked: dict[str, Any] = {"score": case.score, "max_batch": case.max_batch}
    here, there = (compute.scores(case.model, x, case.targets, **asked).double() for x in (case.inputs, grey))
    return pd.concat([*frames, rows(case, "grey ground", "fall of the logit", here - there)])


def dark_rows(case: Case, attributions: Mapping[str, Tensor]) -> pd.DataFrame:
    """Share of |attribution| on the darkest and on the brightest tenth of an image's values; by chance 0.1."""
    frames = []
    for place, sign in (("darkest", -1.0), ("brightest", 1.0)):
        chosen = maps.top_mask(sign * case.inputs.flatten(1), 0.1, seed=case.seed).reshape(case.inputs.shape)
        metric = f"share of the attribution on the {place} tenth"
        frames += [rows(case, name, metric, _share(a.abs(), chosen), flag="zero map") for name, a in attributions.items()]
    return pd.concat(frames)


def _share(sizes: Tensor, chosen: Tensor) -> Tensor:
    flat = sizes.flatten(1).double()
    return (flat * chosen.flatten(1)).sum(1) / flat.sum(1)


def blur_width(case: Case) -> float:
    """Standard deviation in pixels of the blurred picture where the compared paths start: 50 at 224, scaled with the side."""
    return 50 * case.inputs.shape[-1] / 224


def path_maps(case: Case, steps: int) -> dict[str, Tensor]:
    """Three ways from one blurred picture to the image, signed maps (n, c, h, w) by name; `steps` gradients each."""
    width = blur_width(case)
    start = {"blur": {"sigma": width}}
    ways: dict[str, Any] = {
        "straight line": {"integrated_gradients": {"baseline": start, "steps": steps, "rule": "middle"}},
        "guided path": {"guided_integrated_gradients": {"baseline": start, "steps": steps}},
        "blur path": {"blur_integrated_gradients": {"sigma_max": width, "steps": steps}},
    }
    return {name: explainer(case, spec)(case.model, case.inputs, case.targets) for name, spec in ways.items()}


def path_rows(case: Case, attributions: Mapping[str, Tensor]) -> pd.DataFrame:
    """Completeness gap of each path, and Spearman correlation of the signed maps of every two."""
    start = {"blur": {"sigma": blur_width(case)}}
    frames = [
        measure(case, name, "completeness_gap", a, name=GAP, baseline=start, relative=True, max_batch=case.max_batch)
        for name, a in attributions.items()
    ]
    return pd.concat([*frames, agreement_rows(case, attributions)])


def agreement_rows(case: Case, attributions: Mapping[str, Tensor]) -> pd.DataFrame:
    """Spearman correlation of the maps, channels summed, of every two methods."""
    reduced = {name: maps.reduce(a, "sum") for name, a in attributions.items()}
    names = list(reduced)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    return pd.concat(
        [rows(case, f"{a} vs {b}", RANK, agreement.rank_correlation(reduced[a], reduced[b]), flag="constant") for a, b in pairs]
    )
