"""Connected components of one map at many thresholds at once, each with its area and bounding box.

The masks {map > t} shrink as t grows, so their components form a tree. It is built from the map's peaks, not threshold by
threshold:

1. Every pixel climbs to the largest of its neighbours until it stands on a peak; pixels of one peak form a basin.
2. At threshold t two basins touch where neighbouring pixels of both lie above t, so the edges of a maximum spanning tree over
   the basins, taken from the highest, merge basins into ever larger clusters: one step per peak, the only loop in Python.
3. A pixel belongs to the largest cluster that has formed at its own level. Sorted by cluster (children first), then by falling
   level, the pixels of every component of every threshold are one interval of the sorted list: its length is the area, and box
   and first pixel are minima over an interval.
"""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree

from xai_lib.errors import ConfigError, InputError

Array = np.ndarray
EIGHT = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 0), (0, 1), (1, -1), (1, 0), (1, 1))
FOUR = ((-1, 0), (0, -1), (0, 0), (0, 1), (1, 0))


@dataclass(frozen=True)
class Components:
    """All components of {map > t} over all thresholds t; a component that several thresholds share is listed once.

    boxes       (m, 4) int64, x0 y0 x1 y1, x1 and y1 exclusive
    areas       (m,) int64, pixels
    firsts      (m,) int64, the component's first pixel in reading order, as y * width + x
    lows, highs (m,) int64: it is a component at thresholds number lows .. highs, counted from 0, both included
    starts      (m,) int64: its pixels are order[start : start + area]
    order       flat pixel indices, of pixels above the lowest threshold
    n_thresholds, shape   of what was asked
    """

    boxes: Array
    areas: Array
    firsts: Array
    lows: Array
    highs: Array
    starts: Array
    order: Array
    n_thresholds: int
    shape: tuple[int, int]

    def __len__(self) -> int:
        return len(self.areas)

    def at(self, threshold: int) -> Array:
        """Numbers of the components at this threshold, in reading order of their first pixels."""
        alive = np.flatnonzero((self.lows <= threshold) & (threshold <= self.highs))
        return alive[np.argsort(self.firsts[alive])]

    def mask(self, component: int) -> Array:
        """Its pixels as (h, w) bool."""
        made = np.zeros(self.shape[0] * self.shape[1], dtype=bool)
        made[self.order[self.starts[component] : self.starts[component] + self.areas[component]]] = True
        return made.reshape(self.shape)

    def best(self, values: Array) -> Array:
        """(T,) the largest of `values` (m,) among the components at each threshold; 0 where there is none, so values > 0."""
        return best_per_level(values, self.lows, self.highs, self.n_thresholds)

    def chosen(self, keys: Array) -> Array:
        """(T,) number of the component with the largest key at each threshold, -1 where there is none; keys (m,) int64 >= 0."""
        order = np.argsort(keys)
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(1, len(order) + 1)
        return np.concatenate([[-1], order])[self.best(rank)]

    @cached_property
    def largest(self) -> Array:
        """(T,) number of the component with most pixels, among equals the one that comes first in reading order; -1 if none."""
        n = self.shape[0] * self.shape[1]
        return self.chosen(self.areas * n + (n - 1 - self.firsts))

    @property
    def largest_boxes(self) -> Array:
        """(T, 4) box of the largest component at each threshold, zeros where nothing is above it."""
        return np.concatenate([self.boxes, np.zeros((1, 4), dtype=np.int64)])[self.largest]


def components(one_map: Array, thresholds: Array, *, connectivity: int = 8) -> Components:
    """The components of {map > t} for all thresholds.

    Args:
        one_map: (h, w), finite.
        thresholds: (T,) ascending, repeats allowed, finite.
        connectivity: 8 (pixels that share a corner touch) or 4.

    Returns:
        Components, in no particular order; what a loop over thresholds with OpenCV's connectedComponentsWithStats finds.

    Raises:
        InputError: the map is not (h, w), empty, or holds NaN or infinity.
        ConfigError: thresholds are not ascending numbers, or an unknown connectivity.

    >>> found = components(np.array([[0.0, 3.0, 1.0, 2.0]]), np.array([0.0, 1.0, 2.0]))
    >>> found.largest_boxes.tolist()
    [[1, 0, 4, 1], [1, 0, 2, 1], [1, 0, 2, 1]]
    """
    heights, asked = np.asarray(one_map, dtype=np.float64), np.asarray(thresholds, dtype=np.float64)
    if heights.ndim != 2 or not heights.size:
        raise InputError(f"one_map: expected one map (h, w) with pixels, got shape {heights.shape}")
    if not np.isfinite(heights).all():
        raise InputError("one_map: NaN or infinity have no place among thresholds; see maps.flags, and leave such maps out")
    if asked.ndim != 1 or not asked.size or not np.isfinite(asked).all() or (np.diff(asked) < 0).any():
        raise ConfigError(f"thresholds: expected ascending finite numbers (T,), got {thresholds!r}")
    if connectivity not in (4, 8):
        raise ConfigError(f"connectivity={connectivity!r}: expected 4 or 8")
    levels = np.searchsorted(asked, heights, side="left")  # how many thresholds lie below each pixel
    return _tree(heights, levels, len(asked), EIGHT if connectivity == 8 else FOUR)


def best_per_level(values: Array, lows: Array, highs: Array, n_levels: int) -> Array:
    """(n_levels,) for each level the largest value among intervals [low, high] that hold it; 0 where none does.

    An interval is covered by two blocks whose length is a power of two; blocks pass their value on to their halves.
    """
    blocks = np.zeros((n_levels.bit_length(), n_levels), dtype=values.dtype)
    size = _floor_log2(highs - lows + 1)
    np.maximum.at(blocks, (size, lows), values)
    np.maximum.at(blocks, (size, highs - (1 << size) + 1), values)
    for j in range(len(blocks) - 1, 0, -1):
        half = 1 << (j - 1)
        np.maximum(blocks[j - 1], blocks[j], out=blocks[j - 1])
        np.maximum(blocks[j - 1, half:], blocks[j, :-half], out=blocks[j - 1, half:])
    return blocks[0]


def _tree(heights: Array, levels: Array, n_levels: int, neighbours: tuple[tuple[int, int], ...]) -> Components:
    shape = levels.shape
    basins, peaks = _basins(heights, levels, neighbours)
    parents, births, ranks, firsts = _merge(levels.ravel()[peaks], *_saddles(basins, levels, neighbours, len(peaks)))
    pixels = np.flatnonzero(levels)
    level = levels.ravel()[pixels]
    cluster = _climb(basins.ravel()[pixels], level, parents, births)

    n = levels.size
    key = np.sort((ranks[cluster] * (n_levels + 1) + (n_levels - level)) * n + pixels)
    group, order = np.divmod(key, n)
    ends = np.flatnonzero(np.append(group[1:] != group[:-1], True)) if len(group) else np.zeros(0, dtype=np.int64)
    rank, high = np.divmod(group[ends], n_levels + 1)
    high = n_levels - high
    by_rank = np.argsort(ranks[:-1])
    own = by_rank[rank]
    low = births[parents[own]] + 1
    same = rank[1:] == rank[:-1]
    low[:-1][same] = high[1:][same] + 1
    begins = np.searchsorted(group // (n_levels + 1), firsts[own])
    x = order % shape[1]
    first, last, left, right = (interval_minima(row, begins, ends) for row in (order, -order, x, -x))
    boxes = np.stack([left, first // shape[1], 1 - right, -last // shape[1] + 1], axis=1)
    return Components(boxes, ends - begins + 1, first, low - 1, high - 1, begins, order, n_levels, (shape[0], shape[1]))


def _basins(heights: Array, levels: Array, neighbours: tuple[tuple[int, int], ...]) -> tuple[Array, Array]:
    """The number of each pixel's peak, (h, w), -1 at level 0, and the flat indices of the peaks."""
    h, w = heights.shape
    kernel = np.zeros((3, 3), dtype=np.uint8)
    for dy, dx in neighbours:
        kernel[1 + dy, 1 + dx] = 1
    padded = np.pad(heights, 1, constant_values=-np.inf)
    top = np.asarray(cv2.dilate(padded, kernel))[1:-1, 1:-1]
    here = np.arange(h * w).reshape(h, w)
    target = here.copy()
    for dy, dx in neighbours:  # in reading order: among equals the last one stays, so no plateau leads in a circle
        np.copyto(target, here + (dy * w + dx), where=padded[1 + dy : 1 + dy + h, 1 + dx : 1 + dx + w] == top)
    climb = target.ravel()
    while True:
        further = climb[climb]
        if np.array_equal(further, climb):
            break
        climb = further
    peaks = np.flatnonzero((climb == here.ravel()) & (levels.ravel() > 0))
    number = np.full(h * w, -1)
    number[peaks] = np.arange(len(peaks))
    return number[climb].reshape(h, w), peaks


def _saddles(
    basins: Array, levels: Array, neighbours: tuple[tuple[int, int], ...], n_basins: int
) -> tuple[list[int], list[int], list[int]]:
    """Edges of a maximum spanning forest over the basins, highest first: the two basins and the level at which they touch."""
    h, w = levels.shape
    pairs, touching = [], []
    for dy, dx in neighbours:
        if (dy, dx) <= (0, 0):
            continue
        one = slice(0, h - dy), slice(max(0, -dx), w - max(0, dx))
        two = slice(dy, h), slice(max(0, dx), w - max(0, -dx))
        level = np.minimum(levels[one], levels[two])
        crossing = (level > 0) & (basins[one] != basins[two])
        a, b = basins[one][crossing], basins[two][crossing]
        pairs.append(np.minimum(a, b) * n_basins + np.maximum(a, b))
        touching.append(level[crossing])
    scale = int(levels.max()) + 1
    packed = np.sort(np.concatenate(pairs) * scale + np.concatenate(touching))
    pair, level = np.divmod(packed, scale)
    highest = np.append(pair[1:] != pair[:-1], True)[: len(pair)]
    first, second = np.divmod(pair[highest], max(1, n_basins))
    graph = coo_array(((scale - level[highest]).astype(float), (first, second)), shape=(n_basins, n_basins))
    tree = minimum_spanning_tree(graph.tocsr()).tocoo()
    sorted_edges = np.argsort(tree.data)
    a, b = tree.coords
    return a[sorted_edges].tolist(), b[sorted_edges].tolist(), (scale - tree.data[sorted_edges]).astype(int).tolist()


def _merge(summits: Array, a: list[int], b: list[int], levels: list[int]) -> tuple[Array, Array, Array, Array]:
    """Clusters of basins: of each its parent, the level where it forms, its rank (children first), the first rank below it.

    The last entry is what all last clusters hang on; it forms at level 0.
    """
    n = len(summits)
    total = n + len(a)
    leader, parents, sizes = list(range(total)), [total] * (total + 1), [1] * total
    for new, (one, two) in enumerate(zip(a, b, strict=True), start=n):
        while leader[one] != one:
            leader[one] = one = leader[leader[one]]
        while leader[two] != two:
            leader[two] = two = leader[leader[two]]
        leader[one] = leader[two] = parents[one] = parents[two] = new
        sizes[new] += sizes[one] + sizes[two]
    firsts, free = [0] * total, [0] * (total + 1)  # of each cluster the next rank that is free for a child
    for cluster in range(total - 1, -1, -1):
        parent = parents[cluster]
        firsts[cluster] = free[cluster] = free[parent]
        free[parent] += sizes[cluster]
    starts = np.array([*firsts, 0], dtype=np.int64)
    ranks = starts + np.array([*sizes, 1], dtype=np.int64) - 1
    births = np.concatenate([summits, np.array([*levels, 0], dtype=np.int64)])
    return np.array(parents, dtype=np.int64), births, ranks, starts


def _climb(cluster: Array, level: Array, parents: Array, births: Array) -> Array:
    """From each pixel's basin to the largest cluster that has formed at the pixel's level, by steps that are powers of two."""
    jumps = [parents]
    while (jumps[-1] != len(parents) - 1).any():
        jumps.append(jumps[-1][jumps[-1]])
    moving = np.flatnonzero(births[parents[cluster]] >= level)
    here, level = cluster[moving], level[moving]
    for jump in reversed(jumps):
        further = jump[here]
        here = np.where(births[further] >= level, further, here)
    made = cluster.copy()
    made[moving] = here
    return made


def interval_minima(row: Array, begins: Array, ends: Array) -> Array:
    """min(row[begin : end + 1]) of each interval: two blocks whose length is a power of two cover it."""
    size = _floor_log2(ends - begins + 1)
    found = np.empty(len(ends), dtype=np.int64)
    block = row.astype(np.int32) if row.size < 2**31 else row
    for j in range(int(size.max()) + 1 if len(size) else 0):
        these = np.flatnonzero(size == j)
        found[these] = np.minimum(block[begins[these]], block[ends[these] - (1 << j) + 1])
        block = np.minimum(block[: -(1 << j)], block[1 << j :])
    return found


def _floor_log2(counts: Array) -> Array:
    return np.frexp(counts.astype(np.float64))[1].astype(np.int64) - 1
