"""Kendall's W against closed forms, a slow twin and SciPy's Friedman test."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from xai_lib.concordance import kendall_w
from xai_lib.errors import InputError


def test_judges_that_agree_have_1_and_two_opposed_ones_0() -> None:
    assert kendall_w([[1.0, 5.0, 9.0, 11.0], [0.1, 0.2, 0.3, 0.4]]) == pytest.approx([1.0])
    assert kendall_w([[1, 2, 3], [3, 2, 1]]) == pytest.approx([0.0])


def test_relation_to_the_mean_rank_correlation_of_pairs() -> None:
    scores = np.random.default_rng(0).normal(size=(5, 8))
    pairs = [scipy_stats.spearmanr(scores[i], scores[j]).statistic for i in range(5) for j in range(i)]
    assert kendall_w(scores) == pytest.approx([(1 + 4 * np.mean(pairs)) / 5])


def test_ties_are_corrected_as_in_friedmans_test() -> None:
    scores = np.random.default_rng(1).integers(0, 4, size=(6, 5)).astype(float)
    statistic = scipy_stats.friedmanchisquare(*scores.T).statistic
    assert kendall_w(scores) == pytest.approx([statistic / (6 * 4)])


def test_random_judges_have_1_over_k_in_expectation() -> None:
    drawn = kendall_w(np.random.default_rng(2).normal(size=(4000, 4, 6)))
    assert drawn.mean() == pytest.approx(1 / 4, abs=0.01)


def test_groups_are_independent_and_holes_stay_holes() -> None:
    groups = np.random.default_rng(3).normal(size=(3, 3, 4))
    groups[1, 0, 0] = np.nan
    together = kendall_w(groups)
    assert np.isnan(together[1])
    assert [together[0], together[2]] == [kendall_w(groups[0])[0], kendall_w(groups[2])[0]]
    assert np.isnan(kendall_w(np.ones((2, 3)))).all()


@pytest.mark.parametrize("shape", [(3,), (1, 3), (3, 1), (2, 1, 3), (2, 2, 2, 2)])
def test_too_few_judges_or_things_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="at least two judges"):
        kendall_w(np.zeros(shape))
