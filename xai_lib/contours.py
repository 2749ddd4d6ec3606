"""Contour analysis of document 000: from a map to one connected patch, fills outside it, and controls of equal area.

Top pixels -> opening -> dilation -> outer contours -> one convex hull around all of them -> filled patch. One stray component
inflates that hull to most of the image, so a prediction on the patch means nothing without its area and without the controls.
Model-free; OpenCV does the morphology.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from xai_lib import baselines, maps, randomness
from xai_lib.errors import ConfigError, InputError, unknown

VARIANTS = ("hull", "rectangle", "polylines")
FILLS = ("black", "mean", "blur", "crop_resize")


@dataclass(frozen=True)
class ContourSteps:
    """Every step of one map's contour analysis; all masks are bool (h, w).

    top        the largest pixels of the map
    opened     after opening, or `top` again if opening left nothing (then `fell_back`)
    dilated    after dilation
    contours   outer contours, largest first, each (k, 2) int pixels x, y
    hull       (k, 2) int corners x, y of the convex hull of all contours
    patch      the filled patch of the chosen variant
    fell_back  whether opening removed everything and was skipped
    """

    top: np.ndarray
    opened: np.ndarray
    dilated: np.ndarray
    contours: tuple[np.ndarray, ...]
    hull: np.ndarray
    patch: np.ndarray
    variant: str
    fell_back: bool

    @property
    def area_fraction(self) -> float:
        """Pixels of the patch as a share of the image, in (0, 1]."""
        return float(self.patch.mean())


def scaled_kernel(size_at_224: int, side: int) -> int:
    """The odd kernel size nearest to `size_at_224` * side / 224, at least 3; between two odd sizes the larger.

    >>> [scaled_kernel(5, side) for side in (28, 224, 448)]
    [3, 5, 11]
    """
    return max(3, 2 * int(size_at_224 * side / 448) + 1)


def pipeline(
    one_map: Tensor,
    *,
    fraction: float = 0.1,
    variant: str = "hull",
    open_size: int | None = None,
    open_iterations: int = 1,
    dilate_size: int | None = None,
    dilate_iterations: int = 2,
    seed: int = 0,
) -> ContourSteps:
    """All steps of the contour analysis of one map; arguments as `patch_masks`, but for one map (h, w)."""
    if one_map.ndim != 2:
        raise InputError(f"pipeline: expected one map (h, w), got shape {tuple(one_map.shape)}; see patch_masks for several")
    if variant not in VARIANTS:
        raise unknown("contour variant", variant, VARIANTS)
    side = min(one_map.shape)
    open_kernel = _kernel("open_size", scaled_kernel(3, side) if open_size is None else open_size)
    dilate_kernel = _kernel("dilate_size", scaled_kernel(5, side) if dilate_size is None else dilate_size)
    if open_iterations < 0 or dilate_iterations < 0:
        raise ConfigError(f"iterations {open_iterations} (open) and {dilate_iterations} (dilate): must be 0 or more")

    top = maps.top_mask(one_map[None], fraction, seed=seed)[0].cpu().numpy().astype(np.uint8)
    opened = top
    if open_iterations:
        opened = np.asarray(cv2.morphologyEx(top, cv2.MORPH_OPEN, open_kernel, iterations=open_iterations))
    fell_back = not opened.any()
    if fell_back:
        opened = top
    dilated = np.asarray(cv2.dilate(opened, dilate_kernel, iterations=dilate_iterations)) if dilate_iterations else opened
    contours = _outer_contours(dilated)
    hull = np.asarray(cv2.convexHull(np.concatenate(contours)), dtype=np.int32)[:, 0]
    patch = _patch(dilated, contours, hull, variant)
    return ContourSteps(
        top.astype(bool), opened.astype(bool), dilated.astype(bool), contours, hull, patch.astype(bool), variant, fell_back
    )


def patch_masks(
    maps: Tensor,
    *,
    fraction: float = 0.1,
    variant: str = "hull",
    open_size: int | None = None,
    open_iterations: int = 1,
    dilate_size: int | None = None,
    dilate_iterations: int = 2,
    seed: int = 0,
) -> Tensor:
    """The patch of each map: top pixels, opening, dilation, contours, one outline around all contours, filled.

    Variants, nested by construction (polylines <= hull <= rectangle):
    "hull" is the filled convex hull of all contours; "rectangle" the bounding rectangle of that hull; "polylines" the contours
    themselves, each filled by itself, so that this patch may fall into parts.

    Differs from the document: the top-pixel mask, which its algorithm takes for granted, is exact-k; kernel sizes and
    iterations, which it does not give, are square kernels of 3 (opening) and 5 twice (dilation) pixels at 224 px, scaled with
    the shorter side; if opening leaves nothing, it is skipped. One closed line through the points of several contours, as its
    "polylines" may be read, crosses itself and fills triangles between them; the contours are kept apart instead.

    Args:
        maps: (n, h, w), without NaN; larger is more important, so reduce signed attributions first.
        fraction: of the pixels that count as important, in (0, 1].
        variant: "hull", "rectangle" or "polylines".
        open_size, dilate_size: odd kernel sides in pixels; None scales the defaults.
        open_iterations, dilate_iterations: 0 leaves the step out.
        seed: breaks ties among top pixels.

    Returns:
        bool (n, h, w), at least one pixel each.

    Raises:
        ConfigError: unknown variant, even or non-positive kernel size, negative iterations, fraction outside (0, 1].
        InputError: maps are not (n, h, w) or hold NaN.

    Source: Shewale, Algorithm 1 and Figure 15 (document 000).
    """
    if maps.ndim != 3:
        raise InputError(f"maps: expected (n, h, w), got shape {tuple(maps.shape)}; use maps.reduce on attributions")
    patches = [
        pipeline(
            one_map,
            fraction=fraction,
            variant=variant,
            open_size=open_size,
            open_iterations=open_iterations,
            dilate_size=dilate_size,
            dilate_iterations=dilate_iterations,
            seed=seed,
        ).patch
        for one_map in maps
    ]
    return torch.from_numpy(np.stack(patches)).to(maps.device)


def fill_outside(inputs: Tensor, masks: Tensor, fill: str = "black") -> Tensor:
    """The images with everything outside the masks replaced.

    Args:
        inputs: (n, c, h, w) in [0, 1].
        masks: bool (n, h, w), True = kept.
        fill: "black" 0; "mean" each image's own mean colour; "blur" the blurred image (`baselines.blur` at its default);
            "crop_resize" cuts out the bounding box of the mask, with what lies in it, and enlarges it bilinearly to (h, w), so
            nothing is replaced but the scale changes.

    Returns:
        (n, c, h, w).

    Raises:
        ConfigError: unknown fill.
        InputError: shapes or dtype of the masks do not fit; an empty mask with "crop_resize".

    Differs from the document: it does not say what it fills with.
    """
    if fill not in FILLS:
        raise unknown("fill", fill, FILLS)
    _check_masks(masks)
    if inputs.ndim != 4 or masks.shape != inputs[:, 0].shape:
        raise InputError(f"masks {tuple(masks.shape)} do not fit inputs {tuple(inputs.shape)}; expected (n, h, w)")
    if fill == "crop_resize":
        return torch.stack([_crop_resize(image, mask) for image, mask in zip(inputs, masks, strict=True)])
    outside = {"black": baselines.black, "mean": baselines.average, "blur": baselines.blur}[fill](inputs)
    return torch.where(masks[:, None], inputs, outside)


def centre_masks(masks: Tensor) -> Tensor:
    """Control: for each mask a centred block of exactly as many pixels, the image's aspect, its outermost ring trimmed.

    Pixels are taken by scaled distance from the centre, max(|y - cy| / h, |x - cx| / w), then by straight distance.

    Args:
        masks: bool (n, h, w).

    Returns:
        bool (n, h, w) with equal counts.
    """
    _check_masks(masks)
    h, w = masks.shape[1:]
    y, x = np.mgrid[:h, :w]
    down, across = np.abs(2 * y - (h - 1)), np.abs(2 * x - (w - 1))
    order = np.lexsort((down.ravel() ** 2 + across.ravel() ** 2, np.maximum(down * w, across * h).ravel()))
    counts = masks.flatten(1).sum(dim=1).tolist()
    result = torch.zeros_like(masks).flatten(1)
    for row, count in zip(result, counts, strict=True):
        row[torch.from_numpy(order[: int(count)]).to(masks.device)] = True
    return result.reshape(masks.shape)


def random_masks(masks: Tensor, seed: int) -> Tensor:
    """Control: each mask moved, unchanged in shape, to a place drawn uniformly from those where it lies wholly inside.

    The count is exactly kept. A mask whose bounding box fills the image cannot move: there the control equals the patch, and
    a difference of 0 says nothing.

    Args:
        masks: bool (n, h, w), none empty.
        seed: of the places; each mask draws from its own generator.

    Returns:
        bool (n, h, w) with equal counts.
    """
    _check_masks(masks)
    moved = []
    for mask in masks:
        top, bottom, left, right = _box(mask)
        generator = randomness.image_generator(seed, "random masks", mask)
        rows, columns = mask.shape[0] - (bottom - top), mask.shape[1] - (right - left)
        y = int(torch.randint(rows + 1, (), generator=generator))
        x = int(torch.randint(columns + 1, (), generator=generator))
        place = torch.zeros_like(mask)
        place[y : y + bottom - top, x : x + right - left] = mask[top:bottom, left:right]
        moved.append(place)
    return torch.stack(moved)


def _kernel(name: str, size: int) -> np.ndarray:
    if size < 1 or size % 2 == 0:
        raise ConfigError(f"{name} {size}: kernel sides must be odd and positive, so that the kernel has a centre pixel")
    return np.ones((size, size), np.uint8)


def _outer_contours(mask: np.ndarray) -> tuple[np.ndarray, ...]:
    """Outer contours with every boundary pixel, largest area first; equal areas in OpenCV's order."""
    found, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    ordered = sorted(found, key=lambda points: -cv2.contourArea(points))
    return tuple(np.asarray(points, dtype=np.int32)[:, 0] for points in ordered)


def _patch(dilated: np.ndarray, contours: tuple[np.ndarray, ...], hull: np.ndarray, variant: str) -> np.ndarray:
    # the unions and the cut make the nesting hold pixel by pixel, whatever the rounding of drawn edges
    filled_hull = np.asarray(cv2.fillConvexPoly(np.zeros_like(dilated), hull, 1)) | dilated
    if variant == "hull":
        return filled_hull
    if variant == "rectangle":
        top, bottom, left, right = _box(torch.from_numpy(filled_hull))
        filled_hull[top:bottom, left:right] = 1
        return filled_hull
    lines = np.asarray(cv2.fillPoly(np.zeros_like(dilated), contours, 1))
    return (lines | dilated) & filled_hull


def _box(mask: Tensor) -> tuple[int, int, int, int]:
    """top, bottom, left, right of the pixels that are set; bottom and right exclusive."""
    rows, columns = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
    if len(rows) == 0:
        raise InputError("mask: no pixel is set, so it has no bounding box; leave empty masks out")
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _crop_resize(image: Tensor, mask: Tensor) -> Tensor:
    top, bottom, left, right = _box(mask)
    crop = image[None, :, top:bottom, left:right]
    return interpolate(crop, size=image.shape[1:], mode="bilinear", align_corners=False)[0]


def _check_masks(masks: Tensor) -> None:
    if masks.dtype != torch.bool or masks.ndim != 3:
        raise InputError(f"masks: expected bool (n, h, w), got {masks.dtype} of shape {tuple(masks.shape)}")
