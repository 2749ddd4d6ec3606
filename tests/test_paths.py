"""Quadrature, Integrated Gradients and many baselines: FIDELITY TV-2, TV-3, TV-9, TV-10."""

import numpy as np
import pytest
import torch

from xai_lib import METHODS, compute, toys
from xai_lib.errors import ConfigError, InputError
from xai_lib.methods import path
from xai_lib.paths import quadrature, staggered, straight_line

T1 = torch.zeros(1, dtype=torch.int64)


def row(*values):
    return torch.tensor([values], dtype=torch.float64)


def constant_baseline(*values):
    return lambda inputs: torch.tensor([values]).to(inputs).expand_as(inputs)


def ig(model, x, **parameters):
    return METHODS.bind("integrated_gradients", **parameters)(model, x, torch.zeros(len(x), dtype=torch.int64))


@pytest.mark.parametrize(
    ("rule", "values"),
    [
        ("right", {2: 1.5, 4: 1.25, 10: 1.1, 50: 1.02}),
        ("left", {2: 0.5, 4: 0.75, 10: 0.9, 50: 0.98}),
        ("middle", {2: 1.0, 4: 1.0, 10: 1.0}),
        ("gauss_legendre", {1: 1.0, 2: 1.0, 50: 1.0}),
    ],
)
def test_square_under_every_rule(rule, values):  # TV-9
    for steps, expected in values.items():
        assert ig(toys.square(), row(1.0), steps=steps, rule=rule).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("rule", ["left", "right", "middle", "gauss_legendre"])
@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_weights_sum_to_one_and_linear_models_are_exact(rule, steps):
    positions, weights = quadrature(rule, steps)
    assert weights.sum() == pytest.approx(1, abs=1e-14)
    assert (positions >= 0).all()
    assert (positions <= 1).all()
    assert (np.diff(positions) > 0).all()
    made = ig(toys.linear([[2.0, -3.0]]), row(1.0, 1.0), steps=steps, rule=rule)
    np.testing.assert_allclose(made, [[2.0, -3.0]], rtol=1e-12)


def test_gauss_legendre_is_exact_below_twice_the_steps():
    for steps in (1, 2, 3, 6):
        positions, weights = quadrature("gauss_legendre", steps)
        for degree in range(2 * steps):
            assert (weights * positions**degree).sum() == pytest.approx(1 / (degree + 1), abs=1e-13)


def test_product_gives_half_to_each():  # TV-9
    np.testing.assert_allclose(ig(toys.product(), row(2.0, 3.0)), [[3.0, 3.0]], rtol=1e-12)


@pytest.mark.parametrize(("x", "expected"), [((1.0, 1.0), (6.0, -3.0)), ((0.0, 3.0), (0.0, -4.0))])
def test_two_relu_rows(x, expected):  # TV-3
    made = ig(toys.two_relu(), row(*x), steps=3000, rule="middle")
    np.testing.assert_allclose(made, [expected], atol=2e-3)


def test_saturation_gradient_is_zero_and_integrated_gradients_is_one():
    x = row(2.0)
    assert METHODS.bind("gradient")(toys.saturation(), x, T1).item() == 0
    assert ig(toys.saturation(), x, steps=1000, rule="middle").item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(
    ("x", "baseline", "expected"),
    [
        ((1.5, 1.5), (0.0, 0.0), (3.0, 4.5)),
        ((4.0, 4.0), (0.0, 0.0), (13.0, 7.0)),
        ((1.5, 1.5), (3.0, 3.0), (-6.0, -1.5)),
        ((4.0, 4.0), (3.0, 3.0), (4.0, 1.0)),
    ],
)
def test_the_examples_of_document_001(x, baseline, expected):  # TV-2
    model = toys.credible_example()
    made = ig(model, row(*x), baseline=constant_baseline(*baseline), steps=6000, rule="middle")
    np.testing.assert_allclose(made, [expected], atol=1e-3)
    difference = compute.scores(model, row(*x), T1) - compute.scores(model, row(*baseline), T1)
    if baseline == (0.0, 0.0):
        assert made.sum().item() == pytest.approx(difference.item(), abs=2e-3)


def test_segments_sum_to_the_difference(images):
    nodes = straight_line(images, 1 - images, steps=9, rule="gauss_legendre")
    image = torch.arange(5).repeat_interleave(9)
    segments = nodes.segment(image, torch.arange(9).repeat(5)).unflatten(0, (5, 9)).sum(1)
    torch.testing.assert_close(segments, images - (1 - images), atol=1e-6, rtol=0)


def test_the_black_baseline_is_blind_to_black_pixels(images, zeros):
    x = images.clone()
    x[:, :, :3] = 0
    assert not ig(toys.TinyNet(), x, steps=4)[:, :, :3].any()
    assert ig(toys.TinyNet(), x, steps=4, baseline="max_distance")[:, :, :3].abs().min() > 0


def test_rows_spent_are_images_times_steps(images, spy):
    watched = spy(toys.TinyNet())
    ig(watched, images, steps=7, max_batch=4)
    assert sum(watched.calls) == 35
    assert max(watched.calls) == 4


@pytest.mark.parametrize("steps", [0, -1, 1.5, True, "10"])
def test_bad_steps(steps):
    with pytest.raises(ConfigError, match="steps="):
        quadrature("middle", steps)


def test_unknown_rule():
    with pytest.raises(ConfigError, match="did you mean 'middle'"):
        quadrature("midle", 3)


def test_staggered_nodes_are_even_over_paths_and_linear_models_are_exact():
    positions, weights = staggered(3, range(200))
    assert weights.sum(axis=1) == pytest.approx(1)
    gaps = np.diff(np.sort(positions.ravel()))
    assert gaps.max() < 4 / positions.size
    assert positions[0].tolist() == pytest.approx([1 / 6, 3 / 6, 5 / 6])
    made = path.nested_aggregates(
        toys.linear([[2.0, -3.0]]), row(1.0, 1.0), T1, counts=(4,), steps=1, rule="staggered", aggregates=("mean",)
    )[4, "mean"]
    base = torch.stack([path.baselines.draw("uniform", row(1.0, 1.0), b) for b in range(4)]).mean(0)
    np.testing.assert_allclose(made, torch.tensor([[2.0, -3.0]]) * (1 - base), rtol=1e-6)


def test_staggered_steps_beat_equal_ones_in_the_mean(images, zeros):
    """A kink at 0.6 of the way: with three equal nodes every path errs alike, staggered the errors cancel."""
    model = toys.Formula(lambda x: torch.relu(x.flatten(1).mean(1) - 0.5))
    x = torch.full((1, 1, 2, 2), 0.9, dtype=torch.float64)
    errors = {}
    for rule in ("middle", "staggered"):
        made = path.nested_aggregates(
            model, x, T1, counts=(40,), steps=3, rule=rule, aggregates=("mean",), baseline={"uniform": {"high": 0.2}}
        )[40, "mean"]
        errors[rule] = abs(made.sum().item() - 0.4)
    assert errors["staggered"] < errors["middle"] / 2


def test_a_single_path_cannot_be_staggered(images, zeros):
    with pytest.raises(ConfigError, match="integration rule"):
        ig(toys.TinyNet(), images, rule="staggered")


class ThreeBaselines:
    """Baselines 0, 0.5, 2 by number, through the registry's own numbering."""

    def __init__(self, monkeypatch):
        values = iter((0.0, 0.5, 2.0) * 9)
        monkeypatch.setattr(path.baselines, "draw", lambda spec, x, index, seed: torch.full_like(x, next(values)))


@pytest.mark.parametrize(("aggregate", "expected"), [("mean", -5 / 12), ("median", 0.75)])
def test_mean_and_median_of_three_baselines(aggregate, expected, monkeypatch):  # TV-10
    ThreeBaselines(monkeypatch)
    method = METHODS.bind("multi_baseline_integrated_gradients", n_baselines=3, aggregate=aggregate)
    assert method(toys.square(), row(1.0), T1).item() == pytest.approx(expected, abs=1e-12)


def test_counts_are_nested_and_equal_the_slow_twin(images, zeros):
    model, counts = toys.TinyNet(), (1, 2, 5)
    made = path.nested_aggregates(model, images, zeros, counts=counts, steps=3, seed=4)
    singles = torch.stack(
        [
            METHODS.bind("integrated_gradients", baseline=lambda x, b=b: path.baselines.draw("uniform", x, b, seed=4), steps=3)(
                model, images, zeros
            )
            for b in range(5)
        ]
    )
    for count in counts:
        torch.testing.assert_close(made[count, "mean"], singles[:count].mean(0), atol=1e-6, rtol=1e-4)
        median = torch.as_tensor(np.median(singles[:count].numpy(), axis=0))
        torch.testing.assert_close(made[count, "median"], median, atol=1e-6, rtol=1e-4)


def test_groups_of_images_change_nothing(images, zeros, monkeypatch):
    whole = path.nested_aggregates(toys.TinyNet(), images, zeros, counts=(3,), steps=2)
    monkeypatch.setattr(path, "BANK_VALUES", 1)
    parts = path.nested_aggregates(toys.TinyNet(), images, zeros, counts=(3,), steps=2)
    torch.testing.assert_close(whole[3, "mean"], parts[3, "mean"], atol=1e-6, rtol=1e-4)


def test_one_random_baseline_is_integrated_gradients(images, zeros):
    many = METHODS.bind("multi_baseline_integrated_gradients", n_baselines=1, steps=6, seed=3)(toys.TinyNet(), images, zeros)
    torch.testing.assert_close(many, ig(toys.TinyNet(), images, baseline="uniform", steps=6, seed=3))


def test_the_mean_is_complete_against_the_mean_baseline(images, zeros):
    model = toys.TinyNet().double()
    x = images.double()
    made = METHODS.bind("multi_baseline_integrated_gradients", n_baselines=4, steps=30)(model, x, zeros)
    base = torch.stack([compute.scores(model, path.baselines.draw("uniform", x, b), zeros) for b in range(4)]).mean(0)
    np.testing.assert_allclose(made.flatten(1).sum(1), compute.scores(model, x, zeros) - base, atol=1e-6)


def test_relative_error_in_closed_form():
    maps = torch.tensor([[3.0, 0.0], [5.0, 0.0], [4.0, 3.0]], dtype=torch.float64)  # mean (4, 1), variances 1 and 3
    noise = (1 + 3) / 3
    expected = (noise / (17 - noise)) ** 0.5
    assert path.relative_error(maps.sum(0), (maps**2).sum(0), 3) == pytest.approx(expected)
    assert path.relative_error(maps[0], maps[0] ** 2, 1) == float("inf")
    assert path.relative_error(2 * maps[0], 2 * maps[0] ** 2, 2) == 0


def test_the_stated_error_of_auto_is_the_true_error(images, zeros):
    """Linear-plus-square model: the limit is known, so that the estimate can be held against it."""
    model = toys.square()
    limit = images.double() ** 2 - 1 / 3  # E over U(0, 1) of x^2 - b^2
    made, used, errors = path.until_stable(model, images.double(), zeros, tolerance=0.15, steps=2)
    true = (made - limit).flatten(1).norm(dim=1) / limit.flatten(1).norm(dim=1)
    assert (errors <= 0.15).all()
    assert (used % path.ROUND == 0).all()
    assert used.max() < 100
    np.testing.assert_allclose(true, errors, rtol=0.25)


def test_auto_stops_each_image_on_its_own_and_at_the_limit(images, zeros):
    method = METHODS.bind("multi_baseline_integrated_gradients", n_baselines="auto", tolerance=0.3, steps=2)
    together = method(toys.square(), images, zeros)
    torch.testing.assert_close(together[2:3], method(toys.square(), images[2:3], zeros[:1]))
    _, used, errors = path.until_stable(toys.square(), images[:1], zeros[:1], tolerance=1e-6, max_baselines=7, steps=2)
    assert used.tolist() == [7]
    assert errors.item() > 1e-6


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_baselines": 0},
        {"n_baselines": 2.5},
        {"n_baselines": "many"},
        {"n_baselines": True},
        {"aggregate": "mode"},
        {"baseline": "black", "n_baselines": 3},
        {"n_baselines": "auto", "aggregate": "median"},
        {"n_baselines": "auto", "tolerance": 0},
        {"n_baselines": "auto", "baseline": "blur"},
    ],
)
def test_bad_requests(wrong, images, zeros):
    with pytest.raises(ConfigError):
        METHODS.bind("multi_baseline_integrated_gradients", **wrong)(toys.TinyNet(), images, zeros)


def test_a_baseline_of_the_wrong_shape_is_refused(images, zeros):
    with pytest.raises(InputError, match="expected shape"):
        ig(toys.TinyNet(), images, baseline=lambda x: x[:, :1])
