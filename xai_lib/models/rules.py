"""Backward rules for the calls of a forward pass: DeepLIFT and relevance propagation on any spelling of a model.

Libraries hang such rules on modules, so that functional calls, shared modules and unknown classes are passed over silently
(FIDELITY C5). Here the calls themselves are caught, `torch.relu(x)` as well as `x.relu_()` and `nn.ReLU()(x)`; the graph that
results is read afterwards, and whatever computes without a rule is refused by name. The model is not touched.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node, get_gradient_edge
from torch.overrides import TorchFunctionMode

from xai_lib.errors import UnsupportedModelError
from xai_lib.models.prepare import PRODUCTS, _between, _described, _name

IN_PLACE = frozenset(("iadd", "isub", "imul", "itruediv"))
NAMES = {
    **dict.fromkeys(("iadd", "radd"), "add"),
    **dict.fromkeys(("isub", "rsub", "subtract"), "sub"),
    **dict.fromkeys(("imul", "rmul", "multiply"), "mul"),
    **dict.fromkeys(("itruediv", "truediv", "true_divide", "divide"), "div"),
    **dict.fromkeys(("matmul", "mm"), "matmul"),
    "clip": "clamp",
    "negative": "neg",
}
"""Other names of the same call."""


@dataclass(frozen=True)
class Call:
    """One call of a PyTorch function.

    name      plain name: "relu" for relu, relu_, Tensor.relu, nn.ReLU; "add" for +, += and add
    in_place  whether it writes into its first tensor
    tensors   the floating-point tensors among its arguments, in order
    """

    name: str
    function: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    in_place: bool

    @property
    def tensors(self) -> list[Tensor]:
        """Floating-point tensors among the arguments."""
        return [v for v in (*self.args, *self.kwargs.values()) if isinstance(v, Tensor) and v.is_floating_point()]

    def argument(self, place: int, name: str) -> Any:
        """The argument given at this place or under this name, else None."""
        return self.args[place] if len(self.args) > place else self.kwargs.get(name)

    def with_tensors(self, changes: Sequence[tuple[Any, Any]]) -> Any:
        """The result with some tensors replaced (old, new); what was given is never written to."""
        new = {id(old): value for old, value in changes}
        args = [new.get(id(v), v) for v in self.args]
        if self.in_place:
            args[0] = args[0].clone()
        return self.function(*args, **{k: new.get(id(v), v) for k, v in self.kwargs.items()})


def call_of(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
    """The call in plain terms.

    >>> call_of(torch.Tensor.relu_, (torch.ones(1),), {}).name
    'relu'
    """
    raw = str(getattr(function, "__name__", ""))
    name = raw.strip("_")
    writes = name in IN_PLACE or (raw.endswith("_") and not raw.endswith("__")) or bool(kwargs.get("inplace"))
    if not args and "input" in kwargs:
        args, kwargs = (kwargs["input"],), {k: v for k, v in kwargs.items() if k != "input"}
    return Call(NAMES.get(name, name), function, tuple(args), dict(kwargs), writes)


class Calls(TorchFunctionMode):
    """Inside the block, calls of these names go to `handle`; all others run as usual.

    Args:
        names: plain names of the calls.
        handle: gets the call, gives its result.
    """

    def __init__(self, names: Collection[str], handle: Callable[[Call], Any]) -> None:
        super().__init__()
        self.names, self.handle = names, handle

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called by PyTorch in place of `func`."""
        call = call_of(func, args, kwargs or {})
        if call.name in self.names and call.tensors:
            return self.handle(call)
        return func(*args, **(kwargs or {}))


Back = Callable[[Tensor], Sequence[Tensor | None]]
"""Signal that arrives from above -> one signal for each tensor below."""


class Ruled(torch.autograd.Function):
    """A result with a backward pass of its own: what `back` says."""

    @staticmethod
    def forward(ctx: Any, result: list[Tensor], back: Back, in_place: bool, *below: Tensor) -> Tensor:
        """The result (in a list, so that it is no input); in place it is written into the first tensor below."""
        ctx.back = back
        if not in_place:
            return result[0]
        ctx.mark_dirty(below[0])
        return below[0].copy_(result[0])

    @staticmethod
    def backward(ctx: Any, *signals: Any) -> Any:
        """The rule."""
        return (None, None, None, *ctx.back(signals[0]))


class Passed(Ruled):
    """A `Ruled` result of as many values as it was made of, one for one."""


def ruled(call: Call, below: Sequence[Tensor], result: Tensor, back: Back, kind: type[Ruled] = Ruled) -> Tensor:
    """The result of a call, with the rule for the tensors below it.

    Args:
        call: decides whether the result is written in place.
        below: tensors that carry the signal on; where the call is in place, its first tensor comes first.
        result: without history.
        back: the rule.
        kind: Ruled, or Passed.
    """
    in_place = call.in_place
    if in_place and below[0] is not call.tensors[0]:  # a constant takes up the result
        own = call.tensors[0]
        return kind.apply([result.detach()], lambda signal: (None, *back(signal)), True, own, *below)
    return kind.apply([result.detach()], back, in_place, *below)


def pulled_back(out: Tensor, below: Sequence[Tensor], signal: Tensor, *, keep: bool = False) -> tuple[Tensor, ...]:
    """Signal times derivative, for each tensor below; zeros where there is none."""
    made = torch.autograd.grad(out, list(below), signal, retain_graph=keep, allow_unused=True)
    return tuple(torch.zeros_like(b) if m is None else m for m, b in zip(made, below, strict=True))


def refuse_others(
    out: Tensor, points: Tensor, known: Callable[[Node, str, list[int]], bool], *, method: str, hint: str
) -> None:
    """Read the graph between points and logits, and refuse what has no rule there.

    Args:
        out: logits with a graph.
        points: what they were computed from.
        known: (node, its name, which of its inputs depend on the points) -> whether it may stay.
        method: who asks, for the message.
        hint: what to do instead.

    Raises:
        UnsupportedModelError: names every operation and how often it occurs.
    """
    start = get_gradient_edge(points).node
    between = _between(out, start)
    others: Counter[str] = Counter()
    for node in between - {start}:
        name, places = _name(node), [i for i, (before, _) in enumerate(node.next_functions) if before in between]
        if name not in ("RuledBackward", "PassedBackward") and not known(node, name, places):
            others[_told(node, name, places)] += 1
    if others:
        told = ", ".join(f"{name} ({count}x)" for name, count in sorted(others.items()))
        raise UnsupportedModelError(f"{method} has no backward rule for {told} in the model; {hint}")


def _told(node: Node, name: str, places: list[int]) -> str:
    if name in PRODUCTS:
        return f"{name} of two activations" if len(places) > 1 else name
    return _described(node, name)
