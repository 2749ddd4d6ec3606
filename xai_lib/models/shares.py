"""How a layer shares out relevance: the rules of LRP and deep Taylor decomposition for one call (FIDELITY 3.9, 3.10).

Each gets the call, the values below it, and the relevance that arrives; it returns the relevance of these values.
"""

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

from xai_lib.models.rules import Call, pulled_back


def weights_of(call: Call, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Weights and biases of a layer with input x."""
    if call.name == "matmul":
        return next(t for t in call.tensors if t is not x), None
    return call.argument(1, "weight"), call.argument(2, "bias")


def _divided(signal: Tensor, z: Tensor, epsilon: float) -> Tensor:
    return signal / (z + torch.full_like(z, epsilon).copysign(z)).detach()


def _leaves(values: Sequence[Tensor], call: Call) -> list[Tensor]:
    """Copies to differentiate with, in the widest type at hand (autocast is over by now)."""
    wide = reduce(torch.promote_types, (t.dtype for t in call.tensors))
    return [value.detach().to(wide).requires_grad_(True) for value in values]


def epsilon_shares(call: Call, values: Sequence[Tensor], signal: Tensor, epsilon: float) -> tuple[Tensor, ...]:
    """z_i / (z + epsilon sgn z), for any call that is linear in the values."""
    return _shares(call, values, _leaves(values, call), signal, epsilon)


def sum_shares(call: Call, values: Sequence[Tensor], signal: Tensor, epsilon: float) -> tuple[Tensor, ...]:
    """Shares of the terms of a sum that have its sign.

    After a rectifier only sums above 0 are relevant, so these are the shares of the positive terms.
    """
    leaves = _leaves(values, call)
    with torch.enable_grad():
        out = call.with_tensors([*zip(values, leaves, strict=True)])
    slopes = pulled_back(out, leaves, torch.ones_like(out))
    total = [torch.zeros_like(leaf) for leaf in leaves]
    for sign in (1, -1):
        here = signal * ((out >= 0) if sign > 0 else (out < 0))
        if bool(here.any()):
            pairs = zip(slopes, leaves, strict=True)
            terms = [torch.where(sign * s * v.detach() > 0, v.detach(), 0).requires_grad_(True) for s, v in pairs]
            made = _shares(call, values, terms, here, epsilon)
            total = [t + m for t, m in zip(total, made, strict=True)]
    return tuple(total)


def _shares(
    call: Call, values: Sequence[Tensor], leaves: Sequence[Tensor], signal: Tensor, epsilon: float
) -> tuple[Tensor, ...]:
    with torch.enable_grad():
        out = call.with_tensors([*zip(values, leaves, strict=True)])
    made = pulled_back(out, leaves, _divided(signal, out, epsilon))
    return tuple(leaf.detach() * share for leaf, share in zip(leaves, made, strict=True))


def signed_shares(call: Call, values: Sequence[Tensor], signal: Tensor, epsilon: float, beta: float, biases: bool) -> Tensor:
    """(1 + beta) x the shares of positive products, less beta x those of negative ones."""
    (x,), (weight, bias) = values, weights_of(call, values[0])
    none = None if bias is None else torch.zeros_like(bias)

    def shares(sign: int) -> Tensor:
        own = _clamped(bias, sign) if biases and bias is not None else none
        high, low = _leaves([x.clamp_min(0), x.clamp_max(0)], call)
        with torch.enable_grad():
            z = call.with_tensors([(x, high), (weight, _clamped(weight, sign)), (bias, own)])
            if bool((low < 0).any()):
                z = z + call.with_tensors([(x, low), (weight, _clamped(weight, -sign)), (bias, none)])
        made = pulled_back(z, [high, low], _divided(signal, z, epsilon))
        return high.detach() * made[0] + low.detach() * made[1]

    made = (1 + beta) * shares(1)
    return made - beta * shares(-1) if beta else made


def bounded_shares(
    call: Call, values: Sequence[Tensor], signal: Tensor, epsilon: float, bounds: Sequence[Tensor], rule: str
) -> Tensor:
    """Shares of w^2 (of the weights of pixels in [0, 1]), or of x w - l w+ - h w-."""
    (x,), (weight, bias) = values, weights_of(call, values[0])
    none = None if bias is None else torch.zeros_like(bias)
    low, high = (bound.expand_as(x) for bound in bounds)
    if rule == "w2":
        parts = [((high - low) ** 2, weight**2, 1)]
    else:
        parts = [(x, weight, 1), (low, _clamped(weight, 1), -1), (high, _clamped(weight, -1), -1)]
    leaves = _leaves([part for part, *_ in parts], call)
    with torch.enable_grad():
        terms = [
            sign * call.with_tensors([(x, leaf), (weight, own), (bias, none)])
            for leaf, (_, own, sign) in zip(leaves, parts, strict=True)
        ]
        z = torch.stack(terms).sum(0)
    made = pulled_back(z, leaves, _divided(signal, z, epsilon))
    return torch.stack([leaf.detach() * share for leaf, share in zip(leaves, made, strict=True)]).sum(0)


def _clamped(values: Tensor, sign: int) -> Tensor:
    return values.clamp_min(0) if sign > 0 else values.clamp_max(0)
