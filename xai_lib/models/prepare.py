"""Make a model explainable, or refuse it by name: backward rules for its rectifiers.

Rules that replace the derivative of ReLU (Guided Backpropagation, DeconvNet) go wrong silently in libraries that look for
modules of class nn.ReLU: on ReLU6, functional calls and shared modules they return the plain gradient (FIDELITY C5).

Here the rule is hung on the autograd graph of each forward pass. Every spelling of a rectifier (module, in place, shared,
functional, method, made in `forward`, behind a branch) is a node of its own there; whatever is neither linear nor a rectifier
is refused by name; and the model itself is not touched, so that its logits are the same bits.

Libraries that work with modules get a rewritten copy from `xai_lib.models.canonical`.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node, get_gradient_edge

from xai_lib.errors import UnsupportedModelError
from xai_lib.types import Model

Rule = Callable[[Tensor, Tensor], Tensor]
"""(gradient R that arrives at a rectifier, R * [0 < pre < top] that the model would pass on) -> what is passed on."""

_STRUCTURE = """
Add Sub Rsub Neg Mean Sum View UnsafeView ReshapeAlias Squeeze Unsqueeze Transpose T Permute Expand Repeat Clone ToCopy Alias
AsStrided Slice Select Index IndexSelect Gather Split SplitWithSizes UnsafeSplit Unbind Cat Stack Flip Roll Unfold Im2Col Col2Im
PixelShuffle PixelUnshuffle ConstantPadNd ReflectionPad1D ReflectionPad2D ReplicationPad1D ReplicationPad2D
AvgPool2D AvgPool3D AdaptiveAvgPool2D AdaptiveAvgPool3D MkldnnAdaptiveAvgPool2D UpsampleNearest2D UpsampleNearestExact2D
UpsampleBilinear2D UpsampleBilinear2DAa UpsampleBicubic2D MaxPool2DWithIndices MaxPool3DWithIndices AdaptiveMaxPool2D
AdaptiveMaxPool3D MaxUnpool2D NativeBatchNorm CudnnBatchNorm MiopenBatchNorm NativeLayerNorm NativeGroupNorm
"""
STRUCTURE = frozenset(_STRUCTURE.split())
"""Linear operations, pooling (which only routes) and normalisation: differentiated as usual."""

PRODUCTS = {
    **dict.fromkeys(("Mul", "Div", "Mm", "Bmm", "Mv", "Dot", "Linear"), 0),
    **dict.fromkeys(("Convolution", "CudnnConvolution", "MkldnnConvolution", "MiopenConvolution"), 0),
    **dict.fromkeys(("Addmm", "Addmv", "Baddbmm", "Addbmm"), 1),
}
"""Linear where only one factor depends on the input; the number is the place of the first factor."""


def with_rule(model: Model, rule: Rule, *, method: str) -> Model:
    """The model with another derivative at every rectifier: max(z, 0), and min(max(z, 0), top) such as ReLU6.

    Each forward pass hangs the rule on the graph that it makes, so nothing stays behind on the model.

    Args:
        model: inputs -> logits; any callable.
        rule: what a rectifier passes on, see `Rule`.
        method: who asks, for the message.

    Returns:
        A callable with the model's own logits. Where they carry no gradient it is the model.

    Raises:
        UnsupportedModelError: from the returned callable, where between inputs and logits there is anything but rectifiers,
            linear operations, pooling and normalisation.

    >>> guided = with_rule(lambda x: x.clamp(0, 6), lambda received, passed: passed.clamp_min(0), method="guided")
    >>> x = torch.tensor([[-1.0, 2.0, 9.0]], requires_grad=True)
    >>> guided(x).backward(torch.tensor([[1.0, 1.0, 1.0]]))
    >>> x.grad
    tensor([[0., 1., 0.]])
    """

    def forward(points: Tensor) -> Tensor:
        out = model(points)
        if isinstance(out, Tensor) and out.requires_grad and points.requires_grad:
            found, others = activations(out, points)
            if others:
                told = ", ".join(f"{name} ({count}x)" for name, count in sorted(others.items()))
                raise UnsupportedModelError(
                    f"{method} has no backward rule for {told} in the model; it is defined for ReLU, ReLU6 and clamps at 0 "
                    "between linear layers; use gradient or integrated_gradients, or replace these operations"
                )
            for node, place, inside in found:
                node.register_hook(_hook(rule, place, inside))
        return out

    return forward


def _hook(rule: Rule, place: int, inside: Callable[[], Tensor] | None) -> Any:
    def hook(passed: Any, received: Any) -> Any:
        own = passed[place] if inside is None else received[0] * inside()
        return tuple(rule(received[0], own) if i == place else gradient for i, gradient in enumerate(passed))

    return hook


Found = tuple[Node, int, Callable[[], Tensor] | None]
"""A rectifier: its node, which of its inputs is z, and where 0 < z < top (None where autograd's own mask is just that)."""


def activations(out: Tensor, points: Tensor) -> tuple[list[Found], "Counter[str]"]:
    """The non-linear operations between `points` and `out`.

    Args:
        out: a tensor with a graph.
        points: what it was computed from, requiring a gradient.

    Returns:
        The rectifiers, and how often every operation occurs that is neither a rectifier nor known to be harmless.
    """
    found: list[Found] = []
    others: Counter[str] = Counter()
    start = get_gradient_edge(points).node
    between = _between(out, start)
    for node in between:
        if node is start:
            continue
        places = [i for i, (before, _) in enumerate(node.next_functions) if before in between]
        name = _name(node)
        if _harmless(node, name, places):
            continue
        rectifier = _rectifier(node, name, places)
        if rectifier is None:
            others[_described(node, name)] += 1
        else:
            found.append(rectifier)
    return found, others


def _name(node: Node) -> str:
    """ "Relu" of "ReluBackward0"; a function of the user's own has no number, and keeps its whole name."""
    own = re.fullmatch(r"(\w+)Backward\d+", node.name())
    return own.group(1) if own else node.name()


def _between(out: Tensor, start: Node) -> set[Node]:
    """The nodes on paths from `start` to `out`."""
    if out.grad_fn is None:
        return set()
    users: dict[Node, list[Node]] = defaultdict(list)
    seen, waiting = {out.grad_fn}, [out.grad_fn]
    while waiting:
        node = waiting.pop()
        for before, _ in node.next_functions:
            if before is None:
                continue
            users[before].append(node)
            if before not in seen:
                seen.add(before)
                waiting.append(before)
    if start not in seen:
        return set()
    reached, waiting = {start}, [start]
    while waiting:
        for node in users[waiting.pop()]:
            if node not in reached:
                reached.add(node)
                waiting.append(node)
    return reached


def _harmless(node: Any, name: str, places: list[int]) -> bool:
    if name in STRUCTURE:
        return True
    if name not in PRODUCTS:
        return False
    factors = [place for place in places if place >= PRODUCTS[name]]
    if len(factors) > 1 or (name == "Div" and factors == [1]):
        return False
    return name != "Mul" or not _is_mask(node._saved_self if factors == [1] else node._saved_other, node)


def _is_mask(factor: Any, node: Any) -> bool:
    """Whether a factor is zeros and ones, one for each value: x * (x > 0) is a rectifier that hides its derivative."""
    if not isinstance(factor, Tensor) or factor.ndim < 2:
        return False
    full = list(factor.shape) == list(node._input_metadata[0].shape)
    return full and (factor.dtype == torch.bool or bool(((factor == 0) | (factor == 1)).all()))


def _rectifier(node: Any, name: str, places: list[int]) -> Found | None:
    if len(places) != 1:
        return None
    if name == "Relu" or (name == "Hardtanh" and node._saved_min_val == 0 and node._saved_max_val > 0):
        return node, 0, None
    if name == "ClampMin" and node._saved_min == 0:
        return node, 0, _open(node._saved_self, None)
    if name == "Clamp" and not isinstance(node._saved_min, Tensor) and node._saved_min == 0:
        top = node._saved_max
        if top is None or (not isinstance(top, Tensor) and top > 0):
            return node, 0, _open(node._saved_self, top)
    if name == "Maximum":
        pair = node._saved_self, node._saved_other
        mine, bound = pair[places[0]], pair[1 - places[0]]
        if not bool(bound.any()) and torch.broadcast_shapes(mine.shape, bound.shape) == mine.shape:
            return node, places[0], _open(mine, None)
    return None


def _open(pre: Tensor, top: float | None) -> Callable[[], Tensor]:
    pre = pre.detach()
    return lambda: (pre > 0) if top is None else (pre > 0) & (pre < top)


def _described(node: Any, name: str) -> str:
    if name == "Hardtanh":
        return f"Hardtanh({node._saved_min_val:g}, {node._saved_max_val:g})"
    if name.endswith("CopySlices"):
        return "an in-place change of a part of a tensor"
    if name in PRODUCTS:
        return f"{name} of an activation with another or with a mask"
    return name
