"""Random changes of pictures for `training.train`, drawn from the generator that it hands on."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from xai_lib.errors import ConfigError

Augment = Callable[[Tensor, torch.Generator], Tensor]
"""(n, c, h, w) and a CPU generator -> the same shape."""


def random_shift(pixels: int, *, flip: bool = False) -> Callable[[Tensor, torch.Generator], Tensor]:
    """An `augment` for `train`: moves each image by up to `pixels` along each axis, filling with 0 (black).

    That is a random crop of the image padded by `pixels`; with `flip`, half of the images (drawn) are also mirrored.

    >>> moved = random_shift(1)(torch.ones(1, 1, 2, 2), torch.Generator().manual_seed(0))
    >>> tuple(moved.shape), moved.sum().item() in (1.0, 2.0, 4.0)
    ((1, 1, 2, 2), True)
    """
    if pixels < 0:
        raise ConfigError(f"pixels={pixels}: expected at least 0")

    def shift(inputs: Tensor, generator: torch.Generator) -> Tensor:
        n, _, height, width = inputs.shape
        offset = torch.randint(0, 2 * pixels + 1, (2, n, 1), generator=generator).to(inputs.device)
        rows = torch.arange(height, device=inputs.device) + offset[0]
        columns = torch.arange(width, device=inputs.device) + offset[1]
        if flip:
            mirrored = torch.randint(0, 2, (n, 1), generator=generator).to(inputs.device, torch.bool)
            columns = torch.where(mirrored, columns.flip(1), columns)
        padded = nn.functional.pad(inputs, (pixels,) * 4)
        image = torch.arange(n, device=inputs.device)[:, None, None]
        return padded[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)

    return shift
