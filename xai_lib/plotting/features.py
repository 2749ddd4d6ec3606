"""Figures of hand-made features in their own geometry: HOG as strokes in cells, LBP as a picture of codes."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from xai_lib.errors import InputError
from xai_lib.features import HogGeometry
from xai_lib.plotting import style
from xai_lib.plotting.pictures import picture
from xai_lib.types import Samples

PANEL = 1.55
OUTLINE = style.COLOURS[1]


def hog_strokes(ax: Axes, values: Tensor, places: HogGeometry, *, absent: Tensor | None = None) -> None:
    """Draw one stroke per feature: in its cell, along the edge that it counts, darker for a larger value.

    Args:
        ax: where to draw; its axes are removed, one unit is a pixel of the picture, rows run downwards.
        values: (f,) at least 0; the largest is darkest.
        places: of the features, without overlapping blocks (one feature per cell and direction).
        absent: (f,) bool, features that the picture does not have: their strokes are dotted.

    Raises:
        InputError: values that do not fit the places, are negative or no numbers; two features in one place.
    """
    array = values.detach().cpu().double().numpy()
    if array.shape != (len(places),) or not np.isfinite(array).all() or array.min() < 0:
        raise InputError(f"hog_strokes: expected {len(places)} numbers from 0, got shape {array.shape} from {array.min():g}")
    if len({*zip(places.row, places.column, places.orientation, strict=True)}) != len(places):
        raise InputError("hog_strokes: features of overlapping blocks share a place; sum them first")
    lines, order = stroke_ends(places), np.argsort(array, kind="stable")
    missing = np.zeros(len(array), bool) if absent is None else absent.cpu().numpy()
    shade = Normalize(0, float(array.max()) or 1.0)
    for dotted in (True, False):
        chosen = [i for i in order if missing[i] == dotted]
        drawn = LineCollection([lines[i] for i in chosen], cmap=style.CELLS, norm=shade, linewidths=2.2)
        drawn.set_array(array[chosen])
        drawn.set_linestyle((0, (1, 0.8)) if dotted else "solid")
        ax.add_collection(drawn)
    height, width = (count * places.cell for count in places.shape)
    ax.set(xlim=(0, width), ylim=(height, 0), aspect="equal", xticks=[], yticks=[])
    for edge in range(1, places.shape[0]):
        ax.axhline(edge * places.cell, color=style.NEUTRAL, linewidth=0.8, zorder=0)
    for edge in range(1, places.shape[1]):
        ax.axvline(edge * places.cell, color=style.NEUTRAL, linewidth=0.8, zorder=0)
    for spine in ax.spines.values():
        spine.set(color="#bbbbbb", linewidth=0.6)


def stroke_ends(places: HogGeometry) -> np.ndarray:
    """Both ends of each feature's stroke, (f, 2, 2): x and y in pixels, y downwards; nine tenths of a cell long."""
    angle = np.deg2rad(places.stroke)
    half = 0.45 * places.cell * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    centre = places.cell * (np.stack([places.column, places.row], axis=1) + 0.5)
    return np.stack([centre - half, centre + half], axis=1)


def hog_panels(
    samples: Samples,
    panels: Sequence[tuple[str, Tensor, HogGeometry]],
    *,
    absent: Tensor | None = None,
) -> Figure:
    """A row per picture: the picture, then its strokes under each title; each panel is shaded by its own largest value.

    Args:
        samples: the pictures.
        panels: (title, values (n, f), places).
        absent: (n, f) bool, features that the pictures do not have: dotted in every panel after the first.

    Raises:
        InputError: no panels, or values that do not fit.
    """
    _check(samples, [(title, values) for title, values, _ in panels])
    fig, axes = _sheet(samples, [title for title, _, _ in panels])
    for i, line in enumerate(axes):
        picture(line[0], samples.inputs[i], samples)
        for k, (ax, (_, values, places)) in enumerate(zip(line[1:], panels, strict=True)):
            hog_strokes(ax, values[i], places, absent=absent[i] if absent is not None and k else None)
    _bar(fig, axes, style.CELLS, "value / largest of the panel; dotted: feature that the picture does not have")
    return fig


def lbp_panels(samples: Samples, codes: Tensor, panels: Sequence[tuple[str, Tensor]], present: Tensor) -> Figure:
    """A row per picture: the picture, its LBP image, then maps with the outline of where a pattern is present.

    Args:
        samples: the pictures; where they may not be shown, their LBP images are not either.
        codes: (n, 1, h, w) LBP images in [0, 1].
        panels: (title, maps (n, 1, h, w) at least 0); each is scaled by its own 99 % quantile.
        present: (n, 1, h, w) bool.

    Raises:
        InputError: no panels, or maps that do not fit.
    """
    _check(samples, [("LBP", codes), *panels, ("present", present)])
    fig, axes = _sheet(samples, ["LBP image", *(title for title, _ in panels)])
    for i, line in enumerate(axes):
        picture(line[0], samples.inputs[i], samples)
        picture(line[1], codes[i], samples)
        for ax, (_, values) in zip(line[2:], panels, strict=True):
            array = values[i, 0].detach().cpu().double().numpy()
            top = float(np.quantile(array, 0.99)) or float(array.max()) or 1.0
            ax.imshow(array / top, cmap=style.POSITIVE, vmin=0, vmax=1, interpolation="nearest")
            inside = present[i, 0].cpu().numpy()
            if inside.any() and not inside.all():
                ax.contour(inside.astype(float), levels=[0.5], colors=[OUTLINE], linewidths=0.9)
            ax.set(xticks=[], yticks=[])
    _bar(fig, axes, style.POSITIVE, "value / 99 % quantile of the panel; line: around the pattern of the picture")
    return fig


def _check(samples: Samples, panels: Sequence[tuple[str, Tensor]]) -> None:
    wrong = {title: len(values) for title, values in panels if len(values) != len(samples)}
    if wrong or not panels or len(samples) == 0:
        raise InputError(f"feature panels: {len(samples)} pictures, but panels with {wrong or 'none'}; one row per picture")


def _sheet(samples: Samples, titles: Sequence[str]) -> tuple[Figure, np.ndarray]:
    columns = len(titles) + 1
    panel = min(PANEL, style.WIDTH / columns)
    fig = style.figure((panel + 0.12) * len(samples) + 0.75, layout="compressed")
    axes = fig.subplots(len(samples), columns, squeeze=False)
    for ax, text in zip(axes[0], style.wrapped(["picture", *titles], 90 // columns), strict=True):
        ax.set_title(text, fontsize=style.SMALL, color=style.INK)
    for line, target in zip(axes, samples.targets.tolist(), strict=True):
        line[0].set_ylabel(samples.class_names[target], fontsize=style.TEXT, color=style.INK)
    return fig, axes


def _bar(fig: Figure, axes: np.ndarray, cmap: str, label: str) -> None:
    bar = fig.colorbar(ScalarMappable(Normalize(0, 1), cmap), ax=axes, location="bottom", aspect=45, shrink=0.7, pad=0.02)
    bar.set_ticks([0, 1])
    bar.ax.tick_params(labelsize=style.SMALL, length=2, colors=style.INK)
    bar.set_label(label, fontsize=style.SMALL, color=style.INK)
