"""Blur Integrated Gradients: the path sharpens the image, from a Gaussian blur of it to itself."""

from typing import Any

import torch
from torch import Tensor

from xai_lib.compute import check_request
from xai_lib.errors import ConfigError, InputError, unknown
from xai_lib.paths import Nodes, path_integral, quadrature
from xai_lib.registry import METHODS
from xai_lib.types import Model

RULES = ("left", "middle", "right")
SPACINGS = ("sigma", "variance")


@METHODS.register(
    label="Blur Integrated Gradients",
    cite="xu2020",
    traits={"family": "path integral", "gradient": True, "image": True, "linear": True},
)
def blur_integrated_gradients(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    sigma_max: float | None = None,
    steps: int = 100,
    spacing: str = "sigma",
    rule: str = "middle",
    score: Any = "logit",
    max_batch: int | None = None,
) -> Tensor:
    """A_i = int_{s = sigma_max}^0 df(L(s))/dx_i dL_i(s)/ds ds, where L(s) is the image under a Gaussian blur of s pixels.

    A sum over pieces of the path: the gradient at a point of the piece, times L at its sharp end less L at its blurred end.

    Args:
        model: inputs -> logits.
        inputs: (n, c, h, w) in pixel space.
        targets: (n,) int64.
        sigma_max: standard deviation at the start of the path in pixels, above 0; None = 50 px (the authors' value) at 224 px,
            scaled with the shorter side.
        steps: pieces of the path, at least 1; one gradient each.
        spacing: pieces of equal length in "sigma", or in "variance" (sigma^2, the parameter of the heat equation), which puts
            most of them into strong blur.
        rule: where on its piece the gradient is taken: "left" (blurred end), "middle" or "right" (sharp end, the authors').
        score: the explained scalar.
        max_batch: most rows (images x steps) per pass.

    Returns:
        Same shape as `inputs`; sums to f(x) - f(L(sigma_max)) up to the quadrature error. L(sigma_max) is the baseline
        {"blur": {"sigma": sigma_max}}.

    Raises:
        InputError: inputs are not images; else see `compute.check_request`.
        ConfigError: `sigma_max` not above 0, `steps` below 1, unknown spacing or rule.

    Differs from the authors' code: borders are mirrored, not black; a piece is a difference of two blurs, not a slope times a
    length; its `sqrt=True` is "variance" with a path that starts at sqrt(sigma_max).

    >>> from xai_lib import toys
    >>> x, t = torch.tensor([[[[0.0, 0.0, 1.0]] * 3]]), torch.zeros(1, dtype=torch.int64)
    >>> made = blur_integrated_gradients(toys.linear([[1.0] * 9]), x, t, sigma_max=1.0, steps=2)
    >>> made[0, 0, 0]
    tensor([-0.1090, -0.2442,  0.5974])
    """
    check_request(model, inputs, targets)
    if inputs.ndim != 4:
        raise InputError(f"blur_integrated_gradients: expected images (n, c, h, w), got shape {tuple(inputs.shape)}")
    inputs = inputs.detach()
    height, width = inputs.shape[2:]
    widest = 50 * min(height, width) / 224 if sigma_max is None else float(sigma_max)
    if not 0 < widest < float("inf"):
        raise ConfigError(f"sigma_max={sigma_max}: expected a number of pixels above 0")
    nodes, edges = _sigmas(widest, steps, spacing, rule)
    radius = min(max(1, round(3 * widest)), min(height, width) - 1)
    across = _one_axis(torch.cat([nodes, edges]), width, radius).to(inputs)
    down = across if height == width else _one_axis(torch.cat([nodes, edges]), height, radius).to(inputs)

    def blurred(image: Tensor, number: Tensor) -> Tensor:
        return down[number][:, None].mT @ inputs[image] @ across[number][:, None]

    def segment(image: Tensor, node: Tensor) -> Tensor:
        first = image * (steps + 1) + node
        ends, place = torch.cat([first, first + 1]).unique(return_inverse=True)  # neighbouring pieces share an end
        made = blurred(ends // (steps + 1), steps + ends % (steps + 1))
        blunt, sharp = place.chunk(2)
        return made[sharp] - made[blunt]

    return path_integral(model, targets, Nodes(inputs, steps, blurred, segment), score=score, max_batch=max_batch)


def _sigmas(widest: float, steps: int, spacing: str, rule: str) -> tuple[Tensor, Tensor]:
    """Blurs of the nodes (steps,) and of the ends of the pieces (steps + 1,), from `widest` to 0, float64."""
    if spacing not in SPACINGS:
        raise unknown("spacing", spacing, SPACINGS)
    if rule not in RULES:
        raise unknown("rule of blur_integrated_gradients", rule, RULES)
    inside = torch.as_tensor(quadrature(rule, steps)[0])
    ends = torch.arange(steps + 1, dtype=torch.float64) / steps
    power = 1.0 if spacing == "sigma" else 0.5
    return widest * (1 - inside) ** power, widest * (1 - ends) ** power


def _one_axis(sigmas: Tensor, side: int, radius: int) -> Tensor:
    """Matrices M (k, side, side), M[i, j] = weight of pixel i in blurred pixel j: one axis of the baseline `blur`.

    exp(-t^2 / 2 sigma^2) for |t| <= radius, weights summing to 1, borders mirrored; sigma = 0 is the identity. One radius for
    all sigmas keeps the path smooth.
    """
    distance = torch.arange(2 * side - 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (distance / sigmas.clamp_min(1e-6)[:, None]) ** 2) * (distance <= radius)
    weights = weights / (2 * weights.sum(dim=1, keepdim=True) - 1)
    i, j = torch.arange(side)[:, None], torch.arange(side)
    last = side - 1
    return weights[:, (i - j).abs()] + weights[:, i + j] * (i > 0) + weights[:, 2 * last - i - j] * (i < last)
