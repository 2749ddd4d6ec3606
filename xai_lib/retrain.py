"""RemOve And Retrain (ROAR) and Keep And Retrain (KAR): does a net that never saw the removed pixels do worse? (FIDELITY 8.11)

Pictures lose their most important pixels (ROAR) or all but those (KAR), in training and in test data alike, and a new net is
trained on what is left. A map identifies important pixels if its removal costs more accuracy than a random removal of as many.
Which pixels go, and what is left, is in `removal`; `compendium.retraining` does whole grids by name, in parallel and resumable.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor, nn

from xai_lib.errors import InputError
from xai_lib.models import training
from xai_lib.models.fit import fit
from xai_lib.removal import HOOKER, Protocol, degrade, fill_of, removal_order, removed

THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)


def roar(
    build: Callable[..., nn.Module],
    train: tuple[Tensor, Tensor, Tensor],
    test: tuple[Tensor, Tensor, Tensor],
    *,
    recipe: Mapping[str, Any],
    rules: Protocol = HOOKER,
    fractions: Sequence[float] = THRESHOLDS,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    show: str = "picture",
    keep: bool = False,
) -> pd.DataFrame:
    """RemOve And Retrain with maps that are at hand.

    Args:
        build: build(seed=...) -> untrained net of pixels in [0, 1].
        train: inputs (n, c, h, w), targets (n,) and attributions (n, c, h, w) of the training pictures.
        test: the same of the test pictures.
        recipe: keyword arguments of `training.train`, without the seed.
        rules: ranking, unit, ties, fill and saved_as are used here; the target was settled when the maps were made.
        fractions: shares of the pixels, each in [0, 1].
        seeds: one training for each; also of the ties.
        show: "picture", or "pattern" for a net that sees the removal pattern alone.
        keep: False removes the most important pixels, True keeps only those (`kar`).

    Returns:
        One row per fraction and seed: fraction, seed, accuracy (of all test pictures, in [0, 1]), n, loss (of the last epoch).

    Raises:
        InputError, ConfigError, ModelError: see `removal_order`, `removed`, `degrade` and `training.train`.
    """
    fill = fill_of(rules.fill, train[0])
    rows = []
    for seed in seeds:
        orders = [removal_order(attributions, rules, seed=seed) for _, _, attributions in (train, test)]
        for fraction in fractions:
            left = []
            for (inputs, _, _), order in zip((train, test), orders, strict=True):
                gone = removed(order, inputs.shape[1:], fraction, unit=rules.unit, keep=keep)
                left.append(degrade(inputs, gone, fill=fill, saved_as=rules.saved_as, show=show))
            net, record = fit(build, left[0], train[1], seed=seed, recipe=recipe)
            right = training.correct(net, left[1], test[1])
            row = {"fraction": fraction, "seed": seed, "accuracy": right.double().mean().item(), "n": len(right)}
            rows.append({**row, "loss": record.losses[-1]})
    return pd.DataFrame(rows)


def kar(
    build: Callable[..., nn.Module],
    train: tuple[Tensor, Tensor, Tensor],
    test: tuple[Tensor, Tensor, Tensor],
    *,
    recipe: Mapping[str, Any],
    rules: Protocol = HOOKER,
    fractions: Sequence[float] = THRESHOLDS,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    show: str = "picture",
) -> pd.DataFrame:
    """Keep And Retrain: only the most important share of the pixels is kept. Arguments and result as `roar`."""
    return roar(
        build, train, test, recipe=recipe, rules=rules, fractions=fractions, seeds=seeds, show=show, keep=True
    )  # fmt: skip


def area_between(fractions: Sequence[float], method: Any, control: Any) -> np.ndarray:
    """Mean height of the control's accuracy above the method's, over the fractions: trapezoids divided by their width.

    Args:
        fractions: (k,) rising, at least two.
        method: (..., k) accuracies.
        control: (..., k) accuracies, of a random removal with the same seeds.

    Returns:
        (...); positive where the method's removal costs more accuracy than the control's (ROAR).

    Raises:
        InputError: fractions that do not rise, or do not fit.

    >>> area_between([0.0, 1.0], [1.0, 0.5], [1.0, 0.9]).item()
    0.2
    """
    at = np.asarray(fractions, dtype=float)
    gap = np.asarray(control, dtype=float) - np.asarray(method, dtype=float)
    if at.ndim != 1 or len(at) < 2 or gap.shape[-1:] != at.shape or not bool((np.diff(at) > 0).all()):
        raise InputError(f"area_between: fractions {at.tolist()} must rise and fit accuracies of shape {gap.shape}")
    return np.asarray(np.round(np.trapezoid(gap, at, axis=-1) / (at[-1] - at[0]), 15))


def accuracy_as_published(predicted: Any, targets: Any, names: Sequence[int], *, batch: int = 64, counted: int = 4) -> float:
    """Accuracy as document 002's code reports it for MNIST: the first 4 of every batch of 64, by class, cut to whole percent.

    The files are read class by class, in the alphabetic order of their names, so "10.png" comes before "2.png".

    Args:
        predicted, targets: (n,) classes.
        names: (n,) number of each picture in its set: the name of its file.
        batch: of the published evaluation.
        counted: pictures of each batch that it counts.

    Returns:
        Mean over the classes of the truncated percentages, in [0, 1]. A class of which no picture is counted counts as 0.

    >>> accuracy_as_published([1] * 640, [k // 64 for k in range(640)], range(640))
    0.1
    """
    found, truth = np.asarray(predicted), np.asarray(targets)
    order = sorted(range(len(truth)), key=lambda k: (int(truth[k]), f"{names[k]}.png"))
    taken = [k for place, k in enumerate(order) if place % batch < counted]
    right, total = np.zeros(int(truth.max()) + 1), np.zeros(int(truth.max()) + 1)
    for k in taken:
        right[truth[k]] += found[k] == truth[k]
        total[truth[k]] += 1
    percent = [math.floor(100 * r / t) if t else 0 for r, t in zip(right, total, strict=True)]
    return float(np.mean(percent)) / 100
