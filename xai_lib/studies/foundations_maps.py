"""Lesson `foundations_maps`: class activation maps, rules for rectifiers, and whether maps notice a random last layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from xai_lib import METHODS, METRICS, compute, data, hooks, maps, models, similarity
from xai_lib.compendium.results import COLUMNS
from xai_lib.methods.cam import cam_maps, grad_cam_maps
from xai_lib.metrics.sanity import randomisation_floors, randomisation_tables
from xai_lib.models.wrapper import PixelModel
from xai_lib.studies import foundations_maps_net as nets
from xai_lib.types import Samples

PHOTOS = ("coffee", "flower", "rocket", "chelsea", "astronaut", "camera", "china")
LAST, PROBABILITY, GUIDED = "last layer", "last layer, probability", "Guided Grad-CAM"
DIFFERENCE, FACTOR = "difference from ReLU(CAM)", "ReLU(CAM) over Grad-CAM"
SIDE, CELL, SEEN, SHARE, GAIN = (
    "cells along a side",
    "pixels per cell",
    "pixels that a cell sees",
    "share in the box",
    "above area",
)
LAST_RANDOM, CASCADE, FLOOR = "similarity, last layer random", "similarity, random from the top", "similarity, two random nets"
ACCURACY, NEXT = "accuracy", "similarity to the map of another photograph"
METHOD_NAMES: Mapping[str, str] = {
    "gradient": "gradient",
    "Guided Backprop": "guided_backprop",
    "DeconvNet": "deconvnet",
    "Grad-CAM": "grad_cam",
    "Guided Grad-CAM": "guided_grad_cam",
}
RULES = ("gradient", "Guided Backprop", "DeconvNet")
STAGES = 5


@dataclass(frozen=True)
class Lesson:
    """What the lesson looks at.

    photo_model, photos, classes  EfficientNet-Lite0, one cut of each photograph, and the class it predicts for each
    nets                          the small net before and after training
    seen, unseen                  shapes that it was trained on, and others
    """

    photo_model: PixelModel
    photos: Samples
    classes: Tensor
    nets: nets.Trained
    seen: Samples
    unseen: Samples


def open_lesson(p: Mapping[str, Any]) -> Lesson:
    """Load the photographs and their model, draw the shapes, train the small net."""
    model, photos = models.load("efficientnet_lite0"), data.load("photos", ids=PHOTOS[: p["n_photos"]])
    seen = nets.plain_shapes("train", p["n_train"], seed=p["seed"])
    unseen = nets.plain_shapes("test", p["n_test"], seed=p["seed"])
    classes = compute.logits(model, photos.inputs).argmax(dim=1)
    return Lesson(model, photos, classes, nets.trained(seen, epochs=p["epochs"], seed=p["seed"]), seen, unseen)


def row_frame(
    dataset: str, model: str, method: str, metric: str, values: Any, samples: Sequence[str] = ("",), *, seed: int = 0,
    flag: str = "undefined", **own: Any,
) -> pd.DataFrame:  # fmt: skip
    """Tidy rows, one per value, with the columns of results.csv; `own` are parameters of the metric."""
    numbers = np.atleast_1d(np.asarray(values, dtype=float))
    same: dict[str, Any] = {"dataset": dataset, "model": model, "method": method, "method_parameters": {}, "metric": metric}
    same |= {"metric_parameters": own, "seed": seed, "seconds": float("nan")}
    pairs = zip(samples, numbers, strict=True)
    return pd.DataFrame([{**same, "sample": s, "value": v, "flag": "" if np.isfinite(v) else flag} for s, v in pairs])[
        list(COLUMNS)
    ]


def short(layer: str) -> str:
    """A layer's name without the wrapper's."""
    return layer.removeprefix("network.")


def accuracy_rows(lesson: Lesson) -> pd.DataFrame:
    """Whether the small net is right, on pictures it was trained on and on others, and before training."""
    both, seen, unseen = lesson.nets, lesson.seen, lesson.unseen
    ways = [("training pictures", both.net, seen), ("other pictures", both.net, unseen)]
    ways.append(("other pictures, untrained", both.untrained, unseen))
    made = [row_frame("shapes", m.name, label, ACCURACY, nets.right(m, s), s.ids) for label, m, s in ways]
    return pd.concat(made, ignore_index=True)


def explained(lesson: Lesson) -> dict[str, Tensor]:
    """Attributions of the photographs by every method, {label: (n, c, h, w)}."""
    model, photos = lesson.photo_model, lesson.photos
    return {label: METHODS.bind(name)(model, photos.inputs, lesson.classes) for label, name in METHOD_NAMES.items()}


def cam_rows(lesson: Lesson, made_by: Mapping[str, Tensor], coarse: Mapping[str, Tensor]) -> pd.DataFrame:
    """How far each map is from ReLU(CAM), both divided by their maximum: Grad-CAM of the logit at the last layer first.

    Args:
        made_by: from `explained`.
        coarse: from `layer_maps`, the last layer being where CAM is defined.
    """
    model, x, t, ids = lesson.photo_model, lesson.photos.inputs, lesson.classes, lesson.photos.ids
    relu, last = cam_maps(model, x, t).clamp_min(0), list(coarse.values())[-1]
    truth = _enlarged(relu, x)
    made = [row_frame("photos", model.name, LAST, DIFFERENCE, _greatest(truth, _enlarged(last, x)), ids)]
    factor = [
        float((a[b > 0] / b[b > 0]).median()) if bool((b > 0).any()) else float("nan") for a, b in zip(relu, last, strict=True)
    ]
    made.append(row_frame("photos", model.name, LAST, FACTOR, factor, ids))
    others = {PROBABILITY: _enlarged(grad_cam_maps(model, x, t, score="prob"), x)}
    others[GUIDED] = maps.reduce(made_by[GUIDED].abs())
    others |= {short(layer): _enlarged(own, x) for layer, own in list(coarse.items())[:-1]}
    made += [row_frame("photos", model.name, label, DIFFERENCE, _greatest(truth, own), ids) for label, own in others.items()]
    net, small = lesson.nets.net, lesson.unseen
    predicted = compute.logits(net, small.inputs).argmax(dim=1)
    both = (cam_maps(net, small.inputs, predicted).clamp_min(0), grad_cam_maps(net, small.inputs, predicted))
    made.append(row_frame("shapes", net.name, LAST, DIFFERENCE, _greatest(*both), small.ids))
    return pd.concat(made, ignore_index=True)


def _enlarged(coarse: Tensor, like: Tensor) -> Tensor:
    return torch.nn.functional.interpolate(coarse[:, None], size=like.shape[2:], mode="bilinear", align_corners=False)[:, 0]


def _greatest(one: Tensor, other: Tensor) -> Tensor:
    """Largest difference of two maps, each divided by its largest value, (n,)."""
    return (maps.normalise(one) - maps.normalise(other)).abs().flatten(1).amax(dim=1)


def layer_maps(lesson: Lesson, layers: Sequence[str]) -> dict[str, Tensor]:
    """Grad-CAM at each layer, at the layer's own resolution, {layer: (n, h', w')}."""
    return {layer: grad_cam_maps(lesson.photo_model, lesson.photos.inputs, lesson.classes, layer=layer) for layer in layers}


def layer_rows(lesson: Lesson, coarse: Mapping[str, Tensor]) -> pd.DataFrame:
    """Of each layer: cells, their size, how far one sees, and the share of the map that lies in the box."""
    model, photos = lesson.photo_model, lesson.photos
    made = []
    for layer, own in coarse.items():
        cells = {
            SIDE: own.shape[-1],
            CELL: photos.inputs.shape[-1] / own.shape[-1],
            SEEN: seen_side(model, photos.inputs[:1], layer),
        }
        made += [row_frame("photos", model.name, short(layer), metric, value) for metric, value in cells.items()]
        spread = _enlarged(own, photos.inputs)[:, None]
        for metric, name in ((SHARE, "energy_in_box"), (GAIN, "attribution_mass")):
            value = METRICS.ask(name, {"attributions": spread, "boxes": photos.boxes})
            made.append(row_frame("photos", model.name, short(layer), metric, value, photos.ids, flag="map is zero"))
    return pd.concat(made, ignore_index=True)


def seen_side(model: PixelModel, inputs: Tensor, layer: str) -> int:
    """Side of the square of input pixels on which the middle cell of a layer depends: where its gradient is not zero.

    Args:
        inputs: (n, c, h, w); the largest side over them is returned, at most that of the input.
    """
    points = inputs.clone().requires_grad_(True)
    with torch.enable_grad(), hooks.probe(model, layer) as seen:
        model(points)
        own = seen[layer]
        (gradient,) = torch.autograd.grad(own[:, :, own.shape[2] // 2, own.shape[3] // 2].sum(), points)
    touched = (gradient != 0).any(dim=1).any(dim=0)
    return max(int(line.nonzero().max() - line.nonzero().min()) + 1 for line in (touched.any(dim=0), touched.any(dim=1)))


def rule_maps(made_by: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Channel sums of the gradient and of what the two rules make of it, {label: (n, h, w)}."""
    return {label: maps.reduce(made_by[label]) for label in RULES}


def rule_rows(lesson: Lesson, made: Mapping[str, Tensor]) -> pd.DataFrame:
    """Spearman correlation of each photograph's map with the next one's: 1 where a map does not look at the photograph.

    The last one's next is the first. No pair counts twice, so that two photographs give one row; one alone gives NaN.

    Args:
        made: from `rule_maps`.
    """
    model, ids = lesson.photo_model.name, lesson.photos.ids
    n = len(ids)
    if n < 2:
        nothing = [row_frame("photos", model, label, NEXT, float("nan"), ids, flag="no other photograph") for label in made]
        return pd.concat(nothing, ignore_index=True)
    first = torch.arange(n if n > 2 else 1)
    values = {label: similarity.similarity(own[first], own[(first + 1) % n]) for label, own in made.items()}
    rows = [row_frame("photos", model, label, NEXT, v, ids[: len(first)]) for label, v in values.items()]
    return pd.concat(rows, ignore_index=True)


def last_layer_rows(lesson: Lesson, made_by: Mapping[str, Tensor], *, seed: int, absolute: bool) -> pd.DataFrame:
    """Spearman correlation of each map with the map after the last layer alone was made random, on the photographs.

    Args:
        made_by: from `explained`.
    """
    model, x, t = lesson.photo_model, lesson.photos.inputs, lesson.classes
    made = []
    for label, name in METHOD_NAMES.items():
        with hooks.randomised(model, [model.head_layer], seed):
            after = maps.reduce(METHODS.bind(name)(model, x, t))
        value = similarity.similarity(maps.reduce(made_by[label]), after, absolute=absolute)
        made.append(row_frame("photos", model.name, label, LAST_RANDOM, value, lesson.photos.ids, seed=seed, absolute=absolute))
    return pd.concat(made, ignore_index=True)


def cascade_rows(lesson: Lesson, *, n: int, seed: int, absolute: bool) -> pd.DataFrame:
    """The same on the small net, random from the logits down, one convolution more at each stage; and two nets at random.

    Args:
        n: of the other pictures, the first ones.
    """
    net, few = lesson.nets.net, lesson.unseen.subset(range(min(n, len(lesson.unseen))))
    t = compute.logits(net, few.inputs).argmax(dim=1)
    spec: Mapping[str, Any] = {"own": {"spearman": {"absolute": absolute}}}
    made = []
    for label, name in METHOD_NAMES.items():
        explain = METHODS.bind(name)
        stages, found = randomisation_tables(net, few.inputs, t, None, explain, similarities=spec, stages=STAGES, seed=seed)
        own: dict[str, Any] = {"seed": seed, "flag": "a map is zero", "absolute": absolute}
        for stage, value in zip(stages, found["own"], strict=True):
            made.append(row_frame("shapes", net.name, f"{label}: {short(stage)}", CASCADE, value, few.ids, **own))
        made.append(row_frame("shapes", net.name, label, LAST_RANDOM, found["own"][0], few.ids, **own))
        floor = randomisation_floors(net, few.inputs, t, explain, similarities=spec, seed=seed)["own"]
        made.append(row_frame("shapes", net.name, label, FLOOR, floor, few.ids, **own))
    return pd.concat(made, ignore_index=True)


def stage_names(rows: pd.DataFrame) -> list[str]:
    """Names of the stages of `cascade_rows`, the logits first."""
    return list(dict.fromkeys(method.split(": ")[1] for method in rows[rows.metric == CASCADE].method))
