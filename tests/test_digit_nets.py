"""The digit nets of document 004: structure, checkpoints, recipes."""

import json
import struct

import numpy as np
import pytest
import torch
from torch import nn

from xai_lib import MODELS, compute, data, models
from xai_lib.errors import ConfigError, DataError, InputError, ModelError
from xai_lib.methods.gradient import gradient
from xai_lib.models import digit_nets, digit_recipes, training
from xai_lib.models.weights import CHECKPOINTS

COUNTED = {
    "mnist_mlp": 784 * 20 + 20 + 20 * 10 + 10,
    "mnist_hog_mlp": 36 * 12 + 12 + 12 * 10 + 10,
    "mnist_lbp_mlp": 784 * 12 + 12 + 12 * 10 + 10,
    "mnist_sigmoid_cnn": 6 * 26 + 16 * (6 * 25 + 1) + 120 * 401 + 84 * 121 + 10 * 85,
}
READ = {"mnist_mlp": (0.85, 1.0), "mnist_hog_mlp": (0.6, 0.8), "mnist_lbp_mlp": (0.68, 0.86), "mnist_sigmoid_cnn": (0.98, 1.0)}


def inputs_of(name, n=3):
    return torch.rand(n, *digit_nets.INPUTS[name], generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", digit_nets.NAMES)
def test_structure(name):
    net, traits = digit_nets.build(name), MODELS[name].traits
    assert sum(p.numel() for p in net.parameters()) == COUNTED[name] == traits["parameters"]
    assert traits["input"] == digit_nets.INPUTS[name]
    assert traits["reads"] == digit_nets.READS[name]
    kind = nn.Sigmoid if name == "mnist_sigmoid_cnn" else nn.ReLU
    assert sum(isinstance(module, kind) for module in net.modules()) == (4 if kind is nn.Sigmoid else 1)
    assert not any(getattr(module, "inplace", False) for module in net.modules())
    assert net(inputs_of(name)).shape == (3, 10)


def test_the_linear_nets_are_their_formula():
    for name, shift, scale in [("mnist_mlp", 0.5, 0.5), ("mnist_hog_mlp", 0.0, 1.0), ("mnist_lbp_mlp", 0.0, 1.0)]:
        net, x = digit_nets.build(name, seed=3), inputs_of(name)
        hidden = ((x.flatten(1) - shift) / scale) @ net.fc1.weight.T + net.fc1.bias
        torch.testing.assert_close(net(x), hidden.clamp_min(0) @ net.fc2.weight.T + net.fc2.bias)


def test_the_convolutional_net_is_its_formula():
    net, x = digit_nets.build("mnist_sigmoid_cnn", seed=3), inputs_of("mnist_sigmoid_cnn")
    f = nn.functional
    hidden = f.max_pool2d(f.conv2d(x, net.conv1.weight, net.conv1.bias, padding=2).sigmoid(), 2)
    assert hidden.shape == (3, 6, 14, 14)
    hidden = f.max_pool2d(f.conv2d(hidden, net.conv2.weight, net.conv2.bias).sigmoid(), 2).flatten(1)
    for layer in (net.fc1, net.fc2):
        hidden = layer(hidden).sigmoid()
    torch.testing.assert_close(net(x), net.fc3(hidden))


def test_weights_come_from_the_seed():
    one, same, other = (digit_nets.untrained("mnist_hog_mlp", seed=seed).weights_sha256 for seed in (1, 1, 2))
    assert one == same != other
    before = torch.get_rng_state()
    digit_nets.build("mnist_mlp", seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(ConfigError, match=r"mnist_mpl.*mnist_mlp"):
        digit_nets.build("mnist_mpl")


@pytest.mark.parametrize("name", digit_nets.NAMES)
def test_loaded_and_readable(name):
    model = models.load(name)
    assert (model.input_shape, model.class_names[3]) == (digit_nets.INPUTS[name], "3")
    (row,) = [row for row in models.listing() if row["name"] == name]
    assert row["available"]
    samples = digit_recipes.read_as(data.load("mnist_5k", split="test", n=300), digit_nets.READS[name])
    low, high = READ[name]
    assert low < training.accuracy(model, samples.inputs, samples.targets) <= high
    assert model.get_submodule(model.head_layer).out_features == 10
    explained = gradient(model, samples.inputs[:2], samples.targets[:2])
    assert explained.shape == samples.inputs[:2].shape
    assert explained.abs().sum() > 0


@pytest.mark.parametrize("name", digit_nets.NAMES)
def test_card_tells_how(name):
    card = json.loads((CHECKPOINTS / f"{name}.json").read_text())
    asked = digit_recipes.SETTINGS[name]
    assert {key: card["recipe"][key] for key in asked} == asked
    assert card["name"] == name
    assert card["reads"] == digit_nets.READS[name]
    assert card["command"] == f"python -m xai_lib.models.digit_recipes {name}"
    assert (card["data"]["n_train"], card["data"]["n_held_out"]) == (60_000, 10_000)
    curve = card["accuracy_by_epoch"]
    assert len(curve["held_out"]) == len(curve["while_training"]) == asked["epochs"]
    held_out = card["accuracy"]["held_out"]
    assert curve["held_out"][-1] == pytest.approx(held_out["value"], abs=1e-5)
    assert held_out["low"] < held_out["value"] < held_out["high"]


def test_pixels_are_refused_where_features_are_read():
    with pytest.raises(InputError, match="36"):
        models.load("mnist_hog_mlp")(torch.zeros(1, 1, 28, 28))


def test_a_checkpoint_of_another_net_is_refused():
    with pytest.raises(ModelError, match="fc1"):
        models.load("mnist_lbp_mlp", weights=CHECKPOINTS / "mnist_mlp.safetensors")


@pytest.fixture
def tiny_mnist(tmp_path, monkeypatch):
    """Files like MNIST's: 40 training and 20 test digits, from the packaged ones."""
    folder = tmp_path / "data" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    samples = data.load("mnist_5k", n=60)
    for name, rows in {"train": slice(0, 40), "t10k": slice(40, 60)}.items():
        pixels = (samples.inputs[rows, 0] * 255).round().byte().numpy()
        labels = samples.targets[rows].numpy().astype(np.uint8)
        for kind, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            (folder / f"{name}-{kind}-ubyte").write_bytes(head + array.tobytes())
    monkeypatch.setenv("XAI_DATA", str(tmp_path / "data"))
    return tmp_path / "out"


@pytest.mark.parametrize("name", digit_nets.NAMES)
def test_recipe_makes_what_can_be_loaded(name, tiny_mnist, monkeypatch):
    monkeypatch.setitem(digit_recipes.SETTINGS, name, {**digit_recipes.SETTINGS[name], "batch": 16})
    card = digit_recipes.digit(tiny_mnist, name=name, epochs=2)
    assert card == json.loads((tiny_mnist / f"{name}.json").read_text())
    assert (card["data"]["n_train"], card["data"]["n_held_out"], card["recipe"]["epochs"]) == (40, 20, 2)
    model = models.load(name, weights=tiny_mnist / f"{name}.safetensors")
    held_out = digit_recipes.read_as(data.load("mnist", split="test"), digit_nets.READS[name])
    right = compute.logits(model, held_out.inputs).argmax(1) == held_out.targets
    assert right.float().mean().item() == pytest.approx(card["accuracy"]["held_out"]["value"])
    start = digit_nets.build(name, seed=0).state_dict()
    assert not torch.equal(start["fc1.weight"], model.network.fc1.weight)
    again = digit_recipes.digit(tiny_mnist / "again", name=name, epochs=2)
    other = digit_recipes.digit(tiny_mnist / "other", name=name, epochs=2, seed=1)
    assert again["sha256"] == card["sha256"] != other["sha256"]


def test_training_starts_from_the_weights_of_its_seed(tiny_mnist, monkeypatch):
    starts = []
    real = training.train

    def train(net, *data, **asked):
        starts.append(net.fc1.weight.detach().clone())
        return real(net, *data, **{**asked, "batch": 16})

    monkeypatch.setattr(training, "train", train)
    digit_recipes.digit(tiny_mnist, name="mnist_hog_mlp", epochs=1, seed=4)
    assert torch.equal(starts[0], digit_nets.build("mnist_hog_mlp", seed=4).fc1.weight)


def test_command(tiny_mnist, monkeypatch, capsys):
    monkeypatch.setitem(digit_recipes.SETTINGS["mnist_hog_mlp"], "batch", 16)
    assert digit_recipes.main(["mnist_hog_mlp", "--output", str(tiny_mnist)]) == 0
    assert json.loads(capsys.readouterr().out)["recipe"]["epochs"] == 5
    assert digit_recipes.main(["mnist_cnn"]) == ConfigError.exit_code
    assert "mnist_sigmoid_cnn" in capsys.readouterr().err


def test_without_the_data_it_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XAI_DATA", str(tmp_path))
    assert digit_recipes.main(["mnist_mlp", "--output", str(tmp_path)]) == DataError.exit_code
    assert "xai data get mnist" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
