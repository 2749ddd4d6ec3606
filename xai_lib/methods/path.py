"""Integrated Gradients from one baseline and from many (FIDELITY 4.1, 4.2)."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from xai_lib import baselines
from xai_lib.compute import check_request
from xai_lib.errors import ConfigError
from xai_lib.paths import path_integral, straight_line
from xai_lib.registry import METHODS
from xai_lib.types import Model, Spec

BANK_VALUES = 64 * 1024 * 1024
"""Most values of single-baseline maps held at once (256 MB in float32); images are taken in groups that fit."""

ROUND = 5
"""How many baselines `n_baselines="auto"` adds between two looks at the error."""


@METHODS.register(
    label="Integrated Gradients",
    cite="sundararajan2017",
    traits={"family": "path integral", "gradient": True, "complete": True, "linear": True},
)
def integrated_gradients(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    baseline: Spec = "black",
    steps: int = 50,
    rule: str = "gauss_legendre",
    seed: int = 0,
    score: Any = "logit",
    max_batch: int | None = None,
) -> Tensor:
    """A_i = (x_i - x'_i) int_0^1 df(x' + a (x - x'))/dx_i da  (document 000, Eq. 1).

    Args:
        model: inputs -> logits.
        inputs: (n, ...) in pixel space.
        targets: (n,) int64.
        baseline: x': registered name, {name: {parameters}} or callable; a random one is its draw number 0 under `seed`.
        steps: nodes on the path, at least 1.
        rule: left, right (Eq. 2 of document 000), middle or gauss_legendre.
        seed: for random baselines.
        score: the explained scalar.
        max_batch: most rows (images x nodes) per pass.

    Returns:
        Same shape as `inputs`; sums to f(x) - f(x') up to the quadrature error (`completeness_gap`).

    Differs from document 000: it explains a probability and does not give the number of steps.

    >>> from xai_lib import toys
    >>> x, t = torch.tensor([[1.0, 1.0]]), torch.zeros(1, dtype=torch.int64)
    >>> integrated_gradients(toys.linear([[2.0, -3.0]]), x, t, steps=1)
    tensor([[ 2., -3.]])
    """
    check_request(model, inputs, targets)
    start = baselines.draw(baseline, inputs, seed=seed)
    nodes = straight_line(inputs, start, steps=steps, rule=rule)
    return path_integral(model, targets, nodes, score=score, max_batch=max_batch)


@METHODS.register(
    label="Multi-baseline Integrated Gradients",
    cite="shewale2023",
    traits={"family": "path integral", "gradient": True, "random": True, "linear": True},
)
def multi_baseline_integrated_gradients(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    baseline: Spec = "uniform",
    n_baselines: int | str = 10,
    aggregate: str = "mean",
    steps: int = 12,
    rule: str = "gauss_legendre",
    tolerance: float = 0.1,
    max_baselines: int = 100,
    seed: int = 0,
    score: Any = "logit",
    max_batch: int | None = None,
) -> Tensor:
    """A = mean_b or median_b of IG(x; x'_b), b = 1..B, pixel by pixel (document 000, section 3.1.2).

    The baselines are nested: the first 5 of 50 are the 5.

    Args:
        baseline: a random baseline.
        n_baselines: B, at least 1, or "auto": baselines are added in fives until the estimated relative error of the mean
            map, sqrt(sum_i s_i^2 / B) / ||A||_2, is at most `tolerance` (see `relative_error`).
        aggregate: "mean" (complete: sums to f(x) - mean_b f(x'_b)) or "median" (not complete).
        tolerance: for "auto", above 0.
        max_baselines: where "auto" stops at the latest.
        steps: nodes per baseline.
        rule: as in `integrated_gradients`, or "staggered": nodes shifted from baseline to baseline, so that the errors of
            few steps cancel in the mean (`paths.staggered`).
        model, inputs, targets, seed, score, max_batch: as in `integrated_gradients`.

    Returns:
        Same shape as `inputs`.

    Raises:
        ConfigError: a deterministic baseline with more than one copy, a bad count, or "auto" with the median.
    """
    if n_baselines == "auto":
        if aggregate != "mean":
            raise ConfigError(f"n_baselines='auto' is a rule for the mean, got aggregate={aggregate!r}; give a number instead")
        return until_stable(
            model, inputs, targets, baseline=baseline, tolerance=tolerance, max_baselines=max_baselines,
            steps=steps, rule=rule, seed=seed, score=score, max_batch=max_batch,
        )[0]  # fmt: skip
    made = nested_aggregates(
        model, inputs, targets, counts=(n_baselines,), aggregates=(aggregate,), baseline=baseline,
        steps=steps, rule=rule, seed=seed, score=score, max_batch=max_batch,
    )  # fmt: skip
    return made[n_baselines, aggregate]


def nested_aggregates(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    counts: Sequence[Any],
    aggregates: Sequence[str] = ("mean", "median"),
    baseline: Spec = "uniform",
    steps: int = 12,
    rule: str = "gauss_legendre",
    seed: int = 0,
    score: Any = "logit",
    max_batch: int | None = None,
) -> dict[tuple[Any, str], Tensor]:
    """The aggregated maps for several numbers of baselines, from the one computation of the largest.

    Args:
        counts: numbers of baselines B, each at least 1.
        aggregates: of "mean" and "median".
        Others as in `multi_baseline_integrated_gradients`.

    Returns:
        {(B, aggregate): (n, ...)}.
    """
    check_request(model, inputs, targets)
    _check_counts(counts, aggregates, baseline)
    keys = [(count, how) for count in counts for how in aggregates]
    parts: dict[tuple[Any, str], list[Tensor]] = {k: [] for k in keys}
    for bank in _banks(model, inputs, targets, max(counts), baseline, steps, rule, seed, score, max_batch):
        for count, how in keys:
            maps = bank[:, :count]
            parts[count, how].append(maps.mean(dim=1) if how == "mean" else _median(maps))
    return {k: torch.cat(v) for k, v in parts.items()}


def until_stable(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    baseline: Spec = "uniform",
    tolerance: float = 0.1,
    max_baselines: int = 100,
    steps: int = 12,
    rule: str = "gauss_legendre",
    seed: int = 0,
    score: Any = "logit",
    max_batch: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean maps with as many baselines as each image needs.

    Returns:
        maps (n, ...), baselines used (n,) int64, estimated relative error reached (n,). Each image stops on its own, so
        company changes nothing; an error above `tolerance` means that `max_baselines` was reached.
    """
    check_request(model, inputs, targets)
    _check_counts([max_baselines], ["mean"], baseline)
    if not tolerance > 0:
        raise ConfigError(f"tolerance={tolerance}: expected a number above 0")
    maps = torch.empty_like(inputs)
    used = torch.zeros(len(inputs), dtype=torch.int64)
    errors = torch.zeros(len(inputs), dtype=torch.float64)
    for i in range(len(inputs)):
        image, target = inputs[i : i + 1], targets[i : i + 1]
        moments = torch.zeros((2, *image.shape[1:]), dtype=torch.float64, device=inputs.device)
        for first in range(0, max_baselines, ROUND):
            numbers = range(first, min(first + ROUND, max_baselines))
            bank = _single_maps(model, image, target, numbers, baseline, steps, rule, seed, score, max_batch)[0].double()
            moments += torch.stack([bank.sum(0), (bank**2).sum(0)])
            used[i] = numbers[-1] + 1
            errors[i] = relative_error(moments[0], moments[1], int(used[i]))
            if errors[i] <= tolerance:
                break
        maps[i] = (moments[0] / int(used[i])).to(inputs)
    return maps, used, errors


def relative_error(total: Tensor, squares: Tensor, count: int) -> float:
    """Estimated ||mean_B - mean_inf||_2 / ||mean_inf||_2 of a mean map over independent baselines.

    With s_i^2 the unbiased variance over baselines of pixel i, E||mean_B - mean_inf||^2 = sum_i s_i^2 / B =: e, and
    ||mean_inf||^2 is estimated without bias by ||mean_B||^2 - e. The result is sqrt(e / (||mean_B||^2 - e)).

    Args:
        total, squares: sums over baselines of the maps and of their squares, float64.
        count: B.

    Returns:
        A number of at least 0; infinity for B = 1 or where noise explains the whole map; 0 for a zero map.
    """
    if count < 2:
        return float("inf")
    mean = total / count
    noise = float(((squares - count * mean**2).clamp_min(0) / (count - 1)).sum() / count)
    signal = float((mean**2).sum()) - noise
    if noise == 0:
        return 0.0
    return (noise / signal) ** 0.5 if signal > 0 else float("inf")


def _banks(
    model: Model, inputs: Tensor, targets: Tensor, count: int, baseline: Spec, steps: int, rule: str, seed: int, score: Any,
    max_batch: int | None,
) -> Iterator[Tensor]:  # fmt: skip
    """Groups of images with all their single-baseline maps, (group, B, ...)."""
    group = max(1, BANK_VALUES // (count * inputs[0].numel()))
    for i in range(0, len(inputs), group):
        part = slice(i, i + group)
        yield _single_maps(model, inputs[part], targets[part], range(count), baseline, steps, rule, seed, score, max_batch)


def _single_maps(
    model: Model, inputs: Tensor, targets: Tensor, numbers: Sequence[int], baseline: Spec, steps: int, rule: str, seed: int,
    score: Any, max_batch: int | None,
) -> Tensor:  # fmt: skip
    starts = torch.stack([baselines.draw(baseline, inputs, b, seed=seed) for b in numbers], dim=1).flatten(0, 1)
    ends = inputs.repeat_interleave(len(numbers), dim=0)
    nodes = straight_line(ends, starts, steps=steps, rule=rule, numbers=list(numbers) * len(inputs))
    maps = path_integral(model, targets.repeat_interleave(len(numbers)), nodes, score=score, max_batch=max_batch)
    return maps.unflatten(0, (len(inputs), len(numbers)))


def _median(maps: Tensor) -> Tensor:
    """Median over dim 1; of an even number the mean of the two middle values (torch.median takes the lower)."""
    ordered = maps.sort(dim=1).values
    count = maps.shape[1]
    return (ordered[:, (count - 1) // 2] + ordered[:, count // 2]) / 2


def _check_counts(counts: Sequence[Any], aggregates: Sequence[str], baseline: Spec) -> None:
    for count in counts:
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ConfigError(f"n_baselines={count!r}: expected an integer of at least 1, or 'auto'")
        if count > 1 and not callable(baseline) and not baselines.is_random(baseline):
            raise ConfigError(
                f"n_baselines={count} with baseline {baseline!r}: it is the same image every time; "
                "use a random baseline, or integrated_gradients"
            )
    for how in aggregates:
        if how not in ("mean", "median"):
            raise ConfigError(f"aggregate={how!r}: expected 'mean' or 'median'")
