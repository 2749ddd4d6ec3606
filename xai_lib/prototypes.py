"""Rows that stand for a table, and rows that those leave out: prototypes and criticisms by maximum mean discrepancy.

Our own, from the paper; everything is read off a kernel matrix, for instance `sklearn.metrics.pairwise.rbf_kernel`.
"""

from collections.abc import Sequence

import numpy as np

from xai_lib.checks import check_count
from xai_lib.errors import ConfigError, InputError

TIES = 12
"""Decimals to which gains are compared; of equal ones the first row is taken."""
NOTHING = 1e-12
"""What is left of a copy of a criticism: rounding."""


def mmd2(kernel: np.ndarray, chosen: Sequence[int]) -> float:
    """mean_ij k(x_i, x_j) - 2 mean_ij k(x_i, s_j) + mean_ij k(s_i, s_j): squared discrepancy of all rows and the chosen ones.

    Args:
        kernel: (n, n), symmetric, positive semi-definite.
        chosen: numbers of rows; one may occur more than once.

    Returns:
        At least 0 but for rounding; 0 when all rows are chosen.

    Raises:
        ConfigError: nothing is chosen, or no such row. InputError: no symmetric matrix.

    >>> mmd2(np.eye(4), [0]), mmd2(np.eye(4), [0, 1, 2, 3])
    (0.75, 0.0)
    """
    _check(kernel, chosen)
    if not len(chosen):
        raise ConfigError("chosen=[]: expected at least one row")
    own = list(chosen)
    return float(kernel.mean() - 2 * kernel[:, own].mean() + kernel[np.ix_(own, own)].mean())


def prototypes(kernel: np.ndarray, count: int) -> tuple[int, ...]:
    """Rows chosen one after the other, each so that `mmd2` of those chosen so far is least.

    Args:
        kernel: as in `mmd2`.
        count: how many, 1 to n.

    Returns:
        `count` different rows, in the order in which they were chosen.

    Raises:
        ConfigError: a bad count. InputError: as `mmd2`.

    Source: Kim, Khanna and Koyejo 2016, algorithm 1 (they maximise mean k(x, x') - MMD^2, which is the same). The first is the
    best single row; of later sets the best may be another, a test compares with all sets of small tables.

    >>> two = np.array([[0.0], [0.1], [0.2], [5.0], [5.1]])
    >>> prototypes(np.exp(-((two - two.T) ** 2)), 2)
    (1, 3)
    """
    check_count("count", count)
    _check(kernel, [])
    if count > len(kernel):
        raise ConfigError(f"count={count}: there are {len(kernel)} rows")
    chosen: list[int] = []
    kernel = kernel / (np.diag(kernel).max() or 1.0)
    means, near = kernel.mean(axis=1), np.zeros(len(kernel))
    to_all, within = 0.0, 0.0
    while len(chosen) < count:
        size = len(chosen) + 1
        gain = 2 * (to_all + means) / size - (within + 2 * near + np.diag(kernel)) / size**2
        gain[chosen] = -np.inf
        best = int(np.argmax(gain.round(TIES)))
        to_all, within = to_all + means[best], within + 2 * near[best] + kernel[best, best]
        near = near + kernel[best]
        chosen.append(best)
    return tuple(chosen)


def criticisms(kernel: np.ndarray, chosen: Sequence[int], count: int) -> tuple[int, ...]:
    """Rows where the chosen ones say too much or too little, far from each other: greedy sum_c |w(x_c)| + log det K_cc.

    w(x) = mean_i k(x, x_i) - mean_j k(x, s_j), the witness: above 0 where there are more rows than the prototypes tell.

    Args:
        kernel: as in `mmd2`.
        chosen: the prototypes.
        count: how many criticisms, 1 to the number of rows that are no prototypes.

    Returns:
        `count` different rows, none of them chosen before, in the order in which they were found.

    Raises:
        ConfigError: a bad count, or no prototypes. InputError: as `mmd2`.

    Source: as `prototypes`, algorithm 2 with their log-determinant. With a kernel of many near-equal rows the second term
    outweighs the first.

    >>> criticisms(np.exp(-((np.arange(6.0)[:, None] - np.arange(6.0)) ** 2)), [2], 2)
    (4, 0)
    """
    check_count("count", count)
    _check(kernel, chosen)
    free = len(kernel) - len(set(chosen))
    if not len(chosen) or count > free:
        raise ConfigError(
            f"count={count} with {len(chosen)} prototypes: expected at least one prototype, and at most {free} criticisms"
        )
    witness = np.abs(kernel.mean(axis=1) - kernel[:, list(chosen)].mean(axis=1))
    left = np.diag(kernel).astype(np.float64).copy()
    nothing = NOTHING * (left.max() or 1.0)
    parts = np.zeros((0, len(kernel)))
    found: list[int] = []
    while len(found) < count:
        open_ = np.ones(len(kernel), dtype=bool)
        open_[[*chosen, *found]] = False
        new = open_ & (left > nothing)
        if new.any():
            gain = np.where(new, witness + np.log(np.where(new, left, 1.0)), -np.inf)
        else:  # copies of criticisms, whose determinant is 0
            gain = np.where(open_, witness, -np.inf)
        best = int(np.argmax(gain.round(TIES)))
        if new.any():  # one more row of the Cholesky factor; `left` is what the criticisms found so far do not explain
            part = (kernel[best] - parts[:, best] @ parts) / left[best] ** 0.5
            parts, left = np.vstack([parts, part]), left - part**2
        found.append(best)
    return tuple(found)


def _check(kernel: np.ndarray, chosen: Sequence[int]) -> None:
    if not isinstance(kernel, np.ndarray) or kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1] or not len(kernel):
        got = kernel.shape if isinstance(kernel, np.ndarray) else type(kernel).__name__
        raise InputError(f"kernel: expected a matrix (n, n), got {got}")
    if not np.isfinite(kernel).all() or not np.allclose(kernel, kernel.T):
        raise InputError("kernel: expected a symmetric matrix of finite numbers")
    wrong = [row for row in chosen if not 0 <= row < len(kernel)]
    if wrong:
        raise ConfigError(f"row {wrong[0]}: expected a number from 0 to {len(kernel) - 1}")
