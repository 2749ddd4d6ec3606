"""What the model still says when only the contour patch is left (document 000, Algorithm 2; FIDELITY 7)."""

from typing import Any

import torch
from torch import Tensor

from xai_lib import compute, contours, maps
from xai_lib.errors import InputError
from xai_lib.metrics.checks import check_attributions, check_choice, undefined_where, without_order
from xai_lib.registry import METRICS
from xai_lib.types import Model

CONTROLS = ("none", "centre", "random")


@METRICS.register(label="Contour patch prediction", cite="shewale2023", traits={"family": "faithfulness"})
def contour_patch_prediction(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    attributions: Tensor,
    *,
    fraction: float = 0.1,
    variant: str = "hull",
    fill: str = "black",
    control: str = "none",
    reduce: str = "sum",
    score: Any = "prob",
    seed: int = 0,
    max_batch: int | None = None,
) -> Tensor:
    """Score of the image with everything outside its contour patch replaced, f(x inside the patch, fill outside).

    One hull is drawn around all contours, so a single stray component can make the patch most of the image: read it together
    with `contour_patch_area` and with the two controls. Invariant to multiplying the map by a positive number, but for ties.

    Args:
        model: inputs -> logits.
        inputs: (n, c, h, w) in pixel space.
        targets: (n,) int64.
        attributions: same shape as `inputs`.
        fraction: share of the pixels in the top mask, in (0, 1].
        variant: "hull", "rectangle" or "polylines" (`contours.patch_masks`).
        fill: "black", "mean", "blur" or "crop_resize" (`contours.fill_outside`).
        control: "none" for the patch itself; "centre" or "random" for a patch of exactly as many pixels elsewhere.
        reduce: how channels become one map (`maps.reduce`).
        score: the probability of the target by default.
        seed: for ties and the random control.
        max_batch: most rows per forward pass.

    Returns:
        (n,), in units of the score ([0, 1] for the probability); higher means that the patch is enough. NaN where the map is
        zero, constant, or holds NaN or infinity: it has no top.

    Differs from the document: 000 states neither the fill, the sign nor the channel reduction, and has no controls.
    """
    compute.check_request(model, inputs, targets)
    check_choice("control", control, CONTROLS)
    masks, undefined = _patches(inputs, attributions, fraction, variant, control, reduce, seed)

    def rows(index: Tensor) -> tuple[Tensor, Tensor]:
        return contours.fill_outside(inputs[index], masks[index], fill=fill), targets[index]

    made = compute.score_rows(model, rows, len(inputs), inputs, score=score, max_batch=max_batch)
    return undefined_where(torch.cat([part for _, part in made]), undefined).to(inputs.dtype)


@METRICS.register(label="Contour patch area", cite="shewale2023", traits={"family": "complexity"})
def contour_patch_area(
    attributions: Tensor, *, fraction: float = 0.1, variant: str = "hull", reduce: str = "sum", seed: int = 0
) -> Tensor:
    """Share of the image inside the contour patch; what `contour_patch_prediction` must be read against.

    Arguments and NaN rule as there.

    Returns:
        (n,) in (0, 1].
    """
    masks, undefined = _patches(None, attributions, fraction, variant, "none", reduce, seed)
    return undefined_where(masks.flatten(1).double().mean(dim=1), undefined).to(attributions.dtype)


def _patches(
    inputs: Tensor | None, attributions: Tensor, fraction: float, variant: str, control: str, reduce: str, seed: int
) -> tuple[Tensor, Tensor]:
    check_attributions(attributions, inputs)
    if attributions.ndim != 4:
        raise InputError(f"contour patches need images (n, c, h, w), got attributions of shape {tuple(attributions.shape)}")
    reduced = maps.reduce(attributions, reduce)
    undefined = without_order(reduced)
    reduced = reduced.masked_fill(undefined[:, None, None], 0.0)
    masks = contours.patch_masks(reduced, fraction=fraction, variant=variant, seed=seed)
    if control == "centre":
        masks = contours.centre_masks(masks)
    elif control == "random":
        masks = contours.random_masks(masks, seed)
    return masks.to(attributions.device), undefined
