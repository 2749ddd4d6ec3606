"""Intervals, paired tests and agreement against closed forms, enumeration and scipy."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from xai_lib import agreement, stats
from xai_lib.errors import ConfigError, InputError

NAN = float("nan")


def test_interval_of_a_large_normal_sample_is_the_t_interval():
    values = np.random.default_rng(0).normal(2.0, 3.0, 400)
    estimate = stats.bootstrap_interval(values, resamples=8000)
    low, high = scipy_stats.t.interval(0.95, 399, values.mean(), scipy_stats.sem(values))
    assert estimate.value == pytest.approx(values.mean())
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=0.02)


def test_coverage_of_small_normal_samples():
    """300 samples of 8: nominal 0.95; the plain percentile interval covers 0.88 here and would fail."""
    generator = np.random.default_rng(1)
    hits = 0
    for _ in range(300):
        estimate = stats.bootstrap_interval(generator.normal(size=8), resamples=400)
        hits += estimate.low <= 0 <= estimate.high
    assert 0.915 <= hits / 300 <= 0.985


def test_median_interval_holds_the_median_and_ignores_an_outlier():
    values = [*range(1, 20), 1e6]
    estimate = stats.bootstrap_interval(values, statistic="median")
    assert estimate.value == 10.5
    assert 4 < estimate.low < 10.5 < estimate.high < 17


def test_nan_is_dropped_and_counted_and_few_values_have_no_interval():
    estimate = stats.bootstrap_interval([1.0, NAN, 3.0, NAN])
    assert (estimate.value, estimate.n, estimate.dropped) == (2.0, 2, 2)
    assert estimate.low == 1.0
    assert estimate.high == 3.0
    one = stats.bootstrap_interval([5.0, NAN])
    assert (one.value, one.n, one.dropped) == (5.0, 1, 1)
    assert np.isnan([one.low, one.high]).all()
    none = stats.bootstrap_interval([NAN])
    assert none.n == 0
    assert np.isnan([none.value, none.low, none.high]).all()


def test_interval_does_not_depend_on_order_or_on_the_global_generator():
    values = np.random.default_rng(2).exponential(size=30)
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - the global state is the subject
    first = stats.bootstrap_interval(values, seed=4)
    assert first == stats.bootstrap_interval(torch.tensor(values[::-1].copy()), seed=4)
    assert first != stats.bootstrap_interval(values, seed=5)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_constant_values_have_an_interval_of_no_width():
    estimate = stats.bootstrap_interval([0.25] * 6)
    assert (estimate.low, estimate.value, estimate.high) == (0.25, 0.25, 0.25)


def test_large_n_runs_in_chunks_with_the_same_numbers(monkeypatch):
    values = np.random.default_rng(3).normal(size=50)
    whole = stats.bootstrap_interval(values)
    monkeypatch.setattr(stats, "_CHUNK", 700)
    assert stats.bootstrap_interval(values) == whole


def test_interval_refusals():
    with pytest.raises(ConfigError, match="mean, median"):
        stats.bootstrap_interval([1.0, 2.0], statistic="mode")
    with pytest.raises(ConfigError, match="level"):
        stats.bootstrap_interval([1.0, 2.0], level=95)
    with pytest.raises(ConfigError, match="at least 100"):
        stats.bootstrap_interval([1.0, 2.0], resamples=10)
    with pytest.raises(InputError, match=r"infinite at positions \[1\]"):
        stats.bootstrap_interval([1.0, float("inf")])
    with pytest.raises(InputError, match=r"\(2, 2\)"):
        stats.bootstrap_interval(np.zeros((2, 2)))


def test_pairing_removes_what_the_images_share():
    generator = np.random.default_rng(4)
    image = generator.normal(0, 100, 25)
    a, b = image + 1 + generator.normal(0, 0.1, 25), image
    estimate = stats.paired_difference(a, b)
    assert 0.9 < estimate.low < estimate.value < estimate.high < 1.1
    assert stats.paired_difference(b, a).value == pytest.approx(-estimate.value)
    assert stats.paired_difference([1.0, NAN, 3.0], [0.0, 0.0, NAN]).dropped == 2
    with pytest.raises(InputError, match="lengths 2 and 3"):
        stats.paired_difference([1.0, 2.0], [1.0, 2.0, 3.0])


@pytest.mark.parametrize("n", [5, 12, 30, 60])
def test_paired_test_is_scipys_exact_test_without_ties(n):
    generator = np.random.default_rng(n)
    a, b = generator.normal(0.4, 1, n), generator.normal(0, 1, n)
    assert stats.paired_test(a, b) == pytest.approx(scipy_stats.wilcoxon(a, b, method="exact").pvalue, rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=8))
def test_paired_test_with_ties_and_zeros_is_the_enumeration_of_all_sign_flips(differences):
    kept = np.array([d for d in differences if d != 0], dtype=float)
    if len(kept) == 0:
        expected = 1.0
    else:
        ranks = scipy_stats.rankdata(np.abs(kept))
        flips = np.array([ranks @ np.array(signs) for signs in product([0, 1], repeat=len(kept))])
        observed = ranks @ (kept > 0)
        expected = min(1.0, 2 * min((flips <= observed).mean(), (flips >= observed).mean()))
    assert stats.paired_test(differences, [0.0] * len(differences)) == pytest.approx(expected)


def test_paired_test_of_many_pairs_and_of_none():
    generator = np.random.default_rng(5)
    a = generator.normal(0.1, 1, 300)
    assert stats.paired_test(a, np.zeros(300)) == pytest.approx(scipy_stats.wilcoxon(a, method="asymptotic").pvalue)
    assert np.isnan(stats.paired_test([NAN], [1.0]))
    assert stats.paired_test([1.0, NAN], [1.0, 2.0]) == 1.0


def test_holm_by_hand():
    # sorted 0.005 0.01 0.03 0.04 -> x4 x3 x2 x1 = 0.02 0.03 0.06 0.04 -> running maximum 0.02 0.03 0.06 0.06
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.6, 0.9]) == pytest.approx([1.0, 1.0])
    missing = stats.holm([0.01, NAN])
    assert missing[0] == pytest.approx(0.02)
    assert np.isnan(missing[1])
    assert len(stats.holm([])) == 0
    with pytest.raises(InputError, match=r"1\.2"):
        stats.holm([0.1, 1.2])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (agreement.rank_correlation, scipy_stats.spearmanr),
        (agreement.correlation, scipy_stats.pearsonr),
        (agreement.kendall, scipy_stats.kendalltau),
    ],
)
def test_row_correlations_with_ties_against_scipy(ours, theirs):
    generator = np.random.default_rng(6)
    a, b = generator.integers(0, 5, (6, 4, 5)), generator.integers(0, 5, (6, 4, 5))
    expected = [theirs(x.ravel(), y.ravel()).statistic for x, y in zip(a, b, strict=True)]
    assert ours(torch.tensor(a), b.astype(float)) == pytest.approx(expected)


@pytest.mark.parametrize("ours", [agreement.rank_correlation, agreement.correlation, agreement.kendall])
def test_constant_and_nan_rows_are_undefined(ours):
    a = torch.tensor([[1.0, 1.0, 1.0], [1.0, NAN, 2.0], [1.0, 2.0, 4.0]])
    b = torch.tensor([[1.0, 2.0, 3.0]] * 3)
    result = ours(a, b)
    assert isinstance(result, np.ndarray)
    assert np.isnan(result).tolist() == [True, True, False]
    with pytest.raises(InputError, match="one shape"):
        ours(a, b[:, :2])


def test_tiny_and_huge_rows_keep_their_correlation():
    a = np.array([[1.0, 2.0, 4.0]])
    assert agreement.correlation(a * 1e-150, a * 1e150) == pytest.approx(1.0)


def test_top_overlap_by_hand():
    a = torch.arange(100.0).reshape(1, 10, 10)
    assert agreement.top_overlap(a, a, 0.1).tolist() == [1.0]
    assert agreement.top_overlap(a, -a, 0.1).tolist() == [0.0]
    assert agreement.top_overlap(a, a.roll(5), 0.1).tolist() == [0.5]
    flat = torch.cat([torch.zeros(1, 10, 10), torch.full((1, 10, 10), NAN)])
    assert np.isnan(agreement.top_overlap(flat, a.expand(2, -1, -1))).all()


def test_agreement_matrix_is_tidy_and_pairwise():
    generator = torch.Generator().manual_seed(7)
    named = {name: torch.randn(3, 4, 4, generator=generator) for name in ("a", "b", "c")}
    frame = agreement.agreement_matrix(named, ids=["x", "y", "z"])
    assert list(frame.columns) == ["sample", "first", "second", "value"]
    assert len(frame) == 9
    row = frame[(frame["sample"] == "y") & (frame["first"] == "a") & (frame["second"] == "c")]
    assert row["value"].item() == pytest.approx(agreement.rank_correlation(named["a"], named["c"])[1])
    with pytest.raises(InputError, match="at least two"):
        agreement.agreement_matrix({"a": named["a"]})
    with pytest.raises(InputError, match="one shape"):
        agreement.agreement_matrix({"a": named["a"], "b": named["b"][:2]})
    with pytest.raises(InputError, match="2 ids"):
        agreement.agreement_matrix(named, ids=["x", "y"])


def test_regression_slope():
    generator = np.random.default_rng(8)
    x = generator.uniform(0, 1, 60)
    y = 3 - 2 * x + generator.normal(0, 0.1, 60)
    estimate = stats.regress(y, x)
    assert estimate.value == pytest.approx(scipy_stats.linregress(x, y).slope)
    assert -2.2 < estimate.low < estimate.value < estimate.high < -1.8
    assert estimate == stats.regress(y[::-1].copy(), x[::-1].copy())
    assert np.isnan(stats.regress([1.0, 2.0, 3.0], [1.0, 1.0, 1.0]).value)
    assert stats.regress([1.0, 2.0, NAN], [0.0, 2.0, 5.0]).value == 0.5


@pytest.mark.parametrize(
    ("values", "per_cent"),
    [
        ([84.51, 84.50, 87.46, 85.60, 84.20, 86.61, 86.20], 1.562),
        ([30.65, 30.65, 29.13, 30.65, 29.96], 2.487),
        ([87.50, 80.75, 89.36, 88.10, 89.64, 88.80], 4.176),
        ([31.11, 30.28, 31.11, 29.12], 3.572),
    ],
)
def test_coefficient_of_variation_gives_the_papers_table(values, per_cent):
    assert 100 * stats.coefficient_of_variation(values) == pytest.approx(per_cent, abs=5e-4)


def test_coefficient_of_variation_edges():
    assert stats.coefficient_of_variation([2.0, 2.0]) == 0.0
    assert np.isnan(stats.coefficient_of_variation([2.0]))
    assert np.isnan(stats.coefficient_of_variation([-1.0, 1.0]))
