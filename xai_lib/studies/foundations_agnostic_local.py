"""Lesson `foundations_agnostic`: tools that share one score out among columns: LIME and Shapley values."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from xai_lib.methods.lime_tabular import lime_tabular
from xai_lib.studies.foundations_agnostic import TREES, Asked, Task, as_net, costing, costs, malignant, tidy
from xai_lib.tabular_importance import shapley_rows

LIME = "LIME"
SHAP, EXACT, OURS = "SHAP, permutations", "SHAP, exact", "exact Shapley values of this library"
WEIGHT, SAME, VALUE, DIFFERENCE = "weight", "same five columns", "Shapley value", "largest difference of exact values"
SAME_MOST = "same five columns, most draws"


def lime_weights(asked: Asked, row: np.ndarray, table: np.ndarray, *, n_samples: int, seed: int) -> np.ndarray:
    """(d,) LIME's weights of class 0 at a row."""
    target, background = torch.zeros(1, dtype=torch.int64), torch.from_numpy(table)
    made = lime_tabular(
        as_net(asked), torch.from_numpy(row[None]), target, background=background, n_samples=n_samples, seed=seed
    )
    return made[0].numpy()


def overlaps(sets: Sequence[set[int]]) -> list[float]:
    """|A and B| / |A or B| of the first two sets, the next two, ...: no set is in two pairs, so that an interval may be taken.

    >>> overlaps([{1, 2}, {2, 3}, {4}, {4}, {5}])
    [0.3333333333333333, 1.0]
    """
    return [len(a & b) / len(a | b) for a, b in zip(sets[0::2], sets[1::2], strict=False)]


def lime(task: Task, p: Mapping[str, Any]) -> pd.DataFrame:
    """LIME at the explained row under several seeds: weights at the most draws, and how far the five largest stay the same.

    `SAME`: `overlaps` of the five columns with the largest |weight| under seeds 0 and 1, 2 and 3, ...
    """
    rows, five = [], min(5, len(task.columns))
    for name, model in task.models.items():
        for count in p["lime_samples"]:
            made = []
            for seed in range(p["n_seeds"]):
                with costing(model) as cost:
                    made.append(lime_weights(model, task.explained, task.x, n_samples=count, seed=task.seed + seed))
            sets = [set(np.argsort(-np.abs(own), kind="stable")[:five].tolist()) for own in made]
            alike = overlaps(sets)
            rows += [tidy(SAME, f"{count} draws", v, name, seed=k) for k, v in enumerate(alike)]
            if count == max(p["lime_samples"]):
                rows += [tidy(SAME_MOST, LIME, v, name, seed=k) for k, v in enumerate(alike)]
                rows += costs(LIME, name, cost)
                for seed, own in enumerate(made):
                    rows += [tidy(WEIGHT, c, float(v), name, seed=seed) for c, v in zip(task.columns, own, strict=True)]
    return pd.DataFrame(rows)


def library() -> Any:
    """The shap package, imported without its just-in-time compiler, which takes longer than all that is asked for here."""
    from numba.core import config as compiler

    settings = vars(compiler)
    before = settings["DISABLE_JIT"]
    settings["DISABLE_JIT"] = True
    try:
        with warnings.catch_warnings():  # shap 0.51 colours its plots in a way that matplotlib gives up
            warnings.filterwarnings(
                "ignore", message=r"The set_\w+ function will be deprecated", category=PendingDeprecationWarning
            )
            import shap
    finally:
        settings["DISABLE_JIT"] = before
    return shap


def shap_values(
    asked: Asked, rows: np.ndarray, background: np.ndarray, *, permutations: int | None, seed: int = 0
) -> np.ndarray:
    """(n, d) Shapley values by the shap package against a background: over random orders, or exact without `permutations`."""
    shap = library()
    masker = shap.maskers.Independent(background, max_samples=len(background))
    if permutations is None:
        return np.asarray(shap.explainers.ExactExplainer(asked.predict, masker)(rows).values)
    explainer = shap.explainers.PermutationExplainer(asked.predict, masker, seed=seed)
    return np.asarray(explainer(rows, max_evals=permutations * (2 * rows.shape[1] + 1), silent=True).values)


def background_of(task: Task, count: int) -> np.ndarray:
    """Random training rows."""
    return task.x[np.sort(np.random.default_rng(task.seed).choice(len(task.x), count, replace=False))]


def shap(task: Task, p: Mapping[str, Any]) -> pd.DataFrame:
    """Shapley values of the explained row over random orders, under several seeds, against random training rows."""
    background, rows = background_of(task, p["shap_background"]), []
    library()
    for name, model in task.models.items():
        for seed in range(p["n_seeds"]):
            with costing(model) as cost:
                own = shap_values(
                    model, task.explained[None], background, permutations=p["shap_orders"], seed=task.seed + seed
                )[0]
            rows += [tidy(VALUE, c, float(v), name, seed=seed) for c, v in zip(task.columns, own, strict=True)]
        rows += costs(SHAP, name, cost)
        rows.append(
            tidy(
                "score less mean score",
                SHAP,
                float(model.function(task.explained[None])[0] - model.function(background).mean()),
                name,
            )
        )
    return pd.DataFrame(rows)


def exact(task: Task, chosen: Sequence[str], p: Mapping[str, Any]) -> pd.DataFrame:
    """Exact Shapley values of three held-out rows on a forest of few columns: the package's and ours."""
    from sklearn.ensemble import RandomForestClassifier

    numbers = [task.columns.index(name) for name in chosen]
    model = Asked(malignant(RandomForestClassifier(TREES, random_state=task.seed).fit(task.x[:, numbers], task.y)))
    background, rows = background_of(task, p["shap_background"])[:, numbers], task.x_test[:3, numbers]
    with costing(model) as theirs:
        a = shap_values(model, rows, background, permutations=None)
    with costing(model) as own:
        b = shapley_rows(
            as_net(model), torch.from_numpy(rows), torch.zeros(3, dtype=torch.int64), background=torch.from_numpy(background)
        )
    name = f"forest of {len(chosen)} columns"
    return pd.DataFrame(
        [
            tidy(DIFFERENCE, EXACT, float(np.abs(a - b.numpy()).max()), name),
            *costs(EXACT, name, theirs),
            *costs(OURS, name, own),
        ]
    )
