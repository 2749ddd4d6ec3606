"""Segments drawn over maps: what document 004 publishes as "SLIC", beside maps that have one value per segment."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from torch import Tensor

from xai_lib.errors import InputError
from xai_lib.plotting import style
from xai_lib.plotting.pictures import COLUMNS, attribution_grid, hidden
from xai_lib.types import Samples


def slic_overlay(
    samples: Samples,
    maps: Mapping[str, Tensor],
    labels: Tensor,
    *,
    over: Sequence[str],
    rows: Sequence[int] | None = None,
    clip: float = 0.99,
) -> Figure:
    """Pictures and their maps as in `attribution_grid`, with the borders of segments over the pictures and over some maps.

    Borders over a map of pixels are all that document 004's "SLIC method" adds to Integrated Gradients (FIDELITY E4.3): no
    number is changed by them. Maps that have one value per segment need none.

    Args:
        samples: whose pictures head the rows; borders are drawn over those that may be shown.
        maps: label -> (n, h, w), at most five.
        labels: (n, h, w), from `segments.segment`.
        over: labels of the maps that get borders.
        rows, clip: as in `attribution_grid`.

    Raises:
        InputError: more than five maps, borders for a map that is not there, or label maps that do not fit the samples.
    """
    if not set(over) <= set(maps) or len(maps) >= COLUMNS:
        found = f"borders over {list(over)}, maps {list(maps)}"
        raise InputError(f"slic_overlay: {found}; expected some of at most {COLUMNS - 1} maps")
    if labels.shape != (len(samples), *samples.inputs.shape[2:]):
        raise InputError(f"slic_overlay: label maps {tuple(labels.shape)} do not fit inputs {tuple(samples.inputs.shape)}")
    chosen = list(range(min(4, len(samples)))) if rows is None else list(rows)
    figure = attribution_grid(samples, maps, rows=chosen, clip=clip)
    panels = ["", *maps]
    for block, i in enumerate(chosen):
        own = figure.axes[block * len(panels) : (block + 1) * len(panels)]
        for label, ax in zip(panels, own, strict=True):
            if label in over or (not label and not hidden(samples)):
                draw_borders(ax, labels[i], "#e69f00" if not label else style.INK)
    return figure


def draw_borders(ax: Axes, labels: Tensor, colour: str, *, width: float = 0.6) -> None:
    """Lines between neighbouring pixels of different segments, in pixel coordinates.

    Args:
        ax: with an image of the same size.
        labels: (h, w), from `segments.segment`.
        colour, width: of the lines.
    """
    ax.add_collection(LineCollection(list(border_lines(labels)), colors=colour, linewidths=width))


def border_lines(labels: Tensor) -> np.ndarray:
    """The sides of pixels where segments meet.

    Args:
        labels: (h, w).

    Returns:
        (k, 2, 2): k lines from (x, y) to (x, y); pixel (u, v) reaches from u - 1/2 to u + 1/2 along y and v - 1/2 to v + 1/2
        along x, as `imshow` draws it.

    >>> import torch
    >>> border_lines(torch.tensor([[0, 1], [0, 0]])).tolist()
    [[[0.5, -0.5], [0.5, 0.5]], [[0.5, 0.5], [1.5, 0.5]]]
    """
    own = labels.detach().cpu().numpy()
    upright = [((v + 0.5, u - 0.5), (v + 0.5, u + 0.5)) for u, v in np.argwhere(own[:, :-1] != own[:, 1:])]
    level = [((v - 0.5, u + 0.5), (v + 0.5, u + 0.5)) for u, v in np.argwhere(own[:-1] != own[1:])]
    return np.array([*upright, *level], dtype=float).reshape(-1, 2, 2)
