"""Lesson `foundations_maps`, figures."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from xai_lib import compute, plotting, stats
from xai_lib.activation_maximisation import Maximised
from xai_lib.methods.cam import cam_maps
from xai_lib.models.wrapper import PixelModel
from xai_lib.plotting import number, style
from xai_lib.plotting.overlay import border_lines, draw_borders
from xai_lib.studies.common_figures import estimates_of
from xai_lib.studies.foundations_maps import CASCADE, FLOOR, GAIN, LAST_RANDOM, METHOD_NAMES, NEXT, Lesson, short, stage_names
from xai_lib.studies.foundations_maps_units import (
    LAYER,
    OTHERS,
    PASSES,
    TRAINED,
    UNTRAINED,
    Dissected,
    UnitPictures,
    nearest,
    strongest,
    tail_label,
)

SHOWN = 3
"""Photographs in a figure."""


def cams(lesson: Lesson, coarse: Mapping[str, Tensor], rows: pd.DataFrame) -> None:
    """Photographs with their boxes, CAM, and Grad-CAM at each layer, every cell as large as it is in the picture."""
    photos, n = lesson.photos, min(SHOWN, len(lesson.photos))
    signed = cam_maps(lesson.photo_model, photos.inputs[:n], lesson.classes[:n])
    columns = 2 + len(coarse)
    panel = style.WIDTH / columns
    fig = style.figure(panel * n + 0.85, layout="compressed")
    axes = fig.subplots(n, columns, squeeze=False)
    for i, line in enumerate(axes):
        plotting.picture(line[0], photos.inputs[i], photos)
        name = lesson.photo_model.class_names[int(lesson.classes[i])].split(",")[0]
        line[0].set_xlabel("\n".join(style.wrapped([name], 16)), fontsize=style.SMALL, color=style.INK, labelpad=2)
        _cells(line[1], signed[i], photos.inputs.shape[-1], signed=True)
        for ax, own in zip(line[2:], coarse.values(), strict=True):
            _cells(ax, own[i], photos.inputs.shape[-1], signed=False)
        for ax in line:
            _boxes(ax, photos.boxes[i] if photos.boxes is not None else np.zeros((0, 4)))
    titles = ["photograph", "CAM", *(f"Grad-CAM\n{short(layer)}" for layer in coarse)]
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title, fontsize=style.SMALL, color=style.INK)
    _bars(fig, axes)
    gains = {
        short(layer): stats.bootstrap_interval(rows[(rows.metric == GAIN) & (rows.method == short(layer))].value)
        for layer in coarse
    }
    text = ", ".join(f"{layer} {number(e.value, 2)}" for layer, e in gains.items())
    plotting.show(
        fig,
        name="cam-layers",
        caption=f"CAM and Grad-CAM of EfficientNet-Lite0 for the class it predicts (under each photograph), and the annotated box. One "
        f"square is one cell of the layer. Each panel has its own scale. {n} of {len(photos)} photographs.",
        alt=f"Part of the map in the box less the box's part of the area, by layer: {text} (n = {len(photos)}). Cells grow from left to right.",
    )


def _cells(ax: Axes, values: Tensor, side: int, *, signed: bool) -> None:
    array = values.detach().cpu().double().numpy()
    top = float(np.abs(array).max()) or 1.0
    ax.imshow(
        array / top, cmap=style.SIGNED if signed else style.POSITIVE, vmin=-1 if signed else 0, vmax=1,
        extent=(-0.5, side - 0.5, side - 0.5, -0.5), interpolation="nearest",
    )  # fmt: skip
    ax.set_xticks([])
    ax.set_yticks([])


def _boxes(ax: Axes, boxes: np.ndarray) -> None:
    for x0, y0, x1, y1 in boxes:
        for colour, width in (("white", 3.0), ("black", 1.4)):
            ax.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, edgecolor=colour, linewidth=width))


def _bars(fig: Figure, axes: np.ndarray) -> None:
    for part, cmap, low, label in (
        (axes[:, :2], style.SIGNED, -1, "CAM / largest size"),
        (axes[:, 2:], style.POSITIVE, 0, "Grad-CAM / maximum"),
    ):
        bar = fig.colorbar(ScalarMappable(Normalize(low, 1), cmap), ax=part, location="bottom", aspect=28, shrink=0.8, pad=0.02)
        bar.set_ticks([low, 0, 1] if low else [0, 1])
        bar.ax.tick_params(labelsize=style.SMALL, length=2, colors=style.INK)
        bar.set_label(label, fontsize=style.SMALL, color=style.INK)


def rules(lesson: Lesson, made: Mapping[str, Tensor], rows: pd.DataFrame) -> None:
    """The gradient and the two rules, signed."""
    n = min(SHOWN, len(lesson.photos))
    alike = [f"{label} {number(e.value, 2)}" for label, e in estimates_of(rows, NEXT, list(made))]
    plotting.show(
        plotting.attribution_grid(replace(lesson.photos, targets=lesson.classes), made, rows=range(n)),
        name="rectifier-rules",
        caption="The gradient of the logit of the predicted class (under each photograph), and what the rules of Guided Backpropagation and of "
        f"DeconvNet make of it (sum over colour channels). {n} of {len(lesson.photos)} photographs.",
        alt=f"Signed maps of {n} photographs: guided ones follow edges, those of DeconvNet look all alike. Mean correlation between photographs: "
        f"{', '.join(alike)}.",
    )


def last_layer(rows: pd.DataFrame) -> None:
    """Similarity of each method's maps before and after the last layer was made random, for both nets."""
    own = rows[rows.metric == LAST_RANDOM]
    pairs = []
    for model, name in (("efficientnet_lite0", "EfficientNet-Lite0"), ("shapes_net", "small net")):
        pairs += [
            (f"{label}, {name}", e) for label, e in estimates_of(own[own.model == model], LAST_RANDOM, list(METHOD_NAMES))
        ]
    words = [f"{label.split(',')[0]} {number(e.value)}" for label, e in pairs[: len(METHOD_NAMES)]]
    plotting.show(
        plotting.estimates(pairs, xlabel="Spearman correlation with the map of the trained net", reference=0),
        name="last-layer-random",
        caption="Maps before and after the last layer alone was made random: 1 means that the map did not notice. "
        "n photographs above, n shapes below, 95 % intervals over them.",
        alt=f"On EfficientNet-Lite0: {', '.join(words)}; 95 % intervals, n = {pairs[0][1].n}.",
    )


def cascade(rows: pd.DataFrame) -> None:
    """Similarity as more layers are made random."""
    stages, labels = stage_names(rows), list(METHOD_NAMES)
    lines = {label: [e for _, e in estimates_of(rows, CASCADE, [f"{label}: {s}" for s in stages])] for label in labels}
    floors = dict(estimates_of(rows, FLOOR, labels))
    fig = plotting.curve(range(1, len(stages) + 1), lines, xlabel="random down to this layer", ylabel="Spearman correlation")
    fig.axes[0].set_xticks(range(1, len(stages) + 1), stages)
    ends = [f"{label} {number(points[0].value, 2)} to {number(points[-1].value, 2)}" for label, points in lines.items()]
    plotting.show(
        fig,
        name="random-cascade",
        caption="The small net, made random from its logits (left) down to its first convolution (right). Two nets that are random all over "
        f"agree by {number(min(e.value for e in floors.values()), 2)} to {number(max(e.value for e in floors.values()), 2)}. "
        f"Means over {lines[labels[0]][0].n} pictures with 95 % intervals.",
        alt=f"From first to last stage: {'; '.join(ends)}."[:250],
    )


def made_pictures(lesson: Lesson, made: Mapping[str, Maximised]) -> None:
    """What was made for each class without and with regularisers, and real pictures beside it."""
    net, seen, names = lesson.nets.net, lesson.seen, lesson.seen.class_names
    calm = made["all three"].pictures
    shown = {
        "made, no regulariser": made["none"].pictures, "made, all three": calm, "made, all three, margin": made["all three, margin"].pictures,
        "nearest training picture": seen.inputs[nearest(calm, seen.inputs)[1]],
        "training picture, largest logit": seen.inputs[strongest(net, seen.inputs)],
    }  # fmt: skip
    fig = plotting.picture_rows(shown, names, lesson.seen)
    fig.set_figheight(fig.get_figheight() + 0.3 * len(shown))  # two lines of text under each picture
    for at, (ax, picture) in enumerate(zip(fig.axes, torch.cat(list(shown.values())), strict=True)):
        logits = compute.logits(net, picture[None])[0]
        told = f"{names[int(logits.argmax())]}\nz = {float(logits[at % len(names)]):.1f}".replace("-", "−")
        ax.set_xlabel(told, fontsize=style.SMALL, color=style.INK, labelpad=2)
    taken = {label: _taken(net, found.pictures) for label, found in made.items()}
    plotting.show(
        fig,
        name="maximised-classes",
        caption="Pictures made to maximise the logit of each class (column), without and with jitter, decay and blur, and to maximise its margin over "
        "the others; the training picture nearest in pixels to the second row; the training picture with the largest logit. Below each: the "
        "net's answer, and the logit z of the column's class.",
        alt=f"Of {len(names)} made pictures the net takes for their class: {', '.join(f'{label} {count}' for label, count in taken.items())}.",
    )


def _taken(net: PixelModel, pictures: Tensor) -> int:
    return int((compute.logits(net, pictures).argmax(dim=1) == torch.arange(len(pictures))).sum())


def tails(rows: pd.DataFrame, d: Dissected, *, threshold: float) -> None:
    """Largest IoU of every unit at the tail asked for, and the number of units that pass at each tail."""
    fig = style.figure(3.9)
    left, right = fig.subplots(1, 2)
    style.dress(left, f"unit, by rank (tail {d.tail:g})", "largest IoU with a concept", grid="y")
    style.dress(right, "tail: share of activations above T", "share of units that pass", grid="y")
    right.set_xscale("log")
    qs = sorted(d.found[TRAINED])
    labels = [TRAINED, TRAINED + OTHERS, UNTRAINED, UNTRAINED + OTHERS]
    for label, (colour, marker) in zip(labels, style.line_styles(4), strict=True):
        best = np.sort(d.own(label).best[0].numpy())[::-1]
        left.plot(np.arange(1, len(best) + 1), best, color=colour, marker=marker, markersize=2.5, linewidth=1.2, label=label)
        found = [e for _, e in estimates_of(rows, PASSES, [tail_label(label, q) for q in qs])]
        right.fill_between(qs, [e.low for e in found], [e.high for e in found], color=colour, alpha=0.13, linewidth=0)
        right.plot(qs, [e.value for e in found], color=colour, marker=marker, markersize=4.5, linewidth=1.6)
    left.axhline(threshold, color=style.FAINT, linewidth=1, linestyle="--")
    right.set_xticks(qs, [f"{q:g}" for q in qs])
    right.minorticks_off()
    fig.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=style.SMALL)
    counts = [f"{label} {int(d.own(label).detectors(threshold).sum())}" for label in labels]
    last = [int(d.found[label][qs[-1]].detectors(threshold).sum()) for label in labels]
    plotting.show(
        fig,
        name="dissection-tails",
        caption=f"Left: the largest IoU of each unit; above the dashed line ({threshold:g}) it counts as a detector. Right: the share of the "
        f"{len(best)} units that do, with 95 % intervals over units, when more or fewer activations count as firing.",
        alt=f"Units that pass at tail {d.tail:g}: {', '.join(counts)}; at tail {qs[-1]:g}: {', '.join(map(str, last))}; of {len(best)}.",
    )


def unit_grid(lesson: Lesson, found: Sequence[UnitPictures]) -> None:
    """Units as pictures: what was made for each, and where it fires in the pictures in which it is most active."""
    columns = 1 + max(len(unit.rows) for unit in found)
    panel = style.WIDTH / (columns + 1)
    fig = style.figure((panel + 0.1) * len(found) + 0.3, layout="compressed")
    axes = fig.subplots(len(found), columns, squeeze=False)
    for line, unit in zip(axes, found, strict=True):
        plotting.picture(line[0], unit.made, lesson.unseen)
        for ax, row, mask in zip(line[1:], unit.rows, unit.masks, strict=True):
            plotting.picture(ax, lesson.unseen.inputs[row], lesson.unseen)
            if len(border_lines(mask)):
                draw_borders(ax, mask, "white", width=3.0)
                draw_borders(ax, mask, "black", width=1.3)
        line[0].set_ylabel(f"unit {unit.unit}\n{unit.concept}\nIoU {unit.iou:.2f}", fontsize=style.SMALL, color=style.INK)
    axes[0, 0].set_title("made", fontsize=style.SMALL, color=style.INK)
    axes[0, 1].set_title("most active", fontsize=style.SMALL, color=style.INK)
    words = ", ".join(f"{unit.concept} {unit.iou:.2f}" for unit in found)
    plotting.show(
        fig,
        name="units",
        caption=f"Units of {short(LAYER)}: the picture made for the unit (jitter, decay and blur), and the pictures in which it is most active, "
        "with the outline of where it exceeds its threshold.",
        alt=f"{len(found)} units, named by dissection with IoU: {words}. Each with {columns - 1} pictures and outlines.",
    )
