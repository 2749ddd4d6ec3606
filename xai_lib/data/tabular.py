"""Iris, wine and breast cancer, as scikit-learn ships them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from xai_lib.data.source import Source, opens, take
from xai_lib.errors import ConfigError
from xai_lib.randomness import key
from xai_lib.registry import DATASETS
from xai_lib.types import Samples

LICENCE = "CC BY 4.0 (UCI Machine Learning Repository), shipped by scikit-learn"
SPLITS = ("all", "train", "test")
TEST_FRACTION = 0.2
TRAITS = {"packaged": True, "licence": LICENCE, "redistributable": True, "kind": "tabular"}


@DATASETS.register(label="Iris", cite="fisher1936", traits={**TRAITS, "classes": 3})
def iris(
    *, split: str | None = None, n: int | None = None, seed: int = 0, ids: Sequence[str] | None = None, raw: bool = False
) -> Samples:
    """150 flowers, 4 measurements in cm, 3 species; see `columns` for the names.

    Args:
        split: "all" (default), "train" or "test" (one fifth of each class, chosen by a hash of the id).
        n: how many rows, drawn in an order fixed by `seed`.
        seed: of that order.
        ids: these rows instead.
        raw: original units instead of standardised ones (mean 0 and deviation 1 over the training rows).
    """
    return take("iris", split, n, seed, ids, raw=raw)


@DATASETS.register(label="Wine", cite="aeberhard1994", traits={**TRAITS, "classes": 3})
def wine(
    *, split: str | None = None, n: int | None = None, seed: int = 0, ids: Sequence[str] | None = None, raw: bool = False
) -> Samples:
    """178 wines, 13 chemical measurements, 3 growers; arguments as for `iris`."""
    return take("wine", split, n, seed, ids, raw=raw)


@DATASETS.register(label="Breast cancer", cite="wolberg1995", traits={**TRAITS, "classes": 2})
def breast_cancer(
    *, split: str | None = None, n: int | None = None, seed: int = 0, ids: Sequence[str] | None = None, raw: bool = False
) -> Samples:
    """569 tumours, 30 measurements of cell nuclei, malignant (0) or benign (1); arguments as for `iris`."""
    return take("breast_cancer", split, n, seed, ids, raw=raw)


@opens("iris", *SPLITS)
def open_iris(split: str, seed: int, *, raw: bool = False) -> Source:
    """Iris, opened."""
    return _open("iris", split, raw)


@opens("wine", *SPLITS)
def open_wine(split: str, seed: int, *, raw: bool = False) -> Source:
    """Wine, opened."""
    return _open("wine", split, raw)


@opens("breast_cancer", *SPLITS)
def open_breast_cancer(split: str, seed: int, *, raw: bool = False) -> Source:
    """Breast cancer, opened."""
    return _open("breast_cancer", split, raw)


def columns(name: str) -> tuple[str, ...]:
    """The names of the columns of a table.

    >>> columns("iris")[0]
    'sepal length (cm)'
    """
    return tuple(str(column) for column in _bunch(name).feature_names)


def held_out(name: str, labels: Sequence[int], ids: Sequence[str]) -> np.ndarray:
    """Which rows are test rows: of each class, the fifth with the smallest hash of the id.

    Returns:
        (n,) bool.
    """
    held = np.zeros(len(ids), dtype=bool)
    for label in sorted(set(labels)):
        rows = [row for row, own in enumerate(labels) if own == label]
        rows.sort(key=lambda row: key("test", name, ids[row]))
        held[rows[: round(TEST_FRACTION * len(rows))]] = True
    return held


def _bunch(name: str) -> Any:
    from sklearn import datasets  # a second of import time that only tables need

    return getattr(datasets, f"load_{name}")()


def _open(name: str, split: str, raw: bool) -> Source:
    if not isinstance(raw, bool):
        raise ConfigError(f"data set {name!r}: raw={raw!r}, expected true or false")
    bunch = _bunch(name)
    values, labels = np.asarray(bunch.data, dtype=np.float64), [int(label) for label in bunch.target]
    ids = [f"{name}-{row:03d}" for row in range(len(labels))]
    held = held_out(name, labels, ids)
    if not raw:
        values = (values - values[~held].mean(axis=0)) / values[~held].std(axis=0)
    rows = {"all": np.arange(len(ids)), "train": np.flatnonzero(~held), "test": np.flatnonzero(held)}[split]

    def read(chosen: Sequence[int]) -> Samples:
        at = rows[list(chosen)]
        return Samples(
            inputs=torch.tensor(values[at], dtype=torch.float32),
            targets=torch.tensor([labels[i] for i in at], dtype=torch.long),
            ids=tuple(ids[i] for i in at),
            class_names=tuple(str(c) for c in bunch.target_names),
            name=name,
            licence=LICENCE,
            redistributable=True,
        )

    return Source(name, [ids[row] for row in rows], read)
