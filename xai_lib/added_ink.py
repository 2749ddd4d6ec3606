"""Ink added to the ground of a picture, pixel by pixel in a given order: would more ink make it another digit?"""

import torch
from torch import Tensor

from xai_lib import maps
from xai_lib.checks import check_count
from xai_lib.errors import ConfigError, InputError


def ground_order(priority: Tensor, ink: Tensor, *, seed: int = 0) -> Tensor:
    """Pixels in the order in which ink is added: ground of the largest priority first, ink last.

    Equal priorities are put in a random order that belongs to the picture (`maps.ranking`): zeros give random ground, a region
    as 0 and 1 gives random pixels of the region and then random ground.

    Args:
        priority: (n, h, w) finite numbers.
        ink: (n, h, w) bool, the pixels that are drawn already.
        seed: of the order of equal priorities.

    Returns:
        (n, h w) int64, each row a permutation of 0 .. h w - 1.

    Raises:
        InputError: shapes that differ, or a priority that is not finite.

    >>> ground_order(torch.tensor([[[3.0, 1.0, 2.0]]]), torch.tensor([[[True, False, False]]])).tolist()
    [[2, 1, 0]]
    """
    if priority.ndim != 3 or ink.shape != priority.shape or ink.dtype != torch.bool:
        raise InputError(f"ink: expected {tuple(priority.shape)} bool (n, h, w), got {ink.dtype} {tuple(ink.shape)}")
    if not bool(torch.isfinite(priority).all()):
        raise InputError("priority: NaN or infinity; see maps.flags, and leave those rows out")
    return maps.ranking(priority.double().masked_fill(ink, -torch.inf), seed=seed)


def with_ink(inputs: Tensor, order: Tensor, k: int, *, value: float = 1.0) -> Tensor:
    """The pictures with ink at the first k pixels of an order, in all channels.

    Args:
        inputs: (n, c, h, w) in [0, 1].
        order: (n, h w) pixel numbers, see `ground_order`.
        k: 0 to h w.
        value: grey level of the ink in [0, 1]; a pixel that is lighter already stays.

    Returns:
        Same shape, a copy.

    Raises:
        InputError: an order that does not fit the pictures.
        ConfigError: k or value out of range.

    >>> with_ink(torch.zeros(1, 1, 1, 3), torch.tensor([[2, 0, 1]]), 2).tolist()
    [[[[1.0, 0.0, 1.0]]]]
    """
    check_count("k", k, 0)
    if inputs.ndim != 4 or order.shape != inputs[:, 0].flatten(1).shape:
        raise InputError(f"order: expected {tuple(inputs[:, 0].flatten(1).shape)} pixel numbers, got {tuple(order.shape)}")
    if not 0 <= value <= 1 or k > order.shape[1]:
        raise ConfigError(f"k={k}, value={value}: expected at most {order.shape[1]} pixels and a grey level in [0, 1]")
    added = torch.zeros(order.shape, dtype=inputs.dtype, device=inputs.device).scatter_(1, order[:, :k], value)
    return torch.maximum(inputs, added.reshape(len(inputs), 1, *inputs.shape[2:]))
