"""Study `case_studies`, tables: what is stored. LIME of the document's fits, and of nets fitted on four fifths of a table."""

from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xai_lib.compendium.tasks import TASKS
from xai_lib.compute import logits
from xai_lib.methods.gradient import gradient
from xai_lib.methods.lime_tabular import Surrogate, surrogates
from xai_lib.models.fit import one_thread
from xai_lib.tabular import Fitted, as_done, as_meant
from xai_lib.tabular_importance import MOST_FEATURES, permutation_importance, shapley_rows

PACKAGES = ("lime", "scikit-learn")
DEFAULT_CLASS = 1
"""The class that the lime package explains when it is not told which (FIDELITY C8)."""
PRINTED = 10
"""Columns that the package chooses, fits again and prints unless it is told otherwise, as in document 004 (FIDELITY 6.4)."""


def sources(parameters: Mapping[str, Any]) -> Sequence[str]:
    """Modules that these numbers depend on."""
    return [__name__, "xai_lib.scores"]


def versions() -> dict[str, str]:
    """Of the packages that compute them and that are in no key otherwise."""
    return {name: metadata.version(name) for name in PACKAGES}


@TASKS.register(label="LIME of the document's fits", cite="ribeiro2016", traits={"sources": sources})
def table_listings(items: list[Any], *, case: Mapping[str, Any]) -> dict[str, Any]:
    """LIME of class 1 and of the predicted class, as the document did it.

    Args:
        items: [seed of the fit, seed of LIME].
        case: table, rows (their numbers), n_samples, versions.

    Returns:
        {"weights": (n, rows, 2, d) of the ten terms that are printed, NaN for other columns, "r2": (n, rows, 2), "predicted":
        (n, rows)}.
    """
    made: dict[str, list[Any]] = {"weights": [], "r2": [], "predicted": []}
    for fit_seed, lime_seed in items:
        with one_thread():
            fitted = as_done(case["table"], seed=int(fit_seed))
            inputs = fitted.train.inputs[list(case["rows"])]
            classes = asked_classes(fitted, inputs)
            own = {"n_samples": case["n_samples"], "n_features": PRINTED}
            found = explained(fitted, inputs, classes, seed=int(lime_seed), **own)
        for name, value in {**found, "predicted": classes[:, 1].numpy()}.items():
            if name in made:
                made[name].append(value)
    return {name: np.stack(values) for name, values in made.items()}


@TASKS.register(label="Explanations of tables", cite="ribeiro2016", traits={"sources": sources})
def table_explanations(
    items: list[Any], *, case: Mapping[str, Any], n_rows: int, n_repeats: int, n_background: int
) -> dict[str, Any]:
    """One net per seed, fitted on its own four fifths of the table; held-out rows explained in several ways.

    Args:
        items: seeds of split and net.
        case: table, epochs, n_samples, versions.
        n_rows: held-out rows that are explained, drawn from the seed.
        n_repeats: seeds of LIME.
        n_background: training rows of the Shapley values.

    Returns:
        {"lime": (n, rows, repeats, 2, d) for class 1 and the predicted class, "r2", "miss": (n, rows, repeats, 2), the second
        |surrogate - model| at the row, "gradient", "shapley": (n, rows, d) of the predicted class's probability, NaN where a
        table has too many columns, "permutation": (n, d) rise of the loss, "accuracy": (n,) on all held-out rows, "predicted":
        (n, rows)}.
    """
    made: dict[str, list[Any]] = {}
    for seed in items:
        with one_thread():
            found = _explained_once(case, int(seed), n_rows, n_repeats, n_background)
        for name, value in found.items():
            made.setdefault(name, []).append(value)
    return {name: np.stack(values) for name, values in made.items()}


@TASKS.register(label="LIME under other settings", cite="ribeiro2016", traits={"sources": sources})
def table_settings(
    items: list[Any], *, case: Mapping[str, Any], settings: Sequence[Sequence[Any]], n_rows: int, n_repeats: int
) -> dict[str, Any]:
    """LIME of the predicted class under several kernel widths and numbers of drawn rows.

    Args:
        items: seeds of split and net.
        case: table, epochs, versions.
        settings: [kernel width in sqrt(d), drawn rows].
        n_rows, n_repeats: as in `table_explanations`.

    Returns:
        {"lime": (n, settings, rows, repeats, d), "r2": (n, settings, rows, repeats)}.
    """
    made: dict[str, list[Any]] = {"lime": [], "r2": []}
    for item in items:
        fitted, inputs = drawn_rows(case, int(item), n_rows)
        classes = asked_classes(fitted, inputs)[:, 1:]
        parts = []
        for width, n_samples in settings:
            own = {"kernel_width": width, "n_samples": n_samples}
            with one_thread():
                parts.append([explained(fitted, inputs, classes, seed=seed, **own) for seed in range(n_repeats)])
        made["lime"].append([np.stack([one["weights"][:, 0] for one in own], axis=1) for own in parts])
        made["r2"].append([np.stack([one["r2"][:, 0] for one in own], axis=1) for own in parts])
    return {name: np.stack([np.stack(own) for own in values]) for name, values in made.items()}


def _explained_once(case: Mapping[str, Any], seed: int, n_rows: int, n_repeats: int, n_background: int) -> dict[str, Any]:
    fitted, inputs = drawn_rows(case, seed, n_rows)
    classes, own = asked_classes(fitted, inputs), {"n_samples": case["n_samples"]}
    found = [explained(fitted, inputs, classes, seed=repeat, **own) for repeat in range(n_repeats)]
    predicted, test = classes[:, 1], fitted.test
    shapley = torch.full_like(inputs, torch.nan)
    if inputs.shape[1] <= MOST_FEATURES:
        generator = torch.Generator().manual_seed(seed)
        some = torch.randperm(len(fitted.train), generator=generator)[:n_background]
        shapley = shapley_rows(fitted.net, inputs, predicted, background=fitted.train.inputs[some])
    return {
        "lime": np.stack([one["weights"] for one in found], axis=1),
        "r2": np.stack([one["r2"] for one in found], axis=1),
        "miss": np.stack([one["miss"] for one in found], axis=1),
        "gradient": gradient(fitted.net, inputs, predicted, score="prob").double().numpy(),
        "shapley": shapley.double().numpy(),
        "permutation": permutation_importance(fitted.net, test.inputs, test.targets, measure="loss", seed=seed).numpy(),
        "accuracy": float((logits(fitted.net, test.inputs).argmax(dim=1) == test.targets).double().mean()),
        "predicted": predicted.numpy(),
    }


def drawn_rows(case: Mapping[str, Any], seed: int, n_rows: int) -> tuple[Fitted, Tensor]:
    """A net and the first of its held-out rows, in an order drawn from the seed."""
    fitted = as_meant(case["table"], seed=seed, epochs=case["epochs"])
    order = torch.randperm(len(fitted.test), generator=torch.Generator().manual_seed(seed))[:n_rows]
    return fitted, fitted.test.inputs[order]


def asked_classes(fitted: Fitted, inputs: Tensor) -> Tensor:
    """(n, 2): class 1, and the predicted class."""
    predicted = logits(fitted.net, inputs).argmax(dim=1)
    return torch.stack([torch.full_like(predicted, DEFAULT_CLASS), predicted], dim=1)


def explained(fitted: Fitted, inputs: Tensor, classes: Tensor, **own: Any) -> dict[str, np.ndarray]:
    """LIME's weights (n, k, d), NaN where it has no term, its R^2 (n, k), and |surrogate - model| at the row (n, k)."""
    found = surrogates(fitted.net, inputs, classes, background=fitted.train.inputs, **own)
    weights = np.full((*classes.shape, inputs.shape[1]), np.nan)
    for i, row in enumerate(found):
        for k, one in enumerate(row):
            weights[i, k, list(one.columns)] = one.weights
    return {"weights": weights, "r2": _each(found, "r2"), "miss": np.abs(_each(found, "local") - _each(found, "score"))}


def _each(found: Sequence[tuple[Surrogate, ...]], name: str) -> np.ndarray:
    return np.array([[getattr(one, name) for one in row] for row in found])
