"""The desired baseline of document 001: like x for the model, unlike x in every feature (Definition 6, Algorithm 1)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xai_lib import baselines
from xai_lib.compute import check_request, logits, scored_gradient_rows
from xai_lib.errors import ConfigError
from xai_lib.types import Model, Spec

ROUNDING = 1e-6
"""By how much |x - x'| may fall short of `delta` without being counted as a violation."""


@dataclass(frozen=True)
class DesiredBaseline:
    """What Algorithm 1 found, for each of n images.

    baselines       (n, ...) the point with the smallest distance among all that the loop passed
    distance        (n,) ||z(x) - z(x')||_2 of the logits there
    start_distance  (n,) the same at the starting point, after the first push
    norm            (n,) ||z(x)||_2
    iterations      (n,) int64, steps taken
    converged       (n,) bool, whether distance <= epsilon norm was reached
    violations      (n,) share of features with |x_i - x'_i| < delta
    probability     (n,) softmax probability at x' of the class predicted at x
    """

    baselines: Tensor
    distance: Tensor
    start_distance: Tensor
    norm: Tensor
    iterations: Tensor
    converged: Tensor
    violations: Tensor
    probability: Tensor

    @property
    def gradient_rows(self) -> int:
        """Forward and backward passes spent, one per image and point looked at."""
        return int(self.iterations.sum()) + len(self.iterations)


def desired_baseline(
    model: Model,
    inputs: Tensor,
    targets: Tensor | None = None,
    *,
    sigma: float | None = None,
    start: Spec | None = None,
    objective: str = "logit_l2",
    eta: float = 0.01,
    epsilon: float = 0.3,
    delta: float = 0.02,
    max_iterations: int = 50,
    constraint: str = "enforced",
    seed: int = 0,
    max_batch: int | None = None,
) -> DesiredBaseline:
    """min over x' of ||z(x) - z(x')||_2 with |x_i - x'_i| >= delta for all i, by sign steps  (document 001, Algorithm 1).

    From a blurred x: x' <- x' - eta sgn(dJ/dx'), then every feature nearer than delta is pushed away by delta, then clipped to
    [0, 1] (images only), until ||z(x) - z(x')||_2 <= epsilon ||z(x)||_2 or `max_iterations`.

    Args:
        model: inputs -> logits z.
        inputs: (n, ...); images in pixel space.
        targets: (n,) class of the cross-entropy; the predicted class when None.
        sigma: standard deviation of the starting blur in pixels, as in baseline "blur".
        start: where to start instead of the blur, any baseline.
        objective: J = "logit_l2", ||z(x) - z(x')||_2 itself, or "cross_entropy" of the class at x' (Lemma 1), which does not
            lead back to z(x): its minimum is probability 1.
        eta: step, above 0, in input units.
        epsilon: relative distance at which to stop, at least 0.
        delta: least distance of every feature, 0 to 0.5.
        max_iterations: most steps, at least 0.
        constraint: "enforced": before the first step as well; a feature at x_i = x'_i goes towards the middle of [0, 1]; one
            that clipping brings back goes to the other side. "printed": lines 4-7 as they stand, which leave features nearer
            than delta.
        seed: of a random `start`.
        max_batch: most rows per pass.

    Returns:
        DesiredBaseline. An image's result does not depend on the others.

    Raises:
        ConfigError: a parameter out of its range.

    Differs from document 001: the best point seen is returned, the loop is bounded and epsilon is relative, because the printed
    loop need not end (with cross-entropy, or where the push undoes the step). Values of sigma, eta, epsilon and delta are in a
    supplement that we did not have.
    """
    targets = logits(model, inputs, max_batch=max_batch).argmax(1) if targets is None else targets
    check_request(model, inputs, targets)
    _check(objective, eta, epsilon, delta, max_iterations, constraint)
    inputs = inputs.detach()
    reference = logits(model, inputs, max_batch=max_batch)
    norm = reference.norm(dim=1)
    point = baselines.draw({"blur": {"sigma": sigma}} if start is None else start, inputs, seed=seed).clone()
    if constraint == "enforced":
        point = push_away(inputs, point, delta, constraint)
    looked = _Look(model, reference, targets, objective, max_batch)
    best = point.clone()
    distance = torch.full_like(norm, torch.inf)
    first, probability = torch.empty_like(norm), torch.empty_like(norm)
    iterations = torch.zeros(len(inputs), dtype=torch.int64, device=inputs.device)
    active = torch.arange(len(inputs), device=inputs.device)
    for step in range(max_iterations + 1):
        gradient, here, chance = looked(point[active], active)
        if step == 0:
            first[active] = here
        better = here < distance[active]
        chosen = active[better]
        best[chosen], distance[chosen], probability[chosen] = point[chosen], here[better], chance[better]
        iterations[active] = step
        going = here > epsilon * norm[active]
        active, gradient = active[going], gradient[going]
        if not len(active) or step == max_iterations:
            break
        moved = point[active] - eta * gradient.sign()
        point[active] = push_away(inputs[active], moved, delta, constraint)
    violations = ((inputs - best).abs() < delta - ROUNDING).flatten(1).to(norm.dtype).mean(dim=1)
    return DesiredBaseline(best, distance, first, norm, iterations, distance <= epsilon * norm, violations, probability)


def scaled(sigma: float, inputs: Tensor) -> float:
    """A blur in pixels of a 224-pixel side as pixels of these images, by their shorter side; as it is for tables.

    >>> scaled(7.0, torch.zeros(1, 3, 32, 64))
    1.0
    """
    return sigma * min(inputs.shape[2:]) / 224 if inputs.ndim == 4 else sigma


def push_away(inputs: Tensor, points: Tensor, delta: float, constraint: str = "enforced") -> Tensor:
    """Lines 4-7 of Algorithm 1: x'_i <- x'_i - sgn(x_i - x'_i) delta where |x_i - x'_i| < delta, then clipped to [0, 1].

    Args:
        inputs, points: (n, ...); only images (n, c, h, w) are clipped.
        delta: least distance.
        constraint: "printed" or "enforced", as in `desired_baseline`.
    """
    side = (points - inputs).sign()
    if constraint == "enforced":
        inward = torch.where(inputs < 0.5, 1.0, -1.0).to(inputs)
        side = torch.where(side == 0, inward, side)
    near = (inputs - points).abs() < delta - ROUNDING
    points = torch.where(near, points + side * delta, points)
    if inputs.ndim == 4:
        points = points.clamp(0, 1)
    if constraint == "enforced":
        near = (inputs - points).abs() < delta - ROUNDING
        points = torch.where(near, inputs - side * delta, points)
    return points


class _Look:
    """Gradient of the objective at points, with what the loop needs to know about them."""

    def __init__(self, model: Model, reference: Tensor, targets: Tensor, objective: str, max_batch: int | None) -> None:
        self.model, self.reference, self.targets, self.max_batch = model, reference, targets, max_batch
        self.objective = objective

    def __call__(self, points: Tensor, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        distances = torch.empty(len(points), dtype=self.reference.dtype, device=points.device)
        chances = torch.empty_like(distances)
        now = torch.arange(0)

        def rows(index: Tensor) -> tuple[Tensor, Tensor]:
            nonlocal now
            now = index
            return points[index], self.targets[images[index]]

        def score(out: Tensor, targets: Tensor) -> Tensor:
            """The objective of the rows that were asked for last."""
            away = (out - self.reference[images[now]]).norm(dim=1)
            chance = out.log_softmax(dim=1).gather(1, targets[:, None])[:, 0]
            distances[now], chances[now] = away.detach(), chance.detach().exp()
            return away if self.objective == "logit_l2" else -chance

        made = scored_gradient_rows(self.model, rows, len(points), points, score=score, max_batch=self.max_batch)
        gradients = torch.cat([gradient for _, (_, gradient) in made])
        return gradients, distances, chances


def _check(objective: str, eta: float, epsilon: float, delta: float, max_iterations: Any, constraint: str) -> None:
    if objective not in ("logit_l2", "cross_entropy"):
        raise ConfigError(f"objective={objective!r}: expected 'logit_l2' or 'cross_entropy'")
    if constraint not in ("enforced", "printed"):
        raise ConfigError(f"constraint={constraint!r}: expected 'enforced' or 'printed'")
    if not eta > 0:
        raise ConfigError(f"eta={eta}: expected a step above 0, in input units")
    if not epsilon >= 0:
        raise ConfigError(f"epsilon={epsilon}: expected a relative distance of at least 0")
    if not 0 <= delta <= 0.5:
        raise ConfigError(f"delta={delta}: expected 0 to 0.5, since no pixel has more room than 0.5 on both sides")
    if isinstance(max_iterations, bool) or not isinstance(max_iterations, int) or max_iterations < 0:
        raise ConfigError(f"max_iterations={max_iterations!r}: expected an integer of at least 0")
