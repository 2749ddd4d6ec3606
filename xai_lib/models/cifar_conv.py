"""The CIFAR-10 classifier of document 004: eight 3x3 convolutions, with the residual sums of its code or without, as its text.

Every activation is a module of its own and nothing works in place, so that every method can treat them.
"""

import math
from collections import OrderedDict
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from xai_lib.errors import ConfigError, unknown
from xai_lib.hooks import global_seed
from xai_lib.models.cifar_nets import CIFAR_MEAN, CIFAR_STD, CLASSES
from xai_lib.models.folding import fold_batch_norms
from xai_lib.models.trained import add_sources, state_of
from xai_lib.models.weights import fill
from xai_lib.models.wrapper import Normalise, PixelModel
from xai_lib.registry import MODELS

CHANNELS = (64, 128, 128, 128, 64, 64, 64, 16)
"""Of the eight convolutions at `width=1`; the last one keeps its 16."""
SETTINGS: dict[str, dict[str, Any]] = {
    "cifar_conv8": {"residual": True},
    "cifar_conv8_plain": {"residual": False},
    "cifar_conv8_rotated": {"residual": True},
}
"""How `conv8` builds each net; the rotated one differs in its training only."""
NAMES = tuple(SETTINGS)
"""The nets that have a checkpoint here."""
add_sources(NAMES, module="cifar_conv_recipes", data="CIFAR-10")
WIDTH = 1.0
"""Of the registered nets: the document's channels."""


class Unit(nn.Sequential):
    """max(0, norm(conv(x))): a 3x3 convolution without bias that keeps the side, BatchNorm, ReLU."""

    def __init__(self, channels: int, width: int) -> None:
        conv = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        super().__init__(OrderedDict(conv=conv, norm=nn.BatchNorm2d(width), act=nn.ReLU()))


class Conv8(nn.Module):
    """Eight units u1 to u8, three 2x2 max poolings and three linear layers.

    a = pool(u2(u1(x)))                  16 x 16 pixels at the side of 32
    b = u4(u3(a)) + a                    without the sum: u4(u3(a))
    c = pool(u5(b))                      8 x 8
    d = u7(u6(c)) + c                    without the sum: u7(u6(c))
    logits = W3 relu(W2 relu(W1 pool(u8(d))))    with biases; 256 values of 16 channels and 4 x 4 pixels enter

    normalise   the identity (as done), or (x - mean) / std of CIFAR-10 (as meant)
    residual    whether the two sums are there; they add what a ReLU returned, and no ReLU follows them
    """

    def __init__(self, channels: tuple[int, ...], *, residual: bool, normalise: bool, classes: int) -> None:
        super().__init__()
        self.residual = residual
        self.normalise: nn.Module = Normalise(CIFAR_MEAN, CIFAR_STD) if normalise else nn.Identity()
        self.unit1, self.unit2 = Unit(3, channels[0]), Unit(channels[0], channels[1])
        self.pool1 = nn.MaxPool2d(2)
        self.unit3, self.unit4 = Unit(channels[1], channels[2]), Unit(channels[2], channels[3])
        self.unit5 = Unit(channels[3], channels[4])
        self.pool2 = nn.MaxPool2d(2)
        self.unit6, self.unit7 = Unit(channels[4], channels[5]), Unit(channels[5], channels[6])
        self.unit8 = Unit(channels[6], channels[7])
        self.pool3 = nn.MaxPool2d(2)
        self.flatten = nn.Flatten(1)
        self.fc1 = nn.Linear(16 * channels[7], 64)
        self.act1 = nn.ReLU()
        self.fc2 = nn.Linear(64, 16)
        self.act2 = nn.ReLU()
        self.fc3 = nn.Linear(16, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, 3, 32, 32), pixels in [0, 1] -> logits (n, classes)."""
        hidden = self.pool1(self.unit2(self.unit1(self.normalise(inputs))))
        made = self.unit4(self.unit3(hidden))
        hidden = self.pool2(self.unit5(made + hidden if self.residual else made))
        made = self.unit7(self.unit6(hidden))
        hidden = self.pool3(self.unit8(made + hidden if self.residual else made))
        return self.fc3(self.act2(self.fc2(self.act1(self.fc1(self.flatten(hidden))))))


def conv8(*, residual: bool = True, normalise: bool = False, width: float = 1.0, classes: int = 10, seed: int = 0) -> Conv8:
    """An untrained Conv8, with PyTorch's default initialisation drawn from `seed`.

    Args:
        residual: with the two residual sums, as in the authors' code; their text has eight convolutions and no sums.
        normalise: False: pixels in [0, 1] enter as they are, as in the authors' code. True: (x - mean) / std enters.
        width: factor on the channels of all convolutions but the last, so that the head stays 256-64-16-classes; the products
            must be whole numbers.
        classes: number of logits.
        seed: of the weights.

    Raises:
        ConfigError: a width that gives no whole number of channels, or no classes.

    Differs from the authors' code: convolutions have no bias, which the BatchNorm after them would take away.

    >>> sum(p.numel() for p in conv8().parameters())
    546010
    """
    scaled = [width * c for c in CHANNELS[:-1]]
    if not (math.isfinite(width) and min(scaled) >= 1 and all(float(c).is_integer() for c in scaled)):
        raise ConfigError(f"conv8: width={width}, expected a multiple of 1/64 above 0, so that channels are whole numbers")
    if classes < 1:
        raise ConfigError(f"conv8: classes={classes}, expected at least 1")
    with global_seed(seed):
        channels = (*map(int, scaled), CHANNELS[-1])
        return Conv8(channels, residual=residual, normalise=normalise, classes=classes)


def build(name: str, *, seed: int = 0) -> Conv8:
    """A registered net as it is before training, of width `WIDTH`; trainable.

    Args:
        name: one of SETTINGS.
        seed: of the weights.

    Raises:
        ConfigError: an unknown name.
    """
    if name not in SETTINGS:
        raise unknown("net of document 004 on CIFAR-10", name, SETTINGS)
    return conv8(**SETTINGS[name], width=WIDTH, seed=seed)


def untrained(name: str, *, seed: int = 0, precision: str = "float32") -> PixelModel:
    """The net of `build`, frozen and ready to be explained: what a trained net is compared with.

    >>> untrained("cifar_conv8").input_shape
    (3, 32, 32)
    """
    return _wrapped(name, build(name, seed=seed), "", True, precision)


def _wrapped(name: str, net: Conv8, digest: str, fold: bool, precision: str) -> PixelModel:
    net.eval()
    if fold:
        fold_batch_norms(net)
    return PixelModel(
        net,
        name=name,
        input_shape=(3, 32, 32),
        class_names=CLASSES,
        weights_sha256=digest,
        cam_layer="unit8.act",
        head_layer="fc3",
        precision=precision,
    )


def _load(name: str, given: str | Path | None, fold: bool, precision: str) -> PixelModel:
    state, digest, path = state_of(name, given)
    net = build(name)
    fill(net, state, source=str(path))
    return _wrapped(name, net, digest, fold, precision)


_TRAITS: dict[str, Any] = {
    "dataset": "cifar10",
    "input": (3, 32, 32),
    "classes": 10,
    "parameters": 546_010,
    "top1_published": None,
    "needs_weights": False,
}


@MODELS.register(label="Conv8 with residual sums (CIFAR-10)", cite="he2016", traits=_TRAITS)
def cifar_conv8(*, weights: str | Path | None = None, fold_batch_norm: bool = True, precision: str = "float32") -> PixelModel:
    """The net of document 004 as its code has it, trained by this project; its card tells how.

    Pixels enter unnormalised. Grad-CAM reads the last convolution after its ReLU (8 x 8); CAM is not defined, since three
    linear layers follow and no average.

    Args:
        weights: a file instead of data/checkpoints/cifar_conv8.safetensors.
        fold_batch_norm: merge BatchNorm into the convolutions: equal logits, faster.
        precision: "float32", "float64" or "bfloat16".
    """
    return _load("cifar_conv8", weights, fold_batch_norm, precision)


@MODELS.register(label="Conv8 without residual sums (CIFAR-10)", cite="none", traits=_TRAITS)
def cifar_conv8_plain(
    *, weights: str | Path | None = None, fold_batch_norm: bool = True, precision: str = "float32"
) -> PixelModel:
    """The net of `cifar_conv8` without its two sums, as document 004 describes it; trained and called as that one."""
    return _load("cifar_conv8_plain", weights, fold_batch_norm, precision)


@MODELS.register(label="Conv8, trained on rotated pictures (CIFAR-10)", cite="he2016", traits=_TRAITS)
def cifar_conv8_rotated(
    *, weights: str | Path | None = None, fold_batch_norm: bool = True, precision: str = "float32"
) -> PixelModel:
    """The net of `cifar_conv8`, trained as that one but for random rotations of its pictures; arguments as there."""
    return _load("cifar_conv8_rotated", weights, fold_batch_norm, precision)
