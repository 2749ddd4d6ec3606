"""What a column of a table does to a score, and what two do together: ALE curves and Friedman's H-statistic.

Any function of rows will do, so nothing here needs a gradient or torch. Our own, from the papers: of the packages with ALE,
PyALE 1.2.0 has had no release since 2024, and effector 0.6.0 has fifteen thousand lines and bins of equal width only. Partial
dependence and individual conditional expectation are scikit-learn's (`inspection.partial_dependence`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr
from scipy.stats import t as student

from xai_lib.checks import check_count
from xai_lib.errors import ConfigError, InputError

Function = Callable[[np.ndarray], np.ndarray]
"""Rows (k, d) -> scores (k,)."""
CHUNK = 2**16
"""Most rows of one call of the function."""


@dataclass(frozen=True)
class Ale:
    """The accumulated local effect of a column.

    edges   (k + 1,) ends of the bins, values of the column, ascending
    values  (k + 1,) the effect at the edges, score units; between them it is a line, and its mean over the rows is 0
    low, high  (k + 1,) 95 % bootstrap interval over the rows of each bin, point by point; the edges stay where they are; NaN
        where a bin has a single row
    counts  (k,) rows of each bin, at least 1
    """

    edges: np.ndarray
    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True)
class Interactions:
    """How far pairs of columns act together; NaN on the diagonal.

    h       (k, k) H: share of the pair's joint effect that is no sum of single effects; NaN where there is no joint effect
    size    (k, k) the same in score units: root mean square of the part that is no sum
    """

    h: np.ndarray
    size: np.ndarray


def ale(function: Function, rows: np.ndarray, column: int, *, bins: int = 20, resamples: int = 1000, seed: int = 0) -> Ale:
    """sum_{k <= K(z)} mean_{i in bin k} [f(z_k, x_i,rest) - f(z_{k-1}, x_i,rest)], centred: first-order ALE.

    Bin k holds the rows with z_{k-1} < x_ij <= z_k (the first bin its left end too); the z are quantiles of the column, each
    the value of a row, so that no bin is empty. A row is only ever moved inside its own bin: the function is asked about
    columns together as they occur, where partial dependence asks about every value with every row.

    The interval: the means of n_k rows drawn with repeats from bin k, their distance from the bin's mean times
    sqrt(n_k / (n_k - 1)), with tails at Phi(-t(nu)), nu being Welch and Satterthwaite's degrees of freedom of the sum. So it
    is as wide as a t interval, as is that of `stats.bootstrap_interval`. For f = x_1 x_2 it covers the end of the curve in .93
    to .96 of tables of 57 to 456 rows, two rows in a bin being enough (plain percentiles: .79 to .95). The condition is enough
    rows in all: of 12 rows, skewed changes are covered in .90 of tables.

    Args:
        function: rows (k, d) -> (k,).
        rows: (n, d), finite.
        column: number of the column, from 0.
        bins: at most this many; fewer where quantiles coincide. For an interval, at most half as many as there are rows.
        resamples: bootstrap samples of each bin's rows, at least 100; they ask the function nothing.
        seed: of these.

    Returns:
        An `Ale`; 2 n rows are asked.

    Raises:
        ConfigError: a bad count. InputError: no table, no such column, a constant column, or scores that are not (k,).

    Source: Apley and Zhu 2020, eq. 16. Differs from the paper: the mean over the rows is taken off the line between the edges,
    where the paper's runs over the values at the right ends; so a linear function gives w (x - mean x) exactly.

    >>> x = np.array([[0.0, 1.0], [1.0, 3.0], [2.0, 0.0], [3.0, 2.0]])
    >>> found = ale(lambda rows: 2 * rows[:, 0] + rows[:, 1] ** 2, x, 0, bins=2)
    >>> found.edges.tolist(), found.values.tolist()
    ([0.0, 1.0, 3.0], [-3.0, -1.0, 3.0])
    """
    check_count("bins", bins)
    check_count("resamples", resamples, least=100)
    _check_table(rows, [column])
    x = rows[:, column].astype(np.float64)
    edges = np.unique(np.quantile(x, np.linspace(0, 1, bins + 1), method="inverted_cdf"))
    if len(edges) < 2:
        raise InputError(f"ale: column {column} has the one value {edges[0]:g}; choose one that varies")
    own = np.maximum(np.searchsorted(edges, x, side="left"), 1) - 1
    change = asked(function, _moved(rows, column, edges[own + 1])) - asked(function, _moved(rows, column, edges[own]))
    counts = np.bincount(own)
    means = np.bincount(own, weights=change) / counts
    summed = np.tril(np.ones((len(edges), len(means))), -1)
    place = np.stack([np.interp(x, edges, part) for part in summed.T]).mean(axis=1)
    centred = summed - place
    generator = np.random.default_rng(seed)
    parts = [change[own == k] for k in range(len(means))]
    drawn = np.stack([_bootstrapped(part, resamples, generator) for part in parts])
    low, high = _interval(centred, means, drawn, counts, np.array([part.var() for part in parts]))
    return Ale(edges, centred @ means, low, high, counts)


def interactions(function: Function, rows: np.ndarray, columns: Sequence[int]) -> Interactions:
    """H_jk^2 = sum_i [PD_jk(x_i) - PD_j(x_i) - PD_k(x_i)]^2 / sum_i PD_jk(x_i)^2, for every pair of some columns.

    PD_S(x_i) = mean_b f(x_i,S, x_b,rest), each less its mean over i: partial dependence at the rows themselves.

    Args:
        function: rows (k, d) -> (k,).
        rows: (n, d), finite; n^2 rows are asked for each column and for each pair.
        columns: at least two, all different.

    Returns:
        `Interactions`. H is 0 where the pair adds up, 1 where each alone does nothing on average; above 1 can occur where
        columns depend on each other. H is a share: read `size` beside it. Both are roots of squares, to which the error of the
        means over b adds: H from few rows tends to be too large (x_1 + x_1 x_2 x_3 with independent signs has H = 0, and
        .34 from 20 rows), and an interval over small sets of rows is one for sets of that size.

    Raises:
        ConfigError: fewer than two columns, or one twice. InputError: as `ale`.

    Source: Friedman and Popescu 2008, eq. 44; H here, H^2 there.

    >>> x = np.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
    >>> found = interactions(lambda rows: rows[:, 0] * rows[:, 1] + rows[:, 0], x, [0, 1])
    >>> found.h.round(4).tolist(), found.size[0, 1].item()
    ([[nan, 0.7071], [0.7071, nan]], 1.0)
    """
    chosen = list(columns)
    if len(chosen) < 2 or len(set(chosen)) != len(chosen):
        raise ConfigError(f"columns={chosen}: expected at least two, each once")
    _check_table(rows, chosen)
    single = [_dependence(function, rows, [column]) for column in chosen]
    h, size = (np.full((len(chosen), len(chosen)), np.nan) for _ in range(2))
    for a in range(len(chosen)):
        for b in range(a):
            joint = _dependence(function, rows, [chosen[a], chosen[b]])
            more = _centred(joint) - _centred(single[a]) - _centred(single[b])
            both, rest = (float((part**2).mean() ** 0.5) for part in (_centred(joint), more))
            size[a, b] = size[b, a] = rest
            if both > 1e-10 * float(np.abs(joint).max()):
                h[a, b] = h[b, a] = rest / both
    return Interactions(h, size)


def asked(function: Function, rows: np.ndarray) -> np.ndarray:
    """The function's scores, float64, `CHUNK` rows a call.

    Raises:
        InputError: they are no finite (k,).
    """
    parts = [np.asarray(function(rows[at : at + CHUNK]), dtype=np.float64) for at in range(0, len(rows), CHUNK)]
    wrong = [
        part.shape
        for part, at in zip(parts, range(0, len(rows), CHUNK), strict=True)
        if part.shape != rows[at : at + CHUNK, 0].shape
    ]
    if wrong:
        raise InputError(
            f"the function gave scores of shape {wrong[0]}; expected one number per row, for instance one class's probability"
        )
    scores = np.concatenate(parts)
    if not np.isfinite(scores).all():
        raise InputError("the function gave NaN or infinity; look for overflow, or for rows that it cannot answer")
    return scores


def _dependence(function: Function, rows: np.ndarray, columns: Sequence[int]) -> np.ndarray:
    """(n,) the mean score when these columns have the values of row i and the others those of every row in turn."""
    n = len(rows)
    found = np.empty(n)
    step = max(1, CHUNK // n)
    for at in range(0, n, step):
        some = rows[at : at + step]
        made = np.tile(rows, (len(some), 1))
        made[:, columns] = np.repeat(some[:, columns], n, axis=0)
        found[at : at + step] = asked(function, made).reshape(len(some), n).mean(axis=1)
    return found


def _centred(values: np.ndarray) -> np.ndarray:
    return values - values.mean()


def _moved(rows: np.ndarray, column: int, to: np.ndarray) -> np.ndarray:
    made = rows.copy()
    made[:, column] = to
    return made


def _bootstrapped(values: np.ndarray, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """(resamples,) means of samples with repeats; the values are sorted first, so that the order of the rows is nothing."""
    return np.sort(values)[generator.integers(len(values), size=(resamples, len(values)))].mean(axis=1)


def _interval(
    weights: np.ndarray, means: np.ndarray, drawn: np.ndarray, counts: np.ndarray, variances: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """95 % ends of weights (e, k) @ means (k,) from bootstrapped means (k, b), as wide as t intervals; each (e,).

    `variances` (k,) are those of the bins' values, divided by n.
    """
    if counts.min() < 2:
        return np.full(len(weights), np.nan), np.full(len(weights), np.nan)
    wider = np.sqrt(counts / (counts - 1))[:, None]
    curves = weights @ (means[:, None] + (drawn - means[:, None]) * wider)
    shares = weights**2 * (variances / (counts - 1))
    squares = (shares**2 / (counts - 1)).sum(axis=1)
    freedom = np.divide(shares.sum(axis=1) ** 2, squares, out=np.full(len(weights), np.inf), where=squares > 0)
    tails = ndtr(-student.ppf(0.975, freedom))
    ends = [np.quantile(own, [tail, 1 - tail]) for own, tail in zip(curves, tails, strict=True)]
    low, high = np.array(ends).T
    return low, high


def _check_table(rows: np.ndarray, columns: Sequence[int]) -> None:
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or not len(rows) or not np.issubdtype(rows.dtype, np.floating):
        got = f"{rows.dtype} {rows.shape}" if isinstance(rows, np.ndarray) else type(rows).__name__
        raise InputError(f"rows: expected a float table (n, d), got {got}")
    if not np.isfinite(rows).all():
        raise InputError("rows: NaN or infinity; remove or repair those rows first")
    wrong = [c for c in columns if isinstance(c, bool) or not isinstance(c, int | np.integer) or not 0 <= c < rows.shape[1]]
    if wrong:
        raise InputError(f"column {wrong[0]!r}: expected a number from 0 to {rows.shape[1] - 1}")
