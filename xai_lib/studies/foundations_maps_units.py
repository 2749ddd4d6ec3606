"""Lesson `foundations_maps`: pictures that classes and units answer to most, and the concepts that units lie on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from xai_lib import compute
from xai_lib.activation_maximisation import Maximised, UnitMeans, maximise
from xai_lib.dissection import Dissection, activations, dissect, largest_iou, of_others, unit_masks
from xai_lib.models.wrapper import PixelModel
from xai_lib.studies import foundations_maps_net as nets
from xai_lib.studies.foundations_maps import Lesson, row_frame

WAYS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "jitter": {"jitter": 2},
    "decay": {"decay": 0.02},
    "blur": {"blur": 0.5},
    "all three": {"jitter": 2, "decay": 0.02, "blur": 0.5},
    "all three, margin": {"jitter": 2, "decay": 0.02, "blur": 0.5, "score": "margin"},
}
NOISE, STEP = 0.1, 0.5
TRAINING, OTHER = "training picture with the largest logit", "other pictures"
LOGIT, SURE, TAKEN = "logit of its class", "probability of its class", "taken for its class"
NEAREST, NEAREST_FEATURES = "nearest in pixels", "nearest in features"
TRAINED, UNTRAINED = "trained", "untrained"
OTHERS = ", masks of other pictures"
BEST, PASSES, AGREES = "largest IoU", "unit passes", "named shape is the class of its largest weight"
TAILS = (0.005, 0.01, 0.02, 0.05, 0.1)
LAYER = "network.act4"


def maximised(lesson: Lesson, *, steps: int, seed: int) -> dict[str, Maximised]:
    """One picture for each class under each regulariser, and of the margin over the other classes in place of the logit."""
    net, classes = lesson.nets.net, torch.arange(len(lesson.seen.class_names))
    same: dict[str, Any] = {"shape": net.input_shape, "steps": steps, "step_size": STEP, "noise": NOISE, "seed": seed}
    return {label: maximise(net, classes, **same, **own) for label, own in WAYS.items()}


def maximised_rows(lesson: Lesson, made: Mapping[str, Maximised]) -> pd.DataFrame:
    """Logit, probability, and distance to the nearest training picture; the same of training and other pictures."""
    net, names, seen = lesson.nets.net, lesson.seen.class_names, lesson.seen.inputs
    top = seen[strongest(net, seen)]
    every = torch.arange(len(names))
    shown = {**{label: (found.pictures, every, names) for label, found in made.items()}, TRAINING: (top, every, names)}
    shown[OTHER] = (lesson.unseen.inputs, lesson.unseen.targets, lesson.unseen.ids)
    frames = []
    for label, (pictures, targets, ids) in shown.items():
        logits = compute.logits(net, pictures)
        own = {LOGIT: logits, SURE: logits.softmax(dim=1)}
        values = {metric: score.gather(1, targets[:, None])[:, 0] for metric, score in own.items()}
        values[TAKEN] = (logits.argmax(dim=1) == targets).double()
        if label != TRAINING:
            values |= {
                NEAREST: nearest(pictures, seen)[0],
                NEAREST_FEATURES: nearest(features(net, pictures), features(net, seen))[0],
            }
        frames += [row_frame("shapes", net.name, label, metric, value, ids) for metric, value in values.items()]
    return pd.concat(frames, ignore_index=True)


def strongest(net: PixelModel, pictures: Tensor) -> Tensor:
    """Position of the picture with the largest logit of each class, (classes,)."""
    return compute.logits(net, pictures).argmax(dim=0)


def features(net: PixelModel, pictures: Tensor) -> Tensor:
    """What the last layer of the small net reads: the means of the units of `LAYER`, (n, k)."""
    return compute.logits(UnitMeans(net, LAYER), pictures)


def nearest(points: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Root-mean-square difference to the nearest of `known`, (n,), and its position, (n,)."""
    found = torch.cdist(points.flatten(1).double(), known.flatten(1).double(), compute_mode="donot_use_mm_for_euclid_dist").min(
        dim=1
    )
    return found.values / points[0].numel() ** 0.5, found.indices


@dataclass(frozen=True)
class Dissected:
    """A dissection of both nets, and of both with the concepts of other pictures.

    concepts  (n, c, h, w) bool; names (c,)
    maps      {TRAINED or UNTRAINED: (n, k, h', w') activations}
    found     {condition: {tail: Dissection}}
    tail      the one that the lesson asks for
    """

    names: tuple[str, ...]
    concepts: Tensor
    maps: Mapping[str, Tensor]
    found: Mapping[str, Mapping[float, Dissection]]
    tail: float

    def own(self, condition: str) -> Dissection:
        """The dissection at the tail asked for."""
        return self.found[condition][self.tail]


def dissected(lesson: Lesson, *, tail: float, seed: int) -> Dissected:
    """Dissect the last convolution of both nets at several tails, with the masks of each picture and of another one."""
    concepts = nets.concepts_of(lesson.unseen)
    sources = {"": concepts, OTHERS: of_others(concepts, seed=seed)}
    made = {
        label: activations(net, lesson.unseen.inputs, LAYER)
        for label, net in ((TRAINED, lesson.nets.net), (UNTRAINED, lesson.nets.untrained))
    }
    tails = sorted({*TAILS, tail})
    found = {
        label + suffix: {q: dissect(own, masks, tail=q) for q in tails}
        for label, own in made.items()
        for suffix, masks in sources.items()
    }
    return Dissected(nets.concept_names(lesson.unseen), concepts, made, found, tail)


def tail_label(condition: str, tail: float) -> str:
    """Label of a condition in the results."""
    return f"{condition}, tail {tail:g}"


def dissection_rows(lesson: Lesson, d: Dissected, *, threshold: float) -> pd.DataFrame:
    """Largest IoU of each unit, whether it passes at each tail, and whether its name is the class it speaks for."""
    frames = []
    for condition, by_tail in d.found.items():
        net = lesson.nets.net if condition.startswith(TRAINED) else lesson.nets.untrained
        units = [f"unit {k}" for k in range(d.maps[TRAINED].shape[1])]
        frames.append(row_frame("shapes", net.name, condition, BEST, d.own(condition).best[0], units, tail=d.tail))
        for tail, one in by_tail.items():
            own: dict[str, Any] = {"tail": tail, "threshold": threshold}
            frames.append(
                row_frame("shapes", net.name, tail_label(condition, tail), PASSES, one.detectors(threshold), units, **own)
            )
    agrees, named = speaks_for(lesson, d, threshold=threshold)
    if named:
        frames.append(
            row_frame("shapes", lesson.nets.net.name, TRAINED, AGREES, agrees, [f"unit {k}" for k in named], tail=d.tail)
        )
    return pd.concat(frames, ignore_index=True)


def speaks_for(lesson: Lesson, d: Dissected, *, threshold: float) -> tuple[list[bool], list[int]]:
    """Of the units that pass and are named after a shape: whether the last layer's largest weight goes to that shape."""
    head = lesson.nets.net.get_submodule("network.head")
    one, classes = d.own(TRAINED), len(lesson.seen.class_names)
    weights = next(head.parameters()).detach()
    named = [k for k, passes in enumerate(one.detectors(threshold).tolist()) if passes and int(one.best[1][k]) < classes]
    return [int(weights[:, k].argmax()) == int(one.best[1][k]) for k in named], named


def detector_table(d: Dissected, *, threshold: float) -> pd.DataFrame:
    """One line per concept: coverage, the bound on IoU, and the units named after it under each condition.

    Returns:
        Columns "concept", "share of pixels", "largest IoU possible", "best IoU", and the number of units for each condition.
    """
    one = d.own(TRAINED)
    bound = largest_iou(one.fired, one.coverage).amax(dim=0)
    counts = {label: _named(d.own(label), threshold) for label in d.found}
    lines = {
        "concept": list(d.names), "share of pixels": one.coverage.tolist(), "largest IoU possible": bound.tolist(),
        "best IoU": one.iou.amax(dim=0).tolist(), **counts,
    }  # fmt: skip
    return pd.DataFrame(lines)


def _named(one: Dissection, threshold: float) -> list[int]:
    passing = one.best[1][one.detectors(threshold)]
    return torch.bincount(passing, minlength=one.iou.shape[1]).tolist()


@dataclass(frozen=True)
class UnitPictures:
    """A unit as a picture: what it was named, its IoU, the picture made for it, and where it fires in real ones.

    rows   positions of the pictures in which it is most active
    masks  (len(rows), h, w) bool, where it fires there
    """

    unit: int
    concept: str
    iou: float
    made: Tensor
    rows: Sequence[int]
    masks: Tensor


def unit_pictures(
    lesson: Lesson, d: Dissected, *, steps: int, seed: int, units: int = 4, pictures: int = 4
) -> list[UnitPictures]:
    """The units with the largest IoU, at most one for each concept: the picture made for each, and the pictures it fires in."""
    one = d.own(TRAINED)
    values, concepts = one.best
    chosen: dict[int, int] = {}
    for k in values.argsort(descending=True, stable=True).tolist():
        chosen.setdefault(int(concepts[k]), k)
    some = list(chosen.values())[:units]
    net = lesson.nets.net
    same: dict[str, Any] = {"shape": net.input_shape, "steps": steps, "step_size": STEP, "noise": NOISE, "seed": seed}
    made = maximise(UnitMeans(net, LAYER), torch.tensor(some), **same, **WAYS["all three"])
    found = []
    for k, picture in zip(some, made.pictures, strict=True):
        own = d.maps[TRAINED][:, k : k + 1]
        rows = own.flatten(1).amax(dim=1).argsort(descending=True, stable=True)[:pictures]
        masks = unit_masks(own[rows], one.thresholds[k : k + 1], (nets.SIDE, nets.SIDE))[:, 0]
        found.append(UnitPictures(k, d.names[int(concepts[k])], float(values[k]), picture, rows.tolist(), masks))
    return found
