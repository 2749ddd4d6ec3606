"""Study `case_studies`, part rotation: the smallest rotation that changes a prediction, and the document's random one.

Claims E13 to E16. Everything is about images that the net classifies correctly, and the class it predicts for them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xai_lib.compendium.benchmark import Stages
from xai_lib.compendium.experiments import stored, study_task, without_pictures, work_of
from xai_lib.counterfactuals import minimal_perturbation, random_bounds
from xai_lib.studies.case import Case, open_case

PUBLISHED = (
    ("cat", "frog", 14.28), ("ship", "automobile", 2.58), ("frog", "bird", 82.15), ("frog", "deer", 6.97),
    ("frog", "cat", 24.16), ("cat", "frog", 18.55), ("dog", "cat", 2.47), ("ship", "frog", 3.65), ("dog", "cat", 3.85),
)  # fmt: skip
"""Class, class after the rotation, reported degrees: the document's raw list of nine, behind its figure 11 (its repository
MagdalenaPakula/obliczenia-inteligentne at 4c78eba; its text tells four)."""
BOUND_STEP = 0.01
"""Of the document's bounds, in degrees."""
SHARD = 50
BORDER = 4
"""Pixels on each side that count as border."""
GREENS, LEAST_SATURATION = (60.0, 170.0), 0.1
"""Hues in degrees, and the saturation, of a pixel that counts as green."""
Found = Mapping[str, Tensor]


@dataclass(frozen=True)
class Cases:
    """Images that are classified correctly.

    plain      under the net trained without rotations; `drawn` are the first of them, for the random protocol
    augmented  those of them that the net trained with rotations classifies correctly too
    """

    plain: Case
    drawn: Case
    augmented: Case


def open_cases(p: Mapping[str, Any]) -> Cases:
    """The cases of a set of parameters of the study."""
    name, n = p["rotation_dataset"], p["n_rotation"]
    own = {"size": 32} if name == "shapes" else {"split": "test"}
    asked = {"seed": p["seed"], "max_batch": p["max_batch"], "shard": SHARD, "n": int(1.5 * n)}
    plain = part(open_case(p["rotation_model"], {name: own}, **asked), n=n)
    augmented = open_case(p["rotation_augmented"], {name: own}, prefix="augmented: ", **asked)
    return Cases(plain, plain.first(p["n_random"]), part(augmented, ids=plain.samples.ids))


def part(case: Case, *, n: int | None = None, ids: tuple[str, ...] | None = None) -> Case:
    """The images that are classified correctly (all, where the net knows other classes), the first n or those of `ids`."""
    knows = tuple(case.model.class_names) == case.samples.class_names  # type: ignore[attr-defined]
    kept = [
        i
        for i, name in enumerate(case.samples.ids)
        if (not knows or case.targets[i] == case.samples.targets[i]) and (ids is None or name in ids)
    ][:n]
    return replace(case, samples=case.samples.subset(kept), targets=case.targets[kept])


def search(p: Mapping[str, Any]) -> dict[str, Any]:
    """Own parameters of `smallest_rotations`."""
    return {key: p[f"rotation_{key}"] for key in ("maximum", "step", "precision")}


def protocol(p: Mapping[str, Any]) -> dict[str, Any]:
    """Own parameters of `random_rotations`."""
    return {key: p[f"rotation_{key}"] for key in ("maximum", "repeats", "resolution")}


def works(p: Mapping[str, Any]) -> Stages:
    """Everything that is stored."""
    cases = open_cases(p)
    return [
        [
            work_of(cases.plain, smallest_rotations, inside=False, **search(p)),
            work_of(cases.plain, smallest_rotations, inside=True, **search(p)),
            work_of(cases.augmented, smallest_rotations, inside=False, **search(p)),
            work_of(cases.drawn, random_rotations, **protocol(p)),
        ]
    ]


@study_task(label="Smallest rotations")
def smallest_rotations(case: Case, *, maximum: float, step: float, precision: float, inside: bool) -> dict[str, Tensor]:
    """{"amounts", "signs", "flips_to", "rows"} of `minimal_perturbation`, both directions, `inside` the disc or not."""
    found = minimal_perturbation(
        case.model, case.inputs, case.targets, perturbation={"rotation": {"inside": inside}}, maximum=maximum, step=step,
        precision=precision, max_batch=case.max_batch,
    )  # fmt: skip
    return {name: getattr(found, name) for name in ("amounts", "signs", "flips_to", "rows")}


@study_task(label="Random rotations")
def random_rotations(case: Case, *, maximum: float, repeats: int, resolution: float) -> dict[str, Tensor]:
    """{"bounds", "drawn", "flips_to"} (n, repeats) of `random_bounds` on the document's bounds."""
    found = random_bounds(
        case.model, case.inputs, case.targets, maximum=maximum, step=BOUND_STEP, repeats=repeats, resolution=resolution,
        seed=case.seed, max_batch=case.max_batch,
    )  # fmt: skip
    return {name: getattr(found, name) for name in ("bounds", "drawn", "flips_to")}


@dataclass(frozen=True)
class Rotations:
    """All that is stored, with the cases it belongs to; pictures are left out."""

    cases: Cases
    plain: Found
    inside: Found
    augmented: Found
    random: Found
    green: np.ndarray
    maximum: float

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the net's classes."""
        return tuple(self.cases.plain.model.class_names)  # type: ignore[attr-defined]

    def of_class(self, name: str) -> np.ndarray:
        """Positions of the images that the net puts into a class."""
        if name not in self.classes:
            return np.zeros(0, dtype=int)
        return np.flatnonzero(self.cases.plain.targets.numpy() == self.classes.index(name))

    def angles(self, found: Found) -> np.ndarray:
        """Smallest angles; the maximum, where none was found: medians below it stay what they are."""
        return found["amounts"].nan_to_num(self.maximum).numpy()


def rotations(p: Mapping[str, Any]) -> Rotations:
    """Everything of `works`, from the store where it is there."""
    cases = open_cases(p)
    small = Cases(*(without_pictures(case) for case in (cases.plain, cases.drawn, cases.augmented)))
    return Rotations(
        small,
        stored(cases.plain, smallest_rotations, inside=False, **search(p)),
        stored(cases.plain, smallest_rotations, inside=True, **search(p)),
        stored(cases.augmented, smallest_rotations, inside=False, **search(p)),
        stored(cases.drawn, random_rotations, **protocol(p)),
        green_border(cases.plain.inputs).numpy(),
        float(p["rotation_maximum"]),
    )


def green_border(images: Tensor) -> Tensor:
    """Share of the outermost `BORDER` rows and columns that is green, by hue (`GREENS`) and `LEAST_SATURATION`.

    Args:
        images: (n, 3, h, w) in [0, 1].

    Returns:
        (n,) in [0, 1].

    >>> green_border(torch.tensor([0.1, 0.6, 0.2]).reshape(1, 3, 1, 1).expand(1, 3, 9, 9)).item()
    1.0
    """
    high, low = images.amax(dim=1), images.amin(dim=1)
    spread = (high - low).clamp_min(1e-12)
    red, green, blue = images.unbind(dim=1)
    hue = torch.where(
        high == red,
        (green - blue) / spread % 6,
        torch.where(high == green, (blue - red) / spread + 2, (red - green) / spread + 4),
    )
    is_green = (60 * hue >= GREENS[0]) & (60 * hue <= GREENS[1]) & (high - low >= LEAST_SATURATION * high) & (high > 0)
    border = torch.ones(images.shape[2:], dtype=torch.bool, device=images.device)
    border[BORDER:-BORDER, BORDER:-BORDER] = False
    return is_green[:, border].double().mean(dim=1)
