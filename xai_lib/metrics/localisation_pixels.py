"""Do the pixels of a map lie on the object? (FIDELITY 8.18, 8.19)

All of these reward area: read them with those of a constant map, of a random map, and with `selected_share`.
"""

import numpy as np
import torch
from torch import Tensor

from xai_lib import maps
from xai_lib.checks import check_count
from xai_lib.errors import ConfigError, InputError
from xai_lib.metrics.checks import check_attributions, undefined_where
from xai_lib.metrics.localisation import box_masks
from xai_lib.metrics.localisation_boxes import unit_map
from xai_lib.registry import METRICS


@METRICS.register(label="Pixel IoU", cite="gattas2020", traits={"family": "localisation"})
def pixel_iou(attributions: Tensor, boxes: tuple[np.ndarray, ...], *, k: float = 0.5, reduce: str = "sum") -> Tensor:
    """|kept and boxes| / |kept or boxes| of the pixels kept and the filled boxes.

    a = |S| / max|S|; kept are the pixels with a > 0 and a >= k * std(a), the standard deviation over all pixels (divided by
    their number), no mean added.

    Args:
        attributions: (n, c, h, w).
        boxes: one (k, 4) array per image: x0 y0 x1 y1 in pixels, x1 and y1 exclusive.
        k: standard deviations, at least 0. The document takes 0.5 here and 1 in `weighted_iou`.
        reduce: how channels become one map (`maps.reduce`).

    Returns:
        (n,) in [0, 1], higher is better; NaN where the map is all zero, holds NaN or infinity, or the image has no box. The
        map of ones scores the boxes' share of the image.

    Raises:
        ConfigError: negative k.

    >>> attributions = torch.tensor([[[[1.0, 0.5], [0.0, 0.0]]]])
    >>> pixel_iou(attributions, (np.array([[0, 0, 1, 2]]),)).item()  # doctest: +ELLIPSIS
    0.333...
    """
    kept, inside, undefined = _kept(attributions, boxes, k, reduce)
    found = ((kept > 0) & inside).flatten(1).sum(1) / ((kept > 0) | inside).flatten(1).sum(1)
    return undefined_where(found, undefined).to(attributions)


@METRICS.register(label="Weighted IoU", cite="gattas2020", traits={"family": "localisation"})
def weighted_iou(attributions: Tensor, boxes: tuple[np.ndarray, ...], *, k: float = 1.0, reduce: str = "sum") -> Tensor:
    """The document's IOU*: sum of a over the kept pixels inside the boxes, divided by |kept or boxes|.

    Arguments, a, kept, NaN rule and errors as `pixel_iou`.

    Returns:
        (n,) in [0, 1], higher is better, never above `pixel_iou` at the same k.
    """
    kept, inside, undefined = _kept(attributions, boxes, k, reduce)
    found = (kept * inside).flatten(1).sum(1) / ((kept > 0) | inside).flatten(1).sum(1)
    return undefined_where(found, undefined).to(attributions)


def selected_share(attributions: Tensor, *, k: float = 0.5, reduce: str = "sum") -> Tensor:
    """Share of the image that `pixel_iou` keeps, (n,) in (0, 1]; NaN where the map is all zero, or holds NaN or infinity."""
    whole = (np.array([[0.0, 0.0, attributions.shape[-1], attributions.shape[-2]]]),) * len(attributions)
    kept, _, undefined = _kept(attributions, whole, k, reduce)
    return undefined_where((kept > 0).flatten(1).double().mean(1), undefined).to(attributions)


def _kept(attributions: Tensor, boxes: tuple[np.ndarray, ...], k: float, reduce: str) -> tuple[Tensor, Tensor, Tensor]:
    if not k >= 0:
        raise ConfigError(f"k={k!r}: expected at least 0 standard deviations")
    check_attributions(attributions)
    size = maps.reduce(attributions.detach(), reduce).double().abs()
    inside = box_masks(boxes, size)
    top = size.flatten(1).amax(dim=1)
    undefined = ~torch.isfinite(size).flatten(1).all(dim=1) | (top == 0) | ~inside.flatten(1).any(dim=1)
    size = size.masked_fill(undefined[:, None, None], 1.0)
    scaled = size / size.flatten(1).amax(dim=1)[:, None, None]
    deviation = scaled.flatten(1).std(dim=1, correction=0)
    return scaled * (scaled >= k * deviation[:, None, None]), inside, undefined


@METRICS.register(label="Pixel average precision", cite="choe2020", traits={"family": "localisation"})
def pixel_average_precision(attributions: Tensor, masks: Tensor, *, reduce: str = "sum") -> Tensor:
    """Area under one image's precision-recall curve of its pixels: sum_t precision(t) (recall(t) - recall(next larger t)).

    The thresholds t are all values of the map; equal values enter together.

    Args:
        attributions: (n, c, h, w).
        masks: (n, h, w) bool, True on the object.
        reduce: how channels become one map (`maps.reduce`).

    Returns:
        (n,) in (0, 1], higher is better; a constant map scores the object's share of the image, a random one about that. NaN
        where the mask is empty or the map holds NaN or infinity.

    Raises:
        InputError: masks are not bool (n, h, w) of the attributions.

    Differs from Choe et al., who pool the pixels of all images: `pooled_average_precision`.

    >>> masks = torch.tensor([[[True, False], [True, False]]])
    >>> pixel_average_precision(torch.tensor([[[[4.0, 3.0], [2.0, 1.0]]]]), masks).item()  # 1/2 * 1 + 1/2 * 2/3
    0.8333333134651184
    """
    reduced = _with_masks(attributions, masks, reduce)
    rows = []
    for one_map, mask in zip(reduced.numpy(), masks.cpu().numpy(), strict=True):
        if not mask.any() or not np.isfinite(one_map).all():
            rows.append(np.nan)
            continue
        values, place = np.unique(one_map.ravel(), return_inverse=True)
        rows.append(_area(*(np.bincount(place[where.ravel()], minlength=len(values)) for where in (mask, ~mask))))
    return torch.tensor(rows, dtype=torch.float64).to(attributions)


@METRICS.register(label="Box pixel average precision", cite="choe2020", traits={"family": "localisation"})
def box_pixel_average_precision(attributions: Tensor, boxes: tuple[np.ndarray, ...], *, reduce: str = "sum") -> Tensor:
    """`pixel_average_precision` with the filled boxes for masks ("box-PxAP"): pixels of a box beside the object count as right.

    Args:
        boxes: one (k, 4) array per image: x0 y0 x1 y1 in pixels, x1 and y1 exclusive.
        Others as there.

    Returns:
        (n,) in (0, 1]; NaN where the image has no box or the map holds NaN or infinity.
    """
    check_attributions(attributions)
    return pixel_average_precision(attributions, box_masks(boxes, maps.reduce(attributions, reduce)), reduce=reduce)


def pooled_average_precision(
    attributions: Tensor, masks: Tensor, *, thresholds: int = 1000, ignored: Tensor | None = None, reduce: str = "sum"
) -> tuple[float, Tensor]:
    """PxAP of Choe et al.: the area under ONE precision-recall curve of the pixels of all images.

    Maps are min-max scaled one by one (a constant map, or one that is not finite, is all zero); the curve has a point at every
    i / thresholds and at 1.

    Args:
        attributions, masks, reduce: as in `pixel_average_precision`.
        thresholds: how many steps of equal width [0, 1) is divided into.
        ignored: (n, h, w) bool, pixels that count neither as object nor as ground.

    Returns:
        the area in [0, 1], NaN if no pixel is of an object; and (n, 2, thresholds + 1) int64, of each image how many pixels of
        the object and of the ground lie in each step: with those of a bootstrap sample added up, `pooled_area` gives its PxAP.
    """
    check_count("thresholds", thresholds)
    reduced = _with_masks(attributions, masks, reduce)
    if ignored is not None and (ignored.dtype != torch.bool or ignored.shape != masks.shape):
        raise InputError(f"ignored: expected bool {tuple(masks.shape)}, got {ignored.dtype} {tuple(ignored.shape)}")
    edges = np.append(np.arange(thresholds) * (1 / thresholds), 1.0)
    counted = torch.ones_like(masks) if ignored is None else ~ignored
    counts = np.zeros((len(masks), 2, thresholds + 1), dtype=np.int64)
    for i, one_map in enumerate(reduced.numpy()):
        step = np.searchsorted(edges, unit_map(one_map), side="right") - 1
        for row, where in enumerate((masks[i] & counted[i], ~masks[i] & counted[i])):
            counts[i, row] = np.bincount(step[where.cpu().numpy()], minlength=thresholds + 1)
    return pooled_area(counts.sum(axis=0)), torch.from_numpy(counts)


def pooled_area(counts: np.ndarray | Tensor) -> float:
    """Area under the precision-recall curve from counts (2, steps) of object and ground in rising steps; NaN without object."""
    on, off = np.asarray(counts)
    return _area(on, off) if on.sum() else float("nan")


def _area(on: np.ndarray, off: np.ndarray) -> float:
    found, wrong = on[::-1].cumsum(), off[::-1].cumsum()
    precision = found / np.maximum(found + wrong, 1)
    return float((precision * on[::-1]).sum() / found[-1])


def _with_masks(attributions: Tensor, masks: Tensor, reduce: str) -> Tensor:
    check_attributions(attributions)
    reduced = maps.reduce(attributions.detach(), reduce)
    if not isinstance(masks, Tensor) or masks.dtype != torch.bool or masks.shape != reduced.shape:
        got = f"{masks.dtype} {tuple(masks.shape)}" if isinstance(masks, Tensor) else type(masks).__name__
        raise InputError(f"masks: expected bool {tuple(reduced.shape)}, True on the object, got {got}")
    return reduced.double().cpu()
