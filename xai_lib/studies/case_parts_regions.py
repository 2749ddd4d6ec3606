"""Study `case_studies`, part `parts`: ink, centre and named parts of digits, found in the picture itself.

Document 004 names parts in words: the middle bar and the two verticals of a 4, the crossing of an 8, the centre of a 4 or 9.
Here each is a mask (h, w), or nothing where the picture has no such part.
"""

from collections.abc import Callable, Mapping

import numpy as np
from scipy import ndimage

INK = 0.5
"""Grey level from which a pixel counts as stroke."""
Parts = dict[str, np.ndarray]


def frame_of(ink: np.ndarray) -> tuple[int, int, int, int]:
    """Top, bottom, left, right of the ink (bottom and right exclusive); of an empty picture, the whole of it.

    >>> frame_of(np.array([[0, 0, 0], [0, 1, 1]], dtype=bool))
    (1, 2, 1, 3)
    """
    if not ink.any():
        return 0, ink.shape[0], 0, ink.shape[1]
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def centre_of(ink: np.ndarray) -> np.ndarray:
    """The middle third of the rows and of the columns of the ink's frame, (h, w) bool.

    >>> centre_of(np.ones((3, 3), dtype=bool)).astype(int).tolist()
    [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    """
    top, bottom, left, right = frame_of(ink)
    made = np.zeros(ink.shape, dtype=bool)
    made[_third(top, bottom), _third(left, right)] = True
    return made


def _third(start: int, stop: int) -> slice:
    margin = (stop - start) // 3
    return slice(start + margin, stop - margin)


def longest_run(line: np.ndarray) -> tuple[int, int]:
    """Start and stop of the longest run of True; (0, 0) where there is none, the first of equal ones.

    >>> longest_run(np.array([1, 0, 1, 1], dtype=bool))
    (2, 4)
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], line.astype(np.int8), [0]])))
    if not len(edges):
        return 0, 0
    starts, stops = edges[::2], edges[1::2]
    k = int((stops - starts).argmax())
    return int(starts[k]), int(stops[k])


def parts_of_four(ink: np.ndarray) -> Parts:
    """The middle bar, both verticals and the stem of a 4.

    The bar is the ink around the row of the longest run of ink, among rows between 35 % and 85 % of the frame's height, one
    row above and below, within the run's columns. What is above the bar belongs to the left or right vertical by the side of
    the run's middle on which it lies; what is below is the stem, which the document does not name.

    Returns:
        {"middle bar", "left vertical", "right vertical", "stem": (h, w) bool}, disjoint; none where no row has a run of three
        pixels, or a vertical has no ink.
    """
    top, bottom, _, _ = frame_of(ink)
    height = bottom - top
    rows = range(top + round(0.35 * height), top + round(0.85 * height))
    runs = {row: longest_run(ink[row]) for row in rows}
    if not runs:
        return {}
    row = max(runs, key=lambda r: runs[r][1] - runs[r][0])
    start, stop = runs[row]
    if stop - start < 3:
        return {}
    u, v = np.indices(ink.shape)
    band = (abs(u - row) <= 1) & (v >= start) & (v < stop)
    above, middle = u < row, (start + stop - 1) / 2
    parts = {
        "middle bar": ink & band,
        "left vertical": ink & ~band & above & (v <= middle),
        "right vertical": ink & ~band & above & (v > middle),
        "stem": ink & ~band & ~above,
    }
    return parts if parts["left vertical"].any() and parts["right vertical"].any() else {}


def parts_of_eight(ink: np.ndarray) -> Parts:
    """The crossing and the two loops of an 8.

    Holes are 4-connected parts of the ground that do not reach the picture's frame. The crossing is the ink nearer than a
    sixth of the digit's height (at least 2 pixels) to the point halfway between the nearest pixels of the two largest holes;
    other ink belongs to the upper or lower loop by the side of that point on which it lies.

    Returns:
        {"crossing", "upper loop", "lower loop": (h, w) bool}, disjoint; none where there are fewer than two holes.
    """
    found, count = ndimage.label(~ink)
    outside = set(np.unique(np.concatenate([found[0], found[-1], found[:, 0], found[:, -1]])))
    holes = [np.argwhere(found == k) for k in range(1, count + 1) if k not in outside]
    if len(holes) < 2:
        return {}
    one, other = sorted(holes, key=len, reverse=True)[:2]
    distances = np.linalg.norm(one[:, None] - other[None], axis=2)
    i, j = np.unravel_index(distances.argmin(), distances.shape)
    middle = (one[i] + other[j]) / 2
    top, bottom, _, _ = frame_of(ink)
    u, v = np.indices(ink.shape)
    near = np.hypot(u - middle[0], v - middle[1]) <= max(2.0, (bottom - top) / 6)
    return {
        "crossing": ink & near,
        "upper loop": ink & ~near & (u < middle[0]),
        "lower loop": ink & ~near & (u >= middle[0]),
    }


PARTS: Mapping[int, Callable[[np.ndarray], Parts]] = {4: parts_of_four, 8: parts_of_eight}
NAMED: Mapping[int, tuple[str, ...]] = {4: ("middle bar", "left vertical", "right vertical"), 8: ("crossing",)}
"""The parts that document 004 calls important."""


def named_parts(digit: int, ink: np.ndarray) -> Parts:
    """All parts of a 4 or 8, and "named parts", the union of those that the document names; none where they are not found."""
    parts = PARTS[digit](ink)
    if parts and len(NAMED[digit]) > 1:
        parts["named parts"] = np.logical_or.reduce([parts[name] for name in NAMED[digit]])
    return parts


def part_names(digit: int) -> tuple[str, ...]:
    """Names of all parts of a 4 or 8, whatever the picture."""
    four = ("middle bar", "left vertical", "right vertical", "stem", "named parts")
    return four if digit == 4 else ("crossing", "upper loop", "lower loop")
