"""Lesson `foundations_agnostic`: tools that describe a model over a table: curves, importance, interactions, prototypes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
    ale         the accumulated local effect
    cost, ale_cost  what each asked
    """

    at: np.ndarray
    ice: np.ndarray
    mean: tuple[Estimate, ...]
    ale: effects.Ale
    cost: Cost
    ale_cost: Cost


def individual(asked: Asked, rows: np.ndarray, column: int, at: np.ndarray) -> np.ndarray:
    """(n, g) individual conditional expectation by scikit-learn, f(at_g, x_i,rest); its mean over i is partial dependence."""
    found = inspection.partial_dependence(asked, rows, [column], kind="individual", method="brute", custom_values={column: at})
    return np.asarray(found["individual"][0], dtype=np.float64)


def curves(task: Task, p: Mapping[str, Any]) -> dict[str, Curves]:
    """PDP, ICE and ALE of the task's column, over the training rows, from its 2nd to its 98th percentile."""
    first, last = np.quantile(task.x[:, task.column], [0.02, 0.98]).tolist()
    at, found = np.linspace(first, last, GRID), {}
    for name, model in task.models.items():
        with costing(model) as cost:
            ice = individual(model, task.x, task.column, at)
        with costing(model) as ale_cost:
            ale = effects.ale(model.predict, task.x, task.column, bins=GRID - 1, seed=task.seed)
        mean = tuple(bootstrap_interval(column, resamples=500) for column in ice.T)
        found[name] = Curves(at, ice, mean, ale, cost, ale_cost)
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


def errors(targets: np.ndarray) -> Callable[[np.ndarray], float]:
    """Share of wrong answers, as a loss."""
    return lambda scores: float(((scores < 0.5).astype(int) != targets).mean())


def importance(task: Task, p: Mapping[str, Any]) -> pd.DataFrame:
    """Fall of the accuracy on held-out rows by model and column; `seed` numbers the repeats. Then with a twin of the column.

    The twin: a forest fitted on the table with a copy of the column beside it.
    """
    from sklearn.ensemble import RandomForestClassifier

    loss, rows = errors(task.test.targets.numpy()), []
    for name, model in task.models.items():
        with costing(model) as cost:
            found = shuffled(model, task.x_test, loss, repeats=p["repeats"], seed=task.seed)
        rows += costs(PERMUTATION, name, cost)
        rows += [
            tidy(FALL, c, float(v), name, seed=k) for c, own in zip(task.columns, found, strict=True) for k, v in enumerate(own)
        ]
    alone, twins = (np.column_stack([x[:, task.column]] * k) for x, k in ((task.x, 1), (task.x, 2)))
    for label, x in ((ALONE, alone), (TWIN, twins)):
        tested = np.column_stack([task.x_test[:, task.column]] * x.shape[1])
        own = Asked(malignant(RandomForestClassifier(TREES, random_state=task.seed, max_features=1).fit(x, task.y)), label)
        found = shuffled(own, tested, loss, repeats=p["repeats"], seed=task.seed)[0]
        rows += [tidy(FALL, label, float(v), TWINS, seed=k) for k, v in enumerate(found)]
    return pd.DataFrame(rows)


def some_columns(task: Task, count: int) -> list[str]:
    """The task's column and others that measure something else, for what cannot be done with thirty."""
    return list(dict.fromkeys([task.columns[task.column], *OTHERS]))[:count]


def leading(frame: pd.DataFrame, count: int) -> list[str]:
    """The columns with the largest mean fall of accuracy over all models, largest first; ties in their order."""
    own = frame[(frame.metric == FALL) & frame.model.isin(SHORT)].groupby("method", sort=False).value.mean()
    return [str(name) for name in own.sort_values(ascending=False, kind="stable").index[:count]]


def interaction(task: Task, chosen: Sequence[str], p: Mapping[str, Any]) -> pd.DataFrame:
    """H and its size for all pairs of the chosen columns, over random sets of training rows; `seed` numbers the sets."""
    numbers, rows = [task.columns.index(name) for name in chosen], []
    for name, model in task.models.items():
        total = Cost()
        for draw in range(p["n_seeds"]):
            some = np.random.default_rng([task.seed, draw]).choice(len(task.x), p["h_rows"], replace=False)
            with costing(model) as cost:
                found = effects.interactions(model.predict, task.x[np.sort(some)], numbers)
            total = Cost(total.rows + cost.rows, total.seconds + cost.seconds)
            for a in range(len(chosen)):
                for b in range(a + 1, len(chosen)):
                    pair = f"{chosen[a]} × {chosen[b]}"
                    rows.append(tidy(SHARE, pair, float(found.h[a, b]), name, seed=draw))
                    rows.append(tidy(SIZE, pair, float(found.size[a, b]), name, seed=draw))
        rows += costs(H, name, total)
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
