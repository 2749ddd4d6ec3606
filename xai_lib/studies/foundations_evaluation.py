"""Lesson `foundations_evaluation`: how explanations are evaluated, and how each evaluation can be won without explaining."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from xai_lib.compendium.results import COLUMNS
from xai_lib.concordance import kendall_w
from xai_lib.stats import Estimate
from xai_lib.studies import foundations_evaluation_digits as digits
from xai_lib.studies import foundations_evaluation_figures as figures
from xai_lib.studies import foundations_evaluation_leak as leak
from xai_lib.studies import foundations_evaluation_places as places
from xai_lib.studies import foundations_evaluation_tables as tables
from xai_lib.studies import foundations_evaluation_toys as toys
from xai_lib.studies.foundations_evaluation_toys import Toy

__all__ = [
    "all_toys",
    "compared",
    "concordance_of",
    "concordance_rows",
    "digits",
    "figures",
    "joined",
    "judged",
    "ranked",
    "resampled",
    "tables",
    "toy_rows",
]

TOYS = {
    "sky": toys.sky,
    "own_baseline": toys.own_baseline,
    "copies": toys.copies,
    "shifted": toys.shifted,
    "leak": leak.leak,
    "certificate": toys.certificate,
    "bookkeeping": toys.bookkeeping,
    "randomised": toys.randomised,
    "background": places.background,
    "occluded": places.occluded,
    "steady": places.steady,
}
RIGHT, WRONG = "right map", "wrong map"
AGREEMENT = "concordance of evaluations"


def all_toys() -> dict[str, Toy]:
    """Every toy by name, in the order of the page."""
    return {name: make() for name, make in TOYS.items()}


def joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Rows under each other."""
    return pd.concat(frames, ignore_index=True)


def toy_rows(made: Mapping[str, Toy]) -> pd.DataFrame:
    """Scores of the right and the wrong map of every toy, of its control and of its further scores, as tidy rows."""
    lines = []
    for name, toy in made.items():
        scores = {f"toy: {toy.evaluation}": toy.scores, f"control: {toy.evaluation}": toy.revealed}
        scores |= {f"toy: {other}": pair for other, pair in toy.also.items()}
        lines += [(name, label, m, v) for m, both in scores.items() for label, v in zip((RIGHT, WRONG), both, strict=True)]
    same = {"dataset": "toy", "method_parameters": {}, "metric_parameters": {}, "sample": "", "seed": 0, "flag": ""}
    made_rows = [
        {**same, "model": model, "method": method, "metric": metric, "value": value, "seconds": float("nan")}
        for model, method, metric, value in lines
    ]
    return pd.DataFrame(made_rows)[list(COLUMNS)]


def judged(fill: str) -> dict[str, tuple[str, int]]:
    """The evaluations that are compared: name on the page -> metric in the results, and 1 if larger is better, else -1."""
    return {
        f"region perturbation, {fill}": (f"{digits.AOPC}, {fill}", 1),
        "Sensitivity-n": (digits.SENSITIVE, 1),
        "RemOve And Retrain": (digits.ROAR, -1),
        "randomisation": (digits.CHECK, -1),
        "energy in box": (digits.ENERGY, 1),
        "Max-Sensitivity": (digits.STABLE, -1),
    }


def compared(frame: pd.DataFrame, fill: str, methods: Sequence[str] = tuple(digits.PANEL)) -> dict[str, np.ndarray]:
    """What each evaluation says, (images, methods), larger is better, the images in the same order everywhere."""
    found = {}
    for name, (metric, sign) in judged(fill).items():
        table = frame[frame.metric == metric].pivot_table(index="sample", columns="method", values="value", dropna=False)
        found[name] = sign * table.sort_index()[list(methods)].to_numpy()
    return found


def concordance_of(scores: Mapping[str, np.ndarray], *, resamples: int = 500, seed: int = 0) -> Estimate:
    """Kendall's W of evaluations that rank methods by their means over images, and the middle 95 % of `resampled`.

    That is the spread over the images, no confidence interval: drawing anew swaps ranks that are close, which lowers a W above
    chance. On the 60 digits of the page, taken for all there are, it covers W in 88 of 100 samples; the basic interval
    2 W - q, corrected for the bias, in 66, and the bias-corrected percentiles of Efron in 82.

    Args:
        scores: evaluation -> (images, methods), larger is better; the same images, in the same order.
        resamples: of the images.
        seed: of the resampling.
    """
    stacked = np.stack(list(scores.values()))
    low, high = np.nanpercentile(resampled(scores, resamples=resamples, seed=seed), [2.5, 97.5])
    return Estimate(float(kendall_w(means(stacked))[0]), float(low), float(high), stacked.shape[1])


def resampled(scores: Mapping[str, np.ndarray], *, resamples: int = 500, seed: int = 0) -> np.ndarray:
    """(resamples,) Kendall's W on as many images drawn with replacement, the same ones in every evaluation.

    Args:
        scores, resamples, seed: as in `concordance_of`.
    """
    stacked = np.stack(list(scores.values()))
    n = stacked.shape[1]
    random = np.random.default_rng(seed)
    return kendall_w(np.stack([means(stacked[:, random.integers(n, size=n)]) for _ in range(resamples)]))


def means(stacked: np.ndarray) -> np.ndarray:
    """Means over images, rounded to ten digits so that equal scores tie: (evaluations, images, methods) -> without images."""
    return np.asarray(np.nanmean(stacked, axis=1).round(10))


def ranked(frame: pd.DataFrame, p: Mapping[str, Any]) -> pd.DataFrame:
    """Show what six evaluations say of the same maps, and return how far they agree, as rows."""
    found, made = concordance_rows(frame, p)
    figures.ranks(frame, judged(p["fill"]), list(digits.PANEL), found)
    return made


def concordance_rows(frame: pd.DataFrame, p: Mapping[str, Any]) -> tuple[dict[str, Estimate], pd.DataFrame]:
    """Kendall's W over all maps of the panel, and over those that ask no model; as estimates and as rows.

    The rows are W, low and high end of its spread over digits drawn anew, and the mean over these draws.
    """
    both = {"all six maps": tuple(digits.PANEL), "maps without a model": digits.CONTROLS}
    asked = {label: compared(frame, p["fill"], own) for label, own in both.items()}
    found = {label: concordance_of(scores, seed=p["seed"]) for label, scores in asked.items()}
    drawn = {label: float(np.nanmean(resampled(scores, seed=p["seed"]))) for label, scores in asked.items()}
    same = {"dataset": "mnist_5k", "model": "mnist_cnn", "method_parameters": {}, "sample": "", "seed": p["seed"], "flag": ""}
    lines = [
        {
            **same, "method": label, "metric": f"{AGREEMENT}{end}", "value": value,
            "metric_parameters": {"fill": p["fill"]}, "seconds": float("nan"),
        }
        for label, e in found.items()
        for end, value in {"": e.value, ", low": e.low, ", high": e.high, ", mean of resamples": drawn[label]}.items()
    ]  # fmt: skip
    return found, pd.DataFrame(lines)[list(COLUMNS)]
