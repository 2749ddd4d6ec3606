"""LIME on tables: a weighted linear model of the answers to drawn rows, and its textual rules (FIDELITY 6.4, C8).

Built on the lime package. What it does differently from what its name promises, and what follows for reading its weights:
rows are drawn from the columns of the background one by one (no dependence between columns, nothing local about the draw), and
with the default width, 0.75 sqrt(d), a row whose every column left its quartile still has the weight exp(-d / (2 width^2)) =
0.41. The surrogate is a global one, seen from the row.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xai_lib import data
from xai_lib.checks import check_count
from xai_lib.compute import check_classes, check_request, logits
from xai_lib.errors import ConfigError, InputError
from xai_lib.randomness import image_generator
from xai_lib.registry import DATASETS, METHODS, SCORES
from xai_lib.types import Model

Table = Tensor | str | Mapping[str, Mapping[str, Any] | None]
"""Rows, or a registered data set."""
NORMAL_ROWS = 200
_RULE = re.compile(r"(?:(?P<low>-?\d+\.\d+) < )?(?P<name>.+?)(?: <= (?P<high>-?\d+\.\d+)| > (?P<above>-?\d+\.\d+))")


@dataclass(frozen=True)
class Surrogate:
    """LIME's linear model of one class at one row; its terms come with the largest |weight| first.

    label     the explained class
    columns   which columns the terms are of
    rules     the terms in words, such as "0.13 < petal width (cm) <= 0.79"
    weights   of the terms, in score units
    intercept of the model
    r2        weighted R^2 on the drawn rows, at most 1
    local     what the linear model says of the row itself (not held inside [0, 1])
    score     what the model says
    """

    label: int
    columns: tuple[int, ...]
    rules: tuple[str, ...]
    weights: tuple[float, ...]
    intercept: float
    r2: float
    local: float
    score: float


@METHODS.register(label="LIME, tables", cite="ribeiro2016", traits={"family": "surrogate", "random": True, "table": True})
def lime_tabular(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    background: Table | None = None,
    n_samples: int = 5000,
    n_features: int | None = None,
    kernel_width: float = 0.75,
    discretize: bool = True,
    seed: int = 0,
    score: Any = "prob",
    max_batch: int | None = None,
) -> Tensor:
    """The weights w of min sum_j pi_j (f(x_j) - b - w z_j)^2 + |w|^2 over rows x_j drawn column by column.

    z_jc = 1 where x_jc lies in the same quartile of column c as the explained row, else 0; pi_j = exp(-D_j^2 / (2 s^2 d)), and
    D_j^2 is the number of columns that left their quartile. Without `discretize`, z is the row in deviations of each column
    about its mean, and D the Euclidean distance from the explained row in these units.

    Args:
        model: inputs -> logits.
        inputs: (n, d) standardised; any (n, ...) is flattened.
        targets: (n,) int64.
        background: the table that quartiles, frequencies, means and deviations are taken from: (m, ...) tensor, or a registered
            data set, {name: {parameters}}. None: standard normal columns, which a standardised table is meant to have.
        n_samples: drawn rows, the explained row among them, at least 2.
        n_features: keep this many terms, chosen and fitted again as the package does, and give 0 to the others; None keeps all.
        kernel_width: s, above 0; the width itself is s sqrt(d).
        discretize: whether terms are quartiles.
        seed: of the draws, per row.
        score: the explained scalar f, the probability as in the package.
        max_batch: most rows per pass.

    Returns:
        Same shape as `inputs`, signed, in score units: what it is worth that a column lies in its quartile rather than anywhere
        else (without `discretize`: score units per deviation of the column).

    Raises:
        ConfigError: a bad count or width.
        InputError: the background does not fit the inputs; else see `compute.check_request`.

    Differs from the lime package, which it calls: always the class asked for (there: class 1 by default, which is what the
    listings of document 004 show, FIDELITY E4.1), one generator per row, any score, the width as a multiple of sqrt(d).

    >>> from xai_lib import toys
    >>> x, t = torch.tensor([[2.0, 2.0]]), torch.zeros(1, dtype=torch.int64)
    >>> made = lime_tabular(toys.linear([[3.0, -1.0]]), x, t, score="logit", n_samples=2000)
    >>> made.sign().tolist(), bool(made[0, 0] > 2 * made[0, 1].abs())
    ([[1.0, -1.0]], True)
    """
    check_request(model, inputs, targets)
    found = surrogates(
        model, inputs, targets, background=background, n_samples=n_samples, n_features=n_features, kernel_width=kernel_width,
        discretize=discretize, seed=seed, score=score, max_batch=max_batch,
    )  # fmt: skip
    made = torch.zeros(inputs.shape, dtype=inputs.dtype, device=inputs.device).flatten(1)
    for row, (own,) in zip(made, found, strict=True):
        row[list(own.columns)] = torch.tensor(own.weights, dtype=inputs.dtype, device=inputs.device)
    return made.reshape(inputs.shape)


def lime_rules(model: Model, inputs: Tensor, labels: Tensor | int | None = None, **own: Any) -> list[Surrogate]:
    """LIME's textual rules of each row, with weights and fit.

    Args:
        model: inputs -> logits.
        inputs: (n, d).
        labels: explained classes (n,), or one class for all rows, such as the package's default of 1; None: the predicted ones.
        own: keyword arguments of `surrogates`.

    Returns:
        One surrogate per row.

    Raises:
        ConfigError, InputError: as `lime_tabular`.

    >>> from xai_lib import toys
    >>> net = toys.linear([[3.0, -1.0], [0.0, 0.0]])
    >>> made = lime_rules(net, torch.tensor([[2.0, 3.0]]), names=("height", "width"), n_samples=500)[0]
    >>> made.label, made.rules
    (0, ('height > 0.67', 'width > 0.67'))
    """
    if isinstance(labels, int):
        labels = torch.full((len(inputs),), labels, device=inputs.device)
    if labels is None:
        check_request(model, inputs, torch.zeros(len(inputs), dtype=torch.int64, device=inputs.device))
        labels = logits(model, inputs, max_batch=own.get("max_batch")).argmax(dim=1)
    return [one for (one,) in surrogates(model, inputs, labels, **own)]


def surrogates(
    model: Model,
    inputs: Tensor,
    labels: Tensor,
    *,
    background: Table | None = None,
    names: Sequence[str] | None = None,
    n_samples: int = 5000,
    n_features: int | None = None,
    kernel_width: float = 0.75,
    discretize: bool = True,
    seed: int = 0,
    score: Any = "prob",
    max_batch: int | None = None,
) -> list[tuple[Surrogate, ...]]:
    """The linear models behind `lime_tabular`; several classes of a row are fitted to the same drawn rows.

    Args:
        labels: explained classes, (n,) or (n, k) int64.
        names: of the d columns, for the rules; numbers when not given.
        Others as in `lime_tabular`.

    Returns:
        For each row its k surrogates.
    """
    classes = labels[:, None] if isinstance(labels, Tensor) and labels.ndim == 1 else labels
    if not isinstance(classes, Tensor) or classes.ndim != 2 or classes.shape[1] == 0:
        raise InputError(f"targets: expected int64 classes (n,) or (n, k), got {labels!r}")
    for column in classes.T:
        check_request(model, inputs, column)
    check_count("n_samples", n_samples, least=2)
    if n_features is not None:
        check_count("n_features", n_features)
    if not 0 < kernel_width < float("inf"):
        raise ConfigError(f"kernel_width={kernel_width}: expected a number above 0, in units of sqrt(d)")
    table = _table(background, inputs)
    explainer = _explainer(table, names, kernel_width, discretize, "none" if n_features is None else "auto")
    function, found = SCORES.bind(score), []
    for row, own in zip(inputs.detach(), classes, strict=True):

        def answers(drawn: np.ndarray, shape: Any = row.shape, own: Tensor = own) -> np.ndarray:
            out = logits(model, torch.from_numpy(drawn).to(inputs).reshape(-1, *shape), max_batch=max_batch)
            for label in own:
                check_classes(out, label[None])
            values = torch.stack([function(out, label.expand(len(out))) for label in own], dim=1).double()
            return torch.cat([values, 1 - values.sum(dim=1, keepdim=True)], dim=1).cpu().numpy()  # the package wants sums of 1

        state = np.random.RandomState(image_generator(seed, "lime_tabular", row).initial_seed() % 2**32)
        asked = {"num_samples": n_samples, "num_features": n_features or table.shape[1]}
        found.append(_fits(explainer, row.cpu().double().flatten().numpy(), answers, own.tolist(), state, asked))
    return found


def parse_rule(rule: str) -> tuple[str, float, float]:
    """Column and interval (low, high] of a rule in words; ends are printed to two digits.

    Raises:
        InputError: no rule of a quartile.

    >>> parse_rule("0.13 < petal width (cm) <= 0.79"), parse_rule("alcohol > 0.84")
    (('petal width (cm)', 0.13, 0.79), ('alcohol', 0.84, inf))
    """
    parts = _RULE.fullmatch(rule)
    if parts is None or (parts["low"] and parts["above"]):
        raise InputError(f"rule {rule!r}: expected 'name <= 0.12', 'name > 0.12' or '0.12 < name <= 0.34'")
    low = parts["low"] or parts["above"]
    return parts["name"], float(low or "-inf"), float(parts["high"] or "inf")


def _table(background: Table | None, inputs: Tensor) -> np.ndarray:
    """(m, d) float64."""
    shape = inputs.shape[1:]
    if background is None:
        grid = (torch.arange(NORMAL_ROWS, dtype=torch.float64) + 0.5) / NORMAL_ROWS
        column = torch.special.ndtri(grid)
        return column[:, None].expand(-1, shape.numel()).numpy().copy()
    if isinstance(background, Tensor):
        given = background
    else:
        name, own = DATASETS.split(background)
        given = data.load(name, **own).inputs
    if given.ndim < 2 or given.shape[1:] != shape or len(given) < 2 or not bool(torch.isfinite(given).all()):
        raise InputError(f"background: expected finite rows of shape {tuple(shape)}, at least 2, got {tuple(given.shape)}")
    return given.detach().cpu().double().flatten(1).numpy()


def _explainer(table: np.ndarray, names: Sequence[str] | None, width: float, discretize: bool, selection: str) -> Any:
    from lime.lime_tabular import LimeTabularExplainer

    d = table.shape[1]
    if names is not None and len(names) != d:
        raise InputError(f"names: {len(names)} for {d} columns")
    return LimeTabularExplainer(
        table,
        feature_names=[str(name) for name in (range(d) if names is None else names)],
        kernel_width=width * d**0.5,
        discretize_continuous=discretize,
        feature_selection=selection,
        random_state=0,
    )


def _fits(
    explainer: Any, row: np.ndarray, answers: Any, labels: Sequence[int], state: Any, asked: dict[str, Any]
) -> tuple[Surrogate, ...]:
    """The package's fits of several classes; it keeps R^2 and local prediction of the last one only, so they are noted here."""
    base, fits = explainer.base, []

    def noted(*given: Any, **own: Any) -> Any:
        fits.append(base.explain_instance_with_data(*given, **own))
        return fits[-1]

    explainer.random_state = base.random_state = state
    if explainer.discretizer is not None:
        explainer.discretizer.random_state = state
    explainer.base = SimpleNamespace(explain_instance_with_data=noted)
    try:
        made = explainer.explain_instance(row, answers, labels=range(len(labels)), **asked)
    finally:
        explainer.base = base
    found = []
    for k, (label, (intercept, terms, r2, local)) in enumerate(zip(labels, fits, strict=True)):
        columns, weights = (tuple(part) for part in zip(*terms, strict=True))
        rules = tuple(text for text, _ in made.as_list(label=k))
        numbers = float(intercept), float(r2), float(np.ravel(local)[0]), float(made.predict_proba[k])
        found.append(Surrogate(label, tuple(map(int, columns)), rules, tuple(map(float, weights)), *numbers))
    return tuple(found)
