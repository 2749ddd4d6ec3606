"""Lesson `foundations_models`: its tables, with numbers from the results."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from xai_lib import plotting, stats
from xai_lib.plotting import number
from xai_lib.studies.common_figures import estimates_of
from xai_lib.studies.foundations_models import ACCURACY, FAMILIES, NUMBERS, Split, values_of
from xai_lib.studies.foundations_models_linear import (
    CHANGING,
    KEPT,
    OPPOSITE,
    PENALTIES,
    RELATIVE,
    RULER_ACCURACY,
    SAME_ANSWER,
    SAME_SCORES,
    SAME_WEIGHTS,
    divided,
    neighbour_table,
)
from xai_lib.studies.foundations_models_maps import CHANCE, DISPARITY, PERPLEXITIES, PRESERVED, SEEDS, SHARED

MEASURED = ("mean radius", "mean texture", "mean concave points")
"""Columns shown of a patient and its neighbours."""
WORDS: Mapping[str, tuple[str, str, str]] = {
    "largest class": ("the most frequent class", "the answer", "it has learned nothing about a patient"),
    "logistic regression": (
        "a weight for each column",
        "a choice of penalty and of units",
        "weights of columns that go together are those of the penalty and of the sample",
    ),
    "k nearest neighbours": (
        "the patients that voted",
        "all training rows, and a choice of ruler",
        "it names patients and no reasons",
    ),
    "linear SVM": ("a weight for each column; who holds the border", "no probability", "as logistic regression"),
    "RBF SVM": ("who holds the border", "no weight for a column", "a score is a sum over many patients"),
    "decision tree": ("every question up to the answer", "some accuracy", "another sample asks other questions"),
    "random forest": (
        "importances of columns",
        "no rule to follow",
        "impurity importance favours columns of many values; no importance has a direction",
    ),
    "gradient boosting": (
        "importances; partial effects by agnostic tools",
        "no rule to follow",
        "the tools look at inputs and outputs, so they have their own limits",
    ),
    "MLP": ("nothing in its weights", "gradients and other tools", "other weights give the same function"),
}
"""What can be read, what that costs, where it stops."""


def coefficients(frame: pd.DataFrame) -> None:
    """How much the fits to resamples have in common, under both penalties."""
    lines = [
        {
            "": penalty,
            "both signs": f"{values_of(frame, CHANGING, penalty)[0]:.0f} of 30",
            "opposite to alone": f"{values_of(frame, OPPOSITE, penalty)[0]:.0f} of 30",
            "deviation / mean (median)": float(np.median(values_of(frame, RELATIVE, penalty))),
            "correlation of coefficients": estimates_of(frame, SAME_WEIGHTS, [penalty])[0][1],
            "correlation of scores": estimates_of(frame, SAME_SCORES, [penalty])[0][1],
        }
        for penalty in PENALTIES
    ]
    plotting.table(
        pd.DataFrame(lines),
        caption="Two resamples of the training rows, two models: how far their coefficients and their scores of test patients agree. Means over pairs of "
        "resamples with 95 % intervals. *Opposite to alone*: the mean coefficient has not the sign of a fit to that column alone.",
        name="coefficients-agree",
    )


def neighbours(split: Split, p: Mapping[str, Any]) -> None:
    """The neighbours of the most divided test patient."""
    found = neighbour_table(split, divided(split, p["k"]), p["k"], MEASURED)
    benign = int((found["class"][1:] == "benign").sum())
    plotting.table(
        found,
        caption=f"The test patient with the most divided vote ({benign} of {p['k']} for benign) and the training patients that voted.",
        name="neighbours",
    )


def rulers(frame: pd.DataFrame) -> None:
    """How many neighbours stay with another ruler."""
    labels = list(frame[frame.metric == KEPT].method.unique())
    lines = [
        {
            "ruler": label,
            "neighbours kept": estimates_of(frame, KEPT, [label])[0][1],
            "answers kept": estimates_of(frame, SAME_ANSWER, [label])[0][1],
            "accuracy": estimates_of(frame, RULER_ACCURACY, [label])[0][1],
        }
        for label in labels
    ]
    plotting.table(
        pd.DataFrame(lines),
        caption="Share of a test patient's neighbours that stay when the columns are measured otherwise, share of the answers that do, and accuracy of the vote. Means over splits with 95 % intervals.",
        name="rulers",
    )


def pictures(frame: pd.DataFrame, datasets: Sequence[str]) -> None:
    """What pictures keep of the input, and what two of them have in common."""
    lines = []
    for dataset in datasets:
        own = frame[frame.dataset == dataset]
        for label in ("PCA", "t-SNE", CHANCE):
            lines.append(
                {
                    "data": dataset,
                    "": f"{label} against the input",
                    "same neighbours": _one(own, PRESERVED, label),
                    "disparity": np.nan,
                }
            )
        for label in (SEEDS, PERPLEXITIES):
            if (own.method == label).any():
                estimate = {"same neighbours": _one(own, SHARED, label), "disparity": _one(own, DISPARITY, label)}
                lines.append({"data": dataset, "": f"t-SNE, {label}", **estimate})
    plotting.table(
        pd.DataFrame(lines),
        caption="Share of each row's ten nearest neighbours that two sets of points have in common, and Procrustes disparity of two pictures (0 the same, 1 nothing in "
        "common). Means over pictures with 95 % intervals; PCA and chance are single numbers.",
        name="pictures",
        undefined="not two pictures",
    )


def closing(frame: pd.DataFrame) -> None:
    """All models: what can be read, what it costs, where it stops, how accurate they are."""
    lines = []
    for label in FAMILIES:
        read, cost, stops = WORDS[label]
        kept = np.median(values_of(frame, NUMBERS, label))
        accuracy = stats.bootstrap_interval(values_of(frame, ACCURACY, label))
        holds = f"{kept:,.0f} number{'s' if kept != 1 else ''}"
        lines.append(
            {
                "model": label,
                "what can be read": read,
                "what it holds": holds,
                "what that costs": cost,
                "where it stops": stops,
                "accuracy": accuracy,
            }
        )
    plotting.table(
        pd.DataFrame(lines),
        caption="What can be read off each model and where that stops. *What it holds*: numbers that a prediction needs, median over splits; accuracy with its "
        "95 % interval over splits.",
        name="closing",
    )


def _one(frame: pd.DataFrame, metric: str, label: str) -> Any:
    values = values_of(frame, metric, label)
    return number(float(values[0])) if len(values) == 1 else stats.bootstrap_interval(values)
