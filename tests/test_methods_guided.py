"""Guided Integrated Gradients: FIDELITY TV-14, closed forms, the slow twin, and the path itself."""

import math

import numpy as np
import pytest
import torch

from xai_lib import METHODS, compute, toys
from xai_lib.errors import ConfigError
from xai_lib.methods import guided

T1 = torch.zeros(1, dtype=torch.int64)


def row(*values):
    return torch.tensor([values], dtype=torch.float64)


def gig(model, x, t=None, **parameters):
    t = torch.zeros(len(x), dtype=torch.int64) if t is None else t
    return METHODS.bind("guided_integrated_gradients", **parameters)(model, x, t)


SETTINGS = [
    {"steps": 1},
    {"steps": 10, "fraction": 0.1, "max_dist": 0.5},
    {"steps": 7, "fraction": 1.0, "max_dist": 1.0},
    {"steps": 50, "fraction": 0.25, "max_dist": 0.02},
    {"steps": 13, "fraction": 0.5, "max_dist": 0.0},
    {"steps": 13, "fraction": 0.01, "max_dist": 1.0},
]


@pytest.mark.parametrize("own", SETTINGS)
def test_linear_models_give_weight_times_difference(own):  # TV-14
    made = gig(
        toys.linear([[2.0, 1.0, -3.0]]), row(10.0, 5.0, 1.0), baseline=lambda x: x.new_tensor([[-1.0, -3.0, 1.0]]), **own
    )
    np.testing.assert_allclose(made, [[22.0, 8.0, 0.0]], rtol=1e-12, atol=1e-12)


def test_the_last_step_ends_at_the_input():
    """A feature with almost no way to go comes last, when what is left of the distance is all rounding."""
    made = gig(toys.linear([[1.0, 2.0]]), row(1.0, 3e-16), steps=3, max_dist=1.0)
    np.testing.assert_allclose(made, [[1.0, 6e-16]], rtol=1e-9)


def test_no_distance_is_the_left_rule_on_a_square():  # TV-14
    assert gig(toys.square(), row(1.0), steps=50, max_dist=0.0).item() == pytest.approx(0.98, abs=1e-12)


def test_no_distance_on_a_product():  # TV-14
    np.testing.assert_allclose(gig(toys.product(), row(2.0, 3.0), steps=200, max_dist=0.0), [[2.985, 2.985]], atol=1e-12)


def test_a_free_path_on_a_product_is_winner_take_all():  # TV-14
    """Step 1 is a tie at the origin: both go 1/m of their way. Then x2 has the smaller gradient, x1 = 2/m, all the way to 3 (a
    step moves it by 5/m; after 119 more it stands at 2.99), and x1 goes last, from 2/m to 2; the step in which x2 arrives
    moves x1 by .015 with the gradient 2.99."""
    made = gig(toys.product(), row(2.0, 3.0), steps=200, max_dist=1.0)
    np.testing.assert_allclose(made, [[3 * (2 - 0.01) - 0.01 * 0.015, 0.01 * (3 - 0.015)]], atol=1e-12)


def test_a_free_path_in_closed_form():
    """f = (2 x1 + x2)^2: x2 has half the gradient of x1, so it goes first, alone: 3^2 = 9, then x1: 9^2 - 3^2 = 72."""
    model = toys.Formula(lambda x: (2 * x[:, 0] + x[:, 1]) ** 2)
    np.testing.assert_allclose(gig(model, row(3.0, 3.0), steps=400, fraction=0.1, max_dist=1.0), [[72.0, 9.0]], rtol=6e-3)
    np.testing.assert_allclose(gig(model, row(3.0, 3.0), steps=400, fraction=0.1, max_dist=0.0), [[54.0, 27.0]], rtol=6e-3)
    between = gig(model, row(3.0, 3.0), steps=400, fraction=0.1, max_dist=0.2)[0]
    assert 55 < between[0] < 71
    assert between.sum().item() == pytest.approx(81, abs=0.3)


@pytest.mark.parametrize("own", [{"max_dist": 0.0}, {"fraction": 1.0, "max_dist": 0.4}])
def test_no_freedom_is_integrated_gradients_under_the_left_rule(own, images):
    model, x, t = toys.TinyNet().double(), images.double(), torch.tensor([0, 1, 2, 3, 0])
    expected = METHODS.bind("integrated_gradients", steps=9, rule="left", baseline="blur")(model, x, t)
    torch.testing.assert_close(gig(model, x, t, steps=9, baseline="blur", **own), expected, atol=1e-12, rtol=1e-9)


def slow_twin(slope, x, start, *, steps, fraction, max_dist):
    """One image with Python lists: (map, the points at which gradients were taken)."""
    d, total = len(x), sum(abs(a - b) for a, b in zip(x, start, strict=True))
    place, made, points = [0.0] * d, [0.0] * d, []
    count = math.floor(fraction * (d - 1) + 1e-9) + 1
    for k in range(1, steps + 1):
        points.append([b + p * (a - b) for a, b, p in zip(x, start, place, strict=True)])
        gradient = slope(points[-1])
        low, high = max(k / steps - max_dist, 0.0), min(k / steps + max_dist, 1.0)
        before, place = place, [max(p, low) for p in place]
        free = [i for i in range(d) if x[i] != start[i] and place[i] < high]
        while True:
            left = sum((1 - p) * abs(a - b) for a, b, p in zip(x, start, place, strict=True))
            gap = left - total * (1 - k / steps)
            if gap <= 1e-12 * total or not free:
                break
            limit = sorted(abs(gradient[i]) for i in free)[min(count, len(free)) - 1] + 64 * 2.0**-52 * max(map(abs, gradient))
            chosen = [i for i in free if abs(gradient[i]) <= limit]
            room = sum((high - place[i]) * abs(x[i] - start[i]) for i in chosen)
            for i in chosen:
                place[i] += min(1.0, gap / room) * (high - place[i])
            free = [i for i in free if i not in chosen]
            if room >= gap:
                break
        for i in range(d):
            made[i] += gradient[i] * (place[i] - before[i]) * (x[i] - start[i])
    return made, points


@pytest.mark.parametrize("own", SETTINGS[1:])
def test_the_slow_twin(own, images):
    """Smooth net; the first rows are black, so that features without a way to go are among them."""
    model, x, t = toys.TinyNet().double(), images[:3, :, :5, :5].double().clone(), torch.tensor([0, 2, 1])
    x[:, :, :2] = 0
    made = gig(model, x, t, max_batch=2, **{"fraction": 0.25, "max_dist": 0.02, **own})
    for i in range(3):

        def slope(point, i=i):
            point = torch.tensor(point, dtype=torch.float64).reshape(1, 3, 5, 5)
            return compute.input_gradient(model, point, t[i : i + 1]).flatten().tolist()

        expected, _ = slow_twin(slope, x[i].flatten().tolist(), [0.0] * 75, **{"fraction": 0.25, "max_dist": 0.02, **own})
        np.testing.assert_allclose(made[i].flatten(), expected, atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("own", SETTINGS[1:])
def test_the_slow_twin_with_ties(own):
    """Equal and zero gradients: whole sets of features are tied, and move together."""
    c = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1.0, -1.0, 2.0, 2.0, 3.0], dtype=torch.float64)
    model = toys.Formula(lambda x: torch.relu(x @ c - 1.0) + 0.5 * (x[:, 3] * x[:, 9]))
    x = row(0.9, 0.1, 0.4, 1.0, 1.0, 0.3, 0.6, 0.8, 0.0, 0.7)

    def slope(point):
        return compute.input_gradient(model, row(*point), T1).flatten().tolist()

    expected, _ = slow_twin(slope, x[0].tolist(), [0.0] * 10, **own)
    np.testing.assert_allclose(gig(model, x, **own), [expected], atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("own", [SETTINGS[1], SETTINGS[3], {"steps": 20, "fraction": 0.3, "max_dist": 0.1}])
def test_every_point_keeps_its_distance(own):
    """k steps on, the L1 distance is (1 - k/m) of all, and no feature is further than max_dist from the line."""
    seen, net = [], toys.TinyNet().double()

    def formula(x):
        seen.append(x.detach().flatten().clone())
        return net(x)

    x = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    gig(toys.Formula(formula), x, baseline="max_distance", **own)
    start = (x < 0.5).double()
    assert len(seen) == own["steps"]
    moved_apart = 0.0
    for k, point in enumerate(seen):
        place = (point - start.flatten()) / (x - start).flatten()
        left = (point - x.flatten()).abs().sum() / (start - x).abs().sum()
        assert left.item() == pytest.approx(1 - k / own["steps"], abs=1e-9)
        assert (place - k / own["steps"]).abs().max() <= own["max_dist"] + 1e-9
        moved_apart = max(moved_apart, (place.max() - place.min()).item())
    assert moved_apart > own["max_dist"]


def test_sums_to_the_change_of_the_score(images, zeros):
    model, x = toys.TinyNet().double(), images.double()
    change = compute.scores(model, x, zeros) - compute.scores(model, torch.zeros_like(x), zeros)
    gaps = [(gig(model, x, steps=m).flatten(1).sum(1) - change).abs().max().item() for m in (20, 160)]
    assert gaps[1] < gaps[0] / 4
    assert gaps[1] < 2e-3 * change.abs().max()


def test_rows_spent_and_an_image_that_is_its_own_baseline(images, zeros, spy):
    watched, x = spy(toys.TinyNet()), images.clone()
    x[2] = 0
    made = gig(watched, x, steps=6, max_batch=3)
    assert sum(watched.calls) == 4 * 6
    assert max(watched.calls) == 3
    assert not made[2].any()
    torch.testing.assert_close(made[3:], gig(toys.TinyNet(), x[3:], steps=6), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_ties_up_to_rounding_do_not_depend_on_company(seed):
    """From black, a convolutional net has equal gradients all over; float32 rounds them differently in every batch."""
    net, x = toys.TinyNet(seed=seed), torch.rand(5, 3, 10, 10, generator=torch.Generator().manual_seed(seed))
    whole = gig(net, x, steps=6, max_dist=1.0)
    alone = torch.cat([gig(net, x[i : i + 1], steps=6, max_dist=1.0) for i in range(5)])
    torch.testing.assert_close(whole, alone, atol=1e-6, rtol=1e-4)


def test_ties_are_judged_by_the_image_itself():
    x = torch.cat([row(0.9, 0.8, 0.7, 0.3), row(1e14, 1.0, 2.0, 3.0)])
    own = {"steps": 5, "max_dist": 1.0}
    torch.testing.assert_close(gig(toys.square(), x, **own)[:1], gig(toys.square(), x[:1], **own), atol=0, rtol=1e-12)


def test_groups_of_images_change_nothing(images, zeros, monkeypatch):
    model, x = toys.TinyNet().double(), images.double()
    whole = gig(model, x, steps=6)
    monkeypatch.setattr(guided, "PATH_VALUES", 600)
    torch.testing.assert_close(gig(model, x, steps=6), whole, atol=1e-12, rtol=1e-9)


def test_black_pixels_have_no_way_to_go(images, zeros):
    x = images.clone()
    x[:, :, :3] = 0
    assert not gig(toys.TinyNet(), x, steps=4)[:, :, :3].any()
    assert gig(toys.TinyNet(), x, steps=4, baseline="white")[:, :, :3].abs().min() > 0


def test_a_random_baseline_is_the_one_of_its_seed(images, zeros):
    own = {"steps": 5, "max_dist": 0.0, "baseline": "uniform", "seed": 3}
    expected = METHODS.bind("integrated_gradients", steps=5, rule="left", baseline="uniform", seed=3)(
        toys.TinyNet(), images, zeros
    )
    torch.testing.assert_close(gig(toys.TinyNet(), images, **own), expected, atol=1e-6, rtol=1e-4)


def test_both_ways_of_sorting_agree():
    values = torch.rand(3, 50, generator=torch.Generator().manual_seed(0)).masked_fill(torch.eye(3, 50) > 0, torch.inf)
    assert torch.equal(guided._sorted(values), values.sort(dim=1).values)
    assert torch.equal(guided._sorted(values.bfloat16()), values.bfloat16().sort(dim=1).values)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"steps": 0}, "steps=0"),
        ({"steps": True}, "steps=True"),
        ({"steps": 2.0}, "steps=2.0"),
        ({"fraction": 0.0}, "fraction=0.0"),
        ({"fraction": 1.1}, "fraction=1.1"),
        ({"max_dist": -0.1}, "max_dist=-0.1"),
        ({"max_dist": 1.5}, "max_dist=1.5"),
        ({"fraction": float("nan")}, "fraction=nan"),
        ({"baseline": "blakc"}, "did you mean 'black'"),
    ],
)
def test_bad_requests(wrong, match, images, zeros):
    with pytest.raises(ConfigError, match=match):
        gig(toys.TinyNet(), images, **wrong)
