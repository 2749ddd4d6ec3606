"""The CIFAR-10 nets of document 004: layers by hand, rotations, what the recipes do, checkpoints and cards."""

import hashlib
import json
import math
import os
from itertools import pairwise, product

import pytest
import torch
from torch import nn
from torch.nn import functional

from xai_lib import METHODS, compute, data, models
from xai_lib.counterfactuals import rotation
from xai_lib.errors import ConfigError, ModelError, UnsupportedModelError
from xai_lib.metrics.completeness import completeness_gap
from xai_lib.models import cifar_conv, cifar_conv_recipes, training
from xai_lib.models.augmentation import random_shift
from xai_lib.models.canonical import canonical
from xai_lib.models.cifar_nets import CIFAR_MEAN, CIFAR_STD, CLASSES
from xai_lib.models.folding import fold_batch_norms
from xai_lib.models.training import accuracy
from xai_lib.models.weights import CHECKPOINTS
from xai_lib.models.wrapper import state_sha256
from xai_lib.registry import MODELS
from xai_lib.types import Samples

NAMES = cifar_conv.NAMES
REAL = os.environ.get("XAI_DATA", "")
SMALL = 1 / 16


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch):
    for name in ("XAI_WEIGHTS", "XAI_ALLOW_DOWNLOAD", "XAI_DATA"):
        monkeypatch.delenv(name, raising=False)


def pixels(n: int = 3) -> torch.Tensor:
    return torch.rand((n, 3, 32, 32), generator=torch.Generator().manual_seed(0))


def small(**own) -> cifar_conv.Conv8:
    """A narrow net with running statistics that matter, in eval mode and float64."""
    net, draw = cifar_conv.conv8(width=SMALL, **own), torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(0.3 * torch.randn(len(module.running_mean), generator=draw))
            module.running_var.copy_(0.5 + torch.rand(len(module.running_var), generator=draw))
            module.weight.data.copy_(0.5 + torch.rand(len(module.running_var), generator=draw))
            module.bias.data.copy_(0.3 * torch.randn(len(module.running_var), generator=draw))
    return net.double().eval().requires_grad_(False)


# --- the net ------------------------------------------------------------------------------------------------------------------


def unit(x, layer):
    norm = layer.norm
    x = functional.conv2d(x, layer.conv.weight, padding=1)
    return functional.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps).clamp(min=0)


def halved(x):
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).amax((3, 5))


def by_hand(net, x, *, residual, normalise):
    if normalise:
        x = (x - torch.tensor(CIFAR_MEAN).view(3, 1, 1)) / torch.tensor(CIFAR_STD).view(3, 1, 1)
    a = halved(unit(unit(x, net.unit1), net.unit2))
    b = unit(unit(a, net.unit3), net.unit4)
    c = halved(unit(b + a if residual else b, net.unit5))
    d = unit(unit(c, net.unit6), net.unit7)
    e = halved(unit(d + c if residual else d, net.unit8)).reshape(len(x), -1)
    assert e.shape[1] == 256
    for layer in (net.fc1, net.fc2):
        e = (e @ layer.weight.T + layer.bias).clamp(min=0)
    return e @ net.fc3.weight.T + net.fc3.bias


@pytest.mark.parametrize(("residual", "normalise"), list(product([True, False], [True, False])))
def test_the_net_written_out(residual, normalise):
    net, x = small(residual=residual, normalise=normalise), pixels().double()
    torch.testing.assert_close(net(x), by_hand(net, x, residual=residual, normalise=normalise), atol=1e-6, rtol=1e-6)
    other = by_hand(net, x, residual=not residual, normalise=normalise)
    assert (net(x) - other).abs().max() > 1e-3, "the sums make no difference here"


@pytest.mark.parametrize("width", [1.0, 0.5, SMALL])
def test_parameters_as_counted_by_hand(width):
    channels = [3, *(int(width * c) for c in (64, 128, 128, 128, 64, 64, 64)), 16]
    convolutions = sum(9 * before * after for before, after in pairwise(channels))
    head = 256 * 64 + 64 + 64 * 16 + 16 + 16 * 10 + 10
    net = cifar_conv.conv8(width=width)
    assert sum(p.numel() for p in net.parameters()) == convolutions + 2 * sum(channels[1:]) + head
    if width == cifar_conv.WIDTH:
        assert all(sum(p.numel() for p in net.parameters()) == MODELS[name].traits["parameters"] for name in NAMES)


def test_the_document_s_widths_and_sides():
    net, seen = cifar_conv.conv8().eval(), []
    for module in net.modules():
        if isinstance(module, cifar_conv.Unit | nn.MaxPool2d | nn.Linear):
            module.register_forward_hook(lambda m, i, out: seen.append(tuple(out.shape[1:])))
    net(pixels(1))
    assert seen == [
        *[(64, 32, 32), (128, 32, 32), (128, 16, 16)],
        *[(128, 16, 16), (128, 16, 16), (64, 16, 16), (64, 8, 8)],
        *[(64, 8, 8), (64, 8, 8), (16, 8, 8), (16, 4, 4)],
        *[(64,), (16,), (10,)],
    ]


def test_normalisation_is_an_option():
    assert isinstance(cifar_conv.conv8().normalise, nn.Identity)
    assert isinstance(cifar_conv.conv8(normalise=True).normalise, models.Normalise)
    assert state_sha256(cifar_conv.conv8(normalise=True)) == state_sha256(cifar_conv.conv8())


@pytest.mark.parametrize("residual", [True, False])
def test_every_activation_is_a_module_of_its_own(residual):
    net, calls = small(residual=residual), {}
    kinds = nn.ReLU | nn.MaxPool2d | nn.BatchNorm2d | nn.Conv2d | nn.Linear
    layers = [module for module in net.modules() if isinstance(module, kinds)]
    for module in layers:
        module.register_forward_hook(lambda m, *_: calls.__setitem__(id(m), calls.get(id(m), 0) + 1))
    x = pixels(1).double()
    before = x.clone()
    net(x)
    assert len(calls) == len(layers) == 3 * 8 + 3 + 3 + 2
    assert set(calls.values()) == {1}
    assert not any(getattr(module, "inplace", False) for module in net.modules())
    assert torch.equal(x, before)


def test_weights_come_from_the_seed():
    state = torch.get_rng_state()
    built = {name: cifar_conv.build(name, seed=3) for name in cifar_conv.SETTINGS}
    assert torch.equal(torch.get_rng_state(), state)
    assert len({state_sha256(net) for net in built.values()}) == 1, "the nets differ in their sums, not where they start"
    assert state_sha256(cifar_conv.build("cifar_conv8", seed=4)) != state_sha256(built["cifar_conv8"])
    assert [net.residual for net in built.values()] == [True, False, True]
    x = pixels(2)
    torch.testing.assert_close(cifar_conv.untrained("cifar_conv8", seed=3)(x), built["cifar_conv8"].eval()(x))


@pytest.mark.parametrize("own", [{"width": 0.0}, {"width": -1.0}, {"width": 0.3}, {"width": math.nan}, {"width": math.inf}])
def test_impossible_widths_are_refused(own):
    with pytest.raises(ConfigError, match="multiple of 1/64"):
        cifar_conv.conv8(**own)


def test_other_bad_requests_are_refused():
    with pytest.raises(ConfigError, match="classes=0"):
        cifar_conv.conv8(classes=0)
    with pytest.raises(ConfigError, match="cifar_conv9"):
        cifar_conv.build("cifar_conv9")


# --- explained ----------------------------------------------------------------------------------------------------------------

CHECKED = ("gradient", "integrated_gradients", "guided_backprop", "deconvnet", "lrp", "deeplift", "grad_cam", "occlusion")


@pytest.mark.parametrize("residual", [True, False])
def test_methods_of_every_kind_treat_the_net(residual):
    net, x, t = small(residual=residual), pixels(2).double(), torch.tensor([1, 7])
    for name in CHECKED:
        own = {"layer": "unit8.act"} if name == "grad_cam" else {}
        made = METHODS.bind(name, **own)(net, x, t)
        assert made.shape == x.shape
        assert torch.isfinite(made).all()
        assert made.abs().max() > 0
    exact = METHODS.bind("deeplift")(net, x, t)
    assert completeness_gap(net, x, t, exact, relative=True).max() < 1e-9
    fold_batch_norms(net)
    net.eval()
    relevance = METHODS.bind("lrp", epsilon=1e-14)(net, x, t)
    torch.testing.assert_close(relevance, METHODS.bind("input_x_gradient")(net, x, t), atol=1e-6, rtol=1e-6)
    with pytest.raises(UnsupportedModelError, match="use grad_cam"):
        METHODS.bind("cam", layer="unit8.act")(net, x, t)


def test_the_copy_for_libraries_keeps_the_logits():
    net, x = small(), pixels(2).double()
    made = canonical(net, x)
    torch.testing.assert_close(made(x), net(x))
    assert sum(isinstance(module, nn.ReLU) for module in made.modules()) == 10


# --- loaded -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_loaded_as_the_traits_say(name):
    model, traits = models.load(name), MODELS[name].traits
    assert (model.name, model.input_shape, traits["dataset"]) == (name, traits["input"], "cifar10")
    assert model.class_names == CLASSES
    assert model(pixels()).shape == (3, traits["classes"])
    assert model.network.residual == (name != "cifar_conv8_plain")
    assert isinstance(model.network.normalise, nn.Identity)
    assert isinstance(model.get_submodule(model.head_layer), nn.Linear)
    assert not any(p.requires_grad for p in model.parameters())
    seen = []
    model.get_submodule(model.cam_layer).register_forward_hook(lambda m, i, out: seen.append(out))
    model(pixels())
    assert seen[0].shape == (3, 16, 8, 8)
    assert seen[0].min() == 0, "Grad-CAM reads what the last ReLU returned"
    (row,) = [row for row in models.listing() if row["name"] == name]
    assert row["available"]
    assert row["weights"].endswith(f"{name}.safetensors")


def test_they_are_different_nets():
    made = [models.load(name)(pixels(1)) for name in NAMES]
    assert min((a - b).abs().max() for k, a in enumerate(made) for b in made[:k]) > 0.1


@pytest.mark.parametrize("name", NAMES)
def test_folded_and_in_other_precisions_it_is_the_same_net(name):
    plain, folded = models.load(name, fold_batch_norm=False, precision="float64"), models.load(name, precision="float64")
    assert sum(isinstance(module, nn.BatchNorm2d) for module in plain.modules()) == 8
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    x, targets = pixels().double(), torch.tensor([0, 3, 9])
    torch.testing.assert_close(folded(x), plain(x), atol=1e-4, rtol=1e-4)
    expected, got = (compute.input_gradient(model, x, targets) for model in (plain, folded))
    assert (got - expected).norm() < 0.01 * expected.norm()
    torch.testing.assert_close(models.load(name)(pixels()).double(), folded(x), atol=1e-3, rtol=1e-3)
    rough = models.load(name, precision="bfloat16")(pixels())
    assert rough.dtype == torch.float32
    assert (rough.double() - folded(x)).abs().max() < 0.1 * folded(x).abs().max()


def test_missing_or_foreign_weights_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ModelError, match="do not fit Conv8"):
        models.load("cifar_conv8", weights=CHECKPOINTS / "cifar_vgg.safetensors")
    monkeypatch.setattr("xai_lib.models.weights.CHECKPOINTS", tmp_path)
    with pytest.raises(ModelError, match="cifar_conv_recipes cifar_conv8_rotated, with CIFAR-10 under XAI_DATA"):
        models.load("cifar_conv8_rotated")


# --- rotation -----------------------------------------------------------------------------------------------------------------


def test_a_training_picture_is_turned_as_a_counterfactual_is_and_keeps_its_layout():
    x = pixels()
    for layout in (torch.channels_last, torch.contiguous_format):
        generator = torch.Generator().manual_seed(0)
        given = x.contiguous(memory_format=layout)
        made = cifar_conv_recipes.random_rotation(45)(given, generator)
        assert made.is_contiguous(memory_format=layout)
        assert torch.equal(made, rotation(x, angles_of(cifar_conv_recipes.random_rotation(45), n=3)))


def angles_of(augment, n=400, seed=0):
    """The angles that an augment draws, read off a disc with one bright radius."""
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cifar_conv_recipes, "rotation", lambda x, degrees: seen.append(degrees) or x)
        augment(torch.zeros(n, 1, 2, 2), torch.Generator().manual_seed(seed))
    return seen[0]


def test_angles_are_even_between_the_bounds():
    drawn = angles_of(cifar_conv_recipes.random_rotation(45))
    assert drawn.abs().max() <= 45
    assert drawn.min() < -44
    assert drawn.max() > 44
    assert drawn.mean().abs() < 4 * 45 / math.sqrt(3 * 400)
    assert drawn.std() == pytest.approx(45 / math.sqrt(3), rel=0.1)
    assert len(drawn.unique()) > 390
    assert not torch.equal(drawn, angles_of(cifar_conv_recipes.random_rotation(45), seed=1))
    torch.testing.assert_close(2 * drawn, angles_of(cifar_conv_recipes.random_rotation(90)))


def test_rotation_adds_nothing_but_rotation():
    """Crops, flips and all later draws are those of a training without it."""
    x, shift = pixels(5), random_shift(4, flip=True)
    one, two = (torch.Generator().manual_seed(3) for _ in range(2))
    augment = cifar_conv_recipes.random_rotation(0, before=shift)
    for _ in range(2):
        torch.testing.assert_close(augment(x, two), shift(x, one), rtol=0, atol=0)
        assert torch.equal(one.get_state(), two.get_state())
    alone = torch.Generator().manual_seed(3)
    made = cifar_conv_recipes.random_rotation(30)(x, alone)
    assert torch.equal(alone.get_state(), torch.Generator().manual_seed(3).get_state())
    assert torch.equal(made, cifar_conv_recipes.random_rotation(30)(x, alone)), "a function of inputs and state"
    assert not torch.equal(made, x)
    for degrees in (-1, 181, math.nan):
        with pytest.raises(ConfigError, match="expected 0 to 180"):
            cifar_conv_recipes.random_rotation(degrees)


def test_angles_are_a_stream_of_their_own():
    """None of the numbers that crops, flips and later batches are drawn from."""
    stream = (2 * torch.rand(4000, generator=torch.Generator().manual_seed(0)) - 1) * 45
    drawn = angles_of(cifar_conv_recipes.random_rotation(45))
    assert torch.isin(drawn, stream).float().mean() < 0.05


# --- the recipe ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny(monkeypatch):
    """60 training and 20 test pictures whose class is their grey level, and a narrow net."""

    def load(name, *, split):
        n = {"train": 60, "test": 20}[split]
        targets = torch.arange(n) % 10
        noise = torch.rand((n, 3, 32, 32), generator=torch.Generator().manual_seed(n))
        inputs = 0.09 * targets[:, None, None, None] + 0.1 * noise
        extra = {"encoding": ["PNG"] * n}
        ids = tuple(f"{split}-{k}" for k in range(n))
        return Samples(inputs, targets, ids, CLASSES, name, "none", redistributable=True, extra=extra)

    monkeypatch.setattr(cifar_conv_recipes.data, "load", load)
    seeds = []

    def build(name, *, seed):
        seeds.append((name, seed))
        return cifar_conv.conv8(residual=name != "cifar_conv8_plain", width=SMALL, seed=seed)

    monkeypatch.setattr(cifar_conv_recipes.cifar_conv, "build", build)
    monkeypatch.setitem(cifar_conv_recipes.RECIPE, "batch", 10)
    return seeds


def test_the_recipe_runs_and_repeats_itself(tiny, tmp_path, monkeypatch):
    trained, own = [], training.train

    def watched(net, inputs, targets, **given):
        trained.append((inputs, targets, given))
        return own(net, inputs, targets, **given)

    monkeypatch.setattr(training, "train", watched)
    one = cifar_conv_recipes.cifar(tmp_path / "a", name="cifar_conv8", epochs=2, held_out=12)
    two = cifar_conv_recipes.RECIPES["cifar_conv8"](tmp_path / "b", epochs=2, held_out=12)
    turned = cifar_conv_recipes.RECIPES["cifar_conv8_rotated"](tmp_path / "c", epochs=2, held_out=12)
    other = cifar_conv_recipes.cifar(tmp_path / "d", name="cifar_conv8", epochs=1, n_train=30, held_out=12, seed=1)
    assert one == two != other
    assert tiny == [("cifar_conv8", 0), ("cifar_conv8", 0), ("cifar_conv8_rotated", 0), ("cifar_conv8", 1)]
    assert [len(inputs) for inputs, _, _ in trained] == [48, 48, 48, 30]
    everything = data.load("cifar10", split="train")
    inputs, targets, given = trained[0]
    assert torch.equal(inputs, everything.inputs[:48])
    assert torch.equal(targets, everything.targets[:48])
    assert torch.equal(given["validation"][0], everything.inputs[48:])
    assert torch.equal(given["validation"][1], everything.targets[48:])
    assert (one["data"]["n_train"], one["data"]["n_validation"], one["data"]["n_held_out"]) == (48, 12, 20)
    assert one["recipe"] == {**cifar_conv_recipes.RECIPE, "seed": 0, "epochs": 2}
    changed = {key for key in one["recipe"] if one["recipe"][key] != turned["recipe"][key]}
    assert changed == {"random_rotation"}
    assert turned["recipe"]["random_rotation"] == 45
    assert turned["sha256"] != one["sha256"]
    assert len(one["accuracy_on_validation"]) == len(one["accuracy_while_training"]) == 2
    assert one["accuracy"]["held_out"]["n"] == 20
    loaded = cifar_conv_recipes.cifar_conv.build("cifar_conv8", seed=5)
    models.weights.fill(loaded, models.weights.read(tmp_path / "a" / "cifar_conv8.safetensors", sha256="")[0], source="a")
    test = data.load("cifar10", split="test")
    right = accuracy(loaded.eval(), test.inputs, test.targets)
    assert right == pytest.approx(one["accuracy"]["held_out"]["value"], abs=1e-6)


def test_the_command_knows_its_names(tmp_path, capsys):
    threads = torch.get_num_threads()
    assert cifar_conv_recipes.main(["cifar_conv9", "--output", str(tmp_path)]) != 0
    assert "cifar_conv8_plain" in capsys.readouterr().err
    torch.set_num_threads(threads)
    assert list(tmp_path.iterdir()) == []


# --- the checkpoints ----------------------------------------------------------------------------------------------------------


def card_of(name):
    return json.loads((CHECKPOINTS / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_the_card_tells_the_truth_about_the_checkpoint(name):
    card, content = card_of(name), (CHECKPOINTS / f"{name}.safetensors").read_bytes()
    assert card["sha256"] == hashlib.sha256(content).hexdigest() == models.load(name).weights_sha256
    assert card["bytes"] == len(content) < 5_000_000
    rotation = 45 if name == "cifar_conv8_rotated" else 0
    assert card["recipe"] == {**cifar_conv_recipes.RECIPE, "random_rotation": rotation, "seed": 0}
    assert card["command"] == f"python -m xai_lib.models.cifar_conv_recipes {name}"
    assert (card["data"]["n_train"], card["data"]["n_validation"], card["data"]["encodings"]) == (49_000, 1_000, ["JPEG"])
    held_out = card["accuracy"]["held_out"]
    assert held_out["n"] == card["data"]["n_held_out"] == 8_000
    assert (0.7 if rotation else 0.8) < held_out["low"] < held_out["value"] < held_out["high"]
    assert held_out["value"] < card["accuracy"]["train"]["value"]
    assert len(card["accuracy_on_validation"]) == cifar_conv_recipes.RECIPE["epochs"]
    assert card["accuracy_on_validation"][-1] == pytest.approx(held_out["value"], abs=0.04)
    assert 0.5 < card["confidence"]["held_out"] < 1


@pytest.mark.parametrize("name", [name for name in NAMES if name != "cifar_conv8"])
def test_the_nets_differ_in_the_rotation_or_the_sums_only(name):
    first, other = card_of("cifar_conv8"), card_of(name)
    assert first["data"] == other["data"]
    assert first["recipe"] == {**other["recipe"], "random_rotation": 0}
    assert (first["versions"], first["threads"]) == (other["versions"], other["threads"])


@pytest.mark.slow
@pytest.mark.skipif(not REAL, reason="XAI_DATA is not set: the real data sets are not here")
@pytest.mark.parametrize("name", NAMES)
def test_accuracy_on_the_test_pictures(name, monkeypatch):
    monkeypatch.setenv("XAI_DATA", REAL)
    samples, model, card = data.load("cifar10", n=500, seed=0), models.load(name), card_of(name)
    assert accuracy(model, samples.inputs, samples.targets) == pytest.approx(card["accuracy"]["held_out"]["value"], abs=0.06)
    turned = rotation(samples.inputs, 30.0)
    lost = accuracy(model, samples.inputs, samples.targets) - accuracy(model, turned, samples.targets)
    assert (lost < 0.08) == (name == "cifar_conv8_rotated"), "only the net that saw rotations bears them"
