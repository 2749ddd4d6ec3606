"""Rows and points of the insertion and deletion curves: what takes the place of pixels, where to look next (FIDELITY 8.7)."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor, nn
from torch.nn import functional

from xai_lib import baselines, compute
from xai_lib.errors import ConfigError, InputError, unknown
from xai_lib.models.wrapper import Normalise
from xai_lib.registry import BASELINES, Registry
from xai_lib.types import Model, Spec

Substrate = float | Spec
"""What takes the place of pixels: a number, or the name, {name: {parameters}} or callable of a substrate or baseline."""

SUBSTRATES = Registry("substrate")

STEPS = 28
"""Steps of a curve when nothing is said."""

FIRST_LOOK = 17
"""Even points that an adaptive curve starts with."""

SHARE = 0.8
"""An adaptive curve is refined where this share of the error's variance lies."""


@SUBSTRATES.register(label="Mean colour", cite="petsiuk2018")
def mean(model: Model, inputs: Tensor) -> Tensor:
    """The colour that the model's normalisation maps to 0, the mean of its training data: what RISE deletes with.

    It is the `mean` of the model's first `Normalise` layer; a model without one is taken to normalise nothing: 0. (The mean
    colour of the image itself is the baseline "average".)
    """
    layers = (m for m in model.modules() if isinstance(m, Normalise)) if isinstance(model, nn.Module) else iter(())
    layer = next(layers, None)
    return torch.zeros_like(inputs) if layer is None else layer.mean.to(inputs).expand_as(inputs).clone()


@SUBSTRATES.register(label="Blur of RISE", cite="petsiuk2018")
def rise_blur(model: Model, inputs: Tensor, *, size: int = 11, sigma: float = 5.0) -> Tensor:
    """The image blurred with the kernel of the RISE evaluation; beyond its border lies the `mean` colour (0 there, normalised).

    The kernel is size x size pixels whatever the size of the image: a Gaussian with its tails folded back at the kernel's edge.
    (The baseline "blur" is cut off at 3 sigma, and mirrors the image at its border.)

    Args:
        size: odd, at least 1.
        sigma: standard deviation in pixels, above 0.

    Raises:
        InputError: inputs are not images (n, c, h, w).
        ConfigError: `size` or `sigma` out of range.
    """
    if inputs.ndim != 4:
        raise InputError(f"substrate 'rise_blur': expected images (n, c, h, w), got {tuple(inputs.shape)}; choose another")
    if isinstance(size, bool) or not isinstance(size, int) or size < 1 or size % 2 == 0 or not sigma > 0:
        raise ConfigError(f"substrate 'rise_blur': size={size!r}, sigma={sigma!r}; expected an odd number and one above 0")
    dirac = np.zeros(size)
    dirac[size // 2] = 1
    kernel = torch.as_tensor(gaussian_filter1d(dirac, sigma)).to(inputs).expand(inputs.shape[1], 1, 1, -1)
    beyond = mean(model, inputs)
    blurred = functional.conv2d(inputs - beyond, kernel, padding=(0, size // 2), groups=inputs.shape[1])
    return functional.conv2d(blurred, kernel.mT, padding=(size // 2, 0), groups=inputs.shape[1]) + beyond


def substrate(spec: Substrate, model: Model, inputs: Tensor, *, seed: int = 0) -> Tensor:
    """What takes the place of the pixels of each image.

    Args:
        spec: a number; "mean" or "rise_blur" (`SUBSTRATES`); or any baseline: "black", "average", {"blur": {"sigma": 5}},
            "uniform" (draw number 0 under `seed`), or a callable `inputs -> substrate`.

    Returns:
        Same shape as `inputs`.

    Raises:
        ConfigError: unknown name or parameter, or a number that is not finite.
    """
    if isinstance(spec, int | float) and not isinstance(spec, bool):
        if not np.isfinite(spec):
            raise ConfigError(f"substrate {spec!r}: expected a finite number")
        return torch.full_like(inputs, float(spec))
    if not callable(spec):
        name, _ = SUBSTRATES.split(spec)
        if name in SUBSTRATES:
            made: Tensor = SUBSTRATES.bind(spec)(model, inputs)
            return made
        if name not in BASELINES:
            raise unknown("substrate", name, [*SUBSTRATES, *BASELINES])
    return baselines.draw(cast(Spec, spec), inputs, seed=seed)


def composed(kept: Tensor, inputs: Tensor, fill: Tensor) -> Tensor:
    """`inputs` at the pixels that are kept, `fill` at the others, exactly. (torch.where takes four times as long.)

    Args:
        kept: (k, P) bool, one value per pixel.
        inputs, fill: (k, c, h, w) or (k, d), finite.
    """
    shape = (-1, 1, *inputs.shape[2:]) if inputs.ndim > 2 else kept.shape
    return torch.lerp(fill, inputs, kept.to(inputs.dtype).reshape(shape))


def grid(pixels: int, step: int | None, points: int | str | None, tolerance: float, max_points: int) -> Tensor:
    """Numbers of flipped pixels at the first points of every curve."""
    if step is not None and points is not None:
        raise ConfigError(f"step={step!r} and points={points!r}: give one of them")
    if points == "adaptive":
        if not tolerance >= 0 or isinstance(max_points, bool) or not isinstance(max_points, int) or max_points < FIRST_LOOK:
            raise ConfigError(f"tolerance={tolerance!r}, max_points={max_points!r}: expected at least 0 and {FIRST_LOOK}")
        points = min(FIRST_LOOK, pixels + 1)
    if points is None:
        size = -(-pixels // STEPS) if step is None else step
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size < pixels:
            raise ConfigError(f"step={size!r}: expected 1 to {pixels - 1} of {pixels} pixels, else no point depends on the map")
        return torch.cat([torch.arange(0, pixels, size), torch.tensor([pixels])])
    if isinstance(points, bool) or not isinstance(points, int) or not 3 <= points <= pixels + 1:
        raise ConfigError(f"points={points!r}: expected 'adaptive', or 3 to {pixels + 1} for {pixels} pixels")
    return (2 * torch.arange(points) * pixels + points - 1) // (2 * points - 2)


def scorer(
    model: Model, inputs: Tensor, targets: Tensor, order: Tensor, games: Sequence[tuple[str, Substrate]], score: Any, seed: int,
    max_batch: int | None,
) -> Callable[[Tensor, Tensor], Tensor]:  # fmt: skip
    """A function (lines (k,), numbers of flipped pixels (k,)) -> scores (k,) float64; line = game * n + image.

    Equal rows are computed once; they follow each other image by image.
    """
    n, pixels = order.shape
    places = torch.arange(pixels, device=order.device, dtype=torch.int32)
    place = torch.empty_like(order, dtype=torch.int32).scatter_(1, order, places.expand_as(order))
    inserts = torch.tensor([game == "insertion" for game, _ in games], device=order.device)
    fills, fill_of = _distinct([substrate(spec, model, inputs, seed=seed) for _, spec in games])
    fill_of = fill_of.to(order.device)

    def scores(line: Tensor, count: Tensor) -> Tensor:
        game, image = line // n, line % n
        kept = torch.where(inserts[game], count, pixels - count)
        top = inserts[game] & (kept > 0) & (kept < pixels)  # an empty or a whole image is the same in both games
        fill = fill_of[game].masked_fill(kept == pixels, 0)
        distinct, inverse = torch.stack([image, fill, top.long(), kept], dim=1).unique(dim=0, return_inverse=True)

        def rows(index: Tensor) -> tuple[Tensor, Tensor]:
            image, fill, top, kept = distinct[index].unbind(dim=1)
            first = torch.where(top == 1, 0, pixels - kept).int()[:, None]
            at = place[image]
            keep = (at >= first) & (at < first + kept.int()[:, None])
            return composed(keep, inputs[image], fills[fill, image]), targets[image]

        made = compute.score_rows(model, rows, len(distinct), inputs, score=score, max_batch=max_batch)
        return torch.cat([part for _, part in made]).double()[inverse]

    return scores


def _distinct(made: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The different ones, stacked, and for each of `made` which of them it is."""
    known: list[Tensor] = []
    which = []
    for one in made:
        which.append(next((i for i, other in enumerate(known) if torch.equal(one, other)), len(known)))
        known += [one] if which[-1] == len(known) else []
    return torch.stack(known), torch.tensor(which)


def stated_error(counts: Tensor, scores: Tensor, pixels: int) -> Tensor:
    """Three standard deviations of each curve's area, (lines,); see `perturbation_curves`."""
    return 3 * _variances(counts, scores, pixels).sum(dim=1).sqrt()


def _variances(counts: Tensor, scores: Tensor, pixels: int) -> Tensor:
    """v w^3 / 12 of each piece, (lines, points - 1); 0 where a piece has no pixel inside."""
    width = counts.diff(dim=1).double() / pixels
    rate = (scores.diff(dim=1) ** 2 / width).masked_fill(width == 0, 0.0)
    left, right = torch.cat([rate[:, :1], rate[:, :-1]], dim=1), torch.cat([rate[:, 1:], rate[:, -1:]], dim=1)
    right = torch.where(torch.cat([width[:, 1:], width[:, -1:]], dim=1) == 0, rate, right)  # a repeated point is no neighbour
    return ((left + 2 * rate + right) / 4 * width**3 / 12).masked_fill(counts.diff(dim=1) <= 1, 0.0)


def middles(counts: Tensor, scores: Tensor, pixels: int, tolerance: float, max_points: int) -> tuple[Tensor, Tensor]:
    """The points to add: lines (k,), rising, and numbers of flipped pixels (k,)."""
    values, order = _variances(counts, scores, pixels).sort(dim=1, descending=True, stable=True)
    room = max_points - (counts < pixels).sum(dim=1, keepdim=True) - 1
    wanted = (values.cumsum(dim=1) - values < SHARE * values.sum(dim=1, keepdim=True)) & (values > 0)
    wanted &= (stated_error(counts, scores, pixels) > tolerance)[:, None]
    wanted &= torch.arange(values.shape[1], device=values.device) < room
    line, rank = wanted.nonzero(as_tuple=True)
    piece = order[line, rank]
    return line, (counts[line, piece] + counts[line, piece + 1]) // 2


def merged(counts: Tensor, scores: Tensor, line: Tensor, count: Tensor, score: Tensor) -> tuple[Tensor, Tensor]:
    """The curves with points added; a line with fewer points than another repeats its last."""
    added = line.bincount(minlength=len(counts))
    slot = torch.arange(len(line), device=line.device) - (added.cumsum(dim=0) - added)[line]
    shape = len(counts), int(added.max())
    new_counts, new_scores = (x[:, -1:].expand(shape).clone() for x in (counts, scores))
    new_counts[line, slot], new_scores[line, slot] = count, score
    counts, order = torch.cat([counts, new_counts], dim=1).sort(dim=1, stable=True)
    longest = int((counts < counts[:, -1:]).sum(dim=1).max()) + 1
    return counts[:, :longest], torch.cat([scores, new_scores], dim=1).gather(1, order)[:, :longest]
