"""Does the score follow the attribution when features are taken away or put back? (FIDELITY 8.5, 8.6)"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from xai_lib import agreement, baselines, compute, maps
from xai_lib.checks import check_count
from xai_lib.metrics.checks import check_attributions, check_choice, undefined_where, without_order
from xai_lib.registry import METRICS
from xai_lib.types import Model, Spec


@METRICS.register(label="Faithfulness estimate", cite="alvarezmelis2018self", traits={"family": "faithfulness"})
def faithfulness_estimate(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    attributions: Tensor,
    *,
    features_in_step: int = 224,
    baseline: float | Spec = 0.0,
    correlation: str = "pearson",
    reduce: str = "sum",
    channelwise: bool = False,
    score: Any = "prob",
    seed: int = 0,
    max_batch: int | None = None,
) -> Tensor:
    """Correlation between the attribution of a group of features and the drop of the score when that group alone is removed.

    Features are sorted by attribution, largest first, and cut into consecutive groups G_1 ... G_m of `features_in_step`
    (the last may be smaller): corr_g(sum_{i in G_g} A_i, f(x) - f(x with G_g replaced)). Groups are removed one at a time,
    not cumulatively. Invariant to multiplying the map by a positive number, but for the order of tied features.

    Args:
        model: inputs -> logits.
        inputs: (n, c, h, w) or (n, d).
        targets: (n,) int64.
        attributions: same shape as `inputs`.
        features_in_step: group size in pixels (in channel values if `channelwise`), at least 1.
        baseline: what removed features become: a value, "mean" (mean of all values of the image), or a baseline.
        correlation: "pearson" or "spearman".
        reduce: how channels become one value per pixel (`maps.reduce`); not used if `channelwise`.
        channelwise: rank and remove single channel values instead of pixels with all their channels.
        score: what drops; the probability by default.
        seed: for ties and random baselines.
        max_batch: most rows (images x groups) per forward pass.

    Returns:
        (n,) in [-1, 1], higher is better. NaN where the map is zero, constant, or holds NaN or infinity, where no group
        changes the score, and where there is one group only.

    Differs from the document: 000 gives neither group size, replacement nor correlation. Differs from Quantus 0.6.0, whose
    text says Spearman and whose code is Pearson, whose "black" is the minimum of the image, and which removes channel values
    one by one (`channelwise=True, baseline=0.0` gives its number).

    >>> from xai_lib import toys
    >>> x, w = torch.tensor([[1.0, 1.1, 1.2, 1.3]]), torch.tensor([[4.0, 3.0, 2.0, 1.0]])
    >>> own = {"features_in_step": 1, "score": "logit"}
    >>> round(faithfulness_estimate(toys.linear(w), x, torch.zeros(1, dtype=torch.int64), w * x, **own).item(), 5)
    1.0
    """
    check_choice("correlation", correlation, ("pearson", "spearman"))
    _check(model, inputs, targets, attributions, features_in_step)
    values = _features(attributions, reduce, channelwise)
    undefined = without_order(values)
    order = maps.ranking(_rankable(values, undefined), seed=seed)
    steps = -(-values.shape[1] // features_in_step)
    before = compute.scores(model, inputs, targets, score=score, max_batch=max_batch)
    after = _step_scores(
        model, inputs, targets, order, features_in_step, steps, torch.eq,
        baseline=baseline, score=score, seed=seed, max_batch=max_batch,
    )  # fmt: skip
    sums = _group_sums(values.gather(1, order), features_in_step)
    correlate = agreement.correlation if correlation == "pearson" else agreement.rank_correlation
    found = torch.as_tensor(correlate(sums, (before[:, None] - after).double()), device=inputs.device)
    return undefined_where(found, undefined).to(inputs.dtype)


@METRICS.register(label="Monotonicity", cite="arya2019", traits={"family": "faithfulness"})
def monotonicity(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    attributions: Tensor,
    *,
    features_in_step: int = 224,
    baseline: float | Spec = 0.0,
    strict: bool = False,
    tolerance: float = 1e-6,
    reduce: str = "sum",
    channelwise: bool = False,
    score: Any = "prob",
    seed: int = 0,
    max_batch: int | None = None,
) -> Tensor:
    """Share of steps at which the score does not fall while features are put back, least important first.

    From the baseline image, the original features return in ascending |A|, `features_in_step` at a time, up to the whole
    image: mean_k [f(x_k) - f(x_{k-1}) >= -tolerance] over k = 1..m, x_0 the baseline, x_m = x. Invariant to multiplying the
    map by any number but 0, but for ties.

    Args:
        strict: 1.0 if no step falls, else 0.0.
        tolerance: a fall of at most this many units of the score counts as none, so that rounding decides nothing.
        Others as in `faithfulness_estimate`.

    Returns:
        (n,) in [0, 1], higher is better; 0 or 1 if `strict`. NaN where |A| is zero, constant, or holds NaN or infinity.

    Differs from the document: 000 describes it and reports no value. Differs from Quantus 0.6.0, which replaces the baseline by
    the baseline and so always answers True.

    >>> from xai_lib import toys
    >>> x, w = torch.ones(1, 3), torch.tensor([[1.0, -2.0, 3.0]])
    >>> own = {"features_in_step": 1, "score": "logit"}
    >>> round(monotonicity(toys.linear(w), x, torch.zeros(1, dtype=torch.int64), w * x, **own).item(), 4)
    0.6667
    """
    _check(model, inputs, targets, attributions, features_in_step)
    values = _features(attributions, reduce, channelwise).abs()
    undefined = without_order(values)
    order = maps.ranking(_rankable(values, undefined), seed=seed, descending=False)
    steps = -(-values.shape[1] // features_in_step)
    curve = _step_scores(
        model, inputs, targets, order, features_in_step, steps + 1, torch.ge,
        baseline=baseline, score=score, seed=seed, max_batch=max_batch,
    )  # fmt: skip
    rising = curve.diff(dim=1) >= -tolerance
    found = rising.all(dim=1).double() if strict else rising.double().mean(dim=1)
    return undefined_where(found, undefined).to(inputs.dtype)


def _step_scores(
    model: Model, inputs: Tensor, targets: Tensor, order: Tensor, size: int, steps: int,
    removed: Callable[[Tensor, Tensor], Tensor], *, baseline: float | Spec, score: Any, seed: int, max_batch: int | None,
) -> Tensor:  # fmt: skip
    """Scores (n, steps) of each image, at each step without the features for which `removed(group, step)`."""
    fill = _fill(baseline, inputs, seed)
    groups = torch.arange(order.shape[1], device=order.device, dtype=torch.int32).div(size, rounding_mode="floor")
    group = torch.empty_like(order, dtype=torch.int32).scatter_(1, order, groups.expand_as(order))
    one_per_pixel = order.shape[1] != inputs[0].numel()

    def rows(index: Tensor) -> tuple[Tensor, Tensor]:
        image, step = index // steps, index % steps
        gone = removed(group[image], step[:, None])
        shape = (len(index), 1, *inputs.shape[2:]) if one_per_pixel else (len(index), *inputs.shape[1:])
        return torch.where(gone.reshape(shape), fill[image], inputs[image]), targets[image]

    made = compute.score_rows(model, rows, len(inputs) * steps, inputs, score=score, max_batch=max_batch)
    return torch.cat([part for _, part in made]).reshape(len(inputs), steps)


def _features(attributions: Tensor, reduce: str, channelwise: bool) -> Tensor:
    return (attributions if channelwise else maps.reduce(attributions, reduce)).flatten(1).double()


def _fill(baseline: float | Spec, inputs: Tensor, seed: int) -> Tensor:
    if isinstance(baseline, int | float) and not isinstance(baseline, bool):
        return torch.full_like(inputs, float(baseline))
    if baseline == "mean":
        return baselines.average(inputs, per="image")
    return baselines.draw(cast(Spec, baseline), inputs, 0, seed=seed)


def _rankable(values: Tensor, undefined: Tensor) -> Tensor:
    return values.masked_fill(undefined[:, None], 0.0)


def _group_sums(ordered: Tensor, size: int) -> Tensor:
    missing = -ordered.shape[1] % size
    return torch.nn.functional.pad(ordered, (0, missing)).unflatten(1, (-1, size)).sum(dim=2)


def _check(model: Model, inputs: Tensor, targets: Tensor, attributions: Tensor, features_in_step: int) -> None:
    compute.check_request(model, inputs, targets)
    check_attributions(attributions, inputs)
    check_count("features_in_step", features_in_step)
