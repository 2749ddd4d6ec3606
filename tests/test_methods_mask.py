"""Meaningful perturbation: FIDELITY 6.2, TV-24, a plain loop over images, cells and steps, and where the search starts."""

import math

import pytest
import torch

from xai_lib import METHODS, baselines, compute, maps, toys
from xai_lib.errors import ConfigError, InputError
from xai_lib.methods import mask as module

PLAIN = {"tv": 0.0, "mask_blur": 0.0, "jitter": 1, "baseline": "black", "score": "logit", "initial": "none"}


def run(model, x, target=0, **own):
    return METHODS.bind("meaningful_perturbation", **own)(model, x, torch.full((len(x),), target))


def seeded(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("initial", ["none", "circle"])
@pytest.mark.parametrize("l1", [0.1, 0.35])
def test_tv_24(l1, initial):
    """f = sum w x m, null 0, no TV: what is worth more than l1 is deleted, all else stays."""
    x, w = seeded(3, 1, 5, 6) * 0.8 + 0.2, 2 * seeded(30, seed=1) - 1
    made = run(toys.linear(w[None]), x, l1=l1, iterations=150, mask_size=5, **{**PLAIN, "initial": initial})
    worth = w.reshape(5, 6) * x[:, 0]
    assert 0.05 < (worth > l1).float().mean() < 0.6
    assert torch.equal(maps.reduce(made), (worth > l1).float())


def test_a_coarse_mask_deletes_whole_cells_by_their_sum():
    """4 cells of 3 x 3 pixels and 2 channels; the sums of w x are 0.9, 0.1, -0.5 and 0.3."""
    cells = torch.tensor([[0.9, 0.1], [-0.5, 0.3]])
    w = (cells / 18).repeat_interleave(3, 0).repeat_interleave(3, 1)[None].expand(2, 6, 6)
    made = run(toys.linear(w.reshape(1, -1)), torch.ones(1, 2, 6, 6), l1=0.2, iterations=60, mask_size=2, **PLAIN)
    expected = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat_interleave(3, 0).repeat_interleave(3, 1)
    assert torch.equal(made[0], expected.expand(2, 6, 6) / 2)


def slow(model, x, target, *, iterations, rate, l1, tv, beta, null, size, blur, many, seed, score):
    """The objective written out for one image and differentiated as a whole, minimised by PyTorch's Adam."""
    height, width = x.shape[2:]
    cells = torch.zeros(1, 1, round(size * height / min(height, width)), round(size * width / min(height, width))).double()
    cells.requires_grad_(True)
    optimiser = torch.optim.Adam([cells], lr=rate)
    moves = module._moves(x, iterations, many, seed)[0]

    def full(deleted):
        large = torch.nn.functional.interpolate(deleted, (height, width), mode="nearest")
        return baselines.blur(large, sigma=blur) if blur else large

    for step in range(iterations):
        other = null(step)
        down, right = moves[step].tolist()
        v = [min(max(i + down, 0), height - 1) for i in range(height)]
        u = [min(max(i + right, 0), width - 1) for i in range(width)]
        picture, empty = x[:, :, v][:, :, :, u], other[:, :, v][:, :, :, u]
        optimiser.zero_grad()
        m = 1 - full(cells)
        logits = model(m * picture + (1 - m) * empty)
        value = logits[0, target] if score == "logit" else logits.softmax(1)[0, target]
        loss = value + l1 * cells.sum()
        plane = cells[0, 0]
        for i in range(plane.shape[0]):
            for j in range(plane.shape[1]):
                below = plane[i + 1, j] - plane[i, j] if i + 1 < plane.shape[0] else torch.zeros(())
                beside = plane[i, j + 1] - plane[i, j] if j + 1 < plane.shape[1] else torch.zeros(())
                length = below**2 + beside**2
                if length > 1e-10:
                    loss = loss + tv * length ** (beta / 2)
        loss.backward()
        optimiser.step()
        cells.data.clamp_(0, 1)
    return full(cells.detach())[:, 0]


@pytest.mark.parametrize(
    ("shape", "size", "blur", "many", "baseline", "score", "beta"),
    [
        ((6, 6), 6, 0.0, 1, {"blur": {"sigma": 2.0}}, "logit", 3.0),
        ((8, 12), 4, 0.8, 4, {"blur": {"sigma": 2.0}}, "prob", 3.0),
        ((9, 7), 3, 1.5, 3, "uniform", "prob", 2.0),
        ((8, 8), 5, 0.5, 2, "white", "logit", 1.5),
    ],
)
def test_a_loop_agrees(shape, size, blur, many, baseline, score, beta):
    x, inner, outer = (
        seeded(2, 3, *shape).double(),
        seeded(3 * math.prod(shape), 6, seed=1).double(),
        seeded(6, 4, seed=2).double(),
    )
    model = toys.Formula(lambda points: (points.flatten(1) @ (inner - inner.mean(0)) / 3).tanh() @ (4 * outer - 2))
    own = {"iterations": 9, "l1": 2e-3, "tv": 5e-3, "beta": beta, "seed": 4, "score": score}
    made = maps.reduce(run(model, x, 1, mask_size=size, mask_blur=blur, jitter=many, baseline=baseline, initial="none", **own))
    for i in range(2):
        image = x[i : i + 1]
        expected = slow(
            model, image, 1, rate=0.1, null=lambda t, image=image: baselines.draw(baseline, image, t, seed=4),
            size=size, blur=blur, many=many, **own,
        )  # fmt: skip
        torch.testing.assert_close(made[i : i + 1], expected)
    assert made.std() > 0.05


@pytest.mark.parametrize("null", [0.0, 0.25])
def test_the_search_starts_from_the_smallest_disc_that_suppresses_the_score(null):
    """f = mean inside a square of 9 x 9 of 32 x 32: each disc tried in a loop, with what it leaves."""
    square = torch.zeros(32, 32, dtype=torch.bool)
    square[12:21, 11:20] = True
    model, x = toys.planted(square), torch.ones(1, 1, 32, 32).double()
    own = {**PLAIN, "initial": "circle", "mask_size": 32, "iterations": 1, "learning_rate": 1e-12}
    own["baseline"] = {"constant": {"value": null}}
    made = maps.reduce(run(model, x, **own))[0]
    v, u = torch.meshgrid(*2 * [torch.arange(32.0).double() - 15.5], indexing="ij")
    left, discs = [], []
    for radius in range(5, 175, 5):
        disc = (v**2 + u**2 <= (radius * 32 / 224) ** 2).double()
        discs.append(baselines.blur(disc[None, None], sigma=10 * 32 / 224)[0, 0])
        left.append(float(model((1 - (1 - null) * discs[-1])[None, None])[0, 0]))
    enough = [one - left[-1] <= 0.01 * (1 - left[-1]) for one in left]
    chosen = enough.index(True)
    assert 3 < chosen < 25
    torch.testing.assert_close(made, discs[chosen], atol=1e-9, rtol=0)


@pytest.mark.parametrize("change", [lambda x: -x.flatten(1).mean(1), lambda x: 0 * x.flatten(1).mean(1) + 0.7])
def test_nothing_is_deleted_where_deletion_takes_nothing_away(change):
    assert not run(toys.Formula(change), seeded(2, 3, 16, 16) + 0.1, iterations=5, baseline="black").any()


def test_what_matters_is_deleted_and_little_else():
    square = torch.zeros(32, 32, dtype=torch.bool)
    square[4:12, 18:28] = True
    own = {"baseline": "black", "score": "logit", "l1": 1e-3, "iterations": 200}
    for initial in ("circle", "none"):
        made = maps.reduce(run(toys.planted(square), torch.ones(1, 3, 32, 32) / 3, initial=initial, **own))[0]
        assert made[square].mean() > 0.85
        assert made[20:, :12].max() < 0.05


def test_the_roughness_of_two_cells():
    """|a - b|^beta has the slope beta |a - b|^(beta - 1); the corner of three cells counts both differences once."""
    for beta in (1.0, 2.0, 3.0):
        slope = module._roughness_slope(torch.tensor([[[0.2, 0.7]]]).double(), beta)
        assert slope.flatten().tolist() == pytest.approx([-beta * 0.5 ** (beta - 1), beta * 0.5 ** (beta - 1)])
    corner = module._roughness_slope(torch.tensor([[[0.0, 3.0], [4.0, 0.0]]]).double(), 1.0)
    assert corner.flatten().tolist() == pytest.approx([-0.6 - 0.8, 0.6 + 1, 0.8 + 1, -2])
    assert not module._roughness_slope(torch.full((2, 3, 4), 0.3).double(), 1.0).any()


def test_a_smoother_mask_for_more_roughness_weight():
    def roughness(tv):
        made = maps.reduce(run(toys.TinyNet(), seeded(1, 3, 24, 24), mask_blur=0.0, tv=tv, iterations=40))[0]
        return float(made.diff(dim=0).abs().mean() + made.diff(dim=1).abs().mean())

    assert roughness(1.0) < 0.5 * roughness(0.0)


@pytest.mark.parametrize(("shape", "size", "sigma"), [((9, 9), 4, 0.0), ((12, 8), 4, 1.3), ((7, 10), 7, 3.0)])
def test_enlarging_is_nearest_then_gaussian(shape, size, sigma):
    down, across = module._enlarging(torch.zeros(1, 3, *shape), size, sigma)
    cells = seeded(2, down.shape[1], across.shape[1]).double()
    large = torch.nn.functional.interpolate(cells[:, None], shape, mode="nearest")
    expected = baselines.blur(large, sigma=sigma) if sigma else large
    torch.testing.assert_close(down @ cells @ across.mT, expected[:, 0])
    assert down.min() >= 0


@pytest.mark.parametrize(
    ("side", "cells", "places"), [(224, 28, 4), (227, 28, 4), (128, 16, 2), (32, 14, 1), (28, 14, 1), (8, 8, 1)]
)
@pytest.mark.slow
def test_defaults_follow_the_size_of_the_picture(side, cells, places):
    x = torch.zeros(1, 1, side, side)
    assert module._enlarging(x, None, 0.0)[0].shape == (side, cells)
    assert len(module._moves(x, 200, None, 0).unique()) == places
    if side > 100:
        middle, place = module._enlarging(x, side, None)[0][:, side // 2], torch.arange(side) - side // 2
        assert float((middle * place**2).sum().sqrt()) == pytest.approx(5 * side / 224, rel=0.03)


def test_shifts_are_around_0_and_belong_to_image_and_seed():
    x = seeded(3, 1, 6, 6)
    moves = module._moves(x, 300, 4, 0)
    assert [moves[..., axis].unique().tolist() for axis in (0, 1)] == [[-2, -1, 0, 1]] * 2
    assert torch.equal(moves[1:2], module._moves(x[1:2], 300, 4, 0))
    assert torch.equal(moves[:, :50], module._moves(x, 50, 4, 0))
    for other in (module._moves(x, 300, 4, 1), moves.flip(0)):
        assert not torch.equal(moves, other)
    assert not module._moves(x, 300, 1, 0).any()


def test_a_moved_picture_repeats_its_edges():
    pictures = seeded(2, 3, 5, 6)
    made = module._moved(pictures, torch.tensor([[2, -1], [-3, 4]]))
    padded = torch.nn.functional.pad(pictures, (4, 4, 4, 4), mode="replicate")
    assert torch.equal(made[0], padded[0, :, 6:11, 3:9])
    assert torch.equal(made[1], padded[1, :, 1:6, 8:14])


def test_company_and_chunks_change_nothing_over_many_iterations():
    x, model = seeded(3, 3, 16, 16).double(), toys.TinyNet(seed=1).double()
    own = {"iterations": 40, "jitter": 3, "baseline": "uniform"}
    made = run(model, x, 1, **own)
    alone = torch.cat([run(model, x[i : i + 1], 1, **own) for i in (2, 0, 1)])[[1, 2, 0]]
    torch.testing.assert_close(made, alone)
    torch.testing.assert_close(made, run(model, x, 1, max_batch=2, **own))
    assert not torch.allclose(made, run(model, x, 1, seed=1, **own))


def test_a_broken_picture_spoils_no_other():
    """sqrt has an infinite slope at 0: the first picture's mask is lost, the second's is what it is alone."""
    model = toys.Formula(lambda x: x.flatten(1).sum(1).sqrt())
    x = torch.stack([torch.zeros(1, 4, 4), seeded(1, 4, 4)])
    own = {"score": "logit", "iterations": 6, "initial": "none", "baseline": "black"}
    made = run(model, x, **own)
    assert maps.flags(made) == ["nonfinite", ""]
    torch.testing.assert_close(made[1:], run(model, x[1:], **own))


def test_never_more_rows_than_max_batch_and_the_rows_that_are_promised(spy):
    x = seeded(3, 3, 10, 10)
    for initial, rows in (("circle", 3 * (35 + 6)), ("none", 3 * 6)):
        for most in (1, 2, 8):
            model = spy(toys.TinyNet())
            run(model, x, iterations=6, initial=initial, max_batch=most)
            assert max(model.calls) <= most
            assert sum(model.calls) == rows


def test_the_score_falls():
    x, model = seeded(3, 3, 20, 20), toys.TinyNet(seed=2)
    targets = model(x).argmax(1)
    made = METHODS.bind("meaningful_perturbation", iterations=60, jitter=1, initial="none")(model, x, targets)
    share = maps.reduce(made)[:, None]
    after = x + share * (baselines.blur(x) - x)
    before, then = (compute.scores(model, points, targets, score="prob") for points in (x, after))
    assert (then < before).all()
    assert share.min() >= 0
    assert share.max() <= 1 + 1e-6


def test_bad_requests_are_refused():
    x = seeded(1, 3, 6, 8)
    wrong = [
        ({"iterations": 0}, "iterations=0: expected an integer of at least 1"),
        ({"iterations": 2.0}, "iterations=2.0"),
        ({"learning_rate": 0}, "learning_rate=0, beta=3.0: expected numbers above 0"),
        ({"beta": -1}, "beta=-1"),
        ({"l1": -1}, "l1=-1, tv=0.01: expected weights of at least 0"),
        ({"tv": math.nan}, "tv=nan"),
        ({"mask_size": 7}, "mask_size=7: expected whole cells from 1 to the shorter side, 6"),
        ({"mask_size": 0}, "mask_size=0"),
        ({"mask_blur": -0.1}, "mask_blur=-0.1: expected pixels, at least 0"),
        ({"jitter": 0}, "jitter=0: expected a whole number of places of at least 1"),
        ({"initial": "square"}, "initial='square': expected 'circle' or 'none'"),
    ]
    for own, message in wrong:
        with pytest.raises(ConfigError, match=message):
            run(toys.TinyNet(), x, **own)
    with pytest.raises(InputError, match=r"meaningful_perturbation: expected images \(n, c, h, w\), got shape \(1, 9\)"):
        run(toys.mean_pixel(), torch.ones(1, 9))
