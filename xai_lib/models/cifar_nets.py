"""Three small nets for 32-pixel colour pictures, trained by this project: a ResNet, a DenseNet and a VGG.

They stand for the ResNet-50, DenseNet-121 and VGG-16 of document 001 on CIFAR-10, at a size that one core trains in minutes.
Every activation is a module of its own and nothing works in place, so that every method can treat them.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xai_lib.errors import ConfigError
from xai_lib.hooks import global_seed
from xai_lib.models.folding import fold_batch_norms
from xai_lib.models.sources import WORKS_NOW
from xai_lib.models.weights import Source, expected_sha256, fill, find, read
from xai_lib.models.wrapper import Normalise, PixelModel
from xai_lib.registry import MODELS

CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
NAMES = ("cifar_resnet", "cifar_densenet", "cifar_vgg")
SOURCES = {
    name: Source(f"{name}.safetensors", how=f"python -m xai_lib.models.recipes {name}, with CIFAR-10 under XAI_DATA")
    for name in NAMES
}


class ResidualBlock(nn.Module):
    """act(body(x) + shortcut(x)): two 3x3 convolutions beside an identity, or beside a 1x1 convolution where shapes differ."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.act1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        self.act2 = nn.ReLU()

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, channels, h, w) -> (n, width, h / stride, w / stride)."""
        hidden = self.norm2(self.conv2(self.act1(self.norm1(self.conv1(inputs)))))
        return self.act2(hidden + self.shortcut(inputs))


class DenseLayer(nn.Module):
    """x with `growth` new channels: BatchNorm, ReLU and a 3x3 convolution of x, appended to x."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.act = nn.ReLU()
        self.conv = nn.Conv2d(channels, growth, 3, 1, 1, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, channels, h, w) -> (n, channels + growth, h, w)."""
        return torch.cat([inputs, self.conv(self.act(self.norm(inputs)))], dim=1)


class CifarNet(nn.Module):
    """normalise, features, global average, one linear layer.

    normalise   (x - mean) / std of CIFAR-10: takes pixels in [0, 1]
    features    what makes the net a ResNet, DenseNet or VGG; its output is what Grad-CAM reads
    """

    def __init__(self, features: nn.Sequential, channels: int, classes: int) -> None:
        super().__init__()
        self.normalise = Normalise(CIFAR_MEAN, CIFAR_STD)
        self.features = features
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten(1)
        self.fc = nn.Linear(channels, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, 3, h, w), pixels in [0, 1] -> logits (n, classes)."""
        return self.fc(self.flatten(self.pool(self.features(self.normalise(inputs)))))


def resnet(*, widths: Sequence[int] = (32, 64, 128), blocks: int = 2, classes: int = 10, seed: int = 0) -> CifarNet:
    """An untrained ResNet: a 5x5 convolution with stride 2, then `blocks` residual blocks per width.

    The first block of every later width halves the side.

    Args:
        widths: channels of each stage; the first is also that of the stem.
        blocks: per stage, at least 1.
        classes: number of logits.
        seed: of the weights (PyTorch's default initialisation).

    >>> resnet()(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    _check("resnet", widths, blocks)
    with global_seed(seed):
        layers: list[nn.Module] = [*_stem(widths[0]), nn.BatchNorm2d(widths[0]), nn.ReLU()]
        channels = widths[0]
        for stage, width in enumerate(widths):
            for block in range(blocks):
                layers.append(ResidualBlock(channels, width, 2 if stage and not block else 1))
                channels = width
        return CifarNet(nn.Sequential(*layers), channels, classes)


def densenet(
    *, stem: int = 32, growth: int = 24, blocks: Sequence[int] = (2, 4, 4), classes: int = 10, seed: int = 0
) -> CifarNet:
    """An untrained DenseNet: a 5x5 convolution with stride 2, then dense blocks.

    Between blocks a 1x1 convolution halves the channels and an average over 2x2 pixels the side.

    Args:
        stem: channels before the first block.
        growth: channels that each dense layer adds.
        blocks: dense layers of each block.
        classes: number of logits.
        seed: of the weights (PyTorch's default initialisation).

    >>> densenet()(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    _check("densenet", [stem, growth, *blocks])
    with global_seed(seed):
        layers, channels = _stem(stem), stem
        for at, n_layers in enumerate(blocks):
            if at:
                half = channels // 2
                layers += [nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, half, 1, bias=False), nn.AvgPool2d(2)]
                channels = half
            for _ in range(n_layers):
                layers.append(DenseLayer(channels, growth))
                channels += growth
        layers += [nn.BatchNorm2d(channels), nn.ReLU()]
        return CifarNet(nn.Sequential(*layers), channels, classes)


def vgg(
    *,
    widths: Sequence[int | str] = (32, "pool", 64, 64, "pool", 128, 128, "pool", 256),
    classes: int = 10,
    seed: int = 0,
) -> CifarNet:
    """An untrained VGG: 3x3 convolutions with BatchNorm and ReLU, and 2x2 max pooling where `widths` says "pool".

    One linear layer after a global average takes the place of VGG-16's three.

    Args:
        widths: channels of each convolution, or "pool".
        classes: number of logits.
        seed: of the weights (PyTorch's default initialisation).

    >>> vgg()(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    _check("vgg", [width for width in widths if width != "pool"])
    with global_seed(seed):
        layers: list[nn.Module] = []
        channels = 3
        for width in widths:
            if isinstance(width, str):
                layers.append(nn.MaxPool2d(2))
                continue
            layers += [nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        return CifarNet(nn.Sequential(*layers), channels, classes)


BUILDERS: dict[str, Callable[..., CifarNet]] = {"cifar_resnet": resnet, "cifar_densenet": densenet, "cifar_vgg": vgg}


def _stem(width: int) -> list[nn.Module]:
    return [nn.Conv2d(3, width, 5, 2, 2, bias=False)]


def _check(name: str, *numbers: Any) -> None:
    for given in numbers:
        values = given if isinstance(given, list | tuple) else [given]
        if not values or not all(isinstance(v, int) and not isinstance(v, bool) and v >= 1 for v in values):
            raise ConfigError(f"{name}: {given!r}, expected whole numbers of at least 1")


def _load(name: str, given: str | Path | None, fold: bool, precision: str) -> PixelModel:
    source = SOURCES[name]
    path = find(name, source, weights=given, allow_download=False, works_now=WORKS_NOW)
    state, digest = read(path, sha256=expected_sha256(path, source))
    net = BUILDERS[name]()
    fill(net, state, source=str(path))
    net.eval()
    if fold:
        fold_batch_norms(net)
    return PixelModel(
        net,
        name=name,
        input_shape=(3, 32, 32),
        class_names=CLASSES,
        weights_sha256=digest,
        cam_layer=f"features.{len(net.features) - 1}",
        head_layer="fc",
        precision=precision,
    )


def _traits(parameters: int) -> dict[str, Any]:
    return {
        "dataset": "cifar10",
        "input": (3, 32, 32),
        "classes": 10,
        "parameters": parameters,
        "top1_published": None,
        "needs_weights": False,
    }


@MODELS.register(label="ResNet-14 (CIFAR-10)", cite="he2016", traits=_traits(698_154))
def cifar_resnet(*, weights: str | Path | None = None, fold_batch_norm: bool = True, precision: str = "float32") -> PixelModel:
    """A ResNet with 6 residual blocks, 32 to 128 channels, trained by this project; its card in data/checkpoints tells how.

    Args:
        weights: a file instead of data/checkpoints/cifar_resnet.safetensors.
        fold_batch_norm: merge BatchNorm into the convolutions: equal logits, faster.
        precision: "float32", "float64" or "bfloat16".
    """
    return _load("cifar_resnet", weights, fold_batch_norm, precision)


@MODELS.register(label="DenseNet-14 (CIFAR-10)", cite="huang2017", traits=_traits(193_402))
def cifar_densenet(*, weights: str | Path | None = None, precision: str = "float32") -> PixelModel:
    """A DenseNet with 10 dense layers of 24 new channels, trained by this project; arguments as `cifar_resnet`.

    No BatchNorm follows a convolution directly, so none can be folded.
    """
    return _load("cifar_densenet", weights, False, precision)


@MODELS.register(label="VGG-7 (CIFAR-10)", cite="simonyan2015", traits=_traits(576_170))
def cifar_vgg(*, weights: str | Path | None = None, fold_batch_norm: bool = True, precision: str = "float32") -> PixelModel:
    """A VGG with 6 convolutions, 32 to 256 channels, and one linear layer; arguments as `cifar_resnet`."""
    return _load("cifar_vgg", weights, fold_batch_norm, precision)
