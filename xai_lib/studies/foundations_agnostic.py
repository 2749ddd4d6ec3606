"""Lesson `foundations_agnostic`: one table, two models that are only asked for answers, and the count of what was asked."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator, RegressorMixin
from torch import Tensor

from xai_lib import data, tabular
from xai_lib.compendium.results import COLUMNS
from xai_lib.models.wrapper import state_sha256
from xai_lib.threads import on_one_thread
from xai_lib.toys import Formula
from xai_lib.types import Samples

TABLE = "breast_cancer"
SHORT = ("forest", "MLP")
TREES, HIDDEN, ITERATIONS = 50, (64, 32), 500
TYPICAL = 3.0
"""Deviations that no value of the explained row exceeds, if there is such a row."""
RIGHT, ROWS, SECONDS = "right answer", "rows asked", "seconds"


class Asked(RegressorMixin, BaseEstimator):
    """A function of rows as scikit-learn wants it: fitted, with `predict`; it counts what it is asked.

    function  rows (k, d) -> scores (k,)
    name      label of the model
    rows      rows asked so far
    """

    def __init__(self, function: Callable[[np.ndarray], np.ndarray], name: str = "toy") -> None:
        self.function, self.name = function, name
        self.rows = 0

    def fit(self, x: Any = None, y: Any = None) -> "Asked":
        """Nothing: the function is given."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """The scores (k,), counted."""
        self.rows += len(rows)
        return self.function(np.asarray(rows, dtype=np.float64))


@dataclass
class Cost:
    """Rows that a tool asked, and the seconds that it took with the model's own."""

    rows: int = 0
    seconds: float = 0.0


@contextmanager
def costing(asked: Asked) -> Iterator[Cost]:
    """Inside the block, count rows and seconds."""
    cost, before, began = Cost(), asked.rows, perf_counter()
    yield cost
    cost.rows, cost.seconds = asked.rows - before, perf_counter() - began


@dataclass(frozen=True)
class Task:
    """The table, standardised over its training rows, and the models fitted on these.

    columns    names of the d columns
    x, y       training rows (n, d) float64 and classes (n,)
    test       held-out rows: inputs (m, d) and targets
    models     label -> `Asked`, its score being the probability of class 0, malignant
    row        number of the held-out row that local tools explain
    column     the column that curves are drawn over
    """

    columns: tuple[str, ...]
    x: np.ndarray
    y: np.ndarray
    test: Samples
    models: Mapping[str, Asked]
    row: int
    column: int
    seed: int
    weights: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def x_test(self) -> np.ndarray:
        """Held-out rows (m, d) float64."""
        return self.test.inputs.double().numpy()

    @property
    def explained(self) -> np.ndarray:
        """The explained row (d,)."""
        return self.x_test[self.row]


@on_one_thread
def open_task(p: Mapping[str, Any]) -> Task:
    """Load the table, fit both models, and choose the explained row.

    That row is a malignant held-out one that both models call malignant, without a value beyond `TYPICAL` deviations; of these,
    the one whose probability under the forest is nearest to `p["certainty"]`.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.neural_network import MLPClassifier

    train, test = (data.load(TABLE, split=part, seed=0) for part in ("train", "test"))
    x, y = train.inputs.double().numpy(), train.targets.numpy()
    forest = RandomForestClassifier(TREES, random_state=p["seed"]).fit(x, y)
    mlp = MLPClassifier(HIDDEN, max_iter=ITERATIONS, random_state=p["seed"]).fit(x, y)
    models = {name: Asked(malignant(model), name) for name, model in zip(SHORT, (forest, mlp), strict=True)}
    said = [model.function(test.inputs.double().numpy()) for model in models.values()]
    sure = (np.minimum(*said) > 0.5) & (test.targets.numpy() == 0)
    typical = sure & (test.inputs.abs().max(dim=1).values.numpy() <= TYPICAL)
    row = int(np.argmin(np.where(typical if typical.any() else sure, np.abs(said[0] - p["certainty"]), np.inf)))
    columns = tabular.columns(TABLE)
    weights = {SHORT[0]: None, SHORT[1]: state_sha256(tabular.net_of(mlp))}
    return Task(columns, x, y, test, models, row, columns.index(p["column"]), p["seed"], weights)


def malignant(model: Any) -> Callable[[np.ndarray], np.ndarray]:
    """A classifier's probability of class 0."""
    return lambda rows: np.asarray(model.predict_proba(rows)[:, 0])


def as_net(asked: Asked) -> Formula:
    """The same score as logits (log f, log(1 - f)), for what wants a model of PyTorch; rows are counted there too."""

    def logits(rows: Tensor) -> Tensor:
        found = torch.from_numpy(asked.predict(rows.detach().cpu().double().numpy())).to(rows)
        return torch.stack([found, 1 - found], dim=1).clamp_min(1e-12).log()

    return Formula(logits)


def held_out(task: Task) -> pd.DataFrame:
    """Whether each held-out row is answered right, by model."""
    found = []
    for name, model in task.models.items():
        right = (model.function(task.x_test) < 0.5).astype(int) == task.test.targets.numpy()
        found += [tidy(RIGHT, "held-out rows", float(r), name, sample=i) for i, r in zip(task.test.ids, right, strict=True)]
    return pd.DataFrame(found)


def costs(method: str, model: str, cost: Cost) -> list[dict[str, Any]]:
    """The two rows of results that say what a tool asked for."""
    return [
        tidy(ROWS, method, float(cost.rows), model),
        tidy(SECONDS, method, cost.seconds, model, seconds=cost.seconds),
    ]


def tidy(metric: str, method: str, value: float, model: str, *, sample: str = "", seed: int = 0, **own: Any) -> dict[str, Any]:
    """One row of results; a value that is not finite is flagged as undefined."""
    row = {
        "dataset": "none" if model == "toy" else TABLE, "model": model, "method": method, "metric": metric,
        "method_parameters": {}, "metric_parameters": {}, "sample": sample, "seed": seed, "value": value,
        "seconds": float("nan"), "flag": "" if np.isfinite(value) else "undefined",
    }  # fmt: skip
    return {key: {**row, **own}[key] for key in COLUMNS}


@dataclass(frozen=True)
class Named:
    """What a run records of a model that is fitted in it."""

    name: str
    weights_sha256: str | None


def models_of(task: Task) -> list[Named]:
    """The task's models as a run records them."""
    return [Named(f"{TABLE}_{name}", task.weights[name]) for name in task.models]


def results(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """All tables of a run in one."""
    return pd.concat(list(frames), ignore_index=True)
