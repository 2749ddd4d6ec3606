"""Relevance from logits to pixels: a backward pass whose signal is the relevance itself (FIDELITY 3.9, 3.10)."""

import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node, get_gradient_edge

from xai_lib.compute import channels_last_copy
from xai_lib.errors import UnsupportedModelError
from xai_lib.models.prepare import _name, activations
from xai_lib.models.rules import Call, Calls, Passed, Ruled, refuse_others, ruled
from xai_lib.models.shares import bounded_shares, epsilon_shares, signed_shares, sum_shares, weights_of
from xai_lib.types import Model

CONVOLUTIONS = frozenset(f"conv{kind}{d}d" for kind in ("", "_transpose") for d in (1, 2, 3))
WEIGHTED = CONVOLUTIONS | {"linear", "matmul"}
SUMS = frozenset(["add", "sub", "mean", "sum"]) | {f"{kind}avg_pool{d}d" for kind in ("", "adaptive_") for d in (1, 2, 3)}
ONE_TO_ONE = frozenset(["batch_norm", "mul", "div", "neg"])

_COPIES = """
View UnsafeView ReshapeAlias Squeeze Unsqueeze Transpose T Permute Expand Repeat Clone ToCopy Alias AsStrided Slice Select
Index IndexSelect Gather Split SplitWithSizes UnsafeSplit Unbind Cat Stack Flip Roll Unfold Im2Col PixelShuffle PixelUnshuffle
ConstantPadNd ReflectionPad1D ReflectionPad2D ReplicationPad1D ReplicationPad2D UpsampleNearest2D UpsampleNearestExact2D
MaxPool2DWithIndices MaxPool3DWithIndices AdaptiveMaxPool2D AdaptiveMaxPool3D
"""
COPIES = frozenset(_COPIES.split())
"""Each result is a copy of one value below: the relevance of the copies is added up, as autograd does."""


@dataclass(frozen=True)
class Rules:
    """Which rule is used where.

    pixels       first layers: epsilon, z_plus, alpha2beta1, w2 or zB
    convolution  other convolutions
    dense        other linear layers
    biases       whether positive and negative biases take their share under z_plus and alpha2beta1
    positive     start from max(logit, 0)
    """

    pixels: str
    convolution: str
    dense: str
    biases: bool = True
    positive: bool = False


class Propagated:
    """The model of which the gradient of a logit is the relevance."""

    def __init__(self, model: Model, rules: Rules, epsilon: float, method: str) -> None:
        self.model, self.rules, self.epsilon, self.method = model, rules, epsilon, method
        self.exact = {rules.pixels, rules.convolution, rules.dense} == {"epsilon"}
        self.points = torch.empty(0)
        self.layers: dict[int, tuple[Any, int, _Layer]] = {}
        self.noted: list[Tensor] = []
        self.bounds: list[list[Tensor]] = []
        self.waiting: deque[tuple[Tensor, ...]] = deque()

    def __call__(self, points: Tensor) -> Tensor:
        """The model's own logits, with relevance for a gradient."""
        if not torch.is_grad_enabled():
            return self.model(points)
        if self.rules.pixels in ("w2", "zB") and not self.bounds:
            self.bounds = [self._first_inputs(torch.full_like(points[:1], value)) for value in (0.0, 1.0)]
        self.waiting = deque(zip(*self.bounds, strict=True)) if self.bounds else deque()
        out: Any = self._forward(points)
        if not isinstance(out, Tensor) or not out.requires_grad:
            return out
        self._check(out, points)
        value = out.detach().clone()
        start = value.clamp_min(0) if self.rules.positive else value.clone()
        return ruled(Call("start", None, (out,), {}, False), [out], value, lambda signal: (signal * start,), Passed)

    def _forward(self, points: Tensor) -> Any:
        self.points = points
        self.layers, self.noted = {}, []
        with Calls(WEIGHTED | SUMS | ONE_TO_ONE, self._handle):
            out = self.model(points)
        self.points, self.layers = torch.empty(0), {}
        return out

    def _first_inputs(self, row: Tensor) -> list[Tensor]:
        """What the first layers get where all pixels are equal."""
        self._forward(channels_last_copy(row).requires_grad_(True))
        return self.noted

    def _check(self, out: Tensor, points: Tensor) -> None:
        rectifiers = {node: place for node, place, _ in activations(out, points)[0]}

        def known(node: Node, name: str, places: list[int]) -> bool:
            return node in rectifiers or name in COPIES

        hint = "it is defined for ReLU and ReLU6 between linear layers, sums, pooling and BatchNorm; use integrated_gradients"
        refuse_others(out, points, known, method=self.method, hint=hint)
        for node, place in rectifiers.items():
            node.register_hook(_passing(place))

    def _handle(self, call: Call) -> Any:
        below = [t for t in call.tensors if t.requires_grad and (t.grad_fn is not None or t is self.points)]
        if call.name == "batch_norm" and call.argument(5, "training"):
            raise UnsupportedModelError(f"{self.method} has no backward rule for batch_norm with the statistics of the batch")
        if not _has_rule(call, below):
            return call.function(*call.args, **call.kwargs)
        with torch.no_grad():
            result = call.with_tensors([])
        if call.name in WEIGHTED:
            return self._weighted(self._layer(call, below[0]), result)
        if call.name == "batch_norm":
            merged = self._merged(call, below[0], result)
            if merged is not None:
                return self._weighted(merged, result)
        kept, epsilon = _Kept(call, below), self.epsilon
        adds = call.name in SUMS and (len(below) > 1 or call.name not in ("add", "sub"))
        if self.exact or adds:
            share = epsilon_shares if self.exact else sum_shares
            kind = Ruled if adds else Passed
            return ruled(call, below, result, lambda signal: share(*kept.opened(self.method), signal, epsilon), kind)
        shape = below[0].shape
        return ruled(call, below, result, lambda signal: (signal.sum_to_size(shape),), Passed)

    def _layer(self, call: Call, x: Tensor) -> "_Layer":
        if not _at_pixels(x, self.points):
            return _Layer(call, x, self.rules.convolution if call.name in CONVOLUTIONS else self.rules.dense)
        self.noted.append(x.detach())
        return _Layer(call, x, self.rules.pixels, self.waiting.popleft() if self.waiting else ())

    def _weighted(self, layer: "_Layer", result: Tensor) -> Tensor:
        kept, bounds, epsilon, method = _Kept(layer.call, [layer.x]), layer.bounds, self.epsilon, self.method
        if layer.rule == "epsilon":
            back: Any = lambda signal: epsilon_shares(*kept.opened(method), signal, epsilon)  # noqa: E731
        elif layer.rule in ("w2", "zB"):
            back = lambda signal: (bounded_shares(*kept.opened(method), signal, epsilon, bounds, layer.rule),)  # noqa: E731
        else:
            beta = 1.0 if layer.rule == "alpha2beta1" else 0.0
            back = lambda signal: (signed_shares(*kept.opened(method), signal, epsilon, beta, self.rules.biases),)  # noqa: E731
        out = ruled(layer.call, [layer.x], result, back)
        self.layers[id(out)] = weakref.ref(out), out._version, layer
        return out

    def _merged(self, norm: Call, z: Tensor, result: Tensor) -> "_Layer | None":
        """The layer below a BatchNorm with its scale and shift, None where there is no such layer."""
        known, version, layer = self.layers.get(id(z), (lambda: None, 0, None))
        if layer is None or known() is not z or version != z._version or layer.call.name.startswith(("conv_tr", "matmul")):
            return None
        mean, variance, scale, shift = (
            norm.argument(i, k) for i, k in enumerate(("running_mean", "running_var", "weight", "bias"), 1)
        )
        weight, bias = weights_of(layer.call, layer.x)
        if len(weight) != len(mean) or (layer.call.name == "linear" and result.ndim != 2):
            return None
        with torch.no_grad():
            epsilon = norm.argument(7, "eps")
            factor = (1 if scale is None else scale) / (variance + (1e-5 if epsilon is None else epsilon)).sqrt()
            folded = ((0 if bias is None else bias) - mean) * factor + (0 if shift is None else shift)
            args = (layer.x, weight * factor.reshape(-1, *[1] * (weight.ndim - 1)), folded, *layer.call.args[3:])
        kwargs = {k: v for k, v in layer.call.kwargs.items() if k not in ("weight", "bias")}
        return replace(layer, call=replace(layer.call, args=args, kwargs=kwargs))


@dataclass(frozen=True)
class _Layer:
    """A layer with weights: its call, its input, its rule, and what its input is for the darkest and the brightest pixels."""

    call: Call
    x: Tensor
    rule: str
    bounds: tuple[Tensor, ...] = ()


class _Kept:
    """A call and its inputs, for the way back: no history, and a copy of what the call writes to."""

    def __init__(self, call: Call, below: Sequence[Tensor]) -> None:
        values = {id(t): t.detach().clone() if call.in_place else t.detach() for t in below}
        self.values = [values[id(t)] for t in below]
        self.versions = [value._version for value in self.values]
        args = [values.get(id(v), v) for v in call.args]
        if call.in_place and call.args[0] is not below[0]:
            args[0] = call.args[0].detach().clone()
        self.call = replace(call, args=tuple(args), kwargs={k: values.get(id(v), v) for k, v in call.kwargs.items()})

    def opened(self, method: str) -> tuple[Call, list[Tensor]]:
        """Call and inputs.

        Raises:
            UnsupportedModelError: the model wrote to them since.
        """
        if self.versions != [value._version for value in self.values]:
            raise UnsupportedModelError(f"{method}: the model changes the input of {self.call.name} in place after the call")
        return self.call, self.values


def _has_rule(call: Call, below: Sequence[Tensor]) -> bool:
    if call.name in ("add", "sub"):
        return len(below) > 0
    if len(below) != 1 or (call.name in ("mul", "matmul") and len(call.tensors) > 2):
        return False
    return call.name in ("mul", "matmul") or call.argument(0, "input") is below[0]


def _passing(place: int) -> Callable[[Any, Any], Any]:
    return lambda below, above: tuple(above[0] if i == place else value for i, value in enumerate(below))


def _at_pixels(x: Tensor, points: Tensor) -> bool:
    """Whether between points and x there are only copies and changes value by value."""
    start = get_gradient_edge(points).node
    waiting, seen = [get_gradient_edge(x).node], set()
    while waiting:
        node = waiting.pop()
        if node is start or node in seen:
            continue
        seen.add(node)
        name = _name(node)
        if name != "PassedBackward" and (name not in COPIES or "MaxPool" in name):
            return False
        waiting += [before for before, _ in node.next_functions if before is not None]
    return True
