"""Does the map point at the object? Mass in the box and the pointing game (FIDELITY 8.14)

Boxes made from a map are judged in `localisation_boxes` and, for whole data sets, `localisation_sets`; single pixels in
`localisation_pixels`.
"""

import numpy as np
import torch
from torch import Tensor

from xai_lib import maps
from xai_lib.errors import ConfigError, InputError
from xai_lib.metrics.checks import check_attributions
from xai_lib.registry import METRICS


@METRICS.register(label="Energy in box", cite="wang2020scorecam", traits={"family": "localisation"})
def energy_in_box(attributions: Tensor, boxes: tuple[np.ndarray, ...], *, reduce: str = "sum") -> Tensor:
    """Share of the positive attribution that lies inside the union of an image's boxes.

    E = sum_{p in boxes} max(S_p, 0) / sum_p max(S_p, 0), S the channel-reduced map.

    Args:
        attributions: (n, c, h, w).
        boxes: one (k, 4) array per image: x0 y0 x1 y1 in pixels, x1 and y1 exclusive.
        reduce: how channels become one map.

    Returns:
        (n,) in [0, 1], higher is better; NaN where nothing is positive, the map holds NaN or infinity, or the image has no box.
        A constant map scores the boxes' share of the area: hold the result against it, or against a random map.

    Raises:
        InputError: as many boxes as images are needed; maps must be (n, c, h, w).
    """
    check_attributions(attributions)
    reduced = maps.reduce(attributions, reduce)
    positive = reduced.clamp_min(0).double()
    inside = box_masks(boxes, positive)
    total = positive.flatten(1).sum(1)
    share = (positive * inside).flatten(1).sum(1) / total
    defined = (total > 0) & inside.flatten(1).any(1) & torch.isfinite(reduced).flatten(1).all(1)
    return share.where(defined, torch.nan).to(attributions)


@METRICS.register(label="Attribution mass", cite="wang2020scorecam", traits={"family": "localisation"})
def attribution_mass(attributions: Tensor, boxes: tuple[np.ndarray, ...], *, reduce: str = "sum") -> Tensor:
    """How much more of the positive attribution lies in the boxes than their share of the area: E - |boxes| / |image|.

    Args:
        attributions, boxes, reduce: as in `energy_in_box`, which gives E.

    Returns:
        (n,) in (-1, 1), higher is better, 0 for a constant map and, on average, for a random one; NaN where E is undefined.

    Differs from Wang et al., who report E, which large boxes make high for any map.

    >>> corner = torch.tensor([[[[4.0, 0.0], [0.0, -1.0]]]])
    >>> attribution_mass(corner, (np.array([[0, 0, 1, 1]]),)).item()
    0.75
    """
    share = box_masks(boxes, maps.reduce(attributions, reduce)).flatten(1).double().mean(dim=1)
    return energy_in_box(attributions, boxes, reduce=reduce) - share.to(attributions)


@METRICS.register(label="Pointing game", cite="zhang2018excitation", traits={"family": "localisation"})
def pointing_game(
    attributions: Tensor, boxes: tuple[np.ndarray, ...], *, tolerance: float = 15.0, reduce: str = "sum", seed: int = 0
) -> Tensor:
    """1 where the largest value of the map lies in a box or closer than `tolerance` pixels to one, else 0.

    Args:
        attributions, boxes, reduce: as in `energy_in_box`.
        tolerance: in pixels; a pixel at exactly this distance is a miss (FIDELITY TV-41).
        seed: breaks ties among largest values.

    Returns:
        (n,) of 0 and 1, higher is better; NaN where the image has no box. (Quantus counts an empty mask as a hit.)

    Raises:
        ConfigError: negative tolerance.
    """
    if tolerance < 0:
        raise ConfigError(f"tolerance={tolerance}: expected at least 0 pixels")
    reduced = maps.reduce(attributions, reduce)
    inside = box_masks(boxes, reduced)
    width = reduced.shape[2]
    top = maps.ranking(reduced, seed=seed)[:, 0].cpu()
    hits = torch.full((len(reduced),), torch.nan, dtype=attributions.dtype)
    for i, mask in enumerate(inside.cpu()):
        places = mask.nonzero()
        if len(places):
            here = torch.stack([top[i] // width, top[i] % width])
            squared = ((places - here) ** 2).sum(1).min()
            hits[i] = float(squared == 0 or squared < tolerance**2)
    return hits.to(attributions.device)


def box_masks(boxes: tuple[np.ndarray, ...], like: Tensor) -> Tensor:
    """The union of each image's boxes as (n, h, w) bool; a pixel belongs to a box that covers its centre."""
    if like.ndim != 3 or boxes is None or len(boxes) != len(like):
        found = "none" if boxes is None else str(len(boxes))
        raise InputError(f"boxes: expected one (k, 4) array for each of {len(like)} maps (n, h, w), got {found}")
    rows, columns = (torch.arange(s, dtype=torch.float64) + 0.5 for s in like.shape[1:])
    masks = torch.zeros(like.shape, dtype=torch.bool)
    for i, own in enumerate(boxes):
        for x0, y0, x1, y1 in np.asarray(own, dtype=float).reshape(-1, 4):
            masks[i] |= ((rows >= y0) & (rows < y1))[:, None] & ((columns >= x0) & (columns < x1))[None, :]
    return masks.to(like.device)
