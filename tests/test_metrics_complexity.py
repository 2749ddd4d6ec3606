"""Sparseness and complexity: FIDELITY TV-33c, slow twins, scale and company."""

import math

import pytest
import torch

from xai_lib import METRICS
from xai_lib.errors import ConfigError, InputError
from xai_lib.metrics.complexity import complexity, sparseness

RAMP = torch.tensor([[4.0, 3.0, 2.0, 1.0]], dtype=torch.float64)
BOTH = [sparseness, complexity]


def slow_gini(values):
    """Half the mean absolute difference over all pairs, divided by the mean."""
    values = [abs(v) for v in values]
    pairs = sum(abs(a - b) for a in values for b in values)
    return pairs / (2 * len(values) ** 2 * (sum(values) / len(values)))


def slow_entropy(values):
    shares = [abs(v) / sum(abs(w) for w in values) for v in values]
    return -sum(q * math.log(q) for q in shares if q > 0)


@pytest.fixture
def maps():
    return torch.randn(6, 3, 5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_known_values():
    assert sparseness(RAMP).item() == pytest.approx(0.25, abs=1e-12)
    assert complexity(RAMP).item() == pytest.approx(1.2798542, abs=1e-7)
    flat = torch.full((1, 3, 4, 5), -2.0)
    assert sparseness(flat).item() == pytest.approx(0, abs=1e-6)
    assert complexity(flat).item() == pytest.approx(math.log(20), abs=1e-6)
    single = torch.zeros(1, 1, 4, 5)
    single[0, 0, 2, 3] = -7
    assert sparseness(single).item() == pytest.approx(1 - 1 / 20)
    assert complexity(single).item() == 0


@pytest.mark.parametrize(("metric", "twin"), [(sparseness, slow_gini), (complexity, slow_entropy)])
def test_slow_twin(metric, twin, maps):
    expected = [twin(row.sum(0).flatten().tolist()) for row in maps]
    assert metric(maps).tolist() == pytest.approx(expected, abs=1e-12)
    expected = [twin(row.abs().sum(0).flatten().tolist()) for row in maps]
    assert metric(maps, reduce="sum_abs").tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("metric", BOTH)
def test_scale_pixel_order_and_company_change_nothing(metric, maps):
    expected = metric(maps)
    torch.testing.assert_close(metric(-1e-6 * maps), expected)
    torch.testing.assert_close(metric(maps.flip(2)), expected)
    torch.testing.assert_close(metric(maps[[2, 0]]), expected[[2, 0]], rtol=0, atol=0)


@pytest.mark.parametrize("metric", BOTH)
def test_undefined(metric, maps):
    maps[0], maps[1, 0, 0, 0], maps[2, 0, 0, 0] = 0, float("nan"), float("inf")
    assert metric(maps).isnan().tolist() == [True] * 3 + [False] * 3


@pytest.mark.parametrize("metric", BOTH)
def test_refusals(metric, maps):
    with pytest.raises(ConfigError, match="did you mean"):
        metric(maps, reduce="sumabs")
    with pytest.raises(InputError, match="float tensor"):
        metric(maps.long())


def test_float32_keeps_its_precision():
    big = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    for metric in BOTH:
        assert metric(big).dtype == torch.float32
        assert metric(big).item() == pytest.approx(metric(big.double()).item(), rel=1e-6)


def test_registered():
    assert {"sparseness", "complexity"} <= set(METRICS)
    assert METRICS.ask("sparseness", {"attributions": RAMP}).item() == pytest.approx(0.25)
