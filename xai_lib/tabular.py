"""Document 004's nets of tables (MLP 64-32), as it fitted them and as it would be done today (FIDELITY E4.1, 9.1)."""

import warnings
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xai_lib.errors import ModelError, unknown
from xai_lib.models.fit import fit
from xai_lib.models.nets import mlp
from xai_lib.models.wrapper import state_sha256
from xai_lib.types import Samples

TABLES = ("iris", "wine", "breast_cancer")
HIDDEN = (64, 32)
PUBLISHED_SEED, PUBLISHED_ITERATIONS = 42, 500
TEST_FRACTION = 0.2
LICENCE = "CC BY 4.0 (UCI Machine Learning Repository), shipped by scikit-learn"


@dataclass(frozen=True)
class Fitted:
    """A net of a table and the two parts of the table.

    net      inputs (n, d), standardised -> logits; frozen, in eval mode, with `name` and `weights_sha256`
    train    rows that scaler and net were fitted on: every column has mean 0 and deviation 1
    test     rows that they never saw, standardised by the same numbers; all rows again in `as_done`
    columns  names of the d columns
    """

    net: nn.Sequential
    train: Samples
    test: Samples
    columns: tuple[str, ...]


@lru_cache(maxsize=32)
def as_done(table: str, *, seed: int = PUBLISHED_SEED) -> Fitted:
    """The document's fit: scaler and scikit-learn's MLPClassifier((64, 32), max_iter=500) on all rows, none held out.

    Args:
        table: one of TABLES.
        seed: `random_state` of the classifier; the document's is 42.

    Returns:
        In float64, so that the softmax of the logits is the classifier's `predict_proba` to rounding.

    Raises:
        ConfigError: unknown table.

    >>> fitted = as_done("iris")
    >>> [tuple(layer.weight.shape) for layer in fitted.net if isinstance(layer, nn.Linear)]
    [(64, 4), (32, 64), (3, 32)]
    """
    classifier, x = fitted_classifier(table, seed)
    every = np.arange(len(x))
    rows = _samples(table, torch.from_numpy(x.copy()), every)
    return Fitted(_named(net_of(classifier), f"{table}_mlp_as_done"), rows, rows, columns(table))


def fitted_classifier(table: str, seed: int = PUBLISHED_SEED) -> tuple[Any, np.ndarray]:
    """The classifier of `as_done` and the standardised rows (n, d) float64 that it was fitted on."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    bunch = _bunch(table)
    x, _, _ = standardised(np.asarray(bunch.data, dtype=np.float64), slice(None))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the document stops at max_iter too
        classifier = MLPClassifier(HIDDEN, max_iter=PUBLISHED_ITERATIONS, random_state=seed)
        return classifier.fit(x, bunch.target), x


@lru_cache(maxsize=32)
def as_meant(table: str, *, seed: int, epochs: int = 100, batch: int = 32, learning_rate: float = 1e-3) -> Fitted:
    """The same net fitted on four fifths of every class, by `training.train` with Adam; everything is drawn from `seed`.

    Args:
        table: one of TABLES.
        seed: of the split, of the first weights and of the batches.
        epochs, batch, learning_rate: of the training.

    Returns:
        In float32; mean and deviation of each column are those of the training rows.

    Raises:
        ConfigError: unknown table, or a number out of range.

    Differs from scikit-learn's classifier: a fixed number of epochs in place of its rule for stopping, batches of 32 in place
    of 200, no weight penalty in place of 1e-4, PyTorch's initialisation.
    """
    from sklearn.model_selection import train_test_split

    bunch = _bunch(table)
    every = np.arange(len(bunch.target))
    train, test = (
        np.sort(part) for part in train_test_split(every, test_size=TEST_FRACTION, stratify=bunch.target, random_state=seed)
    )
    x, _, _ = standardised(np.asarray(bunch.data, dtype=np.float64), train)
    values = torch.tensor(x, dtype=torch.float32)
    parts = [_samples(table, values[rows], rows) for rows in (train, test)]
    build = partial(mlp, features=x.shape[1], classes=len(bunch.target_names), hidden=HIDDEN)
    recipe = {"epochs": epochs, "batch": batch, "learning_rate": learning_rate}
    net, _ = fit(build, parts[0].inputs, parts[0].targets, seed=seed, recipe=recipe)
    return Fitted(_named(net, f"{table}_mlp"), parts[0], parts[1], columns(table))


def net_of(classifier: Any) -> nn.Sequential:
    """The logits of a fitted scikit-learn MLPClassifier as a PyTorch net, float64; softmax gives its `predict_proba`.

    A classifier of two classes has one output z; the logits are (0, z).

    Raises:
        ModelError: its hidden activation is not "relu", or it gives several labels at once.
    """
    if classifier.activation != "relu" or classifier.out_activation_ not in ("softmax", "logistic"):
        found = f"activation={classifier.activation!r}, output {classifier.out_activation_!r}"
        raise ModelError(f"net_of: expected activation='relu' and one class for each row, got {found}")
    if classifier.out_activation_ == "logistic" and classifier.n_outputs_ != 1:
        raise ModelError(f"net_of: expected one class for each row, got {classifier.n_outputs_} labels at once")
    weights = [np.asarray(own, dtype=np.float64).T for own in classifier.coefs_]
    biases = [np.asarray(own, dtype=np.float64) for own in classifier.intercepts_]
    if len(biases[-1]) == 1:
        weights[-1] = np.concatenate([np.zeros_like(weights[-1]), weights[-1]])
        biases[-1] = np.concatenate([np.zeros(1), biases[-1]])
    layers: list[nn.Module] = []
    for weight, bias in zip(weights, biases, strict=True):
        layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
        layer.weight.data, layer.bias.data = torch.tensor(weight), torch.tensor(bias)
        layers += [nn.ReLU(), layer] if layers else [layer]
    return nn.Sequential(*layers)


def standardised(values: np.ndarray, fitted_on: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(x - mean) / deviation of each column, both over the rows `fitted_on` (divisor n, as in StandardScaler).

    Returns:
        (n, d), the means (d,) and the deviations (d,); a column without variation is divided by 1.

    >>> standardised(np.array([[1.0], [3.0], [9.0]]), [0, 1])[0].ravel().tolist()
    [-1.0, 1.0, 7.0]
    """
    mean, deviation = values[fitted_on].mean(axis=0), values[fitted_on].std(axis=0)
    deviation = np.where(deviation == 0, 1.0, deviation)
    return (values - mean) / deviation, mean, deviation


def columns(table: str) -> tuple[str, ...]:
    """Names of the columns of a table."""
    return tuple(str(name) for name in _bunch(table).feature_names)


def _bunch(table: str) -> Any:
    if table not in TABLES:
        raise unknown("table", table, TABLES)
    from sklearn import datasets  # a second of import time that only tables need

    return getattr(datasets, f"load_{table}")()


def _samples(table: str, inputs: Tensor, rows: np.ndarray) -> Samples:
    bunch = _bunch(table)
    return Samples(
        inputs=inputs,
        targets=torch.tensor(np.asarray(bunch.target)[rows], dtype=torch.int64),
        ids=tuple(f"{table}-{row:03d}" for row in rows.tolist()),
        class_names=tuple(str(name) for name in bunch.target_names),
        name=table,
        licence=LICENCE,
        redistributable=True,
    )


def _named(net: nn.Module, name: str) -> nn.Sequential:
    net.requires_grad_(False).eval()
    vars(net).update(name=name, weights_sha256=state_sha256(net))
    if not isinstance(net, nn.Sequential):
        raise ModelError(f"{name}: expected nn.Sequential, got {type(net).__name__}")
    return net
