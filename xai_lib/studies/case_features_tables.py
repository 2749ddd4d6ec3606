"""Study `case_studies`, part features: tables, with captions computed from the results."""

import pandas as pd

from xai_lib import plotting
from xai_lib.compendium import book_words
from xai_lib.models import digit_nets
from xai_lib.stats import Estimate
from xai_lib.studies.case_features import (
    ACCURACY,
    GAP,
    KIND,
    PIXELS,
    TRAINED,
    UNTRAINED,
    card_of,
    short_name,
)
from xai_lib.studies.common_figures import estimates_of

READS = {"pixels": "pixels", "hog": "36 HOG features", "lbp": "LBP image"}


def accuracies(frame: pd.DataFrame) -> None:
    """Accuracy of each digit net, as on its card and on the digits of this run."""
    table = []
    for name in digit_nets.NAMES:
        card, label = card_of(name), short_name(name)
        tested = card["accuracy_by_epoch"]["held_out"]
        table.append(
            {
                "net": label,
                "reads": READS[card["reads"]],
                "epochs": card["recipe"]["epochs"],
                "training digits": card["accuracy"]["train"]["value"],
                "test digits": _of_card(card["accuracy"]["held_out"]),
                "best epoch minus last": max(tested) - tested[-1],
                "digits of this run": _short(frame, ACCURACY, label),
                "training minus this run": _short(frame, GAP, label),
            }
        )
    first = estimates_of(frame, ACCURACY, [short_name(digit_nets.NAMES[0])])[0][1]
    plotting.table(
        pd.DataFrame(table),
        caption="Accuracy of the document's digit nets. From their cards: on all 60,000 training digits, on all 10,000 test digits, and how much "
        f"higher the best epoch was on these. Then on the n = {first.n} digits of this run; 95 % intervals over digits.",
        name="digit-accuracy",
    )


def kinds(frame: pd.DataFrame) -> None:
    """The density of the LBP net's saliency on each kind of pattern."""
    labels = list(dict.fromkeys(frame[frame.metric == PIXELS].method))
    plotting.table(
        pd.DataFrame(
            {
                "pattern": labels,
                "share of the pixels": [_short(frame, PIXELS, label) for label in labels],
                "density of |gradient|": [_short(frame, KIND, f"{label}, {TRAINED}") for label in labels],
                "untrained": [_short(frame, KIND, f"{label}, {UNTRAINED}") for label in labels],
            }
        ),
        caption="How dense the LBP net's saliency is on pixels of each kind of pattern (1: uniform); means with 95 % intervals over "
        f"n = {estimates_of(frame, PIXELS, labels[:1])[0][1].n} digits, fewer for patterns that a digit may lack.",
        name="lbp-kinds",
    )


def _short(frame: pd.DataFrame, metric: str, method: str) -> str:
    estimate: Estimate = estimates_of(frame, metric, [method])[0][1]
    return book_words.interval(estimate.value, estimate.low, estimate.high)


def _of_card(accuracy: dict[str, float]) -> str:
    return book_words.interval(accuracy["value"], accuracy["low"], accuracy["high"])
