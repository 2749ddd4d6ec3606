"""How much of a map lies in a region, and how dense it is there: for regions of any shape, signs left out."""

import torch
from torch import Tensor

from xai_lib import maps
from xai_lib.errors import InputError
from xai_lib.metrics.checks import check_attributions
from xai_lib.registry import METRICS


@METRICS.register(label="Energy in mask", cite="wang2020scorecam", traits={"family": "localisation"})
def energy_in_mask(attributions: Tensor, masks: Tensor, *, reduce: str = "sum_abs") -> Tensor:
    """Share of a map's size that lies in a mask: E = sum_{p in mask} |S_p| / sum_p |S_p|, S the channel-reduced map.

    Args:
        attributions: (n, c, h, w).
        masks: (n, h, w) bool, the region of each image.
        reduce: how channels become one map; signs are left out afterwards.

    Returns:
        (n,) in [0, 1]; NaN where the mask is empty, or the map is zero or holds NaN or infinity. It says how much, not whether
        that is good: a constant map scores the mask's share of the area, which `energy_density` divides out.

    Raises:
        InputError: attributions or masks that do not fit.

    Differs from `energy_in_box` (and Wang et al.), which takes boxes and positive values alone: here a place is important
    whether ink there speaks for the class or against it.

    >>> one = torch.tensor([[[[3.0, 0.0], [0.0, -1.0]]]])
    >>> energy_in_mask(one, torch.tensor([[[False, False], [False, True]]])).item()
    0.25
    """
    check_attributions(attributions)
    size = maps.reduce(attributions, reduce).abs().double()
    if not isinstance(masks, Tensor) or masks.dtype != torch.bool or masks.shape != size.shape:
        got = f"{masks.dtype} {tuple(masks.shape)}" if isinstance(masks, Tensor) else type(masks).__name__
        raise InputError(f"masks: expected {tuple(size.shape)} bool, one mask for each map, got {got}")
    total = size.flatten(1).sum(dim=1)
    share = (size * masks).flatten(1).sum(dim=1) / total
    defined = masks.flatten(1).any(dim=1) & (total > 0) & torch.isfinite(total)
    return share.where(defined, torch.nan).to(attributions.dtype)


@METRICS.register(label="Energy density", cite="wang2020scorecam", traits={"family": "localisation"})
def energy_density(attributions: Tensor, masks: Tensor, *, reduce: str = "sum_abs") -> Tensor:
    """Share of the map's size in a mask over the mask's share of the area: E h w / |mask|.

    Args:
        attributions, masks, reduce: as in `energy_in_mask`, which gives E.

    Returns:
        (n,), at least 0: 1 for a constant map and, on average, for a random one; 2 where the region holds twice its share, at
        most h w / |mask|. NaN where E is undefined.

    Differs from Wang et al., who report E, which large regions make high for any map.

    >>> one = torch.tensor([[[[3.0, 0.0], [0.0, -1.0]]]])
    >>> energy_density(one, torch.tensor([[[True, False], [False, False]]])).item()
    3.0
    """
    share = energy_in_mask(attributions, masks, reduce=reduce)
    return share / masks.flatten(1).to(attributions.dtype).mean(dim=1)
