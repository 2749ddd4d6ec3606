"""How far an attribution is from adding up to what it explains (FIDELITY 4.1, 4.2)."""

from typing import Any

import torch
from torch import Tensor

from xai_lib import baselines, compute
from xai_lib.checks import check_count
from xai_lib.metrics.checks import check_attributions, undefined_where
from xai_lib.registry import METRICS
from xai_lib.types import Model, Spec


@METRICS.register(label="Completeness gap", cite="sundararajan2017", traits={"family": "axiomatic"})
def completeness_gap(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    attributions: Tensor,
    *,
    baseline: Spec = "black",
    n_baselines: int = 1,
    signed: bool = False,
    relative: bool = False,
    score: Any = "logit",
    seed: int = 0,
    max_batch: int | None = None,
) -> Tensor:
    """Distance between the sum of the attributions and the change of the score, |sum_i A_i - (f(x) - mean_b f(x'_b))|.

    Multiplying the map changes the gap: it is the one metric here that reads the scale of the attributions.

    Args:
        model: inputs -> logits.
        inputs: (n, ...) in pixel space.
        targets: (n,) int64.
        attributions: same shape as `inputs`; all channels are summed.
        baseline: x' of the explanation: registered name, {name: {parameters}} or callable.
        n_baselines: B; the reference is the mean score of draws 0 to B - 1, the same that `baselines.draw` gives a
            multi-baseline method under the same `seed`.
        signed: sum A - (f(x) - f(x')) instead of its absolute value.
        relative: divided by |f(x) - mean f(x')|.
        score: the scalar that was explained.
        seed: seed of the explanation, for random baselines.
        max_batch: most rows (images x (1 + B)) per forward pass.

    Returns:
        (n,), at least 0 unless `signed`; in units of the score, or without unit if `relative`. 0 is complete. NaN where the
        attributions hold NaN or infinity, or where `relative` and the score does not change. A zero or constant map is judged
        as any other.

    Raises:
        InputError: shapes that do not fit.
        ConfigError: unknown baseline or score, or `n_baselines` below 1.

    Differs from the document: 000 reports no gap; its median over baselines is not complete and shows one here.

    >>> from xai_lib import toys
    >>> x, t = torch.ones(1, 2), torch.zeros(1, dtype=torch.int64)
    >>> completeness_gap(toys.linear([[2.0, -3.0]]), x, t, torch.tensor([[2.0, -2.5]]))
    tensor([0.5000])
    """
    compute.check_request(model, inputs, targets)
    check_attributions(attributions, inputs)
    check_count("n_baselines", n_baselines)
    n = len(inputs)

    def rows(index: Tensor) -> tuple[Tensor, Tensor]:
        image = index % n
        points = inputs[image]
        for number in (index // n).unique().tolist():
            if number > 0:
                here = index // n == number
                points[here] = baselines.draw(baseline, points[here], number - 1, seed=seed)
        return points, targets[image]

    made = compute.score_rows(model, rows, n * (1 + n_baselines), inputs, score=score, max_batch=max_batch)
    values = torch.cat([part for _, part in made]).double().reshape(1 + n_baselines, n)
    change = values[0] - values[1:].mean(dim=0)
    gap = attributions.flatten(1).double().sum(dim=1) - change
    gap = gap if signed else gap.abs()
    gap = gap / change.abs() if relative else gap
    return undefined_where(gap, ~torch.isfinite(gap)).to(inputs.dtype)
