"""Completeness gap: closed forms, FIDELITY TV-9 and TV-10, shared draws, company."""

import pytest
import torch

from xai_lib import METHODS, METRICS, baselines, toys
from xai_lib.errors import ConfigError, InputError
from xai_lib.metrics.completeness import completeness_gap

NET = toys.TinyNet()


def one(values):
    return torch.tensor([values], dtype=torch.float64)


ZERO = torch.zeros(1, dtype=torch.int64)


def test_complete_on_a_linear_model_and_the_size_of_a_gap():
    model, x = toys.linear([[2.0, -3.0]]), one([1.0, 2.0])
    exact = one([2.0, -6.0])
    assert completeness_gap(model, x, ZERO, exact).item() == 0
    assert completeness_gap(model, x, ZERO, exact - 0.25).item() == pytest.approx(0.5)
    assert completeness_gap(model, x, ZERO, exact - 0.25, signed=True).item() == pytest.approx(-0.5)
    assert completeness_gap(model, x, ZERO, exact - 0.25, relative=True).item() == pytest.approx(0.125)
    assert completeness_gap(model, x, ZERO, exact, baseline="white").item() == pytest.approx(1.0)  # f(1, 1) = -1


@pytest.mark.parametrize(
    ("rule", "steps", "gap"), [("right", 4, 0.25), ("left", 4, 0.25), ("right", 50, 0.02), ("middle", 3, 1 / 36)]
)
def test_quadrature_error_of_the_square(rule, steps, gap):
    """TV-9: x^2 at 1, left and right miss by 1/n. The middle rule is exact there; for x^3 it misses by 1/(4 n^2)."""
    cubic = toys.Formula(lambda x: (x**3).sum(1))
    model = cubic if rule == "middle" else toys.square()
    made = METHODS.bind("integrated_gradients", steps=steps, rule=rule)(model, one([1.0]), ZERO)
    assert completeness_gap(model, one([1.0]), ZERO, made).item() == pytest.approx(gap, abs=1e-12)


def test_median_of_baselines_is_not_complete():
    """TV-10: x^2 at 1 from 0, .5, 2: mean map -.41667 = f(x) - mean f(b), median map .75."""
    fixed = {0: 0.0, 1: 0.5, 2: 2.0}

    def gap(value, b):
        return completeness_gap(
            toys.square(), one([1.0]), ZERO, one([value]), baseline=lambda x: torch.full_like(x, fixed[b]), signed=True
        )

    assert [gap(v, b).item() for b, v in enumerate([1.0, 0.75, -3.0])] == pytest.approx([0, 0, 0])
    assert gap(0.75, 0).item() == pytest.approx(-0.25)


@pytest.mark.parametrize("count", [1, 4])
def test_the_reference_uses_the_draws_of_the_explainer(count, images, zeros):
    x, model = images.double(), toys.TinyNet().double()
    own = {"baseline": "uniform", "n_baselines": count, "seed": 3}
    made = METHODS.bind("multi_baseline_integrated_gradients", steps=30, **own)(model, x, zeros)
    assert completeness_gap(model, x, zeros, made, **own).max() < 1e-9
    assert completeness_gap(model, x, zeros, made, **{**own, "seed": 4}).min() > 1e-4


def test_slow_twin(images, zeros):
    made = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    expected = []
    for i in range(len(images)):
        x = images[i : i + 1]
        references = [NET(baselines.draw("gaussian_noise", x, b, seed=5))[0, 0].item() for b in range(3)]
        expected.append(abs(made[i].sum().item() - (NET(x)[0, 0].item() - sum(references) / 3)))
    found = completeness_gap(NET, images, zeros, made, baseline="gaussian_noise", n_baselines=3, seed=5)
    assert found.tolist() == pytest.approx(expected, abs=1e-5)


def test_order_company_and_batch_size_change_nothing(images, zeros):
    made = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    metric = METRICS.bind("completeness_gap", baseline="uniform", n_baselines=3)
    expected = metric(NET, images, zeros, made)
    order = torch.tensor([3, 0, 4, 2, 1])
    torch.testing.assert_close(metric(NET, images[order], zeros, made[order]), expected[order], atol=1e-5, rtol=0)
    for size in (1, 32):
        torch.testing.assert_close(metric(NET, images, zeros, made, max_batch=size), expected, atol=1e-5, rtol=0)


def test_undefined_and_refused(images, zeros):
    made = torch.ones_like(images)
    made[1, 0, 0, 0] = float("nan")
    assert completeness_gap(NET, images, zeros, made).isnan().tolist() == [False, True, False, False, False]
    assert completeness_gap(toys.constant(), images, zeros, torch.ones_like(images), relative=True).isnan().all()
    assert completeness_gap(toys.constant(), images, zeros, torch.zeros_like(images)).tolist() == [0.0] * 5
    with pytest.raises(InputError, match="shape of the inputs"):
        completeness_gap(NET, images, zeros, made.sum(1, keepdim=True))
    with pytest.raises(ConfigError, match="n_baselines=0"):
        completeness_gap(NET, images, zeros, made, n_baselines=0)
    with pytest.raises(ConfigError, match="did you mean 'black'"):
        completeness_gap(NET, images, zeros, made, baseline="blck")


def test_rows_are_folded(images, zeros, spy):
    model = spy(NET)
    completeness_gap(model, images, zeros, images, baseline="uniform", n_baselines=3, max_batch=8)
    assert model.calls == [8, 8, 4]
