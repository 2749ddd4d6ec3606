"""Region perturbation: FIDELITY TV-36, slow twin, shared draws, borders, oracles, company."""

import itertools

import pytest
import torch

from xai_lib import METRICS, baselines, toys
from xai_lib.errors import ConfigError, InputError
from xai_lib.metrics.insertion_curves import substrate
from xai_lib.metrics.region import region_perturbation, region_perturbation_curve
from xai_lib.models import Normalise

NET = toys.TinyNet()
WEIGHTS = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
LINEAR = toys.linear(WEIGHTS[None])
X = torch.ones(1, 1, 2, 2, dtype=torch.float64)
A = WEIGHTS.reshape(X.shape)
ZERO = torch.zeros(1, dtype=torch.int64)
PLAIN = {"region": 1, "n_regions": 4, "fill": "black", "score": "logit"}
SMALL = {"region": 3, "n_regions": 5}


@pytest.fixture
def made(images):
    return torch.randn(images.shape, generator=torch.Generator().manual_seed(2))


def test_linear_model():
    """TV-36, and its reverse by hand: the mean of 0, .1, .3, .6, 1."""
    curve = region_perturbation_curve(LINEAR, X, ZERO, A, **PLAIN)
    assert (1 - curve[0]).tolist() == pytest.approx([0, 0.4, 0.7, 0.9, 1])
    assert region_perturbation(LINEAR, X, ZERO, A, **PLAIN).item() == pytest.approx(0.6)
    assert region_perturbation(LINEAR, X, ZERO, A, **PLAIN, order="lerf").item() == pytest.approx(0.4)
    assert region_perturbation(LINEAR, X, ZERO, -A, **PLAIN).item() == pytest.approx(0.4)
    assert region_perturbation(LINEAR, X, ZERO, A, **PLAIN | {"n_regions": 2}).item() == pytest.approx((0 + 0.4 + 0.7) / 3)


def test_a_random_order_expects_one_half():
    """TV-36: over all 24 orders exactly, over drawn orders nearly."""
    every = torch.tensor(list(itertools.permutations(range(4)))).double().reshape(24, 1, 2, 2)
    found = region_perturbation(LINEAR, X.expand(24, -1, -1, -1), ZERO.expand(24), every, **PLAIN)
    assert found.mean().item() == pytest.approx(0.5)
    assert len(set(found.round(decimals=6).tolist())) > 5
    drawn = region_perturbation(LINEAR, X, ZERO, A, **PLAIN, order="random", n_draws=300)
    assert drawn.item() == pytest.approx(0.5, abs=0.015)  # 300 draws of standard deviation 0.065


def slow_curve(model, x, t, order, side, filled, steps):
    """Probabilities, replacing region by region for good."""
    image, across = x.clone(), -(-x.shape[2] // side)
    scores = [model(image[None]).softmax(1)[0, t].item()]
    for place in order[:steps]:
        top, left = place // across * side, place % across * side
        for row in range(top, min(top + side, x.shape[1])):
            for column in range(left, min(left + side, x.shape[2])):
                image[:, row, column] = filled[:, row, column]
        scores.append(model(image[None]).softmax(1)[0, t].item())
    return scores


def slow_order(values, side, reverse):
    height, width = values.shape
    masses = []
    for top in range(0, height, side):
        for left in range(0, width, side):
            cells = itertools.product(range(top, min(top + side, height)), range(left, min(left + side, width)))
            masses.append(sum(values[row, column].item() for row, column in cells))
    return sorted(range(len(masses)), key=lambda i: masses[i], reverse=reverse)


@pytest.mark.parametrize("order", ["morf", "lerf"])
@pytest.mark.parametrize(("side", "reduce"), [(3, "sum"), (4, "abs_sum"), (1, "sum_abs")])
def test_slow_twin(order, side, reduce, images, zeros, made):
    x, t = images[:2, :, :, :9], torch.tensor([1, 3])
    steps = 7 if side > 1 else 20
    a = made[:2, :, :, :9]
    values = {"sum": a.sum(1), "abs_sum": a.sum(1).abs(), "sum_abs": a.abs().sum(1)}[reduce]
    own = {"region": side, "n_regions": steps, "order": order, "reduce": reduce, "n_draws": 2, "seed": 4}
    found = region_perturbation_curve(NET, x, t, a, **own)
    draws = [baselines.draw("uniform", x, number, seed=4) for number in range(2)]
    assert not torch.equal(*draws)
    for i in range(2):
        ranked = slow_order(values[i], side, order == "morf")
        curves = [slow_curve(NET, x[i], t[i], ranked, side, filled[i], steps) for filled in draws]
        expected = torch.tensor(curves).mean(0)
        assert found[i].tolist() == pytest.approx(expected.tolist(), abs=1e-6)
        aopc = sum(expected[0] - score for score in expected) / (steps + 1)
        assert region_perturbation(NET, x, t, a, **own)[i].item() == pytest.approx(aopc.item(), abs=1e-6)


def test_all_orders_are_filled_with_the_same_pixels(images, zeros, made):
    """Where every region is gone, the order no longer matters; before, it does."""
    curves = [
        region_perturbation_curve(NET, images, zeros, made, region=5, n_regions=4, order=order, n_draws=3)
        for order in ("morf", "lerf", "random")
    ]
    for curve in curves[1:]:
        torch.testing.assert_close(curve[:, [0, 4]], curves[0][:, [0, 4]])
        assert (curve[:, 1:4] - curves[0][:, 1:4]).abs().max() > 1e-4


def test_random_order_is_one_of_the_orders_and_does_not_look_at_the_map(images, zeros, made):
    own = {"region": 5, "n_regions": 4, "n_draws": 1, "fill": 0.3}
    found = region_perturbation_curve(NET, images, zeros, made, **own, order="random", seed=1)
    filled = torch.full_like(images, 0.3)
    for i, curve in enumerate(found):
        every = [slow_curve(NET, images[i], 0, order, 5, filled[i], 4) for order in itertools.permutations(range(4))]
        assert min((curve - torch.tensor(one)).abs().max().item() for one in every) < 1e-6
    empty = torch.full_like(made, torch.nan)
    assert torch.equal(found, region_perturbation_curve(NET, images, zeros, empty, **own, order="random", seed=1))
    assert not torch.equal(found, region_perturbation_curve(NET, images, zeros, made, **own, order="random", seed=2))
    single = [region_perturbation_curve(NET, images, zeros, made, **own | {"n_draws": k}, order="random") for k in (1, 2, 3)]
    second, third = 2 * single[1] - single[0], 3 * single[2] - 2 * single[1]
    assert (second - single[0]).abs().max() > 1e-4
    assert (second - third).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("fill", "rows"), [("black", 1), (0.5, 1), ("mean", 1), ("uniform", 4), ({"uniform": {"low": 0.5}}, 4)]
)
def test_only_what_is_random_is_drawn_again(fill, rows, images, zeros, made, spy):
    model = spy(NET)
    region_perturbation(model, images, zeros, made, **SMALL, fill=fill, n_draws=4)
    assert sum(model.calls) == 5 + rows * 5 * 5
    model.calls.clear()
    region_perturbation(model, images, zeros, made, **SMALL, fill=fill, n_draws=4, order="random", max_batch=8)
    assert sum(model.calls) == 5 + 4 * 5 * 5
    assert max(model.calls) == 8


def test_fills(images, zeros, made):
    model = torch.nn.Sequential(Normalise([0.2, 0.5, 0.7], [1.0, 1.0, 1.0]), NET).eval()
    for fill in ("mean", "average", "blur", "rise_blur", 0.25, torch.ones_like):
        filled = substrate(fill, model, images)
        found = region_perturbation_curve(model, images, zeros, made, **SMALL, fill=fill, score="logit")
        gone = [slow_order(made[i].sum(0), 3, True)[0] for i in range(5)]
        for i, place in enumerate(gone):
            row, column = place // 4 * 3, place % 4 * 3
            one = images[i : i + 1].clone()
            one[:, :, row : row + 3, column : column + 3] = filled[i : i + 1, :, row : row + 3, column : column + 3]
            assert found[i, 1].item() == pytest.approx(model(one)[0, 0].item(), abs=1e-5)
    given = {"uniform": {"low": 0.9}}
    assert not torch.equal(
        region_perturbation(NET, images, zeros, made, **SMALL, fill=given),
        region_perturbation(NET, images, zeros, made, **SMALL),
    )


def test_oracles(images, zeros):
    """The true mask beats a random order, which beats the mask of what is irrelevant."""
    mask = torch.zeros(10, 10, dtype=torch.bool)
    mask[2:4, 4:6] = True
    model, own = toys.planted(mask), {"region": 2, "n_regions": 10, "fill": "black", "score": "logit"}
    truth = mask.to(images).expand_as(images)
    perfect = region_perturbation(model, images, zeros, truth, **own)
    chance = region_perturbation(model, images, zeros, truth, **own, order="random", n_draws=20)
    worst = region_perturbation(model, images, zeros, -truth, **own)
    start = model(images)[:, 0]
    torch.testing.assert_close(perfect, start * 10 / 11)  # all is gone after the first of ten
    assert worst.tolist() == pytest.approx([0.0] * 5)
    assert (chance > worst).all()
    assert (chance < perfect / 2).all()
    torch.testing.assert_close(region_perturbation(model, images, zeros, truth, **own, order="lerf"), worst)


def test_a_border_that_the_grid_does_not_divide_is_a_smaller_region(images, zeros):
    corner = torch.zeros(5, 3, 10, 10)
    corner[:, :, 9, 9] = 1
    changed = []

    def count(x):
        changed.append((x != images[:1]).any(1).sum((1, 2)).tolist())
        return x.flatten(1).sum(1)

    own = {"region": 4, "n_regions": 9, "fill": -1.0}
    region_perturbation(toys.Formula(count), images[:1], zeros[:1], corner[:1], **own)
    steps = torch.tensor(changed[-1]).diff().tolist()
    assert changed[-1][0] == 4  # 2 x 2 pixels
    assert sorted([4, *steps]) == [4, 8, 8, 8, 8, 16, 16, 16, 16]
    assert changed[-1][-1] == 100


def test_ties_follow_the_seed_not_the_place(images, zeros):
    flat = torch.zeros(5, 3, 10, 10)
    flat[:, :, 0, 0] = 1
    found = {region_perturbation(NET, images, zeros, flat, region=5, n_regions=2, fill=0.0, seed=s)[0].item() for s in range(8)}
    assert len(found) == 3  # one of three equal regions comes second


def test_undefined(images, zeros, made):
    made[0], made[1], made[2, 0, 0, 0], made[3, 1, 2, 2] = 0, 2, torch.nan, torch.inf
    found = region_perturbation(NET, images, zeros, made, **SMALL)
    assert found.isnan().tolist() == [True] * 4 + [False]
    assert region_perturbation_curve(NET, images, zeros, made, **SMALL).isnan().all(1).tolist() == [True] * 4 + [False]
    assert not region_perturbation(NET, images, zeros, made, **SMALL, order="random").isnan().any()
    equal = torch.zeros_like(made)
    equal[:, :, ::2, ::2], equal[:, :, 1::2, 1::2] = 1, -1
    assert region_perturbation(NET, images, zeros, equal, region=2, n_regions=3).isnan().all()  # all masses are 0
    assert not region_perturbation(NET, images, zeros, equal, region=1, n_regions=3).isnan().any()


@pytest.mark.parametrize("order", ["morf", "random"])
def test_company_order_scale_and_batch_size_change_nothing(order, images, zeros, made):
    metric = METRICS.bind("region_perturbation", **SMALL, order=order, n_draws=2)
    expected = metric(NET, images, zeros, made)
    assert (expected.shape, expected.dtype) == ((5,), images.dtype)
    shuffled = torch.tensor([3, 0, 4, 2, 1])
    close = {"atol": 1e-5, "rtol": 1e-4}
    torch.testing.assert_close(metric(NET, images[shuffled], zeros, made[shuffled]), expected[shuffled], **close)
    torch.testing.assert_close(metric(NET, images[1:2], zeros[:1], made[1:2]), expected[1:2], **close)
    torch.testing.assert_close(metric(NET, images, zeros, 1000 * made), expected, **close)
    for size in (1, 32):
        torch.testing.assert_close(metric(NET, images, zeros, made, max_batch=size), expected, **close)


def test_refusals(images, zeros, made):
    ask = METRICS.bind("region_perturbation", **SMALL)
    with pytest.raises(ConfigError, match=r"n_regions=17: \(10, 10\) pixels hold 16 regions of 3 x 3; expected 1 to 16"):
        ask(NET, images, zeros, made, n_regions=17)
    assert ask(NET, images, zeros, made, n_regions=16).shape == (5,)
    for name in ("region", "n_regions", "n_draws"):
        for value in (0, -1, 2.0, True):
            with pytest.raises(ConfigError, match=f"{name}="):
                ask(NET, images, zeros, made, **{name: value})
    with pytest.raises(ConfigError, match="order='best': expected one of morf, lerf, random"):
        ask(NET, images, zeros, made, order="best")
    with pytest.raises(ConfigError, match="unknown substrate 'grey'"):
        ask(NET, images, zeros, made, fill="grey")
    with pytest.raises(ConfigError, match="unknown channel reduction"):
        ask(NET, images, zeros, made, reduce="max")
    with pytest.raises(InputError, match=r"expected images \(n, c, h, w\), got shape \(5, 7\)"):
        ask(toys.linear(torch.ones(1, 7)), torch.rand(5, 7), zeros, torch.rand(5, 7))
    with pytest.raises(InputError, match="attributions: expected the shape of the inputs"):
        ask(NET, images, zeros, made.sum(1, keepdim=True))
