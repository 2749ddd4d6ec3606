"""Gradients of the score with respect to the input, and ensembles over noise of any method (FIDELITY 3.1, 3.2, 3.11)."""

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from xai_lib.chunks import default_max_batch
from xai_lib.compute import Rows, check_request, gradient_rows, input_gradient
from xai_lib.errors import ConfigError, InputError
from xai_lib.randomness import digest, drawn_as, key
from xai_lib.registry import METHODS
from xai_lib.types import Model, Spec


@METHODS.register(label="Gradient", cite="simonyan2014", traits={"family": "gradient", "gradient": True, "linear": True})
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


@METHODS.register(label="Saliency", cite="simonyan2014", traits={"family": "gradient", "gradient": True, "positive": True})
def saliency(model: Model, inputs: Tensor, targets: Tensor, *, score: Any = "logit", max_batch: int | None = None) -> Tensor:
    """S_i = |df_t(x)/dx_i|. Arguments as in `gradient`.

    Simonyan et al. take the largest channel for colour images: use `maps.reduce(..., "max_abs")`.
    """
    return gradient(model, inputs, targets, score=score, max_batch=max_batch).abs()


@METHODS.register(
    label="Input x Gradient", cite="shrikumar2017", traits={"family": "gradient", "gradient": True, "linear": True}
)
def input_x_gradient(
    model: Model, inputs: Tensor, targets: Tensor, *, score: Any = "logit", max_batch: int | None = None
) -> Tensor:
    """S_i = x_i df_t(x)/dx_i, with x in pixel space (0 is black; in a normalised space 0 would be the mean colour).

    Arguments as in `gradient`.
    """
    made = gradient(model, inputs, targets, score=score, max_batch=max_batch)
    return inputs.detach() * made


@METHODS.register(
    label="SmoothGrad", cite="smilkov2017", traits={"family": "gradient", "gradient": True, "random": True, "linear": True}
)
def smoothgrad(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    base: Spec = "gradient",
    n_samples: int = 25,
    noise_fraction: float = 0.15,
    sigma: float | None = None,
    seed: int = 0,
    score: Any = "logit",
    max_batch: int | None = None,
) -> Tensor:
    """S = (1/J) sum_j g(x + e_j), e_j ~ N(0, sigma^2), g the gradient or another method.

    Args:
        base: g: registered method, {name: {parameters}} or callable; it gets `score` and `max_batch` from here unless it names
            its own. One that draws at random draws anew for each j.
        n_samples: J, at least 1.
        noise_fraction: sigma as a fraction of the image's max - min.
        sigma: absolute standard deviation in input units; overrides `noise_fraction`.
        seed: noise is drawn per image.
        model, inputs, targets, score, max_batch: as in `gradient`.

    Returns:
        Same shape as `inputs`.

    Raises:
        ConfigError: unknown base or parameter of it, a bad number.
        InputError: the base returns another shape than its inputs'; else see `compute.check_request`.

    Differs from document 002: it gives neither J nor sigma; defaults are those of the authors' code (25, 0.15).

    >>> from xai_lib import toys
    >>> x, t = torch.tensor([[2.0, 4.0]]), torch.zeros(1, dtype=torch.int64)
    >>> smoothgrad(toys.square(), x, t, base={"integrated_gradients": {"steps": 1}}, sigma=0.0)
    tensor([[ 4., 16.]])
    """
    return _noisy_moments(model, inputs, targets, base, n_samples, noise_fraction, sigma, seed, score, max_batch)[0].to(inputs)


@METHODS.register(
    label="SmoothGrad squared",
    cite="hooker2019",
    traits={"family": "gradient", "gradient": True, "random": True, "positive": True},
)
def smoothgrad_squared(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    base: Spec = "gradient",
    n_samples: int = 25,
    noise_fraction: float = 0.15,
    sigma: float | None = None,
    seed: int = 0,
    score: Any = "logit",
    max_batch: int | None = None,
) -> Tensor:
    """S = (1/J) sum_j g(x + e_j)^2, with the noise of `smoothgrad`; arguments and errors as there."""
    return _noisy_moments(model, inputs, targets, base, n_samples, noise_fraction, sigma, seed, score, max_batch)[1].to(inputs)


@METHODS.register(
    label="VarGrad", cite="adebayo2018", traits={"family": "gradient", "gradient": True, "random": True, "positive": True}
)
def vargrad(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    base: Spec = "gradient",
    n_samples: int = 25,
    noise_fraction: float = 0.15,
    sigma: float | None = None,
    seed: int = 0,
    score: Any = "logit",
    max_batch: int | None = None,
) -> Tensor:
    """S = (1/J) sum_j (g_j - mean g)^2, the variance with divisor J; noise, arguments and errors as in `smoothgrad`."""
    mean, square = _noisy_moments(model, inputs, targets, base, n_samples, noise_fraction, sigma, seed, score, max_batch)
    return (square - mean**2).clamp_min(0).to(inputs)


def _noisy_moments(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    base: Spec,
    n_samples: int,
    noise_fraction: float,
    sigma: float | None,
    seed: int,
    score: Any,
    max_batch: int | None,
) -> tuple[Tensor, Tensor]:
    """Mean and mean square of the maps over noise, in float64 so that their difference is a variance."""
    if n_samples < 1:
        raise ConfigError(f"n_samples={n_samples}: expected at least 1")
    if max_batch is not None and max_batch < 1:
        raise InputError(f"max_batch={max_batch}: expected at least 1 row per chunk")
    if noise_fraction < 0 or (sigma is not None and sigma < 0):
        raise ConfigError(f"noise_fraction={noise_fraction}, sigma={sigma}: expected numbers of at least 0")
    bound = METHODS.bind(base)
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

    n_rows = len(inputs) * n_samples
    if _is_plain_gradient(bound):
        made = gradient_rows(model, rows, n_rows, inputs, score=score, max_batch=max_batch)
    else:
        numbers = torch.arange(n_rows, device=inputs.device).reshape(-1, n_samples)
        distinct = bool((spread > 0).all())  # equal rows cannot draw apart in one call
        groups = [numbers.flatten()] if distinct else list(numbers.T)
        keys = [str(key("ensemble", seed, name, j)) for name in names for j in range(n_samples)]
        made = _base_rows(model, rows, groups, keys, bound, score, max_batch or default_max_batch(inputs))
    total, square = (torch.zeros(inputs.shape, dtype=torch.float64, device=inputs.device) for _ in range(2))
    for index, maps in made:
        exact = maps.double()
        total.index_add_(0, index // n_samples, exact / n_samples)
        square.index_add_(0, index // n_samples, exact**2 / n_samples)
    return total, square


def _is_plain_gradient(bound: Callable[..., Any]) -> bool:
    return bound is gradient or (isinstance(bound, partial) and bound.func is gradient and not bound.keywords)


def _base_rows(
    model: Model,
    rows: Rows,
    groups: list[Tensor],
    keys: list[str],
    base: Callable[..., Any],
    score: Any,
    max_batch: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Maps of the base for noisy rows, at most one chunk at a time.

    What the base draws belongs to the image and the number of the sample (`keys`), as the noise does, not to the noisy values.
    """
    takes = inspect.signature(base).parameters
    given = base.keywords if isinstance(base, partial) else {}
    shared = {"score": score, "max_batch": max_batch}
    own = {k: v for k, v in shared.items() if k in takes and k not in given}
    for group in groups:
        for index in group.split(max_batch):
            points, targets = rows(index)
            points = points.detach()
            with drawn_as(points, [keys[i] for i in index.tolist()]):
                maps = base(model, points, targets, **own)
            if not isinstance(maps, Tensor) or maps.shape != points.shape:
                got = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
                raise InputError(f"base: expected attributions of shape {tuple(points.shape)}, got {got}")
            yield index, maps
