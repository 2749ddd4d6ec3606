"""Sanity checks: what must not change, what must, the tables, the floors, the strip, permuted labels, the model put back."""

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from xai_lib import METHODS, METRICS, hooks, maps, toys
from xai_lib.errors import ConfigError, InputError, ModelError
from xai_lib.metrics.sanity import (
    data_randomisation,
    model_parameter_randomisation,
    randomisation_floor,
    randomisation_floors,
    randomisation_table,
    randomisation_tables,
    randomised_maps,
)
from xai_lib.similarity import similarity

GRADIENT = METHODS.bind("gradient")
EDGES = METHODS.bind("edge_detector")
FOUR = {
    "signed": "spearman",
    "absolute": {"spearman": {"absolute": True}},
    "ssim": {"ssim": {"sigma": 0.8}},
    "hog": {"hog": {"cell": 3}},
}


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


def counted(method):
    calls = []

    def explain(model, inputs, targets):
        calls.append(len(inputs))
        return method(model, inputs, targets)

    return explain, calls


@pytest.mark.parametrize(("order", "reduce"), [("cascading", "sum"), ("independent", "max_abs")])
def test_several_similarities_share_their_maps(order, reduce, net, images, zeros):
    explain, calls = counted(GRADIENT)
    own = {"order": order, "seed": 5}
    names, tables = randomisation_tables(net, images, zeros, None, explain, similarities=FOUR, reduce=reduce, **own)
    assert calls == [5] * 4  # the trained model and three stages
    assert list(tables) == list(FOUR)
    stages, strip = randomised_maps(net, images, zeros, GRADIENT, **own)
    assert stages == ("trained", *names) == ("trained", "head", "conv2", "conv1")
    assert torch.equal(strip[0], GRADIENT(net, images, zeros))
    reduced = [maps.reduce(attributions, reduce) for attributions in strip]
    for label, spec in FOUR.items():
        assert tables[label].shape == (3, 5)
        expected = torch.stack([similarity(reduced[0], one, spec) for one in reduced[1:]])
        assert tables[label].tolist() == pytest.approx(expected.float(), abs=1e-6)
        alone = randomisation_table(net, images, zeros, strip[0], GRADIENT, similarity=spec, reduce=reduce, **own)
        assert torch.equal(alone[1], tables[label])
    assert len({round(table.mean().item(), 4) for table in tables.values()}) == (4 if reduce == "sum" else 3)
    calls.clear()
    randomisation_tables(net, images, zeros, strip[0], explain, similarities=FOUR, **own)
    assert calls == [5] * 3


def test_the_absolute_flag_is_that_of_the_similarity(net, images, zeros):
    given = GRADIENT(net, images, zeros)
    _, tables = randomisation_tables(net, images, zeros, given, GRADIENT, similarities=FOUR)
    flagged = randomisation_table(net, images, zeros, given, GRADIENT, absolute=True)[1]
    assert torch.equal(flagged, tables["absolute"])
    assert torch.equal(randomisation_table(net, images, zeros, given, GRADIENT)[1], tables["signed"])
    assert not torch.equal(flagged, tables["signed"])
    metric = METRICS.bind("model_parameter_randomisation", similarity=FOUR["ssim"])
    assert metric(net, images, zeros, given, GRADIENT).tolist() == pytest.approx(tables["ssim"].mean(0).tolist())


def test_an_edge_detector_passes_for_unchanged_by_every_similarity(net, images, zeros):
    """TV-39."""
    _, tables = randomisation_tables(net, images, zeros, None, EDGES, similarities=FOUR, stages=2)
    floors = randomisation_floors(net, images, zeros, EDGES, similarities=FOUR)
    for label in FOUR:
        torch.testing.assert_close(tables[label], torch.ones(2, 5))
        torch.testing.assert_close(floors[label], torch.ones(5))


def test_floors_share_their_maps(net, images, zeros):
    explain, calls = counted(GRADIENT)
    floors = randomisation_floors(net, images, zeros, explain, similarities=FOUR, seed=2)
    assert calls == [5] * 2
    for label, spec in FOUR.items():
        assert torch.equal(floors[label], randomisation_floor(net, images, zeros, GRADIENT, similarity=spec, seed=2))
    assert torch.equal(floors["absolute"], randomisation_floor(net, images, zeros, GRADIENT, absolute=True, seed=2))
    largest = randomisation_floor(net, images, zeros, GRADIENT, reduce="max_abs", seed=2)
    positive = METHODS.bind("saliency")
    assert torch.equal(largest, randomisation_floor(net, images, zeros, positive, reduce="max_abs", seed=2))
    assert not torch.equal(largest, floors["absolute"])
    assert len({round(floor.mean().item(), 4) for floor in floors.values()}) == 4


def test_the_strip_of_one_image_shows_what_the_table_compares(net, images, zeros):
    before = {k: v.clone() for k, v in net.state_dict().items()}
    noisy = METHODS.bind("smoothgrad", n_samples=3)
    names, strip = randomised_maps(net, images[2:3], zeros[:1], noisy, stages=2, order="independent", seed=3)
    assert names == ("trained", "head", "conv1")
    assert strip.shape == (3, 1, 3, 10, 10)
    with hooks.randomised(net, ["conv2", "conv1"], 3):
        assert torch.equal(strip[2], noisy(net, images[2:3], zeros[:1]))
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_data_randomisation(images, zeros, net):
    """Linear models: the maps are the weights, whatever the image."""
    one, other = (
        toys.linear([[1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 2.0, 3.0]]),
        toys.linear([[4.0, 3.0, 2.0, 1.0], [1.0, 3.0, 2.0, 4.0]]),
    )
    x, t = torch.rand(2, 4, generator=torch.Generator().manual_seed(0)), zeros[:2]
    assert data_randomisation(one, other, x, t, None, GRADIENT).tolist() == pytest.approx([-1] * 2)
    assert data_randomisation(one, other, x, t, None, GRADIENT, shuffled_targets=t + 1).tolist() == pytest.approx([0.8] * 2)
    assert data_randomisation(one, other, x, t + 1, None, GRADIENT).tolist() == pytest.approx([0.8] * 2)
    assert data_randomisation(one, one, x, t, None, GRADIENT).tolist() == pytest.approx([1] * 2)
    assert data_randomisation(one, other, x, t, -GRADIENT(one, x, t), GRADIENT).tolist() == pytest.approx([1] * 2)
    own = {"similarity": {"spearman": {"absolute": True}}}
    assert data_randomisation(one, other, x, t, -GRADIENT(one, x, t), GRADIENT, **own).tolist() == pytest.approx([-1] * 2)
    for spec in FOUR.values():
        found = data_randomisation(net, toys.TinyNet(seed=4), images, zeros, None, EDGES, similarity=spec)
        assert found.tolist() == pytest.approx([1] * 5)
    assert data_randomisation(one, other, x, t, -GRADIENT(one, x, t), GRADIENT, absolute=True).tolist() == pytest.approx(
        [-1] * 2
    )
    pair = [GRADIENT(model, images, zeros) for model in (net, toys.TinyNet(seed=4))]
    largest = data_randomisation(net, toys.TinyNet(seed=4), images, zeros, None, GRADIENT, reduce="max_abs")
    expected = [spearmanr(*(g.abs().amax(0).flatten() for g in both))[0] for both in zip(*pair, strict=True)]
    assert largest.tolist() == pytest.approx(expected, abs=1e-6)
    ink = images.sum(1) > 1.5
    learned = data_randomisation(
        net, toys.TinyNet(seed=4), images, zeros, None, GRADIENT, similarity={"spearman": {"within": ink}}
    )
    expected = [spearmanr(a.sum(0)[m], b.sum(0)[m])[0] for a, b, m in zip(*pair, ink, strict=True)]
    assert learned.tolist() == pytest.approx(expected, abs=1e-6)


def test_data_randomisation_is_undefined_where_a_map_says_nothing(images, zeros, net):
    given = GRADIENT(net, images, zeros)
    given[0], given[1], given[2, 0, 0, 0] = 0, 2, torch.nan
    found = data_randomisation(net, toys.TinyNet(seed=4), images, zeros, given, GRADIENT)
    assert found.isnan().tolist() == [True] * 3 + [False] * 2


def test_refusals_come_before_the_method_is_asked(net, images, zeros):
    explain, calls = counted(GRADIENT)
    for similarities, message in (
        ({"a": "sim"}, "unknown similarity 'sim'"),
        ({}, "expected a mapping"),
        (["ssim"], "expected a mapping"),
    ):
        with pytest.raises(ConfigError, match=message):
            randomisation_tables(net, images, zeros, None, explain, similarities=similarities)
        with pytest.raises(ConfigError, match=message):
            randomisation_floors(net, images, zeros, explain, similarities=similarities)
    with pytest.raises(ConfigError, match="unknown similarity 'sim'"):
        data_randomisation(net, net, images, zeros, None, explain, similarity="sim")
    with pytest.raises(ConfigError, match="order"):
        randomised_maps(net, images, zeros, explain, order="bottom_up")
    with pytest.raises(ConfigError, match="stages=0"):
        randomised_maps(net, images, zeros, explain, stages=0)
    with pytest.raises(InputError, match="targets"):
        data_randomisation(net, net, images, zeros, None, explain, shuffled_targets=zeros[:2])
    with pytest.raises(ModelError, match="training mode"):
        data_randomisation(net, toys.TinyNet().train(), images, zeros, None, explain)
    assert calls == []
    with pytest.raises(InputError, match="a window of 11 pixels"):
        randomisation_table(net, images, zeros, None, explain, similarity="ssim")
