"""Why this class and not that one: the gradient of a difference of two logits."""

from typing import Any

import torch
from torch import Tensor

from xai_lib import scores
from xai_lib.compute import check_request, input_gradient
from xai_lib.errors import ConfigError, InputError
from xai_lib.registry import METHODS
from xai_lib.types import Model

RUNNER_UP = "runner_up"


@METHODS.register(label="Contrastive gradient", cite="prabhushankar2020", traits={"family": "gradient", "gradient": True})
def contrastive_gradient(
    model: Model, inputs: Tensor, targets: Tensor, *, other: Any = RUNNER_UP, max_batch: int | None = None
) -> Tensor:
    """S_i = d(z_t(x) - z_o(x)) / dx_i, signed: what speaks for the target t rather than for another class o.

    Where S is negative, more ink makes the other class likelier against the target.

    Args:
        model: inputs -> logits z.
        inputs: (n, ...) in pixel space.
        targets: (n,) int64, t.
        other: o: "runner_up", the largest logit at x that is not t's (among equal ones the first), or a class index for all
            images.
        max_batch: most rows per pass.

    Returns:
        Same shape as `inputs`, in logits per input unit.

    Raises:
        ConfigError: `other` is neither "runner_up" nor a whole number of at least 0.
        InputError: the model has no class `other`, or one class alone, or `other` is an image's own target; else see
            `compute.check_request`.
        ModelError: see `compute.input_gradient`.

    Differs from Prabhushankar et al., who take the gradient of a loss towards the other class at a layer of Grad-CAM; the
    difference of logits is their question asked at the pixels. The gradient of the registered score `margin` is the same as
    "runner_up", save where two other logits are equal, whose gradients it averages.

    >>> from xai_lib import toys
    >>> net = toys.linear([[2.0, -3.0], [1.0, 1.0], [0.0, 5.0]])
    >>> x, t = torch.tensor([[1.0, 0.0]]), torch.zeros(1, dtype=torch.int64)
    >>> contrastive_gradient(net, x, t), contrastive_gradient(net, x, t, other=2)
    (tensor([[ 1., -4.]]), tensor([[ 2., -8.]]))
    """
    named = isinstance(other, int) and not isinstance(other, bool)
    if other != RUNNER_UP and not (named and other >= 0):
        raise ConfigError(f"other={other!r}: expected {RUNNER_UP!r} or a class index from 0")
    check_request(model, inputs, targets)
    if named and bool((targets == other).any()):
        rows = (targets == other).nonzero().flatten().tolist()
        raise InputError(f"other={other}: it is the target of rows {rows[:10]}; a class cannot be held against itself")

    def difference(logits: Tensor, asked: Tensor) -> Tensor:
        classes = logits.shape[1]
        if classes < 2 or (named and other >= classes):
            raise InputError(f"other={other!r}: the model has {classes} class{'es' * (classes > 1)}; it needs another one")
        rival = torch.full_like(asked, other) if named else runner_up(logits, asked)
        return scores.logit(logits, asked) - scores.logit(logits, rival)

    return input_gradient(model, inputs, targets, score=difference, max_batch=max_batch).contiguous()


def runner_up(logits: Tensor, targets: Tensor) -> Tensor:
    """(n,) the class of the largest logit that is not the target's; among equal ones the first.

    >>> runner_up(torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([1])).item()
    2
    """
    return logits.detach().scatter(1, targets[:, None], float("-inf")).argmax(dim=1)
