"""The Rescale rule of DeepLIFT: multipliers delta out / delta in for the calls of a model (FIDELITY 3.8)."""

from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node

from xai_lib.compute import channels_last_copy
from xai_lib.errors import UnsupportedModelError
from xai_lib.models.prepare import _harmless
from xai_lib.models.rules import Call, Calls, pulled_back, refuse_others, ruled
from xai_lib.types import Model

_ELEMENTWISE = """
relu relu6 hardtanh clamp clamp_min clamp_max threshold leaky_relu rrelu prelu elu selu celu gelu silu mish sigmoid tanh
softplus softsign logsigmoid hardswish hardsigmoid hardshrink softshrink exp log sqrt square pow abs sin cos erf reciprocal
rdiv rtruediv rpow maximum minimum max min
"""
ELEMENTWISE = frozenset(_ELEMENTWISE.split())
"""One number in, one number out: the multiplier is delta out / delta in."""

POOLS = frozenset(f"{kind}max_pool{d}d" for kind in ("", "adaptive_") for d in (1, 2, 3))
_NOT_LINEAR = "MaxPool2DWithIndices MaxPool3DWithIndices AdaptiveMaxPool2D AdaptiveMaxPool3D NativeLayerNorm NativeGroupNorm"
NOT_LINEAR = frozenset(_NOT_LINEAR.split())
"""Operations that back-propagation passes, and that are not linear."""


class Rescaled:
    """The model of x in the light of the pass of x': its gradient is the multiplier."""

    def __init__(self, model: Model, method: str) -> None:
        self.model, self.method = model, method
        self.references = torch.empty(0)
        self.seen: deque[tuple[str, list[Tensor]]] = deque()

    def __call__(self, points: Tensor) -> Tensor:
        """The model's own logits of the points, with multipliers for derivatives."""
        if not torch.is_grad_enabled():
            return self.model(points)
        names = ELEMENTWISE | POOLS | {"mul"}
        self.seen.clear()
        with Calls(names, self._remember):
            self.model(channels_last_copy(self.references))
        with Calls(names, self._rescale):
            out = self.model(points)
        if self.seen:
            raise self._unlike(f"{len(self.seen)} calls are missing")
        if isinstance(out, Tensor) and out.requires_grad:
            hint = "use integrated_gradients or gradient_shap, or write the model with one-to-one activations and max pooling"
            refuse_others(out, points, _linear, method=self.method, hint=hint)
        return out

    def _remember(self, call: Call) -> Any:
        self.seen.append((call.name, [tensor.detach().clone() for tensor in call.tensors]))
        return call.function(*call.args, **call.kwargs)

    def _rescale(self, call: Call) -> Any:
        name, before = self.seen.popleft() if self.seen else ("nothing", [])
        if (name, [b.shape for b in before]) != (call.name, [t.shape for t in call.tensors]):
            raise self._unlike(f"{call.name} was called where the baseline had {name}")
        below = [i for i, tensor in enumerate(call.tensors) if tensor.requires_grad]
        if not below:
            return call.function(*call.args, **call.kwargs)
        for i, (tensor, then) in enumerate(zip(call.tensors, before, strict=True)):
            if i not in below and not torch.equal(tensor, then):
                raise UnsupportedModelError(
                    f"{self.method}: a factor or bound of {call.name} changes with the input and carries no gradient "
                    "(a mask such as x > 0?); use integrated_gradients, or write it as an activation"
                )
        if call.name == "mul" and len(call.tensors) == 2:
            return _product(call, before, below)
        if call.name in POOLS and below == [0]:
            return _pooled(call, before[0])
        return _one_to_one(call, before, below[0]) if len(below) == 1 else call.function(*call.args, **call.kwargs)

    def _unlike(self, found: str) -> UnsupportedModelError:
        return UnsupportedModelError(
            f"{self.method}: the model makes other calls for the input than for its baseline ({found}); "
            "its forward may not decide by the values of the inputs"
        )


def _linear(node: Node, name: str, places: list[int]) -> bool:
    if name in NOT_LINEAR or getattr(node, "_saved_training", False):
        return False
    return _harmless(node, name, places)


def _one_to_one(call: Call, before: Sequence[Tensor], place: int) -> Any:
    own = call.tensors[place]
    now, then = own.detach().clone().requires_grad_(True), before[place]
    with torch.enable_grad():
        out = call.with_tensors([(own, now)])
    if call.name == "mul" or not isinstance(out, Tensor) or out.shape != own.shape:
        return call.function(*call.args, **call.kwargs)  # a factor of numbers; a reduction, which the graph will tell
    (slope,) = pulled_back(out, [now], torch.ones_like(out))
    with torch.no_grad():
        multiplier = _ratio(out - call.with_tensors([(own, then)]), now - then, slope, _level(now, then))
    return ruled(call, [own], out, lambda signal: (signal * multiplier,))


def _level(now: Tensor, then: Tensor) -> Tensor:
    """Differences up to this one are rounding."""
    return 64 * torch.finfo(now.dtype).eps * torch.maximum(now.abs(), then.abs())


def _ratio(change: Tensor, difference: Tensor, otherwise: Tensor, level: Tensor) -> Tensor:
    equal = difference.abs() <= level
    return torch.where(equal, otherwise, change / torch.where(equal, torch.ones_like(difference), difference))


def _pooled(call: Call, then: Tensor) -> Any:
    own = call.tensors[0]
    now, then = own.detach().clone().requires_grad_(True), then.requires_grad_(True)
    with torch.enable_grad():
        out, out_then = call.with_tensors([(own, now)]), call.with_tensors([(own, then)])
    if not isinstance(out, Tensor):
        return call.function(*call.args, **call.kwargs)
    change = (out - out_then).detach()
    here = (change > 0) | (_at_maximum(out, now, then) == out_then.detach())

    def back(signal: Tensor) -> tuple[Tensor]:
        (gained,) = pulled_back(out, [now], signal * torch.where(here, change, 0), keep=True)
        (lost,) = pulled_back(out_then, [then], signal * torch.where(here, 0, change), keep=True)
        (routed,) = pulled_back(out, [now], signal, keep=True)
        with torch.no_grad():
            return (_ratio(gained + lost, now - then, routed, _level(now, then)),)

    return ruled(call, [own], out, back)


def _at_maximum(out: Tensor, now: Tensor, values: Tensor) -> Tensor:
    """Other values at the place of each maximum: the derivative of the maximum along them."""
    signal = torch.zeros_like(out, requires_grad=True)
    with torch.enable_grad():
        (routed,) = torch.autograd.grad(out, now, signal, create_graph=True)
    (made,) = torch.autograd.grad(routed, signal, values.detach(), retain_graph=True)
    return made


def _product(call: Call, before: Sequence[Tensor], below: Sequence[int]) -> Any:
    middle = [((now + then) / 2).detach() for now, then in zip(call.tensors, before, strict=True)]
    out = (call.tensors[0] * call.tensors[1]).detach()

    def back(signal: Tensor) -> tuple[Tensor, ...]:
        leaves = [m.clone().requires_grad_(True) for m in middle]
        with torch.enable_grad():
            product = leaves[0] * leaves[1]
        made = pulled_back(product, leaves, signal)
        return tuple(made[i] for i in below)

    return ruled(call, [call.tensors[i] for i in below], out, back)
