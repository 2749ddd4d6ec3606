"""Figures that show images and maps. Whether a picture may be drawn is decided in one function, `picture`."""

import math
import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from xai_lib.contours import ContourSteps
from xai_lib.errors import InputError
from xai_lib.plotting import style
from xai_lib.types import Samples

COLUMNS = 6
NOTE_WIDTH = 0.75
"""Inches of a panel in which there is room to say why it is empty."""


def hidden(samples: Samples) -> bool:
    """Whether pictures of these samples must not be drawn: the run is published and they may not be redistributed."""
    return os.environ.get("XAI_PUBLISH") == "1" and not samples.redistributable


def picture(ax: Axes, image: Tensor, samples: Samples) -> None:
    """Draw an image, or a neutral ground where XAI_PUBLISH=1 and the samples may not be redistributed.

    Args:
        ax: where to draw; its axes are removed.
        image: (c, h, w) with 1 or 3 channels, or (h, w), in [0, 1]; values outside are clipped.
        samples: the set that the image comes from; its licence decides, also for images made from it.

    Raises:
        InputError: any other shape.
    """
    values = image.detach().cpu().float().clamp(0, 1).numpy()
    if values.ndim == 3 and values.shape[0] in (1, 3):
        values = values[0] if values.shape[0] == 1 else values.transpose(1, 2, 0)
    elif values.ndim != 2:
        raise InputError(f"picture: expected (1, h, w), (3, h, w) or (h, w), got shape {tuple(image.shape)}")
    _bare(ax)
    if hidden(samples):
        ground = np.broadcast_to(np.array([0xD9 / 255] * 3), (*values.shape[:2], 3))
        ax.imshow(ground, interpolation="nearest")
        place, page = ax.get_position(), ax.figure.get_figure(root=True)
        if page is not None and place.width * page.get_figwidth() >= NOTE_WIDTH:
            note = "picture not\nredistributed"
            ax.text(0.5, 0.5, note, transform=ax.transAxes, ha="center", va="center", fontsize=style.SMALL, color="#4a4a4a")
    else:
        ax.imshow(values, cmap="gray" if values.ndim == 2 else None, vmin=0, vmax=1, interpolation="nearest")


def attribution_grid(
    samples: Samples, maps: Mapping[str, Tensor], *, rows: Sequence[int] | None = None, clip: float = 0.99
) -> Figure:
    """Pictures and their maps: one block per sample, the picture first, then one panel per label.

    Each panel is scaled by its own `clip` quantile of |value|, so panels compare in pattern, not in size. Labels whose maps
    hold a negative value are drawn around a white zero, the others from dark (0) to bright.

    Args:
        samples: whose pictures head the rows.
        maps: label -> (n, h, w), reduced over channels, in the order of `samples`.
        rows: positions of the samples to draw; default the first four.
        clip: quantile at which colours saturate, in (0, 1].

    Raises:
        InputError: no maps, or a map does not fit the samples.
    """
    chosen = list(range(min(4, len(samples)))) if rows is None else list(rows)
    if not maps or not chosen:
        raise InputError(f"attribution_grid: needs maps and rows, got labels {list(maps)} and rows {chosen}")
    for label, values in maps.items():
        if values.ndim != 3 or len(values) != len(samples):
            raise InputError(f"attribution_grid: {label!r} has shape {tuple(values.shape)}; expected ({len(samples)}, h, w)")
    signed = {label: bool((values < 0).any()) for label, values in maps.items()}
    columns = min(COLUMNS, 1 + len(maps))
    lines = math.ceil((1 + len(maps)) / columns)
    title_lines = max(text.count("\n") + 1 for text in style.wrapped(list(maps), 90 // columns))
    panel = min(1.9, style.WIDTH / columns)
    titled = len(chosen) if lines > 1 else 1
    height = (
        panel * lines * len(chosen)
        + 0.15 * title_lines * lines * titled
        + 0.2 * len(chosen)
        + 0.55 * len(set(signed.values()))
        + 0.2
    )
    fig = style.figure(height, layout="compressed")
    axes = fig.subplots(lines * len(chosen), columns, squeeze=False)
    for block, i in enumerate(chosen):
        cells = axes[block * lines : (block + 1) * lines].ravel()
        for ax in cells:
            ax.axis("off")
        picture(cells[0], samples.inputs[i], samples)
        cells[0].set_xlabel(_name(samples, i, 90 // columns), fontsize=style.SMALL, color=style.INK, labelpad=3)
        for ax, (label, values) in zip(cells[1:], maps.items(), strict=False):
            _draw_map(ax, values[i], signed[label], clip)
            if block == 0 or lines > 1:
                ax.set_title(style.wrapped([label], 90 // columns)[0], fontsize=style.SMALL, color=style.INK)
    _colour_bars(fig, axes, set(signed.values()), clip)
    return fig


def interpolation_strip(images: Tensor, alphas: Sequence[float], samples: Samples) -> Figure:
    """The images of a straight path from baseline to input, each under its alpha (0 = baseline, 1 = input).

    Args:
        images: (k, c, h, w).
        alphas: k positions on the path.
        samples: the set that the input comes from.
    """
    if len(images) != len(alphas) or len(images) == 0:
        raise InputError(f"interpolation_strip: {len(images)} images but {len(alphas)} alphas; one alpha per image")
    columns = min(COLUMNS, len(images))
    lines = math.ceil(len(images) / columns)
    panel = min(1.9, style.WIDTH / columns)
    fig = style.figure((panel + 0.3) * lines, layout="compressed")
    axes = fig.subplots(lines, columns, squeeze=False).ravel()
    for ax in axes:
        ax.axis("off")
    for ax, image, alpha in zip(axes, images, alphas, strict=False):
        picture(ax, image, samples)
        ax.set_title(f"α = {alpha:.2g}", fontsize=style.TEXT, color=style.INK)
    return fig


def picture_rows(rows: Mapping[str, Tensor], titles: Sequence[str], samples: Samples) -> Figure:
    """Rows of pictures made from the same samples, each row under its label, each column under its title.

    Args:
        rows: label -> (k, c, h, w).
        titles: k column titles.
        samples: the set that the pictures were made from.

    Raises:
        InputError: a row with another number of pictures.
    """
    wrong = {label: len(images) for label, images in rows.items() if len(images) != len(titles)}
    if wrong or not rows or not titles:
        raise InputError(f"picture_rows: {len(titles)} titles, but rows have {wrong or 'no entries'}; one title per picture")
    panel = min(1.4, style.WIDTH / (len(titles) + 1))
    fig = style.figure((panel + 0.15) * len(rows), layout="compressed")
    axes = fig.subplots(len(rows), len(titles), squeeze=False)
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title, fontsize=style.SMALL, color=style.INK)
    for line, (label, images) in zip(axes, rows.items(), strict=True):
        for ax, image in zip(line, images, strict=True):
            picture(ax, image, samples)
        line[0].set_axis_on()
        line[0].set(xticks=[], yticks=[])
        line[0].set_ylabel("\n".join(style.wrapped([label], 16)), fontsize=style.SMALL, color=style.INK)
    return fig


def contour_pipeline(record: ContourSteps, image: Tensor, samples: Samples) -> Figure:
    """The steps of one contour analysis, from the image to the patch.

    Args:
        record: from `contours.pipeline`.
        image: (c, h, w), the image that was explained.
        samples: the set that it comes from.
    """
    fig = style.figure(5.2, layout="compressed")
    axes = fig.subplots(2, 3).ravel()
    titles = (
        "1  Image",
        f"2  Top pixels, {100 * record.top.mean():.1f} %",
        "3  Opening skipped" if record.fell_back else "3  Opened",
        f"4  Dilated, {len(record.contours)} contour{'s' * (len(record.contours) != 1)}",
        "5  Hull around all contours",
        f"6  {record.variant.capitalize()} patch, {100 * record.area_fraction:.0f} % of image",
    )
    for ax, title in zip(axes, titles, strict=True):
        _bare(ax)
        ax.set_title(title, fontsize=style.TEXT, color=style.INK)
    picture(axes[0], image, samples)
    for ax, mask in zip(axes[1:5], (record.top, record.opened, record.dilated, record.dilated), strict=True):
        ax.imshow(~mask, cmap="gray", vmin=-0.25, vmax=1, interpolation="nearest")
    for points in record.contours:
        for ax in axes[3:5]:
            _outline(ax, points, style.COLOURS[1])
    _outline(axes[4], record.hull, style.COLOURS[0])
    picture(axes[5], image, samples)
    veil = np.zeros((*record.patch.shape, 4))
    veil[~record.patch] = (1, 1, 1, 1) if hidden(samples) else (0, 0, 0, 1)
    axes[5].imshow(veil, interpolation="nearest")
    return fig


def _name(samples: Samples, i: int, width: int) -> str:
    target = int(samples.targets[i])
    known = samples.class_names[target] if 0 <= target < len(samples.class_names) else str(target)
    return style.wrapped([known.split(",")[0]], width)[0]


def _bare(ax: Axes) -> None:
    """No ticks and a thin frame; labels stay possible."""
    ax.axis("on")
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_color("#bbbbbb")
        spine.set_linewidth(0.6)


def _draw_map(ax: Axes, values: Tensor, signed: bool, clip: float) -> None:
    _bare(ax)
    array = values.detach().cpu().double().numpy()
    if not np.isfinite(array).all():
        ax.set_facecolor(style.NEUTRAL)
        ax.text(0.5, 0.5, "undefined", transform=ax.transAxes, ha="center", va="center", fontsize=style.SMALL)
        ax.set_box_aspect(array.shape[0] / array.shape[1])
        return
    size = np.abs(array)
    limit = float(np.quantile(size, clip)) or float(size.max()) or 1.0
    low = -1 if signed else 0
    ax.imshow(array / limit, cmap=style.SIGNED if signed else style.POSITIVE, vmin=low, vmax=1, interpolation="nearest")


def _colour_bars(fig: Figure, axes: np.ndarray, kinds: set[bool], clip: float) -> None:
    """One horizontal bar per kind of map that occurs: signed, positive."""
    for signed in sorted(kinds, reverse=True):
        mappable = ScalarMappable(Normalize(-1 if signed else 0, 1), style.SIGNED if signed else style.POSITIVE)
        bar = fig.colorbar(mappable, ax=axes, location="bottom", aspect=45, shrink=0.7, pad=0.02, fraction=0.04)
        bar.set_ticks([-1, 0, 1] if signed else [0, 1])
        bar.ax.tick_params(labelsize=style.SMALL, length=2, colors=style.INK)
        kind = "signed attribution" if signed else "attribution"
        label = f"{kind} / {100 * clip:g} % quantile of its size in that panel"
        bar.set_label(label, fontsize=style.SMALL, color=style.INK)


def _outline(ax: Axes, points: np.ndarray, colour: str) -> None:
    closed = np.concatenate([points, points[:1]])
    ax.plot(closed[:, 0], closed[:, 1], color=colour, linewidth=1.8, solid_joinstyle="round")
