"""Lesson `foundations_maps`, tables."""

from collections.abc import Mapping

import pandas as pd
from torch import Tensor

from xai_lib import METHODS, models, plotting, stats
from xai_lib.errors import UnsupportedModelError
from xai_lib.plotting import number
from xai_lib.stats import Estimate
from xai_lib.studies.foundations_maps import (
    ACCURACY,
    CELL,
    DIFFERENCE,
    GAIN,
    GUIDED,
    LAST,
    PROBABILITY,
    SEEN,
    SHARE,
    SIDE,
    Lesson,
    short,
)
from xai_lib.studies.foundations_maps_units import (
    LOGIT,
    NEAREST,
    NEAREST_FEATURES,
    OTHER,
    SURE,
    TAKEN,
    TRAINING,
    WAYS,
    Dissected,
    detector_table,
    speaks_for,
)

TOOLS = (
    ("CAM", "weighted sum of the last maps", "global average pooling, one linear layer", "what made a map fire; anything finer than a cell"),
    ("Grad-CAM", "the same, weights from gradients, cut at 0", "a layer with maps, a gradient", "that the weighted sum is the score, at other layers; what speaks against"),
    ("Guided Backprop, DeconvNet", "the gradient with another rule at rectifiers", "rectifiers, a backward pass", "which class: the last layer hardly matters"),
    ("Guided Grad-CAM", "the product of the two", "both", "that its fine lines are the class's: they are the rule's"),
    ("activation maximisation", "a picture that a unit answers to most", "a gradient to the input", "what real pictures the unit answers to; the regulariser is in the picture"),
    ("network dissection", "the concept that a unit's strongest activations lie on", "pictures with masks of every concept", "what the net uses the unit for; what is not in the list; tail and threshold are chosen"),
)  # fmt: skip


def closing() -> None:
    """What each tool draws, needs, and does not say."""
    columns = ["tool", "what is drawn", "what it needs", "what it does not say"]
    plotting.table(pd.DataFrame(TOOLS, columns=columns), caption="The tools of this chapter.", name="tools")


def _estimate(rows: pd.DataFrame, metric: str, method: str, **where: str) -> Estimate:
    own = rows[(rows.metric == metric) & (rows.method == method)]
    for column, value in where.items():
        own = own[own[column] == value]
    return stats.bootstrap_interval(own.value.to_numpy())


def lenet_answer(lesson: Lesson) -> str:
    """What CAM says to a net with three linear layers after its last maps."""
    net = models.load("mnist_cnn")
    digit = lesson.photos.inputs[:1, :1, :28, :28].contiguous()
    try:
        METHODS.bind("cam")(net, digit, lesson.classes[:1] * 0)
    except UnsupportedModelError:
        return "no CAM: refused"
    return "has a CAM"


def differences(lesson: Lesson, rows: pd.DataFrame) -> None:
    """How far each map is from ReLU(CAM)."""
    layers = [m for m in rows[(rows.metric == DIFFERENCE) & (rows.model == lesson.photo_model.name)].method.unique()]
    names = {
        LAST: "Grad-CAM of the logit, last layer",
        PROBABILITY: "Grad-CAM of the probability, last layer",
        GUIDED: "Guided Grad-CAM, size",
    }
    big, small = lesson.photo_model.name, lesson.nets.net.name
    lines = [
        ("EfficientNet-Lite0", names.get(m, f"Grad-CAM of the logit, {m}"), _estimate(rows, DIFFERENCE, m, model=big))
        for m in layers
    ]
    lines.insert(1, ("small net", names[LAST], _estimate(rows, DIFFERENCE, LAST, model=small)))
    table = [*lines, ("LeNet, three linear layers", "CAM", lenet_answer(lesson))]
    plotting.table(
        pd.DataFrame(table, columns=["net", "map", "largest difference from ReLU(CAM)"]),
        caption="Largest difference of a pixel from ReLU(CAM), both maps divided by their maximum; mean over pictures with 95 % interval.",
        name="cam-differences",
        digits=2,
    )


def resolution(rows: pd.DataFrame, coarse: Mapping[str, Tensor]) -> None:
    """Cells, what they see, and how much of the map is in the box, by layer."""
    lines = []
    for layer in map(short, coarse):
        value = {metric: _estimate(rows, metric, layer) for metric in (SIDE, CELL, SEEN, SHARE, GAIN)}
        cells = {metric: int(value[metric].value) for metric in (SIDE, SEEN)} | {CELL: value[CELL].value}
        lines.append({"layer": layer, **{m: cells[m] for m in (SIDE, CELL, SEEN)}, SHARE: value[SHARE], GAIN: value[GAIN]})
    plotting.table(
        pd.DataFrame(lines),
        caption="Grad-CAM by layer on pictures of 224 pixels. A cell sees at most this many pixels along a side; the last two columns are the "
        "share of the map in the box, and that less the box's share of the area, with 95 % intervals over photographs.",
        name="cam-resolution",
    )


def maximised(rows: pd.DataFrame) -> None:
    """Scores and distances of the pictures that were made, beside real ones."""
    lines = []
    for label in (*WAYS, TRAINING, OTHER):
        name = f"made: {label}" if label in WAYS else label
        own = {metric: _estimate(rows, metric, label) for metric in (LOGIT, SURE, TAKEN, NEAREST, NEAREST_FEATURES)}
        known = {metric: _interval(e) for metric, e in own.items()}
        lines.append({"pictures": name, "n": own[LOGIT].n, **known})
    plotting.table(
        pd.DataFrame(lines),
        caption="Made and real pictures: means with 95 % intervals over pictures. Distances are root mean squares to the nearest training "
        "picture, per pixel value and per unit of the last maps.",
        name="maximised-table",
    )


def _interval(e: Estimate) -> str:
    return f"{number(e.value, 2)} [{number(e.low, 2)}, {number(e.high, 2)}]" if e.n > 1 else number(e.value, 2)


def detectors(d: Dissected, lesson: Lesson, *, threshold: float) -> None:
    """Concepts and the units named after them."""
    agrees, named = speaks_for(lesson, d, threshold=threshold)
    told = f"Of {len(named)} units of the trained net named after a shape, {sum(agrees)} have their largest weight in the last layer there."
    plotting.table(
        detector_table(d, threshold=threshold),
        caption=f"Units named after each concept at tail {d.tail:g} and IoU above {threshold:g}. The largest IoU possible is that of the "
        f"unit whose mask comes nearest in size, were it to lie inside the concept or around it. {told}",
        name="detectors",
        digits=2,
    )


def accuracies(rows: pd.DataFrame) -> None:
    """How well the small net tells shapes apart."""
    labels = list(rows[rows.metric == ACCURACY].method.unique())
    plotting.table(
        pd.DataFrame([{"pictures": label, "share right": _estimate(rows, ACCURACY, label)} for label in labels]),
        caption="The small net on shapes of six classes.",
        name="small-net",
    )
