"""Patches that a model does not react to, for the input independence rate of BAM (FIDELITY 8.12)"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xai_lib import compute
from xai_lib.checks import check_count
from xai_lib.errors import ConfigError, InputError
from xai_lib.metrics.checks import check_choice
from xai_lib.types import Model


@dataclass(frozen=True)
class IrrelevantPatches:
    """What `irrelevant_patches` found, for each of n images.

    inputs          (n, c, h, w) the scene with the best patch
    distance        (n,) ||z(x) - z(x')||_2 of the logits there: what is left of its relevance
    start_distance  (n,) the same with the object as it was pasted
    norm            (n,) ||z(x)||_2
    contrast        (n,) root mean square of patch - scene over the object's pixels; 0 would be no patch at all
    iterations      (n,) int64, steps taken
    """

    inputs: Tensor
    distance: Tensor
    start_distance: Tensor
    norm: Tensor
    contrast: Tensor
    iterations: Tensor


def irrelevant_patches(
    model: Model,
    scenes: Tensor,
    composites: Tensor,
    masks: Tensor,
    *,
    rule: str = "sign",
    eta: float = 0.02,
    radius: float = 0.25,
    epsilon: float = 0.01,
    max_iterations: int = 300,
    max_batch: int | None = None,
) -> IrrelevantPatches:
    """Objects changed so that the model's logits are those of the scene without them: min_x' ||z(x) - z(x')||_2.

    x' is x outside the mask, and in [0, 1] and within `radius` of the pasted object inside. Steps of falling length
    eta_k = eta (1 - k / max_iterations) go down the gradient, each followed by clipping; the best point passed is kept.

    Args:
        model: inputs -> logits z.
        scenes: x, (n, c, h, w) in pixel space.
        composites: (n, c, h, w), the scenes with their objects: where the search starts.
        masks: (n, h, w) bool, the object's pixels.
        rule: "sign", every value of the patch moves by eta_k; or "gradient", the largest one does and others in proportion.
        eta: first step, above 0, in input units.
        radius: largest change of a value from the pasted object, 0 to 1: the patch must not become the scene.
        epsilon: stop an image at distance <= epsilon ||z(x)||_2; at least 0.
        max_iterations: most steps, at least 1.
        max_batch: most rows per pass.

    Returns:
        IrrelevantPatches. Nothing is drawn, and an image's patch does not depend on the others.

    Raises:
        ConfigError: a word or number out of range.
        InputError: shapes that differ.
        ModelError: the logits do not depend on the inputs in a differentiable way.

    Differs from the authors' code: it has no radius but rewards a large patch in the loss (0.01 ||d||_2), takes 300 steps of
    the plain gradient, and keeps the last point.
    """
    compute.check_request(model, scenes, torch.zeros(len(scenes), dtype=torch.int64, device=scenes.device))
    _check_patches(scenes, composites, masks, rule, (eta, radius, epsilon), max_iterations)
    inside = masks[:, None]
    reference = compute.logits(model, scenes, max_batch=max_batch)
    norm = reference.norm(dim=1)
    low, high = (composites - radius).clamp(0, 1), (composites + radius).clamp(0, 1)
    point = torch.where(inside, composites, scenes)
    best, distance = point.clone(), torch.full_like(norm, torch.inf)
    start, iterations = torch.empty_like(norm), torch.zeros(len(scenes), dtype=torch.int64, device=scenes.device)
    active = torch.arange(len(scenes), device=scenes.device)
    for step in range(max_iterations + 1):
        here, gradient = _logit_distance(model, point[active], reference[active], max_batch)
        start = here.clone() if step == 0 else start
        better = here < distance[active]
        best[active[better]], distance[active[better]] = point[active[better]], here[better]
        iterations[active] = step
        going = here > epsilon * norm[active]
        active, gradient = active[going], (gradient * inside[active])[going]
        if not len(active) or step == max_iterations:
            break
        largest = gradient.abs().flatten(1).amax(dim=1).clamp_min(torch.finfo(gradient.dtype).tiny)
        direction = gradient.sign() if rule == "sign" else gradient / largest[:, None, None, None]
        moved = point[active] - eta * (1 - step / max_iterations) * direction
        point[active] = torch.where(inside[active], moved.clamp(low[active], high[active]), scenes[active])
    squares = ((best - scenes) ** 2 * inside).flatten(1).sum(dim=1) / (inside.flatten(1).sum(dim=1) * scenes.shape[1])
    return IrrelevantPatches(best, distance, start, norm, squares.sqrt(), iterations)


def _logit_distance(model: Model, points: Tensor, reference: Tensor, max_batch: int | None) -> tuple[Tensor, Tensor]:
    """||z(point) - reference||_2, and its gradient."""
    now = torch.arange(0)

    def rows(index: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal now
        now = index
        return points[index], torch.zeros_like(index)

    def away(out: Tensor, targets: Tensor) -> Tensor:
        return (out - reference[now]).norm(dim=1)

    made = compute.scored_gradient_rows(model, rows, len(points), points, score=away, max_batch=max_batch)
    parts = [both for _, both in made]
    return torch.cat([values for values, _ in parts]), torch.cat([gradients for _, gradients in parts])


def _check_patches(
    scenes: Tensor, composites: Tensor, masks: Tensor, rule: str, sizes: Sequence[float], max_iterations: int
) -> None:
    check_choice("rule", rule, ("sign", "gradient"))
    check_count("max_iterations", max_iterations)
    eta, radius, epsilon = sizes
    if not eta > 0 or not 0 <= radius <= 1 or not epsilon >= 0:
        raise ConfigError(f"eta={eta!r}, radius={radius!r}, epsilon={epsilon!r}: expected above 0, 0 to 1, and at least 0")
    if scenes.ndim != 4 or composites.shape != scenes.shape or composites.dtype != scenes.dtype:
        raise InputError(f"composites: expected images like the scenes {tuple(scenes.shape)}, got {tuple(composites.shape)}")
    if masks.dtype != torch.bool or masks.shape != (len(scenes), *scenes.shape[2:]):
        raise InputError(f"masks: expected bool {(len(scenes), *scenes.shape[2:])}, got {masks.dtype} {tuple(masks.shape)}")
    if not bool(torch.isfinite(composites).all()) or not bool(masks.flatten(1).any(dim=1).all()):
        raise InputError("composites hold NaN or infinity, or a mask has no pixel; leave those images out")
