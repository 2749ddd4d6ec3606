"""Hand-made features of grey pictures, and where each of them sits: HOG and LBP, as document 004 fed them to its nets.

hog   histogram of oriented gradients (Dalal & Triggs 2005): how much edge of each direction is in each cell
lbp   local binary patterns (Ojala et al. 2002): at each pixel, how many points around it are at least as bright

Nothing can be differentiated through them: a saliency ends at the features. `hog_geometry` and `lbp_meaning` say what a feature
stands for, so that it can be drawn and counted there; `present` says which features a picture has.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from skimage import feature
from torch import Tensor

from xai_lib.errors import ConfigError, InputError, unknown
from xai_lib.types import Samples

ORIENTATIONS, CELL, BLOCK = 9, 14, 2
POINTS, RADIUS = 24, 3.0


@dataclass(frozen=True)
class HogGeometry:
    """Where each of the f HOG features sits; all arrays have length f, in the order of the features.

    row, column   of its cell, from the top left
    orientation   number k of its bin: gradients of 180 k / K to 180 (k + 1) / K degrees, K bins in all
    gradient      middle of that bin in degrees, from rightwards (0) to downwards (90): where it gets brighter or darker
    stroke        direction of the edge itself in degrees, at right angles to the gradient, in [0, 180): 0 lies, 90 stands
    cell          side of a cell in pixels
    shape         (rows, columns) of cells in the picture
    """

    row: np.ndarray
    column: np.ndarray
    orientation: np.ndarray
    gradient: np.ndarray
    stroke: np.ndarray
    cell: int
    shape: tuple[int, int]

    def __len__(self) -> int:
        return len(self.row)


def hog_geometry(
    size: tuple[int, int] = (28, 28), *, orientations: int = ORIENTATIONS, cell: int = CELL, block: int = BLOCK
) -> HogGeometry:
    """The place and direction of every feature that `hog` returns for pictures of this size.

    Blocks come first (row by row), inside a block its cells (row by row), inside a cell the orientations.

    Args:
        size: height and width of the pictures.
        orientations: bins of a half turn, from 1.
        cell: side of a cell in pixels; what does not fill a cell at the right and the bottom is left out.
        block: side of a block in cells; blocks overlap, one cell apart.

    Raises:
        ConfigError: a number below 1, or a block that does not fit into the picture.

    >>> places = hog_geometry()
    >>> len(places), int(places.row[9]), int(places.column[9]), int(places.orientation[9]), float(places.stroke[9])
    (36, 0, 1, 0, 100.0)
    """
    if min(orientations, cell, block) < 1:
        raise ConfigError(f"orientations={orientations}, cell={cell}, block={block}: expected whole numbers of at least 1")
    rows, columns = size[0] // cell, size[1] // cell
    if min(rows, columns) < block:
        raise ConfigError(f"hog: blocks of {block} cells of {cell} pixels do not fit into {size[0]} x {size[1]} pixels")
    counts = rows - block + 1, columns - block + 1, block, block, orientations
    top, left, below, right, k = (axis.reshape(-1) for axis in np.indices(counts))
    gradient = (k + 0.5) * 180 / orientations
    return HogGeometry(top + below, left + right, k, gradient, (gradient + 90) % 180, cell, (rows, columns))


def as_published(places: HogGeometry) -> HogGeometry:
    """The same features where the authors of document 004 drew them (their Figure 3): twice the angle, and upside down.

    Their K directions are spread over a whole turn in place of a half, so that bin k stands at 360 k / K + 90 degrees with y
    upwards, and the first row of cells is drawn at the bottom. Only the drawing is wrong, the features are those of `hog`.
    """
    drawn = -(360 * places.orientation / (places.orientation.max() + 1) + 90)  # y upwards there, downwards here
    return replace(places, row=places.shape[0] - 1 - places.row, stroke=drawn % 180)


def hog(images: Tensor, *, orientations: int = ORIENTATIONS, cell: int = CELL, block: int = BLOCK) -> Tensor:
    """Histograms of oriented gradients: sums of gradient length by cell and direction, divided by their sum in the block (L1).

    v = h / (sum of h in the block + 1e-5), h_k = sum of |g| over the pixels of a cell whose gradient g = (x[i, j + 1] -
    x[i, j - 1], x[i + 1, j] - x[i - 1, j]) points into bin k; dark on bright and bright on dark fall together. Brightness and
    contrast of the whole picture leave v as it is (but for the 1e-5).

    Args:
        images: (n, 1, h, w) pixels in [0, 1].
        orientations, cell, block: see `hog_geometry`.

    Returns:
        (n, features) float32 in [0, 1]; 36 features for 28 pixels and the defaults, which sum to 1 (0 for a flat picture).

    Raises:
        InputError: no grey pictures. ConfigError: as `hog_geometry`.

    Source: Dalal & Triggs (2005); FIDELITY E4.5. Uses skimage.feature.hog. Differs from Dalal & Triggs by L1 in place of L2
    with clipping, one block that covers a whole digit, and votes that are not shared between neighbouring bins and cells.

    >>> edge = torch.zeros(1, 1, 28, 28)
    >>> edge[..., :7] = 1.0  # bright at the left: a standing edge in both cells of the left side
    >>> [(int(i), round(v, 2)) for i, v in enumerate(hog(edge)[0].tolist()) if v]
    [(0, 0.5), (18, 0.5)]
    """
    grey = _grey(images)
    hog_geometry(grey.shape[1:], orientations=orientations, cell=cell, block=block)
    made = [
        feature.hog(
            picture.astype(np.float64),
            orientations=orientations,
            pixels_per_cell=(cell, cell),
            cells_per_block=(block, block),
            block_norm="L1",
        )
        for picture in grey
    ]
    return torch.as_tensor(np.stack(made), dtype=torch.float32, device=images.device)


def lbp_codes(images: Tensor, *, points: int = POINTS, radius: float = RADIUS) -> Tensor:
    """Uniform local binary patterns: one code per pixel.

    Around each pixel lie `points` points on a circle of `radius` pixels (bilinear between pixels, black outside the picture),
    each marked where it is at least as bright as the pixel. `lbp_meaning` says what a code stands for.

    Args:
        images: (n, 1, h, w) pixels in [0, 1]; compared as whole grey levels of 255.
        points: on the circle, 2 to 32.
        radius: in pixels, positive.

    Returns:
        (n, h, w) int64, 0 to points + 1.

    Raises:
        InputError: no grey pictures, or pixels outside [0, 1]. ConfigError: points or radius out of range.

    Source: Ojala, Pietikainen & Maenpaa (2002); FIDELITY E4.5. Uses skimage.feature.local_binary_pattern. Differs from the
    authors' code by whole grey levels: of their pixels in [-1, 1] about 1 in 1,000 gets another code by rounding.

    >>> lbp_codes(torch.zeros(1, 1, 5, 5)).unique()  # nothing is darker than black
    tensor([24])
    """
    grey = _grey(images)
    if not 2 <= points <= 32 or not 0 < radius < np.inf:
        raise ConfigError(f"lbp: points={points}, radius={radius}: expected 2 to 32 points and a positive radius")
    if grey.min() < 0 or grey.max() > 1:
        raise InputError(f"lbp: expected pixels in [0, 1], got {grey.min():g} to {grey.max():g}")
    levels = np.round(grey * 255).astype(np.uint8)
    made = [feature.local_binary_pattern(picture, points, radius, "uniform") for picture in levels]
    return torch.as_tensor(np.stack(made), device=images.device).long()


def lbp(images: Tensor, *, points: int = POINTS, radius: float = RADIUS) -> Tensor:
    """The picture of LBP codes, each scaled by itself: (code - smallest) / (largest - smallest).

    Args:
        images, points, radius: see `lbp_codes`.

    Returns:
        (n, 1, h, w) float32 in [0, 1]; all 0 for a picture with one code, where the authors' code divides by 0.

    Raises:
        as `lbp_codes`.

    >>> lbp(torch.zeros(1, 1, 5, 5)).abs().sum().item()
    0.0
    """
    codes = lbp_codes(images, points=points, radius=radius).float()
    low, high = codes.amin((1, 2), keepdim=True), codes.amax((1, 2), keepdim=True)
    return ((codes - low) / (high - low).clamp_min(1)).unsqueeze(1)


def lbp_meaning(code: int, points: int = POINTS) -> str:
    """What a uniform LBP code stands for.

    Raises:
        ConfigError: no such code.

    >>> lbp_meaning(0), lbp_meaning(24)
    ('spot: brighter than everything around', 'flat or hole: nothing around is darker')
    >>> lbp_meaning(13)
    'edge: 13 of 24 points around, in one piece, are at least as bright'
    """
    if not 0 <= code <= points + 1:
        raise ConfigError(f"LBP code {code}: expected 0 to {points + 1} for {points} points")
    if code == 0:
        return "spot: brighter than everything around"
    if code == points:
        return "flat or hole: nothing around is darker"
    if code == points + 1:
        return "mixed: brighter and darker points change more than once, as along a stroke"
    return f"edge: {code} of {points} points around, in one piece, are at least as bright"


FEATURES: Mapping[str, Callable[..., Tensor]] = {"hog": hog, "lbp": lbp}
"""By the name under which models say what they read (`digit_nets.READS`)."""


def of_samples(samples: Samples, name: str) -> Samples:
    """The same samples with features in place of pixels; boxes and masks, which belong to pixels, are dropped.

    Raises:
        ConfigError: an unknown name. InputError: no grey pictures.
    """
    if name not in FEATURES:
        raise unknown("features", name, FEATURES)
    return replace(samples, inputs=FEATURES[name](samples.inputs), boxes=None, masks=None)


def present(images: Tensor, name: str, *, share: float = 1.0) -> Tensor:
    """Which features a picture has.

    hog   v > share / features: more than `share` times its equal part of all edges (the features of one block sum to 1);
          share = 0: any edge at all
    lbp   a code other than `points`, the code of a flat place: somewhere around it is darker

    A black pixel has the flat code whatever is around it, so on white digits LBP is present on ink alone.

    Args:
        images: (n, 1, h, w) pixels in [0, 1].
        name: "hog" or "lbp", with their default parameters.
        share: of hog only, at least 0.

    Returns:
        bool, in the shape of the features: (n, f) or (n, 1, h, w).

    Raises:
        ConfigError: an unknown name, or a negative share. InputError: no grey pictures.
    """
    if name not in FEATURES:
        raise unknown("features", name, FEATURES)
    if not 0 <= share < np.inf:
        raise ConfigError(f"share={share}: expected at least 0")
    if name == "lbp":
        return (lbp_codes(images) != POINTS).unsqueeze(1)
    values = hog(images)
    return values > share / values.shape[1]


def _grey(images: Tensor) -> np.ndarray:
    if not isinstance(images, Tensor) or not images.is_floating_point() or images.ndim != 4 or images.shape[1] != 1:
        found = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise InputError(f"features: expected grey float pictures (n, 1, h, w) in [0, 1], got {found}")
    if len(images) == 0 or not bool(torch.isfinite(images).all()):
        raise InputError(f"features: expected at least one picture of finite numbers, got {len(images)} with NaN or infinity")
    return np.asarray(images.detach().cpu()[:, 0].numpy())
