"""Lesson `foundations_gradients`, part 4: gradients of noisy copies, summed up in three ways."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from xai_lib import METHODS
from xai_lib.studies.case import Case, explainer, rows
from xai_lib.studies.foundations_gradients import agreement_rows

ENSEMBLES = {"SmoothGrad": "smoothgrad", "SmoothGrad squared": "smoothgrad_squared", "VarGrad": "vargrad"}
DIFFERENCE, SHARE = "largest difference over the largest value", "share that is variance"


def noise_maps(case: Case, n_samples: int, noise_fraction: float) -> dict[str, Tensor]:
    """The gradient, and the three summaries of gradients of noisy copies, all with the same noise."""
    asked = {"n_samples": n_samples, "noise_fraction": noise_fraction}
    made = {"gradient": explainer(case, "gradient")(case.model, case.inputs, case.targets)}
    return made | {
        name: explainer(case, spec, **asked)(case.model, case.inputs, case.targets) for name, spec in ENSEMBLES.items()
    }


def single_gradients(case: Case, n_samples: int, noise_fraction: float) -> Tensor:
    """The gradients of the noisy copies themselves, (n, n_samples, ...): what the three summaries are made of."""
    seen: list[Tensor] = []

    def recorded(model: Any, inputs: Tensor, targets: Tensor, *, score: Any = "logit", max_batch: Any = None) -> Tensor:
        seen.append(METHODS.bind("gradient", score=score, max_batch=max_batch)(model, inputs, targets))
        return seen[-1]

    asked: dict[str, Any] = {"base": recorded, "n_samples": n_samples, "noise_fraction": noise_fraction}
    explainer(case, "smoothgrad", **asked)(case.model, case.inputs, case.targets)
    return torch.cat(seen).unflatten(0, (len(case.inputs), n_samples))


def identity_rows(case: Case, attributions: Mapping[str, Tensor], n_samples: int, noise_fraction: float) -> pd.DataFrame:
    """VarGrad against the variance of the single gradients, and against SmoothGrad squared less the square of SmoothGrad.

    Also how similarly the sizes of the maps rank pixels.
    """
    smooth, squared, variance = (attributions[name].double() for name in ENSEMBLES)
    each = single_gradients(case, n_samples, noise_fraction).double()
    claims = {
        "VarGrad is the variance, divisor J": (each.var(dim=1, unbiased=False), variance),
        "VarGrad is the variance, divisor J - 1": (each.var(dim=1), variance),
        "VarGrad is SmoothGrad squared less the square of SmoothGrad": (squared - smooth**2, variance),
        "SmoothGrad is the mean of the gradients": (each.mean(dim=1), smooth),
        "SmoothGrad squared is the mean of their squares": ((each**2).mean(dim=1), squared),
    }
    frames = []
    for claim, (own, asked) in claims.items():
        scale = own.abs().flatten(1).amax(1)
        frames.append(rows(case, claim, DIFFERENCE, (own - asked).abs().flatten(1).amax(1) / scale))
    return pd.concat([*frames, agreement_rows(case, {k: v.abs() for k, v in attributions.items()})])


def share_rows(case: Case, attributions: Mapping[str, Tensor]) -> pd.DataFrame:
    """Sum of VarGrad over the sum of SmoothGrad squared: the part of the mean square that is variance."""
    squared, variance = (attributions[name].flatten(1).double().sum(1) for name in ("SmoothGrad squared", "VarGrad"))
    return rows(case, "SmoothGrad squared", SHARE, variance / squared)
