"""Regions of a picture of a digit, defined by its ink: the digit, the ring around it, and the places that documents name.

Every region is a function of the ink, (n, h, w) bool -> (n, h, w) bool, the same rule for every picture. A digit without the
place (a 1 has no hole) gives an empty region, for which metrics are undefined.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from scipy import ndimage
from skimage.morphology import skeletonize
from torch import Tensor

from xai_lib.checks import check_count
from xai_lib.errors import ConfigError, InputError, unknown

AROUND = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
"""The eight neighbours of a pixel, clockwise."""


def ink_of(inputs: Tensor, *, threshold: float = 0.1) -> Tensor:
    """Where a light digit on a dark ground is drawn: pixels with a channel above `threshold`.

    Args:
        inputs: (n, c, h, w) in [0, 1].
        threshold: grey level in [0, 1). At 0.1 the grey edges of strokes are ink, so that the ring is ground alone.

    Returns:
        (n, h, w) bool.

    Raises:
        InputError: no pictures.
        ConfigError: a threshold outside [0, 1).

    >>> greys = torch.tensor([[[[0.0, 0.2, 1.0]]]])
    >>> ink_of(greys).tolist(), ink_of(greys, threshold=0.5).tolist()
    ([[[False, True, True]]], [[[False, False, True]]])
    """
    if inputs.ndim != 4:
        raise InputError(f"inputs: expected pictures (n, c, h, w), got shape {tuple(inputs.shape)}")
    if not 0 <= threshold < 1:
        raise ConfigError(f"threshold={threshold}: expected a grey level in [0, 1)")
    return inputs.amax(dim=1) > threshold


def dilated(ink: Tensor, *, width: int = 1) -> Tensor:
    """The ink and everything within `width` steps of it, diagonal steps allowed (8-connected)."""
    check_count("width", width)
    shares = _checked(ink)[:, None].float()
    return torch.nn.functional.max_pool2d(shares, 2 * width + 1, stride=1, padding=width)[:, 0] > 0


def ring(ink: Tensor, *, width: int = 2) -> Tensor:
    """Ground within `width` steps of the ink: the pixels adjacent to the digit.

    >>> ring(torch.eye(3, dtype=torch.bool)[None], width=1).int().tolist()
    [[[0, 1, 1], [1, 0, 1], [1, 1, 0]]]
    """
    return dilated(ink, width=width) & ~ink


def far(ink: Tensor, *, width: int = 2) -> Tensor:
    """Ground further than `width` steps from the ink."""
    return ~dilated(ink, width=width)


def frame(ink: Tensor, *, width: int = 4) -> Tensor:
    """Pixels closer than `width` to the picture's edge, the same for every picture; MNIST leaves 4 pixels around its digits."""
    check_count("width", width)
    inside = torch.zeros_like(_checked(ink))
    inside[:, width:-width, width:-width] = True
    return ~inside


def centre_disc(ink: Tensor, *, share: float = 0.5) -> Tensor:
    """A disc around the centre of the ink's box, whose diameter is a share of the box's smaller side.

    Args:
        ink: (n, h, w) bool.
        share: above 0; 0.5 stays inside a 0 whose stroke is a quarter of its width.

    Raises:
        ConfigError: a share that is not positive.
    """
    if not share > 0:
        raise ConfigError(f"share={share}: expected a number above 0")
    top, bottom, left, right, rows, columns = _box(ink)
    side = torch.minimum(bottom - top, right - left) + 1
    squared = (rows - (top + bottom) / 2) ** 2 + (columns - (left + right) / 2) ** 2
    return (squared <= (share * side / 2) ** 2) & _drawn(ink)


def hole(ink: Tensor) -> Tensor:
    """Ground that the ink closes off from the picture's edge, for steps across and down (4-connected)."""
    filled = [ndimage.binary_fill_holes(one) for one in _checked(ink).cpu().numpy()]
    return torch.from_numpy(np.stack(filled)).to(ink.device) & ~ink


def upper_gap(ink: Tensor) -> Tensor:
    """Ground between two strokes in the upper half of the ink's box: ink to the left and to the right in the same row.

    In a 4, the space between the two upper strokes.
    """
    top, bottom, _, _, rows, _ = _box(ink)
    upper = 2 * (rows - top) < bottom - top
    return _seen(ink, 2) & _seen(ink, 2, back=True) & ~ink & upper


def lower_left_gap(ink: Tensor) -> Tensor:
    """Ground in the lower half of the ink's box that is open to the left: ink to the right, above and below, none to the left.

    In a 5, the space that has to be closed to make a 6.
    """
    top, bottom, _, _, rows, _ = _box(ink)
    lower = 2 * (rows - top) > bottom - top
    closed = _seen(ink, 2, back=True) & _seen(ink, 1) & _seen(ink, 1, back=True)
    return closed & ~_seen(ink, 2) & ~ink & lower


def lower_third(ink: Tensor) -> Tensor:
    """The lowest third of the rows of the ink's box, within its columns: ink and ground."""
    top, bottom, left, right, rows, columns = _box(ink)
    low = 3 * (rows - top) >= 2 * (bottom - top + 1)
    return low & (rows <= bottom) & (columns >= left) & (columns <= right) & _drawn(ink)


def crossing(ink: Tensor, *, radius: int = 3) -> Tensor:
    """Pixels within `radius` steps of a place where strokes meet.

    A meeting place is a pixel of the ink's skeleton (thinned to lines of one pixel) around which, going once through its eight
    neighbours, lines begin at least three times.

    Args:
        ink: (n, h, w) bool.
        radius: in steps, diagonal ones allowed.
    """
    check_count("radius", radius)
    thin = torch.from_numpy(np.stack([skeletonize(one) for one in _checked(ink).cpu().numpy()]))
    padded = torch.nn.functional.pad(thin, (1, 1, 1, 1))
    height, width = ink.shape[1:]
    around = torch.stack([padded[:, 1 + y : 1 + y + height, 1 + x : 1 + x + width] for y, x in AROUND])
    begins = (~around & around.roll(-1, dims=0)).sum(dim=0)
    return dilated(thin & (begins >= 3), width=radius).to(ink.device)


REGIONS: Mapping[str, Callable[..., Tensor]] = {
    "ink": lambda ink: ink,
    "ring": ring,
    "far": far,
    "frame": frame,
    "centre disc": centre_disc,
    "hole": hole,
    "upper gap": upper_gap,
    "lower left gap": lower_left_gap,
    "lower third": lower_third,
    "crossing": crossing,
}
"""Every region by the name that studies use."""


def region(name: str, ink: Tensor, **own: float) -> Tensor:
    """A region by name, with its own parameters.

    Raises:
        ConfigError: unknown name.

    >>> region("frame", torch.zeros(1, 3, 3, dtype=torch.bool), width=1).sum().item()
    8
    """
    if name not in REGIONS:
        raise unknown("region", name, REGIONS)
    return REGIONS[name](ink, **own)


def _checked(ink: Tensor) -> Tensor:
    if ink.ndim != 3 or ink.dtype != torch.bool:
        raise InputError(f"ink: expected (n, h, w) bool, got {ink.dtype} {tuple(ink.shape)}; see ink_of")
    return ink


def _drawn(ink: Tensor) -> Tensor:
    """(n, 1, 1): whether there is any ink."""
    return _checked(ink).flatten(1).any(dim=1)[:, None, None]


def _box(ink: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """First and last row, first and last column of the ink, (n, 1, 1) each, and the numbers of rows and columns."""
    ends = []
    for axis in (2, 1):
        line = _checked(ink).any(dim=axis).int()
        ends += [line.argmax(dim=1), line.shape[1] - 1 - line.flip(1).argmax(dim=1)]
    top, bottom, left, right = (end[:, None, None] for end in ends)
    rows, columns = (torch.arange(size, device=ink.device) for size in ink.shape[1:])
    return top, bottom, left, right, rows[:, None], columns[None, :]


def _seen(ink: Tensor, axis: int, back: bool = False) -> Tensor:
    """Whether there is ink at this pixel or before it along an axis (with `back`: or after it)."""
    given = _checked(ink).flip(axis) if back else _checked(ink)
    seen = given.cumsum(dim=axis) > 0
    return seen.flip(axis) if back else seen
