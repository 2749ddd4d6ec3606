"""EfficientNet-Lite rebuilt from the package's own net: the same function with fewer and plainer layers.

Each call of an activation has a module of its own (the package shares one ReLU6 among the calls of a block), "same" padding is
part of the convolution, dropout and stochastic depth, which do nothing in eval mode, are gone, and BatchNorm is folded.
"""

from collections import OrderedDict
from typing import Any

import torch
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn

from xai_lib.models.folding import fold_pair


class Crop(nn.Module):
    """Drop the first row and column.

    TensorFlow's "same" padding of a convolution with stride 2 pads the end more than the start. Padding both sides by the
    start's width plus 2 and dropping the first result is the same, without copying the large input.

    >>> Crop()(torch.arange(4.0).view(1, 1, 2, 2)).item()
    3.0
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, c, h - 1, w - 1), a view."""
        return inputs[:, :, 1:, 1:]


class Layers(nn.Sequential):
    """nn.Sequential in which a convolution and its ReLU6 are one call where that changes rounding at most.

    It takes a fifth less time. That is on a CPU, in float32, without gradients, and without hooks on the layers concerned.
    The call is oneDNN's, the one that TorchInductor makes; where this build of PyTorch lacks it, nothing changes.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(n, c, h, w) -> what the layers make of it, one after the other."""
        if not _may_fuse(input):
            return super().forward(input)
        layers, at, out = list(self), 0, input
        while at < len(layers):
            crop = layers[at + 1 : at + 2] if at + 2 < len(layers) and isinstance(layers[at + 1], Crop) else []
            group = layers[at : at + 2 + len(crop)]
            if type(group[0]) is nn.Conv2d and type(group[-1]) is nn.ReLU6 and not any(map(_hooked, group)):
                out = _conv_relu6(group[0], out)
                out = crop[0](out) if crop else out
                at += len(group)
            else:
                out = layers[at](out)
                at += 1
        return out


def _may_fuse(inputs: Tensor) -> bool:
    if torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or not torch.backends.mkldnn.is_available():
        return False
    return inputs.device.type == "cpu" and inputs.dtype == torch.float32 and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _conv_relu6(conv: nn.Conv2d, inputs: Tensor) -> Tensor:
    shape = (conv.padding, conv.stride, conv.dilation, conv.groups)
    made: Tensor = torch.ops.mkldnn._convolution_pointwise(inputs, conv.weight, conv.bias, *shape, "hardtanh", [0.0, 6.0], "")
    return made


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
