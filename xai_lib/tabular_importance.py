"""What a net of a table uses: exact Shapley values of a row (FIDELITY 6.6), and permutation importance of a column."""

from math import comb
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xai_lib.checks import check_count
from xai_lib.compute import Rows, check_request, logits, score_rows
from xai_lib.errors import ConfigError, InputError, unknown
from xai_lib.methods.shapley import all_coalitions
from xai_lib.types import Model

MOST_FEATURES = 14
"""Most columns of `shapley_rows`: 2^14 = 16,384 coalitions for each row."""
MEASURES = ("accuracy", "loss")


def shapley_rows(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    background: Tensor | None = None,
    score: Any = "prob",
    max_batch: int | None = None,
) -> Tensor:
    """phi_j = sum over S without j of |S|! (d - |S| - 1)! / d! (v(S + j) - v(S)), with v(S) = mean_b f(x_S, b_rest).

    The columns in S keep their values, the others take those of a background row b: the interventional game, which breaks the
    dependence between columns as permutation importance and LIME do. All 2^d coalitions are asked for.

    Args:
        model: inputs -> logits.
        inputs: (n, d), at most 14 columns.
        targets: (n,) int64.
        background: (m, d) rows b; None: one row of zeros, the mean of a standardised table.
        score: the explained scalar.
        max_batch: most rows per pass.

    Returns:
        (n, d), signed, in score units; a row's values sum to f(x) - mean_b f(b).

    Raises:
        ConfigError: more than 14 columns.
        InputError: inputs are no table, or the background does not fit them; else see `compute.check_request`.

    >>> from xai_lib import toys
    >>> x, t = torch.tensor([[2.0, 3.0, 4.0]]), torch.zeros(1, dtype=torch.int64)
    >>> shapley_rows(toys.Formula(lambda x: x[:, 0] * x[:, 1] + x[:, 2]), x, t, score="logit").tolist()
    [[3.0, 3.0, 4.0]]
    """
    check_request(model, inputs, targets)
    rest = _background(background, inputs)
    n, d, m = len(inputs), inputs.shape[1], len(rest)
    present = all_coalitions(d).to(inputs.device)
    like = inputs.detach()

    def rows(index: Tensor) -> tuple[Tensor, Tensor]:
        row, coalition = index // (m * len(present)), index // m % len(present)
        return torch.where(present[coalition], like[row], rest[index % m]), targets[row]

    made: Rows = rows
    values = torch.cat(
        [own for _, own in score_rows(model, made, n * len(present) * m, like, score=score, max_batch=max_batch)]
    )
    game = values.double().reshape(n, len(present), m).mean(dim=2)
    weight = torch.tensor([1 / (d * comb(d - 1, s)) for s in range(d)], dtype=torch.float64, device=game.device)
    size, numbers, found = present.sum(dim=1), torch.arange(len(present), device=game.device), []
    for j in range(d):
        without = numbers[~present[:, j]]
        found.append(((game[:, without + 2**j] - game[:, without]) * weight[size[without]]).sum(dim=1))
    return torch.stack(found, dim=1).to(inputs.dtype)


def permutation_importance(
    model: Model, inputs: Tensor, targets: Tensor, *, n_repeats: int = 30, measure: str = "accuracy", seed: int = 0
) -> Tensor:
    """How much worse the model is at rows it should not have seen once a column is shuffled over them.

    Args:
        model: inputs -> logits.
        inputs: (n, d) held-out rows.
        targets: (n,) int64 labels.
        n_repeats: shuffles of each column, at least 1.
        measure: "accuracy" (its fall, in [-1, 1]), or "loss" (the rise of the mean cross-entropy, nats), which has no ties
            where all rows stay right.
        seed: of the shuffles.

    Returns:
        (d,) float64, mean over the shuffles; larger matters more. Below 0 the model does better on these very rows with the
        column shuffled. That can be an accident of the rows, a few wrong ones put right, which more shuffles do not mend.

    Raises:
        ConfigError: unknown measure or bad count.
        InputError: see `compute.check_request`.

    Computed by scikit-learn (`inspection.permutation_importance`).

    >>> from xai_lib import toys
    >>> x = torch.tensor([[-1.0, 5.0], [1.0, 6.0], [-2.0, 7.0], [2.0, 8.0]])
    >>> net = toys.linear([[-1.0, 0.0], [1.0, 0.0]])
    >>> found = permutation_importance(net, x, (x[:, 0] > 0).long(), n_repeats=50)
    >>> bool(found[0] > 0.3), found[1].item()
    (True, 0.0)
    """
    from sklearn.inspection import permutation_importance as shuffled

    if measure not in MEASURES:
        raise unknown("measure", measure, MEASURES)
    check_count("n_repeats", n_repeats)
    check_request(model, inputs, targets)

    def quality(_: Any, x: np.ndarray, y: np.ndarray) -> float:
        out = logits(model, torch.from_numpy(x).to(inputs)).double()
        truth = torch.from_numpy(y).to(out.device)
        if measure == "accuracy":
            return float((out.argmax(dim=1) == truth).double().mean())
        return -float(torch.nn.functional.cross_entropy(out, truth))

    x, y = inputs.detach().cpu().double().numpy(), targets.cpu().numpy()
    found = shuffled(_Fitted(), x, y, scoring=quality, n_repeats=n_repeats, random_state=seed, n_jobs=1)
    return torch.from_numpy(found.importances_mean)


class _Fitted:
    """What scikit-learn asks an estimator to have."""

    def fit(self) -> "_Fitted":
        """Nothing: the model is fitted."""
        return self


def _background(background: Tensor | None, inputs: Tensor) -> Tensor:
    if inputs.ndim != 2:
        raise InputError(f"inputs: expected a table (n, d), got shape {tuple(inputs.shape)}; images go to shapley_values")
    if inputs.shape[1] > MOST_FEATURES:
        raise ConfigError(
            f"shapley_rows: {inputs.shape[1]} columns mean 2^{inputs.shape[1]} coalitions; at most {MOST_FEATURES} columns, "
            "or take gradients or LIME"
        )
    if background is None:
        return torch.zeros_like(inputs[:1])
    if (
        not isinstance(background, Tensor)
        or background.ndim != 2
        or background.shape[1:] != inputs.shape[1:]
        or not len(background)
    ):
        got = tuple(background.shape) if isinstance(background, Tensor) else type(background).__name__
        raise InputError(f"background: expected a table (m, {inputs.shape[1]}), got {got}")
    if not bool(torch.isfinite(background).all()):
        raise InputError("background: holds NaN or infinity; remove or repair those rows first")
    return background.detach().to(inputs)
