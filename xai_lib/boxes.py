"""Boxes: x0 y0 x1 y1 in pixels. How two overlap, which one a mask has, and boxes to compare with (FIDELITY 8.15, 8.17)

Convention "exclusive", that of this library: pixel columns x0 .. x1 - 1, so that a box of one pixel has area 1 and IoU is the
ratio of areas. Convention "wsol", that of the code of Choe et al. (clovaai/wsolevaluation, 96f4b88): the same numbers are read
as inclusive (sides x1 - x0 + 1), although a box is made as x + w, y + h, cut to W - 1 and H - 1; it is one pixel too large
unless it touches the far side. Only to compare with published numbers.
"""

import math
from typing import Any

import cv2
import numpy as np

from xai_lib.errors import ConfigError, InputError, unknown

CONVENTIONS = ("exclusive", "wsol")


def iou(first: Any, second: Any, *, convention: str = "exclusive") -> np.ndarray:
    """Intersection over union of every box of one list with every box of another.

    Args:
        first: (a, 4), x0 y0 x1 y1.
        second: (b, 4).
        convention: "exclusive" or "wsol".

    Returns:
        (a, b) float64 in [0, 1]; 0 where neither of the two has any area.

    Raises:
        InputError: no (k, 4) finite numbers, or x1 < x0 or y1 < y0.
        ConfigError: unknown convention.

    >>> iou([[3, 2, 7, 5]], [[3, 2, 7, 6]]), iou([[1, 2, 5, 6]], [[3, 1, 4, 5]], convention="wsol") * 27
    (array([[0.75]]), array([[8.]]))
    """
    extra = float(_checked(convention) == "wsol")
    a, b = (as_boxes(boxes)[:, None] for boxes in (first, second))
    b = b.swapaxes(0, 1)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]) + extra
    common = sides.clip(min=0).prod(axis=-1)
    union = (a[..., 2:] - a[..., :2] + extra).prod(axis=-1) + (b[..., 2:] - b[..., :2] + extra).prod(axis=-1) - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def best_iou(predicted: Any, truth: Any, *, convention: str = "exclusive") -> np.ndarray:
    """IoU of each predicted box with the true box that fits it best.

    Args:
        predicted: (a, 4).
        truth: (k, 4), the true boxes of one image.
        convention: as in `iou`.

    Returns:
        (a,) in [0, 1]; NaN where there is no true box.
    """
    found = iou(predicted, truth, convention=convention)
    return found.max(axis=1) if found.shape[1] else np.full(len(found), np.nan)


def as_boxes(boxes: Any) -> np.ndarray:
    """(k, 4) float64, checked.

    Raises:
        InputError: no (k, 4) finite numbers, or x1 < x0 or y1 < y0.
    """
    made = np.asarray(boxes, dtype=np.float64)
    if made.shape == (0,):
        made = made.reshape(0, 4)
    if made.ndim != 2 or made.shape[1] != 4:
        raise InputError(f"boxes: expected (k, 4), x0 y0 x1 y1, got shape {made.shape}")
    wrong = ~(np.isfinite(made).all(axis=1) & (made[:, 2:] >= made[:, :2]).all(axis=1))
    if wrong.any():
        raise InputError(f"boxes: expected finite x0 <= x1 and y0 <= y1, got {made[wrong][0].tolist()}")
    return made


def mask_box(mask: np.ndarray) -> np.ndarray:
    """The tightest box around all pixels of a mask.

    Args:
        mask: (h, w) bool.

    Returns:
        (4,) int64, exclusive; zeros for an empty mask.

    >>> mask_box(np.array([[False, True, False], [True, False, False]])).tolist()
    [0, 0, 2, 2]
    """
    rows, columns = (np.flatnonzero(_mask(mask).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return np.zeros(4, dtype=np.int64)
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def largest_component_box(mask: np.ndarray, *, convention: str = "exclusive") -> np.ndarray:
    """Box of the largest 8-connected component of a mask.

    "exclusive": largest by number of pixels; among equals the one whose first pixel comes first in reading order.
    "wsol": largest by the area of the polygon through the centres of its outer pixels (a line has none, holes count as filled);
    among equals the one whose first pixel comes last, as OpenCV lists contours; the box is cut as the benchmark does.

    Args:
        mask: (h, w) bool.
        convention: "exclusive" or "wsol".

    Returns:
        (4,) int64; zeros for an empty mask.

    >>> picture = np.array([[1, 1, 0, 0], [0, 0, 0, 1], [1, 0, 0, 1]], dtype=bool)
    >>> largest_component_box(picture).tolist(), largest_component_box(picture, convention="wsol").tolist()
    ([0, 0, 2, 1], [0, 2, 1, 2])
    """
    pixels = _mask(mask).astype(np.uint8)
    if _checked(convention) == "wsol":
        contours, _ = cv2.findContours(pixels, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        if not contours:
            return np.zeros(4, dtype=np.int64)
        x, y, w, h = cv2.boundingRect(max(contours, key=cv2.contourArea))
        return wsol_boxes(np.array([[x, y, x + w, y + h]]), (pixels.shape[0], pixels.shape[1]))[0]
    count, labels, stats, _ = cv2.connectedComponentsWithStats(pixels, connectivity=8)
    if count == 1:
        return np.zeros(4, dtype=np.int64)
    areas = stats[:, cv2.CC_STAT_AREA]
    most = areas[1:].max()
    of_component = areas[labels]
    of_component[labels == 0] = 0
    x, y, w, h = (int(number) for number in stats[labels.ravel()[(of_component == most).argmax()], :4])
    return np.array([x, y, x + w, y + h])


def wsol_boxes(boxes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Exclusive boxes as the benchmark writes them: x1 and y1 cut to W - 1 and H - 1.

    Args:
        boxes: (k, 4) integers, exclusive.
        shape: (h, w) of the image.

    Returns:
        (k, 4), to be read as inclusive.
    """
    h, w = shape
    return np.minimum(boxes, [w, h, w - 1, h - 1])


def whole_box(shape: tuple[int, int]) -> np.ndarray:
    """Control: the whole image, (4,). Its IoU with a box is the box's share of the image, whatever the map."""
    return np.array([0.0, 0.0, shape[1], shape[0]])


def centre_box(shape: tuple[int, int], *, share: float = 0.5) -> np.ndarray:
    """Control: the centred box with this share of the image's area and its aspect, not rounded to pixels.

    It is also the box of a Gaussian in the centre, at some threshold.

    Raises:
        ConfigError: share outside (0, 1].

    >>> centre_box((4, 8), share=0.25).tolist()
    [2.0, 1.0, 6.0, 3.0]
    """
    if not 0 < share <= 1:
        raise ConfigError(f"share={share!r}: expected a share of the image's area in (0, 1]")
    h, w = shape
    margin = (1 - math.sqrt(share)) / 2
    return np.array([margin * w, margin * h, w - margin * w, h - margin * h])


def pixel_box(box: Any, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """x0 y0 x1 y1 of the pixels whose centres the box covers, cut to the image; x1 and y1 exclusive.

    >>> pixel_box([0.4, 0.6, 2.5, 9.0], (4, 4))
    (0, 1, 2, 4)
    """
    (own,) = as_boxes([box])
    h, w = shape
    x0, y0, x1, y1 = (min(max(math.ceil(value - 0.5), 0), size) for value, size in zip(own, (w, h, w, h), strict=True))
    return x0, y0, x1, y1


def _mask(mask: np.ndarray) -> np.ndarray:
    made = np.asarray(mask)
    if made.dtype != bool or made.ndim != 2:
        raise InputError(f"mask: expected bool (h, w), got {made.dtype} of shape {made.shape}")
    return made


def _checked(convention: str) -> str:
    if convention not in CONVENTIONS:
        raise unknown("convention of boxes", convention, CONVENTIONS)
    return convention
