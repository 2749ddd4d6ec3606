"""Study `case_studies`, part digits: where the saliency of digits lies, and what added and covered ink makes of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from xai_lib import METHODS, compute, data, digit_regions, maps
from xai_lib.added_ink import ground_order, with_ink
from xai_lib.compendium.benchmark import Stages, Work
from xai_lib.compendium.experiments import stored, study_task, work_of
from xai_lib.counterfactuals.perturbations import cover_rows
from xai_lib.hooks import layer_groups, randomised
from xai_lib.metrics.density import energy_density
from xai_lib.studies.case import Case, explainer, open_case

SHARD = 250
SALIENCY, OTHERS, UNTRAINED, EDGES = "saliency", "saliency for other classes", "untrained", "edges"
COVERED = tuple(range(5, 15))
"""Numbers of covered rows, those of the document's code."""
SIDES = ("top", "bottom")
FLIPS: Mapping[int, tuple[int, str]] = {4: (9, "upper gap"), 5: (6, "lower left gap")}
"""Digit: what the document says it becomes with ink in its open space, and that space."""
BY_GRADIENT, BY_SIGN, BY_CONTRAST = "highest |gradient|", "most negative gradient", "most negative contrast"
RANDOM, ADJACENT, OPEN = "random ground", "random, next to ink", "random, open space"
FILLED, SPACE = "the whole open space", "pixels of the open space"
ORDERS = (BY_GRADIENT, BY_SIGN, BY_CONTRAST, OPEN, ADJACENT, RANDOM)


@dataclass(frozen=True)
class Digits:
    """What is explained: test digits under three nets, training digits, all test 4s and 5s, and the digits that are covered."""

    cnn: Case
    training: Case
    mlp: Case
    relu: Case
    fours: Case
    fives: Case
    covered: Case


def open_cases(p: Mapping[str, Any]) -> Digits:
    """The cases of a set of parameters of the study."""
    cnn, name = p["digit_cnn"], p["digits"]
    asked = {"seed": p["seed"], "max_batch": p["max_batch"], "shard": SHARD}
    parts: dict[str, Any] = {split: {name: {"split": split}} for split in ("test", "train")}
    whole = data.load(name, split="test")

    def only(digit: int) -> Case:
        ids = [one for one, label in zip(whole.ids, whole.targets.tolist(), strict=True) if label == digit][: p["n_flipped"]]
        return open_case(cnn, {name: {"split": "test", "ids": ids}}, n=len(ids), target="label", **asked)

    return Digits(
        cnn=open_case(cnn, parts["test"], n=p["n_digits"], **asked),
        training=open_case(cnn, parts["train"], n=p["n_digits"], prefix="training images: ", **asked),
        mlp=open_case(p["digit_mlp"], parts["test"], n=p["n_digits"], prefix="MLP: ", **asked),
        relu=open_case(p["digit_relu"], parts["test"], n=p["n_digits"], prefix="ReLU CNN: ", **asked),
        fours=only(4),
        fives=only(5),
        covered=open_case(cnn, parts["test"], n=p["n_covered"], **asked),
    )


@study_task(label="Saliency of digits by region")
def region_densities(case: Case, *, threshold: float, width: int, n_untrained: int) -> dict[str, Tensor]:
    """How dense maps are in every region (`metrics.energy_density`), with the regions' areas, and maps.

    Args:
        threshold: of ink.
        width: of the ring around it.
        n_untrained: nets with newly drawn weights, over which `UNTRAINED` is the mean.

    Returns:
        {"map | region": (n,)}, {"area | region": (n,)} shares of the picture, the maps {"map of saliency": (n, h, w),
        "map of untrained"}, and {"read": (n,) int16 predicted class}.
    """
    made = {
        SALIENCY: [_saliency(case, case.model, case.targets)],
        OTHERS: [_saliency(case, case.model, targets) for targets in _other_classes(case)],
        UNTRAINED: [_untrained(case, k) for k in range(n_untrained)],
        EDGES: [explainer(case, "edge_detector")(case.model, case.inputs, case.targets)],
    }
    found = {"read": _read(case, case.inputs)}
    for name, mask in regions_of(case.inputs, threshold, width).items():
        found[f"area | {name}"] = mask.flatten(1).double().mean(dim=1)
        for label, several in made.items():
            found[f"{label} | {name}"] = torch.stack([energy_density(one, mask) for one in several]).mean(dim=0)
    for label in (SALIENCY, UNTRAINED):
        found[f"map of {label}"] = maps.reduce(made[label][0], "sum_abs")
    return found


def regions_of(inputs: Tensor, threshold: float, width: int) -> dict[str, Tensor]:
    """Every region of `digit_regions`; the ring one pixel wide, and ink and ring at a higher threshold, beside them."""
    ink, firm = (digit_regions.ink_of(inputs, threshold=at) for at in (threshold, 0.5))
    widths: Mapping[str, Mapping[str, float]] = {"ring": {"width": width}, "far": {"width": width}}
    return {
        **{name: digit_regions.region(name, ink, **widths.get(name, {})) for name in digit_regions.REGIONS},
        "ring of one pixel": digit_regions.ring(ink, width=1),
        "ink above 0.5": firm,
        "ring around ink above 0.5": digit_regions.ring(firm, width=width),
    }


def _saliency(case: Case, model: Any, targets: Tensor) -> Tensor:
    return explainer(case, SALIENCY)(model, case.inputs, targets)


def _other_classes(case: Case) -> list[Tensor]:
    classes = len(case.samples.class_names)
    return [(case.targets + k) % classes for k in range(1, classes)]


def _untrained(case: Case, k: int) -> Tensor:
    model = cast(nn.Module, case.model)
    with randomised(model, layer_groups(model, 1)[0], seed=case.seed + k) as net:
        return _saliency(case, net, case.targets)


@study_task(label="Ink added to digits")
def added_ink(
    case: Case, *, towards: int, space: str, counts: Sequence[int], threshold: float, width: int
) -> dict[str, Tensor]:
    """What the model reads once ink is added to the ground, in several orders.

    Args:
        towards: the class of the contrast.
        space: name of the region of `OPEN`; once it is full, random ground follows.
        counts: numbers of pixels.
        threshold, width: of ink and of the ring around it.

    Returns:
        {order: (n, len(counts)) int16 predicted classes}, and (n,) each: "read" without added ink, `FILLED` with ink in all of
        the space, and `SPACE`, its pixels.
    """
    ink = digit_regions.ink_of(case.inputs, threshold=threshold)
    made = {"own": METHODS.bind("gradient"), "contrast": METHODS.bind("contrastive_gradient", other=towards)}
    own, contrast = (
        maps.reduce(explain(case.model, case.inputs, case.targets, max_batch=case.max_batch)) for explain in made.values()
    )
    gap = digit_regions.region(space, ink)
    priorities = {
        BY_GRADIENT: own.abs(),
        BY_SIGN: -own,
        BY_CONTRAST: -contrast,
        OPEN: gap.double(),
        ADJACENT: digit_regions.ring(ink, width=width).double(),
        RANDOM: torch.zeros_like(own),
    }
    filled = torch.maximum(case.inputs, gap[:, None].to(case.inputs))
    found = {"read": _read(case, case.inputs), FILLED: _read(case, filled), SPACE: gap.sum((1, 2))}
    for label, priority in priorities.items():
        order = ground_order(priority, ink, seed=case.seed)
        read = [_read(case, with_ink(case.inputs, order, k)) for k in counts]
        found[label] = torch.stack(read, dim=1)
    return found


def _read(case: Case, inputs: Tensor) -> Tensor:
    return compute.logits(case.model, inputs, max_batch=case.max_batch).argmax(dim=1).to(torch.int16)


@study_task(label="Covered rows of digits")
def covered_rows(case: Case, *, numbers: Sequence[int]) -> dict[str, Tensor]:
    """What is read once rows are black: {"top": (n, len(numbers)) int16 classes, "bottom"}, and {"read": (n,)} without."""
    found = {"read": _read(case, case.inputs)}
    for side in SIDES:
        signed = [k if side == "top" else -k for k in numbers]
        found[side] = torch.stack([_read(case, cover_rows(case.inputs, k)) for k in signed], dim=1)
    return found


def found_regions(case: Case, p: Mapping[str, Any]) -> dict[str, Tensor]:
    """`region_densities` of a case, stored."""
    return stored(case, region_densities, **_regions(p))


def found_ink(case: Case, digit: int, p: Mapping[str, Any]) -> dict[str, Tensor]:
    """`added_ink` of a case of one digit, stored."""
    return stored(case, added_ink, **_ink(digit, p))


def found_covers(case: Case) -> dict[str, Tensor]:
    """`covered_rows` of a case, stored."""
    return stored(case, covered_rows, numbers=list(COVERED))


def _regions(p: Mapping[str, Any]) -> dict[str, Any]:
    return {"threshold": p["ink_threshold"], "width": p["ring_width"], "n_untrained": p["n_untrained"]}


def _ink(digit: int, p: Mapping[str, Any]) -> dict[str, Any]:
    towards, space = FLIPS[digit]
    own = {"threshold": p["ink_threshold"], "width": p["ring_width"]}
    return {"towards": towards, "space": space, "counts": list(p["ink_counts"]), **own}


def works(p: Mapping[str, Any]) -> Stages:
    """Everything that is stored; no part needs another."""
    digits = open_cases(p)
    explained = (digits.cnn, digits.training, digits.mlp, digits.relu, digits.fours)
    both = {4: digits.fours, 5: digits.fives}
    made: list[Work] = [work_of(case, region_densities, **_regions(p)) for case in explained]
    made += [work_of(case, added_ink, **_ink(digit, p)) for digit, case in both.items()]
    return [[*made, work_of(digits.covered, covered_rows, numbers=list(COVERED))]]
