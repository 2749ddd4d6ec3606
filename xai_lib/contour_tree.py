"""The boxes of the benchmark of Choe et al. at many thresholds at once (convention "wsol" of `xai_lib.boxes`).

The benchmark (clovaai/wsolevaluation, 96f4b88) rounds the map down to uint8, keeps what is above int(threshold * maximum), asks
OpenCV for all contours (RETR_TREE: those of holes too), and takes the box of the contour with the largest polygon area, or, in
version 2, the boxes of all contours. All of it follows from two component trees, of the map (8-connected) and of its negative
(4-connected: the holes). A component without holes has a polygon area that is a sum over its blocks of 2 x 2 pixels; one with
holes is traced by OpenCV, if it can be the largest at all. On maps with few peaks, where tracing all contours is quicker than
the trees, the largest contour is found step by step instead; both ways give the same boxes.
"""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from xai_lib.boxes import largest_component_box, wsol_boxes
from xai_lib.component_tree import Array, Components, best_per_level, components, interval_minima
from xai_lib.errors import ConfigError, InputError

FEW_PEAKS = 150  # where both ways take equally long at 224 px


@dataclass(frozen=True)
class ContourBoxes:
    """What the benchmark finds in one map; boxes are to be read as inclusive.

    steps    the distinct values of int(threshold * maximum)
    inverse  (T,) which step each threshold is
    scores   (h, w) 255 times the map; its integer part is what the benchmark thresholds
    """

    steps: Array
    inverse: Array
    scores: Array

    @cached_property
    def outer(self) -> Components:
        """Components of the rounded map above each of `steps`."""
        return components(self.scores, np.nextafter(self.steps + 1, 0))  # uint8(s) > step is s >= step + 1

    @cached_property
    def largest_boxes(self) -> Array:
        """(T, 4) int64: box of the contour with the largest polygon area at each threshold; zeros where there is none."""
        peaks = (self.scores >= 1) & (self.scores == cv2.dilate(self.scores, np.ones((3, 3), dtype=np.uint8)))
        if cv2.connectedComponents(peaks.astype(np.uint8))[0] <= FEW_PEAKS:
            image = self.scores.astype(np.uint8)
            made = [largest_component_box(image > step, convention="wsol") for step in self.steps.astype(np.uint8)]
            return np.stack(made)[self.inverse]
        doubled = _doubled_areas(self.outer, self.scores, self.steps)
        chosen = self.outer.chosen(doubled * self.scores.size + self.outer.firsts)
        boxes = wsol_boxes(self.outer.boxes, self.outer.shape)
        return np.concatenate([boxes, np.zeros((1, 4), dtype=np.int64)])[chosen][self.inverse]

    @cached_property
    def every_box(self) -> tuple[Array, Array, Array]:
        """Boxes (m, 4) of all contours, and the first and last step at which each is one; zeros where there is none."""
        padded = np.pad(-self.scores, 1, constant_values=1.0)
        holes = components(padded, -(self.steps[::-1] + 1.0), connectivity=4)
        inside = holes.firsts > 0
        around = holes.boxes[inside] + [-2, -2, 0, 0]  # one pixel of padding, one pixel to the pixels around the hole
        last = len(self.steps) - 1
        empty = np.flatnonzero(self.outer.largest < 0)
        boxes = np.concatenate([self.outer.boxes, around, np.zeros((len(empty), 4), dtype=np.int64)])
        lows = np.concatenate([self.outer.lows, last - holes.highs[inside], empty])
        highs = np.concatenate([self.outer.highs, last - holes.lows[inside], empty])
        return wsol_boxes(boxes, self.outer.shape), lows, highs

    def best(self, values: Array) -> Array:
        """(T,) the largest of `values`, one for each box of `every_box` and at least 0, among those at each threshold."""
        _, lows, highs = self.every_box
        return best_per_level(values, lows, highs, len(self.steps))[self.inverse]


def contour_boxes(one_map: Array, thresholds: Array) -> ContourBoxes:
    """The boxes of the benchmark.

    Args:
        one_map: (h, w) in [0, 1], as min-max scaling leaves it.
        thresholds: (T,) ascending, in [0, 1), shares of the maximum.

    Raises:
        InputError: the map is not (h, w), or holds values outside [0, 1], as in the benchmark.
        ConfigError: thresholds are not ascending numbers in [0, 1].

    >>> picture = np.array([[0.0, 0.4, 0.4], [0.0, 0.4, 1.0], [0.0, 0.0, 0.0]])
    >>> contour_boxes(picture, np.array([0.0, 0.5, 0.999])).largest_boxes.tolist()
    [[1, 0, 2, 2], [2, 1, 2, 2], [2, 1, 2, 2]]
    """
    given, asked = np.asarray(one_map, dtype=np.float64), np.asarray(thresholds, dtype=np.float64)
    if given.ndim != 2 or not given.size or not ((given >= 0) & (given <= 1)).all():
        raise InputError(
            f"one_map: expected (h, w) in [0, 1], got shape {given.shape} with values outside; scale it by min_max"
        )
    if asked.ndim != 1 or not asked.size or not ((asked >= 0) & (asked <= 1)).all() or (np.diff(asked) < 0).any():
        raise ConfigError(f"thresholds: expected ascending shares of the maximum in [0, 1], got {thresholds!r}")
    scores = given * 255
    steps, inverse = np.unique(np.floor(asked * np.floor(scores.max())), return_inverse=True)
    return ContourBoxes(steps, inverse, scores)


def _doubled_areas(outer: Components, scores: Array, steps: Array) -> Array:
    """Twice the polygon area of the outer contour of each component; too small where a component cannot be the largest.

    The polygon of pixel centres covers a block of 2 x 2 pixels wholly if all four belong to the component, half if three do.
    A component has 1 - (pixels - pairs of neighbours - blocks of one diagonal + full blocks) holes.
    """
    levels = np.searchsorted(steps + 1, scores, side="right")
    area, euler = _block_sums(levels)

    def summed(weights: Array) -> Array:
        total = np.concatenate([[0], weights[outer.order].cumsum()])
        return np.asarray(total[outer.starts + outer.areas] - total[outer.starts])

    doubled = summed(area)
    holed = np.flatnonzero(summed(euler) < 1)
    sides = outer.boxes[:, 2:] - outer.boxes[:, :2] - 1
    at_most = 2 * sides.prod(axis=1)
    at_least = outer.best(doubled + 1) - 1
    rivals = at_most[holed] >= interval_minima(at_least, outer.lows[holed], outer.highs[holed])
    for number in holed[rivals]:
        contours, _ = cv2.findContours(outer.mask(number).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        doubled[number] = round(2 * cv2.contourArea(contours[0]))
    return doubled


def _block_sums(levels: Array) -> tuple[Array, Array]:
    """Flat (h * w,): what each pixel adds to twice the polygon area, and to the Euler number, of the component it enters."""
    h, w = levels.shape
    n = h * w
    area, euler = np.zeros(n, dtype=np.int64), np.ones(n, dtype=np.int64)
    packed = levels * n + np.arange(n).reshape(h, w)
    for here, there in ((packed[:, :-1], packed[:, 1:]), (packed[:-1], packed[1:])):
        euler -= np.bincount((np.minimum(here, there) % n).ravel(), minlength=n)
    corners = np.stack([packed[:-1, :-1], packed[:-1, 1:], packed[1:, :-1], packed[1:, 1:]]).reshape(4, -1)
    entered = list(4 * corners + np.arange(4)[:, None])
    for one, two in ((0, 1), (2, 3), (0, 2), (1, 3), (1, 2)):  # sorts the four corners, the first to enter first
        entered[one], entered[two] = np.maximum(entered[one], entered[two]), np.minimum(entered[one], entered[two])
    corner, pixel = [key % 4 for key in entered[:2]], [key // 4 % n for key in entered]
    diagonal = corner[0] + corner[1] == 3
    euler -= np.bincount(pixel[1][diagonal], minlength=n)
    euler += np.bincount(pixel[2][diagonal], minlength=n) + np.bincount(pixel[3], minlength=n)
    area += np.bincount(pixel[2], minlength=n) + np.bincount(pixel[3], minlength=n)
    return area, euler
