"""Controls for localisation scores that reward area: what a map gets without saying anything (FIDELITY 8.16 to 8.19)."""

import math

import torch
from torch import Tensor

from xai_lib import baselines, maps
from xai_lib.compute import check_request
from xai_lib.errors import ConfigError, InputError
from xai_lib.randomness import image_generator
from xai_lib.registry import METHODS
from xai_lib.types import Model, Spec


@METHODS.register(label="All ones", cite="none", traits={"family": "control", "control": True, "positive": True})
def all_ones(model: Model, inputs: Tensor, targets: Tensor) -> Tensor:
    """S = 1 at every pixel: the whole picture; each channel a c-th.

    Its pixel IOU is the boxes' share of the area; on 003's 1,000 pictures that beats all four published methods (0.49).

    Returns:
        Same shape as `inputs`, 1 / c (tables: 1).

    >>> all_ones(lambda x: x, torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64))
    tensor([[1., 1.]])
    """
    check_request(model, inputs, targets)
    return torch.full_like(inputs.detach(), 1 / _channels(inputs), memory_format=torch.contiguous_format)


@METHODS.register(
    label="Centre box", cite="none", traits={"family": "control", "control": True, "image": True, "positive": True}
)
def centre_box(model: Model, inputs: Tensor, targets: Tensor, *, area_fraction: float = 0.5) -> Tensor:
    """S = 1 in a centred box with the picture's proportions, 0 outside, the same for every image; each channel a c-th.

    A pixel is inside when its centre is. Dabkowski and Gal (2017) take half of the area.

    Args:
        area_fraction: of the picture, in (0, 1]; kept as nearly as whole pixels allow.

    Returns:
        Same shape as `inputs`, 0 or 1 / c.

    Raises:
        ConfigError: `area_fraction` outside (0, 1].
        InputError: inputs are not images.

    >>> x = torch.zeros(1, 1, 3, 4)
    >>> centre_box(lambda x: x, x, torch.zeros(1, dtype=torch.int64), area_fraction=0.25)[0, 0]
    tensor([[0., 0., 0., 0.],
            [0., 1., 1., 0.],
            [0., 0., 0., 0.]])
    """
    if not 0 < area_fraction <= 1:
        raise ConfigError(f"area_fraction={area_fraction!r}: expected a share of the area in (0, 1], such as 0.5")
    check_request(model, inputs, targets)
    _images(inputs)
    inside = []
    for side in inputs.shape[2:]:
        offset = (torch.arange(side, dtype=torch.float64) - (side - 1) / 2).abs()
        reach = max(side * math.sqrt(area_fraction) / 2, float(offset.min()))
        inside.append(offset <= reach + 1e-9)
    box = (inside[0][:, None] & inside[1][None, :]).to(inputs) / _channels(inputs)
    return box.expand_as(inputs).contiguous()


@METHODS.register(
    label="Density-matched random", cite="none", traits={"family": "control", "control": True, "random": True, "positive": True}
)
def density_matched_random(
    model: Model, inputs: Tensor, targets: Tensor, *, base: Spec = "edge_detector", k: float = 0.5, seed: int = 0
) -> Tensor:
    """S = 1 at random pixels, as many as another method's map keeps at its threshold, 0 elsewhere; each channel a c-th.

    With a = |channel sum| of the other map, it keeps the pixels with a >= k std(a), a > 0 (pixel IOU, FIDELITY 8.19).
    Thresholded in the same way, S keeps exactly its ones for k up to 2 (their std is at most 1/2). A method that beats this
    control knows more than how much to mark. `permuted_map` is its sister with the method's own values: the same for
    IOU, not for IOU*.

    Args:
        base: the other method: registered name, {name: {parameters}} or callable. The default does not ask the model.
        k: threshold in standard deviations (divisor: all pixels), at least 0. Document 003: 0.5 for IOU, 1 for IOU*.
        seed: of the places, drawn per image.

    Returns:
        Same shape as `inputs`, 0 or 1 / c. All NaN for an image whose base map holds NaN or infinity; all 0 where that is 0.

    Raises:
        ConfigError: negative `k`; unknown base or parameter of it.
        InputError: the base returns another shape than its inputs'; else as the base.
    """
    if not k >= 0:
        raise ConfigError(f"k={k!r}: expected a number of standard deviations of at least 0")
    bound = METHODS.bind(base)
    check_request(model, inputs, targets)
    given = bound(model, inputs, targets)
    if not isinstance(given, Tensor) or given.shape != inputs.shape:
        got = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
        raise InputError(f"base: expected attributions of shape {tuple(inputs.shape)}, got {got}")
    sizes = maps.reduce(given, "abs_sum").double()
    shape, sizes = sizes.shape, sizes.flatten(1)
    kept = (sizes >= k * sizes.std(dim=1, correction=0, keepdim=True)) & (sizes > 0)
    generators = (image_generator(seed, "density_matched_random", image) for image in inputs)
    order = torch.stack([torch.randperm(sizes.shape[1], generator=g) for g in generators]).to(inputs.device)
    chosen = (order < kept.sum(dim=1, keepdim=True)).to(inputs) / _channels(inputs)
    chosen = chosen.masked_fill(~torch.isfinite(sizes).all(dim=1, keepdim=True), torch.nan)
    per_pixel = chosen.reshape(shape)
    return per_pixel[:, None].expand_as(inputs).contiguous() if inputs.ndim == 4 else per_pixel


@METHODS.register(label="Input difference", cite="none", traits={"family": "control", "control": True, "positive": True})
def input_difference(model: Model, inputs: Tensor, targets: Tensor, *, baseline: Spec = "black", seed: int = 0) -> Tensor:
    """S_i = |x_i - x'_i|: the factor that Integrated Gradients and its kin share, without any gradient.

    Args:
        baseline: x'; black by default, which makes it `intensity`.
        seed: of a random baseline, drawn once per image.

    Returns:
        Same shape as `inputs`, at least 0.

    Raises:
        ConfigError, InputError: as `baselines.draw`.

    >>> x, t = torch.tensor([[0.25, 1.0]]), torch.zeros(1, dtype=torch.int64)
    >>> input_difference(lambda x: x, x, t, baseline="white")
    tensor([[0.7500, 0.0000]])
    """
    check_request(model, inputs, targets)
    images = inputs.detach().contiguous()
    return (images - baselines.draw(baseline, images, seed=seed)).abs()


def _channels(inputs: Tensor) -> int:
    return inputs.shape[1] if inputs.ndim == 4 else 1


def _images(inputs: Tensor) -> None:
    if inputs.ndim != 4:
        raise InputError(f"expected images (n, c, h, w), got shape {tuple(inputs.shape)}")
