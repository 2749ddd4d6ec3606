"""Layer-wise relevance propagation and deep Taylor decomposition (FIDELITY 3.9, 3.10)."""

from typing import Any

from torch import Tensor

from xai_lib.compute import check_request, input_gradient
from xai_lib.errors import ConfigError, InputError, unknown
from xai_lib.models.propagate import Propagated, Rules
from xai_lib.registry import METHODS
from xai_lib.types import Model

RULES = {
    "epsilon": Rules(pixels="epsilon", convolution="epsilon", dense="epsilon"),
    "z_plus": Rules(pixels="z_plus", convolution="z_plus", dense="z_plus"),
    "alpha2beta1": Rules(pixels="alpha2beta1", convolution="alpha2beta1", dense="alpha2beta1"),
    "composite": Rules(pixels="zB", convolution="z_plus", dense="epsilon"),
}
"""Which rule of `models.propagate` is used where."""


@METHODS.register(
    label="LRP", cite="bach2015", traits={"family": "modified backpropagation", "gradient": True, "rectifier": True}
)
def lrp(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    rule: str = "epsilon",
    epsilon: float = 1e-9,
    max_batch: int | None = None,
) -> Tensor:
    """R_i = sum_j (share of i in z_j) R_j from the logit f_t down to the pixels, layer by layer, z_ij = x_i w_ij.

    Shares, with z_j = sum_i z_ij + b_j, z+ and z- positive and negative parts, as b+ and b- of the bias:

        epsilon      z_ij / (z_j + epsilon sgn z_j)
        z_plus       z+_ij / (sum_i z+_ij + b+_j)                                       (alpha 1, beta 0)
        alpha2beta1  2 z+_ij / (sum_i z+_ij + b+_j) - z-_ij / (sum_i z-_ij + b-_j)
        composite    convolutions z_plus, dense layers epsilon, and at the pixels zB: x_i w_ij - l w+_ij - h w-_ij over its sum,
                     with l = 0 and h = 1 the darkest and the brightest pixel

    Rectifiers (ReLU, ReLU6) pass R on, max pooling sends it to the maximum, biases keep their share. Sums and average pooling
    are layers with weights 1 and 1/k: epsilon, else shares of the terms that have the sign of the sum. BatchNorm is taken
    together with the layer before it; where there is none, it passes R on value by value, as the normalisation of the pixels
    does (epsilon: the bias keeps its share there too).

    Args:
        model: inputs -> logits; any callable of rectifiers, linear layers, sums, pooling and BatchNorm.
        inputs: (n, ...) in pixel space.
        targets: (n,) int64; the logit is explained.
        rule: epsilon, z_plus, alpha2beta1 or composite.
        epsilon: in units of the layer's output, above 0; it also keeps the denominators of the other rules from 0.
        max_batch: most rows per pass.

    Returns:
        Same shape as `inputs`, in logits, signed. With epsilon -> 0 the first rule is gradient x input on nets of ReLU; the sum
        is f_t less what biases keep.

    Raises:
        UnsupportedModelError: another activation (sigmoid, tanh, GELU, SiLU, leaky ReLU...), or an operation without a rule;
            the message names it.
        ConfigError: unknown rule, epsilon not above 0.
        InputError: "composite" of inputs that are not images. Else see `compute.check_request`.

    Differs from Captum: that refuses ReLU6, padding layers and sums; where a sum is not a module it adds up nonsense silently;
    it clamps weights, not products, so that negative inputs count as positive.

    >>> import torch
    >>> from xai_lib import toys
    >>> lrp(toys.two_relu(), torch.tensor([[1.0, 1.0], [0.0, 3.0]]), torch.zeros(2, dtype=torch.int64)).tolist()
    [[6.0, -3.0], [0.0, -6.0]]
    """
    check_request(model, inputs, targets)
    if rule not in RULES:
        raise unknown("rule of lrp", rule, RULES)
    return _propagated(model, inputs, targets, RULES[rule], epsilon, max_batch, "lrp")


@METHODS.register(
    label="Deep Taylor decomposition",
    cite="montavon2017",
    traits={"family": "modified backpropagation", "gradient": True, "rectifier": True, "positive": True},
)
def deep_taylor(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    input_rule: str = "zB",
    epsilon: float = 1e-9,
    max_batch: int | None = None,
) -> Tensor:
    """R from max(f_t, 0): z+_ij / sum_i z+_ij in hidden layers, a rule for the domain of the inputs in the first.

    Args:
        input_rule: zB (x_i w_ij - l w+_ij - h w-_ij over its sum: pixels between l = 0 and h = 1), w2 (w_ij^2 over its sum:
            unbounded inputs) or z_plus (inputs of at least 0).
        epsilon: added to denominators, above 0.
        model, inputs, targets, max_batch: as in `lrp`, which also says what becomes of other layers.

    Returns:
        Same shape as `inputs`, at least 0 for pixels in [0, 1]; sums to max(f_t, 0) where every layer has a positive part.
        Zero, and flagged as such, where f_t <= 0: the decomposition is one of positive functions.

    Raises:
        As `lrp`; InputError for zB of inputs that are not images.

    Differs from the paper: that asks for biases of at most 0; here they take no relevance, whatever their sign.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 1, bias=False), torch.nn.ReLU()).eval()
    >>> net[0].weight.data = torch.tensor([[1.0, -2.0]])
    >>> x, t = torch.tensor([[0.8, 0.1]]), torch.zeros(1, dtype=torch.int64)
    >>> [round(v, 4) for v in deep_taylor(net, x, t, input_rule="w2")[0].tolist()]
    [0.12, 0.48]
    """
    check_request(model, inputs, targets)
    if input_rule not in ("zB", "w2", "z_plus"):
        raise unknown("input_rule of deep_taylor", input_rule, ["zB", "w2", "z_plus"])
    rules = Rules(pixels=input_rule, convolution="z_plus", dense="z_plus", biases=False, positive=True)
    return _propagated(model, inputs, targets, rules, epsilon, max_batch, "deep_taylor")


def _propagated(
    model: Model, inputs: Tensor, targets: Tensor, rules: Rules, epsilon: Any, max_batch: int | None, method: str
) -> Tensor:
    if isinstance(epsilon, bool) or not isinstance(epsilon, int | float) or not 0 < epsilon < float("inf"):
        raise ConfigError(f"epsilon={epsilon!r}: expected a number above 0")
    if rules.pixels == "zB" and inputs.ndim != 4:
        raise InputError(
            f"{method}: the rule zB is for pixels (n, c, h, w) in [0, 1], got shape {tuple(inputs.shape)}; "
            "use deep_taylor(input_rule='w2') or lrp(rule='epsilon')"
        )
    made = Propagated(model, rules, float(epsilon), method)
    return input_gradient(made, inputs, targets, max_batch=max_batch).contiguous()
