"""Lesson `foundations_evaluation`, RemOve And Retrain: a toy whose removal pattern tells the label, and the same on digits."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import RidgeClassifier
from sklearn.tree import DecisionTreeClassifier
from torch import Tensor

from xai_lib import METHODS, toys
from xai_lib.removal import HOOKER, degrade, fill_of, removal_order, removed
from xai_lib.studies.foundations_evaluation_toys import Toy

Labelled = tuple[Tensor, Tensor, Tensor]
"""Inputs (n, c, h, w), labels (n,) and attributions (n, c, h, w)."""


def retrained(
    classifier: Any,
    train: Labelled,
    test: Labelled,
    fraction: float,
    *,
    keep: bool = False,
    show: str = "picture",
    seed: int = 0,
) -> np.ndarray:
    """Which test pictures a new classifier gets right after removal, (n,) of 0 and 1.

    Args:
        classifier: unfitted, of scikit-learn.
        train, test: pictures, labels and the maps that say what goes.
        fraction: of the pixels that are removed; with `keep`, all but these are.
        show: "picture", or "pattern" for a classifier that sees where pixels are gone and nothing else.
        seed: of the order of equal values.
    """
    fill, left = fill_of("mean", train[0]), []
    for inputs, _, attributions in (train, test):
        gone = removed(removal_order(attributions, HOOKER, seed=seed), inputs.shape[1:], fraction, keep=keep)
        left.append(degrade(inputs, gone, fill=fill, show=show).flatten(1).numpy())
    fitted = classifier.fit(left[0], train[1].numpy())
    return np.asarray(fitted.predict(left[1]) == test[1].numpy(), dtype=float)


def pictures() -> tuple[Tensor, Tensor]:
    """All pictures of the toy: class c has a white pixel c, the other of the first two is a coin, all others are grey.

    Returns:
        inputs (36, 1, 3, 3) and labels (36,): each of the four pictures nine times, so that each can lose each pixel once.
    """
    images = torch.full((2, 2, 9, 9), 0.5)
    for label in (0, 1):
        for coin in (0, 1):
            images[label, coin, :, label] = 1.0
            images[label, coin, :, 1 - label] = float(coin)
    return images.reshape(36, 1, 3, 3), torch.arange(2).repeat_interleave(18)


def one_hot(places: Tensor) -> Tensor:
    """Maps (n, 1, 3, 3) that point at one pixel each."""
    return torch.nn.functional.one_hot(places, 9).float().reshape(-1, 1, 3, 3)


def leak() -> Toy:
    """Logits (x_1, x_2). The gradient of the true class points at pixel 1 or 2, and so tells the class."""
    inputs, labels = pictures()
    model = toys.linear(torch.eye(9)[:2])
    predicted = model(inputs).argmax(dim=1)
    right, by_prediction = (METHODS.bind("gradient")(model, inputs, of) for of in (labels, predicted))
    wrong = one_hot(torch.full((36,), 8))
    anywhere = one_hot(torch.arange(9).repeat(4))

    def accuracy(made: Tensor, fraction: float = 1 / 9, **own: Any) -> float:
        pair = inputs, labels, made
        return float(retrained(DecisionTreeClassifier(random_state=0), pair, pair, fraction, **own).mean())

    whole = accuracy(right, 0.0)
    return Toy(
        "RemOve And Retrain", "is a new net worse without what the map calls important?",
        "Class 0 has a white first pixel, class 1 a white second one; the other of the two is a coin, so that three of four "
        "pictures can be told. Without the pixel that the right map of the true class points at, all can be. The wrong map "
        "points at a corner.",
        False, inputs[0, 0], right[0, 0], wrong[0, 0],
        (accuracy(right), accuracy(wrong)),
        "accuracy from the removal pattern alone", (accuracy(right, show="pattern"), accuracy(wrong, show="pattern")),
        {
            "Keep And Retrain": (accuracy(right, keep=True), accuracy(wrong, keep=True)),
            "RemOve And Retrain, untouched pictures and random map": (whole, accuracy(anywhere)),
            "RemOve And Retrain, map of the predicted class": (accuracy(by_prediction), accuracy(wrong)),
        },
    )  # fmt: skip


def digits(
    train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], made: Mapping[str, tuple[Tensor, Tensor]], fraction: float
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Right answers of a linear classifier that is trained anew, with the pictures and with the patterns alone.

    Args:
        train, test: inputs and labels.
        made: label -> maps of the training and of the test pictures.
        fraction: of the pixels that are removed.

    Returns:
        label -> (from what is left of the pictures, from the pattern alone), (n,) each; under "nothing removed" the accuracy on
        untouched pictures, and chance.
    """
    found = {}
    for label, (of_train, of_test) in made.items():
        both = (*train, of_train), (*test, of_test)
        left, pattern = (retrained(RidgeClassifier(alpha=10.0), *both, fraction, show=show) for show in ("picture", "pattern"))
        found[label] = left, pattern
    first = next(iter(made.values()))
    whole = retrained(RidgeClassifier(alpha=10.0), (*train, first[0]), (*test, first[1]), 0.0)
    found["nothing removed"] = whole, np.full(len(whole), np.nan)
    return found
