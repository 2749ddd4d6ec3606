"""Faithfulness estimate and monotonicity: FIDELITY TV-33d, TV-33e, slow twins, Quantus, company."""

import math
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr

from xai_lib import METRICS, toys
from xai_lib.errors import ConfigError, InputError
from xai_lib.metrics.faithfulness import faithfulness_estimate, monotonicity

NET = toys.TinyNet()
X = torch.tensor([[[[1.0, 1.1], [1.2, 1.3]]]], dtype=torch.float64)
W = torch.tensor([[[[4.0, 3.0], [2.0, 1.0]]]], dtype=torch.float64)
LINEAR = toys.linear(W.reshape(1, 4))
ZERO = torch.zeros(1, dtype=torch.int64)
PLAIN = {"features_in_step": 1, "score": "logit"}
BOTH = ["faithfulness_estimate", "monotonicity"]


@pytest.fixture
def maps(images):
    return torch.randn(images.shape, generator=torch.Generator().manual_seed(2))


def prob(model, x, t):
    return model(x).softmax(1)[0, t].item()


def slow_faithfulness(model, x, t, attribution, size, correlate):
    values = attribution.sum(0).flatten().tolist()
    order = sorted(range(len(values)), key=lambda i: -values[i])
    sums, drops = [], []
    for start in range(0, len(order), size):
        group = order[start : start + size]
        without = x.clone()
        for i in group:
            without[:, :, i // x.shape[3], i % x.shape[3]] = 0.25
        sums.append(sum(values[i] for i in group))
        drops.append(prob(model, x, t) - prob(model, without, t))
    return correlate(sums, drops)[0]


def slow_monotonicity(model, x, t, attribution, size):
    values = attribution.sum(0).abs().flatten().tolist()
    order = sorted(range(len(values)), key=lambda i: values[i])
    image = torch.zeros_like(x)
    curve = [prob(model, image, t)]
    for start in range(0, len(order), size):
        for i in order[start : start + size]:
            image[:, :, i // x.shape[3], i % x.shape[3]] = x[:, :, i // x.shape[3], i % x.shape[3]]
        curve.append(prob(model, image, t))
    steps = [b - a >= -1e-6 for a, b in pairwise(curve)]
    return sum(steps) / len(steps)


def test_faithful_on_a_linear_model():
    """TV-33d: exact attributions correlate perfectly when features go to 0, and -.67577 when to the image's minimum."""
    assert faithfulness_estimate(LINEAR, X, ZERO, W * X, **PLAIN).item() == pytest.approx(1)
    lowest = {"baseline": lambda x: x.amin(dim=(1, 2, 3), keepdim=True).expand_as(x)}
    assert faithfulness_estimate(LINEAR, X, ZERO, W * X, **PLAIN, **lowest).item() == pytest.approx(
        -0.6757717, abs=2e-6
    )  # published in float32
    assert faithfulness_estimate(LINEAR, X, ZERO, -W * X, **PLAIN).item() == pytest.approx(-1)


def test_replacements_and_correlations():
    mean = faithfulness_estimate(LINEAR, X, ZERO, W * X, **PLAIN, baseline="mean").item()
    drops = W.flatten() * (X.flatten() - X.mean())
    assert mean == pytest.approx(np.corrcoef((W * X).flatten(), drops)[0, 1])
    named = {"baseline": {"average": {"per": "image"}}}
    assert faithfulness_estimate(LINEAR, X, ZERO, W * X, **PLAIN, **named).item() == mean
    ranked = faithfulness_estimate(LINEAR, X, ZERO, W * X, **PLAIN, baseline="mean", correlation="spearman").item()
    assert ranked == pytest.approx(spearmanr((W * X).flatten(), drops)[0])


@pytest.mark.parametrize(("size", "correlation"), [(7, "pearson"), (20, "spearman")])
def test_faithfulness_slow_twin(size, correlation, images, zeros, maps):
    function = {"pearson": pearsonr, "spearman": spearmanr}[correlation]
    x, model, a = images.double(), toys.TinyNet().double(), maps.double()
    expected = [slow_faithfulness(model, x[i : i + 1], 0, a[i], size, function) for i in range(5)]
    found = faithfulness_estimate(model, x, zeros, a, features_in_step=size, baseline=0.25, correlation=correlation)
    assert found.tolist() == pytest.approx(expected, abs=1e-9)


def test_groups_of_channel_values(images, zeros, maps):
    """Channelwise: a linear model is faithful to its own products only value by value."""
    w = torch.randn(1, 300, generator=torch.Generator().manual_seed(4))
    exact = (w * images.flatten(1)).reshape(images.shape)
    made = faithfulness_estimate(toys.linear(w), images, zeros, exact, **PLAIN, channelwise=True)
    torch.testing.assert_close(made, torch.ones(5), atol=1e-5, rtol=0)


def test_agrees_with_quantus_where_quantus_is_right(images, zeros, maps):
    """Fill value 0.0, no normalisation, no absolute value: Quantus removes channel values, so `channelwise=True`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import quantus

        peer = quantus.FaithfulnessEstimate(
            features_in_step=10, perturb_baseline=0.0, abs=False, normalise=False, disable_warnings=True
        )
        expected = peer(NET, images.numpy(), zeros.numpy(), a_batch=maps.numpy(), softmax=True)
    found = faithfulness_estimate(NET, images, zeros, maps, features_in_step=10, channelwise=True)
    assert found.tolist() == pytest.approx(expected, abs=2e-4)  # its probabilities are float32


def test_monotone_or_not():
    """TV-33e: positive contributions never lower the score; the negated model lowers it at every step."""
    negated = toys.linear(-W.reshape(1, 4))
    for strict in (False, True):
        assert monotonicity(LINEAR, X, ZERO, W * X, **PLAIN, strict=strict).item() == 1
        assert monotonicity(negated, X, ZERO, -W * X, **PLAIN, strict=strict).item() == 0
    mixed = toys.linear([[1.0, -2.0, 3.0, 4.0]])
    assert monotonicity(mixed, X, ZERO, W * X, **PLAIN).item() == 0.75
    assert monotonicity(mixed, X, ZERO, W * X, **PLAIN, strict=True).item() == 0


def test_the_order_is_that_of_the_absolute_value():
    """Contributions put back as +1, -2, +3: the second step falls; in pairs the first does (-1), the second not (+3)."""
    model, x = toys.linear([[1.0, -2.0, 3.0]]), torch.ones(1, 3)
    found = monotonicity(model, x, ZERO, torch.tensor([[1.0, -2.0, 3.0]]), **PLAIN)
    assert found.item() == pytest.approx(2 / 3)
    paired = monotonicity(model, x, ZERO, torch.tensor([[1.0, -2.0, 3.0]]), features_in_step=2, score="logit")
    assert paired.item() == 0.5
    fallen = monotonicity(model, x, ZERO, torch.tensor([[1.0, -2.0, 3.0]]), **PLAIN, tolerance=2.5)
    assert fallen.item() == 1


@pytest.mark.parametrize("size", [7, 25])
def test_monotonicity_slow_twin(size, images, zeros, maps):
    x, model, a = images.double(), toys.TinyNet().double(), maps.double()
    expected = [slow_monotonicity(model, x[i : i + 1], 0, a[i], size) for i in range(5)]
    assert 0 < min(expected) < 1
    assert monotonicity(model, x, zeros, a, features_in_step=size).tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", BOTH)
def test_order_company_batch_size_and_scale_change_nothing(name, images, zeros, maps):
    metric = METRICS.bind(name, features_in_step=7, baseline="uniform")
    maps[2, :, :5] = 0  # ties
    expected = metric(NET, images, zeros, maps)
    order = torch.tensor([3, 0, 4, 2, 1])
    torch.testing.assert_close(metric(NET, images[order], zeros, maps[order]), expected[order], atol=1e-4, rtol=0)
    torch.testing.assert_close(metric(NET, images[2:3], zeros[2:3], maps[2:3]), expected[2:3], atol=1e-4, rtol=0)
    untied = [0, 1, 3, 4]
    torch.testing.assert_close(metric(NET, images, zeros, 1000 * maps)[untied], expected[untied], atol=1e-4, rtol=0)
    for size in (1, 32):
        torch.testing.assert_close(metric(NET, images, zeros, maps, max_batch=size), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", BOTH)
def test_undefined(name, images, zeros, maps):
    maps[0], maps[1], maps[2, 0, 0, 0] = 0, 3, float("nan")
    assert METRICS.bind(name, features_in_step=7)(NET, images, zeros, maps).isnan().tolist() == [True] * 3 + [False] * 2


@pytest.mark.parametrize("correlation", ["pearson", "spearman"])
def test_a_map_that_holds_infinity_is_undefined_without_a_warning(correlation, images, zeros, maps):
    own = {"features_in_step": 7, "correlation": correlation}
    expected = faithfulness_estimate(NET, images, zeros, maps, **own)
    maps[0, 1, 2, 3], maps[1, 0, 0, 0], maps[2, 0, 5, 5], maps[2, 0, 6, 6] = math.inf, -math.inf, math.inf, -math.inf
    found = faithfulness_estimate(NET, images, zeros, maps, **own)
    assert found.isnan().tolist() == [True] * 3 + [False] * 2
    assert torch.equal(found[3:], expected[3:])


def test_undefined_where_the_score_never_changes(images, zeros, maps):
    assert faithfulness_estimate(toys.constant(), images, zeros, maps, features_in_step=7).isnan().all()
    assert monotonicity(toys.constant(), images, zeros, maps, features_in_step=7).tolist() == [1.0] * 5
    assert faithfulness_estimate(NET, images, zeros, maps, features_in_step=100).isnan().all()  # one group


@pytest.mark.parametrize("name", BOTH)
def test_refusals(name, images, zeros, maps):
    metric = METRICS[name].function
    with pytest.raises(ConfigError, match="features_in_step=0"):
        metric(NET, images, zeros, maps, features_in_step=0)
    with pytest.raises(InputError, match="shape of the inputs"):
        metric(NET, images, zeros, maps[:, :1])
    with pytest.raises(ConfigError, match="baseline"):
        metric(NET, images, zeros, maps, baseline="mena")
    with pytest.raises(ConfigError, match="correlation"):
        faithfulness_estimate(NET, images, zeros, maps, correlation="kendall")


def test_rows_are_folded(images, zeros, maps, spy):
    model = spy(NET)
    faithfulness_estimate(model, images, zeros, maps, features_in_step=25, max_batch=16)
    assert model.calls == [5, 16, 4]
    model = spy(NET)
    monotonicity(model, images, zeros, maps, features_in_step=25, max_batch=16)
    assert model.calls == [16, 9]
    assert math.prod(images.shape) == 5 * 300
