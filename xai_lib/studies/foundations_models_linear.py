"""Lesson `foundations_models`: what can be read off coefficients, neighbours and support vectors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from xai_lib import agreement
from xai_lib.studies.foundations_models import LINEAR, Split, bootstraps, draw, logistic, neighbours, support_vectors, tidy
from xai_lib.threads import on_one_thread

PAIR = ("mean radius", "mean perimeter")
"""Two names for nearly one measurement: a perimeter is 2 pi times a radius, but for the shape."""
PENALTIES = ("usual penalty", "weak penalty")
COEFFICIENT, SPREAD, POSITIVE, ALONE = "coefficient", "deviation over resamples", "resamples with a positive sign", "alone"
CHANGING, OPPOSITE, RELATIVE = "features of both signs", "features of the opposite sign alone", "deviation over |mean|"
SAME_WEIGHTS, SAME_SCORES = "correlation of the coefficients", "correlation of the scores"
IN_PAIR = "weight beside the other"
SUM, APART, PAIRED = "deviation of the sum", "deviation of the difference", "correlation of the pair"
TOTAL, CONTRAST = "sum of the pair", "difference of the pair"
LOSS, EVEN = "log-loss of the pair, training rows", "equal weights"
KEPT, RULER_ACCURACY = "neighbours kept", "accuracy with this ruler"
LESS, SAME_ANSWER = "accuracy minus standardised", "answers kept"
VECTORS, MARGIN = "support vectors", "width of the margin"
HALF, REFIT = "vectors for half of the score", "change without the others"
MINORITY = 0.05
"""A feature has both signs when each occurs in at least this share of the resamples."""


@dataclass(frozen=True)
class Resampled:
    """Fits to resamples of the training rows; the first axis is the penalty, in the order of PENALTIES.

    weights  (2, b, d)
    scores   (2, b, n_test), w.x + b of the test rows
    pair     (2, b, 2), weights of fits to the two features of PAIR only
    alone    (d,), weight of each feature in a fit to it alone, usual penalty
    losses   label -> what fits to the two features of PAIR lose on all training rows (`pair_losses`)
    """

    weights: np.ndarray
    scores: np.ndarray
    pair: np.ndarray
    alone: np.ndarray
    losses: Mapping[str, float]


@on_one_thread
def resampled(split: Split, p: Mapping[str, Any]) -> Resampled:
    """Fit every resample under both penalties. The ruler stays: all are standardised by the training rows."""
    rows = bootstraps(len(split.x_train), p["n_bootstraps"], p["seed"], "coefficients")
    own = [split.columns.index(name) for name in PAIR]
    weights, scores, pair = [], [], []
    for penalty in (p["penalty"], p["weak_penalty"]):
        fits = [logistic(penalty).fit(split.x_train[at], split.y_train[at]) for at in rows]
        weights.append([one.coef_[0] for one in fits])
        scores.append([one.decision_function(split.x_test) for one in fits])
        pair.append([logistic(penalty).fit(split.x_train[at][:, own], split.y_train[at]).coef_[0] for at in rows])
    single = [logistic(p["penalty"]).fit(split.x_train[:, [j]], split.y_train).coef_[0, 0] for j in range(len(split.columns))]
    losses = pair_losses(split.x_train[:, own], split.y_train, p)
    return Resampled(np.array(weights), np.array(scores), np.array(pair), np.array(single), losses)


def pair_losses(x: np.ndarray, y: np.ndarray, p: Mapping[str, Any]) -> dict[str, float]:
    """sum_i log(1 + exp(-t_i z(x_i))) of fits to two columns (n, 2), without the penalty: under both, and with equal weights.

    Equal weights are a fit to the sum of the columns under the weak penalty: the best that an even share can do.
    """
    fits = zip((*PENALTIES, EVEN), (p["penalty"], p["weak_penalty"], p["weak_penalty"]), strict=True)
    found = {}
    for label, penalty in fits:
        rows = x.sum(axis=1, keepdims=True) if label == EVEN else x
        z = logistic(penalty).fit(rows, y).decision_function(rows)
        found[label] = float(np.logaddexp(0, np.where(y == 1, -z, z)).sum())
    return found


def both_signs(weights: np.ndarray) -> np.ndarray:
    """Whether each sign occurs in at least MINORITY of the resamples: (b, d) -> (d,) bool.

    >>> both_signs(np.array([[1.0, 1.0], [2.0, -1.0]])).tolist()
    [False, True]
    """
    positive = (weights > 0).mean(axis=0)
    return (positive >= MINORITY) & (positive <= 1 - MINORITY)


def between_pairs(values: np.ndarray) -> np.ndarray:
    """Correlation between resamples 0 and 1, 2 and 3, ...: (b, k) -> (b // 2,); no resample is used twice."""
    half = len(values) // 2
    return agreement.correlation(values[0 : 2 * half : 2], values[1 : 2 * half : 2])


def coefficient_rows(found: Resampled, split: Split) -> pd.DataFrame:
    """What the fits have in common and what not, feature by feature and in all."""
    frames = [tidy(ALONE, "usual penalty", found.alone, split.columns, model=LINEAR)]
    for penalty, weights, scores, pair in zip(PENALTIES, found.weights, found.scores, found.pair, strict=True):
        mean, spread = weights.mean(axis=0), weights.std(axis=0, ddof=1)
        names = [f"resamples {2 * k} and {2 * k + 1}" for k in range(len(weights) // 2)]
        each = {COEFFICIENT: mean, SPREAD: spread, POSITIVE: (weights > 0).mean(axis=0), RELATIVE: spread / np.abs(mean)}
        frames += [tidy(metric, penalty, values, split.columns, model=LINEAR) for metric, values in each.items()]
        frames += [
            tidy(SAME_WEIGHTS, penalty, between_pairs(weights), names, model=LINEAR),
            tidy(SAME_SCORES, penalty, between_pairs(scores), names, model=LINEAR),
        ]
        each_pair = zip(PAIR, pair.T, strict=True)
        frames += [
            tidy(IN_PAIR, f"{own}, {penalty}", values, [f"resample {b}" for b in range(len(values))], model=LINEAR)
            for own, values in each_pair
        ]
        once = {
            CHANGING: both_signs(weights).sum(),
            OPPOSITE: (np.sign(mean) != np.sign(found.alone)).sum(),
            SUM: pair.sum(axis=1).std(ddof=1),
            APART: (pair[:, 0] - pair[:, 1]).std(ddof=1),
        }
        frames += [tidy(metric, penalty, value, model=LINEAR) for metric, value in once.items()]
        both = {TOTAL: pair.sum(axis=1), CONTRAST: pair[:, 0] - pair[:, 1]}
        every = [f"resample {b}" for b in range(len(pair))]
        frames += [tidy(metric, penalty, values, every, model=LINEAR) for metric, values in both.items()]
    frames += [tidy(LOSS, label, value, model=LINEAR) for label, value in found.losses.items()]
    own = [split.columns.index(name) for name in PAIR]
    frames.append(tidy(PAIRED, "training rows", np.corrcoef(split.x_train[:, own].T)[0, 1], model="data"))
    return pd.concat(frames, ignore_index=True)


# --- neighbours ---------------------------------------------------------------------------------------------------------------


def divided(split: Split, k: int) -> int:
    """The test row whose k neighbours are most evenly divided; the first such one."""
    share = neighbours(k).fit(split.x_train, split.y_train).predict_proba(split.x_test)[:, 1]
    return int(np.abs(share - 0.5).argmin())


def neighbour_table(split: Split, row: int, k: int, shown: Sequence[str]) -> pd.DataFrame:
    """One patient and the k nearest training patients, nearest first, with a few measurements in original units."""
    fitted = neighbours(k).fit(split.x_train, split.y_train)
    distance, at = (found[0] for found in fitted.kneighbors(split.x_test[[row]]))
    classes = ("malignant", "benign")
    own = [split.columns.index(name) for name in shown]

    def line(who: str, name: str, label: int, away: float, values: np.ndarray) -> dict[str, Any]:
        return {"": who, "row": name, "class": classes[label], "distance": away, **dict(zip(shown, values[own], strict=True))}

    lines = [line("asked", split.ids[split.test[row]], int(split.y_test[row]), 0.0, split.raw_test[row])]
    for place, (away, i) in enumerate(zip(distance, at, strict=True), 1):
        lines.append(line(f"{place}", split.ids[split.train[i]], int(split.y_train[i]), float(away), split.raw_train[i]))
    return pd.DataFrame(lines)


def rulers(split: Split, seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(training, test) rows measured in other ways."""
    low, high = split.raw_train.min(axis=0), split.raw_train.max(axis=0)
    unit = [(x - low) / (high - low) for x in (split.raw_train, split.raw_test)]
    generator = np.random.default_rng(draw(seed, "noise columns", split.number))
    noisy = [np.hstack([x, generator.normal(size=x.shape)]) for x in (split.x_train, split.x_test)]
    return {
        "standardised": (split.x_train, split.x_test),
        "range 0 to 1": (unit[0], unit[1]),
        "original units": (split.raw_train, split.raw_test),
        "with as many noise columns": (noisy[0], noisy[1]),
    }


@on_one_thread
def ruler_rows(made: Sequence[Split], p: Mapping[str, Any]) -> pd.DataFrame:
    """How many of the k neighbours and of the answers stay with another ruler, and how accurate the vote is.

    Means over a split's test rows; `LESS` is the accuracy less that of the first ruler on the same split.
    """
    found: dict[str, list[tuple[float, float, float]]] = {}
    for split in made:
        own, said = None, None
        for label, (train, test) in rulers(split, p["seed"]).items():
            fitted = neighbours(p["k"]).fit(train, split.y_train)
            near = fitted.kneighbors(test, return_distance=False)
            own = near if own is None else own
            kept = np.mean([len(set(a) & set(b)) / p["k"] for a, b in zip(own, near, strict=True)])
            answers = fitted.predict(test)
            said = answers if said is None else said
            same, right = (answers == said).mean(), (answers == split.y_test).mean()
            found.setdefault(label, []).append((float(kept), float(right), float(same)))
    names = [f"split {split.number}" for split in made]
    frames, first = [], np.array(next(iter(found.values())))[:, 1]
    for place, (label, values) in enumerate(found.items()):
        measured = dict(zip((KEPT, RULER_ACCURACY, SAME_ANSWER), np.array(values).T, strict=True))
        if place:
            measured[LESS] = measured[RULER_ACCURACY] - first
        frames += [tidy(m, label, v, names, model="k nearest neighbours") for m, v in measured.items()]
    return pd.concat(frames, ignore_index=True)


# --- support vectors ----------------------------------------------------------------------------------------------------------


def terms(fitted: Any, rows: np.ndarray) -> np.ndarray:
    """alpha_i y_i k(x_i, x) of every support vector: (n, vectors); their sum and the intercept are the score of an RBF SVM."""
    from sklearn.metrics.pairwise import rbf_kernel

    kernel = rbf_kernel(rows, fitted.support_vectors_, gamma=fitted._gamma)
    return np.asarray(kernel * fitted.dual_coef_[0])


def needed(parts: np.ndarray, share: float = 0.5) -> np.ndarray:
    """How many of the largest |terms| make up a share of the sum of all |terms|: (n, k) -> (n,).

    >>> needed(np.array([[4.0, -1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]])).tolist()
    [1, 2]
    """
    size = -np.sort(-np.abs(parts), axis=1)
    reached = size.cumsum(axis=1) >= share * size.sum(axis=1, keepdims=True) * (1 - 1e-12)
    return np.asarray(reached.argmax(axis=1) + 1)


@on_one_thread
def vector_rows(made: Sequence[Split]) -> pd.DataFrame:
    """Support vectors of both kernels: how many, how wide the margin, and what is lost when all other rows are deleted."""
    frames = []
    names = [f"split {split.number}" for split in made]
    for kernel, label in (("linear", "linear SVM"), ("rbf", "RBF SVM")):
        found: dict[str, list[float]] = {}
        for split in made:
            fitted = support_vectors(kernel).fit(split.x_train, split.y_train)
            found.setdefault(VECTORS, []).append(len(fitted.support_))
            if kernel == "linear":
                found.setdefault(MARGIN, []).append(2 / float(np.linalg.norm(fitted.coef_)))
            else:
                found.setdefault(HALF, []).append(float(needed(terms(fitted, split.x_test)).mean()))
            found.setdefault(REFIT, []).append(refitted(fitted, split))
        frames += [tidy(metric, label, values, names, model=label) for metric, values in found.items()]
    return pd.concat(frames, ignore_index=True)


def refitted(fitted: Any, split: Split) -> float:
    """Largest change of a test row's score when the model is fitted again to its support vectors alone."""
    from sklearn.base import clone

    again = clone(fitted).set_params(gamma=fitted._gamma if fitted.kernel == "rbf" else "scale")
    again.fit(split.x_train[fitted.support_], split.y_train[fitted.support_])
    return float(np.abs(again.decision_function(split.x_test) - fitted.decision_function(split.x_test)).max())


def signed_margins(split: Split) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Label -> (y f(x) of the training rows with y = -1 or 1, whether the row is a support vector)."""
    found = {}
    for kernel, label in (("linear", "linear SVM"), ("rbf", "RBF SVM")):
        fitted = support_vectors(kernel).fit(split.x_train, split.y_train)
        holds = np.isin(np.arange(len(split.y_train)), fitted.support_)
        found[label] = (np.where(split.y_train == 1, 1, -1) * fitted.decision_function(split.x_train), holds)
    return found
