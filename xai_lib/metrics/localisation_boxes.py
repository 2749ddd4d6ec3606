"""Is the box of a thresholded map the box of the object? (FIDELITY 8.15, 8.16)"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from xai_lib import compute, maps
from xai_lib.boxes import CONVENTIONS, best_iou, largest_component_box, mask_box, pixel_box, wsol_boxes
from xai_lib.errors import ConfigError, InputError
from xai_lib.metrics.checks import check_attributions, check_choice, undefined_where
from xai_lib.registry import METRICS
from xai_lib.types import Model

VALUES = ("correct", "iou")
RULES = ("component", "tightest")


@METRICS.register(label="CAM box", cite="zhou2016", traits={"family": "localisation"})
def cam_box(
    attributions: Tensor,
    boxes: tuple[np.ndarray, ...],
    *,
    fraction: float = 0.2,
    level: float = 0.5,
    strict: bool = True,
    value: str = "correct",
    convention: str = "exclusive",
    reduce: str = "sum",
) -> Tensor:
    """1 where the box of the largest component of the thresholded map fits a box of the object, IoU > `level`, else 0.

    Pixels S_p > fraction * max S; their largest 8-connected component, by pixels (ties: `boxes.largest_component_box`); its
    tight box; the true box that fits best. The class is given, not predicted ("GT-known localisation").

    Args:
        attributions: (n, c, h, w).
        boxes: one (k, 4) array per image: x0 y0 x1 y1 in pixels, x1 and y1 exclusive.
        fraction: of the map's MAXIMUM, in [0, 1); 0.2 is not the 0.2 quantile.
        level: the IoU to be passed, in [0, 1].
        strict: True IoU > level (Zhou et al. in words, "above"), False IoU >= level (ILSVRC and Choe et al.).
        value: "correct" for 0 or 1, "iou" for the IoU itself.
        convention: "exclusive"; or "wsol", in which the map is min-max scaled and rounded down to 8 bits first, components are
            compared by polygon area, and all boxes, the true ones too, are read as inclusive (`xai_lib.boxes`).
        reduce: how channels become one map (`maps.reduce`).

    Returns:
        (n,), higher is better; NaN where nothing in the map is positive, it holds NaN or infinity, or the image has no box. A
        constant map gets the box of the whole image, so its IoU is the box's share of the area. In "wsol" a map that is
        constant, or not finite, has the box (0, 0, 0, 0), as in the benchmark.

    Raises:
        ConfigError: a parameter out of range.
        InputError: as many boxes as images are needed; maps must be (n, c, h, w).

    Differs from the document: 003 calls the threshold a 20 % quantile; on a map that is mostly zero that keeps everything.

    >>> picture = torch.tensor([[[[9.0, 9.0, 0.0], [0.0, 0.0, 5.0], [1.0, 0.0, 0.0]]]])
    >>> cam_box(picture, (np.array([[0, 0, 3, 1]]),), value="iou", fraction=0.6).item()  # doctest: +ELLIPSIS
    0.666...
    """
    made = map_boxes(attributions, fraction=fraction, rule="component", convention=convention, reduce=reduce)
    return _judged(made, attributions, boxes, level, strict, value, convention)


@METRICS.register(label="Tightest box", cite="dabkowski2017", traits={"family": "localisation"})
def tightest_box(
    attributions: Tensor,
    boxes: tuple[np.ndarray, ...],
    *,
    fraction: float = 0.2,
    level: float = 0.5,
    strict: bool = True,
    value: str = "correct",
    convention: str = "exclusive",
    reduce: str = "sum",
) -> Tensor:
    """1 where the tightest box around ALL pixels S_p > fraction * max S fits a box of the object, IoU > `level`, else 0.

    Does not punish maps that fall into many parts, but one stray pixel can blow it up. Arguments, NaN rule and errors as
    `cam_box`.

    Differs from Dabkowski and Gal, whose region is binary and has no threshold: look at several.
    """
    made = map_boxes(attributions, fraction=fraction, rule="tightest", convention=convention, reduce=reduce)
    return _judged(made, attributions, boxes, level, strict, value, convention)


def map_boxes(
    attributions: Tensor,
    *,
    fraction: float = 0.2,
    rule: str = "component",
    convention: str = "exclusive",
    reduce: str = "sum",
) -> Tensor:
    """The box of each thresholded map.

    Args:
        rule: "component" as in `cam_box`, "tightest" as in `tightest_box`.
        Others as in `cam_box`.

    Returns:
        (n, 4) float64 on the CPU, pixels; NaN where `cam_box` has no box.
    """
    check_choice("rule", rule, RULES)
    check_choice("convention", convention, CONVENTIONS)
    check_attributions(attributions)
    if attributions.ndim != 4:
        raise InputError(f"boxes need images (n, c, h, w), got attributions of shape {tuple(attributions.shape)}")
    if not 0 <= fraction < 1:
        raise ConfigError(f"fraction={fraction!r}: expected a share of the maximum in [0, 1)")
    rows = []
    for one_map in maps.reduce(attributions.detach(), reduce).double().cpu().numpy():
        if convention == "wsol":
            scores = (255 * unit_map(one_map)).astype(np.uint8)
            mask = scores > int(fraction * int(scores.max()))
        else:
            mask = one_map > (fraction * one_map.max() if np.isfinite(one_map).all() else np.inf)
        if rule == "component":
            box = largest_component_box(mask, convention=convention)
        else:
            box = mask_box(mask)
            box = wsol_boxes(box[None], mask.shape)[0] if convention == "wsol" else box
        rows.append(box if convention == "wsol" or mask.any() else np.full(4, np.nan))
    return torch.as_tensor(np.array(rows, dtype=np.float64))


def unit_map(one_map: np.ndarray) -> np.ndarray:
    """(h, w) scaled into [0, 1] as the benchmark of Choe et al. does: zeros where the map is constant or not finite."""
    if not np.isfinite(one_map).all() or one_map.min() == one_map.max():
        return np.zeros(one_map.shape)
    raised = one_map.astype(np.float64) - one_map.min()
    return np.asarray(raised / raised.max())


def _judged(
    made: Tensor, attributions: Tensor, boxes: tuple[np.ndarray, ...], level: float, strict: bool, value: str, convention: str
) -> Tensor:
    check_choice("value", value, VALUES)
    if not 0 <= level <= 1:
        raise ConfigError(f"level={level!r}: expected an IoU in [0, 1]")
    check_truth(boxes, len(made))
    rows = zip(made.numpy(), boxes, strict=True)
    found = torch.tensor([np.nan if np.isnan(b).any() else best_iou([b], own, convention=convention)[0] for b, own in rows])
    if value == "correct":
        reached = found > level if strict else found >= level
        found = undefined_where(reached.to(found), found.isnan())
    return found.to(attributions)


def check_truth(boxes: tuple[np.ndarray, ...] | None, n: int) -> None:
    """Refuse true boxes that do not belong to n images.

    Raises:
        InputError: none, or not one array for each image.
    """
    if boxes is None or len(boxes) != n:
        found = "none" if boxes is None else str(len(boxes))
        raise InputError(f"boxes: expected one (k, 4) array for each of {n} images, got {found}")


@METRICS.register(label="Saliency metric", cite="dabkowski2017", traits={"family": "faithfulness"})
def saliency_metric(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    attributions: Tensor,
    *,
    fraction: float = 0.2,
    floor: float = 0.05,
    reduce: str = "sum",
    max_batch: int | None = None,
) -> Tensor:
    """s = log(max(a, floor)) - log p(crop): how small a box around the salient region still lets the model see the class.

    a is the area of the tightest box around all pixels S_p > fraction * max S as a share of the image, p the softmax
    probability of the target on the crop of that box, enlarged bilinearly to the input size.

    Args:
        model: inputs -> logits.
        inputs: (n, c, h, w) in pixel space.
        targets: (n,) int64.
        attributions: same shape as `inputs`.
        fraction: of the map's maximum, in [0, 1).
        floor: least area that counts, in (0, 1], so that tiny crops do not win.
        reduce: how channels become one map (`maps.reduce`).
        max_batch: most rows per forward pass.

    Returns:
        (n,) in nats, LOWER is better, at least log(floor); NaN where the map has no box (see `cam_box`). The whole image scores
        -log p(x): hold the result against it and against a centred box (`saliency_metric_of_boxes`).

    Raises:
        ConfigError: a parameter out of range.

    Differs from Dabkowski and Gal, whose region is binary: a real-valued map needs `fraction`. How the crop is resized they do
    not say, and their code does not hold the metric.
    """
    compute.check_request(model, inputs, targets)
    check_attributions(attributions, inputs)
    _check_floor(floor)
    made = map_boxes(attributions, fraction=fraction, rule="tightest", reduce=reduce)
    undefined = made.isnan().any(dim=1)
    made[undefined] = torch.tensor([0.0, 0.0, inputs.shape[3], inputs.shape[2]], dtype=made.dtype)
    found = saliency_metric_of_boxes(model, inputs, targets, made, floor=floor, max_batch=max_batch)
    return undefined_where(found, undefined.to(found.device))


def saliency_metric_of_boxes(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    boxes: Tensor | np.ndarray,
    *,
    floor: float = 0.05,
    max_batch: int | None = None,
) -> Tensor:
    """`saliency_metric` of one given box per image: of the object, the whole image, or the centre.

    Args:
        boxes: (n, 4), x0 y0 x1 y1 in pixels, exclusive; the pixels whose centres it covers are cropped and are its area.
        Others as there.

    Returns:
        (n,) in nats; lower is better.

    Raises:
        InputError: not one box per image, or a box that covers no pixel centre.
    """
    compute.check_request(model, inputs, targets)
    _check_floor(floor)
    if inputs.ndim != 4 or len(boxes) != len(inputs):
        raise InputError(f"boxes: expected (n, 4) for inputs (n, c, h, w), got {len(boxes)} for {tuple(inputs.shape)}")
    h, w = inputs.shape[2:]
    places = [pixel_box(box, (h, w)) for box in np.asarray(boxes, dtype=np.float64)]
    areas = [(x1 - x0) * (y1 - y0) / (h * w) for x0, y0, x1, y1 in places]
    if min(areas) <= 0:
        raise InputError(f"boxes: those of rows {[i for i, a in enumerate(areas) if a <= 0][:10]} cover no pixel of the image")

    def rows(index: Tensor) -> tuple[Tensor, Tensor]:
        crops = []
        for i in index.tolist():
            x0, y0, x1, y1 = places[i]
            crops.append(interpolate(inputs[i : i + 1, :, y0:y1, x0:x1], size=(h, w), mode="bilinear", align_corners=False))
        return torch.cat(crops), targets[index]

    made = compute.score_rows(model, rows, len(inputs), inputs, score="log_prob", max_batch=max_batch)
    likely = torch.cat([part for _, part in made]).double()
    first = torch.tensor([math.log(max(area, floor)) for area in areas], dtype=torch.float64, device=inputs.device)
    return (first - likely).to(inputs.dtype)


def _check_floor(floor: float) -> None:
    if not 0 < floor <= 1:
        raise ConfigError(f"floor={floor!r}: expected a share of the image's area in (0, 1]")
