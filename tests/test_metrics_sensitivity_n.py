"""Sensitivity-n: FIDELITY TV-35, a slow twin, which subsets are drawn, several maps at once, company."""

import numpy as np
import pytest
import torch

from xai_lib import METRICS, baselines, randomness, toys
from xai_lib.errors import ConfigError, InputError
from xai_lib.metrics.sensitivity_n import (
    FRACTIONS,
    sensitivity_n,
    sensitivity_n_curve,
    subset_correlations,
    subset_drops,
)
from xai_lib.models import Normalise

NET = toys.TinyNet()
QUICK = {"fractions": (0.05, 0.3, 0.8), "n_subsets": 12}


class Recorder(torch.nn.Module):
    """Keeps every row that reaches the model."""

    def __init__(self, model):
        super().__init__()
        self.model, self.rows = model, []
        self.eval()

    def forward(self, inputs):
        self.rows += list(inputs.clone())
        return self.model(inputs)


@pytest.fixture
def made(images):
    return torch.randn(images.shape, generator=torch.Generator().manual_seed(2))


def removed(images, metric=sensitivity_n_curve, own=QUICK, **more):
    """(n, f, m, h, w) bool: the pixels that were replaced, all channels of them, in each row that the model saw."""
    recorder = Recorder(NET)
    metric(recorder, images, torch.zeros(len(images), dtype=torch.int64), torch.rand_like(images), baseline=-1.0, **own, **more)
    gone = torch.stack(recorder.rows[len(images) :]) == -1
    assert torch.equal(gone.all(dim=1), gone.any(dim=1))
    return gone.all(dim=1).reshape(len(images), len(own["fractions"]), own["n_subsets"], *images.shape[2:])


def slow_sensitivity(model, x, t, values, fill, fraction, n_subsets, seed):
    size = round(fraction * len(values))
    sums, drops = [], []
    for number in range(n_subsets):
        generator = torch.Generator().manual_seed(randomness.key(seed, "subset", randomness.digest(x), size, number))
        subset = torch.randperm(len(values), generator=generator).tolist()[:size]
        without = x.clone()
        for pixel in subset:
            without[:, pixel // x.shape[2], pixel % x.shape[2]] = fill
        sums.append(sum(values[pixel] for pixel in subset))
        drops.append((model(x[None]) - model(without[None]))[0, t].item())
    return np.corrcoef(sums, drops)[0, 1]


def test_linear_model():
    """TV-35: exact attributions correlate perfectly at every size; the gradient alone, over centred inputs, not at all."""
    generator = torch.Generator().manual_seed(0)
    x, w = torch.randn(2, 1, 1, 20, 20, generator=generator, dtype=torch.float64)
    t = torch.zeros(1, dtype=torch.int64)
    both = sensitivity_n_curve(toys.linear(w.reshape(1, 400)), x, t, torch.stack([w * x, w]), n_subsets=300)
    assert both.shape == (2, 1, 10)
    torch.testing.assert_close(both[0], torch.ones(1, 10, dtype=torch.float64))
    assert both[1].abs().max() < 0.3
    assert abs(both[1].mean().item()) < 0.1
    assert sensitivity_n(toys.linear(w.reshape(1, 400)), x, t, -w * x).item() == pytest.approx(-1)


def test_default_fractions():
    assert len(FRACTIONS) == 10
    assert (FRACTIONS[0], FRACTIONS[-1]) == pytest.approx((0.01, 0.9))
    np.testing.assert_allclose(np.diff(np.log(FRACTIONS)), np.log(90) / 9)


@pytest.mark.parametrize("reduce", ["sum", "sum_abs"])
def test_slow_twin(reduce, images, made):
    x, a, model = images.double(), made.double(), toys.TinyNet().double()
    t = torch.tensor([0, 1, 2, 3, 0])
    own = {"fractions": (0.02, 0.125, 0.7), "n_subsets": 15, "seed": 4, "baseline": 0.3}
    found = sensitivity_n_curve(model, x, t, a, **own, reduce=reduce)
    values = (a.abs() if reduce == "sum_abs" else a).sum(1).flatten(1).tolist()
    expected = [
        [slow_sensitivity(model, x[i], t[i], values[i], 0.3, fraction, 15, 4) for fraction in own["fractions"]]
        for i in range(5)
    ]
    assert found.tolist() == [pytest.approx(row, abs=1e-9) for row in expected]
    mean = sensitivity_n(model, x, t, a, **own, reduce=reduce)
    assert mean.tolist() == pytest.approx(np.mean(expected, axis=1).tolist(), abs=1e-9)


def test_subsets(images):
    """Exactly k pixels with all channels; different; nested; they belong to image, size and seed, and to nothing else."""
    gone = removed(images)
    assert gone.flatten(3).sum(3).unique(dim=0).tolist() == [[[5] * 12, [30] * 12, [80] * 12]]
    flat = gone.flatten(0, 2).flatten(1)
    assert len(flat.unique(dim=0)) == len(flat)
    assert flat[12:24].float().mean(0).std() < 0.2  # of 12 draws of 30 %, 0.13
    assert torch.equal(removed(images[[3]]), gone[[3]])
    assert torch.equal(removed(images, own={"fractions": (0.8,), "n_subsets": 5})[:, 0], gone[:, 2, :5])
    assert torch.equal(removed(images, max_batch=7), gone)
    assert not (removed(images, seed=1) == gone).all(dim=(3, 4)).any()
    with randomness.drawn_as(images + 0.01, [randomness.digest(image) for image in images]):
        assert torch.equal(removed(images + 0.01), gone)


def test_no_number_of_pixels_is_preferred(images):
    share = removed(images, own={"fractions": (0.3,), "n_subsets": 400})[:2].double().mean(dim=(0, 1, 2))
    assert share.mean().item() == pytest.approx(0.3)
    assert (share - 0.3).abs().max() < 5 * (0.3 * 0.7 / 800) ** 0.5


def test_several_maps_at_the_price_of_one(images, zeros, made, spy):
    model = spy(NET)
    several = torch.stack([made, made.abs(), images])
    found = sensitivity_n_curve(model, images, zeros, several, **QUICK, max_batch=50)
    assert model.calls == [5, 50, 50, 50, 30]
    drops = subset_drops(NET, images, zeros, **QUICK)
    assert drops.sizes == (5, 30, 80)
    for one, each in zip(found, several, strict=True):
        torch.testing.assert_close(sensitivity_n_curve(NET, images, zeros, each, **QUICK), one, atol=1e-5, rtol=0)
        torch.testing.assert_close(subset_correlations(drops, images, each), one, atol=1e-5, rtol=0)
    with pytest.raises(InputError, match="same order"):
        subset_correlations(drops, images.flip(0), made)


def test_what_pixels_become(images, zeros, made):
    model = torch.nn.Sequential(Normalise([0.4, 0.5, 0.6], [0.2] * 3), NET).eval()
    colour = torch.tensor([0.4, 0.5, 0.6]).reshape(3, 1, 1)
    named = sensitivity_n(model, images, zeros, made, **QUICK, baseline="mean")
    assert torch.equal(named, sensitivity_n(model, images, zeros, made, **QUICK, baseline=lambda x: colour.expand_as(x)))
    assert not torch.allclose(named, sensitivity_n(model, images, zeros, made, **QUICK))
    black = sensitivity_n(NET, images, zeros, made, **QUICK)
    assert torch.equal(black, sensitivity_n(NET, images, zeros, made, **QUICK, baseline=0.0))


def test_drops_of_a_probability_under_a_random_baseline(images, zeros):
    recorder = Recorder(NET)
    found = subset_drops(recorder, images, zeros, fractions=(0.3,), n_subsets=3, baseline="uniform", score="prob", seed=4)
    seen = torch.stack(recorder.rows[5:]).reshape(5, 3, *images.shape[1:])
    gone = (seen != images[:, None]).all(dim=2, keepdim=True)
    assert gone.sum(dim=(2, 3, 4)).unique().tolist() == [30]
    fill = baselines.draw("uniform", images, seed=4)
    assert torch.equal(seen, torch.where(gone, fill[:, None], images[:, None]))
    expected = NET(images).softmax(1)[:, :1] - NET(seen.flatten(0, 1)).softmax(1)[:, 0].reshape(5, 3)
    torch.testing.assert_close(found.drops[:, 0], expected.double(), atol=1e-6, rtol=0)


def test_order_company_batch_size_and_scale_change_nothing(images, made):
    t = torch.tensor([0, 1, 2, 3, 0])
    metric = METRICS.bind("sensitivity_n", **QUICK, baseline="uniform")
    expected = metric(NET, images, t, made)
    order = torch.tensor([3, 0, 4, 2, 1])
    close = {"atol": 1e-4, "rtol": 0}
    torch.testing.assert_close(metric(NET, images[order], t[order], made[order]), expected[order], **close)
    torch.testing.assert_close(metric(NET, images[2:3], t[2:3], made[2:3]), expected[2:3], **close)
    torch.testing.assert_close(metric(NET, images, t, 1000 * made + 3), expected, **close)
    for size in (1, 64):
        torch.testing.assert_close(metric(NET, images, t, made, max_batch=size), expected, **close)


def test_undefined(images, zeros, made):
    made[0], made[1], made[2, 0, 0, 0], made[3] = 0, 3, float("inf"), 0
    made[3, 0, 0, 0] = 1
    curve = sensitivity_n_curve(NET, images, zeros, made, fractions=(0.01, 0.5), n_subsets=4)
    assert curve.isnan().tolist() == [[True, True]] * 3 + [[True, False], [False, False]]  # no subset of 1 pixel hits the one
    assert sensitivity_n(NET, images, zeros, made, fractions=(0.01, 0.5), n_subsets=4).isnan().tolist() == [True] * 4 + [False]
    assert sensitivity_n(toys.constant(), images, zeros, images, **QUICK).isnan().all()


def test_refusals(images, zeros, made):
    for own, text in [
        ({"fractions": ()}, "empty"),
        ({"fractions": (0.5, 0.004)}, r"fractions \[0.004\] of 100 pixels"),
        ({"fractions": (0.996,)}, "none or all"),
        ({"n_subsets": 1}, "n_subsets=1"),
        ({"n_subsets": 2.5}, "n_subsets=2.5"),
        ({"baseline": "blck"}, "did you mean 'black'"),
        ({"reduce": "abs"}, "channel reduction"),
    ]:
        with pytest.raises(ConfigError, match=text):
            sensitivity_n(NET, images, zeros, made, **QUICK | own)
    with pytest.raises(InputError, match="shape of the inputs"):
        sensitivity_n(NET, images, zeros, made[:, :1])
    with pytest.raises(InputError, match="shape of the inputs"):
        sensitivity_n_curve(NET, images, zeros, made[None, :3])
    with pytest.raises(InputError, match="float tensor"):
        sensitivity_n(NET, images, zeros, made.numpy())


def test_registered(images, zeros, made):
    case = {"model": NET, "inputs": images, "targets": zeros, "attributions": made}
    found = METRICS.ask(METRICS.bind("sensitivity_n", **QUICK), case)
    assert found.shape == (5,)
    assert found.dtype == images.dtype
