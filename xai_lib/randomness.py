"""Randomness that belongs to one image.

A generator is keyed by a seed, the name of the function that draws, and a digest of the image's own values, so that order,
company, batch size, sharding and resuming never change a number. Global generators are neither read nor moved.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

import torch
from torch import Tensor


def key(*parts: object) -> int:
    """A 63-bit integer from any printable parts: sha256, stable across processes and versions.

    >>> key("noise", 0, 3) == key("noise", 0, 3) != key("noise", 0, 4)
    True
    """
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def image_values(image: Tensor) -> str:
    """Hexadecimal digest of an image's shape and float32 values."""
    values = image.detach().to("cpu", torch.float32).contiguous().numpy()
    return hashlib.sha256(str(values.shape).encode() + values.tobytes()).hexdigest()


_originals: ContextVar[Mapping[str, str]] = ContextVar("originals", default=MappingProxyType({}))


def digest(image: Tensor) -> str:
    """What an image's draws are keyed by: its own values, or those of its original inside `drawn_as`."""
    own = image_values(image)
    return _originals.get().get(own, own)


@contextmanager
def drawn_as(copies: Tensor, originals: Sequence[str]) -> Iterator[None]:
    """Inside the block, each copy draws what its original would; every other image is untouched.

    A perturbed image has other values, so it would be explained from other baselines and noise, and a sensitivity would
    measure those instead of the explainer (FIDELITY 8.1).

    Args:
        copies: (k, ...) perturbed images.
        originals: k digests of the images they came from.
    """
    keys = {image_values(copy): original for copy, original in zip(copies, originals, strict=True)}
    token = _originals.set({**_originals.get(), **keys})
    try:
        yield
    finally:
        _originals.reset(token)


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
