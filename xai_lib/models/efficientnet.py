"""EfficientNet-Lite rebuilt from the package's own net: the same function with fewer and plainer layers.

Each call of an activation has a module of its own (the package shares one ReLU6 among the calls of a block), "same" padding is
part of the convolution, dropout and stochastic depth, which do nothing in eval mode, are gone, and BatchNorm is folded.
"""

from collections import OrderedDict
from typing import Any

import torch
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn

from xai_lib.fused import Crop, Layers, gradient_forward
from xai_lib.models.folding import fold_pair


class Block(nn.Module):
    """Inverted bottleneck: body(x), plus x where shapes agree."""

    def __init__(self, body: "OrderedDict[str, nn.Module]", skip: bool) -> None:
        super().__init__()
        self.body = Layers(body)
        self.skip = skip

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, c', h', w')."""
        out = self.body(inputs)
        return out + inputs if self.skip else out

    def gradient_forward(self, inputs: Tensor) -> Tensor:
        """The same, by `fused.gradient_forward`."""
        out = gradient_forward(self.body, inputs)
        return out + inputs if self.skip else out


def blank(version: str, size: int) -> nn.Module:
    """The package's net without weights (meta device), for square inputs of `size` pixels."""
    with torch.device("meta"):
        return EfficientNet.from_name(version, image_size=size).eval()


def rebuild(net: Any, *, fold: bool = True) -> Layers:
    """Our form of the package's net.

    Args:
        net: an EfficientNet-Lite of the package, with weights, in eval mode.
        fold: whether BatchNorm is folded into the convolutions.

    Returns:
        Layers stem, stem_act, block0..., head, head_act, pool, flatten, fc.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers.update(_conv("stem", net._conv_stem, net._bn0, fold))
    for index, block in enumerate(net._blocks):
        layers[f"block{index}"] = _block(block, fold)
    layers.update(_conv("head", net._conv_head, net._bn1, fold))
    layers.update(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(1))
    layers["fc"] = net._fc
    return Layers(layers).eval()


def _block(block: Any, fold: bool) -> Block:
    body: OrderedDict[str, nn.Module] = OrderedDict()
    if hasattr(block, "_expand_conv"):
        body.update(_conv("expand", block._expand_conv, block._bn0, fold))
    body.update(_conv("depthwise", block._depthwise_conv, block._bn1, fold))
    body.update(_conv("project", block._project_conv, block._bn2, fold))
    body.pop("project_act")
    given = block._block_args
    skip = given.id_skip and given.stride == 1 and given.input_filters == given.output_filters
    return Block(body, bool(skip))


def _conv(name: str, conv: Any, norm: Any, fold: bool) -> "OrderedDict[str, nn.Module]":
    left, right, *_ = getattr(conv.static_padding, "padding", (0, 0, 0, 0))
    even = left == right
    plain = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        stride=tuple(conv.stride),
        padding=left if even else left + 2,
        groups=conv.groups,
        bias=False,
        device="meta",
    ).eval()
    plain.weight = conv.weight
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers[name] = fold_pair(plain, norm) if fold else plain
    if not even:
        layers[f"{name}_crop"] = Crop()
    if not fold:
        layers[f"{name}_norm"] = norm
    layers[f"{name}_act"] = nn.ReLU6()
    return layers
