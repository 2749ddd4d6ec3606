"""Study `case_studies`, part `parts`: digits and small photographs, their segments and parts (claims E9, E10, E12)."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pandas as pd

from xai_lib import DATASETS
from xai_lib.compendium.benchmark import Stages
from xai_lib.compendium.experiments import stored, without_pictures, work_of
from xai_lib.data.source import choose, open_source
from xai_lib.studies import case_parts_digits as digits
from xai_lib.studies import case_parts_pictures as pictures
from xai_lib.studies.case import Case, data_spec, open_case
from xai_lib.studies.path_scores import GAME

SIDE = 32
SHOWN = (3, 4, 8, 9)
"""Digits of Figures 6 and 7."""
PAIRED_DIGITS = {4: 9, 9: 4}
"""Digits whose centres are looked at, and what each might be taken for."""
PARTED = (4, 8)


@dataclass(frozen=True)
class Cases:
    """What is explained; always the label's class, as in document 004.

    digits    any digits, for ink and agreement
    by_digit  {digit: images of it}, for centres and parts
    photos    small photographs, as many of each class; `few` of each for the agreement of methods
    few       see there
    masked    pictures with exact masks
    shown     digits that are drawn, with pictures that may be shown
    """

    digits: Case
    by_digit: Mapping[int, Case]
    photos: Case
    few: Case
    masked: Case
    shown: Case


def open_cases(p: Mapping[str, Any]) -> Cases:
    """The cases of a set of parameters of the study."""
    asked = {"target": "label", "seed": p["seed"], "max_batch": p["max_batch"], "shard": p["parts_shard"]}
    net, data = p["digit_cnn"], p["digits"]
    by_digit = {
        k: open_case(net, _these(data, p["parts_per_digit"], p["seed"], (k,)), n=0, **asked)
        for k in sorted({*PAIRED_DIGITS, *PARTED})
    }
    photos = p["photo_dataset"]
    return Cases(
        open_case(net, {data: {"split": "test"}}, n=p["parts_digits"], **asked),
        by_digit,
        open_case(p["photo_model"], _these(photos, p["parts_per_class"], p["seed"]), n=0, **asked),
        open_case(p["photo_model"], _these(photos, p["parts_alike"], p["seed"]), n=0, **asked),
        open_case(p["photo_model"], {p["mask_dataset"]: {"split": "test", "size": SIDE}}, n=p["parts_masked"], **asked),
        open_case(net, _these("mnist_5k", 1, p["seed"], SHOWN), n=0, **asked),
    )


def _these(dataset: str, each: int, seed: int, classes: Sequence[int] | None = None) -> dict[str, dict[str, Any]]:
    """A data set by the ids of its first images of each class in the order of the seed."""
    own: dict[str, Any] = {"size": SIDE} if "size" in DATASETS[data_spec(dataset)[0]].parameters else {}
    ids = ids_of_classes(dataset, each, seed, tuple(classes) if classes else None, tuple(own.items()))
    return {dataset: {"split": "test", "ids": list(ids), **own}}


@lru_cache(maxsize=32)
def ids_of_classes(
    dataset: str, each: int, seed: int, classes: tuple[int, ...] | None, own: tuple[tuple[str, Any], ...] = ()
) -> tuple[str, ...]:
    """Names of the first `each` images of every class (or of some), class by class, in the order in which `seed` draws them.

    A class that has fewer gives what it has.
    """
    settings = dict(own)
    source = open_source(dataset, split="test", seed=seed, **settings)
    wanted = tuple(range(DATASETS[dataset].traits["classes"])) if classes is None else classes
    order = choose(source, len(source.ids), seed, None)
    found: dict[int, list[str]] = defaultdict(list)
    step = 4 * each * len(wanted)
    for start in range(0, len(order), step):
        part = source.read(order[start : start + step])
        for name, target in zip(part.ids, part.targets.tolist(), strict=True):
            found[target].append(name)
        if all(len(found[k]) >= each for k in wanted):
            break
    return tuple(name for k in wanted for name in found[k][:each])


def cut_of(p: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Document 004's segments: SLIC with compactness 10 after a blur of 1 pixel."""
    return {"slic": {"n_segments": p["parts_segments"], "compactness": 10.0, "sigma": 1.0}}


def panel(p: Mapping[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Methods whose agreement is measured."""
    return digits.panel(cut_of(p), steps=p["parts_steps"], n_samples=p["parts_samples"])


def asked(cases: Cases, p: Mapping[str, Any]) -> list[tuple[str, Case, Any, dict[str, Any]]]:
    """(name, case, task, parameters) of everything that is stored."""
    steps, cut = {"steps": p["parts_steps"]}, {"cut": cut_of(p), "steps": p["parts_steps"]}
    alike = {"methods": panel(p), "cut": cut_of(p)}
    return [
        ("ink", cases.digits, digits.ink_rows, steps),
        ("alike", cases.digits, digits.agreement_rows, {**alike, "on_ink": True}),
        ("alike", cases.few, digits.agreement_rows, {**alike, "on_ink": False}),
        *(
            (f"centre {k}", cases.by_digit[k], digits.centre_values, {"other": other, **steps})
            for k, other in PAIRED_DIGITS.items()
        ),
        *(("parts", cases.by_digit[k], digits.part_rows, {"digit": k, **cut}) for k in PARTED),
        ("photos", cases.photos, pictures.picture_rows, {**cut, "points": p["parts_points"]}),
        ("masked", cases.masked, pictures.object_rows, steps),
    ]


def works(p: Mapping[str, Any]) -> Stages:
    """Everything that is stored."""
    return [[work_of(case, task, **own) for _, case, task, own in asked(open_cases(p), p)]]


def all_rows(cases: Cases, p: Mapping[str, Any]) -> pd.DataFrame:
    """Every measured value of this part, with what follows from several images."""
    frames: list[pd.DataFrame] = []
    for name, case, task, own in asked(cases, p):
        made, light = stored(case, task, **own), without_pictures(case)
        if name.startswith("centre"):
            frames.append(digits.centre_rows(light, made, int(name.split()[1])))
        else:
            frames.append(made)
        if name == "photos":
            frames.append(pictures.class_rows(light, made, (pictures.WITH_ABLATION, GAME, pictures.GAME_GAIN)))
        if name == "masked":
            frames += [
                pictures.contrast_rows(light, made),
                pictures.class_rows(light, made, (pictures.GAIN, pictures.PRECISION)),
            ]
    return pd.concat(frames, ignore_index=True)


def used(cases: Cases) -> list[Case]:
    """The cases whose data and models the run records."""
    return [cases.digits, *cases.by_digit.values(), cases.photos, cases.few, cases.masked, cases.shown]
