"""Guided Integrated Gradients: the path moves the features with small gradients first (FIDELITY 5.4)."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xai_lib import baselines
from xai_lib.compute import check_request, input_gradient
from xai_lib.errors import ConfigError
from xai_lib.registry import METHODS
from xai_lib.types import Model, Spec

PATH_VALUES = 4 * 1024 * 1024
"""Most input values whose paths are held at once (a dozen float64 arrays of 32 MB); images are taken in groups that fit."""

TIE_UNITS = 64
"""Gradients are tied if they differ by at most this many units of rounding (eps) of the image's largest."""


@METHODS.register(
    label="Guided Integrated Gradients", cite="kapishnikov2021", traits={"family": "path integral", "gradient": True}
)
def guided_integrated_gradients(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    baseline: Spec = "black",
    steps: int = 200,
    fraction: float = 0.25,
    max_dist: float = 0.02,
    seed: int = 0,
    score: Any = "logit",
    max_batch: int | None = None,
) -> Tensor:
    """A_i = sum_k df(x_k)/dx_i (x_{k+1} - x_k)_i, x_0 = x', where each step moves the features with the smallest |df/dx_i|.

    Step k of m ends at the L1 distance ||x - x_k||_1 = (1 - k/m) ||x - x'||_1. Features are first pulled up to position
    k/m - max_dist of their way from x'_i to x_i. Of those short of k/m + max_dist, the `fraction` with the smallest
    |df(x_{k-1})/dx_i| then move on, together and up to there, and again the `fraction` with the smallest of the rest, until the
    distance is reached; the last set stops short, each feature after the same part of what it has left.

    Args:
        model: inputs -> logits.
        inputs: (n, ...) in pixel space; a feature is one value, a channel of a pixel.
        targets: (n,) int64.
        baseline: x': registered name, {name: {parameters}} or callable; a random one is its draw number 0 under `seed`.
        steps: m, at least 1; one gradient each.
        fraction: of all d features of an image, in (0, 1]: floor(fraction (d - 1)) + 1 of them, and those tied with the last
            (equal up to rounding, `TIE_UNITS`). 1 moves all alike: Integrated Gradients.
        max_dist: how far a feature may be from the straight line, in [0, 1] of its way; 0 is Integrated Gradients under the
            left rule, 1 leaves the path free.
        seed: for random baselines.
        score: the explained scalar.
        max_batch: most rows per pass.

    Returns:
        Same shape as `inputs`; sums to f(x) - f(x') up to the left Riemann error, which falls slowly with `steps` where
        `max_dist` lets features jump. The path depends on nothing but the image and its baseline; but since gradients choose
        it, another rounding (another `max_batch`) can choose another path.

    Raises:
        ConfigError: `steps` below 1, `fraction` or `max_dist` out of range, unknown baseline.
        InputError, ModelError: see `compute.check_request` and `baselines.draw`.

    Differs from the authors' code: ties are ties up to rounding. On a plain baseline a convolutional net has the same gradient
    all over, and rounding alone would choose the features, differently in every batch. Not used by document 001.

    >>> from xai_lib import toys
    >>> x, t = torch.tensor([[2.0, 3.0]]), torch.zeros(1, dtype=torch.int64)
    >>> guided_integrated_gradients(toys.product(), x, t, max_dist=0.0)
    tensor([[2.9850, 2.9850]])
    """
    check_request(model, inputs, targets)
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ConfigError(f"steps={steps!r}: expected an integer of at least 1")
    if not 0 < fraction <= 1 or not 0 <= max_dist <= 1:
        raise ConfigError(f"fraction={fraction}, max_dist={max_dist}: expected fraction in (0, 1] and max_dist in [0, 1]")
    inputs = inputs.detach()
    starts = baselines.draw(baseline, inputs, seed=seed)
    count = math.floor(fraction * (inputs[0].numel() - 1) + 1e-9) + 1
    maps = torch.zeros_like(inputs, memory_format=torch.contiguous_format)
    (apart,) = (inputs != starts).flatten(1).any(dim=1).nonzero(as_tuple=True)
    for part in apart.split(max(1, PATH_VALUES // inputs[0].numel())):
        start, difference = starts[part], (inputs[part] - starts[part]).flatten(1).double()
        weights = difference.abs() / difference.abs().sum(dim=1, keepdim=True)
        place = torch.zeros_like(difference)
        total = torch.zeros_like(difference)
        for k in range(1, steps + 1):
            points = (start.flatten(1) + place * difference).to(inputs).reshape(start.shape)
            gradients = input_gradient(model, points, targets[part], score=score, max_batch=max_batch).flatten(1)
            ahead = (
                torch.ones_like(place) if k == steps else _moved(place, weights, gradients.abs(), count, k / steps, max_dist)
            )
            total += gradients * (ahead - place) * difference
            place = ahead
        maps[part] = total.to(inputs).reshape(start.shape)
    return maps


def _moved(place: Tensor, weights: Tensor, sizes: Tensor, count: int, goal: float, max_dist: float) -> Tensor:
    """Positions after one step.

    Args:
        place: (n, d) float64 positions in [0, 1].
        weights: (n, d) float64 shares |x_i - x'_i| / ||x - x'||_1 of the features; the mean position is sum weights place.
        sizes: (n, d) |gradient|.
        count: features per set.
        goal: mean position after the step.
        max_dist: farthest from it.
    """
    high = min(goal + max_dist, 1.0)
    place = place.clamp_min(max(goal - max_dist, 0.0))
    gap = goal - (weights * place).sum(dim=1, keepdim=True)
    room = weights * (high - place).clamp_min(0)
    tied = TIE_UNITS * torch.finfo(sizes.dtype).eps * sizes.amax(dim=1, keepdim=True)
    sizes = sizes.masked_fill(room == 0, torch.inf)
    movable = (room > 0).sum(dim=1, keepdim=True)
    ordered = _sorted(sizes)
    begin, passed, below = torch.zeros_like(movable), torch.zeros_like(gap), torch.full_like(sizes[:, :1], -1)
    while True:
        last = torch.minimum(begin + count, movable).sub(1).clamp_min(0)
        limit = ordered.gather(1, last) + tied
        reach = (room * (sizes <= limit)).sum(dim=1, keepdim=True)
        end = torch.searchsorted(ordered, limit, right=True)
        short = (reach < gap) & (end < movable)
        if not bool(short.any()):
            break
        begin, passed, below = (torch.where(short, a, b) for a, b in ((end, begin), (reach, passed), (limit, below)))
    part = ((gap - passed) / (reach - passed).clamp_min(torch.finfo(gap.dtype).tiny)).clamp(0, 1)
    way = (sizes <= limit) * part
    way[sizes <= below] = 1
    return torch.lerp(place, torch.full_like(place, high), way)


def _sorted(values: Tensor) -> Tensor:
    if values.device.type == "cpu" and values.dtype != torch.bfloat16:  # NumPy sorts floats 20 times as fast as torch
        return torch.from_numpy(np.sort(values.numpy(), axis=1))
    return values.sort(dim=1).values
