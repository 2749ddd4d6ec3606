"""Association of two measurements over images, as one number per image whose mean is the correlation."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from xai_lib.errors import InputError
from xai_lib.stats import Values, as_array


def rank_products(a: Values, b: Values, *, given: Values | None = None) -> np.ndarray:
    """Products of standardised ranks, r_i = z(rank a_i) z(rank b_i); their mean is Spearman's correlation.

    As a mean over images it has a bootstrap interval, so that a rule can judge it like any other measurement.

    Args:
        a, b: (n,), one value per image.
        given: (n,), taken out of both: z is then that of the residuals of the ranks' regression on the ranks of `given`, and
            the mean is the partial correlation of ranks.

    Returns:
        (n,) float64; NaN for an image with a NaN in one of them (the others are ranked without it), and everywhere if fewer
        than three are left or one of them is constant (or determined by `given`).

    Raises:
        InputError: not one-dimensional, or of different lengths.

    >>> rank_products([1, 2, 3], [10, 30, 20]).mean().round(12)
    np.float64(0.5)
    """
    columns = [as_array(values).astype(float) for values in (a, b, *([] if given is None else [given]))]
    if any(column.ndim != 1 or column.shape != columns[0].shape for column in columns):
        raise InputError(f"rank_products: expected vectors of one length, got shapes {[column.shape for column in columns]}")
    whole = np.isfinite(columns).all(axis=0)
    made = np.full(columns[0].shape, np.nan)
    if whole.sum() < 3:
        return made
    ranks = [_standard(rankdata(column[whole])) for column in columns]
    if given is not None:
        ranks = [_standard(rank - ranks[2] * np.mean(rank * ranks[2])) for rank in ranks[:2]]
    made[whole] = ranks[0] * ranks[1]
    return made


def _standard(values: np.ndarray) -> np.ndarray:
    spread = values.std()
    return (values - values.mean()) / spread if spread > 1e-9 else np.full(len(values), np.nan)
