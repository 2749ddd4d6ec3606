"""Lesson `foundations_models`: one table, its splits, nine models of scikit-learn, and how well each does."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from xai_lib import data
from xai_lib.compendium.results import COLUMNS
from xai_lib.data.tabular import columns as column_names
from xai_lib.errors import ConfigError
from xai_lib.randomness import key
from xai_lib.threads import on_one_thread
from xai_lib.types import Samples

TABLE = "breast_cancer"
TEST_FRACTION = 0.25
HIDDEN = 16
"""Hidden units of the MLP."""
LINEAR = "logistic regression"
ACCURACY, DIFFERENCE, NUMBERS = "accuracy", "accuracy minus logistic regression", "numbers kept"


@dataclass(frozen=True)
class Split:
    """A table in two parts, standardised by the training part.

    train, test      row numbers of the table
    x_train, x_test  standardised: (x - mean) / deviation of the training rows
    raw_train, raw_test  the same rows in original units
    y_train, y_test  0 malignant, 1 benign
    columns          names of the measurements
    ids              stable name of each row of the table
    number           position among the splits
    """

    train: np.ndarray
    test: np.ndarray
    x_train: np.ndarray
    x_test: np.ndarray
    raw_train: np.ndarray
    raw_test: np.ndarray
    y_train: np.ndarray
    y_test: np.ndarray
    columns: tuple[str, ...]
    ids: tuple[str, ...]
    number: int = 0


def patients() -> Samples:
    """All rows of the table, in original units."""
    return data.load(TABLE, split="all", raw=True)


def splits(n: int, seed: int) -> list[Split]:
    """Stratified splits of the table, a quarter held out; the scaler of each is fitted on its own training part.

    Args:
        n: how many; the first one is the one that the page reads.
        seed: of the splits. Split k is the same whatever n is.
    """
    from sklearn.model_selection import train_test_split

    samples = patients()
    values, labels = samples.inputs.double().numpy(), samples.targets.numpy()
    every = np.arange(len(labels))
    made = []
    for number in range(n):
        train, test = train_test_split(
            every, test_size=TEST_FRACTION, stratify=labels, random_state=draw(seed, "split", number)
        )
        made.append(split_of(values, labels, np.sort(train), np.sort(test), column_names(TABLE), samples.ids, number))
    return made


def split_of(
    values: np.ndarray,
    labels: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    columns: Sequence[str],
    ids: Sequence[str],
    number: int = 0,
) -> Split:
    """A split at hand, standardised by its training part."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(values[train])
    return Split(
        train, test, scaler.transform(values[train]), scaler.transform(values[test]), values[train], values[test],
        labels[train], labels[test], tuple(columns), tuple(ids), number,
    )  # fmt: skip


def size_rows(split: Split) -> pd.DataFrame:
    """How many rows and columns there are."""
    sizes = {"patients": len(split.ids), "training patients": len(split.train), "held-out patients": len(split.test)}
    sizes["columns"] = len(split.columns)
    return pd.concat([tidy("size", name, value, model="data") for name, value in sizes.items()], ignore_index=True)


def draw(seed: int, *parts: object) -> int:
    """A `random_state` for scikit-learn, keyed by the seed and what is drawn.

    >>> draw(0, "forest", 1) == draw(0, "forest", 1) != draw(0, "forest", 2)
    True
    """
    return key("foundations_models", seed, *parts) % 2**32


def bootstraps(n_rows: int, n: int, seed: int, name: str) -> list[np.ndarray]:
    """Row numbers of n samples drawn with repeats, each as large as the original."""
    return [np.random.default_rng(draw(seed, name, b)).integers(n_rows, size=n_rows) for b in range(n)]


# --- the models ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Family:
    """A kind of model: how it is made from (parameters of the lesson, random_state), and what a fitted one keeps."""

    make: Callable[[Mapping[str, Any], int], Any]
    kept: Callable[[Any, Split], int]


def logistic(penalty: float) -> Any:
    """Logistic regression with lambda/2 |w|^2: scikit-learn's C is 1 / lambda."""
    from sklearn.linear_model import LogisticRegression

    if penalty <= 0:
        raise ConfigError(f"penalty {penalty!r}: expected above 0; without one, separable classes have no best weights")
    return LogisticRegression(C=1 / penalty, solver="newton-cholesky", max_iter=1000, tol=1e-8)


def support_vectors(kernel: str) -> Any:
    """A support vector machine, C = 1; `gamma` of the RBF kernel is 1 / (features x variance)."""
    from sklearn.svm import SVC

    return SVC(kernel=kernel, tol=1e-6)


def tree(depth: int, state: int) -> Any:
    """A decision tree on Gini impurity."""
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(max_depth=depth, random_state=state)


def forest(n_trees: int, state: int) -> Any:
    """A random forest of full-depth trees."""
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(n_trees, random_state=state)


def net(state: int) -> Any:
    """An MLP with one hidden layer of HIDDEN ReLU units, fitted by L-BFGS until it stops."""
    from sklearn.neural_network import MLPClassifier

    return MLPClassifier((HIDDEN,), solver="lbfgs", alpha=1.0, max_iter=10_000, random_state=state)


def neighbours(k: int) -> Any:
    """The vote of the k nearest training rows."""
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(k)


def _boosting(state: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(random_state=state)


def _largest_class(state: int) -> Any:
    from sklearn.dummy import DummyClassifier

    return DummyClassifier(random_state=state)


def _kept_vectors(fitted: Any, split: Split) -> int:
    """Each support vector with its weight, and the intercept; a linear kernel adds up to one weight a column."""
    if fitted.kernel == "linear":
        return split.x_train.shape[1] + 1
    return int(fitted.n_support_.sum()) * (split.x_train.shape[1] + 1) + 1


def _kept_nodes(fitted: Any, split: Split) -> int:
    """A question is a column and a threshold, a leaf a class."""
    trees = [one.tree_ for one in getattr(fitted, "estimators_", [fitted])]
    return sum(2 * (t.node_count - t.n_leaves) + t.n_leaves for t in trees)


def _kept_boosted(fitted: Any, split: Split) -> int:
    nodes = [stage.nodes for stages in fitted._predictors for stage in stages]
    return sum(int(np.where(own["is_leaf"], 1, 2).sum()) for own in nodes)


FAMILIES: dict[str, Family] = {
    "largest class": Family(lambda p, state: _largest_class(state), lambda m, s: 1),
    LINEAR: Family(lambda p, state: logistic(p["penalty"]), lambda m, s: m.coef_.size + 1),
    "k nearest neighbours": Family(lambda p, state: neighbours(p["k"]), lambda m, s: s.x_train.size + len(s.y_train)),
    "linear SVM": Family(lambda p, state: support_vectors("linear"), _kept_vectors),
    "RBF SVM": Family(lambda p, state: support_vectors("rbf"), _kept_vectors),
    "decision tree": Family(lambda p, state: tree(p["depth"], state), _kept_nodes),
    "random forest": Family(lambda p, state: forest(p["n_trees"], state), _kept_nodes),
    "gradient boosting": Family(lambda p, state: _boosting(state), _kept_boosted),
    "MLP": Family(lambda p, state: net(state), lambda m, s: sum(w.size for w in (*m.coefs_, *m.intercepts_))),
}


@on_one_thread
def accuracy_rows(made: Sequence[Split], p: Mapping[str, Any]) -> pd.DataFrame:
    """Every model on every split: accuracy on the held-out part, less that of logistic regression, and numbers kept."""
    found: dict[str, list[tuple[float, float]]] = {}
    for label, family in FAMILIES.items():
        found[label] = []
        for split in made:
            fitted = family.make(p, draw(p["seed"], label, split.number)).fit(split.x_train, split.y_train)
            right = (fitted.predict(split.x_test) == split.y_test).mean()
            found[label].append((float(right), float(family.kept(fitted, split))))
    linear = np.array(found[LINEAR])[:, 0]
    names = [f"split {split.number}" for split in made]
    frames = []
    for label, values in found.items():
        right, kept = np.array(values).T
        for metric, own in ((ACCURACY, right), (DIFFERENCE, right - linear), (NUMBERS, kept)):
            frames.append(tidy(metric, label, own, names, model=label))
    return pd.concat(frames, ignore_index=True)


# --- results ------------------------------------------------------------------------------------------------------------------


def tidy(
    metric: str, method: str, values: Any, names: Sequence[str] | str = "", *, model: str, dataset: str = TABLE
) -> pd.DataFrame:
    """Rows of results.csv, one a value; `names` are those of the splits, rows or features that the values belong to."""
    numbers = np.atleast_1d(np.asarray(values, dtype=float))
    frame = pd.DataFrame(
        {
            "dataset": dataset,
            "model": model.replace(" ", "_"),
            "method": method,
            "method_parameters": [dict[str, Any]()] * len(numbers),
            "metric": metric,
            "metric_parameters": [dict[str, Any]()] * len(numbers),
            "sample": list(names) if not isinstance(names, str) else [names] * len(numbers),
            "seed": 0,
            "value": numbers,
            "seconds": np.nan,
            "flag": ["" if np.isfinite(v) else "undefined" for v in numbers],
        }
    )
    return frame[list(COLUMNS)]


def joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Frames below each other."""
    return pd.concat(list(frames), ignore_index=True)


def values_of(frame: pd.DataFrame, metric: str, method: str, dataset: str | None = None) -> np.ndarray:
    """The values of one metric and method.

    Raises:
        ConfigError: there are none.
    """
    own = frame[(frame.metric == metric) & (frame.method == method)]
    if dataset is not None:
        own = own[own.dataset == dataset]
    if own.empty:
        raise ConfigError(f"no values of {metric!r} for {method!r}; there are {sorted(set(frame.metric))[:8]}")
    return own.value.to_numpy()
