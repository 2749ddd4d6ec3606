"""Lesson `foundations_evaluation`, toys of scores that know where the object is, or that perturb the picture."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from xai_lib import METHODS, toys
from xai_lib.metrics import bam_comparisons
from xai_lib.studies.foundations_evaluation_toys import Toy, asked, case, explained, subsets

SIDE, BOX = 4, (1, 1, 3, 3)
"""Side of the pictures, and x0 y0 x1 y1 of the object in their middle."""


def middle() -> Tensor:
    """The object's pixels, (1, 4, 4) bool."""
    mask = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    mask[:, BOX[1] : BOX[3], BOX[0] : BOX[2]] = True
    return mask


def background() -> Toy:
    """f = mean of the pixels beside a centred object; the wrong map is a bump in the middle, the same for every picture."""
    mask = middle()
    words = case(toys.planted(~mask[0]), torch.where(mask[0], 1.0, 0.5))
    right, wrong = explained("input_x_gradient", words), explained("centre_gaussian", words)
    boxes = (np.array([BOX], dtype=float),)

    def at(metric: str, **own: Any) -> tuple[float, float]:
        return asked(metric, {"boxes": boxes}, (right, wrong), **own)

    ones = asked("energy_in_box", {"boxes": boxes}, (right, torch.ones_like(right)))
    return Toy(
        "pointing game", "is the map's largest value on the object?",
        "The model reads the ground beside a bright object in the middle. The wrong map is a bump in the middle of every "
        "picture.",
        True, words["inputs"][0, 0], right[0, 0], wrong[0, 0],
        at("pointing_game", tolerance=0.0),
        "deletion (smaller is better)", asked("deletion", words, (right, wrong), substrate="black", step=1, score="logit"),
        {"energy in box": at("energy_in_box"), "pixel IoU": at("pixel_iou"), "energy in box, all ones": ones},
    )  # fmt: skip


def occluded() -> Toy:
    """A model of objects that reads one pixel of the object, and a model of scenes that reads the mean of all pixels."""
    mask = middle()
    words = case(toys.mean_pixel(), torch.where(mask[0], 1.0, 0.25))
    inputs, target = words["inputs"], words["targets"]
    tip = toys.Formula(lambda x: x[:, 0, BOX[1], BOX[0]])
    ground = torch.full_like(inputs, 0.25)
    scores = []
    for name in ("input_x_gradient", "edge_detector"):
        found = bam_comparisons(tip, words["model"], inputs, ground, target, target, mask, METHODS.bind(name))
        scores.append(found["model_contrast_score"].average)
    right, wrong = explained("input_x_gradient", words), explained("edge_detector", words)
    return Toy(
        "model contrast (BAM)", "does a model of objects attribute more to the object than a model of scenes?",
        "The model of objects reads one pixel of four, the model of scenes the mean of all pixels, the object's too (its map "
        "is shown). The wrong map finds edges and asks no model.",
        True, inputs[0, 0], right[0, 0], wrong[0, 0],
        (scores[0], scores[1]),
        "Sensitivity-n, model of scenes", asked("sensitivity_n", words, (right, wrong), **subsets(16, range(2, 14, 2))),
    )  # fmt: skip


def steady() -> Toy:
    """f = sum (1 - g_i) x_i, g a bump in the middle; the wrong map is g itself, the same whatever the picture."""
    words = case(toys.constant(), torch.ones(3, 3))
    wrong = explained("centre_gaussian", words)
    words["model"] = toys.linear((1 - wrong).reshape(1, -1))
    right = explained("input_x_gradient", words)
    methods = {
        "method": (METHODS.bind("input_x_gradient"), METHODS.bind("centre_gaussian")),
        "attributions": (right, wrong),
    }
    return Toy(
        "Max-Sensitivity", "does the map stay when the picture changes a little?",
        "A linear model that reads the corners most. The wrong map points at the middle, and at the same place in every "
        "picture.",
        False, words["inputs"][0, 0], right[0, 0], wrong[0, 0],
        asked("max_sensitivity", words, methods, n_samples=20),
        "Sensitivity-n", asked("sensitivity_n", words, (right, wrong), **subsets(9, range(1, 9))),
    )  # fmt: skip
