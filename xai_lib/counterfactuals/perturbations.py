"""Changes of an image that one signed amount describes; amount 0 is the image itself.

perturbation(images (k, c, h, w), amounts, *, own parameters) -> (k, c, h, w), where `amounts` is a number or (k,) numbers.
The trait `directions` names what positive and negative amounts do; `unit` is theirs, and `whole` says that they must be whole.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from xai_lib import randomness
from xai_lib.checks import check_count
from xai_lib.errors import ConfigError, InputError
from xai_lib.metrics.checks import check_choice
from xai_lib.registry import Registry

PERTURBATIONS = Registry("perturbation")


@PERTURBATIONS.register(
    label="Rotation",
    cite="none",
    traits={"directions": ("counter-clockwise", "clockwise"), "unit": "degrees", "whole": False},
)
def rotation(images: Tensor, amounts: float | Tensor, *, interpolation: str = "nearest", inside: bool = False) -> Tensor:
    """Each image turned about its centre, counter-clockwise by a positive angle; what comes from outside is 0 (black).

    Pixel p of the result is read at R(angle) p, coordinates from the centre, at the nearest pixel or bilinearly. An angle of
    0 leaves the image as it is.

    Args:
        images: (k, c, h, w).
        amounts: degrees.
        interpolation: "nearest" or "bilinear".
        inside: keep only `disc`, inside which no black comes in: angle 0 is then the image under this mask alone. Rotating
            without it also blackens the corners; the difference of both tells what they do.

    Returns:
        (k, c, h, w). Equal, bit by bit in float32 and float64, to `torchvision.transforms.functional.rotate` without `fill`,
        but for its rounding at angle 0 when it reads bilinearly.

    Raises:
        InputError: no images; one amount per image is expected. ConfigError: unknown interpolation, an amount that is no
        number.

    Differs from torchvision: every image has its own angle; half precision is turned with coordinates in float32.
    torchvision's `RandomRotation` fills, which for bilinear reading darkens the border twice.

    >>> rotation(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), 90.0)
    tensor([[[[2., 4.],
              [1., 3.]]]])
    """
    check_choice("interpolation", interpolation, ("nearest", "bilinear"))
    angles = _amounts("rotation", images, amounts)
    wide = images if images.dtype in (torch.float32, torch.float64) else images.float()
    different, which = torch.unique(angles, return_inverse=True)
    grids = _grids(different.tolist(), wide)
    grids = grids[which] if len(grids) > 1 else grids.expand(len(wide), -1, -1, -1)
    made = torch.nn.functional.grid_sample(wide, grids, mode=interpolation, padding_mode="zeros", align_corners=False)
    if bool((different == 0).any()):
        made = torch.where((angles == 0).reshape(-1, 1, 1, 1), wide, made)
    made = made.to(images.dtype)
    return made * disc(*images.shape[2:], device=images.device) if inside else made


def first_turn(side: int) -> float:
    """The angle, degrees, up to which `rotation` to the nearest pixel leaves a square picture as it is.

    A corner's pixel moves first, once (side - 1) (sin a + 1 - cos a) / 2 reaches half a pixel:
    a = 45 + asin((1 / (side - 1) - 1) / sqrt 2).

    Raises:
        ConfigError: a side below 2.

    >>> round(first_turn(32), 2), first_turn(2)
    (1.82, 45.0)
    """
    check_count("side", side, least=2)
    return 45 + math.degrees(math.asin((1 / (side - 1) - 1) / math.sqrt(2)))


def _grids(angles: Sequence[float], like: Tensor) -> Tensor:
    """Where each pixel is read, (angles, h, w, 2) in units of half the image from its centre (x, y).

    One product per angle, so that no angle's rounding depends on its company.
    """
    height, width = like.shape[2:]
    axes = [torch.arange(n).to(like) - (n - 1) / 2 for n in (height, width)]
    y, x = torch.meshgrid(*axes, indexing="ij")
    places = torch.stack([x, y, torch.ones_like(x)], dim=-1).reshape(1, -1, 3)
    half = torch.tensor([0.5 * width, 0.5 * height]).to(like)
    cosines = [(math.cos(math.radians(angle)), math.sin(math.radians(angle))) for angle in angles]
    turns = torch.tensor([[[c, s], [-s, c], [0.0, 0.0]] for c, s in cosines], dtype=torch.float64).to(like) / half
    return torch.cat([places.bmm(turn) for turn in turns.split(1)]).reshape(-1, height, width, 2)


def disc(height: int, width: int, *, device: torch.device | str | None = None) -> Tensor:
    """The disc around the centre that reaches the centres of the nearest border pixels, (h, w) bool.

    A pixel belongs to it if its centre is at most (min(h, w) - 1) / 2 from the image's. What a rotation reads for it lies
    between pixels of the image, whatever the angle.

    >>> disc(3, 3).int().tolist()
    [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    """
    y, x = (torch.arange(n, device=device) * 2 - (n - 1) for n in (height, width))
    return y[:, None] ** 2 + x[None] ** 2 <= (min(height, width) - 1) ** 2


@PERTURBATIONS.register(
    label="Covered rows", cite="none", traits={"directions": ("top", "bottom"), "unit": "rows", "whole": True}
)
def cover_rows(images: Tensor, amounts: float | Tensor, *, value: float = 0.0) -> Tensor:
    """The first rows of each image set to a value, from the top for positive, from the bottom for negative numbers.

    Args:
        images: (k, c, h, w).
        amounts: how many rows, whole, from -h to h.
        value: what covers them, in every channel.

    Returns:
        (k, c, h, w).

    Raises:
        InputError: no images; one number per image is expected. ConfigError: more rows than there are, or not whole.

    >>> cover_rows(torch.ones(2, 1, 3, 1), torch.tensor([1, -2])).flatten(1)
    tensor([[0., 1., 1.],
            [1., 0., 0.]])
    """
    rows = _amounts("cover_rows", images, amounts)
    height = images.shape[2]
    wrong = (rows != rows.round()) | (rows.abs() > height)
    if bool(wrong.any()):
        raise ConfigError(f"cover_rows: {rows[wrong][0].item():g} rows; expected a whole number from {-height} to {height}")
    at = torch.arange(height, device=images.device)
    covered = (at < rows[:, None]) | (at >= height + rows[:, None])
    return images.masked_fill(covered[:, None, :, None], value)


@PERTURBATIONS.register(
    label="Brightness",
    cite="none",
    traits={"directions": ("brighter", "darker"), "unit": "of the range of values", "whole": False},
)
def brightness(images: Tensor, amounts: float | Tensor, *, clip: bool = True) -> Tensor:
    """The amount added to every value of an image: x + a, cut to [0, 1] if `clip`.

    Args:
        images: (k, ...) in [0, 1].
        amounts: from -1 to 1 where `clip` is to leave anything.
        clip: keep the values in [0, 1].

    Returns:
        (k, ...).

    Raises:
        InputError, ConfigError: as `rotation`.

    Differs from torchvision's `adjust_brightness`, which multiplies: black stays black there.

    >>> brightness(torch.tensor([[0.2, 0.8]]), 0.5)
    tensor([[0.7000, 1.0000]])
    """
    shift = _amounts("brightness", images, amounts, image=False)
    made = images + shift.to(images.dtype).reshape(-1, *[1] * (images.ndim - 1))
    return made.clamp(0, 1) if clip else made


@PERTURBATIONS.register(
    label="Noise",
    cite="none",
    traits={"directions": ("more noise",), "unit": "standard deviations in values", "whole": False, "random": True},
)
def noise(images: Tensor, amounts: float | Tensor, *, seed: int = 0, clip: bool = True) -> Tensor:
    """Gaussian noise of growing size in one direction per image: x + a z, z ~ N(0, 1), cut to [0, 1] if `clip`.

    z belongs to the image and the seed, so that a larger amount is more of the same noise, and a search over amounts meets one
    function. Another seed is another direction, with another smallest amount.

    Args:
        images: (k, ...) in [0, 1].
        amounts: standard deviation of the noise.
        seed: of z.
        clip: keep the values in [0, 1].

    Returns:
        (k, ...).

    Raises:
        InputError, ConfigError: as `rotation`.

    >>> x = torch.full((1, 1, 2, 2), 0.5)
    >>> a, b = (noise(x, size, clip=False) - x for size in (0.1, 0.2))
    >>> torch.allclose(2 * a, b)
    True
    """
    size = _amounts("noise", images, amounts, image=False).to(images.dtype)
    drawn = randomness.per_image(images, seed, "noise", lambda image, own: torch.randn(image.shape, generator=own))
    made = images + size.reshape(-1, *[1] * (images.ndim - 1)) * drawn
    return made.clamp(0, 1) if clip else made


def _amounts(name: str, images: Tensor, amounts: float | Tensor, *, image: bool = True) -> Tensor:
    """One float64 amount per image, checked."""
    if not isinstance(images, Tensor) or not images.is_floating_point() or images.ndim < 2 or (image and images.ndim != 4):
        got = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise InputError(f"{name}: expected float images ({'k, c, h, w' if image else 'k, ...'}), got {got}")
    made = torch.as_tensor(amounts, dtype=torch.float64, device=images.device)
    if made.shape not in ((), (len(images),)):
        raise InputError(f"{name}: {len(images)} images, but amounts of shape {tuple(made.shape)}; give one, or one per image")
    if not bool(torch.isfinite(made).all()):
        raise ConfigError(f"{name}: an amount is NaN or infinite; expected finite numbers")
    return made.expand(len(images))
