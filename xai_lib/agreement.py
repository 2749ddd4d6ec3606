"""How far maps agree: correlation and overlap of the rows of two arrays, image by image."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats as scipy_stats
from torch import Tensor

from xai_lib import maps
from xai_lib.errors import InputError
from xai_lib.stats import as_array


def correlation(a: Tensor | np.ndarray, b: Tensor | np.ndarray) -> np.ndarray:
    """Pearson correlation of each row of a with the same row of b.

    Args:
        a, b: (n, ...) of equal shape; all but the first dimension are flattened.

    Returns:
        (n,) in [-1, 1]; NaN where a row is constant or holds NaN or infinity.
    """
    return _row_correlation(*_rows(a, b))


def rank_correlation(a: Tensor | np.ndarray, b: Tensor | np.ndarray) -> np.ndarray:
    """Spearman correlation of each row of a with the same row of b: Pearson on average ranks.

    Args:
        a, b: (n, ...) of equal shape, for instance maps (n, h, w).

    Returns:
        (n,) in [-1, 1]; NaN where a row is constant or holds NaN.

    >>> signed = np.array([[-3.0, -1.0, 2.0]]), np.array([[3.0, 1.0, -2.0]])
    >>> rank_correlation(*signed).round(12).tolist(), rank_correlation(*map(np.abs, signed)).round(12).tolist()
    ([-1.0], [1.0])
    """
    first, second = _rows(a, b)
    return _row_correlation(_ranks(first), _ranks(second))


def kendall(a: Tensor | np.ndarray, b: Tensor | np.ndarray) -> np.ndarray:
    """Kendall's tau-b of each row of a with the same row of b; arguments and NaN rule as `rank_correlation`."""
    first, second = _rows(a, b)
    undefined = _undefined(first) | _undefined(second)
    taus = np.full(len(first), np.nan)
    for i in np.flatnonzero(~undefined):
        taus[i] = scipy_stats.kendalltau(first[i], second[i]).statistic
    return taus


def top_overlap(a: Tensor, b: Tensor, fraction: float = 0.1, *, seed: int = 0) -> np.ndarray:
    """Share of the k largest pixels of a that are among the k largest of b, k = `maps.top_mask`'s exact count.

    Two unrelated maps overlap by k / (h * w), about `fraction`, not 0.

    Args:
        a, b: (n, h, w) maps.
        fraction: in (0, 1].
        seed: breaks ties, independently in a and b.

    Returns:
        (n,) in [0, 1]; NaN where a map is constant, since its top is arbitrary, or holds NaN.
    """
    first, second = _rows(a, b)
    undefined = _undefined(first) | _undefined(second)
    # NaN cannot be ranked: such rows are masked on zeros and set to NaN afterwards
    top_a, top_b = (maps.top_mask(x.masked_fill(x.isnan(), 0.0), fraction, seed=seed).flatten(1).cpu().numpy() for x in (a, b))
    overlap = (top_a & top_b).sum(axis=1) / top_a.sum(axis=1)
    return np.where(undefined, np.nan, overlap)


def agreement_matrix(named_maps: Mapping[str, Tensor | np.ndarray], *, ids: Sequence[str] | None = None) -> pd.DataFrame:
    """Spearman correlation between every two of several maps of the same images, one row per image and pair.

    Args:
        named_maps: label -> (n, h, w), all of one shape, at least two.
        ids: n names of the images; default "0", "1", ...

    Returns:
        Columns `sample, first, second, value`; each unordered pair once, in the order of the mapping.

    Raises:
        InputError: fewer than two maps, unequal shapes, or a wrong number of ids.
    """
    labels = list(named_maps)
    if len(labels) < 2:
        raise InputError(f"agreement_matrix: needs at least two maps to compare, got {labels}")
    shapes = {label: tuple(named_maps[label].shape) for label in labels}
    if len(set(shapes.values())) > 1:
        raise InputError(f"agreement_matrix: maps must have one shape, got {shapes}")
    n = len(named_maps[labels[0]])
    names = [str(i) for i in range(n)] if ids is None else [str(name) for name in ids]
    if len(names) != n:
        raise InputError(f"agreement_matrix: {n} images, but {len(names)} ids")
    rows = []
    for i in range(n):
        ranks = _ranks(np.stack([as_array(named_maps[label][i]).ravel() for label in labels]))
        for j, k in combinations(range(len(labels)), 2):
            value = _row_correlation(ranks[j : j + 1], ranks[k : k + 1])[0]
            rows.append((names[i], labels[j], labels[k], float(value)))
    return pd.DataFrame(rows, columns=["sample", "first", "second", "value"])


def _ranks(rows: np.ndarray) -> np.ndarray:
    """Average ranks along each row; a row that holds NaN becomes NaN."""
    return np.asarray(scipy_stats.rankdata(rows, axis=1, nan_policy="propagate"))


def _undefined(rows: np.ndarray) -> np.ndarray:
    """Which rows are constant or hold NaN."""
    return np.asarray(np.isnan(rows).any(axis=1) | (rows.max(axis=1) == rows.min(axis=1)))


def _row_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    undefined = _undefined(a) | _undefined(b) | ~np.isfinite(a).all(axis=1) | ~np.isfinite(b).all(axis=1)
    a, b = (np.where(undefined[:, None], 0.0, x) for x in (a, b))
    a, b = (x - x.mean(axis=1, keepdims=True) for x in (a, b))
    size = np.sqrt((a * a).sum(axis=1)) * np.sqrt((b * b).sum(axis=1))
    undefined |= size == 0
    values = (a * b).sum(axis=1) / np.where(undefined, 1.0, size)
    return np.where(undefined, np.nan, np.clip(values, -1.0, 1.0))


def _rows(a: Tensor | np.ndarray, b: Tensor | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first, second = as_array(a), as_array(b)
    if first.shape != second.shape or first.ndim < 2 or first.size == 0:
        raise InputError(f"expected two non-empty arrays (n, ...) of one shape, got {first.shape} and {second.shape}")
    return first.reshape(len(first), -1), second.reshape(len(second), -1)
