"""What do two models, or one model with and without an object, make of the same pixels? The BAM metrics (FIDELITY 8.12)

Scenes with an object pasted on them have two labels. A model of objects must attribute more to the object than a model of
scenes does. These compare two models or two images and so need more than a metric's words: they are functions, not registered.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from xai_lib import compute
from xai_lib.errors import ConfigError, InputError
from xai_lib.metrics.checks import check_attributions, undefined_where
from xai_lib.metrics.profile import bound_explainer
from xai_lib.types import Method, Model


@dataclass(frozen=True)
class Comparison:
    """One BAM metric.

    values  (n,) float64, per image; NaN where a map is undefined, the object has no pixel, or the image does not count
    """

    values: Tensor

    @property
    def average(self) -> float:
        """Mean of the values that are defined, which is what BAM reports; NaN if there are none."""
        return float(self.values.nanmean())

    @property
    def n(self) -> int:
        """How many values are defined."""
        return int((~self.values.isnan()).sum())


def object_maps(attributions: Tensor, *, percentile: float = 99.0) -> Tensor:
    """Attributions as the BAM metrics read them: clip((P - min P) / (p - min P), 0, 1), P_uv = sum_c max(A_cuv, 0).

    Args:
        attributions: (n, c, h, w), signed and raw.
        percentile: p is this percentile of P, by linear interpolation; above 0, at most 100.

    Returns:
        (n, h, w) float64 in [0, 1]. NaN throughout where P holds NaN or infinity, or p = min P: where 99 % of the pixels hold
        the least value, as in a zero map.

    Raises:
        ConfigError: percentile out of range.
        InputError: not (n, c, h, w).

    Differs from the authors' code, where p = min P gives 1 at the larger pixels and NaN at the others.

    >>> object_maps(torch.tensor([-1.0, 0.0, 2.0, 4.0]).reshape(1, 1, 1, 4), percentile=100).flatten().tolist()
    [0.0, 0.0, 0.5, 1.0]
    """
    check_attributions(attributions)
    if attributions.ndim != 4:
        raise InputError(f"attributions: expected (n, c, h, w), got shape {tuple(attributions.shape)}")
    if not 0 < percentile <= 100:
        raise ConfigError(f"percentile={percentile!r}: expected above 0, at most 100")
    finite = torch.isfinite(attributions).flatten(1).all(dim=1)
    positive = attributions.detach().double().masked_fill(~finite[:, None, None, None], 0.0).clamp_min(0).sum(dim=1)
    tops = np.percentile(positive.flatten(1).cpu().numpy(), percentile, axis=1)
    top = torch.as_tensor(tops, device=positive.device)
    least = positive.flatten(1).amin(dim=1)
    undefined = ~finite | (top <= least)
    span = torch.where(undefined, torch.ones_like(top), top - least)
    scaled = ((positive - least[:, None, None]) / span[:, None, None]).clamp(0, 1)
    return undefined_where(scaled, undefined[:, None, None])


def object_attribution(maps: Tensor, masks: Tensor) -> Tensor:
    """Mean of each map over the pixels of the object.

    Args:
        maps: (n, h, w), as from `object_maps`.
        masks: (n, h, w) bool, the object's pixels, also where it is not in the picture.

    Returns:
        (n,) float64; NaN where the mask is empty or the map is NaN.

    Raises:
        InputError: not bool masks of the maps' shape.

    >>> object_attribution(torch.tensor([[[0.25, 0.5, 1.0]]]), torch.tensor([[[True, True, False]]])).item()
    0.375
    """
    if not isinstance(masks, Tensor) or masks.dtype != torch.bool or maps.ndim != 3 or masks.shape != maps.shape:
        got = f"{masks.dtype} {tuple(masks.shape)}" if isinstance(masks, Tensor) else type(masks).__name__
        raise InputError(f"masks: expected bool of the maps' shape (n, h, w) = {tuple(maps.shape)}, got {got}")
    inside = maps.double().masked_fill(~masks, 0.0).flatten(1).sum(dim=1)
    size = masks.flatten(1).sum(dim=1)
    whole = torch.isfinite(maps).flatten(1).all(dim=1)
    return undefined_where(inside / size.clamp_min(1), (size == 0) | ~whole)


def model_contrast_score(
    object_model_maps: Tensor, scene_model_maps: Tensor, masks: Tensor, *, correct: Tensor | None = None
) -> Comparison:
    """MCS = mean (a_object - a_scene): attribution of the object by the model of objects, less that by the model of scenes.

    Args:
        object_model_maps, scene_model_maps: (n, h, w) of the same images, as from `object_maps`.
        masks: (n, h, w) bool, the object's pixels.
        correct: (n,) bool, the images that count; BAM takes those that both models classify correctly. None: all.

    Returns:
        Comparison with values in [-1, 1], higher is better; about 0 for a map that does not depend on the model.

    Raises:
        InputError: shapes that differ.

    >>> maps = torch.tensor([[0.6, 0.2, 0.5], [0.3, 0.4, 0.1]]).double().reshape(2, 3, 1, 1)
    >>> round(model_contrast_score(*maps, torch.ones(3, 1, 1, dtype=torch.bool)).average, 5)
    0.16667
    """
    of_objects, of_scenes = object_attribution(object_model_maps, masks), object_attribution(scene_model_maps, masks)
    return _comparison(of_objects - of_scenes, of_objects, of_scenes, correct)


def input_dependence_rate(
    scene_maps: Tensor, composite_maps: Tensor, masks: Tensor, *, correct: Tensor | None = None
) -> Comparison:
    """IDR = share of images where the pixels under the object matter more to a model of scenes without the object than with it.

    Args:
        scene_maps: (n, h, w) of the scenes without objects, as from `object_maps`.
        composite_maps: (n, h, w) of the same scenes with objects, by the same model.
        masks, correct: as in `model_contrast_score`; correct with and without the object.

    Returns:
        Comparison with values 1 where a_without > a_with, else 0; higher is better. A map that ignores the image scores 0.

    Raises:
        InputError: shapes that differ.
    """
    without, within = object_attribution(scene_maps, masks), object_attribution(composite_maps, masks)
    return _comparison((without > within).double(), without, within, correct)


def input_independence_rate(
    scene_maps: Tensor, patched_maps: Tensor, masks: Tensor, *, tolerance: float = 0.1, correct: Tensor | None = None
) -> Comparison:
    """IIR = share of images where |a - a_patch| < tolerance a: a patch that changes no logit changes the attribution little.

    Args:
        scene_maps: (n, h, w) of the scenes without the patch, as from `object_maps`.
        patched_maps: (n, h, w) with a patch that is irrelevant to the model (`irrelevant_patches`), by the same model.
        masks: (n, h, w) bool, the patch's pixels.
        tolerance: relative to the attribution without the patch, above 0.
        correct: as in `model_contrast_score`; correct with and without the patch.

    Returns:
        Comparison with values 1 or 0, higher is better: a map that ignores model and image scores 1.

    Raises:
        ConfigError: tolerance not above 0.
        InputError: shapes that differ.
    """
    if not tolerance > 0:
        raise ConfigError(f"tolerance={tolerance!r}: expected a share above 0")
    plain, patched = object_attribution(scene_maps, masks), object_attribution(patched_maps, masks)
    return _comparison(((plain - patched).abs() < tolerance * plain).double(), plain, patched, correct)


def bam_comparisons(
    object_model: Model,
    scene_model: Model,
    composites: Tensor,
    scenes: Tensor,
    object_targets: Tensor,
    scene_targets: Tensor,
    masks: Tensor,
    method: Method,
    *,
    patched: Tensor | None = None,
    tolerance: float = 0.1,
    percentile: float = 99.0,
    max_batch: int | None = None,
) -> dict[str, Comparison]:
    """The three metrics of one method, each over the images that its models classify correctly; maps are made once.

    Args:
        object_model: knows what is pasted; explained on the composites for `object_targets`.
        scene_model: knows where; explained on composites, scenes and patched scenes for `scene_targets`.
        composites, scenes, masks: as in `bam_patches.irrelevant_patches`.
        object_targets, scene_targets: (n,) int64, the true labels.
        method: bound method, called with (model, inputs, targets).
        patched: (n, c, h, w) scenes with patches irrelevant to `scene_model`; None leaves out the input independence rate.
        tolerance: of the input independence rate.
        percentile: of `object_maps`.
        max_batch: most rows per pass; passed on to a method that takes it.

    Returns:
        {name of the metric: Comparison}.

    Differs from the authors' code, whose input independence rate asks a third model, trained on scenes without objects.
    """
    explain = bound_explainer(method, max_batch)

    def made(model: Model, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        compute.check_request(model, inputs, targets)
        right = compute.logits(model, inputs, max_batch=max_batch).argmax(dim=1) == targets
        return object_maps(explain(model, inputs, targets), percentile=percentile), right

    objects, knows_object = made(object_model, composites, object_targets)
    covered, knows_scene = made(scene_model, composites, scene_targets)
    plain, knows_plain = made(scene_model, scenes, scene_targets)
    found = {
        "model_contrast_score": model_contrast_score(objects, covered, masks, correct=knows_object & knows_scene),
        "input_dependence_rate": input_dependence_rate(plain, covered, masks, correct=knows_plain & knows_scene),
    }
    if patched is not None:
        after, knows_patched = made(scene_model, patched, scene_targets)
        right = knows_plain & knows_patched
        found["input_independence_rate"] = input_independence_rate(plain, after, masks, tolerance=tolerance, correct=right)
    return found


def _comparison(values: Tensor, first: Tensor, second: Tensor, correct: Tensor | None) -> Comparison:
    undefined = first.isnan() | second.isnan()
    if correct is not None:
        if correct.dtype != torch.bool or correct.shape != values.shape:
            raise InputError(f"correct: expected bool ({len(values)},), got {correct.dtype} {tuple(correct.shape)}")
        undefined = undefined | ~correct
    return Comparison(undefined_where(values, undefined))
