"""Lesson `foundations_agnostic`: tools that describe a model over a table: curves, importance, interactions, prototypes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from sklearn import inspection
from sklearn.metrics.pairwise import euclidean_distances, rbf_kernel

from xai_lib import effects
from xai_lib.prototypes import criticisms, mmd2, prototypes
from xai_lib.stats import Estimate, bootstrap_interval
from xai_lib.studies.foundations_agnostic import SHORT, TREES, Asked, Cost, Task, costing, costs, malignant, tidy

PDP, ALE, PERMUTATION, H, PROTOTYPES = (
    "PDP and ICE",
    "ALE",
    "permutation importance",
    "H-statistic",
    "prototypes and criticisms",
)
RISE, FALL, SHARE, SIZE, DISCREPANCY = "rise of the curve", "fall of accuracy", "H", "size of the interaction", "MMD"
SHARE_ALL, SIZE_ALL, H_ALL = "H of all rows", "size of the interaction, all rows", "H-statistic of all rows"
DRAWN, OVER_SHUFFLES, OVER_ROWS = "fall of accuracy, drawn column", "over shuffles", "over rows"
WRONG, PUT_RIGHT, PUT_WRONG = "wrong answers", "wrong rows put right", "right rows put wrong"
ABOVE, BELOW = "columns with a mean fall above 0", "columns with an interval below 0"
ALONE, TWIN, TWINS = "the column alone", "the column and its copy", "forest of one or two columns"
OTHERS = ("worst texture", "worst area", "worst smoothness", "mean concavity", "area error", "worst symmetry")
GRID = 20
"""Values of the column at which curves are drawn."""
AGREEMENT = "nearest prototype has the model's class"


@dataclass(frozen=True)
class Curves:
    """What one model makes of one column.

    at          (g,) values of the column
    ice         (n, g) score of each row with the column set to them
    mean        g estimates: partial dependence, interval over rows
    level       the same less its mean over the rows (`centred`), with the interval of that
    ale         the accumulated local effect
    cost, ale_cost  what each asked
    """

    at: np.ndarray
    ice: np.ndarray
    mean: tuple[Estimate, ...]
    level: tuple[Estimate, ...]
    ale: effects.Ale
    cost: Cost
    ale_cost: Cost


def individual(asked: Asked, rows: np.ndarray, column: int, at: np.ndarray) -> np.ndarray:
    """(n, g) individual conditional expectation by scikit-learn, f(at_g, x_i,rest); its mean over i is partial dependence."""
    found = inspection.partial_dependence(asked, rows, [column], kind="individual", method="brute", custom_values={column: at})
    return np.asarray(found["individual"][0], dtype=np.float64)


def centred(ice: np.ndarray, at: np.ndarray, column: np.ndarray) -> np.ndarray:
    """(n, g) individual curves, each less its own mean over the rows' values of the column: ice - (ice @ w) 1'.

    w (g,) are the mean weights with which the rows lie between the values `at`; beyond them, at the nearer end. The mean over
    i is partial dependence less its mean over the rows, as an ALE is centred, and so has the interval of that curve.
    """
    weights = np.array([np.interp(column, at, one).mean() for one in np.eye(len(at))])
    return np.asarray(ice - (ice @ weights)[:, None])


def curves(task: Task, p: Mapping[str, Any]) -> dict[str, Curves]:
    """PDP, ICE and ALE of the task's column, over the training rows, from its 2nd to its 98th percentile."""
    first, last = np.quantile(task.x[:, task.column], [0.02, 0.98]).tolist()
    at, found = np.linspace(first, last, GRID), {}
    for name, model in task.models.items():
        with costing(model) as cost:
            ice = individual(model, task.x, task.column, at)
        with costing(model) as ale_cost:
            ale = effects.ale(model.predict, task.x, task.column, bins=GRID - 1, seed=task.seed)
        moved = centred(ice, at, task.x[:, task.column])
        mean, level = (tuple(bootstrap_interval(own, resamples=500) for own in lines.T) for lines in (ice, moved))
        found[name] = Curves(at, ice, mean, level, ale, cost, ale_cost)
    return found


def rise(curve: Curves, method: str) -> float:
    """Last value less first, over the span of the PDP's grid."""
    if method == PDP:
        return curve.mean[-1].value - curve.mean[0].value
    return float(np.diff(np.interp(curve.at[[0, -1]], curve.ale.edges, curve.ale.values))[0])


def curve_rows(found: Mapping[str, Curves]) -> pd.DataFrame:
    """Results of `curves`."""
    rows = []
    for name, curve in found.items():
        rows += [tidy(RISE, method, rise(curve, method), name) for method in (PDP, ALE)]
        rows += costs(PDP, name, curve.cost) + costs(ALE, name, curve.ale_cost)
    return pd.DataFrame(rows)


def shuffled(asked: Asked, rows: np.ndarray, loss: Callable[[np.ndarray], float], *, repeats: int, seed: int) -> np.ndarray:
    """(d, repeats) rise of a loss of the scores (n,) when a column is shuffled, by scikit-learn."""

    def quality(model: Asked, x: np.ndarray, _: Any) -> float:
        return -loss(model.predict(x))

    found = inspection.permutation_importance(
        asked, rows, np.zeros(len(rows)), scoring=quality, n_repeats=repeats, random_state=seed
    )
    return np.asarray(found.importances)


def errors(targets: np.ndarray, answers: list[np.ndarray] | None = None) -> Callable[[np.ndarray], float]:
    """Share of wrong answers, as a loss; which rows were right is added to `answers` with every call."""

    def loss(scores: np.ndarray) -> float:
        right = (scores < 0.5).astype(int) == targets
        if answers is not None:
            answers.append(right)
        return float((~right).mean())

    return loss


def signs(falls: np.ndarray) -> dict[str, int]:
    """How many columns of (d, repeats) falls have a mean above 0, and how many a 95 % interval wholly below it."""
    below = sum(bootstrap_interval(own, resamples=1000).high < 0 for own in falls)
    return {ABOVE: int((falls.mean(axis=1) > 0).sum()), BELOW: int(below)}


def drawn_rows(task: Task, name: str, falls: np.ndarray, answers: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    """The fall for the task's column, over shuffles and over rows: what an interval over shuffles holds fixed.

    answers  (n,) bools, which rows were right: first unshuffled, then in scikit-learn's order, `repeats` for each column
    """
    repeats = falls.shape[1]
    first = 1 + task.column * repeats
    right, then = answers[0].astype(float), np.mean(answers[first : first + repeats], axis=0)
    fall = right - then
    rows = [tidy(DRAWN, OVER_SHUFFLES, float(v), name, seed=k) for k, v in enumerate(falls[task.column])]
    rows += [tidy(DRAWN, OVER_ROWS, float(v), name, sample=i) for i, v in zip(task.test.ids, fall, strict=True)]
    counts = {WRONG: (1 - right).sum(), PUT_RIGHT: -fall[right == 0].sum(), PUT_WRONG: fall[right == 1].sum(), **signs(falls)}
    return rows + [tidy(metric, PERMUTATION, float(v), name) for metric, v in counts.items()]


def importance(task: Task, p: Mapping[str, Any]) -> pd.DataFrame:
    """Fall of the accuracy on held-out rows by model and column; `seed` numbers the repeats. Then `drawn_rows`, and a twin.

    The twin: a forest fitted on the column with a copy of it beside it.
    """
    from sklearn.ensemble import RandomForestClassifier

    targets, rows = task.test.targets.numpy(), []
    for name, model in task.models.items():
        answers: list[np.ndarray] = []
        with costing(model) as cost:
            found = shuffled(model, task.x_test, errors(targets, answers), repeats=p["repeats"], seed=task.seed)
        rows += costs(PERMUTATION, name, cost) + drawn_rows(task, name, found, answers)
        rows += [
            tidy(FALL, c, float(v), name, seed=k) for c, own in zip(task.columns, found, strict=True) for k, v in enumerate(own)
        ]
    alone, twins = (np.column_stack([x[:, task.column]] * k) for x, k in ((task.x, 1), (task.x, 2)))
    for label, x in ((ALONE, alone), (TWIN, twins)):
        tested = np.column_stack([task.x_test[:, task.column]] * x.shape[1])
        own = Asked(malignant(RandomForestClassifier(TREES, random_state=task.seed, max_features=1).fit(x, task.y)), label)
        found = shuffled(own, tested, errors(targets), repeats=p["repeats"], seed=task.seed)[0]
        rows += [tidy(FALL, label, float(v), TWINS, seed=k) for k, v in enumerate(found)]
    return pd.DataFrame(rows)


def some_columns(task: Task, count: int) -> list[str]:
    """The task's column and others that measure something else, for what cannot be done with thirty."""
    return list(dict.fromkeys([task.columns[task.column], *OTHERS]))[:count]


def leading(frame: pd.DataFrame, count: int) -> list[str]:
    """The columns whose mean fall of accuracy lies furthest from 0 under some model, furthest first; ties in their order."""
    means = frame[(frame.metric == FALL) & frame.model.isin(SHORT)].groupby(["method", "model"], sort=False).value.mean()
    own = means.abs().groupby("method", sort=False).max()
    return [str(name) for name in own.sort_values(ascending=False, kind="stable").index[:count]]


def interaction(task: Task, chosen: Sequence[str], p: Mapping[str, Any]) -> pd.DataFrame:
    """H and its size for all pairs of the chosen columns, over random sets of training rows, and once on all of them.

    `seed` numbers the sets. H of few rows is too large (`effects.interactions`); all rows show by how much.
    """
    numbers, rows = [task.columns.index(name) for name in chosen], []

    def pairs(found: effects.Interactions, name: str, metrics: tuple[str, str], seed: int = 0) -> list[dict[str, Any]]:
        places = combinations(range(len(chosen)), 2)
        return [
            tidy(metric, f"{chosen[a]} × {chosen[b]}", float(values[a, b]), name, seed=seed)
            for a, b in places
            for metric, values in zip(metrics, (found.h, found.size), strict=True)
        ]

    for name, model in task.models.items():
        total = Cost()
        for draw in range(p["n_seeds"]):
            some = np.random.default_rng([task.seed, draw]).choice(len(task.x), p["h_rows"], replace=False)
            with costing(model) as cost:
                found = effects.interactions(model.predict, task.x[np.sort(some)], numbers)
            total = Cost(total.rows + cost.rows, total.seconds + cost.seconds)
            rows += pairs(found, name, (SHARE, SIZE), draw)
        with costing(model) as cost:
            found = effects.interactions(model.predict, task.x, numbers)
        rows += pairs(found, name, (SHARE_ALL, SIZE_ALL)) + costs(H, name, total) + costs(H_ALL, name, cost)
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Stand:
    """Prototypes and criticisms of the training rows.

    chosen, odd   numbers of rows
    mmd           root of `mmd2` after each prototype
    random        (draws, count) the same for random rows
    plane         (n, 2) the rows on their two first principal components, to draw them
    frame         results
    """

    chosen: tuple[int, ...]
    odd: tuple[int, ...]
    mmd: np.ndarray
    random: np.ndarray
    plane: np.ndarray
    frame: pd.DataFrame


def kernel_of(rows: np.ndarray, width: float) -> np.ndarray:
    """exp(-|x - x'|^2 / (2 s^2)), s = `width` times the median distance of two rows."""
    apart = euclidean_distances(rows)
    median = float(np.median(apart[np.triu_indices(len(rows), 1)]))
    return np.asarray(rbf_kernel(rows, gamma=1 / (2 * (width * median) ** 2)))


def stand(task: Task, p: Mapping[str, Any]) -> Stand:
    """Choose prototypes and criticisms, with random rows as a control.

    `AGREEMENT`: share of held-out rows whose nearest prototype is called what they are called, by each model.
    """
    from sklearn.decomposition import PCA

    nobody = Asked(lambda rows: np.zeros(len(rows)))
    with costing(nobody) as cost:
        kernel = kernel_of(task.x, p["kernel_width"])
        chosen = prototypes(kernel, p["prototypes"])
        odd = criticisms(kernel, chosen, p["prototypes"])
    sizes, generator = range(1, len(chosen) + 1), np.random.default_rng(task.seed)
    others = [generator.permutation(len(task.x))[: len(chosen)].tolist() for _ in range(20)]
    mmd = np.array([_root(kernel, chosen[:k]) for k in sizes])
    random = np.array([[_root(kernel, other[:k]) for k in sizes] for other in others])
    rows = [tidy(DISCREPANCY, "prototypes", float(mmd[-1]), "none")]
    rows += [tidy(DISCREPANCY, "random rows", float(v), "none", seed=k) for k, v in enumerate(random[:, -1])]
    rows += costs(PROTOTYPES, "none", cost)
    for name, model in task.models.items():
        for label, sets in (("prototypes", [list(chosen)]), ("random rows", others)):
            for k, own in enumerate(sets):
                near = euclidean_distances(task.x_test, task.x[own]).argmin(axis=1)
                same = (model.function(task.x[own])[near] < 0.5) == (model.function(task.x_test) < 0.5)
                rows.append(tidy(AGREEMENT, label, float(same.mean()), name, seed=k))
    return Stand(chosen, odd, mmd, random, PCA(2).fit_transform(task.x), pd.DataFrame(rows))


def _root(kernel: np.ndarray, chosen: Sequence[int]) -> float:
    return max(mmd2(kernel, chosen), 0.0) ** 0.5
