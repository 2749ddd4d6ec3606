"""How concentrated a map is: Gini index and entropy of its absolute values (FIDELITY 8.4)."""

import torch
from torch import Tensor

from xai_lib import maps
from xai_lib.metrics.checks import check_attributions, undefined_where
from xai_lib.registry import METRICS


@METRICS.register(label="Sparseness", cite="chalasani2020concise", traits={"family": "complexity"})
def sparseness(attributions: Tensor, *, reduce: str = "sum") -> Tensor:
    """Gini index of the absolute map, sum_i (2 i - p - 1) a_(i) / (p sum_i a_i) with a sorted in ascending order.

    Invariant to multiplying the map by any number but 0, and to permuting its pixels.

    Args:
        attributions: (n, c, h, w) or (n, d).
        reduce: how channels become one map (`maps.reduce`); the absolute value is taken afterwards.

    Returns:
        (n,), 0 (all pixels equal) to 1 - 1/p (one pixel only); no unit. Higher is sparser. NaN where the map is zero or holds
        NaN or infinity. A constant map gives 0.

    Differs from the document: 000 does not state the reduction; its published level (.589) is that of one-channel maps.

    >>> round(sparseness(torch.tensor([[4.0, -3.0, 2.0, 1.0]])).item(), 6)
    0.25
    """
    values = _absolute(attributions, reduce).sort(dim=1).values
    p = values.shape[1]
    weights = 2 * torch.arange(1, p + 1, device=values.device, dtype=values.dtype) - p - 1
    total = values.sum(dim=1)
    gini = (weights * values).sum(dim=1) / (p * total)
    return undefined_where(gini, _empty(total)).to(attributions.dtype)


@METRICS.register(label="Complexity", cite="bhatt2020evaluating", traits={"family": "complexity"})
def complexity(attributions: Tensor, *, reduce: str = "sum") -> Tensor:
    """Entropy of the absolute map, - sum_i q_i ln q_i with q = a / sum a.

    Invariant to multiplying the map by any number but 0, and to permuting its pixels.

    Args:
        attributions: (n, c, h, w) or (n, d).
        reduce: how channels become one map (`maps.reduce`); the absolute value is taken afterwards.

    Returns:
        (n,), 0 (one pixel only) to ln p (all pixels equal), in nats. Lower is simpler. NaN where the map is zero or holds NaN
        or infinity. A constant map gives ln p.

    Differs from the document: 000 states neither reduction nor unit; its published level (10.21) fits one-channel maps of
    224 x 224 pixels and nats (ln 50176 = 10.823).

    >>> round(complexity(torch.tensor([[4.0, -3.0, 2.0, 1.0]])).item(), 5)
    1.27985
    """
    values = _absolute(attributions, reduce)
    total = values.sum(dim=1)
    entropy = torch.special.entr(values / total[:, None]).sum(dim=1)
    return undefined_where(entropy, _empty(total)).to(attributions.dtype)


def _absolute(attributions: Tensor, reduce: str) -> Tensor:
    check_attributions(attributions)
    return maps.reduce(attributions, reduce).flatten(1).double().abs()


def _empty(total: Tensor) -> Tensor:
    return (total == 0) | ~torch.isfinite(total)
