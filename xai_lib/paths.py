"""Path methods are one integral: a sum of gradient x segment over nodes on a path from baseline to input.

The weights are the segments themselves, so they cannot fail to sum to x - x'. Methods differ only in how nodes are made.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xai_lib.compute import gradient_rows, score_rows
from xai_lib.errors import ConfigError, unknown
from xai_lib.types import Model

CELLS = 12
"""Of a way on which the score is followed."""
EVEN, WIDTH, FINE = 0.5, 0.15, 1024
"""Of `change_density`: the even share, and the smoothing, as a share of the way. Cells in which densities are inverted."""


@dataclass(frozen=True)
class Nodes:
    """A discretised path for each image, made on demand.

    like      (n, ...) the inputs; gives shape, dtype and device
    per_image number of nodes of each image
    point     (image numbers (k,), node numbers (k,)) -> points (k, ...)
    segment   same arguments -> the piece of the path each node stands for (k, ...); they sum to x - x'
    """

    like: Tensor
    per_image: int
    point: Callable[[Tensor, Tensor], Tensor]
    segment: Callable[[Tensor, Tensor], Tensor]


def quadrature(rule: str, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions in [0, 1] and weights (sum 1) of an integration rule.

    Args:
        rule: "left" (k - 1)/m, "right" k/m (Eq. 2 of document 000), "middle" (k - 1/2)/m, each with weight 1/m for
            k = 1..m; or "gauss_legendre", exact for polynomials of degree below 2m.
        steps: m, at least 1.

    Returns:
        (positions (m,), weights (m,)), float64.

    Raises:
        ConfigError: unknown rule, or steps below 1.

    Differs from Captum: its "riemann_trapezoid" has weights that sum to (n - 1)/n and is not offered (FIDELITY C6).

    >>> quadrature("right", 2)
    (array([0.5, 1. ]), array([0.5, 0.5]))
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ConfigError(f"steps={steps!r}: expected an integer of at least 1")
    offsets = {"left": 0.0, "right": 1.0, "middle": 0.5}
    if rule == "gauss_legendre":
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        return (nodes + 1) / 2, weights / 2
    if rule not in offsets:
        raise unknown("integration rule", rule, [*offsets, "gauss_legendre"])
    return (np.arange(steps) + offsets[rule]) / steps, np.full(steps, 1 / steps)


def staggered(steps: int, numbers: Sequence[int], densities: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Rules for many paths whose errors cancel: path b has its nodes at (k + u_b)/m, k = 0..m-1, each with weight 1/m.

    The offsets u_b = frac(0.5 + b / golden ratio) fill [0, 1] evenly however many paths there are, so that the mean over B
    paths samples the way in B m different places. A single path is less exact than with "middle".

    With densities p the nodes are the same quantiles of p, a = F^-1((k + u_b)/m), with weights in proportion to 1/p(a).

    Args:
        steps: m, at least 1.
        numbers: b of each path, from 0.
        densities: (len(numbers), cells) of each path, positive; p is linear between the middles of equal cells of [0, 1].

    Returns:
        (positions (len(numbers), m), weights (len(numbers), m)); the weights of a path sum to 1.
    """
    left, weights = quadrature("left", steps)
    offsets = np.mod(0.5 + np.asarray(numbers) * (5**0.5 - 1) / 2, 1.0)
    quantiles = left + offsets[:, None] / steps
    if densities is None:
        return quantiles, np.tile(weights, (len(offsets), 1))
    cells = densities.shape[1]
    middles, fine = (np.arange(cells) + 0.5) / cells, (np.arange(FINE) + 0.5) / FINE
    made = []
    for at, known in zip(quantiles, densities, strict=True):
        p = np.interp(fine, middles, known)
        mass = np.concatenate([[0.0], np.cumsum(p)])
        positions = np.interp(at, mass / mass[-1], np.linspace(0, 1, FINE + 1))
        shares = 1 / np.interp(positions, fine, p)
        made.append((positions, shares / shares.sum()))
    return np.stack([positions for positions, _ in made]), np.stack([shares for _, shares in made])


def change_density(values: np.ndarray) -> np.ndarray:
    """Where along the way a score changes: how densely `staggered` paths of one image should sample it.

    p = EVEN + (1 - EVEN) c, c the root mean square over a few paths of the score's change in each cell, smoothed by a Gaussian
    of `WIDTH` (reflected at both ends) and scaled to the mean 1. The even part keeps every place sampled.

    Args:
        values: (paths, cells + 1) scores at the edges of equal cells.

    Returns:
        (cells,), with the mean 1; even where the score does not change at all.

    >>> change_density(np.array([[0.0, 1.0, 2.0, 3.0]]))
    array([1., 1., 1.])
    """
    change = np.sqrt((np.diff(values, axis=1) ** 2).mean(axis=0))
    cells = len(change)
    at = (np.arange(cells) + 0.5) / cells
    kernel = np.sum([np.exp(-0.5 * ((at[:, None] - image) / WIDTH) ** 2) for image in (at, -at, 2 - at)], axis=0)
    smooth = kernel @ change / kernel.sum(axis=1)
    if not smooth.sum() > 0:
        return np.ones(cells)
    return EVEN + (1 - EVEN) * smooth / smooth.mean()


def way_densities(
    model: Model, inputs: Tensor, targets: Tensor, starts: Tensor, *, score: Any = "logit", max_batch: int | None = None
) -> np.ndarray:
    """`change_density` of each image: its score is followed on straight lines from a few baselines, by forward passes alone.

    Args:
        model, targets, score, max_batch: as in `path_integral`.
        inputs: (n, ...).
        starts: (n, paths, ...) baselines.

    Returns:
        (n, CELLS), for n * paths * (CELLS + 1) forward rows.
    """
    edges, paths = torch.linspace(0, 1, CELLS + 1).to(inputs), starts.shape[1]

    def rows(index: Tensor) -> tuple[Tensor, Tensor]:
        way, edge = index // len(edges), index % len(edges)
        image, start = way // paths, starts[way // paths, way % paths]
        return torch.lerp(start, inputs[image], edges[edge].reshape(-1, *[1] * (inputs.ndim - 1))), targets[image]

    made = score_rows(model, rows, len(inputs) * paths * len(edges), inputs, score=score, max_batch=max_batch)
    values = torch.cat([found for _, found in made]).double().cpu().numpy().reshape(len(inputs), paths, len(edges))
    return np.stack([change_density(own) for own in values])


def straight_line(
    inputs: Tensor,
    baselines: Tensor,
    *,
    steps: int,
    rule: str,
    numbers: Sequence[int] = (),
    densities: np.ndarray | None = None,
) -> Nodes:
    """Nodes x' + a_k (x - x') with segments w_k (x - x').

    Args:
        inputs, baselines: (n, ...).
        steps, rule: as in `quadrature`, or "staggered" with the `numbers` of the paths.
        numbers: for "staggered": which path of its image each row is, n numbers from 0.
        densities: for "staggered": of each path, see there.
    """
    if rule == "staggered" and len(numbers) == len(inputs):
        positions, weights = (torch.as_tensor(v) for v in staggered(steps, numbers, densities))
    else:
        positions, weights = (torch.as_tensor(v).expand(len(inputs), -1) for v in quadrature(rule, steps))
    return line_nodes(inputs, baselines, positions, weights)


def line_nodes(inputs: Tensor, baselines: Tensor, positions: Tensor, weights: Tensor) -> Nodes:
    """Nodes x' + a_k (x - x') on straight lines, at positions of one's own.

    Args:
        inputs, baselines: (n, ...).
        positions: (n, m) a_k of each image, in [0, 1].
        weights: (n, m) w_k; those of an image sum to 1.
    """
    inputs, baselines = inputs.detach(), baselines.detach()
    positions, weights = positions.to(inputs), weights.to(inputs)
    difference = inputs - baselines

    def along(values: Tensor, image: Tensor, node: Tensor) -> Tensor:
        return values[image, node].reshape(-1, *[1] * (inputs.ndim - 1))

    def point(image: Tensor, node: Tensor) -> Tensor:
        return torch.addcmul(baselines[image], along(positions, image, node), difference[image])

    def segment(image: Tensor, node: Tensor) -> Tensor:
        return along(weights, image, node) * difference[image]

    return Nodes(inputs, positions.shape[1], point, segment)


def path_integral(model: Model, targets: Tensor, nodes: Nodes, *, score: Any = "logit", max_batch: int | None = None) -> Tensor:
    """A_i = sum_k df(x_k)/dx_i (dx_k)_i over the nodes of each image's path.

    Args:
        model: inputs -> logits.
        targets: (n,) int64, one per image.
        nodes: the discretised paths.
        score: the explained scalar.
        max_batch: most rows (images x nodes) per pass.

    Returns:
        (n, ...) like the inputs. Sums to f(x) - f(x') up to the quadrature error.
    """
    total = torch.zeros_like(nodes.like, memory_format=torch.contiguous_format)

    def rows(index: Tensor) -> tuple[Tensor, Tensor]:
        image = index // nodes.per_image
        return nodes.point(image, index % nodes.per_image), targets[image]

    n_rows = len(nodes.like) * nodes.per_image
    for index, gradient in gradient_rows(model, rows, n_rows, nodes.like, score=score, max_batch=max_batch):
        image = index // nodes.per_image
        total.index_add_(0, image, gradient * nodes.segment(image, index % nodes.per_image))
    return total
