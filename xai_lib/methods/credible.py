"""Credible path attribution: document 001's Algorithm 2, its readings, its ablations and the controls it is compared with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xai_lib import baselines
from xai_lib.compute import check_request, gradient_rows, input_gradient
from xai_lib.desired import DesiredBaseline, desired_baseline, scaled
from xai_lib.errors import ConfigError
from xai_lib.paths import Nodes, line_nodes, quadrature
from xai_lib.randomness import image_generator, key
from xai_lib.registry import METHODS
from xai_lib.types import Model, Spec
from xai_lib.validity import Validity, Variant


@dataclass(frozen=True)
class CrediblePaths:
    """What Algorithm 2 did, for each of n images.

    attributions  (n, ...)
    accepted      (n, B) share of feature values on the path that passed the check
    found         what Algorithm 1 returned for each baseline; empty if another baseline was asked for
    """

    attributions: Tensor
    accepted: Tensor
    found: tuple[DesiredBaseline, ...]


@METHODS.register(
    label="Credible path attribution", cite="akhtar2023", traits={"family": "path integral", "gradient": True, "random": True}
)
def credible_path_attribution(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    baseline: Spec = "desired",
    n_baselines: int = 3,
    steps: int = 150,
    rule: str = "uniform",
    check: str = "valid",
    reading: str = "A",
    divide: str = "count",
    empty: str = "zero",
    sigmas: Sequence[float] = (2.0, 5.0, 10.0),
    objective: str = "logit_l2",
    eta: float = 0.01,
    epsilon: float = 0.3,
    delta: float = 0.02,
    max_iterations: int = 50,
    constraint: str = "enforced",
    seed: int = 0,
    score: Any = "logit",
    max_batch: int | None = None,
) -> Tensor:
    """A_i = mean_b (x_i - x'_bi) sum_k v_bki df(x~_bk)/dx_i / sum_k v_bki, v = 1 where valid  (document 001, Algorithm 2).

    x~_bk = x'_b + a_k (x - x'_b). Complete only without the check: with it, and with a baseline of nearly equal logits, the
    sum of a complete map would be nearly 0.

    Args:
        model: inputs -> logits.
        inputs: (n, ...) in pixel space.
        targets: (n,) int64.
        baseline: "desired" (Algorithm 1, from blurs of `sigmas`), or any baseline of the registry.
        n_baselines: B, at least 1; at most the number of `sigmas` for "desired", 1 for a deterministic one.
        steps: K, shared by the baselines: floor(K / B) nodes each.
        rule: "uniform" (a_k ~ U(0, 1) as printed) or a rule of `paths.quadrature`, whose weights then weigh the sums.
        check: "valid"; "none" (with `divide="steps"` plain Integrated Gradients); "random": at every node as many features as
            are valid, but drawn at random (a control); "printed": line 4 as it stands, which compares with 0, accepts nothing
            and returns NaN.
        reading: of the check, see `validity.valid_features`.
        divide: "count" (line 11: the features that passed) or "steps" (the text's 1/m).
        empty: a feature that never passed gets "zero", or ("skip") that baseline does not count in its mean over b.
        sigmas: blurs in pixels of a 224-pixel side, scaled to the image's shorter side; one for each desired baseline.
        objective, eta, epsilon, delta, max_iterations, constraint: of Algorithm 1, see `desired.desired_baseline`.
        seed: of positions, random baselines and random masks.
        score: the explained scalar.
        max_batch: most rows per pass.

    Returns:
        Same shape as `inputs`.

    Raises:
        ConfigError: a parameter out of its range.

    Differs from document 001: the printed Algorithm 2 overwrites its reference gradient and divides 0 by 0 (`check="printed"`);
    two variables are meant. Values of sigma, eta, epsilon, delta are ours (the supplement was not available).

    >>> from xai_lib import toys
    >>> x, t = torch.tensor([[1.0, 1.0]]), torch.zeros(1, dtype=torch.int64)
    >>> own = {"baseline": "black", "n_baselines": 1, "steps": 4, "rule": "middle"}
    >>> credible_path_attribution(toys.linear([[2.0, -3.0]]), x, t, **own)
    tensor([[ 2., -3.]])
    """
    return credible_paths(
        model, inputs, targets, baseline=baseline, n_baselines=n_baselines, steps=steps, rule=rule, check=check,
        reading=reading, divide=divide, empty=empty, sigmas=sigmas, objective=objective, eta=eta, epsilon=epsilon, delta=delta,
        max_iterations=max_iterations, constraint=constraint, seed=seed, score=score, max_batch=max_batch,
    ).attributions  # fmt: skip


def credible_paths(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    check: str = "valid",
    reading: str = "A",
    divide: str = "count",
    empty: str = "zero",
    **others: Any,
) -> CrediblePaths:
    """As `credible_path_attribution`, with the share of valid features and what Algorithm 1 found."""
    variant = {"check": check, "reading": reading, "divide": divide, "empty": empty}
    return credible_variants(model, inputs, targets, {"": variant}, **others)[""]


def credible_variants(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    variants: Mapping[str, Mapping[str, str]],
    *,
    baseline: Spec = "desired",
    n_baselines: int = 3,
    steps: int = 150,
    rule: str = "uniform",
    sigmas: Sequence[float] = (2.0, 5.0, 10.0),
    seed: int = 0,
    score: Any = "logit",
    max_batch: int | None = None,
    **search: Any,
) -> dict[str, CrediblePaths]:
    """Several variants of Algorithm 2 from the same baselines and the same gradients, which cost nearly all of the time.

    Args:
        variants: {label: {check, reading, divide, empty}}, see `validity.Variant`.
        search: of `desired_baseline`.
        Others as in `credible_path_attribution`.

    Returns:
        {label: CrediblePaths}.
    """
    check_request(model, inputs, targets)
    _check_sizes(baseline, n_baselines, steps, sigmas)
    asked = {label: Variant(**own) for label, own in variants.items()}
    inputs = inputs.detach()
    rho = input_gradient(model, inputs, targets, score=score, max_batch=max_batch)
    found: list[DesiredBaseline] = []
    maps = {label: torch.zeros_like(inputs, memory_format=torch.contiguous_format) for label in asked}
    counted = {label: torch.zeros_like(inputs) for label in asked}
    accepted: dict[str, list[Tensor]] = {label: [] for label in asked}
    for b in range(n_baselines):
        if baseline == "desired":
            found.append(
                desired_baseline(model, inputs, sigma=scaled(sigmas[b], inputs), seed=seed, max_batch=max_batch, **search)
            )
            start = found[-1].baselines
        else:
            start = baselines.draw(baseline, inputs, b, seed=seed)
        positions, weights = _positions(inputs, steps // n_baselines, rule, key("position", seed, b))
        nodes = line_nodes(inputs, start, positions, weights)
        masks = [Validity(variant, rho, inputs, key("mask", seed, b)) for variant in asked.values()]
        made = _integrate(model, targets, nodes, weights.to(inputs), masks, score, max_batch)
        for (label, variant), (sums, passed, share) in zip(asked.items(), made, strict=True):
            total = passed if variant.divide == "count" else torch.ones_like(passed)
            printed = variant.check == "printed"
            means = sums / total if printed else torch.where(passed > 0, sums / total.clamp_min(1e-12), 0.0)
            maps[label] += (inputs - start) * means
            counted[label] += (passed > 0) if variant.empty == "skip" else 1
            accepted[label].append(share)
    return {
        label: CrediblePaths(maps[label] / counted[label].clamp_min(1), torch.stack(accepted[label], dim=1), tuple(found))
        for label in asked
    }


def _positions(inputs: Tensor, steps: int, rule: str, seed: int) -> tuple[Tensor, Tensor]:
    """a_k and w_k of each image, (n, steps) each."""
    if rule == "uniform":
        drawn = [torch.rand(steps, generator=image_generator(seed, "credible", image), dtype=torch.float64) for image in inputs]
        positions = torch.stack(drawn)
        return positions, torch.full_like(positions, 1 / steps)
    positions, weights = (torch.as_tensor(values).expand(len(inputs), -1) for values in quadrature(rule, steps))
    return positions, weights


def _integrate(
    model: Model, targets: Tensor, nodes: Nodes, weights: Tensor, masks: Sequence[Validity], score: Any, max_batch: int | None
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """For each mask: sums of weighted valid gradients, sums of their weights (both (n, ...)), share of valid features (n,)."""
    empty = torch.zeros_like(nodes.like, memory_format=torch.contiguous_format)
    made = [(empty.clone(), empty.clone(), empty.new_zeros(len(empty))) for _ in masks]

    def rows(index: Tensor) -> tuple[Tensor, Tensor]:
        image = index // nodes.per_image
        return nodes.point(image, index % nodes.per_image), targets[image]

    n_rows = len(empty) * nodes.per_image
    for index, gradients in gradient_rows(model, rows, n_rows, nodes.like, score=score, max_batch=max_batch):
        image, node = index // nodes.per_image, index % nodes.per_image
        points = nodes.point(image, node)
        weight = weights[image, node].reshape(-1, *[1] * (empty.ndim - 1))
        for mask, (sums, passed, accepted) in zip(masks, made, strict=True):
            valid = mask(image, node, points, gradients)
            sums.index_add_(0, image, weight * valid * gradients)
            passed.index_add_(0, image, weight * valid)
            accepted.index_add_(0, image, valid.flatten(1).mean(dim=1) / nodes.per_image)
    return made


def _check_sizes(baseline: Spec, n_baselines: Any, steps: Any, sigmas: Sequence[float]) -> None:
    if isinstance(n_baselines, bool) or not isinstance(n_baselines, int) or n_baselines < 1:
        raise ConfigError(f"n_baselines={n_baselines!r}: expected an integer of at least 1")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < n_baselines:
        raise ConfigError(f"steps={steps!r}: expected an integer of at least n_baselines={n_baselines}, one node each")
    if baseline == "desired":
        if n_baselines > len(sigmas):
            raise ConfigError(
                f"n_baselines={n_baselines} with {len(sigmas)} sigmas: each desired baseline needs a blur of its own"
            )
    elif n_baselines > 1 and (callable(baseline) or not baselines.is_random(baseline)):
        raise ConfigError(f"n_baselines={n_baselines} with baseline {baseline!r}, which is the same every time; use 1")
