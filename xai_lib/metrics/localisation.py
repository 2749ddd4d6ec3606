"""Does the map point at the object? (FIDELITY 8.14)"""

import numpy as np
import torch
from torch import Tensor

from xai_lib import maps
from xai_lib.errors import ConfigError, InputError
from xai_lib.registry import METRICS


@METRICS.register(label="Energy in box", cite="wang2020scorecam")
def energy_in_box(attributions: Tensor, boxes: tuple[np.ndarray, ...], *, reduce: str = "sum") -> Tensor:
    """Share of the positive attribution that lies inside the union of an image's boxes.

    E = sum_{p in boxes} max(S_p, 0) / sum_p max(S_p, 0), S the channel-reduced map.

    Args:
        attributions: (n, c, h, w).
        boxes: one (k, 4) array per image: x0 y0 x1 y1 in pixels, x1 and y1 exclusive.
        reduce: how channels become one map.

    Returns:
        (n,) in [0, 1], higher is better; NaN where nothing is positive or the image has no box. A constant map scores the
        boxes' share of the area: hold the result against it, or against a random map.

    Raises:
        InputError: as many boxes as images are needed; maps must be (n, c, h, w).
    """
    positive = maps.reduce(attributions, reduce).clamp_min(0).double()
    inside = box_masks(boxes, positive)
    total = positive.flatten(1).sum(1)
    share = (positive * inside).flatten(1).sum(1) / total
    return share.where((total > 0) & inside.flatten(1).any(1), torch.nan).to(attributions)


@METRICS.register(label="Pointing game", cite="zhang2018excitation")
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
