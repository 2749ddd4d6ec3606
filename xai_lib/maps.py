"""From signed attributions to maps (n, h, w): the one place where channels are reduced and pixels are ranked."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from xai_lib import randomness
from xai_lib.errors import ConfigError, InputError, unknown

REDUCTIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "sum": lambda a: a.sum(dim=1),
    "abs_sum": lambda a: a.sum(dim=1).abs(),
    "sum_abs": lambda a: a.abs().sum(dim=1),
    "max_abs": lambda a: a.abs().amax(dim=1),
}
"""Channel reductions of FIDELITY C3: signed sum, |signed sum|, sum of |.|, largest |.|; they rank pixels differently."""


def reduce(attributions: Tensor, how: str = "sum") -> Tensor:
    """One value per pixel from one value per channel.

    Args:
        attributions: (n, c, h, w), or (n, d) for tables, which have no channels: there "sum" is the identity and the other
            three are |.|.
        how: "sum" (signed), "abs_sum" |sum|, "sum_abs" sum of |.|, "max_abs" largest |.|.

    Returns:
        (n, h, w), or (n, d).

    Raises:
        ConfigError: unknown `how`.
        InputError: any other number of dimensions.

    >>> pixel = torch.tensor([3.0, -1.0, -4.0]).reshape(1, 3, 1, 1)
    >>> [reduce(pixel, how).item() for how in REDUCTIONS]
    [-2.0, 2.0, 8.0, 4.0]
    """
    if how not in REDUCTIONS:
        raise unknown("channel reduction", how, REDUCTIONS)
    if attributions.ndim == 2:
        return attributions if how == "sum" else attributions.abs()
    if attributions.ndim != 4:
        raise InputError(f"attributions: expected (n, c, h, w) or (n, d), got shape {tuple(attributions.shape)}")
    return REDUCTIONS[how](attributions)


def normalise(maps: Tensor, how: str = "max_abs") -> Tensor:
    """Each map scaled by itself.

    Args:
        maps: (n, ...).
        how: "max_abs" divides by the largest |value|: into [-1, 1], sign and zero kept; "min_max" shifts and scales into
            [0, 1], so that zero loses its place.

    Returns:
        Same shape. A map that cannot be scaled (all zero; for "min_max": constant) becomes all zero.

    >>> normalise(torch.tensor([[-4.0, 2.0]])).tolist()
    [[-1.0, 0.5]]
    """
    flat = maps.flatten(1)
    if how == "max_abs":
        scale = flat.abs().amax(dim=1, keepdim=True)
    elif how == "min_max":
        flat = flat - flat.amin(dim=1, keepdim=True)
        scale = flat.amax(dim=1, keepdim=True)
    else:
        raise unknown("normalisation", how, ["max_abs", "min_max"])
    return (flat / torch.where(scale == 0, torch.ones_like(scale), scale)).reshape(maps.shape)


def ranking(maps: Tensor, *, seed: int = 0, descending: bool = True) -> Tensor:
    """Pixel indices of each map in order of value; equal values in a random order that belongs to the map.

    Ties are shuffled by a permutation keyed by `seed` and the map's own values, then sorted stably: position in the image
    never decides (FIDELITY C4; Integrated Gradients from black gives exact zeros on black pixels).

    Args:
        maps: (n, ...) without NaN; flattened to p values each.
        seed: of the tie order.
        descending: largest value first.

    Returns:
        (n, p) int64, each row a permutation of 0 .. p - 1.

    Raises:
        InputError: a map holds NaN.
    """
    if bool(maps.isnan().any()):
        bad = [i for i, row in enumerate(maps) if bool(row.isnan().any())]
        raise InputError(f"maps: NaN in rows {bad[:10]} cannot be ranked; see maps.flags, and leave those rows out")
    flat = maps.detach().flatten(1)
    shuffle = _permutations(flat, seed)
    order = flat.gather(1, shuffle).argsort(dim=1, descending=descending, stable=True)
    return shuffle.gather(1, order)


def top_mask(maps: Tensor, fraction: float, *, seed: int = 0) -> Tensor:
    """The largest pixels of each map: exactly k = floor(fraction * p), at least 1, ties broken as in `ranking`.

    A threshold at the quantile would take every tied pixel: on a 20x20 map with 29 non-zero values, the 90 % quantile is 0 and
    `>=` selects all 400 pixels; this takes 40.

    Args:
        maps: (n, h, w) or (n, d), without NaN.
        fraction: of the pixels, in (0, 1].
        seed: of the tie order.

    Returns:
        bool, same shape.

    Raises:
        ConfigError: fraction outside (0, 1].
        InputError: a map holds NaN.
    """
    if not 0 < fraction <= 1:
        raise ConfigError(f"fraction {fraction!r}: must lie in (0, 1], for instance 0.1 for the top 10 %")
    p = maps[0].numel()
    k = max(1, math.floor(fraction * p + 1e-9))  # 0.29 * 100 is 28.999999999999996
    chosen = ranking(maps, seed=seed)[:, :k]
    mask = torch.zeros(len(maps), p, dtype=torch.bool, device=maps.device)
    return mask.scatter_(1, chosen, True).reshape(maps.shape)


def flags(attributions: Tensor) -> list[str]:
    """What is wrong with each attribution: "nonfinite" (NaN or infinity), "zero" (all 0), "constant" (all equal), else "".

    >>> flags(torch.tensor([[0.0, 0.0], [2.0, 2.0], [1.0, float("nan")], [1.0, 2.0]]))
    ['zero', 'constant', 'nonfinite', '']
    """
    return [_flag(row) for row in attributions.flatten(1)]


def _flag(row: Tensor) -> str:
    if not bool(torch.isfinite(row).all()):
        return "nonfinite"
    if bool((row == 0).all()):
        return "zero"
    return "constant" if bool((row == row[0]).all()) else ""


def _permutations(flat: Tensor, seed: int) -> Tensor:
    """(n, p) int64: for each map a permutation keyed by the seed and the map's values."""
    rows = flat.cpu()
    generators = (randomness.image_generator(seed, "tie order", row) for row in rows)
    return torch.stack([torch.randperm(flat.shape[1], generator=g) for g in generators]).to(flat.device)
