"""How similar two maps of one image look: rank correlation, structural similarity, histograms of gradients (FIDELITY 8.13).

Two maps of an image agree to some degree because both follow its edges or its ink: hold every number against that of two
unrelated models (`metrics.randomisation_floor`).
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from skimage import feature
from skimage import metrics as image_metrics
from torch import Tensor

from xai_lib import agreement, maps
from xai_lib.errors import ConfigError, InputError
from xai_lib.registry import Registry
from xai_lib.stats import as_array
from xai_lib.types import Spec

Compare = Callable[[Tensor, Tensor], Tensor]
"""(first, second) -> (n,)"""

SIMILARITIES = Registry("similarity")

BLOCK = 3
"""Cells along the side of a block of `hog`."""


def similarity(first: Tensor, second: Tensor, spec: Spec = "spearman", *, absolute: bool | None = None) -> Tensor:
    """Similarity of each map to the map at the same position.

    Args:
        first, second: (n, h, w), channel-reduced (`maps.reduce`); (n, d) for "spearman" alone.
        spec: "spearman", "ssim" or "hog"; {name: {parameters}}; or a callable (first, second) -> (n,).
        absolute: compare |map| instead of the signed map. None: as `spec` says; a callable is asked as it is.

    Returns:
        (n,) float64 on the device of `first`.

    Raises:
        ConfigError: unknown similarity or parameter.
        InputError: shapes that differ, or that the similarity cannot compare.

    >>> a, b = torch.tensor([[-3.0, -1.0, 2.0]]), torch.tensor([[3.0, 1.0, -2.0]])
    >>> similarity(a, b).round(decimals=12).item(), similarity(a, b, absolute=True).round(decimals=12).item()
    (-1.0, 1.0)
    """
    return bound_similarities({"own": spec}, absolute)["own"](first, second)


def bound_similarities(specs: Mapping[str, Spec], absolute: bool | None = None) -> dict[str, Compare]:
    """For each label the function (first, second) -> (n,) float64 of `similarity`, its name and parameters checked now.

    Raises:
        ConfigError: no mapping, an empty one, or an unknown similarity or parameter.
    """
    if not isinstance(specs, Mapping) or not specs:
        raise ConfigError(f"similarities={specs!r}: expected a mapping such as {{'SSIM': 'ssim'}}")
    return {label: _bound(spec, absolute) for label, spec in specs.items()}


def _bound(spec: Spec, absolute: bool | None) -> Compare:
    function = SIMILARITIES.bind(spec, **({} if absolute is None or callable(spec) else {"absolute": absolute}))
    return lambda first, second: torch.as_tensor(function(first, second), dtype=torch.float64, device=first.device)


@SIMILARITIES.register(label="Spearman correlation", cite="adebayo2018")
def spearman(first: Tensor, second: Tensor, *, absolute: bool = False, within: Tensor | None = None) -> Tensor:
    """Rank correlation of the pixels; free of any strictly rising transform of either map, so nothing is normalised.

    Args:
        first, second: (n, h, w) or (n, d).
        absolute: compare |map|.
        within: (n, h, w) bool, the only pixels that are compared, such as the ink of a digit. Pixels where every map is zero
            agree whatever the model.

    Returns:
        (n,) in [-1, 1]. NaN where a map is zero, constant (within the pixels compared), or holds NaN or infinity.

    Raises:
        InputError: shapes that differ, or `within` is not bool of the same shape.
    """
    one, two, finite = _pair(first, second, absolute)
    if within is None:
        found = agreement.rank_correlation(*(x.masked_fill(~_like(finite, x), 0.0) for x in (one, two)))
        return torch.as_tensor(found, device=first.device)
    if within.dtype != torch.bool or within.shape != first.shape:
        raise InputError(f"within: expected bool of shape {tuple(first.shape)}, got {within.dtype} {tuple(within.shape)}")
    rows = [_only(one[i], two[i], within[i]) if finite[i] else np.nan for i in range(len(one))]
    return torch.tensor(rows, dtype=torch.float64, device=first.device)


@SIMILARITIES.register(label="SSIM", cite="adebayo2018")
def ssim(first: Tensor, second: Tensor, *, absolute: bool = False, sigma: float = 1.5) -> Tensor:
    """Mean structural similarity of maps divided by their largest |value|: Gaussian window, K1 = 0.01, K2 = 0.03.

    Computed by scikit-image, with a range of values of 2 for signed maps and 1 for absolute ones, and without the border that
    the window does not fill. A map and its negative can have a positive SSIM, since means and covariance both change sign.

    Args:
        first, second: (n, h, w).
        absolute: compare |map|.
        sigma: of the window in pixels, above 0; its side is 2 floor(3.5 sigma + 0.5) + 1, 11 pixels by default.

    Returns:
        (n,) in [-1, 1], 1 for maps that are equal up to a positive factor; NaN as in `spearman`.

    Raises:
        ConfigError: `sigma` not above 0.
        InputError: maps smaller than the window.

    Differs from the paper: it does not give its settings. Here K1, K2 and sigma are those of the authors of SSIM.
    """
    if not 0 < sigma < float("inf"):
        raise ConfigError(f"similarity 'ssim': sigma={sigma!r}, expected a number of pixels above 0")
    one, two, finite = _pair(first, second, absolute)
    side = 2 * int(3.5 * sigma + 0.5) + 1
    _check_side(first, "ssim", side, f"a window of {side} pixels; choose a smaller sigma than {sigma}")
    own = {"gaussian_weights": True, "sigma": sigma, "use_sample_covariance": False, "data_range": 1.0 if absolute else 2.0}
    pairs = _normalised(one, two, finite)
    rows = [np.nan if pair is None else float(image_metrics.structural_similarity(*pair, **own)) for pair in pairs]
    return torch.tensor(rows, dtype=torch.float64, device=first.device)


@SIMILARITIES.register(label="HOG correlation", cite="adebayo2018")
def hog(first: Tensor, second: Tensor, *, absolute: bool = False, cell: int | None = None) -> Tensor:
    """Pearson correlation of the histograms of oriented gradients of maps divided by their largest |value|.

    Computed by scikit-image: 9 unsigned orientations, blocks of 3 x 3 cells, L2-Hys. Directions have no sign, so that a map and
    its negative are the same to it.

    Args:
        first, second: (n, h, w).
        absolute: compare |map|.
        cell: side of a cell in pixels, at least 1. None: 16 at 224 pixels, scaled with the shorter side, at least 4.

    Returns:
        (n,) in [-1, 1], 1 for maps that are equal up to a factor; NaN as in `spearman`, and where a histogram is constant.

    Raises:
        ConfigError: `cell` is no integer of at least 1.
        InputError: maps of fewer than 3 x 3 cells.

    Differs from the paper: it does not give its settings.
    """
    if cell is not None and (isinstance(cell, bool) or not isinstance(cell, int) or cell < 1):
        raise ConfigError(f"similarity 'hog': cell={cell!r}, expected an integer of at least 1")
    one, two, finite = _pair(first, second, absolute)
    size = max(4, round(16 * min(first.shape[-2:]) / 224)) if cell is None else cell
    _check_side(first, "hog", BLOCK * size, f"{BLOCK} x {BLOCK} cells of {size} pixels; choose a smaller cell")
    own = {"orientations": 9, "pixels_per_cell": (size, size), "cells_per_block": (BLOCK, BLOCK), "block_norm": "L2-Hys"}
    rows = []
    for pair in _normalised(one, two, finite):
        made = np.zeros((2, 1)) if pair is None else np.stack([feature.hog(image, **own) for image in pair])
        rows.append(float(agreement.correlation(made[:1], made[1:])[0]))
    return torch.tensor(rows, dtype=torch.float64, device=first.device)


def _pair(first: Tensor, second: Tensor, absolute: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Both as float64 on the CPU, and which rows are finite in both."""
    for name, one in (("first", first), ("second", second)):
        if not isinstance(one, Tensor) or not one.is_floating_point() or one.ndim not in (2, 3) or one.shape != first.shape:
            got = f"{one.dtype} {tuple(one.shape)}" if isinstance(one, Tensor) else type(one).__name__
            raise InputError(f"{name}: expected float maps (n, h, w) of one shape, got {got}; see maps.reduce")
    pair = [one.detach().cpu().double() for one in (first, second)]
    finite = torch.isfinite(torch.stack(pair)).flatten(2).all(dim=2).all(dim=0)
    one, two = (x.abs() if absolute else x for x in pair)
    return one, two, finite


def _like(rows: Tensor, values: Tensor) -> Tensor:
    return rows.reshape(-1, *[1] * (values.ndim - 1))


def _only(one: Tensor, two: Tensor, within: Tensor) -> float:
    if int(within.sum()) == 0:
        return float("nan")
    return float(agreement.rank_correlation(one[within][None], two[within][None])[0])


def _check_side(first: Tensor, name: str, least: int, needs: str) -> None:
    if first.ndim != 3 or min(first.shape[1:]) < least:
        raise InputError(f"similarity {name!r}: maps of shape {tuple(first.shape)} do not hold {needs}")


def _normalised(one: Tensor, two: Tensor, finite: Tensor) -> list[tuple[np.ndarray, np.ndarray] | None]:
    """The pair of each row, each map divided by its largest |value|; None where one of them is constant or not finite."""
    made: list[tuple[np.ndarray, np.ndarray] | None] = []
    for a, b, fine in zip(one, two, finite, strict=True):
        flat = bool((a == a.flatten()[0]).all()) or bool((b == b.flatten()[0]).all())
        scaled = [as_array(maps.normalise(x[None])[0]) for x in (a, b)] if fine and not flat else None
        made.append(None if scaled is None else (scaled[0], scaled[1]))
    return made
