"""The two kernels that everything calls: scores of rows and input gradients of rows.

Work is given as numbered rows, made on demand (images x steps, images x masks), so that memory never grows with their
number. Rows run in chunks of at most `max_batch`, in channels-last memory, without weight gradients, in inference mode where
no gradient is needed; on out-of-memory `max_batch` is halved, down to 1.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from xai_lib.chunks import in_chunks
from xai_lib.errors import InputError, ModelError
from xai_lib.fused import gradient_forward
from xai_lib.registry import SCORES
from xai_lib.types import Model

Rows = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Row numbers (k,) -> inputs of those rows (k, ...) and their targets (k,)."""


def check_request(model: Model, inputs: Any, targets: Any) -> None:
    """Refuse what cannot be explained, before any forward pass.

    Raises:
        InputError: inputs are no float tensor, are empty, hold NaN or infinity, or do not fit the model's declared
            `input_shape`, dtype or device; targets are not (n,) int64 on the same device, or negative.
        ModelError: the model is in training mode, or its parameters hold NaN or infinity.
    """
    if not isinstance(inputs, Tensor):
        raise InputError(f"inputs: expected a float tensor (n, ...), got {type(inputs).__name__}; use torch.as_tensor")
    if not inputs.is_floating_point():
        raise InputError(f"inputs: expected float pixels in [0, 1], got {inputs.dtype}; divide by 255 and use .float()")
    if inputs.ndim < 2 or len(inputs) == 0:
        raise InputError(f"inputs: expected at least one row (n, ...), got shape {tuple(inputs.shape)}")
    _check_model(model, inputs)
    if not bool(torch.isfinite(inputs).all()):
        bad = [i for i, row in enumerate(inputs) if not bool(torch.isfinite(row).all())]
        raise InputError(f"inputs: NaN or infinity in rows {bad[:10]}; remove or repair them first")
    _check_targets(inputs, targets)


def _check_model(model: Model, inputs: Tensor) -> None:
    shape = getattr(model, "input_shape", None)
    if shape is not None and tuple(inputs.shape[1:]) != tuple(shape):
        raise InputError(f"inputs: the model takes rows of shape {tuple(shape)}, got {tuple(inputs.shape[1:])}")
    if not isinstance(model, nn.Module):
        return
    if any(module.training for module in model.modules()):
        raise ModelError("the model is in training mode, so equal inputs give different outputs; call model.eval()")
    bad = [name for name, p in model.named_parameters() if p.is_floating_point() and not bool(torch.isfinite(p.detach().sum()))]
    if bad:
        raise ModelError(f"the model's parameters hold NaN or infinity in {', '.join(bad[:5])}; load its weights again")
    first = next((p for p in model.parameters() if p.is_floating_point()), None)
    if first is not None and (first.dtype, first.device) != (inputs.dtype, inputs.device):
        raise InputError(
            f"inputs: the model holds {first.dtype} on {first.device}, got {inputs.dtype} on {inputs.device}; "
            "move one of them with .to(...)"
        )


def _check_targets(inputs: Tensor, targets: Any) -> None:
    if not isinstance(targets, Tensor) or targets.dtype != torch.int64 or targets.shape != (len(inputs),):
        got = f"{targets.dtype} {tuple(targets.shape)}" if isinstance(targets, Tensor) else repr(targets)
        raise InputError(f"targets: expected an int64 tensor of shape ({len(inputs)},), got {got}")
    if targets.device != inputs.device:
        raise InputError(f"targets: inputs are on {inputs.device}, targets on {targets.device}")
    if int(targets.min()) < 0:
        raise InputError(f"targets: class {int(targets.min())} is negative; classes count from 0")


def logits(model: Model, inputs: Tensor, *, max_batch: int | None = None) -> Tensor:
    """All logits, (n, classes), without a graph."""
    parts = [out for _, out in in_chunks(lambda index: _forward_only(model, inputs[index]), len(inputs), inputs, max_batch)]
    return torch.cat(parts)


def scores(model: Model, inputs: Tensor, targets: Tensor, *, score: Any = "logit", max_batch: int | None = None) -> Tensor:
    """The explained scalar of every row.

    Args:
        model: inputs -> logits.
        inputs: (n, ...).
        targets: (n,) int64.
        score: registered score, mapping or callable.
        max_batch: most rows per forward pass; None chooses by size and device.

    Returns:
        (n,) without a graph.

    >>> from xai_lib import toys
    >>> scores(toys.linear([[2.0, -3.0]]), torch.ones(1, 2), torch.zeros(1, dtype=torch.int64)).item()
    -1.0
    """
    made = score_rows(model, lambda i: (inputs[i], targets[i]), len(inputs), inputs, score=score, max_batch=max_batch)
    return torch.cat([values for _, values in made])


def score_rows(
    model: Model, rows: Rows, n_rows: int, like: Tensor, *, score: Any = "logit", max_batch: int | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Scores of rows made on demand.

    Args:
        rows: row numbers -> (inputs, targets) of those rows.
        n_rows: how many rows there are; they are numbered from 0.
        like: a tensor whose rows have the size and device of the rows to come.

    Yields:
        (row numbers (k,), scores (k,)) in order.
    """
    function = SCORES.bind(score)

    def work(index: Tensor) -> Tensor:
        points, targets = rows(index)
        out = _forward_only(model, points)
        check_classes(out, targets)
        return function(out, targets)

    return in_chunks(work, n_rows, like, max_batch)


def input_gradient(
    model: Model, inputs: Tensor, targets: Tensor, *, score: Any = "logit", max_batch: int | None = None
) -> Tensor:
    """Gradient of the score with respect to each row of the inputs.

    Arguments as in `scores`.

    Returns:
        Same shape as `inputs`; zeros where the model is constant.

    Raises:
        ModelError: the score does not depend on the inputs in a differentiable way.

    >>> from xai_lib import toys
    >>> input_gradient(toys.linear([[2.0, -3.0]]), torch.ones(1, 2), torch.zeros(1, dtype=torch.int64))
    tensor([[ 2., -3.]])
    """
    made = gradient_rows(model, lambda i: (inputs[i], targets[i]), len(inputs), inputs, score=score, max_batch=max_batch)
    return torch.cat([gradient for _, gradient in made])


def gradient_rows(
    model: Model, rows: Rows, n_rows: int, like: Tensor, *, score: Any = "logit", max_batch: int | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Input gradients of rows made on demand; arguments as in `score_rows`.

    Yields:
        (row numbers (k,), gradients (k, ...)) in order.
    """
    made = scored_gradient_rows(model, rows, n_rows, like, score=score, max_batch=max_batch)
    return ((index, gradients) for index, (_, gradients) in made)


def scored_gradient_rows(
    model: Model, rows: Rows, n_rows: int, like: Tensor, *, score: Any = "logit", max_batch: int | None = None
) -> Iterator[tuple[Tensor, tuple[Tensor, Tensor]]]:
    """Scores of rows made on demand together with their input gradients; arguments as in `score_rows`.

    Yields:
        (row numbers (k,), (scores (k,), gradients (k, ...))) in order.
    """
    function = SCORES.bind(score)

    def work(index: Tensor) -> tuple[Tensor, Tensor]:
        points, targets = rows(index)
        with torch.enable_grad():
            points = channels_last_copy(points.detach()).requires_grad_(True)
            try:
                out = checked_logits(gradient_forward(model, points), points)
            except RuntimeError as error:
                if "leaf Variable that requires grad" not in str(error):
                    raise
                text = "the model's first layer changes its input in place; let it work on a copy"
                raise ModelError(f"not differentiable: {text}") from error
            check_classes(out, targets)
            value = function(out, targets)
            gradient = None
            if value.requires_grad:
                (gradient,) = torch.autograd.grad(value.sum(), points, allow_unused=True)
        if gradient is None:
            gradient = _constant_gradient(model, points.detach())
        return value.detach(), gradient

    return in_chunks(work, n_rows, like, max_batch)


def channels_last_copy(points: Tensor) -> Tensor:
    """A copy in the memory layout in which models run fastest, so that nothing in the model can change the caller's values."""
    if points.ndim == 4:
        return points.clone(memory_format=torch.channels_last)
    return points.clone()


def _forward_only(model: Model, points: Tensor) -> Tensor:
    with torch.inference_mode():
        out = checked_logits(model(channels_last_copy(points.detach())), points)
    return out.clone()


def checked_logits(out: Any, points: Tensor) -> Tensor:
    """What a model returned for these points.

    Raises:
        ModelError: no float logits (n, classes).
    """
    if not isinstance(out, Tensor) or out.ndim != 2 or len(out) != len(points):
        got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise ModelError(f"the model must return logits ({len(points)}, classes), got {got}")
    if not out.is_floating_point():
        raise ModelError(f"not differentiable: the model returns {out.dtype}; return float logits, not class numbers")
    return out


def check_classes(out: Tensor, targets: Tensor) -> None:
    """Refuse a class that the logits do not have.

    Raises:
        InputError: a target at or beyond their number.
    """
    if int(targets.max()) >= out.shape[1]:
        raise InputError(f"targets: class {int(targets.max())} asked, the model has {out.shape[1]} (0 to {out.shape[1] - 1})")


def _constant_gradient(model: Model, points: Tensor) -> Tensor:
    """Zeros where the model really is constant; otherwise the model hides its gradient, which is an error."""
    generator = torch.Generator().manual_seed(0)
    probes = torch.rand((8, *points.shape[1:]), generator=generator).to(points.device, points.dtype)
    out = _forward_only(model, torch.cat([points, probes, 1 - probes]))
    if bool((out == out[:1]).all()):
        return torch.zeros_like(points)
    raise ModelError(
        "not differentiable: the output changes with the input but carries no gradient to it "
        "(a detach, no_grad, argmax or rounding inside the model?); use a perturbation method"
    )
