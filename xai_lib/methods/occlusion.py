"""Occlusion: the score with a window of the picture hidden (FIDELITY 6.1)."""

from typing import Any

import torch
from torch import Tensor, nn

from xai_lib import baselines
from xai_lib.compute import check_request, score_rows, scores
from xai_lib.errors import ConfigError, InputError
from xai_lib.registry import METHODS
from xai_lib.types import Model, Spec


@METHODS.register(label="Occlusion", cite="zeiler2014", traits={"family": "perturbation", "image": True, "linear": True})
def occlusion(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    patch: int | None = None,
    stride: int | None = None,
    baseline: Spec = "average",
    score: Any = "logit",
    seed: int = 0,
    max_batch: int | None = None,
) -> Tensor:
    """S_p = mean over the windows W that cover pixel p of f_t(x) - f_t(x with W replaced by the baseline).

    Square windows start every `stride` pixels from the upper left corner until one reaches the lower (right) edge, which cuts
    it. Costs one forward pass per window: 729 for 15 px every 8 px on 224 px.

    Args:
        model: inputs -> logits; it needs no gradient.
        inputs: (n, c, h, w) in pixel space.
        targets: (n,) int64.
        patch: side of the window in pixels, 1 to the longer side of the picture. None = 15 px at 224 px, scaled with the
            shorter side, but at least 4 px (MNIST: 4 px), and at most half of the shorter side.
        stride: pixels from one window to the next, 1 to `patch`. None = 8/15 of `patch` (8 px for 15, 2 px for 4).
        baseline: what hidden pixels become; the picture's own mean colour by default.
        score: the explained scalar f: logit, prob, log_prob, margin, or a callable.
        seed: of a random baseline, drawn once per image.
        max_batch: most rows (images x windows) per forward pass.

    Returns:
        Same shape as `inputs`, signed, in score units; all channels of a pixel are hidden together, and each of the c channels
        holds a c-th of S, so that `maps.reduce(..., "sum")` gives S.

    Raises:
        ConfigError: `patch` or `stride` out of range.
        InputError: inputs are not images; else see `compute.check_request`.

    Differs from document 003: it gives neither size, stride nor colour. Differs from Captum, which writes S itself into every
    channel, so that the channel sum is c S.

    >>> from xai_lib import toys
    >>> model, x = toys.linear(torch.arange(1.0, 10.0)[None]), torch.ones(1, 1, 3, 3)
    >>> occlusion(model, x, torch.zeros(1, dtype=torch.int64), patch=2, stride=1, baseline="black")[0, 0]
    tensor([[12., 14., 16.],
            [18., 20., 22.],
            [24., 26., 28.]])
    """
    check_request(model, inputs, targets)
    if inputs.ndim != 4:
        raise InputError(f"occlusion: expected images (n, c, h, w), got shape {tuple(inputs.shape)}")
    images = inputs.detach().contiguous()
    n, channels, height, width = images.shape
    size, step = _window(height, width, patch, stride)
    down, across = (max(0, -(-(side - size) // step)) + 1 for side in (height, width))
    fill = baselines.draw(baseline, images, seed=seed)
    v, u = (torch.arange(side, device=images.device) for side in (height, width))

    def rows(index: Tensor) -> tuple[Tensor, Tensor]:
        image, window = index // (down * across), index % (down * across)
        top, left = (window // across * step)[:, None], (window % across * step)[:, None]
        hidden = ((v >= top) & (v < top + size))[:, :, None] & ((u >= left) & (u < left + size))[:, None, :]
        return torch.where(hidden[:, None], fill[image], images[image]), targets[image]

    before = scores(model, images, targets, score=score, max_batch=max_batch)
    made = score_rows(model, rows, n * down * across, images, score=score, max_batch=max_batch)
    after = torch.cat([values for _, values in made]).reshape(n, down, across)
    drops = (before[:, None, None] - after).double()
    shares = _over_windows(drops, size, step, height, width) / _over_windows(torch.ones_like(drops), size, step, height, width)
    return (shares / channels).to(images)[:, None].expand_as(images).contiguous()


def _over_windows(values: Tensor, size: int, step: int, height: int, width: int) -> Tensor:
    """(n, rows, columns), one value per window -> (n, h, w), their sum over the windows that cover a pixel."""
    window = torch.ones(1, 1, size, size, dtype=values.dtype, device=values.device)
    return nn.functional.conv_transpose2d(values[:, None], window, stride=step)[:, 0, :height, :width]


def _window(height: int, width: int, patch: int | None, stride: int | None) -> tuple[int, int]:
    """Side and stride of the window in pixels, checked."""
    short, long = sorted((height, width))
    size = min(max(4, round(15 * short / 224)), max(1, short // 2)) if patch is None else patch
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= long:
        raise ConfigError(f"patch={patch!r}: expected whole pixels from 1 to {long} for pictures of {height} x {width}")
    step = max(1, round(size * 8 / 15)) if stride is None else stride
    if isinstance(step, bool) or not isinstance(step, int) or not 1 <= step <= size:
        raise ConfigError(f"stride={stride!r}: expected whole pixels from 1 to the patch, {size}; else pixels are never hidden")
    return size, step
