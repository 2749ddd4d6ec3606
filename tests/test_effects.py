"""ALE and Friedman's H: closed forms, slow twins, scikit-learn's partial dependence, and what is refused."""

from itertools import pairwise

import numpy as np
import pytest
from sklearn import inspection
from sklearn.base import BaseEstimator, RegressorMixin

from xai_lib import effects
from xai_lib.errors import ConfigError, InputError


def table(n=57, d=3, seed=0):
    """Correlated columns, one of them with ties."""
    rows = np.random.default_rng(seed).normal(size=(n, d))
    rows[:, 1] += 0.8 * rows[:, 0]
    rows[:, 2] = rows[:, 2].round()
    return rows


def wavy(rows):
    return np.sin(2 * rows[:, 0]) * rows[:, 1] + rows[:, 2] ** 2 * rows[:, 0]


class Counting:
    def __init__(self, function):
        self.function, self.rows = function, 0

    def __call__(self, rows):
        self.rows += len(rows)
        return self.function(rows)


def slow_ale(function, rows, column, bins):
    """Apley and Zhu's sum in plain loops."""
    ordered = sorted(rows[:, column])
    n = len(ordered)
    edges = [ordered[0]]
    for k in range(1, bins + 1):
        place = next(i for i in range(n) if (i + 1) * bins >= k * n)
        if ordered[place] != edges[-1]:
            edges.append(ordered[place])
    values = [0.0]
    for low, high in pairwise(edges):
        changes = []
        for row in rows:
            if low < row[column] <= high or (low == edges[0] and row[column] == low):
                ends = []
                for z in (low, high):
                    moved = row.copy()
                    moved[column] = z
                    ends.append(function(moved[None])[0])
                changes.append(ends[1] - ends[0])
        values.append(values[-1] + sum(changes) / len(changes))
    mean = sum(np.interp(row[column], edges, values) for row in rows) / n
    return np.array(edges), np.array(values) - mean


@pytest.mark.parametrize("column", [0, 1, 2])
@pytest.mark.parametrize("bins", [1, 4, 19, 500])
def test_ale_is_its_slow_twin(column, bins):
    rows, ask = table(), Counting(wavy)
    found = effects.ale(ask, rows, column, bins=bins)
    edges, values = slow_ale(wavy, rows, column, bins)
    np.testing.assert_allclose(found.edges, edges, rtol=0, atol=0)
    np.testing.assert_allclose(found.values, values, atol=1e-12)
    assert ask.rows == 2 * len(rows)
    assert found.counts.sum() == len(rows)
    assert found.counts.min() >= 1


def test_ale_of_a_linear_function_is_w_times_x_less_its_mean():
    rows = table()
    found = effects.ale(lambda r: 3 * r[:, 0] - 7 * r[:, 1] + 2, rows, 0, bins=6)
    np.testing.assert_allclose(found.values, 3 * (found.edges - rows[:, 0].mean()), atol=1e-12)
    np.testing.assert_allclose(found.low, found.values, atol=1e-12)
    np.testing.assert_allclose(found.high, found.values, atol=1e-12)


def test_ale_follows_a_sum_up_to_a_constant_and_its_mean_over_the_rows_is_0():
    rows = table()
    found = effects.ale(lambda r: r[:, 0] ** 2 + np.exp(r[:, 1]), rows, 0, bins=9)
    off = found.values - found.edges**2
    np.testing.assert_allclose(off, off[0], atol=1e-12)
    assert np.interp(rows[:, 0], found.edges, found.values).mean() == pytest.approx(0, abs=1e-12)


def test_ale_interval_holds_the_curve_and_knows_no_order_of_rows():
    rows = table(200)
    a, b = (effects.ale(wavy, given, 0, bins=8, seed=3) for given in (rows, rows[::-1]))
    assert (a.low <= a.values).all()
    assert (a.values <= a.high).all()
    assert (a.high - a.low).max() > 0.05
    np.testing.assert_allclose(a.low, b.low, atol=1e-12)
    np.testing.assert_allclose(a.high, b.high, atol=1e-12)


@pytest.mark.parametrize(("n", "bins"), [(57, 20), (100, 20), (150, 5)])
def test_ale_interval_covers_a_known_curve(n, bins):
    """f = x1 x2 with independent columns: the effect of x1 is 0 everywhere; 95 % intervals of its end miss it now and then.

    With two or three rows in each bin the plain percentile interval covers 0.84; the band is 3 deviations of 300 tables.
    """
    covered = 0
    for seed in range(300):
        rows = np.random.default_rng(seed).uniform(-1, 1, size=(n, 2))
        found = effects.ale(lambda r: r[:, 0] * r[:, 1], rows, 0, bins=bins, resamples=300, seed=seed)
        covered += found.low[-1] <= 0 <= found.high[-1]
    assert 0.912 <= covered / 300 <= 0.988


def test_ale_interval_of_one_bin_of_normal_changes_is_the_t_interval():
    """One bin: the curve's end is a share of the mean change, so that its interval is that of a mean, t(n - 1) wide."""
    rng, n = np.random.default_rng(0), 12
    rows = np.column_stack([np.linspace(0, 1, n), rng.normal(size=n)])
    found = effects.ale(lambda r: r[:, 0] * r[:, 1], rows, 0, bins=1, resamples=20_000)
    half = 2.2009852 * rows[:, 1].std(ddof=1) / n**0.5 / 2  # t(11) at 0.975; the constant takes half of the way
    assert (found.high - found.low)[-1] / 2 == pytest.approx(half, rel=0.05)


def test_ale_interval_is_undefined_where_a_bin_has_one_row():
    rows = np.column_stack([np.arange(7.0), np.arange(7.0) ** 2])
    for bins, defined in ((3, True), (7, False)):
        found = effects.ale(lambda r: r[:, 0] * r[:, 1], rows, 0, bins=bins)
        assert (found.counts.min() > 1) == defined
        assert np.isfinite(found.values).all()
        assert (np.isfinite(found.low) == defined).all()
        assert (np.isfinite(found.high) == defined).all()


class Given(RegressorMixin, BaseEstimator):
    def __init__(self, function):
        self.function = function

    def __sklearn_is_fitted__(self):
        return True

    def fit(self, x, y=None):
        return self

    def predict(self, rows):
        return self.function(rows)


def slow_h(function, rows, first, second):
    def dependence(columns):
        found = []
        for at in rows:
            made = rows.copy()
            made[:, columns] = at[columns]
            found.append(function(made).mean())
        return np.array(found) - np.mean(found)

    joint = dependence([first, second])
    rest = joint - dependence([first]) - dependence([second])
    return (rest**2).sum() ** 0.5 / (joint**2).sum() ** 0.5, (rest**2).mean() ** 0.5


def test_h_is_its_slow_twin_and_asks_for_the_square_of_the_rows():
    rows, ask = table(23), Counting(wavy)
    found = effects.interactions(ask, rows, [2, 0, 1])
    for a, first in enumerate([2, 0, 1]):
        for b, second in enumerate([2, 0, 1]):
            if a != b:
                assert (found.h[a, b], found.size[a, b]) == pytest.approx(slow_h(wavy, rows, first, second), abs=1e-12)
    assert np.isnan(np.diag(found.h)).all()
    assert ask.rows == (3 + 3) * 23**2


def test_the_dependence_behind_h_is_scikit_learns():
    rows = table(31)
    ours = effects._dependence(wavy, rows, [1])
    theirs = inspection.partial_dependence(
        Given(wavy), rows, [1], kind="average", method="brute", custom_values={1: rows[:, 1]}
    )
    np.testing.assert_allclose(ours, theirs["average"][0], atol=1e-12)


@pytest.mark.parametrize("a", [0.0, 0.5, 1.0, 2.0])
def test_h_of_a_sum_with_a_product_on_signs(a):
    """x1 + x2 + a x1 x2 on {-1, 1}^2: the pair's variance is 2 + a^2, of which a^2 is no sum."""
    rows = np.array([[-1.0, -1], [-1, 1], [1, -1], [1, 1]])
    found = effects.interactions(lambda r: r[:, 0] + r[:, 1] + a * r[:, 0] * r[:, 1], rows, [0, 1])
    assert found.h[0, 1] == pytest.approx((a**2 / (2 + a**2)) ** 0.5, abs=1e-12)
    assert found.size[0, 1] == pytest.approx(a, abs=1e-12)


def test_h_from_few_rows_is_too_large():
    """x1 + x1 x2 x3 on {-1, 1}^3: the third column's mean is 0, so that the first two do not act together."""
    cube = np.array(np.meshgrid(*[[-1.0, 1.0]] * 3)).reshape(3, -1).T

    def h(rows):
        return effects.interactions(lambda r: r[:, 0] + r[:, 0] * r[:, 1] * r[:, 2], rows, [0, 1]).h[0, 1]

    few = [h(cube[np.random.default_rng(seed).integers(8, size=20)]) for seed in range(200)]
    assert h(cube) == pytest.approx(0, abs=1e-12)
    assert np.mean(few) == pytest.approx(0.34, abs=0.04)


def test_h_of_sums_is_0_even_where_columns_depend_on_each_other():
    found = effects.interactions(lambda r: np.exp(r[:, 0]) + r[:, 1] ** 3, table(), [0, 1])
    assert found.h[0, 1] == pytest.approx(0, abs=1e-12)


def test_h_is_undefined_where_the_pair_does_nothing():
    found = effects.interactions(lambda r: 1e6 + r[:, 2], table(), [0, 1])
    assert np.isnan(found.h[0, 1])
    assert found.size[0, 1] == pytest.approx(0, abs=1e-8)


def test_rounding_is_no_interaction():
    found = effects.interactions(lambda r: 3.3e6 * (r[:, 0] + r[:, 1]) / (r[:, 0] + r[:, 1]), table(), [0, 1])
    assert np.isnan(found.h[0, 1])


def test_the_size_of_a_call_changes_nothing(monkeypatch):
    rows = table(29)
    before = effects.interactions(wavy, rows, [0, 1]), effects.ale(wavy, rows, 0)
    monkeypatch.setattr(effects, "CHUNK", 40)
    after = effects.interactions(wavy, rows, [0, 1]), effects.ale(wavy, rows, 0)
    np.testing.assert_allclose(before[0].h, after[0].h, atol=1e-12)
    np.testing.assert_allclose(before[1].values, after[1].values, atol=1e-12)


def test_rows_are_left_as_they_are():
    rows = table()
    kept = rows.copy()
    effects.ale(wavy, rows, 0)
    effects.interactions(wavy, rows, [0, 1])
    np.testing.assert_array_equal(rows, kept)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"rows": [[1.0]]}, InputError, r"float table \(n, d\), got list"),
        ({"rows": np.ones((3, 2), dtype=int)}, InputError, "got int64"),
        ({"rows": np.full((3, 3), np.nan)}, InputError, "NaN or infinity"),
        ({"rows": np.ones((5, 3))}, InputError, "one value 1"),
        ({"column": 3}, InputError, "from 0 to 2"),
        ({"column": -1}, InputError, "from 0 to 2"),
        ({"bins": 0}, ConfigError, "bins=0"),
        ({"resamples": 99}, ConfigError, "resamples=99"),
        ({"function": lambda r: r}, InputError, "one number per row"),
        ({"function": lambda r: r[:, 0] * np.inf}, InputError, "the function gave NaN"),
    ],
)
def test_ale_refuses(change, error, said):
    given = {"function": wavy, "rows": table(), "column": 0, **change}
    with pytest.raises(error, match=said), np.errstate(invalid="ignore"):
        effects.ale(given.pop("function"), given.pop("rows"), given.pop("column"), **given)


@pytest.mark.parametrize("columns", [[], [1], [1, 1]])
def test_h_refuses(columns):
    with pytest.raises(ConfigError, match="at least two, each once"):
        effects.interactions(wavy, table(), columns)
