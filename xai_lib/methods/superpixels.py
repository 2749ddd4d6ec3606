"""Maps over superpixels: ablation of one segment at a time, and the segment means of another map (FIDELITY 6.3)."""

from typing import Any

import torch
from torch import Tensor

from xai_lib import coalitions
from xai_lib.compute import check_request
from xai_lib.errors import InputError
from xai_lib.registry import METHODS
from xai_lib.segments import Segmentation, counts, segment, segment_mean, spread
from xai_lib.types import Model, Spec


@METHODS.register(
    label="Feature ablation (superpixels)",
    cite="kokhlikyan2020",
    traits={"family": "perturbation", "image": True, "linear": True},
)
def feature_ablation(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    segments: Segmentation = "slic",
    baseline: Spec = "black",
    seed: int = 0,
    score: Any = "logit",
    max_batch: int | None = None,
) -> Tensor:
    """A_k = f(x) - f(x without segment k): what the score loses when one segment alone is replaced.

    Args:
        model: inputs -> logits.
        inputs: (n, c, h, w) in pixel space.
        targets: (n,) int64.
        segments: a segmentation ("slic" as in document 004, "quickshift", "grid"), {name: {parameters}}, a callable, or
            integer label maps (n, h, w).
        baseline: what a segment becomes: "black", "average", "blur", "segment_mean" (its own mean colour) or any other
            baseline.
        seed: for random baselines.
        score: the explained scalar f.
        max_batch: most rows (images x segments) per forward pass.

    Returns:
        Same shape as `inputs`, signed, in score units: every pixel has the value of its segment, each of the c channels a
        c-th, so that `maps.reduce(..., "sum")` gives A_k. A_k of all segments need not sum to f(x) - f(baseline).

    Raises:
        InputError: no images, segments that do not fit them, or one segment only; see `segments.segment`.

    Differs from Captum, which gives every channel the whole value. Differs from document 004, whose "SLIC method" ablates
    nothing: it draws the borders of segments over Integrated Gradients (FIDELITY E4.3).

    >>> from xai_lib import toys
    >>> x, t = torch.ones(1, 1, 3, 3), torch.zeros(1, dtype=torch.int64)
    >>> parts = torch.tensor([[[0, 0, 1], [0, 0, 1], [2, 2, 2]]])
    >>> feature_ablation(toys.linear([range(1, 10)]), x, t, segments=parts)[0, 0]
    tensor([[12., 12.,  9.],
            [12., 12.,  9.],
            [24., 24., 24.]])
    """
    check_request(model, inputs, targets)
    labels = segment(segments, inputs)
    absent = coalitions.fill(baseline, inputs, labels, seed=seed)
    sizes = counts(labels)

    def design(image: int) -> Tensor:
        every = torch.ones(1, sizes[image], dtype=torch.bool)
        return torch.cat([every, ~torch.eye(sizes[image], dtype=torch.bool)])

    made = coalitions.responses(model, inputs, targets, labels, absent, design, score=score, max_batch=max_batch)
    return spread([values[0] - values[1:] for _, values in made], labels, inputs)


@METHODS.register(
    label="Mean over superpixels", cite="achanta2012", traits={"family": "averaged map", "image": True, "gradient": True}
)
def superpixel_mean(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    base: Spec = "integrated_gradients",
    segments: Segmentation = "slic",
) -> Tensor:
    """A_i = mean of another method's map over the segment of pixel i, channel by channel.

    Args:
        base: registered method, {name: {parameters}} or callable; `integrated_gradients` as in document 004.
        Others as in `feature_ablation`.

    Returns:
        Same shape as `inputs`, signed; its sum is that of the map, so that it stays complete.

    Raises:
        InputError: as `feature_ablation`, or the base does not give attributions of the shape of the inputs.

    Differs from document 004, which shows the pixel map with the borders of segments drawn over it (`segments.boundaries`).
    """
    check_request(model, inputs, targets)
    labels = segment(segments, inputs)
    made = METHODS.bind(base)(model, inputs, targets)
    if not isinstance(made, Tensor) or made.shape != inputs.shape:
        got = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
        raise InputError(f"base: expected attributions of shape {tuple(inputs.shape)}, got {got}")
    return segment_mean(made, labels)
