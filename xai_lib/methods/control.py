"""Controls: maps that know nothing about the model's reasons. Published results do not always beat them."""

import torch
from torch import Tensor

from xai_lib.compute import check_request
from xai_lib.errors import ConfigError, InputError
from xai_lib.randomness import per_image
from xai_lib.registry import METHODS
from xai_lib.types import Model, Spec


@METHODS.register(label="Random", cite="none", traits={"family": "control", "control": True, "random": True})
def random_attribution(model: Model, inputs: Tensor, targets: Tensor, *, seed: int = 0) -> Tensor:
    """S_i ~ N(0, 1), independent; the same for the same image and seed.

    Returns:
        Same shape as `inputs`.
    """
    check_request(model, inputs, targets)
    return per_image(inputs, seed, "random_attribution", lambda x, g: torch.randn(x.shape, generator=g))


@METHODS.register(
    label="Centre Gaussian", cite="choe2020", traits={"family": "control", "control": True, "image": True, "positive": True}
)
def centre_gaussian(model: Model, inputs: Tensor, targets: Tensor, *, sigma_fraction: float = 0.25) -> Tensor:
    """S(u, v) = exp(-((u - u0)^2 / (s h)^2 + (v - v0)^2 / (s w)^2) / 2), the same for every image; each channel a c-th.

    Args:
        sigma_fraction: s, standard deviation as a fraction of the side, above 0. Only the order of pixels matters for
            ranking metrics, so that s changes nothing there.

    Raises:
        InputError: inputs are not images.
    """
    check_request(model, inputs, targets)
    _, channels, height, width = _images(inputs)
    if not sigma_fraction > 0:
        raise ConfigError(f"sigma_fraction={sigma_fraction}: expected a number above 0")
    u = (torch.arange(height, dtype=torch.float64) - (height - 1) / 2) / (sigma_fraction * height)
    v = (torch.arange(width, dtype=torch.float64) - (width - 1) / 2) / (sigma_fraction * width)
    bump = torch.exp(-(u[:, None] ** 2 + v[None, :] ** 2) / 2) / channels
    return bump.to(inputs).expand_as(inputs).clone()


@METHODS.register(
    label="Edge detector", cite="adebayo2018", traits={"family": "control", "control": True, "image": True, "positive": True}
)
def edge_detector(model: Model, inputs: Tensor, targets: Tensor) -> Tensor:
    """S = sqrt(G_u^2 + G_v^2) per channel, Sobel derivatives of the image; the model is not asked.

    Returns:
        Same shape as `inputs`, at least 0; border pixels use replicated edges.

    Raises:
        InputError: inputs are not images.
    """
    check_request(model, inputs, targets)
    n, channels, height, width = _images(inputs)
    sobel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]).to(inputs) / 8
    kernels = torch.stack([sobel, sobel.T])[:, None]
    planes = torch.nn.functional.pad(inputs.detach().reshape(n * channels, 1, height, width), (1, 1, 1, 1), mode="replicate")
    return torch.nn.functional.conv2d(planes, kernels).pow(2).sum(1).sqrt().reshape(inputs.shape)


@METHODS.register(label="Intensity", cite="none", traits={"family": "control", "control": True, "positive": True})
def intensity(model: Model, inputs: Tensor, targets: Tensor) -> Tensor:
    """S_i = |x_i|: the picture itself; on MNIST, its ink. The model is not asked.

    Returns:
        Same shape as `inputs`, at least 0.
    """
    check_request(model, inputs, targets)
    return inputs.detach().abs()


@METHODS.register(label="Permuted map", cite="none", traits={"family": "control", "random": True, "gradient": True})
def permuted_map(model: Model, inputs: Tensor, targets: Tensor, *, base: Spec = "gradient", seed: int = 0) -> Tensor:
    """The values of another method's map at random places: a map that knows how important, but not where.

    Args:
        base: registered method, {name: {parameters}} or callable.
        seed: of the places, drawn per image; a pixel keeps its channels together.

    Returns:
        Same shape as `inputs`.
    """
    check_request(model, inputs, targets)
    given = METHODS.bind(base)(model, inputs, targets)
    flat = given.flatten(2) if given.ndim > 2 else given[:, None]
    places = per_image(inputs, seed, "permuted_map", lambda _, g: torch.randperm(flat.shape[2], generator=g).double())
    return flat.gather(2, places.long()[:, None].expand_as(flat)).reshape(given.shape)


def _images(inputs: Tensor) -> torch.Size:
    if inputs.ndim != 4:
        raise InputError(f"inputs: expected images (n, c, h, w), got shape {tuple(inputs.shape)}")
    return inputs.shape
