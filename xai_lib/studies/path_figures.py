"""Study `path_attribution`, part 5: its figures, with captions and alternative texts computed from the results."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from xai_lib import plotting
from xai_lib.plotting import number
from xai_lib.studies import common_figures
from xai_lib.studies.case import Case
from xai_lib.studies.common_figures import estimates_of
from xai_lib.studies.path_maps import CONTROLS, CREDIBLE, IG
from xai_lib.studies.path_mechanism import OBJECTIVES, POSITIONS
from xai_lib.studies.path_scores import GAME, REMOVALS, SN
from xai_lib.validity import READINGS

WORDS = {
    GAME: (
        "insertion minus deletion",
        "Insertion (into the image blurred as in RISE) minus deletion (to the mean colour), signed order.",
    ),
    "distance_ratio": (
        "distance of logits at the end over that at the start (median)",
        "How far Algorithm 1 comes. 1 means that it found nothing nearer than the blurred image; Lemma 1 promises 0.",
    ),
    "probability_there": ("probability of the class at the baseline", "What the model says to the baselines of Algorithm 1."),
    "units_in_another_piece": (
        "share of activations in another linear piece than at x",
        "Proposition 2 needs baseline and image in one linear piece, that is 0.",
    ),
    "gradient_norm": (
        "norm of the gradient over its mean on the line",
        "The gradient on the way from black to the image: is it smaller at the image than before?",
    ),
    "share_on_darkest": ("share of |attribution| on the darkest tenth", "What is left for dark pixels."),
    "completeness_error": (
        "completeness error over |f(x) - f(black)| (median)",
        "Do the attributions sum to the change of the score? For Integrated Gradients this is the error of the quadrature.",
    ),
    "gradient_passes": ("forward and backward passes", "What an attribution costs."),
    "seed_agreement": ("Spearman correlation between two seeds", "How much of the map is the draw of the positions."),
    SN: (
        "Sensitivity-n, mean over fractions",
        "Correlation between the attribution of a random subset and what its removal changes.",
    ),
    "rank_product": (
        "Spearman correlation over images",
        "Does the score, or the gain of the credible method over Integrated Gradients, go with the confidence of the image?",
    ),
}
"""Axis label and caption of each forest plot, by metric."""


def forest(frame: pd.DataFrame, metric: str, methods: Sequence[str], *, name: str = "", caption: str = "", **own: Any) -> None:
    """Forest plot of one metric over several conditions, under the metric's caption or another."""
    words = (WORDS[metric][0], caption or WORDS[metric][1])
    common_figures.forest(frame, metric, methods, words=words, name=name, **own)


def maps(case: Case, attributions: Mapping[str, Tensor], labels: Sequence[str], *, image: int, name: str, caption: str) -> None:
    """Maps of one photograph, side by side."""
    shown = {label: attributions[label] for label in labels}
    common_figures.grid(case, shown, reduce="sum", images=[image], name=name, caption=caption)


def searches(frame: pd.DataFrame, sigmas: Sequence[float]) -> None:
    """How far Algorithm 1 comes under both objectives."""
    forest(frame, "distance_ratio", [label for o in OBJECTIVES for label in (o, *(f"{o}, sigma {s:g}" for s in sigmas))])


def acceptance(frame: pd.DataFrame) -> None:
    """The share of valid features along the line, by reading, and how often signs agree."""
    lines = {
        f"reading {reading}": [
            e for _, e in estimates_of(frame, "accepted", [f"reading {reading} at {p:g}" for p in POSITIONS])
        ]
        for reading in READINGS
    }
    lines["signs agree"] = [e for _, e in estimates_of(frame, "sign_agreement", [f"at {p:g}" for p in POSITIONS])]
    agree = lines["signs agree"]
    plotting.show(
        plotting.curve(POSITIONS, lines, xlabel="position on the line, 1 is the image", ylabel="share of features"),
        name="acceptance",
        caption="Which share of features passes the check on the way from a desired baseline to the image, for each reading; and how "
        "often the gradient's sign there agrees with that at the image. Chance is 0.5.",
        alt=f"The signs agree for {number(agree[0].value)} of the features at position {POSITIONS[0]:g} and for "
        f"{number(agree[-1].value)} at {POSITIONS[-1]:g}; n = {agree[0].n} images, 95 % intervals.",
    )


def confound(frame: pd.DataFrame, labels: Sequence[str]) -> None:
    """Every baseline against every removal value."""
    metric = f"{GAME} by removal"
    cells = [[e for _, e in estimates_of(frame, metric, [f"{label} | {r}" for r in REMOVALS])] for label in labels]
    best = [labels[int(np.argmax([line[k].value for line in cells]))] for k in range(len(REMOVALS))]
    plotting.show(
        plotting.matrix(cells, labels, columns=[f"removal {r}" for r in REMOVALS], xlabel="insertion minus deletion"),
        name="confound",
        caption="Insertion minus deletion when pixels are replaced by black, by the mean colour, or by the blurred image (the same on "
        "both sides). A baseline could profit from a removal value that resembles it.",
        alt=f"Highest score with removal to {', '.join(f'{r}: {b}' for r, b in zip(REMOVALS, best, strict=True))}; "
        f"n = {cells[0][0].n} images, 95 % intervals.",
    )


def sensitivity(frame: pd.DataFrame, fractions: Sequence[float], labels: Sequence[str], replacement: str = "black") -> None:
    """Sensitivity-n against the size of the subset (Figure 3 of the document)."""
    metric = SN if replacement == "black" else f"{SN}, {replacement}"
    lines = {
        label: [estimates_of(frame, f"{metric} at {fraction:g}", [label])[0][1] for fraction in fractions] for label in labels
    }
    last = {label: points[-1].value for label, points in lines.items()}
    plotting.show(
        plotting.curve(fractions, lines, xlabel="share of the pixels in the subset", ylabel="Pearson correlation", log=True),
        name=f"sensitivity-{replacement}",
        caption=f"Sensitivity-n with removal to {'black' if replacement == 'black' else 'the mean colour'} (Figure 3 of the document): "
        "correlation between the summed attribution of random subsets and the change of the score.",
        alt=f"At a share of {fractions[-1]:g}: {', '.join(f'{label} {number(v)}' for label, v in last.items())}; "
        f"n = {lines[labels[0]][0].n} images, 95 % intervals."[:245],
    )


def settings(frame: pd.DataFrame, prefix: str) -> None:
    """What one changed parameter does to the credible method, beside Integrated Gradients."""
    labels = [m for m in frame[frame.metric == GAME].method.unique() if m.startswith(f"{prefix}credible, ")]
    caption = (
        "The credible method with one parameter changed at a time; three times the steps, and one baseline instead of three."
    )
    forest(frame, GAME, labels, name="settings", caption=caption)


def ladder(frame: pd.DataFrame) -> None:
    """The decisive comparisons: the check against a random mask, the method against what knows no path."""
    labels = [CREDIBLE, "credible, random mask", "desired baselines, no check", *CONTROLS, IG]
    caption = (
        "What carries the score: the check against as many features at random and against none, and maps that know no path."
    )
    forest(frame, GAME, labels, name="controls", caption=caption)


def ablation(frame: pd.DataFrame) -> None:
    """Baseline and check crossed (Table 4)."""
    starts = ("black baseline", "one desired baseline")
    labels = [f"{start}, {check}" for start in starts for check in ("no check", "check")]
    caption = "Baseline and check crossed (Table 4 of the document, which lacks the desired baseline without the check)."
    forest(frame, GAME, [*labels, CREDIBLE], name="ablation", caption=caption)


def scores(frame: pd.DataFrame, labels: Sequence[str], published: Mapping[str, float]) -> None:
    """All scores of Table 1, with the document's for one network."""
    caption = "Insertion minus deletion of every method and control; diamonds: the document's scores for ResNet-50."
    forest(frame, GAME, labels, name="table-1-scores", caption=caption, published=published)
