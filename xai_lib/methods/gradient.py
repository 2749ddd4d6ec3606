"""Gradients of the score with respect to the input, and their ensembles over noise (FIDELITY 3.1, 3.2, 3.11)."""

from typing import Any

import torch
from torch import Tensor

from xai_lib.compute import check_request, gradient_rows, input_gradient
from xai_lib.errors import ConfigError
from xai_lib.randomness import digest, key
from xai_lib.registry import METHODS
from xai_lib.types import Model


@METHODS.register(label="Gradient", cite="simonyan2014", traits={"gradient": True, "linear": True})
def gradient(model: Model, inputs: Tensor, targets: Tensor, *, score: Any = "logit", max_batch: int | None = None) -> Tensor:
    """S_i = df_t(x)/dx_i, signed.

    Args:
        model: inputs -> logits.
        inputs: (n, ...) in pixel space.
        targets: (n,) int64.
        score: the explained scalar: logit, prob, log_prob, margin, or a callable.
        max_batch: most rows per pass.

    Returns:
        Same shape as `inputs`, in score units per input unit.

    Raises:
        InputError, ModelError: see `compute.check_request` and `compute.input_gradient`.

    >>> from xai_lib import toys
    >>> gradient(toys.two_relu(), torch.tensor([[1.0, 1.0]]), torch.zeros(1, dtype=torch.int64))
    tensor([[ 6., -3.]])
    """
    check_request(model, inputs, targets)
    return input_gradient(model, inputs, targets, score=score, max_batch=max_batch).contiguous()


@METHODS.register(label="Saliency", cite="simonyan2014", traits={"gradient": True, "positive": True})
def saliency(model: Model, inputs: Tensor, targets: Tensor, *, score: Any = "logit", max_batch: int | None = None) -> Tensor:
    """S_i = |df_t(x)/dx_i|. Arguments as in `gradient`.

    Simonyan et al. take the largest channel for colour images: use `maps.reduce(..., "max_abs")`.
    """
    return gradient(model, inputs, targets, score=score, max_batch=max_batch).abs()


@METHODS.register(label="Input x Gradient", cite="shrikumar2017", traits={"gradient": True, "linear": True})
def input_x_gradient(
    model: Model, inputs: Tensor, targets: Tensor, *, score: Any = "logit", max_batch: int | None = None
) -> Tensor:
    """S_i = x_i df_t(x)/dx_i, with x in pixel space (0 is black; in a normalised space 0 would be the mean colour).

    Arguments as in `gradient`.
    """
    made = gradient(model, inputs, targets, score=score, max_batch=max_batch)
    return inputs.detach() * made


@METHODS.register(label="SmoothGrad", cite="smilkov2017", traits={"gradient": True, "random": True, "linear": True})
def smoothgrad(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    n_samples: int = 25,
    noise_fraction: float = 0.15,
    sigma: float | None = None,
    seed: int = 0,
    score: Any = "logit",
    max_batch: int | None = None,
) -> Tensor:
    """S = (1/J) sum_j g(x + e_j), e_j ~ N(0, sigma^2), g the gradient.

    Args:
        n_samples: J, at least 1.
        noise_fraction: sigma as a fraction of the image's max - min.
        sigma: absolute standard deviation in input units; overrides `noise_fraction`.
        seed: noise is drawn per image.
        model, inputs, targets, score, max_batch: as in `gradient`.

    Returns:
        Same shape as `inputs`.

    Differs from document 002: it gives neither J nor sigma; defaults are those of the authors' code (25, 0.15).
    """
    return _noisy_moments(model, inputs, targets, n_samples, noise_fraction, sigma, seed, score, max_batch)[0].to(inputs)


@METHODS.register(label="SmoothGrad squared", cite="hooker2019", traits={"gradient": True, "random": True, "positive": True})
def smoothgrad_squared(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    n_samples: int = 25,
    noise_fraction: float = 0.15,
    sigma: float | None = None,
    seed: int = 0,
    score: Any = "logit",
    max_batch: int | None = None,
) -> Tensor:
    """S = (1/J) sum_j g(x + e_j)^2, with the noise of `smoothgrad`; arguments as there."""
    return _noisy_moments(model, inputs, targets, n_samples, noise_fraction, sigma, seed, score, max_batch)[1].to(inputs)


@METHODS.register(label="VarGrad", cite="adebayo2018", traits={"gradient": True, "random": True, "positive": True})
def vargrad(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    n_samples: int = 25,
    noise_fraction: float = 0.15,
    sigma: float | None = None,
    seed: int = 0,
    score: Any = "logit",
    max_batch: int | None = None,
) -> Tensor:
    """S = (1/J) sum_j (g_j - mean g)^2, the variance with divisor J, with the noise of `smoothgrad`; arguments as there."""
    mean, square = _noisy_moments(model, inputs, targets, n_samples, noise_fraction, sigma, seed, score, max_batch)
    return (square - mean**2).clamp_min(0).to(inputs)


def _noisy_moments(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    n_samples: int,
    noise_fraction: float,
    sigma: float | None,
    seed: int,
    score: Any,
    max_batch: int | None,
) -> tuple[Tensor, Tensor]:
    """Mean and mean square of the gradient over noise, in float64 so that their difference is a variance."""
    if n_samples < 1:
        raise ConfigError(f"n_samples={n_samples}: expected at least 1")
    if noise_fraction < 0 or (sigma is not None and sigma < 0):
        raise ConfigError(f"noise_fraction={noise_fraction}, sigma={sigma}: expected numbers of at least 0")
    check_request(model, inputs, targets)
    flat = inputs.flatten(1)
    spread = noise_fraction * (flat.amax(1) - flat.amin(1)) if sigma is None else torch.full_like(flat[:, 0], sigma)
    names = [digest(image) for image in inputs]

    def noise(image: int, sample: int) -> Tensor:
        generator = torch.Generator().manual_seed(key(seed, "smoothgrad", names[image], sample))
        return torch.randn(inputs.shape[1:], generator=generator)

    def rows(index: Tensor) -> tuple[Tensor, Tensor]:
        image = index // n_samples
        pairs = zip(image.tolist(), (index % n_samples).tolist(), strict=True)
        noises = torch.stack([noise(i, j) for i, j in pairs]).to(inputs)
        scale = spread[image].reshape(-1, *[1] * (inputs.ndim - 1))
        return inputs[image] + scale * noises, targets[image]

    total, square = (torch.zeros(inputs.shape, dtype=torch.float64, device=inputs.device) for _ in range(2))
    for index, gradients in gradient_rows(model, rows, len(inputs) * n_samples, inputs, score=score, max_batch=max_batch):
        exact = gradients.double()
        total.index_add_(0, index // n_samples, exact / n_samples)
        square.index_add_(0, index // n_samples, exact**2 / n_samples)
    return total, square
