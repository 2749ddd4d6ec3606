"""Convolutions and their ReLU6 in one call of oneDNN's, forward and backward, where that changes rounding at most."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeGuard

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


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


class Stage(NamedTuple):
    """min(max(conv(x), 0), 6), cropped or not; without `bounded` the convolution alone."""

    conv: nn.Conv2d
    cropped: bool = False
    bounded: bool = False


class Layers(nn.Sequential):
    """nn.Sequential in which a convolution and its ReLU6 are one call where that changes rounding at most.

    It takes a fifth less time. That is on a CPU, in float32, without gradients, and without hooks on the layers concerned.
    The call is oneDNN's, the one that TorchInductor makes; where this build of PyTorch lacks it, nothing changes.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(n, c, h, w) -> what the layers make of it, one after the other."""
        if torch.is_grad_enabled() or not _may_fuse(input):
            return super().forward(input)
        out = input
        for part in self._parts():
            out = _ahead(part, out) if isinstance(part, Stage) else part(out)
        return out

    def gradient_forward(self, inputs: Tensor) -> Tensor:
        """The same where the gradient to the inputs is asked, of first order, and no other gradient.

        Convolutions that follow each other are one step of the graph, whose way back keeps and copies less. Where a parameter
        asks for a gradient, or anything else stands in the way, the layers are called one after the other as usual.

        Raises:
            RuntimeError: a gradient of second order is asked (PyTorch's message).
        """
        if not _may_fuse(inputs) or not torch.is_grad_enabled() or any(p.requires_grad for p in self.parameters()):
            return self(inputs)
        out, waiting = inputs, list[Stage]()
        for part in self._parts():
            if isinstance(part, Stage) or _plain(part):
                waiting.append(part if isinstance(part, Stage) else Stage(part))
            else:
                out = gradient_forward(part, _Chain.apply(out, waiting) if waiting else out)
                waiting = []
        return _Chain.apply(out, waiting) if waiting else out

    def _parts(self) -> Iterator[nn.Module | Stage]:
        layers, at = list(self), 0
        while at < len(layers):
            crop = layers[at + 1 : at + 2] if at + 2 < len(layers) and isinstance(layers[at + 1], Crop) else []
            group = layers[at : at + 2 + len(crop)]
            if _plain(group[0]) and type(group[-1]) is nn.ReLU6 and not any(map(_hooked, group)):
                yield Stage(group[0], cropped=bool(crop), bounded=True)
                at += len(group)
            else:
                yield group[0]
                at += 1


def gradient_forward(model: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """What the model returns, in the way that is fastest where only the gradient to the inputs is asked, of first order.

    That is `model.gradient_forward` where it has one and no hooks, and the model as usual elsewhere.

    >>> gradient_forward(nn.Identity(), torch.ones(2))
    tensor([1., 1.])
    """
    own = getattr(model, "gradient_forward", None)
    if own is None or (isinstance(model, nn.Module) and _hooked(model)):
        return model(inputs)
    out: Tensor = own(inputs)
    return out


def _may_fuse(inputs: Tensor) -> bool:
    if torch.is_autocast_enabled("cpu") or not torch.backends.mkldnn.is_available():
        return False
    return inputs.device.type == "cpu" and inputs.dtype == torch.float32 and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


def _plain(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    if type(module) is not nn.Conv2d or _hooked(module):
        return False
    return module.padding_mode == "zeros" and not isinstance(module.padding, str)


def _hooked(module: nn.Module) -> bool:
    return any(getattr(module, name) for name in HOOKS) or "forward" in vars(module)


def _conv_relu6(conv: nn.Conv2d, inputs: Tensor) -> Tensor:
    shape = (conv.padding, conv.stride, conv.dilation, conv.groups)
    made: Tensor = torch.ops.mkldnn._convolution_pointwise(inputs, conv.weight, conv.bias, *shape, "hardtanh", [0.0, 6.0], "")
    return made


def _ahead(stage: Stage, inputs: Tensor) -> Tensor:
    if not stage.bounded:
        return stage.conv(inputs)
    out = _conv_relu6(stage.conv, inputs)
    return out[:, :, 1:, 1:].contiguous(memory_format=torch.channels_last) if stage.cropped else out


class _Chain(torch.autograd.Function):
    """Stages one after the other; the way back gives the gradient to the inputs only."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, stages: list[Stage]) -> Tensor:
        values = [inputs]
        for stage in stages:
            values.append(_ahead(stage, values[-1]))
        ctx.stages = stages
        ctx.save_for_backward(*values)
        return values[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, signal: Tensor) -> Any:
        *below, above = ctx.saved_tensors
        own = False  # whether nobody else holds the signal
        for stage, given in zip(reversed(ctx.stages), reversed(below), strict=True):
            if stage.bounded:
                signal = _bounded_back(signal, above, cropped=stage.cropped, own=own)
            conv = stage.conv
            signal, _, _ = torch.ops.aten.convolution_backward(
                signal, given, conv.weight, None, conv.stride, conv.padding, conv.dilation, False, [0, 0], conv.groups,
                [True, False, False],
            )  # fmt: skip
            above, own = given, True
        return signal, None


def _bounded_back(signal: Tensor, result: Tensor, *, cropped: bool, own: bool) -> Tensor:
    """The signal where 0 < result < 6, and 0 elsewhere; with a first row and column of zeros where those were dropped."""
    if not cropped:
        made = signal if own else torch.empty_like(result)
        torch.ops.aten.hardtanh_backward.grad_input(signal, result, 0.0, 6.0, grad_input=made)
        return made
    n, channels, height, width = result.shape
    made = torch.empty((n, channels, height + 1, width + 1), memory_format=torch.channels_last)
    made[:, :, 0] = 0
    made[:, :, :, 0] = 0
    torch.ops.aten.hardtanh_backward.grad_input(signal, result, 0.0, 6.0, grad_input=made[:, :, 1:, 1:])
    return made
