"""Localisation of a data set at its best threshold: MaxBoxAcc and MaxBoxAccV2 of Choe et al. (FIDELITY 8.18)

One threshold for all images, chosen after the fact: a number of the data set, not of an image. So what is returned is every
image's IoU at every threshold; a bootstrap draws images and lets each sample choose its own threshold.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from xai_lib import maps
from xai_lib.boxes import CONVENTIONS, best_iou
from xai_lib.checks import check_count
from xai_lib.component_tree import components
from xai_lib.contour_tree import contour_boxes
from xai_lib.errors import ConfigError, InputError
from xai_lib.metrics.checks import check_attributions, check_choice
from xai_lib.metrics.localisation_boxes import check_truth, unit_map


@dataclass(frozen=True)
class BoxAccuracy:
    """IoU of every image at every threshold, and what follows from it.

    ious        (n, T) float64; rows of NaN are images that do not count
    thresholds  (T,) of the min-max scaled map
    levels      IoU to be reached, each with a best threshold of its own
    """

    ious: np.ndarray
    thresholds: np.ndarray
    levels: tuple[float, ...]

    @property
    def defined(self) -> np.ndarray:
        """(n,) bool: images that count."""
        return ~np.isnan(self.ious).any(axis=1)

    @property
    def curves(self) -> np.ndarray:
        """(levels, T) share of the images that count whose box reaches the level, IoU >= level; NaN if none counts."""
        if not self.defined.any():
            return np.full((len(self.levels), len(self.thresholds)), np.nan)
        return np.stack([(self.ious[self.defined] >= level).mean(axis=0) for level in self.levels])

    @property
    def best(self) -> np.ndarray:
        """(levels,) the threshold at which most images reach the level, the lowest of them; NaN if no image counts."""
        return np.where(self.defined.any(), self.thresholds[self.curves.argmax(axis=1)], np.nan)

    @property
    def value(self) -> float:
        """Mean over the levels of the best share, in [0, 1]; NaN if no image counts."""
        return float(self.curves.max(axis=1).mean())

    def resampled(self, counts: np.ndarray) -> np.ndarray:
        """`value` of samples of images, each at its own best threshold.

        Args:
            counts: (r, n), how often each of r samples holds each image.

        Returns:
            (r,); NaN for a sample that holds no image that counts.

        Raises:
            InputError: counts of another number of images.
        """
        drawn = np.asarray(counts, dtype=np.float64)
        if drawn.ndim != 2 or drawn.shape[1] != len(self.ious):
            raise InputError(f"counts: expected (r, {len(self.ious)}), one column for each image, got {drawn.shape}")
        drawn = drawn[:, self.defined]
        sizes = drawn.sum(axis=1)
        reached = [drawn @ (self.ious[self.defined] >= level) for level in self.levels]
        best = np.mean([shares.max(axis=1) for shares in reached], axis=0)
        return np.divide(best, sizes, out=np.full(len(sizes), np.nan), where=sizes > 0)


def max_box_accuracy(
    attributions: Tensor,
    boxes: tuple[np.ndarray, ...],
    *,
    thresholds: int = 1000,
    level: float = 0.5,
    convention: str = "exclusive",
    reduce: str = "sum",
) -> BoxAccuracy:
    """MaxBoxAcc: share of images whose largest component's box has IoU >= level, at the best threshold of the data set.

    Args:
        attributions: (n, c, h, w).
        boxes: one (k, 4) array per image: x0 y0 x1 y1 in pixels, x1 and y1 exclusive; the one that fits best counts.
        thresholds: T; pixels above i / T of the min-max scaled map, i = 0 .. T - 1.
        level: IoU to be reached, in [0, 1].
        convention: "exclusive": 8-connected components, the largest by pixels, exclusive boxes. "wsol": the numbers of
            clovaai/wsolevaluation, 96f4b88: the map is rounded down to 8 bits, the largest by polygon area, boxes cut to W - 1
            and H - 1, and all boxes read as inclusive. For its published numbers the true boxes must be its own, inclusive
            integers at the size of the map.
        reduce: how channels become one map (`maps.reduce`).

    Returns:
        BoxAccuracy. Rows are NaN where the image has no box and, unless "wsol", where the map is constant or not finite; there
        such a map is all zero and misses, so a method that fails often must be read with `defined`.

    Raises:
        ConfigError: a parameter out of range.
        InputError: as many boxes as images are needed; maps must be (n, c, h, w).

    >>> import torch
    >>> picture = torch.tensor([[[[9.0, 9.0, 0.0], [0.0, 0.0, 5.0], [1.0, 0.0, 0.0]]]])
    >>> found = max_box_accuracy(picture, (np.array([[0, 0, 2, 1]]),), thresholds=3)
    >>> found.ious.round(3).tolist(), found.best.round(3).tolist(), found.value
    ([[0.333, 0.333, 1.0]], [0.667], 1.0)
    """
    return _accuracy(attributions, boxes, thresholds, ((False, (level,)),), convention, reduce)[0]


def max_box_accuracy_v2(
    attributions: Tensor,
    boxes: tuple[np.ndarray, ...],
    *,
    thresholds: int = 1000,
    levels: Sequence[float] = (0.3, 0.5, 0.7),
    convention: str = "exclusive",
    reduce: str = "sum",
) -> BoxAccuracy:
    """MaxBoxAccV2: an image is right if the box of ANY component reaches the level; mean over three levels of the best share.

    Arguments as `max_box_accuracy`; in "wsol" the boxes of holes count too, as OpenCV lists their contours.
    """
    return _accuracy(attributions, boxes, thresholds, ((True, tuple(levels)),), convention, reduce)[0]


def max_box_accuracies(
    attributions: Tensor,
    boxes: tuple[np.ndarray, ...],
    *,
    thresholds: int = 1000,
    level: float = 0.5,
    levels: Sequence[float] = (0.3, 0.5, 0.7),
    convention: str = "exclusive",
    reduce: str = "sum",
) -> tuple[BoxAccuracy, BoxAccuracy]:
    """(`max_box_accuracy`, `max_box_accuracy_v2`), with the components of each map found once for both."""
    asked = ((False, (level,)), (True, tuple(levels)))
    first, second = _accuracy(attributions, boxes, thresholds, asked, convention, reduce)
    return first, second


def threshold_ious(
    one_map: np.ndarray, truth: np.ndarray, thresholds: np.ndarray, *, every: bool = False, convention: str = "exclusive"
) -> np.ndarray:
    """(T,) IoU of the box at each threshold with the true box that fits it best.

    Args:
        one_map: (h, w) in [0, 1].
        truth: (k, 4), at least one box.
        thresholds: (T,) ascending; shares of 1, in "wsol" of the map's maximum.
        every: the best of all components' boxes instead of that of the largest one.
        convention: as in `max_box_accuracy`.

    Returns:
        (T,) in [0, 1]; 0 where nothing is above the threshold ("wsol": the IoU of the box 0 0 0 0).
    """
    return next(_ious(one_map, truth, thresholds, (every,), convention))


def _ious(
    one_map: np.ndarray, truth: np.ndarray, thresholds: np.ndarray, which: Sequence[bool], convention: str
) -> Iterator[np.ndarray]:
    """(T,) IoU for each of `which`: every component or the largest one."""
    if convention == "wsol":
        contours = contour_boxes(one_map, thresholds)
        for every in which:
            if every:
                yield contours.best(best_iou(contours.every_box[0], truth, convention=convention))
            else:
                yield best_iou(contours.largest_boxes, truth, convention=convention)
        return
    found = components(one_map, thresholds)
    for every in which:
        yield found.best(best_iou(found.boxes, truth)) if every else best_iou(found.largest_boxes, truth)


def _accuracy(
    attributions: Tensor,
    boxes: tuple[np.ndarray, ...],
    thresholds: int,
    asked_for: Sequence[tuple[bool, tuple[float, ...]]],
    convention: str,
    reduce: str,
) -> list[BoxAccuracy]:
    check_choice("convention", convention, CONVENTIONS)
    check_count("thresholds", thresholds)
    for _, levels in asked_for:
        if not levels or not all(0 <= level <= 1 for level in levels):
            raise ConfigError(f"levels={levels!r}: expected at least one IoU, each in [0, 1]")
    check_attributions(attributions)
    reduced = maps.reduce(attributions.detach(), reduce)
    if reduced.ndim != 3:
        raise InputError(f"boxes need images (n, c, h, w), got attributions of shape {tuple(attributions.shape)}")
    check_truth(boxes, len(reduced))
    asked = np.arange(thresholds) * (1 / thresholds)
    which = [every for every, _ in asked_for]
    ious = np.full((len(which), len(reduced), thresholds), np.nan)
    for i, (one_map, truth) in enumerate(zip(reduced.double().cpu().numpy(), boxes, strict=True)):
        scaled = unit_map(one_map)
        if len(truth) and (convention == "wsol" or scaled.any()):
            for k, row in enumerate(_ious(scaled, truth, asked, which, convention)):
                ious[k, i] = row
    return [BoxAccuracy(own, asked, levels) for own, (_, levels) in zip(ious, asked_for, strict=True)]
