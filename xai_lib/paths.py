"""Path methods are one integral: a sum of gradient x segment over nodes on a path from baseline to input.

The weights are the segments themselves, so they cannot fail to sum to x - x'. Methods differ only in how nodes are made.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xai_lib.compute import gradient_rows
from xai_lib.errors import ConfigError, unknown
from xai_lib.types import Model


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


def staggered(steps: int, numbers: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Rules for many paths whose errors cancel: path b has its nodes at (k + u_b)/m, k = 0..m-1, each with weight 1/m.

    The offsets u_b = frac(0.5 + b / golden ratio) fill [0, 1] evenly however many paths there are, so that the mean over B
    paths samples the way in B m different places. A single path is less exact than with "middle".

    Args:
        steps: m, at least 1.
        numbers: b of each path, from 0.

    Returns:
        (positions (len(numbers), m), weights (len(numbers), m)).
    """
    left, weights = quadrature("left", steps)
    offsets = np.mod(0.5 + np.asarray(numbers) * (5**0.5 - 1) / 2, 1.0)
    return left + offsets[:, None] / steps, np.tile(weights, (len(offsets), 1))


def straight_line(inputs: Tensor, baselines: Tensor, *, steps: int, rule: str, numbers: Sequence[int] = ()) -> Nodes:
    """Nodes x' + a_k (x - x') with segments w_k (x - x').

    Args:
        inputs, baselines: (n, ...).
        steps, rule: as in `quadrature`, or "staggered" with the `numbers` of the paths.
        numbers: for "staggered": which path of its image each row is, n numbers from 0.
    """
    if rule == "staggered" and len(numbers) == len(inputs):
        positions, weights = (torch.as_tensor(v) for v in staggered(steps, numbers))
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
