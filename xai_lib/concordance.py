"""Kendall's W: how far several judges order the same things alike."""

import numpy as np
from scipy import stats as scipy_stats

from xai_lib.errors import InputError
from xai_lib.stats import Values, as_array


def kendall_w(scores: Values) -> np.ndarray:
    """Kendall's coefficient of concordance of each group of judges, corrected for ties.

    W = 12 S / (k^2 (m^3 - m) - k sum_j T_j), with S the sum of squared deviations of the m rank sums from their mean and
    T_j = sum over the tied groups of judge j of t^3 - t.

    Args:
        scores: (n, k, m) or (k, m): what k judges (metrics) give to m things (methods), on n images. Only the order within a
            judge matters.

    Returns:
        (n,) in [0, 1]: 1 where all judges agree, 1/k in expectation where each orders at random and without ties. NaN where a
        score is not finite or all judges tie everything.

    Raises:
        InputError: not two or three dimensions, fewer than two judges or two things.

    Source: kendall1939. Differs from the mean Spearman correlation r of pairs of judges (without ties W = (1 + (k - 1) r) / k)
    in that it has no negative values.

    >>> kendall_w([[1, 2, 3], [1, 2, 3], [1, 3, 2]]).round(4).tolist()
    [0.7778]
    """
    given = as_array(scores)
    groups = given[None] if given.ndim == 2 else given
    if groups.ndim != 3 or groups.shape[1] < 2 or groups.shape[2] < 2:
        raise InputError(
            f"kendall_w: expected scores (n, judges, things) with at least two judges and two things, got {given.shape}"
        )
    return np.array([_concordance(one) for one in groups])


def _concordance(scores: np.ndarray) -> float:
    if not np.isfinite(scores).all():
        return float("nan")
    judges, things = scores.shape
    ranks = scipy_stats.rankdata(scores, axis=1)
    ties = sum(float((counts**3 - counts).sum()) for counts in (np.unique(row, return_counts=True)[1] for row in ranks))
    most = judges**2 * (things**3 - things) - judges * ties
    sums = ranks.sum(axis=0)
    return float(12 * ((sums - sums.mean()) ** 2).sum() / most) if most > 0 else float("nan")
