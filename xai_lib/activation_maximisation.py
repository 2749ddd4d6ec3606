"""Pictures that a model answers most strongly to, made by gradient ascent on the input (feature visualisation).

maximise(model, classes, shape=(3, 32, 32)).pictures          # one for each class
maximise(UnitMeans(model, "act4"), units, shape=(3, 32, 32))  # one for each unit of a layer
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from xai_lib import baselines, compute
from xai_lib.checks import check_count
from xai_lib.errors import ConfigError, InputError, ModelError
from xai_lib.hooks import find_layer, probe
from xai_lib.randomness import key
from xai_lib.types import Model


@dataclass(frozen=True)
class Maximised:
    """What gradient ascent made.

    pictures  (k, ...) one for each target
    scores    (k,) score of each picture
    history   (steps, k) score before each step, at the shifted picture where there is jitter
    """

    pictures: Tensor
    scores: Tensor
    history: Tensor


class UnitMeans(nn.Module):
    """The units of a layer as the classes of a model: inputs -> (n, k), the mean of each channel over its positions.

    Args:
        model: a module in eval mode.
        layer: name of a layer that returns (n, k, h, w) or (n, k), as in `model.named_modules()`.

    Raises:
        ModelError: no such layer; when called, a layer with another output.

    >>> from xai_lib import toys
    >>> UnitMeans(toys.GapNet(), "conv")(torch.tensor([[[[1.0, 3.0]]]])).tolist()
    [[2.0, -2.0]]
    """

    def __init__(self, model: nn.Module, layer: str) -> None:
        super().__init__()
        find_layer(model, layer)
        self.model, self.layer = model, layer
        self.input_shape = getattr(model, "input_shape", None)
        self.train(model.training)

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, ...) -> (n, k)."""
        with probe(self.model, self.layer) as seen:
            self.model(inputs)
        out = seen[self.layer]
        if out.ndim not in (2, 4):
            raise ModelError(f"layer {self.layer!r} returns {tuple(out.shape)}, expected (n, k, h, w) or (n, k)")
        return out.flatten(2).mean(dim=2) if out.ndim == 4 else out


def maximise(
    model: Model,
    targets: Tensor,
    *,
    shape: Sequence[int],
    steps: int = 200,
    step_size: float = 0.5,
    start: float = 0.5,
    noise: float = 0.0,
    decay: float = 0.0,
    blur: float = 0.0,
    jitter: int = 0,
    radius: float | None = None,
    limits: tuple[float, float] | None = (0.0, 1.0),
    seed: int = 0,
    score: Any = "logit",
    max_batch: int | None = None,
) -> Maximised:
    """x <- limits(ball(blur(c + (1 - d) (x + s g / |g| - c)))), g = df_t/dx, c the grey of the start, s the step, d the decay.

    For a linear score f = w x the end is known: c + r w / |w| in a ball of radius r; c + s (1 - d) / d w / |w| with decay d;
    with limits alone each value is at the limit that the sign of its weight points to.

    Args:
        model: inputs -> logits; `UnitMeans` makes one whose logits are the units of a layer.
        targets: (k,) int64, classes or units; one picture is made for each.
        shape: of one input, such as (3, 32, 32).
        steps: at least 1.
        step_size: s, the L2 length of a step over all values of the picture, above 0.
        start: c, the value of every pixel at the start.
        noise: standard deviation of Gaussian noise added to the start, finite and at least 0.
        decay: part of x - c that is lost in each step, in [0, 1): the regulariser that L2 penalises.
        blur: standard deviation in pixels of a Gaussian that each step smooths the picture with, 0 for none.
        jitter: most pixels by which the picture is shifted (cyclically) along each axis before a gradient, 0 for none.
        radius: largest L2 distance from c, finite and above 0; None for no ball.
        limits: smallest and largest value, the first below the second; None for none.
        seed: of noise and jitter; each target draws its own, so company changes no picture, and equal targets give equal ones.
        score: what is climbed.
        max_batch: most rows per pass.

    Returns:
        Maximised.

    Raises:
        ConfigError: a number out of its range, or blur and jitter for inputs that are not images.
        InputError, ModelError: as `compute.check_request`.

    Differs from Yosinski et al. 2015: steps have a fixed length, the blur comes in every step, and pixels of small norm or
    contribution are not cut.

    >>> from xai_lib import toys
    >>> maximise(toys.linear([[3.0, -4.0]]), torch.tensor([0]), shape=(2,), start=0.0, radius=1.0, limits=None).pictures
    tensor([[ 0.6000, -0.8000]])
    """
    _check(shape, steps, step_size, noise, decay, blur, jitter, radius, limits)
    weight = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    like = torch.empty(0) if weight is None else weight.detach()
    grey = torch.full((len(targets), *shape), float(start), dtype=like.dtype, device=like.device)
    draws = [torch.Generator().manual_seed(key(seed, "maximise", int(t))) for t in targets]
    noisy = torch.stack([noise * torch.randn(tuple(shape), generator=g) for g in draws]) if noise else torch.zeros(())
    made = _limited(grey + noisy.to(grey), limits)
    compute.check_request(model, made, targets)
    history = []
    for _ in range(steps):
        shifts = [tuple(torch.randint(-jitter, jitter + 1, (2,), generator=g).tolist()) for g in draws] if jitter else []
        values, gradient = _climbed(model, _rolled(made, shifts, 1), targets, score, max_batch)
        gradient = _rolled(gradient, shifts, -1)
        length = _norm(gradient).clamp_min(torch.finfo(gradient.dtype).tiny)
        made = grey + (1 - decay) * (made + step_size * gradient / length - grey)
        made = baselines.blur(made, sigma=blur) if blur else made
        if radius is not None:
            away = made - grey
            made = grey + away * (radius / _norm(away).clamp_min(radius))
        made = _limited(made, limits)
        history.append(values)
    return Maximised(made, compute.scores(model, made, targets, score=score, max_batch=max_batch), torch.stack(history))


def _climbed(model: Model, points: Tensor, targets: Tensor, score: Any, max_batch: int | None) -> tuple[Tensor, Tensor]:
    rows = compute.scored_gradient_rows(
        model, lambda i: (points[i], targets[i]), len(points), points, score=score, max_batch=max_batch
    )
    values, gradients = zip(*(found for _, found in rows), strict=True)
    return torch.cat(values), torch.cat(gradients).contiguous()


def _rolled(pictures: Tensor, shifts: Sequence[tuple[int, ...]], sign: int) -> Tensor:
    if not shifts:
        return pictures
    moved = [x.roll((sign * dy, sign * dx), dims=(-2, -1)) for x, (dy, dx) in zip(pictures, shifts, strict=True)]
    return torch.stack(moved)


def _norm(pictures: Tensor) -> Tensor:
    """L2 length of each picture, in a shape that divides it."""
    return pictures.flatten(1).norm(dim=1).reshape(-1, *[1] * (pictures.ndim - 1))


def _limited(pictures: Tensor, limits: tuple[float, float] | None) -> Tensor:
    return pictures if limits is None else pictures.clamp(*limits)


def _check(
    shape: Sequence[int], steps: int, step_size: float, noise: float, decay: float, blur: float, jitter: int,
    radius: float | None, limits: tuple[float, float] | None,
) -> None:  # fmt: skip
    check_count("steps", steps)
    check_count("jitter", jitter, 0)
    if not 0 < step_size < inf or not (radius is None or 0 < radius < inf):
        raise ConfigError(
            f"step_size={step_size!r}, radius={radius!r}: expected finite numbers above 0 (radius=None for no ball)"
        )
    if not 0 <= decay < 1 or not 0 <= noise < inf or not 0 <= blur < inf:
        raise ConfigError(
            f"decay={decay!r}, noise={noise!r}, blur={blur!r}: expected decay in [0, 1), the others finite and at least 0"
        )
    if limits is not None and not limits[0] < limits[1]:
        raise ConfigError(f"limits={limits!r}: expected the smaller value first, such as (0.0, 1.0), or None for no limits")
    if (blur or jitter) and len(shape) != 3:
        raise ConfigError(f"blur={blur!r}, jitter={jitter!r}: they need images, shape (c, h, w), got {tuple(shape)}")
    if not len(shape) or min(shape) < 1:
        raise InputError(f"shape={tuple(shape)}: expected sides of at least 1, such as (3, 32, 32)")
