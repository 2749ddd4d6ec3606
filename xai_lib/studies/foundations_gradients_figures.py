"""Lesson `foundations_gradients`, figures, with captions and alternative texts computed from the results."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from torch import Tensor

from xai_lib import METHODS, baselines, compute, maps, plotting, toys
from xai_lib.plotting import number, style
from xai_lib.studies import common_figures
from xai_lib.studies.case import Case
from xai_lib.studies.common_figures import estimates_of
from xai_lib.studies.foundations_gradients import GAP, RANK, RULES, Line, starts
from xai_lib.studies.foundations_gradients_noise import ENSEMBLES, SHARE

WORDS = {"mnist_cnn": "digits", "efficientnet_lite0": "photographs"}
CLIP = 0.99


def saturation(at: float = 2.0) -> None:
    """The saturating toy: its value, its gradient, and the area under the gradient, which is Integrated Gradients."""
    model, x = toys.saturation(), torch.linspace(0, 2.5, 251, dtype=torch.float64)[:, None]
    zeros = torch.zeros(len(x), dtype=torch.int64)
    f, slope = compute.scores(model, x, zeros)[:, None], compute.input_gradient(model, x, zeros)
    place = torch.tensor([[at]], dtype=torch.float64)
    names = ("gradient", "input_x_gradient", "integrated_gradients")
    own, times, path = (float(METHODS.bind(name)(model, place, zeros[:1])) for name in names)
    fig = style.figure(2.9)
    ax = fig.subplots()
    style.dress(ax, "x", "value", grid="y")
    inside = (x[:, 0] <= at).numpy()
    under = slope[:, 0].numpy()
    ax.fill_between(
        x[inside, 0], 0, under[inside], color=style.COLOURS[1], alpha=0.2, linewidth=0, label="area under it, up to x = 2"
    )
    ax.plot(x, f, color=style.COLOURS[0], linewidth=2, label="f(x) = 1 − relu(1 − x)")
    ax.plot(x, slope, color=style.COLOURS[1], linewidth=1.8, linestyle="--", label="gradient")
    ax.plot([at], [float(compute.scores(model, place, zeros[:1]))], "o", color=style.COLOURS[0])
    fig.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=style.SMALL)
    plotting.show(
        fig,
        name="saturation",
        caption="A score that saturates, its gradient, and the area under the gradient on the way from 0 to the input.",
        alt=f"At x = {at:g} the gradient is {number(own)} and gradient times input {number(times)}, although the score rose by 1 from "
        f"x = 0; the area under the gradient, Integrated Gradients, is {number(path)}.",
    )


def cuts(cases: Sequence[Case], lines: Sequence[Line], image: int = 0) -> None:
    """Logit, slope, and direction of the gradient along the line from black to one image of each case."""
    fig = style.figure(5.4)
    axes = fig.subplots(3, len(cases), sharex=True, squeeze=False)
    names = ("logit", "slope along the line", "cosine with the\ngradient at the image")
    told = []
    for j, (case, made) in enumerate(zip(cases, lines, strict=True)):
        word = f"{case.samples.class_names[int(case.targets[image])].split(',')[0]}"
        axes[0, j].set_title(f"{WORDS[case.model.name][:-1]}, class {word!r}", fontsize=style.TEXT, color=style.INK)  # type: ignore[attr-defined]
        for i, values in enumerate((made.scores, made.slopes, made.cosines)):
            ax = axes[i, j]
            style.dress(ax, "position, 1 is the image" if i == 2 else "", names[i] if j == 0 else "", grid="y")
            ax.plot(made.positions, values[image], color=style.COLOURS[i], linewidth=1.5)
            if i:
                ax.axhline(0, color=style.FAINT, linewidth=0.8)
        near = made.cosines[image, made.at([0.9375])[0]]
        told.append(f"{word}: slope at the image {number(made.slopes[image, -1])}, largest {number(made.slopes[image].max())}, cosine "
                    f"at 0.94 {number(near)}")  # fmt: skip
    plotting.show(
        fig,
        name="cuts",
        caption="On the straight line from black to an image: the logit of the predicted class; its slope in the direction of the image; "
        "and whether the gradient still points where it points at the image.",
        alt="; ".join(told) + ".",
    )


def gaps(case: Case, frame: pd.DataFrame, steps: Sequence[int]) -> None:
    """Completeness gap against the number of steps, one line per rule, both axes logarithmic."""
    lines = {rule: [e for _, e in estimates_of(frame, GAP, [f"{rule}, {m} steps" for m in steps])] for rule in RULES}
    label = "gap / change of the logit"
    fig = plotting.curve(steps, lines, xlabel="steps, one gradient each", ylabel=label, log=True)
    fig.axes[0].set_yscale("log")
    fig.axes[0].minorticks_off()
    name = case.model.name  # type: ignore[attr-defined]
    last = {rule: points[-1].value for rule, points in lines.items()}
    plotting.show(
        fig,
        name=f"gaps-{WORDS[name]}",
        caption=f"What a map by Integrated Gradients from black lacks to be complete, against the number of steps: mean over {WORDS[name]} "
        f"of `{name}` with 95 % intervals, n = {lines[RULES[0]][0].n}.",
        alt=f"Relative gap with {steps[-1]} steps: " + ", ".join(f"{rule} {number(value)}" for rule, value in last.items())
        + f"; with {steps[0]}: " + ", ".join(number(points[0].value) for points in lines.values()) + ".",
    )  # fmt: skip


def twins(
    case: Case,
    pairs: Mapping[str, tuple[Tensor, Tensor]],
    names: Sequence[str],
    frame: pd.DataFrame,
    images: Sequence[int] = (0, 1),
) -> None:
    """Maps of a net and of its other spelling."""
    shown = {f"{name}{', other spelling' * k}": pair for name in names for k, pair in enumerate(pairs[name])}
    found = estimates_of(frame, RANK, [f"{name} vs {name} of the twin" for name in names])
    told = ", ".join(f"{number(e.value)} for {name}" for name, (_, e) in zip(names, found, strict=True))
    plotting.show(
        plotting.attribution_grid(case.samples, _summed(shown), rows=images),
        name="twins",
        caption="One classifier in two spellings with equal logits, and the maps of both.",
        alt=f"Maps of {len(images)} digits by a net and by its other spelling; rank correlation of the two over {found[0][1].n} digits: "
        f"{told}.",
    )


def _summed(attributions: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {label: maps.reduce(a, "sum") for label, a in attributions.items()}


def start_pictures(cases: Sequence[Case], attributions: Sequence[Mapping[str, Tensor]], image: int = 0) -> None:
    """One image of each case under several baselines: the baselines above, the maps below."""
    names = list(attributions[0])
    fig = style.figure(2.35 * len(cases) + 0.7, layout="compressed")
    axes = fig.subplots(2 * len(cases), 1 + len(names), squeeze=False)
    zero = []
    for k, (case, made) in enumerate(zip(cases, attributions, strict=True)):
        above, below = axes[2 * k], axes[2 * k + 1]
        plotting.picture(above[0], case.inputs[image], case.samples)
        below[0].axis("off")
        for ax, lower, (name, spec) in zip(above[1:], below[1:], starts(case).items(), strict=True):
            start = baselines.draw(spec, case.inputs[image : image + 1], seed=case.seed)[0]
            plotting.picture(ax, start, case.samples)
            signed_map(lower, maps.reduce(made[name][image : image + 1], "sum")[0])
        for ax, name in zip(above, ["picture", *names], strict=True):
            ax.set_title(style.wrapped([name], 11)[0], fontsize=style.SMALL, color=style.INK)
        empty = float((made["black"][image] == 0).double().mean())
        zero.append(f"{number(empty, 2)} of the {WORDS[case.model.name][:-1]}'s values")  # type: ignore[attr-defined]
    bar = fig.colorbar(
        ScalarMappable(Normalize(-1, 1), style.SIGNED), ax=axes, location="bottom", aspect=45, shrink=0.6, pad=0.02
    )
    bar.set_ticks([-1, 0, 1])
    bar.ax.tick_params(labelsize=style.SMALL, length=2)
    bar.set_label(f"signed attribution / {100 * CLIP:g} % quantile of its size in that panel", fontsize=style.SMALL)
    plotting.show(
        fig,
        name="baselines",
        caption="Baselines (above) and Integrated Gradients from them (below). Where picture and baseline are equal the map is white.",
        alt=f"{len(names)} baselines and their maps for {len(cases)} pictures; from black the map is exactly zero on {' and '.join(zero)}.",
    )


def signed_map(ax: Axes, values: Tensor) -> None:
    """A signed map around a white zero, scaled by the `CLIP` quantile of its size."""
    array = values.detach().cpu().double().numpy()
    limit = float(np.quantile(np.abs(array), CLIP)) or float(np.abs(array).max()) or 1.0
    ax.imshow(array / limit, cmap=matplotlib.colormaps[style.SIGNED], vmin=-1, vmax=1, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set(color="#bbbbbb", linewidth=0.6)


def ground(frame: pd.DataFrame) -> None:
    """How much of a digit's map lies on its black ground, by baseline."""
    metric = "share of the attribution on the black ground"
    labels = list(dict.fromkeys(frame[frame.metric == metric].method))
    caption = "Share of the attribution (sizes) on values of the digit that are exactly black, by baseline, and the share of the area."
    common_figures.forest(frame, metric, labels, words=(metric, caption), name="ground")


def paths(case: Case, attributions: Mapping[str, Tensor], frame: pd.DataFrame, images: Sequence[int]) -> None:
    """Maps of three paths between the same two pictures."""
    own = frame[(frame.dataset == case.samples.name) & (frame.metric == RANK)]
    told = ", ".join(f"{number(e.value, 2)} ({pair})" for pair, e in estimates_of(own, RANK, list(dict.fromkeys(own.method))))
    plotting.show(
        plotting.attribution_grid(case.samples, _summed(attributions), rows=list(images)),
        name="paths",
        caption="Three paths from one blurred picture to the picture, and the gradients gathered on each.",
        alt=f"Maps of {len(images)} pictures by three paths from one blurred picture; rank correlations: {told}.",
    )


def ensembles(case: Case, attributions: Mapping[str, Tensor], frame: pd.DataFrame, image: int = 0) -> None:
    """The gradient of one picture and the three summaries of noisy gradients."""
    shown = {label: a[image : image + 1] for label, a in attributions.items()}
    ((_, share),) = estimates_of(frame[frame.dataset == case.samples.name], SHARE, ["SmoothGrad squared"])
    one = case.samples.subset([image])
    plotting.show(
        plotting.attribution_grid(one, _summed(shown)),
        name="ensembles",
        caption="The gradient, and what the mean, the mean square and the variance of gradients of noisy copies make of it; channels summed.",
        alt=f"A gradient map and its {', '.join(ENSEMBLES)} of one of the {one.name}. {number(share.value)} of SmoothGrad squared is "
        f"variance, mean of {share.n} pictures.",
    )
