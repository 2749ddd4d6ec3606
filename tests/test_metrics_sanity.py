"""Model parameter randomisation: what must not change, what must, the table, the floor, the model put back."""

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from xai_lib import METHODS, METRICS, hooks, toys
from xai_lib.errors import ConfigError, ModelError
from xai_lib.metrics.sanity import model_parameter_randomisation, randomisation_floor, randomisation_table

GRADIENT = METHODS.bind("gradient")
EDGES = METHODS.bind("edge_detector")


@pytest.fixture
def net():
    return toys.TinyNet(seed=3)


def test_an_edge_detector_passes_for_unchanged(net, images, zeros):
    """TV-39: equal maps and monotone transforms correlate with 1, whatever is randomised."""
    names, table = randomisation_table(net, images, zeros, EDGES(net, images, zeros), EDGES)
    assert names == ("head", "conv2", "conv1")
    torch.testing.assert_close(table, torch.ones(3, 5))
    cubed = EDGES(net, images, zeros).sum(1, keepdim=True).expand(-1, 3, -1, -1) ** 3
    assert model_parameter_randomisation(net, images, zeros, cubed, EDGES).tolist() == pytest.approx([1.0] * 5)


def test_sign(images, zeros, net):
    """TV-1: values that swap sign are opposite when signed and equal when absolute."""
    x, t = torch.tensor([[-3.0, -1.0, 2.0]]), zeros[:1]
    model = nn.Sequential(nn.Linear(3, 2)).requires_grad_(False).eval()

    def flips(model, inputs, targets):
        return -inputs

    own = {"stages": 1}
    assert model_parameter_randomisation(model, x, t, x, flips, **own).item() == pytest.approx(-1)
    assert model_parameter_randomisation(model, x, t, x, flips, **own, absolute=True).item() == pytest.approx(1)


@pytest.mark.parametrize("order", ["cascading", "independent"])
def test_slow_twin(order, net, images, zeros):
    given = GRADIENT(net, images, zeros)
    _, table = randomisation_table(net, images, zeros, given, GRADIENT, order=order, seed=5)
    layers = ["head", "conv2", "conv1"]
    for stage in range(3):
        chosen = layers[: stage + 1] if order == "cascading" else [layers[stage]]
        with hooks.randomised(net, chosen, 5):
            again = GRADIENT(net, images, zeros)
        expected = [spearmanr(a.sum(0).flatten(), b.sum(0).flatten())[0] for a, b in zip(given, again, strict=True)]
        assert table[stage].tolist() == pytest.approx(expected, abs=1e-6)
    assert not torch.allclose(table[0], table[2])
    found = model_parameter_randomisation(net, images, zeros, given, GRADIENT, order=order, seed=5)
    torch.testing.assert_close(found, table.mean(0))


def test_layers_of_equal_shape_get_their_own_weights(zeros):
    """The defect of Quantus (D20) in our own words: twin branches must differ after randomisation."""
    twins = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)).requires_grad_(False).eval()
    seen = []

    def watch(model, inputs, targets):
        seen.append((model[0].weight.clone(), model[1].weight.clone()))
        return inputs * model[0].weight.sum(0)

    x = torch.rand(2, 4, generator=torch.Generator().manual_seed(0))
    randomisation_table(twins, x, zeros[:2], None, watch, stages=1)
    assert not torch.equal(*seen[1])


def test_the_model_is_put_back(net, images, zeros):
    before = {k: v.clone() for k, v in net.state_dict().items()}
    state = torch.random.get_rng_state()
    model_parameter_randomisation(net, images, zeros, images, GRADIENT)
    randomisation_floor(net, images, zeros, GRADIENT)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())


def test_floor(net, images, zeros):
    """Absolute maps of an edge detector agree perfectly though the models share nothing; gradients do not."""
    assert randomisation_floor(net, images, zeros, EDGES).tolist() == pytest.approx([1.0] * 5)
    signed = randomisation_floor(net, images, zeros, GRADIENT)
    assert signed.abs().max() < 0.95
    assert not torch.equal(signed, randomisation_floor(net, images, zeros, GRADIENT, seed=1))
    assert torch.equal(signed, randomisation_floor(net, images, zeros, GRADIENT))


def test_order_company_scale_and_batch_size_change_nothing(net, images, zeros):
    given = GRADIENT(net, images, zeros)
    metric = METRICS.bind("model_parameter_randomisation", stages=2)
    expected = metric(net, images, zeros, given, GRADIENT)
    order = torch.tensor([3, 0, 4, 2, 1])
    torch.testing.assert_close(metric(net, images[order], zeros, given[order], GRADIENT), expected[order], atol=1e-4, rtol=0)
    torch.testing.assert_close(metric(net, images, zeros, 1000 * given, GRADIENT), expected, atol=1e-4, rtol=0)
    for size in (1, 32):
        torch.testing.assert_close(metric(net, images, zeros, given, GRADIENT, max_batch=size), expected, atol=1e-4, rtol=0)


def test_undefined(net, images, zeros):
    given = GRADIENT(net, images, zeros)
    given[0], given[1], given[2, 0, 0, 0] = 0, 2, float("nan")
    found = model_parameter_randomisation(net, images, zeros, given, GRADIENT)
    assert found.isnan().tolist() == [True] * 3 + [False] * 2


def test_undefined_stages_are_left_out(net, images, zeros):
    calls = []

    def dies_once(model, inputs, targets):
        calls.append(1)
        return inputs * (len(calls) > 1)

    _, table = randomisation_table(net, images, zeros, images, dies_once)
    assert table.isnan().tolist() == [[True] * 5, [False] * 5, [False] * 5]
    calls.clear()
    assert model_parameter_randomisation(net, images, zeros, images, dies_once).tolist() == pytest.approx([1.0] * 5)


def test_refusals(net, images, zeros):
    with pytest.raises(ConfigError, match="order"):
        randomisation_table(net, images, zeros, images, GRADIENT, order="bottom_up")
    with pytest.raises(ConfigError, match="k=4"):
        randomisation_table(net, images, zeros, images, GRADIENT, stages=4)
    with pytest.raises(ModelError, match="torch module"):
        randomisation_table(lambda x: x.flatten(1), images, zeros, images, EDGES)
