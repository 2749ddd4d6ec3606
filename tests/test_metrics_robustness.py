"""Robustness metrics: FIDELITY TV-33a, TV-33b, slow twin, Quantus on the same perturbations, held draws, company."""

import warnings

import numpy as np
import pytest
import torch

from xai_lib import METHODS, METRICS, randomness, toys
from xai_lib.errors import ConfigError, InputError
from xai_lib.metrics.profile import robustness_profile

NET = toys.TinyNet()
FOUR = ["max_sensitivity", "avg_sensitivity", "local_lipschitz_estimate", "relative_output_stability"]
GRADIENT = METHODS.bind("input_x_gradient")
FEW = {"n_samples": 3, "seed": 1}


def weighted(weights):
    w = torch.tensor(weights)
    return lambda model, inputs, targets: w.to(inputs) * inputs


def constant(model, inputs, targets):
    return torch.ones_like(inputs)


@pytest.fixture
def profile(images, zeros):
    return robustness_profile(NET, images, zeros, GRADIENT(NET, images, zeros), GRADIENT, **FEW)


def shifts(image, n_samples, radius, seed):
    """The perturbations of one image, from their definition."""
    for j in range(n_samples):
        own = randomness.key(seed, "robustness", j, randomness.digest(image))
        yield radius * (2 * torch.rand(image.shape, generator=torch.Generator().manual_seed(own)) - 1)


def slow_twin(model, x, t, method, n_samples, radius, seed):
    e, h = method(model, x, t).sum(1), model(x)
    relative, lipschitz, stability = [], [], []
    for d in shifts(x[0], n_samples, radius, seed):
        e2, h2 = method(model, x + d, t).sum(1), model(x + d)
        relative.append((e2 - e).norm() / e.norm())
        lipschitz.append((e2 / e2.abs().max() - e / e.abs().max()).norm() / d.norm())
        if h2.argmax() == h.argmax():
            stability.append(((e2 - e) / e).norm() / (h2 - h).norm())
    mean = sum(relative) / len(relative)
    return [v.item() for v in (max(relative), mean, max(lipschitz), max(stability))]


def test_slow_twin(images, zeros):
    x, model = images.double(), toys.TinyNet().double()
    expected = [slow_twin(model, x[i : i + 1], zeros[:1], GRADIENT, 3, 0.02, 1) for i in range(5)]
    made = robustness_profile(model, x, zeros, None, GRADIENT, **FEW)
    assert list(made) == FOUR
    found = np.array([made[name].tolist() for name in FOUR]).T
    assert found == pytest.approx(np.array(expected), rel=1e-6)


def test_constant_explainer_does_not_move(images, zeros):
    """TV-33a."""
    made = robustness_profile(NET, images, zeros, None, constant, **FEW)
    assert all(made[name].tolist() == [0.0] * 5 for name in FOUR)
    logged = robustness_profile(NET, images, zeros, None, constant, **FEW, log=True)
    assert logged["relative_output_stability"].tolist() == [-float("inf")] * 5


def test_lipschitz_bound_of_a_weighted_input():
    """TV-33b: A = w x moves at most max|w| times as far as x, and gets near it."""
    x, t = torch.tensor([[1.0, 1.1, 1.2, 1.3]], dtype=torch.float64), torch.zeros(1, dtype=torch.int64)
    explain, model = weighted([4.0, 3.0, 2.0, 1.0]), toys.linear([[1.0, 1.0, 1.0, 1.0]])
    own = {"radius": 0.1, "noise": "gaussian", "lipschitz_normalise": "none"}
    made = robustness_profile(model, x, t, None, explain, n_samples=200, **own)
    assert 3.5 < made["local_lipschitz_estimate"].item() <= 4
    few = robustness_profile(model, x, t, None, explain, n_samples=20, **own)
    assert few["local_lipschitz_estimate"] <= made["local_lipschitz_estimate"]  # the first 20 of 200 are the 20


def test_each_metric_is_a_selection_of_the_profile(images, zeros, profile):
    made = GRADIENT(NET, images, zeros)
    for name in FOUR:
        found = METRICS.bind(name, **FEW)(NET, images, zeros, made, GRADIENT)
        assert torch.equal(found, profile[name])
    changed = METRICS.bind("local_lipschitz_estimate", **FEW, normalise="none")(NET, images, zeros, made, GRADIENT)
    assert not torch.allclose(changed, profile["local_lipschitz_estimate"])


def test_the_largest_is_at_least_the_mean(profile):
    assert (profile["max_sensitivity"] > profile["avg_sensitivity"]).all()
    assert (profile["avg_sensitivity"] > 0).all()


def test_order_company_and_batch_size_change_nothing(images, zeros, profile):
    made, order = GRADIENT(NET, images, zeros), torch.tensor([3, 0, 4, 2, 1])
    moved = robustness_profile(NET, images[order], zeros, made[order], GRADIENT, **FEW)
    alone = robustness_profile(NET, images[2:3], zeros[:1], made[2:3], GRADIENT, **FEW)
    small, large = (robustness_profile(NET, images, zeros, made, GRADIENT, **FEW, max_batch=k) for k in (1, 32))
    for name, expected in profile.items():
        near = {"rtol": 1e-3, "atol": 1e-5}
        torch.testing.assert_close(moved[name], expected[order], **near)
        torch.testing.assert_close(alone[name], expected[2:3], **near)
        torch.testing.assert_close(small[name], expected, **near)
        torch.testing.assert_close(large[name], expected, **near)


def test_scale_of_the_explainer(images, zeros, profile):
    thousand = robustness_profile(NET, images, zeros, None, lambda m, x, t: 1000 * GRADIENT(m, x, t), **FEW)
    for name in FOUR:
        torch.testing.assert_close(thousand[name], profile[name], rtol=1e-3, atol=1e-5)
    raw = {"lipschitz_normalise": "none", **FEW}
    one, many = (
        robustness_profile(NET, images, zeros, None, lambda m, x, t, k=k: k * GRADIENT(m, x, t), **raw) for k in (1, 1000)
    )
    torch.testing.assert_close(many["local_lipschitz_estimate"], 1000 * one["local_lipschitz_estimate"], rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", ["multi_baseline_integrated_gradients", "integrated_gradients"])
def test_random_baselines_are_held(name, images, zeros):
    """On a linear model A = w (x - b): with the same b the map moves by w d; with other b by much more."""
    w = torch.rand(300, generator=torch.Generator().manual_seed(0)) + 0.5
    model = toys.linear(w[None])
    own = {"n_baselines": 2} if name.startswith("multi") else {}
    explain = METHODS.bind(name, baseline="uniform", steps=1, **own)
    made = explain(model, images, zeros)
    found = robustness_profile(model, images, zeros, made, explain, n_samples=2, reduce="none")["max_sensitivity"]
    expected = [
        max((w.reshape(3, 10, 10) * d).norm().item() for d in shifts(image, 2, 0.02, 0)) / a.norm().item()
        for image, a in zip(images, made, strict=True)
    ]
    assert found.tolist() == pytest.approx(expected, rel=1e-3)
    assert randomness.digest.__module__ == "xai_lib.randomness"  # put back


def test_random_noise_is_held(images, zeros):
    """Two noise samples make SmoothGrad rough; a millionth of a grey level must not change it."""
    explain = METHODS.bind("smoothgrad", n_samples=2, sigma=0.5)
    found = robustness_profile(NET, images, zeros, None, explain, n_samples=2, radius=1e-6)["max_sensitivity"]
    assert found.max() < 1e-3


def test_undefined(images, zeros):
    given = images.clone()
    given[0], given[1, 0, 0, 0] = 0, float("nan")
    made = robustness_profile(NET, images, zeros, given, weighted(1.0), **FEW)
    for name in FOUR:
        assert made[name].isnan().tolist() == [True, True, False, False, False]


def test_samples_with_another_prediction(images, zeros):
    """Logits (s - c, c - s) with the mean s just above c: some samples change side and are left out, as long as asked."""
    images = images.double()
    edge = images[:1].mean().item() - 1e-4
    model = toys.Formula(lambda x: torch.stack([x.mean((1, 2, 3)) - edge, edge - x.mean((1, 2, 3))], 1))
    explain, kept = weighted(1.0), []
    for d in shifts(images[0], 20, 0.02, 0):
        h, h2 = model(images[:1]), model(images[:1] + d)
        if h.argmax() == h2.argmax():
            e, e2 = images[:1].sum(1), (images[:1] + d).sum(1)
            kept.append((((e2 - e) / e).norm() / (h2 - h).norm().clamp_min(1e-6)).item())
    assert 0 < len(kept) < 20
    x, t = images[:1], zeros[:1]
    found = robustness_profile(model, x, t, None, explain, n_samples=20)["relative_output_stability"].item()
    assert found == pytest.approx(max(kept), rel=1e-6)
    every = robustness_profile(model, x, t, None, explain, n_samples=20, same_prediction=False)
    assert every["relative_output_stability"].item() >= found
    same = lambda x: (x == images[:1]).flatten(1).all(1).double()  # noqa: E731
    never = toys.Formula(lambda x: torch.stack([same(x), torch.full((len(x),), 0.5).double()], 1))
    lost = robustness_profile(never, x, t, None, explain, n_samples=5)
    assert lost["relative_output_stability"].isnan().all()
    assert lost["max_sensitivity"].isfinite().all()


def test_zero_pixels_in_the_division_by_the_map(zeros):
    """e = (0, 1): the zero counts as eps_min."""
    x = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    model = toys.linear([[1.0, 0.0], [0.0, 1.0]])
    (d,) = shifts(x[0], 1, 0.02, 0)
    for eps in (1e-6, 1e-2):
        made = robustness_profile(model, x, zeros[:1] + 1, None, weighted(1.0), n_samples=1, eps_min=eps)
        expected = torch.stack([d[0] / eps, d[1]]).norm() / d.norm()
        assert made["relative_output_stability"].item() == pytest.approx(expected.item(), rel=1e-6)


def test_agrees_with_quantus_on_the_same_perturbations(images, zeros):
    made = GRADIENT(NET, images, zeros)
    queue = [torch.stack([list(shifts(x, 3, 0.02, 1))[j] for x in images]).flatten(1).numpy() for j in range(3)]

    def replay(arr, indices, **_):
        replay.calls += 1
        return arr + queue[(replay.calls - 1) % 3]

    def explain(model, inputs, targets):
        return GRADIENT(model, torch.as_tensor(inputs), torch.as_tensor(targets)).numpy()

    import quantus

    common = {"nr_samples": 3, "normalise": False, "abs": False, "disable_warnings": True}
    peers = {
        "max_sensitivity": quantus.MaxSensitivity,
        "avg_sensitivity": quantus.AvgSensitivity,
        "local_lipschitz_estimate": quantus.LocalLipschitzEstimate,
        "relative_output_stability": quantus.RelativeOutputStability,
    }
    found = robustness_profile(NET, images, zeros, made, GRADIENT, **FEW, reduce="none", lipschitz_normalise="none")
    for name, peer in peers.items():
        replay.calls = 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            metric = peer(**common, return_nan_when_prediction_changes=False)
            metric.perturb_func = replay
            expected = metric(NET, images.numpy(), zeros.numpy(), a_batch=made.numpy(), explain_func=explain)
        assert replay.calls == 3
        assert found[name].tolist() == pytest.approx(list(expected), rel=1e-3), name


def test_memory_is_bounded_and_max_batch_reaches_the_method(images, zeros, spy):
    rows = []

    def explain(model, inputs, targets, *, max_batch=None):
        rows.append((len(inputs), max_batch))
        return inputs

    robustness_profile(NET, images, zeros, images, explain, **FEW, max_batch=4)
    assert rows == [(4, 4), (4, 4), (4, 4), (3, 4)]
    model = spy(NET)
    robustness_profile(model, images, zeros, images, weighted(1.0), **FEW, max_batch=4)
    assert model.calls == [4, 1, 4, 4, 4, 3]


def test_refusals(images, zeros):
    own = {"model": NET, "inputs": images, "targets": zeros, "attributions": images, "method": constant}
    for wrong in ({"n_samples": 0}, {"radius": 0.0}, {"noise": "normal"}, {"normalise": "max"}, {"eps_min": -1.0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            robustness_profile(**own, **wrong)
    with pytest.raises(InputError, match="shape of the inputs"):
        robustness_profile(NET, images, zeros, images[:, :1], constant)
    with pytest.raises(ConfigError, match="did you mean 'gradient'"):
        robustness_profile(NET, images, zeros, images, "gradeint")


def test_global_generators_are_not_moved(images, zeros):
    state = torch.random.get_rng_state()
    robustness_profile(NET, images, zeros, images, constant, **FEW)
    assert torch.equal(state, torch.random.get_rng_state())
