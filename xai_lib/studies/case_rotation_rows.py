"""Study `case_studies`, rows of part rotation: what its claims E13 to E16 read."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from xai_lib.association import rank_products
from xai_lib.counterfactuals import overshoot
from xai_lib.studies.case import Case, rows
from xai_lib.studies.case_rotation import BOUND_STEP, PUBLISHED, Rotations, rotations

EVERY, DISC = "all classes", "inside the disc"
ANGLE, NONE = "minimal angle", "not changed up to the maximum"
LATER = "images of other classes that change at a smaller angle"
BELOW, BOUND_BELOW = "its class below the published angle", "its class with a random bound below the published angle"
OVER, EXPECTED, SPREAD = "random bound minus minimal angle", "expected of it", "standard deviation of the random bound"
FLIPS, NEXT = "flips to", "the most frequent other class"
MASKED = "changed by the mask alone"
GREEN, WITH_GREEN = "green border", "green border goes with a flip to frog"
RATIO = "minimal angle with augmentation, over without"


def rows_at(case: Case, at: np.ndarray, method: str, metric: str, values: Any, **own: Any) -> list[pd.DataFrame]:
    """A table of the images at these positions; no table where there are none."""
    if not len(at):
        return []
    some = replace(case, samples=case.samples.subset(at.tolist()), targets=case.targets[torch.from_numpy(at)])
    return [rows(some, method, metric, np.asarray(values, dtype=float), **own)]


def class_rows(r: Rotations) -> pd.DataFrame:
    """Angles by class, against other classes, and against the published ones (E13)."""
    case, angles = r.cases.plain, r.angles(r.plain)
    every = np.arange(len(angles))
    none = r.plain["amounts"].isnan().numpy()
    frames = [rows(case, EVERY, ANGLE, angles), rows(case, EVERY, NONE, none)]
    for name in r.classes:
        own = r.of_class(name)
        others = angles[np.setdiff1d(every, own)]
        frames += rows_at(case, own, name, ANGLE, angles[own]) + rows_at(case, own, name, NONE, none[own])
        if len(others):
            frames += rows_at(case, own, name, LATER, [below(others, angle) for angle in angles[own]])
    bounds = r.random["bounds"].nan_to_num(r.maximum).numpy()
    for name, _, degrees in PUBLISHED:
        own = r.of_class(name)
        drawn = own[own < len(bounds)]
        label = f"{name} {degrees:g}"
        frames += rows_at(case, own, label, BELOW, [below(angles[[i]], degrees) for i in own])
        frames += rows_at(case, drawn, label, BOUND_BELOW, [below(bounds[i], degrees) for i in drawn])
    return pd.concat(frames)


def below(values: np.ndarray, limit: float) -> float:
    """Share of values below a limit, ties counted half."""
    return float(((values < limit) + (values == limit) / 2).mean())


def protocol_rows(r: Rotations) -> pd.DataFrame:
    """The random bound beside the smallest angle: overshoot, its expectation and its spread over repeats, by image."""
    case, bounds = r.cases.drawn, r.random["bounds"].numpy()
    angles = r.plain["amounts"].numpy()[: len(bounds)]
    repeats: dict[str, Any] = {"metric_parameters": {"repeats": int(bounds.shape[1])}, "flag": "no change up to the maximum"}
    return pd.concat(
        [
            rows(case, EVERY, OVER, bounds.mean(axis=1) - angles, **repeats),
            rows(case, EVERY, EXPECTED, overshoot(angles, BOUND_STEP), **repeats),
            rows(case, EVERY, SPREAD, bounds.std(axis=1, ddof=1), **repeats),
        ]
    )


def flip_rows(r: Rotations) -> pd.DataFrame:
    """What ships, dogs and frogs are taken for (E14, E15), 1 or 0 for each that changes; and the most frequent other class."""
    to, frames = r.plain["flips_to"].numpy(), []
    for name, named in (("ship", "frog"), ("dog", "cat"), ("frog", "bird")):
        own = r.of_class(name)
        own = own[to[own] >= 0]
        counts = {other: int((to[own] == k).sum()) for k, other in enumerate(r.classes) if other not in (name, named)}
        rival = max(counts, key=lambda other: counts[other])
        for other in (named, *counts):
            hit = to[own] == r.classes.index(other) if other in r.classes else np.zeros(len(own))
            frames += rows_at(r.cases.plain, own, f"{name} -> {other}", FLIPS, hit)
            if other == rival:
                parameters = {"class": rival}
                frames += rows_at(r.cases.plain, own, f"{name} -> {NEXT}", FLIPS, hit, metric_parameters=parameters)
    return pd.concat(frames) if frames else pd.DataFrame()


def control_rows(r: Rotations) -> pd.DataFrame:
    """The mask alone, rotation inside it (E14), green borders (E14), and augmentation (E16)."""
    case = r.cases.plain
    masked = (r.inside["amounts"] == 0).numpy()
    kept = np.flatnonzero(~masked)
    frames = [
        rows(case, EVERY, MASKED, masked),
        *rows_at(case, kept, DISC, ANGLE, r.angles(r.inside)[kept]),
        rows(case, EVERY, GREEN, r.green),
        rows(r.cases.augmented, EVERY, ANGLE, r.angles(r.augmented)),
    ]
    to = r.plain["flips_to"].numpy()
    frog = r.classes.index("frog") if "frog" in r.classes else -2
    for label, at in {
        "ship": r.of_class("ship"),
        "all but frogs": np.setdiff1d(np.arange(len(to)), r.of_class("frog")),
    }.items():
        own = at[to[at] >= 0]
        products = rank_products(r.green[own], (to[own] == frog).astype(float)) if len(own) else np.zeros(0)
        frames += rows_at(case, own, label, WITH_GREEN, products, flag="one class or no green")
    place = {name: k for k, name in enumerate(case.samples.ids)}
    both = [place[name] for name in r.cases.augmented.samples.ids]
    ratio = r.angles(r.augmented) / r.angles(r.plain)[both]
    return pd.concat([*frames, rows(r.cases.augmented, EVERY, RATIO, ratio)])


def all_rows(r: Rotations) -> pd.DataFrame:
    """All results of this part."""
    return pd.concat([class_rows(r), protocol_rows(r), flip_rows(r), control_rows(r)])


def measured(p: Mapping[str, Any]) -> tuple[Rotations, pd.DataFrame]:
    """What is stored for a set of parameters of the study, and all its rows."""
    found = rotations(p)
    return found, all_rows(found)
