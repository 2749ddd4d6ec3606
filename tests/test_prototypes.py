"""Prototypes and criticisms: slow twins, all subsets of tiny tables, known answers, and what is refused."""

from itertools import combinations

import numpy as np
import pytest

from xai_lib.errors import ConfigError, InputError
from xai_lib.prototypes import criticisms, mmd2, prototypes


def kernel_of(rows, width=1.0):
    return np.exp(-((rows[:, None] - rows[None]) ** 2).sum(-1) / (2 * width**2))


def table(n, seed, d=2):
    return np.random.default_rng(seed).normal(size=(n, d))


def slow_mmd2(kernel, chosen):
    n, m = len(kernel), len(chosen)
    whole = sum(kernel[i, j] for i in range(n) for j in range(n)) / n**2
    cross = sum(kernel[i, j] for i in range(n) for j in chosen) / (n * m)
    own = sum(kernel[i, j] for i in chosen for j in chosen) / m**2
    return whole - 2 * cross + own


def slow_prototypes(kernel, count):
    chosen = []
    for _ in range(count):
        left = [k for k in range(len(kernel)) if k not in chosen]
        chosen.append(min(left, key=lambda k: round(slow_mmd2(kernel, [*chosen, k]), 12)))
    return tuple(chosen)


def slow_criticisms(kernel, chosen, count):
    found = []
    for _ in range(count):
        left = [k for k in range(len(kernel)) if k not in chosen and k not in found]

        def value(k):
            some = [*found, k]
            witness = sum(abs(kernel[c].mean() - kernel[c, list(chosen)].mean()) for c in some)
            return witness + np.linalg.slogdet(kernel[np.ix_(some, some)])[1]

        found.append(max(left, key=value))
    return tuple(found)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("width", [0.3, 1.0, 4.0])
def test_both_are_their_slow_twins(seed, width):
    kernel = kernel_of(table(17, seed), width)
    chosen = prototypes(kernel, 5)
    assert chosen == slow_prototypes(kernel, 5)
    assert mmd2(kernel, chosen) == pytest.approx(slow_mmd2(kernel, chosen), abs=1e-12)
    assert criticisms(kernel, chosen, 4) == slow_criticisms(kernel, chosen, 4)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("width", [0.3, 2.0])
def test_greedy_against_all_sets(seed, width):
    """The first is the best of all; later ones may not be, but beat half of all sets."""
    kernel = kernel_of(table(9, seed), width)
    for count in (1, 2, 3):
        every = sorted(mmd2(kernel, own) for own in combinations(range(9), count))
        found = mmd2(kernel, prototypes(kernel, count))
        assert found >= every[0] - 1e-12
        assert found <= np.median(every) + 1e-12
        if count == 1:
            assert found == pytest.approx(every[0], abs=1e-12)


def test_each_heap_gets_its_prototype_and_the_lonely_row_is_the_criticism():
    heaps = np.concatenate([centre + 0.1 * table(10, k) for k, centre in enumerate((0, 10, 20))] + [np.array([[40.0, 40.0]])])
    kernel = kernel_of(heaps)
    chosen = prototypes(kernel, 3)
    assert sorted(row // 10 for row in chosen) == [0, 1, 2]
    assert criticisms(kernel, chosen, 1) == (30,)


def test_a_wide_kernel_compares_means_only():
    rows = table(40, 3)
    first = prototypes(kernel_of(rows, 1000.0), 1)[0]
    assert first == int(((rows - rows.mean(axis=0)) ** 2).sum(axis=1).argmin())


def test_all_rows_stand_for_the_table():
    kernel = kernel_of(table(12, 0))
    assert sorted(prototypes(kernel, 12)) == list(range(12))
    assert mmd2(kernel, range(12)) == pytest.approx(0, abs=1e-15)


def test_a_copy_of_a_criticism_comes_last():
    rows = np.array([[0.0], [0.1], [5.0], [5.0], [5.0], [9.0]])
    found = criticisms(kernel_of(rows), [0], 5)
    assert sorted(found) == [1, 2, 3, 4, 5]
    assert {2, 3, 4} & set(found[:3])
    assert set(found[-2:]) <= {2, 3, 4}


@pytest.mark.parametrize("scale", [1e-13, 1e-10, 1e8])
def test_prototypes_do_not_depend_on_the_kernel_s_unit(scale):
    kernel = kernel_of(table(15, 3))
    assert prototypes(scale * kernel, 4) == prototypes(kernel, 4)


@pytest.mark.parametrize("scale", [1.0, 1e-13])
def test_copies_come_last_under_a_linear_kernel_too(scale):
    """log det is minus infinity for a copy, whatever the witness gains."""
    rows = np.array([[0.0, 0.1], [3.0, 0.0], [3.0, 0.0], [3.0, 0.0], [0.0, 1.0], [0.2, 0.2]])
    found = criticisms(scale * (rows @ rows.T), [0], 5)
    assert found[:2] == (1, 4)
    assert sorted(found) == [1, 2, 3, 4, 5]
    assert criticisms(np.zeros((3, 3)), [1], 2) == (0, 2)


def test_equal_rows_are_taken_in_their_order():
    assert prototypes(np.eye(5), 3) == (0, 1, 2)
    assert criticisms(np.eye(5), [1], 2) == (0, 2)


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda k: mmd2(k, []), ConfigError, "at least one row"),
        (lambda k: mmd2(k, [4]), ConfigError, "from 0 to 3"),
        (lambda k: mmd2(k[:2], [0]), InputError, "matrix"),
        (lambda k: mmd2(k + np.triu(np.ones((4, 4)), 1), [0]), InputError, "symmetric"),
        (lambda k: mmd2(k * np.nan, [0]), InputError, "finite"),
        (lambda k: prototypes(k, 5), ConfigError, "there are 4 rows"),
        (lambda k: prototypes(k, 0), ConfigError, "count=0"),
        (lambda k: criticisms(k, [], 1), ConfigError, "at least one prototype"),
        (lambda k: criticisms(k, [0], 4), ConfigError, "at most 3"),
    ],
)
def test_refusals(call, error, said):
    with pytest.raises(error, match=said):
        call(np.eye(4))
