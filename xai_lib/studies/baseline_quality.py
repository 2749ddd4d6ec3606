"""Study `baseline_study`, part 3: the eight metrics of Table 3 for several numbers of baselines (claims A6, A7)."""

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from xai_lib import maps, randomness
from xai_lib.compendium.experiments import study_task
from xai_lib.methods.path import nested_aggregates
from xai_lib.metrics.robustness import robustness_profile
from xai_lib.studies.baseline_counts import label_of
from xai_lib.studies.case import Case, measure, rows
from xai_lib.types import Model

ROBUSTNESS = ("max_sensitivity", "avg_sensitivity", "local_lipschitz_estimate", "relative_output_stability")
BETTER = {
    "max_sensitivity": "lower",
    "relative_output_stability": "lower",
    "local_lipschitz_estimate": "lower",
    "avg_sensitivity": "lower",
    "sparseness": "higher",
    "complexity": "lower",
    "faithfulness_estimate": "higher",
    "model_parameter_randomisation": "lower",
}
"""The metrics of Table 3 in its order, with the direction the document's text and the metrics' authors give."""


def nested_explainers(
    case: Case, kind: Any, counts: Sequence[int], *, steps: int, how: str = "mean"
) -> dict[int, Callable[..., Tensor]]:
    """One explainer per number of baselines that share their work: what one has computed, the others look up.

    The memory is keyed by the image, the parameters of the model at that moment, and the draw, so that a randomised model or
    a perturbed image is never mistaken for another.
    """
    memory: dict[tuple[str, str, str, int], dict[int, Tensor]] = {}

    def explain(model: Model, inputs: Tensor, targets: Tensor, count: int) -> Tensor:
        state = _state(model)
        pairs = zip(inputs, targets, strict=True)
        keys = [(randomness.image_values(x), randomness.digest(x), state, int(t)) for x, t in pairs]
        new = [i for i, k in enumerate(keys) if k not in memory]
        if new:
            made = nested_aggregates(
                model, inputs[new], targets[new], counts=counts, aggregates=(how,), baseline=kind, steps=steps,
                seed=case.seed, score=case.score, max_batch=case.max_batch,
            )  # fmt: skip
            for place, i in enumerate(new):
                memory[keys[i]] = {c: made[c, how][place] for c in counts}
        return torch.stack([memory[k][count] for k in keys])

    return {c: (lambda model, inputs, targets, c=c: explain(model, inputs, targets, c)) for c in counts}


def _state(model: Model) -> str:
    if not isinstance(model, torch.nn.Module):
        return ""
    return str([float(v.double().sum()) for v in model.state_dict().values()])


@study_task(label="Eight metrics for several numbers of baselines")
def table3(
    case: Case,
    *,
    kind: Any,
    counts: Sequence[int],
    steps: int,
    n_samples: int,
    radius: float,
    stages: int,
    features_fraction: float,
    reduce: str,
) -> pd.DataFrame:
    """All eight metrics for every number of baselines on the same images, perturbations and random parameters.

    Beside them `avg_sensitivity_fresh`, see `fresh_baselines`.

    Args:
        counts: numbers of baselines; each explains its perturbed images with its own B baselines (FIDELITY 8.1).
        n_samples, radius: of the perturbations, U(-radius, radius).
        stages: of the cascading randomisation.
        features_fraction: share of the pixels that the faithfulness estimate removes together.
    """
    name = str(kind)
    explainers = nested_explainers(case, kind, counts, steps=steps)
    in_step = max(1, round(features_fraction * case.inputs[0, 0].numel()))
    frames = [fresh_baselines(case, kind, counts, steps=steps, n_samples=n_samples, radius=radius, reduce=reduce)]
    for count in sorted(counts, reverse=True):
        explain, label = explainers[count], label_of(name, count, "mean")
        a = explain(case.model, case.inputs, case.targets)
        own: dict[str, Any] = {"n_samples": n_samples, "radius": radius, "reduce": reduce, "seed": case.seed}
        profile = robustness_profile(case.model, case.inputs, case.targets, a, explain, max_batch=case.max_batch, **own)
        frames += [rows(case, label, metric, profile[metric], metric_parameters=own) for metric in ROBUSTNESS]
        frames.append(measure(case, label, "sparseness", a, reduce=reduce))
        frames.append(measure(case, label, "complexity", a, reduce=reduce))
        frames.append(
            measure(
                case, label, "faithfulness_estimate", a, features_in_step=in_step, reduce=reduce, seed=case.seed,
                max_batch=case.max_batch,
            )
        )  # fmt: skip
        frames.append(
            measure(
                case, label, "model_parameter_randomisation", a, explain=explain, stages=stages, reduce=reduce, seed=case.seed,
                max_batch=case.max_batch,
            )
        )  # fmt: skip
    return pd.concat(frames)


def fresh_baselines(
    case: Case, kind: Any, counts: Sequence[int], *, steps: int, n_samples: int, radius: float, reduce: str
) -> pd.DataFrame:
    """Average sensitivity when every perturbed image is explained from newly drawn baselines (claim A7).

    This adds the noise of the draw, whose variance falls as 1/B, to what the perturbation does; with the baselines held (as in
    `table3`) there is no such reason for B to matter.
    """
    name = str(kind)
    explainers = nested_explainers(case, kind, counts, steps=steps)
    generator_seed = case.seed + 1
    changes: dict[int, list[Tensor]] = {c: [] for c in counts}
    for j in range(n_samples):
        noise = randomness.per_image(
            case.inputs, randomness.key(generator_seed, j), "fresh", lambda x, g: 2 * torch.rand(x.shape, generator=g) - 1
        )
        moved = case.inputs + radius * noise
        for c in counts:
            before = _reduced(explainers[c](case.model, case.inputs, case.targets), reduce)
            after = _reduced(explainers[c](case.model, moved, case.targets), reduce)
            changes[c].append((after - before).norm(dim=1) / before.norm(dim=1))
    own: dict[str, Any] = {"n_samples": n_samples, "radius": radius, "reduce": reduce}
    return pd.concat(
        [
            rows(case, label_of(name, c, "mean"), "avg_sensitivity_fresh", torch.stack(v).mean(0), metric_parameters=own)
            for c, v in changes.items()
        ]
    )


def _reduced(attributions: Tensor, how: str) -> Tensor:
    return maps.reduce(attributions, how).flatten(1)
