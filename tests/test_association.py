"""Association over images: the mean of the products is the correlation, with or without a third variable."""

import numpy as np
import pytest
from scipy import stats

from xai_lib.association import rank_products
from xai_lib.errors import InputError


def draws(n=60, seed=0):
    random = np.random.default_rng(seed)
    third = random.normal(size=n)
    return third + random.normal(size=n), np.exp(third + random.normal(size=n)), third


def test_the_mean_is_spearmans_correlation_with_ties_too():
    a, b, _ = draws()
    for one, other in ((a, b), (a.round(), b.round()), (a, -b)):
        assert rank_products(one, other).mean() == pytest.approx(stats.spearmanr(one, other).statistic)


def test_what_a_third_variable_explains_is_taken_out():
    """Slow twin: the partial correlation by the formula of three correlations."""
    a, b, third = draws()
    ab, ac, bc = (stats.spearmanr(x, y).statistic for x, y in ((a, b), (a, third), (b, third)))
    expected = (ab - ac * bc) / np.sqrt((1 - ac**2) * (1 - bc**2))
    assert rank_products(a, b, given=third).mean() == pytest.approx(expected)
    assert abs(expected) < abs(ab)


def test_images_without_a_value_are_left_out_alone():
    a, b, third = draws()
    a[3], b[7], third[9] = np.nan, np.inf, np.nan
    made = rank_products(a, b, given=third)
    assert np.flatnonzero(np.isnan(made)).tolist() == [3, 7, 9]
    kept = np.delete(np.arange(60), [3, 7, 9])
    assert made[kept] == pytest.approx(rank_products(a[kept], b[kept], given=third[kept]))


def test_undefined_everywhere_where_nothing_varies():
    a, b, _ = draws(5)
    assert np.isnan(rank_products(a, np.ones(5))).all()
    assert np.isnan(rank_products(a, b, given=a)).all()
    assert np.isnan(rank_products(a[:2], b[:2])).all()
    with pytest.raises(InputError, match="vectors of one length"):
        rank_products(a, b[:4])
