"""Study `case_studies`, part digits: its figures, with captions and alternative texts computed from the results."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from xai_lib import maps, plotting, stats
from xai_lib.plotting import number, style
from xai_lib.plotting.pictures import hidden, picture
from xai_lib.studies import common_figures
from xai_lib.studies.case import explainer
from xai_lib.studies.case_digits import COVERED, EDGES, FLIPS, ORDERS, SALIENCY, SIDES, UNTRAINED, Digits, found_regions
from xai_lib.studies.case_digits_rows import AREAS, DENSITY, Covers, both, flips


def class_means(digits: Digits, p: Mapping[str, Any]) -> None:
    """Mean picture and mean saliency of each digit, for the nets and for an untrained one."""
    cases = {"CNN": (digits.cnn, SALIENCY), "MLP": (digits.mlp, SALIENCY), "CNN, untrained": (digits.cnn, UNTRAINED)}
    labels = digits.cnn.samples.targets
    counts = torch.bincount(labels, minlength=10)
    present = [digit for digit in range(10) if counts[digit]]
    shown = not hidden(digits.cnn.samples)
    fig = style.figure(0.66 * (shown + len(cases)) + 0.25, layout="compressed")
    axes = fig.subplots(shown + len(cases), len(present), squeeze=False)
    for ax, digit in zip(axes[0], present, strict=True):
        if shown:
            picture(ax, digits.cnn.inputs[labels == digit].mean(dim=0), digits.cnn.samples)
        ax.set_title(str(digit), fontsize=style.SMALL, color=style.INK)
    for line, (case, label) in zip(axes[int(shown) :], cases.values(), strict=True):
        made = found_regions(case, p)[f"map of {label}"]
        for ax, digit in zip(line, present, strict=True):
            ax.imshow(made[case.samples.targets == digit].mean(dim=0).numpy(), cmap=style.POSITIVE, interpolation="nearest")
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
    for line, name in zip(axes, (*(["pictures"] if shown else []), *cases), strict=True):
        line[0].set_ylabel("\n".join(style.wrapped([name], 10)), fontsize=style.SMALL, color=style.INK)
    plotting.show(
        fig,
        name="digit-class-means",
        caption=f"{'Mean picture and mean' if shown else 'Mean'} absolute gradient of the predicted class's logit, by digit; each panel from dark (0) to bright (its own "
        "largest value). The last row is the same net before any training, with drawn weights.",
        alt=f"Mean saliency of {len(present)} digits under the CNN, the MLP and an untrained CNN; {int(counts[counts > 0].min())} to "
        f"{int(counts.max())} test images each.",
    )


def densities(frame: pd.DataFrame) -> None:
    """Density on ink, ring and ground: of the saliency, on training images, untrained, and of edges."""
    parts = {
        "": (SALIENCY, UNTRAINED, EDGES),
        "training images: ": (SALIENCY,),
        "MLP: ": (SALIENCY,),
        "ReLU CNN: ": (SALIENCY,),
    }
    methods = [f"{prefix}{label} | {name}" for prefix, labels in parts.items() for label in labels for name in AREAS]
    common_figures.forest(
        frame,
        DENSITY,
        methods,
        words=(
            "share of the map over share of the area",
            "Where maps lie: their share in a region over the region's share of the picture; 1 is no preference. Ring: ground next to the "
            "ink. Edges: a Sobel filter, which knows no net.",
        ),
        name="digit-densities",
    )


def added_ink(digits: Digits, digit: int, p: Mapping[str, Any]) -> None:
    """How often a digit becomes the named one, by the number of pixels that get ink, for each order of pixels."""
    named, space = FLIPS[digit]
    counts, (_, found) = list(p["ink_counts"]), flips(both(digits)[digit], digit, p)
    lines = {
        label: [stats.bootstrap_interval((found[label][:, k] == named).astype(float)) for k in range(len(counts))]
        for label in ORDERS
    }
    last = {label: points[-1].value for label, points in lines.items()}
    plotting.show(
        plotting.curve(counts, lines, xlabel="pixels of ground that get ink", ylabel=f"{digit}s read as {named}", log=True),
        name=f"added-ink-{digit}",
        caption=f"Share of {digit}s that are read as {named} once ink is added to the ground, by which pixels come first: those where the gradient of "
        f"the logit of {digit} is largest in size, where it is most negative, where that of the difference of the logits of {digit} and {named} "
        f"is; or random pixels of the open space ({space}), next to the ink, or anywhere.",
        alt=f"At {counts[-1]} pixels: {', '.join(f'{label} {number(v, 2)}' for label, v in last.items())}; "
        f"n = {lines[ORDERS[0]][0].n}."[:245],
    )


def contrast(digits: Digits, p: Mapping[str, Any], count: int = 3) -> None:
    """Saliency and contrastive gradient of a few 4s."""
    case = flips(digits.fours, 4, p)[0].first(count)
    asked = {
        "gradient of 4": explainer(case, "gradient"),
        "|gradient| of 4": explainer(case, SALIENCY),
        "4 and not 9": explainer(case, "contrastive_gradient", other=FLIPS[4][0]),
    }
    made = {label: maps.reduce(explain(case.model, case.inputs, case.targets)) for label, explain in asked.items()}
    share = (made["4 and not 9"] < 0).double().mean()
    plotting.show(
        plotting.attribution_grid(case.samples, made, rows=range(len(case.samples))),
        name="four-not-nine",
        caption="Gradient of the logit of 4, its size, and the gradient of the logit of 4 minus that of 9. Where the last is negative (blue), ink "
        "speaks for 9.",
        alt=f"Maps of {len(case.samples)} fours; ink at {number(100 * float(share), 2)} % of the pixels would speak for 9 rather than 4.",
    )


def transitions(covered: Covers) -> None:
    """What digits are read as with rows covered at either side, mean over the numbers of rows."""
    labels = covered.case.samples.targets.numpy()
    classes = range(len(covered.case.samples.class_names))
    pairs = [(digit, side) for digit in sorted(set(labels.tolist())) for side in SIDES]
    cells = np.array([[(covered.read[side][labels == digit] == c).mean() for c in classes] for digit, side in pairs])
    away = {(digit, side, c): cells[i, c] for i, (digit, side) in enumerate(pairs) for c in classes if c != digit}
    most = max(away, key=lambda one: away[one])
    stay = {side: np.mean([cells[i, d] for i, (d, own) in enumerate(pairs) if own == side]) for side in SIDES}
    plotting.show(
        plotting.matrix(
            cells, [f"{digit}, {side}" for digit, side in pairs], xlabel="share read as", columns=[str(c) for c in classes]
        ),
        name="covered-rows-read-as",
        caption=f"What digits (rows) are read as (columns) once {COVERED[0]} to {COVERED[-1]} rows at the top or at the bottom are black; mean over "
        f"these numbers of rows, n = {len(labels)} images that are read right uncovered.",
        alt=f"The most frequent error is {most[0]} covered at the {most[1]} read as {most[2]}, {number(float(away[most]), 2)} of its covers; "
        f"{number(float(stay['top']), 2)} stay with the top covered, {number(float(stay['bottom']), 2)} with the bottom.",
    )
