"""Lesson `foundations_evaluation`, tables: what was measured on digits, and the closing table of the toys."""

from collections.abc import Mapping

import pandas as pd

from xai_lib import plotting, stats
from xai_lib.compendium import book_words
from xai_lib.plotting import number
from xai_lib.studies.foundations_evaluation_toys import Toy

CAPTIONS = {
    "removal": "Region perturbation (24 of 49 regions of 4 x 4 pixels) by what takes the place of the regions. Larger is better.",
    "games": "Insertion minus deletion by what is inserted into and deleted to. Larger is better.",
    "subsets": "Sensitivity-n for subsets of a share of the pixels, removed to black. Larger is better.",
    "retraining": "Accuracy of a linear classifier that is trained anew: on what is left of the pictures (smaller is better), and on where "
    "pixels are gone, with the pictures hidden. One classifier each.",
    "certificates": "Least completeness and least soundness over the ten classes. Larger is better.",
    "gaps": "Completeness gap towards black, in logits. Smaller is better.",
    "randomisation": "Spearman correlation of sizes with the map of the net with random weights (smaller is better), and between two such. "
    "One draw of weights, so the noise has one number for all digits.",
    "places": "Scores for the tight box around the ink. Larger is better.",
    "contrast": "Two of the scores of BAM, over the pictures that both models classify correctly. Larger is better.",
    "stability": "Relative change of the map when every pixel moves by up to 0.02, largest and mean of 5 draws. Smaller is better.",
}


SHORT = {
    "sky": "one pixel is read, and a sky that must have no holes",
    "own_baseline": "linear, four pixels, compared with black",
    "copies": "eight copies of one piece of evidence",
    "shifted": "linear, four pixels",
    "leak": "one white pixel for each class, and a coin",
    "certificate": "evidence for both classes",
    "bookkeeping": "sum of cubes, coarse Riemann sum",
    "randomised": "fixed template, one learned number",
    "background": "reads the ground beside a centred object",
    "occluded": "the model of scenes reads all pixels",
    "steady": "linear, reads the corners most",
}


def scores(frame: pd.DataFrame, name: str, starts: str = "") -> None:
    """Methods as rows, metrics as columns, means over images with their intervals.

    Args:
        name: key of `CAPTIONS`.
        starts: only metrics whose name starts so; what follows it and a comma is the column's name.
    """
    own = frame[frame.metric.str.startswith(starts)]
    lines, counts = [], []
    for method in dict.fromkeys(own.method):
        line = {"map": method}
        for metric in dict.fromkeys(own.metric):
            values = own[(own.method == method) & (own.metric == metric)].value.to_numpy()
            estimate = stats.bootstrap_interval(values)
            line[metric.removeprefix(f"{starts}, ") if starts else metric] = _short(estimate)
            counts += [estimate.n] if estimate.n else []
        lines.append(line)
    n = f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else str(max(counts))
    caption = f"{CAPTIONS[name]} Means over {n} digits with 95 % intervals."
    plotting.table(pd.DataFrame(lines), caption=caption, name=f"evaluation-{name}")


def _short(estimate: stats.Estimate) -> str:
    return book_words.interval(estimate.value, estimate.low, estimate.high) if estimate.n else "–"


def closing(made: Mapping[str, Toy]) -> None:
    """Evaluation, what it asks, the toy, both scores, who wins, and the control that reveals it."""
    lines = [
        {
            "evaluation": toy.evaluation,
            "asks": toy.asks,
            "toy": SHORT[name],
            "right map": number(toy.scores[0]),
            "wrong map": number(toy.scores[1]),
            "wins": toy.winner,
            "control": toy.control,
            "right, wrong map": f"{number(toy.revealed[0])}, {number(toy.revealed[1])}",
        }
        for name, toy in made.items()
    ]
    lost = sum(toy.winner != "right" for toy in made.values())
    plotting.table(
        pd.DataFrame(lines),
        caption=f"{len(lines)} toys with a known right map; in {lost} of them the evaluation does not prefer it. All numbers are computed.",
        name="evaluation-closing",
    )
