"""Lesson `foundations_evaluation`, figures: the toys, and what six evaluations say of the same maps of the same digits."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import rankdata
from torch import Tensor

from xai_lib import plotting, stats
from xai_lib.plotting import number, style
from xai_lib.stats import Estimate
from xai_lib.studies.foundations_evaluation_toys import Toy
from xai_lib.wording import estimate_text

ROW = 1.75
"""Height of one toy, in inches."""


def toys(made: Mapping[str, Toy], names: Sequence[str]) -> None:
    """Each toy as a row: the picture, its right map, a wrong map, and what the evaluation and a control say of both."""
    chosen = [made[name] for name in names]
    fig = style.figure(ROW * len(chosen))
    axes = fig.subplots(len(chosen), 4, squeeze=False, gridspec_kw={"width_ratios": [1, 1, 1, 1.75]})
    for line, toy in zip(axes, chosen, strict=True):
        line[0].imshow(toy.image.numpy(), cmap="gray", vmin=0, vmax=1)
        for ax, values in zip(line[1:3], (toy.right, toy.wrong), strict=True):
            _map(ax, values)
        for ax, title in zip(line, ("picture", "right map", "wrong map"), strict=False):
            ax.set(xticks=[], yticks=[])
            ax.set_title(title, fontsize=style.SMALL, color=style.INK)
        _told(line[3], toy)
    told = "; ".join(
        f"{toy.evaluation}: right {number(toy.scores[0])}, wrong {number(toy.scores[1])}; "
        f"{toy.control}: {number(toy.revealed[0])}, {number(toy.revealed[1])}"
        for toy in chosen
    )
    story = " ".join(toy.story for toy in chosen)
    plotting.show(fig, name=f"evaluation-toy-{names[0].replace('_', '-')}", caption=story, alt=f"Scores. {told}."[:250])


def _map(ax: Axes, values: Tensor) -> None:
    """A signed map around a white zero, scaled by its own largest value; few pixels carry their numbers."""
    top = float(values.abs().max()) or 1.0
    ax.imshow(values.numpy(), cmap=style.SIGNED, vmin=-top, vmax=top)
    if values.numel() > 9:
        return
    for (row, column), value in np.ndenumerate(values.numpy()):
        dark = abs(value) > 0.6 * top
        ax.text(column, row, number(float(value)), ha="center", va="center", fontsize=7, color="white" if dark else "black")


def _told(ax: Axes, toy: Toy) -> None:
    ax.axis("off")
    better = "larger" if toy.larger else "smaller"
    text = [
        f"{toy.evaluation} ({better} is better)",
        f"   right {number(toy.scores[0])}     wrong {number(toy.scores[1])}",
        f"   prefers: {toy.winner}",
        "",
        *style.wrapped([f"control: {toy.control}"], 38)[0].split("\n"),
        f"   right {number(toy.revealed[0])}     wrong {number(toy.revealed[1])}",
    ]
    ax.text(0, 0.98, "\n".join(text), va="top", fontsize=style.SMALL, color=style.INK, transform=ax.transAxes, linespacing=1.35)


def ranks(
    frame: pd.DataFrame, judged: Mapping[str, tuple[str, int]], methods: Sequence[str], found: Mapping[str, Estimate]
) -> None:
    """Evaluations x maps: the rank of each map (1 is best), with the mean score and its interval; and how far they agree."""
    cells = [
        [stats.bootstrap_interval(frame[(frame.metric == metric) & (frame.method == m)].value.to_numpy()) for m in methods]
        for metric, _ in judged.values()
    ]
    order = order_of([[cell.value for cell in row] for row in cells], [sign for _, sign in judged.values()])
    fig = _rank_figure(cells, order, judged, methods)
    first = [methods[int(row.argmin())] if (row == row.min()).sum() == 1 else "a tie" for row in order]
    words = {label: estimate_text(e, 2) for label, e in found.items()}
    told = "; ".join(f"{label}: {text}" for label, text in words.items())
    plotting.show(
        fig,
        name="evaluation-ranks",
        caption="Rank of each map in each evaluation, 1 is best and dark, equal scores share a rank; below it the mean score over the same digits "
        f"with its 95 % interval. Kendall's W ({told}; in brackets its spread, the middle 95 % over digits drawn anew); judges without anything in common have {number(1 / len(judged), 2)} on average.",
        alt=f"First: {', '.join(f'{name} {who}' for name, who in zip(judged, first, strict=True))}. W = {number(found['all six maps'].value, 2)}."[
            :250
        ],
    )


def order_of(values: Sequence[Sequence[float]], signs: Sequence[int]) -> np.ndarray:
    """Ranks in each row, 1 for the best, equal scores (up to ten digits) sharing one; a sign of -1 says that small is good."""
    return np.asarray(rankdata(-(np.asarray(values) * np.asarray(signs)[:, None]).round(10), axis=1))


def _rank_figure(
    cells: Sequence[Sequence[Estimate]], order: np.ndarray, judged: Mapping[str, tuple[str, int]], methods: Sequence[str]
) -> Figure:
    fig = style.figure(0.8 + 0.62 * len(cells))
    ax = fig.subplots()
    shown = ax.imshow(order, cmap=f"{style.CELLS}_r", vmin=1, vmax=len(methods) + 1.5, aspect="auto")
    for i, row in enumerate(cells):
        for j, cell in enumerate(row):
            dark = sum(shown.to_rgba(order[i, j])[:3]) < 1.5
            text = f"{order[i, j]:g}\n{cell.value:.2f}\n[{cell.low:.2f}, {cell.high:.2f}]".replace("-", "−")
            ax.text(j, i, text, ha="center", va="center", fontsize=7.5, color="white" if dark else "black", linespacing=1.15)
    labels = [f"{name}\n({'larger' if sign > 0 else 'smaller'} is better)" for name, (_, sign) in judged.items()]
    ax.set_yticks(range(len(cells)), labels)
    ax.set_xticks(range(len(methods)), list(methods))
    ax.xaxis.tick_top()
    ax.tick_params(labelsize=style.SMALL, length=0, colors=style.INK)
    ax.spines[:].set_visible(False)
    return fig
