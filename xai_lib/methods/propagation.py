"""Methods that replace the derivative of rectifiers in the backward pass (FIDELITY 3.3, 3.4)."""

from typing import Any

from torch import Tensor

from xai_lib.compute import check_request, input_gradient
from xai_lib.models.prepare import Rule, with_rule
from xai_lib.registry import METHODS
from xai_lib.types import Model


def guided_rule(received: Tensor, passed: Tensor) -> Tensor:
    """R <- R [R > 0] [0 < pre < top].

    >>> import torch
    >>> guided_rule(torch.tensor([2.0, -2.0, 2.0]), torch.tensor([2.0, -2.0, 0.0]))
    tensor([2., 0., 0.])
    """
    return passed.clamp_min(0)


def deconvnet_rule(received: Tensor, passed: Tensor) -> Tensor:
    """R <- R [R > 0].

    >>> import torch
    >>> deconvnet_rule(torch.tensor([2.0, -2.0, 2.0]), torch.tensor([2.0, -2.0, 0.0]))
    tensor([2., 0., 2.])
    """
    return received.clamp_min(0)


@METHODS.register(
    label="Guided Backpropagation",
    cite="springenberg2015",
    traits={"family": "modified backpropagation", "gradient": True, "rectifier": True},
)
def guided_backprop(
    model: Model, inputs: Tensor, targets: Tensor, *, score: Any = "logit", max_batch: int | None = None
) -> Tensor:
    """The gradient of the score, with R <- R [R > 0] [pre > 0] at every rectifier in the backward pass.

    R is the signal that arrives at a rectifier max(pre, 0) from above. At ReLU6 and other rectifiers with a top it is also
    stopped where pre >= top, as the gradient is.

    Args:
        model: inputs -> logits; any callable made of rectifiers, linear layers, pooling and normalisation.
        inputs: (n, ...) in pixel space.
        targets: (n,) int64.
        score: the explained scalar; its own derivative is the plain one.
        max_batch: most rows per pass.

    Returns:
        Same shape as `inputs`, signed, in score units per input unit. In a model without rectifiers it is the gradient.

    Raises:
        UnsupportedModelError: another activation (SiLU, GELU, sigmoid, tanh, ELU, leaky ReLU...), or an operation whose part in
            the rule is unknown; the message names it. Else see `compute.check_request` and `compute.input_gradient`.

    Differs from the paper: that has ReLU only. Differs from Captum, which treats modules of class nn.ReLU alone.

    >>> import torch
    >>> from xai_lib import toys
    >>> guided_backprop(toys.two_relu(), torch.tensor([[1.0, 1.0], [0.0, 3.0]]), torch.zeros(2, dtype=torch.int64))
    tensor([[ 6., -3.],
            [ 0.,  0.]])
    """
    return _propagated(model, inputs, targets, guided_rule, "guided_backprop", score, max_batch)


@METHODS.register(
    label="DeconvNet", cite="zeiler2014", traits={"family": "modified backpropagation", "gradient": True, "rectifier": True}
)
def deconvnet(model: Model, inputs: Tensor, targets: Tensor, *, score: Any = "logit", max_batch: int | None = None) -> Tensor:
    """The gradient of the score, with R <- R [R > 0] at every rectifier in the backward pass.

    The rule does not ask whether the rectifier was on, nor whether it was at its top (ReLU6). Max pooling routes the signal to
    the maximum (the "switches"). Arguments, result and errors as in `guided_backprop`.

    Differs from the paper: it starts from one feature map, here the start is the score of a class.

    >>> import torch
    >>> from xai_lib import toys
    >>> deconvnet(toys.two_relu(), torch.tensor([[1.0, 1.0], [0.0, 3.0]]), torch.zeros(2, dtype=torch.int64))
    tensor([[ 6., -3.],
            [ 6., -3.]])
    """
    return _propagated(model, inputs, targets, deconvnet_rule, "deconvnet", score, max_batch)


def _propagated(
    model: Model, inputs: Tensor, targets: Tensor, rule: Rule, method: str, score: Any, max_batch: int | None
) -> Tensor:
    check_request(model, inputs, targets)
    ruled = with_rule(model, rule, method=method)
    return input_gradient(ruled, inputs, targets, score=score, max_batch=max_batch).contiguous()
