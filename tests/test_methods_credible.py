"""Algorithm 2 of document 001, its readings and controls: FIDELITY 5.6, 5.7, TV-21, TV-22."""

import numpy as np
import pytest
import torch

from xai_lib import METHODS, compute, toys
from xai_lib.desired import desired_baseline
from xai_lib.errors import ConfigError, InputError
from xai_lib.methods import credible
from xai_lib.methods.credible import credible_paths
from xai_lib.validity import READINGS, valid_features

T1 = torch.zeros(1, dtype=torch.int64)


def row(*values):
    return torch.tensor([values], dtype=torch.float64)


def constant(*values):
    return lambda inputs: torch.tensor([values]).to(inputs).expand_as(inputs)


def paths(model, x, baseline, **own):
    return credible_paths(
        model, x, torch.zeros(len(x), dtype=torch.int64), baseline=baseline,
        **{"n_baselines": 1, "steps": 50, "rule": "middle", **own},
    )  # fmt: skip


TV21 = {
    "model": toys.half_square([2.0, 2.0, -2.0, 2.0]),
    "x": row(1, 0.5, 0.5, 0.25),
    "baseline": constant(0.0, 1.0, 0.0, 0.75),
}
TV22 = {"model": toys.linear([[3.0, -2.0, 1.0, -4.0]]), "x": row(0.9, 0.9, 0.1, 0.1), "baseline": constant(0.4, 0.4, 0.6, 0.6)}


@pytest.mark.parametrize(
    ("reading", "expected", "accepted"),
    [("A", (1, 0, -0.25, 0), 0.5), ("B", (1, 0, -0.25, 0), 0.5), ("Arev", (0, 0, 0, 0), 0), ("Brev", (0, -0.75, 0, -0.5), 0.5)],
)
def test_half_squares(reading, expected, accepted):  # TV-21
    found = paths(**TV21, reading=reading)
    np.testing.assert_allclose(found.attributions, [expected], atol=1e-12)
    assert found.accepted.item() == pytest.approx(accepted)


def test_without_the_check_it_is_integrated_gradients_and_complete():  # TV-21
    made = paths(**TV21, check="none").attributions
    np.testing.assert_allclose(made, [(1, -0.75, -0.25, -0.5)], atol=1e-12)
    difference = compute.scores(TV21["model"], TV21["x"], T1) - compute.scores(TV21["model"], row(0, 1, 0, 0.75), T1)
    assert made.sum().item() == pytest.approx(difference.item()) == pytest.approx(-0.5)
    assert paths(**TV21).attributions.sum().item() == pytest.approx(0.75)  # with it, completeness is lost


def test_as_printed_it_is_nan():  # TV-21
    found = paths(**TV21, check="printed")
    assert torch.isnan(found.attributions).all()
    assert found.accepted.item() == 0


@pytest.mark.parametrize(
    ("reading", "expected"), [("A", (1.5, -1, 0, 0)), ("B", (0, 0, 0, 0)), ("Arev", (0, 0, 0, 0)), ("Brev", (0, 0, 0, 0))]
)
def test_linear(reading, expected):  # TV-22: A asks only whether x > x'; the others ask for a strictly larger equal number
    np.testing.assert_allclose(paths(**TV22, reading=reading).attributions, [expected], atol=1e-12)


@pytest.mark.parametrize("rule", ["middle", "gauss_legendre"])
def test_without_the_check_on_black_it_is_integrated_gradients(images, zeros, rule):
    made = METHODS.bind(
        "credible_path_attribution", baseline="black", n_baselines=1, steps=9, rule=rule, check="none", divide="steps"
    )(toys.TinyNet(), images, zeros)
    expected = METHODS.bind("integrated_gradients", steps=9, rule=rule)(toys.TinyNet(), images, zeros)
    torch.testing.assert_close(made, expected, atol=1e-6, rtol=1e-6)


def test_count_and_steps_divide_differently():
    """f rises only beyond one half: of four middles two have a gradient like that at x."""
    model = toys.Formula(lambda x: torch.relu(x.flatten(1).sum(1) - 0.5))
    made = {d: paths(model, row(1.0), "black", steps=4, divide=d).attributions.item() for d in ("count", "steps")}
    assert made == {"count": pytest.approx(1.0), "steps": pytest.approx(0.5)}


def test_a_baseline_that_accepts_nothing_counts_as_zero_or_not_at_all(monkeypatch):
    for empty, expected in (("zero", 0.15), ("skip", 0.3)):
        values = iter((0.2, 0.8))  # under reading A of a linear model a feature is valid where x > x'
        monkeypatch.setattr(credible.baselines, "draw", lambda spec, x, b, seed: torch.full_like(x, next(values)))  # noqa: B023
        found = paths(toys.linear([[1.0]]), row(0.5), "uniform", n_baselines=2, steps=8, empty=empty)
        assert found.attributions.item() == pytest.approx(expected)
        assert found.accepted.tolist() == [[1, 0]]


def slow(model, x, start, reading, positions, divide):
    """Algorithm 2 for one image and one baseline, as it is meant, with loops."""

    def gradient(at):
        at = at.clone().requires_grad_(True)
        return torch.autograd.grad(model(at)[:, 0].sum(), at)[0].flatten()

    rho, total, count = gradient(x), torch.zeros(x.numel(), dtype=x.dtype), torch.zeros(x.numel(), dtype=x.dtype)
    for a in positions:
        at = start + a * (x - start)
        g, way = gradient(at), (x - at).flatten()
        for i in range(x.numel()):
            other = (way[i] * g[i] if reading[0] == "A" else g[i]).item()
            own = rho[i].item()
            same = (own > 0) == (other > 0) and (own < 0) == (other < 0)
            larger = abs(own) < abs(other) if reading.endswith("rev") else abs(own) > abs(other)
            if same and larger:
                total[i] += g[i]
                count[i] += 1
    share = count.clamp_min(1) if divide == "count" else torch.full_like(count, len(positions))
    return ((x - start).flatten() * total / share).reshape(x.shape)


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("divide", ["count", "steps"])
def test_equals_its_slow_twin(images, reading, divide):
    model, x = toys.TinyNet().double(), images[:2, :, :5, :5].double()
    starts = [credible.baselines.draw("uniform", x, b, seed=3) for b in range(2)]
    made = paths(model, x, "uniform", n_baselines=2, steps=9, reading=reading, divide=divide, seed=3, max_batch=3).attributions
    positions = [0.125, 0.375, 0.625, 0.875]  # floor(9 / 2) nodes for each baseline
    for i in range(2):
        one = slice(i, i + 1)
        expected = sum(slow(model, x[one], start[one], reading, positions, divide) for start in starts) / 2
        torch.testing.assert_close(made[one], expected)
    assert made.abs().sum() > 0


def test_positions_are_uniform_and_belong_to_the_image_and_the_baseline(images):
    first, weights = credible._positions(images, 400, "uniform", 1)
    assert weights.sum(1).tolist() == pytest.approx([1.0] * 5)
    assert ((first >= 0) & (first < 1)).all()
    assert first.mean().item() == pytest.approx(0.5, abs=0.03)
    assert first.std().item() == pytest.approx(12**-0.5, abs=0.02)
    assert len({tuple(line) for line in first.tolist()}) == 5
    assert torch.equal(credible._positions(images[2:3], 400, "uniform", 1)[0], first[2:3])
    assert not torch.equal(credible._positions(images, 400, "uniform", 2)[0], first)


def test_baselines_of_one_image_have_positions_of_their_own(images, zeros, monkeypatch):
    seen = []
    inner = credible._positions
    monkeypatch.setattr(credible, "_positions", lambda *a: seen.append(inner(*a)[0]) or inner(*a))
    credible_paths(toys.TinyNet(), images, zeros, baseline="uniform", n_baselines=2, steps=6)
    assert len(seen) == 2
    assert not torch.equal(*seen)


def test_the_random_check_accepts_as_many_features_of_each_node(images, zeros):
    own = {"baseline": "uniform", "n_baselines": 2, "steps": 8}
    real = credible_paths(toys.TinyNet(), images, zeros, **own)
    drawn = credible_paths(toys.TinyNet(), images, zeros, check="random", **own)
    torch.testing.assert_close(drawn.accepted, real.accepted)
    assert 0 < real.accepted.min() <= real.accepted.max() < 1
    assert not torch.allclose(drawn.attributions, real.attributions)
    again = credible_paths(toys.TinyNet(), images[4:], zeros[4:], check="random", **own)
    torch.testing.assert_close(again.attributions, drawn.attributions[4:], atol=1e-5, rtol=1e-4)
    other = credible_paths(toys.TinyNet(), images, zeros, check="random", seed=1, **own)
    assert not torch.equal(other.attributions, drawn.attributions)


def test_desired_baselines_start_from_their_own_blurs(images, zeros):
    search = {"epsilon": 0.05, "max_iterations": 3, "delta": 0.05}
    found = credible_paths(toys.TinyNet(), images, zeros, n_baselines=2, steps=6, sigmas=(22.4, 67.2), **search)
    assert len(found.found) == 2
    for one, sigma in zip(found.found, (1.0, 3.0), strict=True):  # ten pixels instead of 224
        expected = desired_baseline(toys.TinyNet(), images, sigma=sigma, **search)
        torch.testing.assert_close(one.baselines, expected.baselines, atol=1e-5, rtol=1e-4)


def test_variants_share_one_computation(images, zeros, spy):
    own = {"baseline": "uniform", "n_baselines": 2, "steps": 6, "seed": 2}
    variants = {"a": {}, "b": {"reading": "Brev", "empty": "skip"}, "off": {"check": "none", "divide": "steps"}}
    watched = spy(toys.TinyNet())
    together = credible.credible_variants(watched, images, zeros, variants, **own)
    assert sum(watched.calls) == 5 * (1 + 6)
    for label, variant in variants.items():
        alone = credible_paths(toys.TinyNet(), images, zeros, **variant, **own)
        assert torch.equal(together[label].attributions, alone.attributions)
        assert torch.equal(together[label].accepted, alone.accepted)


def test_the_score_decides_the_gradients(images, zeros):
    own = {"baseline": "black", "n_baselines": 1, "steps": 4, "rule": "middle"}
    made = [credible_paths(toys.TinyNet(), images, zeros, score=score, **own).attributions for score in ("logit", "prob")]
    assert not torch.allclose(*made)


def test_zero_gradients_are_never_valid():
    zero, one = torch.zeros(2), torch.ones(2)
    for reading in READINGS:
        assert not valid_features(reading, zero, one, one).any()
        assert not valid_features(reading, one, zero, one).any()
        assert not valid_features(reading, zero, zero, one).any()


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"check": "on"}, "check='on'"),
        ({"reading": "C"}, "reading='C'"),
        ({"divide": "n"}, "divide='n'"),
        ({"empty": "nan"}, "empty='nan'"),
        ({"n_baselines": 0}, "n_baselines=0"),
        ({"n_baselines": 4}, "with 3 sigmas"),
        ({"n_baselines": 3, "steps": 2}, "steps=2"),
        ({"n_baselines": 2, "baseline": "black"}, "same every time"),
        ({"eta": -1.0}, "eta=-1.0"),
        ({"rule": "simpson"}, "integration rule"),
    ],
)
def test_bad_parameters(images, zeros, own, message):
    with pytest.raises(ConfigError, match=message):
        METHODS.bind("credible_path_attribution", **own)(toys.TinyNet(), images, zeros)


def test_a_table_has_no_blur():
    with pytest.raises(InputError, match="expected images"):
        credible_paths(toys.linear([[1.0, 2.0]]), torch.ones(1, 2), T1)
