"""Similarity of maps: FIDELITY TV-1, TV-39, slow twins, closed forms of SSIM and HOG, NaN."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from xai_lib import agreement, similarity
from xai_lib.errors import ConfigError, InputError
from xai_lib.similarity import SIMILARITIES, bound_similarities, hog, spearman, ssim

NAMES = list(SIMILARITIES)
SIDE = 20


def maps(n=4, seed=0, side=SIDE):
    return torch.randn(n, side, side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ramp(axis, side=24):
    line = torch.arange(side, dtype=torch.float64)
    return (line[:, None] if axis == 0 else line[None, :]).expand(1, side, side).clone()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("absolute", [False, True])
def test_a_map_is_like_itself_and_like_its_multiples(name, absolute):
    """TV-39."""
    made = maps()
    found = similarity.similarity(made, 7 * made, name, absolute=absolute)
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx([1.0] * 4)
    assert similarity.similarity(made, maps(seed=1), name, absolute=absolute).abs().max() < 0.5


def test_rank_correlation_sees_through_rising_transforms_only():
    """TV-39, and TV-1 for the sign."""
    made = maps()
    assert spearman(made, made.exp()).tolist() == pytest.approx([1.0] * 4)
    a, b = torch.tensor([[-3.0, -1.0, 2.0]]), torch.tensor([[3.0, 1.0, -2.0]])
    assert spearman(a, b).item() == pytest.approx(-1)
    assert spearman(a, b, absolute=True).item() == pytest.approx(1)
    assert spearman(a, a.abs()).item() == pytest.approx(-0.5)  # ranks 1 2 3 and 3 1 2


@pytest.mark.parametrize("absolute", [False, True])
def test_spearman_slow_twin_also_within_some_pixels(absolute):
    a, b = maps(), maps(seed=1)
    ink = maps(seed=2) > 0.5
    one, two = (x.abs() if absolute else x for x in (a, b))
    whole = [spearmanr(x.flatten(), y.flatten())[0] for x, y in zip(one, two, strict=True)]
    part = [spearmanr(x[m], y[m])[0] for x, y, m in zip(one, two, ink, strict=True)]
    assert spearman(a, b, absolute=absolute).tolist() == pytest.approx(whole)
    assert spearman(a, b, absolute=absolute, within=ink).tolist() == pytest.approx(part)
    assert similarity.similarity(a, b, {"spearman": {"within": ink}}, absolute=absolute).tolist() == pytest.approx(part)
    assert whole != pytest.approx(part, abs=0.01)


def slow_ssim(a, b, value_range, sigma=1.5):
    """Means, variances and covariance under a Gaussian window, pixel by pixel where the window fits."""
    radius = int(3.5 * sigma + 0.5)
    span = range(-radius, radius + 1)
    window = np.array([[math.exp(-(u * u + v * v) / (2 * sigma**2)) for v in span] for u in span])
    window /= window.sum()
    c1, c2 = (0.01 * value_range) ** 2, (0.03 * value_range) ** 2
    values = []
    for row in range(radius, len(a) - radius):
        for column in range(radius, len(a) - radius):
            part = slice(row - radius, row + radius + 1), slice(column - radius, column + radius + 1)
            x, y = a[part], b[part]
            mx, my = (window * x).sum(), (window * y).sum()
            vx, vy = (window * x * x).sum() - mx * mx, (window * y * y).sum() - my * my
            both = (window * x * y).sum() - mx * my
            values.append((2 * mx * my + c1) * (2 * both + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2)))
    return np.mean(values)


@pytest.mark.parametrize("absolute", [False, True])
def test_ssim_slow_twin(absolute):
    a, b = maps(), 3 * maps() + maps(seed=1)
    found = ssim(a, b, absolute=absolute)
    narrow = ssim(a, b, absolute=absolute, sigma=0.8)
    for i in range(4):
        one, two = (x[i].abs().numpy() if absolute else x[i].numpy() for x in (a, b))
        one, two = one / np.abs(one).max(), two / np.abs(two).max()
        assert found[i].item() == pytest.approx(slow_ssim(one, two, 1 if absolute else 2), abs=1e-9)
        assert narrow[i].item() == pytest.approx(slow_ssim(one, two, 1 if absolute else 2, 0.8), abs=1e-9)
    assert ssim(a, -a).min() > 0.2  # means and covariances both change sign: their product does not
    assert ssim(a, -a, absolute=True).tolist() == pytest.approx([1.0] * 4)


def test_hog_of_perpendicular_gradients_is_one_ninth_against_another():
    """Of nine directions each holds one: vectors with equal values in disjoint ninths correlate with -1/8."""
    assert hog(ramp(0), ramp(1)).item() == pytest.approx(-1 / 8, abs=0.01)
    assert hog(ramp(0), ramp(0)).item() == pytest.approx(1)
    slanted = ramp(0) + ramp(1)
    assert hog(ramp(0), slanted).item() < 0
    assert hog(slanted, -slanted).item() == pytest.approx(1)  # directions have no sign


def test_hog_reads_places_by_cells():
    """Half a picture of one direction: cells tell which half."""
    left, right = (
        torch.cat([ramp(0)[:, :, :12], ramp(1)[:, :, 12:]], dim=2),
        torch.cat([ramp(1)[:, :, :12], ramp(0)[:, :, 12:]], dim=2),
    )
    assert hog(left, right).item() < 0.3
    assert hog(left, ramp(0)).item() > hog(left, right).item() + 0.2
    big = torch.rand(1, 56, 56, generator=torch.Generator().manual_seed(0))
    other = torch.rand(1, 56, 56, generator=torch.Generator().manual_seed(1))
    assert hog(big, other).item() == hog(big, other, cell=4).item() != hog(big, other, cell=8).item()
    wide = torch.rand(2, 80, 224, generator=torch.Generator().manual_seed(2)).double()
    assert hog(wide[:1], wide[1:]).item() == hog(wide[:1], wide[1:], cell=6).item()  # 16 x 80 / 224


@pytest.mark.parametrize("name", NAMES)
def test_maps_that_say_nothing_are_undefined_and_leave_the_others_alone(name):
    a, b = maps(7), maps(7, seed=1)
    expected = similarity.similarity(a, b, name)
    a[0], a[1], a[2, 3, 4], a[3, 0, 0] = 0, 2.5, torch.nan, torch.inf
    b[4] = 0
    found = similarity.similarity(a, b, name)
    assert found.isnan().tolist() == [True] * 5 + [False] * 2
    assert torch.equal(found[5:], expected[5:])
    assert similarity.similarity(b, a, name).isnan().tolist() == [True] * 5 + [False] * 2
    a[5] = a[5].sign()
    assert similarity.similarity(a, b, name, absolute=True).isnan().tolist() == [True] * 6 + [False]


def test_undefined_within():
    a, b = maps(4), maps(4, seed=1)
    ink = torch.ones(4, SIDE, SIDE, dtype=torch.bool)
    ink[0] = False
    ink[1, 1:] = False
    a[1, 0] = 3
    a[2, 0, 0] = torch.nan
    assert spearman(a, b, within=ink).isnan().tolist() == [True, True, True, False]


@pytest.mark.parametrize("name", NAMES)
def test_company_order_and_precision_change_nothing(name):
    a, b = maps(), maps(seed=1)
    found = similarity.similarity(a, b, name)
    order = torch.tensor([2, 0, 3, 1])
    assert torch.equal(similarity.similarity(a[order], b[order], name), found[order])
    assert torch.equal(similarity.similarity(a[1:2], b[1:2], name), found[1:2])
    single = similarity.similarity(a.float().requires_grad_(), b.float(), name)
    assert single.tolist() == pytest.approx(found.tolist(), abs=1e-4)
    assert len({round(value, 6) for value in found.tolist()}) == 4


def test_specs():
    a, b = maps(), maps(seed=1)
    made = bound_similarities(
        {"signed": "spearman", "abs": {"spearman": {"absolute": True}}, "own": lambda x, y: (x - y).sum((1, 2))}
    )
    assert torch.equal(made["signed"](a, b), spearman(a, b))
    assert torch.equal(made["abs"](a, b), spearman(a, b, absolute=True))
    assert torch.equal(made["own"](a, b), (a - b).sum((1, 2)))
    assert torch.equal(similarity.similarity(a, b, {"spearman": {"absolute": True}}, absolute=False), spearman(a, b))


def test_refusals():
    a = maps()
    with pytest.raises(ConfigError, match="unknown similarity 'sim': did you mean 'ssim'"):
        similarity.similarity(a, a, "sim")
    with pytest.raises(ConfigError, match="unknown parameter of similarity 'ssim' 'within'"):
        similarity.similarity(a, a, {"ssim": {"within": a > 0}})
    for specs in ({}, ["ssim"], "ssim"):
        with pytest.raises(ConfigError, match="expected a mapping"):
            bound_similarities(specs)
    for sigma in (0, -1.0, math.inf, math.nan):
        with pytest.raises(ConfigError, match="sigma"):
            ssim(a, a, sigma=sigma)
    for cell in (0, 2.0, True):
        with pytest.raises(ConfigError, match="cell"):
            hog(a, a, cell=cell)
    for name in NAMES:
        for first, second in (
            (a, a[:2]),
            (a[0, 0], a[0, 0]),
            (a.long(), a.long()),
            (a.numpy(), a.numpy()),
            (a[:, None], a[:, None]),
        ):
            with pytest.raises(InputError, match=r"expected float maps \(n, h, w\) of one shape"):
                SIMILARITIES[name].function(first, second)
    for within in (a, (a > 0)[:2]):
        with pytest.raises(InputError, match="within: expected bool"):
            spearman(a, a, within=within)


def test_maps_too_small_for_a_window_are_refused():
    for side, fits in ((10, False), (11, True)):
        small = maps(side=side)
        if fits:
            assert ssim(small, small).tolist() == pytest.approx([1.0] * 4)
            continue
        with pytest.raises(InputError, match="a window of 11 pixels"):
            ssim(small, small)
    with pytest.raises(InputError, match="3 x 3 cells of 4 pixels"):
        hog(maps(side=11), maps(side=11))
    assert hog(maps(side=12), maps(side=12)).tolist() == pytest.approx([1.0] * 4)
    for name in ("ssim", "hog"):
        with pytest.raises(InputError, match="do not hold"):
            similarity.similarity(maps().flatten(1), maps().flatten(1), name)


def test_correlation_of_rows_with_infinity_is_undefined_without_a_warning():
    a, b = np.array([[1.0, 2.0, 4.0], [1.0, np.inf, 0.0]]), np.array([[2.0, 4.0, 8.0], [1.0, 2.0, 3.0]])
    for found in (agreement.correlation(a, b), agreement.correlation(b, a)):
        assert found[0] == pytest.approx(1)
        assert np.isnan(found[1])
    assert agreement.rank_correlation(a, b)[1] == pytest.approx(-0.5)  # infinity has a rank: 2 3 1 and 1 2 3
