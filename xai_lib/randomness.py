"""Randomness that belongs to one image.

A generator is keyed by a seed, the name of the function that draws, and a digest of the image's own values, so that order,
company, batch size, sharding and resuming never change a number. Global generators are neither read nor moved.
"""

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor


def key(*parts: object) -> int:
    """A 63-bit integer from any printable parts: sha256, stable across processes and versions.

    >>> key("noise", 0, 3) == key("noise", 0, 3) != key("noise", 0, 4)
    True
    """
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def digest(image: Tensor) -> str:
    """Hexadecimal digest of an image's shape and float32 values."""
    values = image.detach().to("cpu", torch.float32).contiguous().numpy()
    return hashlib.sha256(str(values.shape).encode() + values.tobytes()).hexdigest()


def image_generator(seed: int, name: str, image: Tensor) -> torch.Generator:
    """A CPU generator for one image; the same on every machine and device."""
    return torch.Generator().manual_seed(key(seed, name, digest(image)))


def per_image(inputs: Tensor, seed: int, name: str, draw: Callable[[Tensor, torch.Generator], Tensor]) -> Tensor:
    """`draw(image, generator)` for each image, stacked on the device and in the dtype of `inputs`.

    Args:
        inputs: (n, ...).
        seed: the caller's seed.
        name: name of the drawing function (different functions draw different numbers).
        draw: gets one image on the CPU and its generator; returns a tensor.

    Returns:
        (n, ...) stack of what was drawn.
    """
    rows = [draw(image, image_generator(seed, name, image)) for image in inputs.detach().cpu()]
    return torch.stack(rows).to(inputs.device, inputs.dtype)
