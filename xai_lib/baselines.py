"""Baselines: what "absent" means. All in pixel space, clipped to [0, 1] for images (FIDELITY 4.3).

Random baselines draw per image (see `randomness`); `draw` numbers them, so that the first 5 of 50 are the 5.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from xai_lib.errors import ConfigError, InputError
from xai_lib.randomness import key, per_image
from xai_lib.registry import BASELINES
from xai_lib.types import Spec


def draw(spec: Spec, inputs: Tensor, index: int = 0, *, seed: int = 0) -> Tensor:
    """Baseline number `index` of every image.

    Args:
        spec: registered baseline, `{name: {parameters}}` or a callable `inputs -> baselines`.
        inputs: (n, ...).
        index: which of the image's baselines, from 0; a deterministic baseline has only number 0.
        seed: the caller's seed; two indices or two seeds give independent draws.

    Returns:
        Same shape as `inputs`.

    Raises:
        ConfigError: unknown baseline or parameter.
        InputError: the baseline does not have the shape of the inputs, or holds NaN or infinity.
    """
    parameters = {"seed": key("baseline", seed, index)} if is_random(spec) else {}
    made = BASELINES.bind(spec, **parameters)(inputs)
    if not isinstance(made, Tensor) or made.shape != inputs.shape:
        got = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
        raise InputError(f"baseline {spec!r}: expected shape {tuple(inputs.shape)}, got {got}")
    if not bool(torch.isfinite(made).all()):
        raise InputError(f"baseline {spec!r}: holds NaN or infinity")
    return made.to(inputs)


def is_random(spec: Spec) -> bool:
    """Whether different seeds give different baselines."""
    if callable(spec):
        return False
    return bool(BASELINES[BASELINES.split(spec)[0]].traits.get("random", False))


@BASELINES.register(label="Black", cite="sundararajan2017")
def black(inputs: Tensor) -> Tensor:
    """x' = 0. Blind to black pixels: Integrated Gradients is exactly 0 there.

    >>> black(torch.ones(1, 2))
    tensor([[0., 0.]])
    """
    return torch.zeros_like(inputs)


@BASELINES.register(label="White", cite="sturmfels2020")
def white(inputs: Tensor) -> Tensor:
    """x' = 1. Blind to white pixels."""
    return torch.ones_like(inputs)


@BASELINES.register(label="Constant colour", cite="hooker2019")
def constant(inputs: Tensor, *, value: float | Sequence[float] = 0.5) -> Tensor:
    """x' = the same colour everywhere.

    Args:
        value: in [0, 1]; one number, or one per channel.

    Raises:
        ConfigError: outside [0, 1], or not one per channel.

    >>> constant(torch.zeros(1, 2, 1, 1), value=[0.25, 0.75]).flatten().tolist()
    [0.25, 0.75]
    """
    values = [value] if isinstance(value, int | float) else list(value)
    if len(values) not in (1, inputs.shape[1]) or not all(0 <= each <= 1 for each in values):
        raise ConfigError(f"constant baseline: value={value!r}, expected 1 or {inputs.shape[1]} numbers in [0, 1]")
    colour = torch.tensor(values, dtype=inputs.dtype, device=inputs.device)
    return colour.reshape(1, -1, *[1] * (inputs.ndim - 2)).expand_as(inputs).clone()


@BASELINES.register(label="Average", cite="akhtar2023")
def average(inputs: Tensor, *, per: str = "channel") -> Tensor:
    """x' = the image's own mean colour.

    Args:
        per: "channel" (one mean per channel) or "image" (one grey level over all channels). Document 001 does not say which.

    Raises:
        ConfigError: any other `per`.
    """
    if per not in ("channel", "image"):
        raise ConfigError(f"baseline 'average': per={per!r}, expected 'channel' or 'image'")
    first = 2 if per == "channel" and inputs.ndim > 2 else 1
    return inputs.mean(dim=tuple(range(first, inputs.ndim)), keepdim=True).expand_as(inputs).clone()


@BASELINES.register(label="Blur", cite="fong2017")
def blur(inputs: Tensor, *, sigma: float | None = None) -> Tensor:
    """x' = x convolved with a Gaussian: a smooth version of the image itself.

    Args:
        sigma: standard deviation in pixels, above 0; None = 10 px at 224 px, scaled with the shorter side.

    Raises:
        InputError: inputs are not images (n, c, h, w).
        ConfigError: `sigma` is not above 0.
    """
    if inputs.ndim != 4:
        raise InputError(f"baseline 'blur': expected images (n, c, h, w), got shape {tuple(inputs.shape)}")
    side = min(inputs.shape[2:])
    width = 10 * side / 224 if sigma is None else float(sigma)
    if not width > 0:
        raise ConfigError(f"baseline 'blur': sigma={sigma}, expected a number above 0")
    radius = min(max(1, round(3 * width)), side - 1)
    return _smooth(_smooth(inputs, width, radius), width, radius, vertical=True)


@BASELINES.register(label="Maximum distance", cite="sturmfels2020")
def max_distance(inputs: Tensor) -> Tensor:
    """x'_i = the farther end of [0, 1]: 1 where x_i < 0.5, else 0; so |x - x'| >= 0.5 everywhere (FIDELITY TV-11).

    >>> max_distance(torch.tensor([[0.2, 0.5, 0.8]]))
    tensor([[1., 0., 0.]])
    """
    return (inputs < 0.5).to(inputs.dtype)


@BASELINES.register(label="Uniform noise", cite="sturmfels2020", traits={"random": True})
def uniform(inputs: Tensor, *, low: float = 0.0, high: float = 1.0, seed: int = 0) -> Tensor:
    """x'_i ~ U(low, high), independent per channel and pixel.

    Args:
        low, high: bounds in input units, low < high.
    """
    if not low < high:
        raise ConfigError(f"baseline 'uniform': low={low}, high={high}; expected low < high")
    return per_image(inputs, seed, "uniform", lambda x, g: low + (high - low) * torch.rand(x.shape, generator=g))


@BASELINES.register(label="Gaussian around the image", cite="smilkov2017", traits={"random": True})
def gaussian_around(inputs: Tensor, *, sigma: float = 0.2, seed: int = 0) -> Tensor:
    """x' ~ N(x, sigma^2), clipped to [0, 1] for images: the reading of document 000 after Smilkov et al.

    Args:
        sigma: standard deviation in input units, above 0.
    """
    _positive("gaussian_around", sigma)
    noisy = per_image(inputs, seed, "gaussian_around", lambda x, g: x + sigma * torch.randn(x.shape, generator=g))
    return _clip(noisy)


@BASELINES.register(label="Gaussian noise", cite="akhtar2023", traits={"random": True})
def gaussian_noise(inputs: Tensor, *, centre: float = 0.5, sigma: float = 0.2, seed: int = 0) -> Tensor:
    """x' ~ N(centre, sigma^2), clipped to [0, 1] for images, whatever the image: IG(G) of document 001.

    Args:
        centre: mean of the noise in input units (document 001 does not give it).
        sigma: standard deviation in input units, above 0.
    """
    _positive("gaussian_noise", sigma)
    made = per_image(inputs, seed, "gaussian_noise", lambda x, g: centre + sigma * torch.randn(x.shape, generator=g))
    return _clip(made)


@BASELINES.register(label="Pixel permutation", cite="none", traits={"random": True})
def pixel_permutation(inputs: Tensor, *, seed: int = 0) -> Tensor:
    """x' = the image's own pixels in random order (channels stay together): same histogram, no structure."""

    def shuffle(image: Tensor, generator: torch.Generator) -> Tensor:
        flat = image.reshape(len(image), -1) if image.ndim > 1 else image[None]
        order = torch.randperm(flat.shape[1], generator=generator)
        return flat[:, order].reshape(image.shape)

    return per_image(inputs, seed, "pixel_permutation", shuffle)


@BASELINES.register(label="Data set mean", cite="shrikumar2017")
def dataset_mean(inputs: Tensor, *, reference: Tensor | str, n_reference: int = 64) -> Tensor:
    """x' = mean of a reference set, pixel by pixel.

    Args:
        reference: (m, ...) tensor of the inputs' row shape, or the name of a registered data set.
        n_reference: how many samples of a named data set are averaged.
    """
    return _reference(reference, n_reference, inputs).mean(dim=0, keepdim=True).expand_as(inputs).clone()


@BASELINES.register(label="Data set sample", cite="erion2021", traits={"random": True})
def dataset_samples(inputs: Tensor, *, reference: Tensor | str, n_reference: int = 64, seed: int = 0) -> Tensor:
    """x' = a random member of a reference set that differs from the image itself (Expected Gradients' distribution).

    Args:
        reference: (m, ...) tensor of the inputs' row shape, or the name of a registered data set.
        n_reference: how many samples of a named data set are drawn from.
    """
    bank = _reference(reference, n_reference, inputs).cpu()

    def pick(image: Tensor, generator: torch.Generator) -> Tensor:
        for i in torch.randperm(len(bank), generator=generator).tolist():
            if not torch.equal(bank[i].to(image), image):
                return bank[i]
        raise InputError("baseline 'dataset_samples': every reference sample equals the image; use a larger reference set")

    return per_image(inputs, seed, "dataset_samples", pick)


def _reference(reference: Tensor | str, n_reference: int, inputs: Tensor) -> Tensor:
    bank = _named_reference(reference, n_reference) if isinstance(reference, str) else reference
    if len(bank) == 0 or bank.shape[1:] != inputs.shape[1:]:
        raise InputError(
            f"baseline: reference {reference if isinstance(reference, str) else 'tensor'} has rows of shape "
            f"{tuple(bank.shape[1:])} (n = {len(bank)}), the inputs {tuple(inputs.shape[1:])}; they must agree"
        )
    return bank.to(inputs)


@lru_cache(maxsize=2)
def _named_reference(name: str, n: int) -> Tensor:
    from xai_lib import data

    return data.load(name, n=n, seed=0).inputs


def _smooth(images: Tensor, sigma: float, radius: int, *, vertical: bool = False) -> Tensor:
    """One axis convolved with exp(-t^2 / 2 sigma^2), |t| <= radius, weights summing to 1; borders are mirrored."""
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (weights / weights.sum()).to(images).expand(images.shape[1], 1, 1, -1)
    margins = (radius, radius, 0, 0)
    if vertical:
        kernel, margins = kernel.mT, (0, 0, radius, radius)
    return functional.conv2d(functional.pad(images, margins, mode="reflect"), kernel, groups=images.shape[1])


def _positive(name: str, sigma: float) -> None:
    if not sigma > 0:
        raise ConfigError(f"baseline {name!r}: sigma={sigma}, expected a number above 0")


def _clip(values: Tensor) -> Tensor:
    return values.clamp(0, 1) if values.ndim == 4 else values
