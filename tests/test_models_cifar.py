"""The nets for CIFAR-10: layers by hand, one module per activation, checkpoints, cards, and what training gained for them."""

import hashlib
import io
import json
import os
from functools import wraps
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from torch import nn
from torch.nn import functional

from xai_lib import compute, data, models
from xai_lib.data import cifar10, places
from xai_lib.data.cifar10_files import CLASSES
from xai_lib.errors import ConfigError, DataError, ModelError
from xai_lib.models import cifar_nets, nets, recipes
from xai_lib.models.augmentation import random_shift
from xai_lib.models.training import accuracy, rate, train
from xai_lib.models.weights import CHECKPOINTS
from xai_lib.models.wrapper import state_sha256
from xai_lib.registry import MODELS

NAMES = cifar_nets.NAMES
REAL = os.environ.get("XAI_DATA", "")


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch):
    for name in ("XAI_WEIGHTS", "XAI_ALLOW_DOWNLOAD", "XAI_DATA"):
        monkeypatch.delenv(name, raising=False)


def pixels(n: int = 3) -> torch.Tensor:
    return torch.rand((n, 3, 32, 32), generator=torch.Generator().manual_seed(0))


def trained_statistics(net: nn.Module) -> nn.Module:
    """Running statistics that matter, in eval mode."""
    draw = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(0.3 * torch.randn(len(module.running_mean), generator=draw))
            module.running_var.copy_(0.5 + torch.rand(len(module.running_var), generator=draw))
    return net.eval()


# --- the layers, written out --------------------------------------------------------------------------------------------------


def norm(x, layer):
    return functional.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias, eps=layer.eps)


@pytest.mark.parametrize("stride", [1, 2])
def test_residual_block_written_out(stride):
    block = trained_statistics(cifar_nets.ResidualBlock(4, 4 * stride, stride))
    x = torch.randn(2, 4, 8, 8)
    first = norm(functional.conv2d(x, block.conv1.weight, stride=stride, padding=1), block.norm1).clamp(min=0)
    second = norm(functional.conv2d(first, block.conv2.weight, padding=1), block.norm2)
    beside = x if stride == 1 else norm(functional.conv2d(x, block.shortcut[0].weight, stride=2), block.shortcut[1])
    torch.testing.assert_close(block(x), (second + beside).clamp(min=0))


def test_dense_layer_written_out():
    layer = trained_statistics(cifar_nets.DenseLayer(4, 3))
    x = torch.randn(2, 4, 8, 8)
    made = layer(x)
    assert torch.equal(made[:, :4], x)
    torch.testing.assert_close(made[:, 4:], functional.conv2d(norm(x, layer.norm).clamp(min=0), layer.conv.weight, padding=1))


def parameters(layers) -> int:
    """Convolutions without bias (inputs, outputs, kernel), BatchNorms of `normed` channels, and the linear layer."""
    convolutions, normed, head = layers
    return sum(i * o * k * k for i, o, k in convolutions) + 2 * sum(normed) + head * 10 + 10


RESNET = (
    [
        (3, 32, 5),
        *[(32, 32, 3)] * 4,
        (32, 64, 3),
        *[(64, 64, 3)] * 3,
        (32, 64, 1),
        (64, 128, 3),
        *[(128, 128, 3)] * 3,
        (64, 128, 1),
    ],
    [32] * 5 + [64] * 5 + [128] * 5,
    128,
)
VGG = ([(3, 32, 3), (32, 64, 3), (64, 64, 3), (64, 128, 3), (128, 128, 3), (128, 256, 3)], [32, 64, 64, 128, 128, 256], 256)
DENSE = (
    [(3, 32, 5), (32, 24, 3), (56, 24, 3), (80, 40, 1), *[(40 + 24 * i, 24, 3) for i in range(4)], (136, 68, 1)]
    + [(68 + 24 * i, 24, 3) for i in range(4)],
    [32, 56, 80, *[40 + 24 * i for i in range(5)], *[68 + 24 * i for i in range(5)]],
    164,
)
COUNTED = {"cifar_resnet": RESNET, "cifar_densenet": DENSE, "cifar_vgg": VGG}
LAST = {"cifar_resnet": (128, 4, 4), "cifar_densenet": (164, 4, 4), "cifar_vgg": (256, 4, 4)}


@pytest.mark.parametrize("name", NAMES)
def test_nets_as_counted_by_hand(name):
    net = cifar_nets.BUILDERS[name]().eval()
    counted = parameters(COUNTED[name])
    assert sum(p.numel() for p in net.parameters()) == counted == MODELS[name].traits["parameters"]
    features = net.features(net.normalise(pixels()))
    assert tuple(features.shape[1:]) == LAST[name]
    torch.testing.assert_close(net(pixels()), features.mean((2, 3)) @ net.fc.weight.T + net.fc.bias)


def test_normalisation_is_the_first_layer():
    net = cifar_nets.vgg().eval()
    mean, std = torch.tensor(cifar_nets.CIFAR_MEAN).view(3, 1, 1), torch.tensor(cifar_nets.CIFAR_STD).view(3, 1, 1)
    torch.testing.assert_close(net.normalise(pixels()), (pixels() - mean) / std)
    assert next(net.named_children())[0] == "normalise"


@pytest.mark.parametrize("name", NAMES)
def test_every_activation_is_a_module_of_its_own(name):
    net = models.load(name)
    calls: dict[int, int] = {}
    acts = [module for module in net.modules() if isinstance(module, nn.ReLU | nn.MaxPool2d | nn.BatchNorm2d | nn.Conv2d)]
    for module in acts:
        module.register_forward_hook(lambda m, *_: calls.__setitem__(id(m), calls.get(id(m), 0) + 1))
    x = pixels(1)
    before = x.clone()
    net(x)
    assert len(calls) == len(acts)
    assert set(calls.values()) == {1}
    assert not any(getattr(module, "inplace", False) for module in cifar_nets.BUILDERS[name]().modules())
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", NAMES)
def test_weights_come_from_the_seed(name):
    build = cifar_nets.BUILDERS[name]
    state = torch.get_rng_state()
    assert state_sha256(build(seed=3)) == state_sha256(build(seed=3)) != state_sha256(build(seed=4))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("build", "own"),
    [
        (cifar_nets.resnet, {"widths": ()}),
        (cifar_nets.resnet, {"widths": (8, 0)}),
        (cifar_nets.resnet, {"blocks": 0}),
        (cifar_nets.resnet, {"blocks": True}),
        (cifar_nets.densenet, {"growth": 0}),
        (cifar_nets.densenet, {"blocks": (2, -1)}),
        (cifar_nets.vgg, {"widths": ("pool",)}),
        (cifar_nets.vgg, {"widths": (8, "poll")}),
        (cifar_nets.vgg, {"widths": (8, 2.5)}),
    ],
)
def test_impossible_sizes_are_refused(build, own):
    with pytest.raises(ConfigError, match=f"{build.__name__}: .*expected whole numbers"):
        build(**own)


# --- loaded -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_loaded_as_the_traits_say(name):
    model, traits = models.load(name), MODELS[name].traits
    assert (model.name, model.input_shape, traits["dataset"]) == (name, traits["input"], "cifar10")
    assert model.class_names == CLASSES == cifar_nets.CLASSES
    assert model(pixels()).shape == (3, traits["classes"])
    assert not any(p.requires_grad for p in model.parameters())
    assert not any(module.training for module in model.modules())
    seen = []
    model.get_submodule(model.cam_layer).register_forward_hook(lambda m, i, out: seen.append(out))
    logits, head = model(pixels()), model.get_submodule(model.head_layer)
    assert isinstance(head, nn.Linear)
    assert seen[0].shape[1:] == LAST[name]
    torch.testing.assert_close(logits, head(seen[0].mean((2, 3))), msg="the cam layer is not what the average pools")
    (row,) = [row for row in models.listing() if row["name"] == name]
    assert row["available"]
    assert row["weights"].endswith(f"{name}.safetensors")


@pytest.mark.parametrize("name", ["cifar_resnet", "cifar_vgg"])
def test_folded_logits_and_gradients_equal_the_unfolded(name):
    plain, folded = models.load(name, fold_batch_norm=False, precision="float64"), models.load(name, precision="float64")
    assert any(isinstance(module, nn.BatchNorm2d) for module in plain.modules())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    x, targets = pixels().double(), torch.tensor([0, 3, 9])
    torch.testing.assert_close(folded(x), plain(x), atol=1e-4, rtol=1e-4)
    expected, got = (compute.input_gradient(model, x, targets) for model in (plain, folded))
    assert (got - expected).norm() < 0.01 * expected.norm()


@pytest.mark.parametrize("name", NAMES)
def test_precisions_agree(name):
    exact = models.load(name, precision="float64")(pixels().double())
    torch.testing.assert_close(models.load(name)(pixels()).double(), exact, atol=1e-3, rtol=1e-3)
    rough = models.load(name, precision="bfloat16")(pixels())
    assert rough.dtype == torch.float32
    assert (rough.double() - exact).abs().max() < 0.1 * exact.abs().max()


def test_missing_or_foreign_weights_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ModelError, match="do not fit CifarNet"):
        models.load("cifar_vgg", weights=CHECKPOINTS / "cifar_resnet.safetensors")
    monkeypatch.setattr("xai_lib.models.weights.CHECKPOINTS", tmp_path)
    with pytest.raises(ModelError, match=r"recipes cifar_vgg, with CIFAR-10 under XAI_DATA\. Works now"):
        models.load("cifar_vgg")


@pytest.mark.parametrize("name", NAMES)
def test_the_card_tells_the_truth_about_the_checkpoint(name):
    card = json.loads((CHECKPOINTS / f"{name}.json").read_text(encoding="utf-8"))
    content = (CHECKPOINTS / f"{name}.safetensors").read_bytes()
    assert card["sha256"] == hashlib.sha256(content).hexdigest() == models.load(name).weights_sha256
    assert card["bytes"] == len(content) < 5_000_000
    assert card["recipe"] == {**recipes.CIFAR_RECIPE, "epochs": recipes.CIFAR_EPOCHS[name], "seed": 0}
    assert card["command"] == f"python -m xai_lib.models.recipes {name}"
    assert (card["data"]["n_train"], card["data"]["encodings"]) == (50_000, ["JPEG"])
    held_out = card["accuracy"]["held_out"]
    assert held_out["n"] == card["data"]["n_held_out"] == 8_000
    assert 0.75 < held_out["low"] < held_out["value"] < held_out["high"] < card["accuracy"]["train"]["high"]
    assert 0.5 < card["confidence"]["held_out"] < 1


@pytest.mark.slow
@pytest.mark.skipif(not REAL, reason="XAI_DATA is not set: the real data sets are not here")
@pytest.mark.parametrize("name", NAMES)
def test_accuracy_on_the_test_pictures(name, monkeypatch):
    monkeypatch.setenv("XAI_DATA", REAL)
    samples, model = data.load("cifar10", n=1000, seed=0), models.load(name)
    card = json.loads((CHECKPOINTS / f"{name}.json").read_text(encoding="utf-8"))
    assert accuracy(model, samples.inputs, samples.targets) == pytest.approx(card["accuracy"]["held_out"]["value"], abs=0.05)
    confidence = compute.logits(model, samples.inputs).softmax(1).amax(1).mean().item()
    assert confidence == pytest.approx(card["confidence"]["held_out"], abs=0.05)
    assert accuracy(model, samples.inputs.flip(1), samples.targets) < card["accuracy"]["held_out"]["low"], "colours matter"


# --- what training gained -----------------------------------------------------------------------------------------------------

X = torch.randn((24, 2), generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()


def zero_linear() -> nn.Linear:
    net = nn.Linear(2, 2, bias=False)
    net.weight.data.zero_()
    return net


def gradient(weight: torch.Tensor) -> torch.Tensor:
    """Of the mean cross-entropy: (softmax - onehot)^T x / n."""
    return ((X @ weight.T).softmax(1) - functional.one_hot(Y).float()).T @ X / len(X)


@pytest.mark.parametrize("nesterov", [False, True])
def test_two_steps_of_sgd_by_hand(nesterov):
    """v = m v + g; w -= lr v, or with Nesterov w -= lr (g + m v)."""
    weight, velocity = torch.zeros(2, 2), torch.zeros(2, 2)
    for _ in range(2):
        step = gradient(weight) + 0.1 * weight
        velocity = 0.9 * velocity + step
        weight = weight - 0.5 * (step + 0.9 * velocity if nesterov else velocity)
    net = zero_linear()
    train(net, X, Y, epochs=2, batch=24, learning_rate=0.5, seed=0, optimiser="sgd", weight_decay=0.1, nesterov=nesterov)
    torch.testing.assert_close(net.weight.data, weight)


def test_one_cycle_rises_on_a_line_and_falls_as_a_cosine():
    shares = [rate("one_cycle", step, 20) for step in range(21)]
    assert shares[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert shares[12] == pytest.approx(0.5)
    assert shares[20] == pytest.approx(0)
    assert all(later < earlier for earlier, later in pairwise(shares[4:]))
    assert [rate("one_cycle", step, 1) for step in (0, 1)] == [1.0, 1.0]
    assert [rate("constant", step, 9) for step in (0, 8)] == [1.0, 1.0]
    assert [rate("cosine", step, 4) for step in (0, 2, 4)] == pytest.approx([1.0, 0.5, 0.0])


def test_the_schedule_is_the_one_that_is_used():
    weight = torch.zeros(2, 2)
    for share in (0.25, 0.5, 0.75, 1.0, 1.0):
        weight = weight - 0.5 * share * gradient(weight)
    net = zero_linear()
    kept = []

    def watch(inputs, _):
        kept.append(net.weight.data.clone())
        return inputs

    given = {"batch": 24, "learning_rate": 0.5, "seed": 0, "optimiser": "sgd", "momentum": 0.0, "schedule": "one_cycle"}
    train(net, X, Y, epochs=20, **given, augment=watch)
    torch.testing.assert_close(kept[5], weight)


def test_bfloat16_runs_forward_only():
    seen = []

    class Spy(nn.Linear):
        def forward(self, x):
            out = super().forward(x)
            seen.append((out.dtype, self.weight.dtype))
            return out

    torch.manual_seed(0)
    net = Spy(2, 2)
    record = train(net, X, Y, epochs=30, batch=8, learning_rate=0.3, seed=0, optimiser="sgd", precision="bfloat16")
    assert set(seen) == {(torch.bfloat16, torch.float32)}
    assert record.losses[-1] < 0.5 * record.losses[0]
    assert accuracy(net, X, Y) > 0.9


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"precision": "float16"}, "float16"),
        ({"nesterov": True}, "nesterov with optimiser='adam'"),
        ({"nesterov": True, "optimiser": "sgd", "momentum": 0.0}, r"momentum=0\.0"),
        ({"schedule": "one_cicle"}, "one_cicle"),
    ],
)
def test_bad_training_requests_are_refused(own, words):
    with pytest.raises(ConfigError, match=words):
        train(zero_linear(), X, Y, epochs=1, batch=8, learning_rate=0.1, seed=0, **own)


def test_flipped_crops_are_windows_of_the_padded_picture_or_its_mirror():
    x = torch.rand((40, 2, 5, 6), generator=torch.Generator().manual_seed(0))
    made = random_shift(2, flip=True)(x, torch.Generator().manual_seed(1))
    assert torch.equal(made, random_shift(2, flip=True)(x, torch.Generator().manual_seed(1)))
    found = set()
    for image, out in zip(functional.pad(x, (2,) * 4), made, strict=True):
        windows = {(r, c, m): (image[:, r : r + 5, c : c + 6].flip(2) if m else image[:, r : r + 5, c : c + 6])
                   for r in range(5) for c in range(5) for m in (False, True)}  # fmt: skip
        (place,) = [key for key, window in windows.items() if torch.equal(window, out)]
        found.add(place)
    assert {place[0] for place in found} == {place[1] for place in found} == set(range(5))
    assert 10 <= sum(place[2] for place in found) <= 30


def test_without_flip_the_draws_are_those_of_before():
    x = torch.rand((6, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    offset = torch.randint(0, 3, (2, 6, 1), generator=torch.Generator().manual_seed(5))[..., 0]
    padded = functional.pad(x, (1,) * 4)
    expected = torch.stack([padded[i, :, r : r + 4, c : c + 4] for i, (r, c) in enumerate(zip(*offset.tolist(), strict=True))])
    assert torch.equal(random_shift(1)(x, torch.Generator().manual_seed(5)), expected)


# --- the recipe ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A CIFAR-10 of 160 training and 20 test pictures whose class is their grey level."""
    folder = tmp_path / "data" / "cifar10"
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0)
    for split, n in (("train", 160), ("test", 20)):
        rows = []
        for row in range(n):
            level = 25 * (row % 10) + noise.integers(0, 10, (32, 32, 3))
            buffer = io.BytesIO()
            Image.fromarray(level.astype(np.uint8)).save(buffer, "PNG")
            rows.append({"bytes": buffer.getvalue(), "path": ""})
        table = pa.table({"img": rows, "label": [row % 10 for row in range(n)]})
        parquet.write_table(table, folder / f"{split}-00000-of-00001.parquet")
    monkeypatch.setattr(cifar10, "COUNTS", {"train": 160, "test": 20})
    monkeypatch.setenv("XAI_DATA", str(tmp_path / "data"))


@pytest.mark.slow
def test_the_recipe_runs_and_repeats_itself(small, tmp_path, monkeypatch):
    seeds, build = [], cifar_nets.densenet
    watched = wraps(build)(lambda *, seed=0: seeds.append(seed) or build(seed=seed))
    monkeypatch.setitem(cifar_nets.BUILDERS, "cifar_densenet", watched)
    one = recipes.cifar(tmp_path / "a", name="cifar_densenet", epochs=2)
    two = recipes.RECIPES["cifar_densenet"](tmp_path / "b", epochs=2)
    other = recipes.cifar(tmp_path / "c", name="cifar_densenet", epochs=1, n_train=130, seed=1)
    assert one == two != other
    assert seeds == [0, 0, 1]
    assert [one["accuracy"][part]["n"] for part in ("train", "held_out")] == [160, 20]
    loaded = models.load("cifar_densenet", weights=tmp_path / "a")
    assert loaded.weights_sha256 == one["sha256"]
    test = data.load("cifar10")
    assert accuracy(loaded, test.inputs, test.targets) == pytest.approx(one["accuracy"]["held_out"]["value"], abs=1e-6)
    assert one["data"]["fingerprint"] == {
        "train": data.load("cifar10", split="train").fingerprint,
        "held_out": test.fingerprint,
    }
    confidence = compute.logits(loaded, test.inputs).softmax(1).amax(1).mean().item()
    assert one["confidence"]["held_out"] == pytest.approx(confidence, abs=1e-6)
    assert one["recipe"] == {**recipes.CIFAR_RECIPE, "seed": 0, "epochs": 2}
    assert (one["data"]["n_train"], other["data"]["n_train"], one["data"]["encodings"]) == (160, 130, ["PNG"])
    assert one["net"] == "xai_lib.models.cifar_nets.densenet()"


def test_the_recipe_needs_the_data(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(places, "REPOSITORY", tmp_path / "none")
    with pytest.raises(DataError, match="not found"):
        recipes.cifar(tmp_path, name="cifar_vgg")
    threads = torch.get_num_threads()
    assert recipes.main(["cifar_vgg", "--output", str(tmp_path)]) == 4
    assert "XAI_DATA" in capsys.readouterr().err
    torch.set_num_threads(threads)
    assert list(tmp_path.iterdir()) == []


def test_nets_of_other_sizes_train(small):
    samples = data.load("cifar10", split="train")
    for net in (nets.lenet(channels=3, size=32, mean=(0.5,) * 3, std=(0.3,) * 3), cifar_nets.resnet(widths=(8, 16), blocks=1)):
        record = train(net, samples.inputs, samples.targets, epochs=3, batch=32, learning_rate=0.05, seed=0, optimiser="sgd")
        assert record.losses[-1] < record.losses[0]
