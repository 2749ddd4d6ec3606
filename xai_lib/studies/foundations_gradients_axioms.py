"""Lesson `foundations_gradients`, part 3: axioms, each checked on functions with known answers.

A check gives the largest violation that it found; it can refute a method, not prove it. Everything in float64.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from xai_lib import METHODS, METRICS, baselines, compute, toys
from xai_lib.compendium.results import COLUMNS
from xai_lib.studies.foundations_gradients_twins import CANCELLING, EVEN, TWINS
from xai_lib.types import Model

METRIC, LATER = "largest violation", "largest violation, 64 times the draws"
POINTS = 6
EXACT = 1e-9
REFERENCES = 2


@dataclass(frozen=True)
class Checked:
    """A method under the axioms.

    spec      for METHODS, with `draws` filled in
    baseline  what it is complete against, and how many draws of it
    """

    spec: Callable[[int], Any]
    baseline: Callable[[Tensor], Any] = lambda inputs: "black"
    n_baselines: int = 1


def two_references(inputs: Tensor) -> Any:
    """A distribution of two references; all their values are equal, so that they favour no feature."""
    levels = inputs.new_tensor([-1.0, 0.5]).reshape(2, *[1] * (inputs.ndim - 1))
    return {"dataset_samples": {"reference": levels.expand(2, *inputs.shape[1:]).clone()}}


CHECKED = {
    "gradient": Checked(lambda draws: "gradient"),
    "gradient x input": Checked(lambda draws: "input_x_gradient"),
    "SmoothGrad": Checked(lambda draws: {"smoothgrad": {"sigma": 0.3, "n_samples": draws}}),
    "DeepLIFT": Checked(lambda draws: "deeplift"),
    "Integrated Gradients": Checked(lambda draws: {"integrated_gradients": {"steps": draws, "rule": "middle"}}),
    "Expected Gradients": Checked(
        lambda draws: {"expected_gradients": {"steps": draws, "n_references": REFERENCES}}, two_references, REFERENCES
    ),
}
"""Gradients and SmoothGrad are held against a black baseline. `draws`: noisy copies, steps, or positions per reference."""


def explained(method: str, model: Model, inputs: Tensor, draws: int, seed: int) -> Tensor:
    """The map of class 0 by a method of `CHECKED`."""
    one = CHECKED[method]
    name, own = METHODS.split(one.spec(draws))
    takes = METHODS[name].parameters
    own |= {"baseline": one.baseline(inputs)} if "baseline" in takes else {}
    own |= {"seed": seed} if "seed" in takes else {}
    bound = METHODS.bind({name: own}, **({"max_batch": 4096} if "max_batch" in takes else {}))
    return bound(model, inputs, torch.zeros(len(inputs), dtype=torch.int64))


def references(method: str, inputs: Tensor, seed: int) -> list[Tensor]:
    """The references that a method was given, each of the shape of the inputs."""
    one = CHECKED[method]
    return [baselines.draw(one.baseline(inputs), inputs, b, seed=seed) for b in range(one.n_baselines)]


def points(features: int, seed: int, low: float = -2.0, high: float = 2.0) -> Tensor:
    """(POINTS, features) float64, uniform between `low` and `high`."""
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand((POINTS, features), generator=generator, dtype=torch.float64)


def active(seed: int) -> Tensor:
    """Points where `late` and `early` are above 0: x1 > 1 + x2."""
    return points(2, seed, 0.2, 1.0) + torch.tensor([2.0, 0.0], dtype=torch.float64)


def value(model: Model, inputs: Tensor) -> Tensor:
    """f, the logit of class 0."""
    return compute.logits(model, inputs)[:, 0]


def completeness(method: str, draws: int, seed: int) -> float:
    """sum_i A_i = f(x) - f(x')."""
    one, worst = CHECKED[method], 0.0
    for model, features in ((toys.two_relu(), 2), (toys.product(), 2), (toys.square(), 2), (toys.saturation(), 1)):
        x = points(features, seed)
        asked = {"baseline": one.baseline(x), "n_baselines": one.n_baselines, "seed": seed}
        words = {"model": model, "inputs": x, "targets": torch.zeros(POINTS, dtype=torch.int64)}
        made = explained(method, model, x, draws, seed)
        worst = max(worst, float(METRICS.bind("completeness_gap", **asked)(**words, attributions=made).max()))
    return worst


def sensitivity(method: str, draws: int, seed: int) -> float:
    """(a) x and x' differ in one feature and f(x) != f(x'): it gets a part. Violation: the change that got no attribution."""
    model, x = toys.saturation(), points(1, seed, 2.5, 4.0)
    change = value(model, x) - torch.stack([value(model, b) for b in references(method, x, seed)]).mean(0)
    unseen = explained(method, model, x, draws, seed)[:, 0].abs() <= EXACT
    return float((change.abs() * unseen).max())


def null_player(method: str, draws: int, seed: int) -> float:
    """(b) f does not depend on a feature: its attribution is 0."""
    x = active(seed).flip(1)
    return float(explained(method, CANCELLING, x, draws, seed)[:, 1].abs().max())


def dummy_player(method: str, draws: int, seed: int) -> float:
    """A feature acts alone, f = h(x_i) + g(others): its attribution is h(x_i) - h(x'_i)."""
    worst = 0.0
    for model in (toys.saturation(), toys.square(), CANCELLING):
        x = active(seed).flip(1)
        made = explained(method, model, x, draws, seed)
        for i in range(2):
            alone = []
            for start in references(method, x, seed):
                moved = start.clone()
                moved[:, i] = x[:, i]
                alone.append(value(model, moved) - value(model, start))
            worst = max(worst, float((made[:, i] - torch.stack(alone).mean(0)).abs().max()))
    return worst


def invariance(method: str, draws: int, seed: int) -> float:
    """Two nets with one function have one map."""
    x = active(seed)
    pairs = [[explained(method, net, x, draws, seed) for net in nets] for nets in TWINS.values()]
    return max(float((first - second).abs().max()) for first, second in pairs)


def linearity(method: str, draws: int, seed: int) -> float:
    """A of 2 f - 3 g is 2 A(f) - 3 A(g)."""
    f, g, x = toys.two_relu(), toys.product(), points(2, seed)
    both = toys.Formula(lambda x: 2 * f.formula(x) - 3 * g.formula(x))
    whole, first, second = (explained(method, model, x, draws, seed) for model in (both, f, g))
    return float((whole - 2 * first + 3 * second).abs().max())


def symmetry(method: str, draws: int, seed: int) -> float:
    """f(x1, x2) = f(x2, x1), x1 = x2 and x'1 = x'2: equal attributions."""
    x = points(1, seed, 1.5, 3.0).expand(-1, 2).clone()
    maps = [explained(method, model, x, draws, seed) for model in (EVEN, toys.product())]
    return max(float((made[:, 0] - made[:, 1]).abs().max()) for made in maps)


AXIOMS: dict[str, Callable[[str, int, int], float]] = {
    "completeness": completeness,
    "sensitivity (a)": sensitivity,
    "sensitivity (b)": null_player,
    "dummy player": dummy_player,
    "implementation invariance": invariance,
    "linearity": linearity,
    "symmetry preservation": symmetry,
}


def axiom_rows(draws: int, seed: int) -> pd.DataFrame:
    """The largest violation of each axiom by each method, with `draws` and with 64 times as many.

    What falls with the number of draws is the error of a sum; what stays is the method's.
    """
    made = [
        {"method": f"{method} | {axiom}", "metric": metric, "value": check(method, count, seed)}
        for axiom, check in AXIOMS.items()
        for method in CHECKED
        for metric, count in ((METRIC, draws), (LATER, 64 * draws))
    ]
    return _toy_frame(made, seed)


def verdict(few: float, many: float) -> str:
    """What the violations with few and with 64 times as many draws mean.

    Up to `EXACT` is rounding; what falls by half at least is an error of sums.

    >>> verdict(0.0, 1e-16), verdict(0.2, 0.05), verdict(2.0, 1.9)
    ('holds', 'in the limit', 'violated')
    """
    if max(few, many) <= EXACT:
        return "holds"
    return "in the limit" if many <= few / 2 else "violated"


def _toy_frame(made: Sequence[Mapping[str, Any]], seed: int) -> pd.DataFrame:
    same = {"dataset": "none", "model": "toy", "method_parameters": {}, "metric_parameters": {}, "sample": "", "flag": ""}
    return pd.DataFrame([{**same, "seed": seed, "seconds": math.nan, **row} for row in made])[list(COLUMNS)]
