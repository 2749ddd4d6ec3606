"""Lesson `foundations_maps`: what its page says about methods, on nets with known answers, and its small parts."""

from collections import OrderedDict
from types import SimpleNamespace

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from xai_lib import METHODS, compute, data, hooks, maps
from xai_lib.compendium.study import load
from xai_lib.errors import ConfigError
from xai_lib.methods.cam import cam_maps, grad_cam_maps
from xai_lib.models.wrapper import PixelModel
from xai_lib.studies import foundations_maps as lesson
from xai_lib.studies import foundations_maps_net as nets
from xai_lib.studies import foundations_maps_units as units


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def rectified(head: list[list[float]], *, pooled: bool) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    with hooks.global_seed(0):
        layers["conv"] = nn.Conv2d(1, 3, 3, padding=1)
        layers["conv"].bias.data.fill_(0.2)
    layers["act"] = nn.ReLU()
    if pooled:
        layers["shrink"] = nn.MaxPool2d(2)
    layers.update(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(1))
    layers["head"] = nn.Linear(3, 2)
    layers["head"].weight.data = torch.tensor(head)
    return nn.Sequential(layers).requires_grad_(False).eval()


# what the page says about methods


def test_grad_cam_is_relu_of_cam_over_the_number_of_places() -> None:
    net = nets.pixel_model(nets.blank_net(6), "blank", nets.COLOURS)
    x, t = random(4, 3, 32, 32), torch.tensor([0, 1, 2, 5])
    assert torch.allclose(grad_cam_maps(net, x, t), cam_maps(net, x, t).clamp_min(0) / 64, atol=1e-7)


def test_cam_is_the_logit_laid_out_over_places() -> None:
    net = nets.pixel_model(nets.blank_net(6), "blank", nets.COLOURS)
    x, t = random(4, 3, 32, 32), torch.tensor([0, 1, 2, 5])
    bias = next(b for name, b in net.named_parameters() if name == "network.head.bias")
    assert torch.allclose(cam_maps(net, x, t).mean(dim=(1, 2)) + bias[t], compute.scores(net, x, t), atol=1e-5)


def test_the_gradient_of_the_probability_mixes_in_the_maps_of_rivals() -> None:
    net = rectified([[1.0, -2.0, 0.5], [0.0, 1.0, 2.0]], pooled=False)
    x, t = random(1, 1, 6, 6), torch.tensor([0])
    own, rival = (cam_maps(net, x, torch.tensor([c]), layer="act") / 36 for c in (0, 1))
    p = net(x).softmax(dim=1)[0]
    expected = p[0] * ((1 - p[0]) * own - p[1] * rival)
    assert torch.allclose(grad_cam_maps(net, x, t, layer="act", relu=False, score="prob"), expected, atol=1e-6)
    assert not torch.allclose(maps.normalise(expected), maps.normalise(own), atol=0.1)


def test_deconvnet_without_max_pooling_does_not_look_at_the_picture() -> None:
    x, t = random(2, 1, 6, 6), torch.zeros(2, dtype=torch.int64)
    head = [[1.0, -2.0, 0.5], [0.0, 1.0, 0.0]]
    blind, switched = (METHODS.bind("deconvnet")(rectified(head, pooled=pooled), x, t) for pooled in (False, True))
    guided = METHODS.bind("guided_backprop")(rectified(head, pooled=False), x, t)
    assert torch.equal(blind[0], blind[1])
    assert not torch.equal(switched[0], switched[1])
    assert not torch.equal(guided[0], guided[1])


def test_the_rules_drop_what_speaks_against_a_class() -> None:
    x, t = random(2, 1, 6, 6), torch.zeros(2, dtype=torch.int64)
    explain = METHODS.bind("guided_backprop")
    for_and_against, only_for = (rectified([[1.0, against, 0.0], [0.0, 0.0, 1.0]], pooled=False) for against in (-2.0, 0.0))
    assert torch.equal(explain(for_and_against, x, t), explain(only_for, x, t))
    gradient = METHODS.bind("gradient")
    assert not torch.allclose(gradient(for_and_against, x, t), gradient(only_for, x, t))


# measurements on known cases


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_every_pair_of_neighbouring_photographs_is_compared_once(n: int) -> None:
    ids = tuple("abcdefgh"[:n])
    seen = SimpleNamespace(photo_model=SimpleNamespace(name="net"), photos=SimpleNamespace(ids=ids))
    own = random(n, 4, 4)
    frame = lesson.rule_rows(seen, {"gradient": own, "same": own[:1].expand(n, 4, 4)})
    pairs = sorted({tuple(sorted((i, (i + 1) % n))) for i in range(n) if n > 1})
    expected = [spearmanr(own[i].flatten(), own[j].flatten()).statistic for i, j in pairs]
    found = frame[frame.method == "gradient"].value
    if n == 1:
        assert frame.value.isna().all()
        assert frame.flag.tolist() == ["no other photograph"] * 2
    else:
        assert sorted(found) == pytest.approx(sorted(expected), abs=1e-5)
        assert frame[frame.method == "same"].value.tolist() == pytest.approx([1.0] * len(pairs))
        assert (frame.flag == "").all()
    assert not frame.duplicated(["method", "sample"]).any()


def test_a_single_photograph_is_refused_since_it_has_no_other() -> None:
    study = load("foundations_maps")
    with pytest.raises(ConfigError, match="n_photos"):
        study.resolve("smoke", {"n_photos": 1})


@pytest.mark.parametrize(
    ("layer", "side"), [("conv1", 5), ("act1", 5), ("conv2", 9), ("shrink", 11), ("conv3", 19), ("conv4", 27)]
)
def test_what_a_cell_sees_is_its_receptive_field(layer: str, side: int) -> None:
    net = nets.blank_net(6).eval().requires_grad_(False)
    for name, _ in list(net.named_children()):
        if name.startswith("act"):
            setattr(net, name, nn.LeakyReLU(0.5))
        elif name == "shrink":
            setattr(net, name, nn.AvgPool2d(2))
    model = PixelModel(net, name="linear", input_shape=(3, 64, 64), class_names=nets.COLOURS)
    assert lesson.seen_side(model, random(1, 3, 64, 64), f"network.{layer}") == side


def test_shapes_on_plain_ground_keep_the_object_and_the_mean_of_the_ground() -> None:
    plain, full = nets.plain_shapes("test", 5), data.load("shapes", n=5, size=32)
    for new, old, mask in zip(plain.inputs, full.inputs, full.masks, strict=True):
        assert torch.equal(new[:, mask], old[:, mask])
        assert torch.allclose(new[:, ~mask], old[:, ~mask].mean(dim=1, keepdim=True), atol=1e-6)


@pytest.mark.parametrize(
    ("colour", "name"),
    [
        ((1, 0, 0), "red"), ((1, 1, 0), "yellow"), ((0, 1, 0), "green"), ((0, 1, 1), "cyan"), ((0, 0, 1), "blue"),
        ((1, 0, 1), "magenta"), ((1, 0.1, 0.3), "red"), ((0.2, 0.2, 0.2), "dark"), ((0.9, 0.8, 0.9), "light"),
        ((0.5, 0.5, 0.5), ""),
    ],
)  # fmt: skip
def test_pixels_have_the_colour_that_they_show(colour: tuple[float, ...], name: str) -> None:
    samples = nets.plain_shapes("test", 1)
    samples.inputs[:] = torch.tensor(colour, dtype=torch.float32).reshape(3, 1, 1)
    names, found = nets.concept_names(samples), nets.concepts_of(samples)
    assert found.shape == (1, len(names), 32, 32)
    colours = [n for n, mask in zip(names, found[0], strict=True) if n in (*nets.COLOURS, "dark", "light") and mask.any()]
    assert colours == ([name] if name else [])
    assert torch.equal(found[:, names.index("object")], samples.masks)
    assert torch.equal(found[:, names.index("ground")], ~samples.masks)
    assert torch.equal(found[:, int(samples.targets[0])], samples.masks)
    assert found[:, : len(samples.class_names)].sum() == samples.masks.sum()


def test_the_nearest_picture_is_found_with_its_distance() -> None:
    known = torch.stack([torch.zeros(3, 2, 2), torch.ones(3, 2, 2)])
    distance, at = units.nearest(torch.full((1, 3, 2, 2), 0.8), known)
    assert at.tolist() == [1]
    assert distance.item() == pytest.approx(0.2, abs=1e-6)


def test_training_starts_from_the_untrained_weights_and_is_seeded() -> None:
    samples = nets.plain_shapes("train", 40)
    first, second = (nets.trained(samples, epochs=1, seed=3) for _ in range(2))
    assert first.net.weights_sha256 == second.net.weights_sha256 != first.untrained.weights_sha256
    blank = nets.blank_net(6, seed=3)
    assert torch.equal(first.untrained.get_parameter("network.conv1.weight"), blank.conv1.weight)
    assert not torch.equal(first.net.get_parameter("network.conv1.weight"), blank.conv1.weight)


def test_the_untrained_net_is_normalised_by_the_pictures() -> None:
    samples = nets.plain_shapes("train", 40)
    net = nets.trained(samples, epochs=1, seed=3).untrained
    norms = [f"network.norm{i}" for i in range(1, 5)]
    with hooks.probe(net, norms) as seen:
        net(samples.inputs)
    for name in norms:
        own = seen[name].transpose(0, 1).flatten(1)
        assert own.mean(dim=1).abs().max() < 1e-3
        assert torch.allclose(own.std(dim=1), torch.ones(len(own)), atol=0.01)
        assert net.get_submodule(name).momentum == 0.1


def test_calibration_keeps_mean_and_variance_of_the_inputs_and_nothing_of_earlier_ones() -> None:
    net = nn.Sequential(nn.BatchNorm2d(2, momentum=0.3))
    for seed in (0, 1):
        x = 5 * random(6, 2, 4, 4, seed=seed) - seed
        assert nets.calibrated(net, x) is net
        values = x.transpose(0, 1).flatten(1)
        assert torch.allclose(net[0].running_mean, values.mean(dim=1), atol=1e-5)
        assert torch.allclose(net[0].running_var, values.var(dim=1), rtol=1e-4)
    assert net[0].momentum == 0.3


def test_a_mirrored_or_turned_batch_keeps_its_pixels() -> None:
    x = random(2, 3, 8, 8)
    found = {tuple(nets._turned(x, torch.Generator().manual_seed(s)).flatten().tolist()) for s in range(60)}
    assert len(found) == 8
    assert all(sorted(values) == sorted(x.flatten().tolist()) for values in found)
