"""Study `case_studies`, part digits: the tidy rows of its results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from xai_lib.studies.case import Case, rows
from xai_lib.studies.case_digits import (
    BY_GRADIENT,
    EDGES,
    FILLED,
    FLIPS,
    OPEN,
    ORDERS,
    OTHERS,
    SALIENCY,
    SIDES,
    SPACE,
    UNTRAINED,
    Digits,
    found_covers,
    found_ink,
    found_regions,
    open_cases,
)

DENSITY, SHARE, DENSER = "density", "share of the map", "denser than the picture"
AREAS = ("ink", "ring", "far", "frame")
VARIANTS = ("ring of one pixel", "ink above 0.5", "ring around ink above 0.5")
"""A thinner ring; ink and ring with the grey edges of strokes counted as ground."""
PLACES: Mapping[int, tuple[str, ...]] = {
    0: ("centre disc", "hole"),
    4: ("upper gap", "lower third"),
    9: ("crossing", "lower third"),
}
"""The places that the document names, by digit."""
NAMED: tuple[tuple[int, tuple[str, ...], int], ...] = (
    (8, ("bottom",), 9),
    (6, SIDES, 4),
    (9, ("top",), 4),
    (3, ("top",), 5),
)
"""Digit, what is covered, and what the document says it becomes."""
MODAL, CHANGES = "named class less the next wrong class", "changes its class"
Scores = Mapping[str, Tensor]


def subset(case: Case, chosen: Tensor) -> Case:
    """The case on some of its images, given as (n,) bool."""
    index = chosen.nonzero().flatten().tolist()
    return replace(case, samples=case.samples.subset(index), targets=case.targets[chosen])


def read_right(case: Case, found: Scores) -> Tensor:
    """(n,) bool: the images whose label the model predicts."""
    return found["read"] == case.samples.targets


def density_rows(digits: Digits, p: Mapping[str, Any]) -> pd.DataFrame:
    """Density of maps on ink, ring, ground and frame for every image, and the shares of the saliency (E6, edges of E4)."""
    frames = []
    for case in (digits.cnn, digits.mlp, digits.relu, digits.training):
        found = found_regions(case, p)
        shown: dict[str, Sequence[str]] = {SALIENCY: (*AREAS, *VARIANTS), UNTRAINED: AREAS}
        shown |= {EDGES: AREAS} if case is digits.cnn else {}
        for label, names in shown.items():
            for name in names:
                frames.append(rows(case, f"{label} | {name}", DENSITY, found[f"{label} | {name}"], flag="empty region or map"))
        for name in AREAS:
            share = found[f"{SALIENCY} | {name}"] * found[f"area | {name}"]
            frames.append(rows(case, f"{SALIENCY} | {name}", SHARE, share, flag="empty region or map"))
    return pd.concat(frames)


def place_rows(digits: Digits, p: Mapping[str, Any]) -> pd.DataFrame:
    """Density of maps in the places that the document names, on digits that are read right (E4: MLP; E8: all 4s, CNN)."""
    asked = [(digits.mlp, digit) for digit in PLACES] + [(digits.fours, 4)]
    return pd.concat([_places(case, digit, found_regions(case, p)) for case, digit in asked])


def _places(case: Case, digit: int, found: Scores) -> pd.DataFrame:
    chosen = read_right(case, found) & (case.samples.targets == digit)
    few = subset(case, chosen)
    frames = []
    for name in PLACES[digit] if len(few.samples) else ():
        for label in (SALIENCY, OTHERS, UNTRAINED):
            values = found[f"{label} | {name}"][chosen]
            frames.append(rows(few, place(label, name, digit), DENSITY, values, flag="no such place"))
            if label == SALIENCY:
                above = (values > 1).double().where(~values.isnan(), torch.nan)
                frames.append(rows(few, place(label, name, digit), DENSER, above, flag="no such place"))
    return pd.concat(frames) if frames else pd.DataFrame()


def place(label: str, name: str, digit: int) -> str:
    """Method label of a map's density in a named place of a digit."""
    return f"{label} | {name} of {digit}"


def both(digits: Digits) -> dict[int, Case]:
    """The cases to which ink is added, by digit."""
    return {4: digits.fours, 5: digits.fives}


def flip_names(digit: int) -> tuple[str, str, str, str]:
    """Metrics of added ink: becomes the named digit, any other; becomes the named one with most pixels, with a full space."""
    becomes = f"{digit} becomes {FLIPS[digit][0]}"
    return becomes, f"{digit} changes", f"{becomes}, most pixels", f"{becomes}, space filled"


def flips(case: Case, digit: int, p: Mapping[str, Any]) -> tuple[Case, dict[str, np.ndarray]]:
    """The images that are read right, and {order: (images, numbers of pixels) classes} of them; `FILLED`, `SPACE`."""
    found = found_ink(case, digit, p)
    chosen = read_right(case, found)
    return subset(case, chosen), {label: found[label][chosen].numpy() for label in (*ORDERS, FILLED, SPACE)}


def flip_rows(digits: Digits, p: Mapping[str, Any]) -> pd.DataFrame:
    """How often ink makes the named digit, and how often any other: means over the numbers of pixels (E7).

    Ink in the open space goes on at random once the space is full; so the space is also filled exactly, which is undefined
    for a digit without one.
    """
    frames = []
    for digit, case in both(digits).items():
        few, found = flips(case, digit, p)
        becomes, changes, at_most, full = flip_names(digit)
        pixels = {"pixels": list(p["ink_counts"])}
        for label in ORDERS:
            named, other = found[label] == FLIPS[digit][0], found[label] != digit
            frames.append(rows(few, label, becomes, named.mean(axis=1), metric_parameters=pixels))
            frames.append(rows(few, label, changes, other.mean(axis=1), metric_parameters=pixels))
            if label in (BY_GRADIENT, OPEN):
                frames.append(rows(few, label, at_most, named[:, -1], metric_parameters=pixels))
        became = np.where(found[SPACE] > 0, found[FILLED] == FLIPS[digit][0], np.nan)
        frames.append(rows(few, FILLED, full, became, flag="no such place"))
    return pd.concat(frames)


@dataclass(frozen=True)
class Covers:
    """The images that are read right, and what is read once rows are covered: {side: (images, numbers of rows) classes}."""

    case: Case
    read: Mapping[str, np.ndarray]

    def wrong(self, digit: int, sides: Sequence[str]) -> np.ndarray:
        """(images of the digit, classes) share of an image's covers that are read as each wrong class; 0 for its own."""
        classes = np.arange(len(self.case.samples.class_names))
        own = self.case.samples.targets.numpy() == digit
        read = np.concatenate([self.read[side][own] for side in sides], axis=1)
        return (read[:, :, None] == classes).mean(axis=1) * (classes != digit)


def covers(digits: Digits) -> Covers:
    """What covered rows make of the digits that are read right."""
    found = found_covers(digits.covered)
    chosen = read_right(digits.covered, found)
    return Covers(subset(digits.covered, chosen), {side: found[side][chosen].numpy() for side in SIDES})


def cover_name(digit: int, sides: Sequence[str]) -> str:
    """What is covered, in words."""
    return f"{' or '.join(sides)} of {digit}"


def cover_rows(covered: Covers) -> pd.DataFrame:
    """Is the named class the most frequent wrong one, and which end of a digit matters more? (E11)

    Rows `MODAL`: share of an image's covers that are read as the named class, less the share that are read as the wrong class
    that is most frequent besides, over all images. Rows `CHANGES`: share that are read as any wrong class.
    """
    frames = []
    for digit, sides, named in NAMED:
        own = subset(covered.case, covered.case.samples.targets == digit)
        if not len(own.samples):
            continue
        wrong = covered.wrong(digit, sides)
        rivals = wrong.mean(axis=0)
        rivals[named] = -1
        value = wrong[:, named] - wrong[:, rivals.argmax()]
        parameters = {"next": int(rivals.argmax())}
        frames.append(rows(own, f"{cover_name(digit, sides)}: {named}", MODAL, value, metric_parameters=parameters))
        for side in SIDES:
            frames.append(rows(own, cover_name(digit, (side,)), CHANGES, covered.wrong(digit, (side,)).sum(axis=1)))
    return pd.concat(frames)


@dataclass(frozen=True)
class Found:
    """All rows of the part: densities of regions and of named places, added ink, covered rows; and what those are read as."""

    dense: pd.DataFrame
    placed: pd.DataFrame
    flips: pd.DataFrame
    hidden: pd.DataFrame
    covers: Covers

    @property
    def rows(self) -> pd.DataFrame:
        """The four tables as one."""
        return pd.concat([self.dense, self.placed, self.flips, self.hidden])


def opened(p: Mapping[str, Any]) -> tuple[Digits, Found]:
    """The cases of a set of parameters, and all rows."""
    digits = open_cases(p)
    covered = covers(digits)
    return digits, Found(density_rows(digits, p), place_rows(digits, p), flip_rows(digits, p), cover_rows(covered), covered)
