"""Insertion and deletion: FIDELITY TV-34, slow twins, the RISE protocol in normalised space, adaptive points, company."""

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from xai_lib import METRICS, baselines, maps, toys
from xai_lib.errors import ConfigError, InputError
from xai_lib.metrics.insertion import (
    deletion,
    insertion,
    insertion_deletion,
    insertion_deletion_curves,
    perturbation_curves,
)
from xai_lib.metrics.insertion_curves import grid, rise_blur, substrate
from xai_lib.models import Normalise

NET = toys.TinyNet()
LINEAR = toys.linear([[0.4, 0.3, 0.2, 0.1]])
X = torch.ones(1, 1, 2, 2, dtype=torch.float64)
A = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64).reshape(X.shape)
ZERO = torch.zeros(1, dtype=torch.int64)
BLACK = {"insertion_substrate": 0.0, "deletion_substrate": 0.0}
PLAIN = {**BLACK, "step": 1, "score": "logit"}
NAMES = ["insertion", "deletion", "insertion_deletion"]


@pytest.fixture
def made(images):
    return torch.randn(images.shape, generator=torch.Generator().manual_seed(2))


def slow_curve(model, x, t, order, fill, counts, inserts):
    """Fractions and probabilities, flipping pixel by pixel."""
    image = (fill if inserts else x).clone()
    other = x if inserts else fill
    scores, done = [], 0
    for count in counts:
        for pixel in order[done:count]:
            row, column = divmod(pixel, x.shape[2])
            image[:, row, column] = other[:, row, column]
        done = count
        scores.append(model(image[None]).softmax(1)[0, t].item())
    return [count / len(order) for count in counts], scores


def slow_area(fractions, scores):
    pieces = itertools.pairwise(zip(fractions, scores, strict=True))
    return sum((b - a) * (f + g) / 2 for (a, f), (b, g) in pieces)


def slow_order(values):
    flat = values.flatten().tolist()
    assert len(set(flat)) == len(flat)
    return sorted(range(len(flat)), key=lambda i: -flat[i])


def test_linear_model():
    """TV-34."""
    inserted, deleted = insertion_deletion_curves(LINEAR, X, ZERO, A, **PLAIN)
    assert deleted.scores[0].tolist() == pytest.approx([1, 0.6, 0.3, 0.1, 0])
    assert inserted.scores[0].tolist() == pytest.approx([0, 0.4, 0.7, 0.9, 1])
    assert inserted.fractions.tolist() == deleted.fractions.tolist() == [[0, 0.25, 0.5, 0.75, 1]]
    assert (inserted.auc.item(), deleted.auc.item()) == pytest.approx((0.625, 0.375))
    assert insertion_deletion(LINEAR, X, ZERO, A, **PLAIN).item() == pytest.approx(0.25)
    assert insertion_deletion(LINEAR, X, ZERO, -A, **PLAIN).item() == pytest.approx(-0.25)
    every = torch.tensor(list(itertools.permutations(range(4)))).double().reshape(24, 1, 2, 2)
    found = insertion_deletion(LINEAR, X.expand(24, -1, -1, -1), ZERO.expand(24), every, **PLAIN)
    assert found.mean().item() == pytest.approx(0, abs=1e-12)
    assert found.max().item() == pytest.approx(0.25)


def test_fractions_are_true_where_the_last_step_is_smaller():
    _, deleted = insertion_deletion_curves(LINEAR, X, ZERO, A, **PLAIN | {"step": 3})
    assert deleted.fractions.tolist() == [[0, 0.75, 1]]
    assert deleted.auc.item() == pytest.approx(0.75 * (1 + 0.1) / 2 + 0.25 * 0.1 / 2)


@pytest.mark.parametrize(("step", "reduce"), [(1, "sum"), (7, "abs_sum"), (40, "max_abs")])
@pytest.mark.parametrize("fill", ["black", "average", {"blur": {"sigma": 1.5}}, 0.25])
def test_slow_twin(step, reduce, fill, images, made):
    x, a, model = images[:2].double(), made[:2].double(), toys.TinyNet().double()
    t = torch.tensor([1, 3])
    own = {"insertion_substrate": fill, "deletion_substrate": fill, "step": step, "reduce": reduce}
    curves = insertion_deletion_curves(model, x, t, a, **own)
    fills = torch.full_like(x, fill) if isinstance(fill, float) else baselines.draw(fill, x)
    counts = [*range(0, 100, step), 100]
    for i in range(2):
        order = slow_order(maps.reduce(a[i : i + 1], reduce))
        areas = []
        for curve, inserts in zip(curves, (True, False), strict=True):
            fractions, scores = slow_curve(model, x[i], t[i], order, fills[i], counts, inserts)
            assert curve.fractions[i].tolist() == fractions
            assert curve.scores[i].tolist() == pytest.approx(scores, abs=1e-12)
            areas.append(slow_area(fractions, scores))
        assert insertion_deletion(model, x, t, a, **own)[i].item() == pytest.approx(areas[0] - areas[1], abs=1e-12)
        assert insertion(model, x, t, a, substrate=fill, step=step, reduce=reduce)[i].item() == pytest.approx(
            areas[0], abs=1e-12
        )
        assert deletion(model, x, t, a, substrate=fill, step=step, reduce=reduce)[i].item() == pytest.approx(
            areas[1], abs=1e-12
        )


def test_default_is_the_protocol_of_rise(images, made):
    """Written in normalised space, as there: 0 for deletion, an 11 x 11 kernel over a border of 0 for insertion."""
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
    inner = toys.TinyNet().double()
    model = torch.nn.Sequential(Normalise(mean, std), inner).eval()
    model[0].double()
    x = images[:1].double()
    z = model[0](x)
    dirac = np.zeros((11, 11))
    dirac[5, 5] = 1
    kernel = torch.zeros(3, 3, 11, 11, dtype=torch.float64)
    for channel in range(3):
        kernel[channel, channel] = torch.as_tensor(gaussian_filter(dirac, 5))
    blurred = torch.nn.functional.conv2d(z, kernel, padding=5)
    order = slow_order(made[0].double().sum(0))
    counts = [*range(0, 100, 5), 100]
    areas = []
    for fill, inserts in ((blurred[0], True), (torch.zeros_like(z[0]), False)):
        _, scores = slow_curve(inner, z[0], 0, order, fill, counts, inserts)
        areas.append((sum(scores) - scores[0] / 2 - scores[-1] / 2) / (len(scores) - 1))
    found = [METRICS.bind(name, step=5)(model, x, ZERO, made[:1].double()).item() for name in NAMES]
    assert found == pytest.approx([*areas, areas[0] - areas[1]], abs=1e-7)  # the means are kept in float32


def test_substrates(images):
    model = torch.nn.Sequential(Normalise([0.4, 0.5, 0.6], [0.2] * 3), NET).eval()
    assert substrate("mean", model, images)[1, :, 3, 4].tolist() == pytest.approx([0.4, 0.5, 0.6])
    assert not substrate("mean", NET, images).any()
    assert substrate(0.3, NET, images).unique().tolist() == pytest.approx([0.3])
    assert torch.equal(substrate("uniform", NET, images, seed=4), baselines.draw("uniform", images, seed=4))
    assert torch.equal(substrate(lambda x: x + 1, NET, images), images + 1)
    small, large = (substrate({"rise_blur": {"size": size}}, NET, images) for size in (1, 5))
    torch.testing.assert_close(small, images)
    assert 0 < large.std() < images.std()
    flat = images.new_tensor([0.4, 0.5, 0.6]).reshape(3, 1, 1).expand(1, 3, 30, 30)
    torch.testing.assert_close(rise_blur(model, flat), flat)  # the border is no edge for the mean colour
    assert rise_blur(NET, flat)[0, 0, 0, 0] < 0.2


def test_a_random_substrate_has_the_seed_and_both_games_share_it(images, zeros, made):
    curves = insertion_deletion_curves(
        NET, images, zeros, made, insertion_substrate="uniform", deletion_substrate="uniform", step=50, seed=4
    )
    expected = NET(baselines.draw("uniform", images, seed=4)).softmax(1)[:, 0].double()
    torch.testing.assert_close(curves[0].scores[:, 0], expected, atol=1e-6, rtol=0)
    assert torch.equal(curves[0].scores[:, 0], curves[1].scores[:, -1])


def test_number_of_steps():
    """28 of 1792 pixels at 224 px; 225 points are the steps of 224 pixels that RISE takes."""
    assert grid(224 * 224, None, None, 0.1, 65).tolist() == list(range(0, 224 * 224 + 1, 1792))
    assert grid(224 * 224, None, 225, 0.1, 65).tolist() == list(range(0, 224 * 224 + 1, 224))
    assert grid(100, None, 4, 0.1, 65).tolist() == [0, 33, 67, 100]
    assert grid(100, None, None, 0.1, 65).tolist() == [*range(0, 100, 4), 100]
    assert grid(4, None, 5, 0.1, 65).tolist() == grid(4, None, None, 0.1, 65).tolist() == [0, 1, 2, 3, 4]
    assert grid(224 * 224, None, "adaptive", 0.1, 65).tolist() == list(range(0, 224 * 224 + 1, 3136))


def test_ties_are_in_random_order():
    """Nine pixels tie; in the order of their indices, the curve would rise evenly whatever the seed."""
    model, x = toys.linear(torch.arange(10.0)[None]), torch.ones(1, 10)
    tied = torch.tensor([[1.0] + [0.0] * 9])
    own = {"substrate": 0.0, "step": 1, "score": "logit"}
    found = {insertion(model, x, ZERO, tied, **own, seed=seed).item() for seed in range(20)}
    assert len(found) > 15
    first = insertion(model, x, ZERO, tied, **own, seed=3)
    assert torch.equal(first, insertion(model, x, ZERO, tied, **own, seed=3))


def test_planted_object():
    """The map that is the object beats a random map, which beats its opposite; only |map| knows a negative object."""
    mask = torch.zeros(10, 10, dtype=torch.bool)
    mask[2:5, 3:7] = True
    x, good = torch.ones(1, 1, 10, 10), mask.float()[None, None]
    noise = torch.rand(1, 1, 10, 10, generator=torch.Generator().manual_seed(0))
    own = {**BLACK, "step": 4, "score": "logit"}
    ask = METRICS.bind("insertion_deletion", **own)
    best, chance, worst = (ask(toys.planted(mask), x, ZERO, a).item() for a in (good, noise, -good))
    assert best == pytest.approx(0.88)  # both curves are straight over the 12 % of the object, then flat
    assert abs(chance) < 0.35
    assert worst == pytest.approx(-0.88)
    assert METRICS.bind("insertion_deletion", **own, reduce="abs_sum")(toys.planted(mask), x, ZERO, -good).item() == best


def slow_adaptive(ask, pixels, tolerance, most):
    """Counts of one curve: the rule of `perturbation_curves`, piece by piece."""
    counts = sorted({(2 * k * pixels + 16) // 32 for k in range(17)})
    while True:
        height = {count: ask(count) for count in counts}
        pieces = list(itertools.pairwise(counts))
        rates = [(height[b] - height[a]) ** 2 / ((b - a) / pixels) for a, b in pieces]
        parts = []
        for k, (a, b) in enumerate(pieces):
            v = rates[max(k - 1, 0)] / 4 + rates[k] / 2 + rates[min(k + 1, len(rates) - 1)] / 4
            parts.append(v * ((b - a) / pixels) ** 3 / 12 if b - a > 1 else 0.0)
        error = 3 * math.sqrt(sum(parts))
        if error <= tolerance or len(counts) >= most:
            return counts, error
        left, goal = sum(parts), 0.2 * sum(parts)
        new = []
        for k in sorted(range(len(parts)), key=lambda k: -parts[k]):
            if left <= goal or len(counts) + len(new) >= most or parts[k] == 0:
                break
            new.append(sum(pieces[k]) // 2)
            left -= parts[k]
        counts = sorted(counts + new)


def test_adaptive_slow_twin():
    generator = torch.Generator().manual_seed(0)
    x, model = torch.rand(3, 3, 24, 24, generator=generator).double(), toys.TinyNet().double()
    a = torch.randn(x.shape, generator=generator).double()
    t = torch.tensor([0, 1, 2])
    own = {"tolerance": 0.0004, "max_points": 60}
    curves = insertion_deletion_curves(model, x, t, a, points="adaptive", **own)
    used = set()
    for curve, inserts, spec in zip(curves, (True, False), ("rise_blur", "mean"), strict=True):
        for i in range(3):
            order = slow_order(a[i].sum(0))
            fill = substrate(spec, model, x)[i]

            @functools.cache
            def ask(count, i=i, inserts=inserts, order=order, fill=fill):
                return slow_curve(model, x[i], t[i], order, fill, [count], inserts)[1][0]

            counts, error = slow_adaptive(ask, 576, own["tolerance"], own["max_points"])
            points = int(curve.points[i])
            assert points == len(counts)
            assert (curve.fractions[i, :points] * 576).tolist() == pytest.approx(counts)
            assert curve.scores[i, :points].tolist() == pytest.approx([ask(count) for count in counts], abs=1e-9)
            assert curve.error[i].item() == pytest.approx(error, rel=1e-6)
            assert curve.fractions[i, points - 1 :].eq(1).all()
            assert curve.auc[i].item() == pytest.approx(slow_area([c / 576 for c in counts], list(map(ask, counts))), abs=1e-9)
            used.add(points)
    assert 17 < min(used) < max(used) <= 60


def test_stated_error_by_hand():
    """Scores 1, .3, 0 at 0, .5, 1: v = (3 x .98 + .18) / 4 and (.98 + 3 x .18) / 4. Pieces of one pixel are exact."""
    _, deleted = insertion_deletion_curves(LINEAR, X, ZERO, A, **BLACK, points=3, score="logit")
    assert deleted.error.item() == pytest.approx(3 * math.sqrt((0.78 + 0.38) * 0.5**3 / 12))
    assert insertion_deletion_curves(LINEAR, X, ZERO, A, **PLAIN)[0].error.item() == 0
    inserted, _ = insertion_deletion_curves(LINEAR, X, ZERO, A, **BLACK, points="adaptive", score="logit")
    assert (inserted.points.item(), inserted.auc.item()) == (5, pytest.approx(0.625))


@pytest.mark.parametrize("jump", [0.013, 0.37, 0.9421])
def test_adaptive_points_gather_where_the_score_changes(jump):
    """A score that jumps from 0 to 1 when a share of the pixels is in; the area is 1 - jump."""
    x = torch.ones(1, 1, 100, 100, dtype=torch.float64)
    a = torch.rand(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model = toys.Formula(lambda v: (v.flatten(1).mean(1) > jump).to(v))
    (curve,) = perturbation_curves(model, x, ZERO, a, [("insertion", 0.0)], points="adaptive", tolerance=0.002, score="logit")
    assert curve.error.item() <= 0.002
    assert abs(curve.auc.item() - (1 - jump)) <= curve.error.item()
    assert curve.points.item() <= 40
    (curve,) = perturbation_curves(
        model, x, ZERO, a, [("insertion", 0.0)], points="adaptive", tolerance=0, score="logit", max_points=10_000
    )
    assert curve.error.item() == 0
    assert curve.auc.item() == pytest.approx(1 - jump, abs=0.5e-4 + 1e-12)


def test_adaptive_stops_at_most_points_and_where_nothing_changes():
    x = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    own = {"points": "adaptive", "tolerance": 0.0}
    t = torch.zeros(2, dtype=torch.int64)
    for curve in insertion_deletion_curves(NET, x, t, x, **own, max_points=23):
        assert curve.points.tolist() == [23, 23]
        assert curve.scores.shape == (2, 23)
    first = insertion_deletion_curves(NET, x, t, x, **own, max_points=17)
    for k, curve in enumerate(first):  # an error of exactly the tolerance is small enough
        again = insertion_deletion_curves(NET, x, t, x, points="adaptive", tolerance=curve.error.max().item())
        assert again[k].points.tolist() == [17, 17]
    for curve in insertion_deletion_curves(toys.constant(0.5), x, t, x, **own):
        assert curve.points.tolist() == [17, 17]
        assert curve.error.tolist() == [0, 0]


@pytest.mark.parametrize("points", [None, 12, "adaptive"])
@pytest.mark.parametrize("name", NAMES)
def test_order_company_batch_size_and_scale_change_nothing(name, points):
    generator = torch.Generator().manual_seed(3)
    x, t = torch.rand(4, 3, 20, 20, generator=generator), torch.tensor([0, 1, 2, 3])
    a = torch.randn(x.shape, generator=generator)
    a[2, :, :5] = 0  # ties
    key = "substrate" if name != "insertion_deletion" else "deletion_substrate"
    metric = METRICS.bind(name, points=points, tolerance=0.0005, **{key: "uniform"})
    expected = metric(NET, x, t, a)
    assert expected.dtype == x.dtype
    order = torch.tensor([3, 0, 2, 1])
    close = {"atol": 1e-5, "rtol": 0}
    torch.testing.assert_close(metric(NET, x[order], t[order], a[order]), expected[order], **close)
    torch.testing.assert_close(metric(NET, x[2:3], t[2:3], a[2:3]), expected[2:3], **close)
    for size in (1, 64):
        torch.testing.assert_close(metric(NET, x, t, a, max_batch=size), expected, **close)
    untied = [0, 1, 3]
    rising = a.sum(1, keepdim=True).exp() - 7
    torch.testing.assert_close(metric(NET, x, t, rising.expand_as(x) / 3)[untied], expected[untied], **close)


def test_many_games_share_ranking_and_rows(images, zeros, made, spy, monkeypatch):
    games = [
        ("insertion", "rise_blur"),
        ("insertion", "black"),
        ("deletion", "black"),
        ("deletion", 0.5),
        ("insertion", "black"),
    ]
    alone = [perturbation_curves(NET, images, zeros, made, [game], step=20)[0] for game in games]
    rankings = []
    monkeypatch.setattr(maps, "ranking", lambda *a, original=maps.ranking, **k: rankings.append(1) or original(*a, **k))
    model = spy(NET)
    together = perturbation_curves(model, images, zeros, made, games, step=20)
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one.scores, other.scores, atol=1e-6, rtol=0)
    assert len(rankings) == 1
    # per image: itself, three substrates, and four inner points of each game but the one that is asked twice
    assert sum(model.calls) == 5 * (1 + 3 + 4 * 4)


def test_rows_are_folded(images, zeros, made, spy):
    for own, per_image in ((BLACK, 2 * 4 + 2), ({"insertion_substrate": 0.5}, 2 * 4 + 3)):
        model = spy(NET)
        insertion_deletion(model, images, zeros, made, **own, step=20, max_batch=16)
        assert model.calls == [16] * (5 * per_image // 16) + [5 * per_image % 16]


def test_tables():
    x = torch.tensor([[1.0, 2.0, -3.0], [0.5, 0.0, 2.0]])
    model, t = toys.linear([[1.0, 2.0, 3.0]]), torch.zeros(2, dtype=torch.int64)
    own = {"step": 1, "score": "logit", "reduce": "abs_sum"}
    assert insertion(model, x, t, x, substrate=0.0, **own).tolist() == pytest.approx([(-9 - 5 - 2) / 3, (6 + 6.5 + 3.25) / 3])
    assert deletion(model, x, t, x, **own).tolist() == pytest.approx([(-2 + 5 + 1) / 3, (3.25 + 0.5) / 3])
    with pytest.raises(InputError, match="rise_blur"):
        insertion(model, x, t, x, step=1)


@pytest.mark.parametrize("points", [None, "adaptive"])
@pytest.mark.parametrize("name", NAMES)
def test_undefined(name, points, images, zeros, made):
    made[0], made[1], made[2, 0, 0, 0], made[3, 1, 2, 2] = 0, 3, float("nan"), float("inf")
    assert METRICS.bind(name, points=points)(NET, images, zeros, made).isnan().tolist() == [True] * 4 + [False]
    for curve in insertion_deletion_curves(NET, images, zeros, made, points=points):
        assert curve.scores.isnan().all(dim=1).tolist() == curve.error.isnan().tolist() == [True] * 4 + [False]


def test_refusals(images, zeros, made):
    for own, text in [
        ({"step": 0}, "step=0"),
        ({"step": 100}, "step=100"),
        ({"step": True}, "step=True"),
        ({"points": 2}, "points=2"),
        ({"points": 102}, "points=102"),
        ({"points": "all"}, "points='all'"),
        ({"step": 5, "points": 5}, "one of them"),
        ({"points": "adaptive", "tolerance": -1.0}, "tolerance=-1"),
        ({"points": "adaptive", "max_points": 16}, "max_points=16"),
        ({"reduce": "abs"}, "channel reduction"),
        ({"substrate": "meen"}, "did you mean 'mean'"),
        ({"substrate": "blck"}, "did you mean 'black'"),
        ({"substrate": float("nan")}, "finite"),
        ({"substrate": {"rise_blur": {"sigma": 0}}}, "sigma=0"),
        ({"substrate": {"rise_blur": {"size": 4}}}, "size=4"),
        ({"substrate": {"rise_blur": {"radius": 4}}}, "radius"),
    ]:
        with pytest.raises(ConfigError, match=text):
            insertion(NET, images, zeros, made, **own)
    with pytest.raises(InputError, match="shape of the inputs"):
        insertion(NET, images, zeros, made[:, :1])
    with pytest.raises(InputError, match="targets"):
        deletion(NET, images, zeros[:2], made)
    with pytest.raises(ConfigError, match="game"):
        perturbation_curves(NET, images, zeros, made, [("removal", "black")])
    with pytest.raises(ConfigError, match="games"):
        perturbation_curves(NET, images, zeros, made, [])


def test_registered(images, zeros, made):
    case = {"model": NET, "inputs": images, "targets": zeros, "attributions": made}
    both = METRICS.ask("insertion", case) - METRICS.ask("deletion", case)
    torch.testing.assert_close(METRICS.ask("insertion_deletion", case), both)
