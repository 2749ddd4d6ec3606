"""Class activation maps: CAM, Grad-CAM and Guided Grad-CAM (FIDELITY 3.5 to 3.7)."""

from typing import Any

import torch
from torch import Tensor, nn

from xai_lib.chunks import in_chunks
from xai_lib.compute import channels_last_copy, check_classes, check_request, checked_logits
from xai_lib.errors import ConfigError, InputError, ModelError, UnsupportedModelError
from xai_lib.hooks import Seen, find_layer, probe
from xai_lib.methods.propagation import guided_backprop
from xai_lib.registry import METHODS, SCORES
from xai_lib.types import Model


@METHODS.register(label="CAM", cite="zhou2016", traits={"family": "class activation map", "image": True, "layer": True})
def cam(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    layer: str | None = None,
    head: str | None = None,
    max_batch: int | None = None,
) -> Tensor:
    """M_t = sum_k w_tk A_k, upsampled bilinearly; A are the maps that enter the global average, w the linear layer after it.

    Args:
        model: a module that ends in global average pooling and one linear layer.
        inputs: (n, c, h, w) in pixel space.
        targets: (n,) int64.
        layer: name of the layer whose output is A; None takes the model's `cam_layer`.
        head: name of the linear layer; None takes the model's `head_layer`, or else its last nn.Linear.
        max_batch: most rows per pass.

    Returns:
        Same shape as `inputs`, signed, in logit units: each of the c channels holds a c-th of the map, so that
        `maps.reduce(..., "sum")` gives the map. At the resolution of A its mean is the logit less the bias.

    Raises:
        ConfigError: no `layer`, and the model names none.
        UnsupportedModelError: the logits are not the linear layer of the averaged maps, so that there is no CAM.
        ModelError: not a module, no such layer, or one without maps (n, k, h', w').
        InputError: inputs are not images; else see `compute.check_request`.

    Differs from document 003: it does not say that maps are raw here; scale with `maps.normalise(..., "min_max")` to draw.

    >>> from xai_lib import toys
    >>> x = torch.tensor([[[[1.0, 2.0], [3.0, -4.0]]]])
    >>> cam(toys.GapNet(), x, torch.zeros(1, dtype=torch.int64), layer="conv")[0, 0]
    tensor([[ 1.,  2.],
            [ 3., -4.]])
    """
    return _spread(cam_maps(model, inputs, targets, layer=layer, head=head, max_batch=max_batch), inputs)


def cam_maps(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    layer: str | None = None,
    head: str | None = None,
    max_batch: int | None = None,
) -> Tensor:
    """The maps of `cam` at the resolution of the layer, (n, h', w'); arguments as there."""
    check_request(model, inputs, targets)
    net, name = _net_and_layer(model, inputs, layer, "cam")
    linear = _head(net, head)

    def work(index: Tensor) -> Tensor:
        points = channels_last_copy(inputs[index].detach())
        with torch.no_grad(), probe(net, name) as seen:
            out = checked_logits(net(points), points)
            check_classes(out, targets[index])
            maps = _maps(seen, name, points)
        _check_average(linear, maps, out, name)
        return torch.einsum("nk,nkhw->nhw", linear.weight.detach()[targets[index]].to(inputs), maps.to(inputs))

    return torch.cat([made for _, made in in_chunks(work, len(inputs), inputs, max_batch)])


@METHODS.register(
    label="Grad-CAM",
    cite="selvaraju2017",
    traits={"family": "class activation map", "image": True, "layer": True, "positive": True},
)
def grad_cam(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    layer: str | None = None,
    relu: bool = True,
    score: Any = "logit",
    max_batch: int | None = None,
) -> Tensor:
    """L = ReLU(sum_k a_k A_k), upsampled bilinearly, with a_k = mean_uv df_t/dA_k,uv.

    On a net that ends in global average pooling over Z positions and one linear layer, L = ReLU(CAM) / Z before upsampling.

    Args:
        model: a module.
        inputs: (n, c, h, w) in pixel space.
        targets: (n,) int64.
        layer: name of the layer whose output is A, usually the last convolution after its activation; None takes the model's
            `cam_layer`.
        relu: whether negative values are cut, before upsampling.
        score: the explained scalar f.
        max_batch: most rows per pass.

    Returns:
        Same shape as `inputs`, in score units; each of the c channels holds a c-th of the map, so that
        `maps.reduce(..., "sum")` gives the map. At least 0 with `relu`.

    Raises:
        ConfigError: no `layer`, and the model names none.
        ModelError: not a module, no such layer, one without maps (n, k, h', w') or called more than once, or a score that does
            not depend on it.
        InputError: inputs are not images; else see `compute.check_request`.

    Differs from document 002, whose description is of something else (FIDELITY E2.1). Differs from Captum's defaults, which
    keep negative values and upsample by nearest neighbours.

    >>> from xai_lib import toys
    >>> x = torch.tensor([[[[1.0, 2.0], [3.0, -4.0]]]])
    >>> grad_cam(toys.GapNet(), x, torch.zeros(1, dtype=torch.int64), layer="conv")[0, 0]
    tensor([[0.2500, 0.5000],
            [0.7500, 0.0000]])
    """
    made = grad_cam_maps(model, inputs, targets, layer=layer, relu=relu, score=score, max_batch=max_batch)
    return _spread(made, inputs)


def grad_cam_maps(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    layer: str | None = None,
    relu: bool = True,
    score: Any = "logit",
    max_batch: int | None = None,
) -> Tensor:
    """The maps of `grad_cam` at the resolution of the layer, (n, h', w'); arguments as there."""
    check_request(model, inputs, targets)
    net, name = _net_and_layer(model, inputs, layer, "grad_cam")
    function = SCORES.bind(score)

    def work(index: Tensor) -> Tensor:
        points = channels_last_copy(inputs[index].detach())
        with torch.enable_grad(), probe(net, name, gradients=True) as seen:
            out = checked_logits(net(points), points)
            check_classes(out, targets[index])
            maps = _maps(seen, name, points)
            value = function(out, targets[index]).sum()
            gradient = torch.autograd.grad(value, maps, allow_unused=True)[0] if value.requires_grad else None
        if gradient is None:
            raise ModelError(f"grad_cam: the score does not depend on layer {name!r} in a differentiable way; take another")
        weights = gradient.to(inputs).mean(dim=(2, 3))
        made = torch.einsum("nk,nkhw->nhw", weights, maps.detach().to(inputs))
        return made.clamp_min(0) if relu else made

    return torch.cat([made for _, made in in_chunks(work, len(inputs), inputs, max_batch)])


@METHODS.register(
    label="Guided Grad-CAM",
    cite="selvaraju2017",
    traits={"family": "class activation map", "image": True, "layer": True, "rectifier": True},
)
def guided_grad_cam(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    layer: str | None = None,
    score: Any = "logit",
    max_batch: int | None = None,
) -> Tensor:
    """A = G * L: Guided Backpropagation (n, c, h, w) times the upsampled map of Grad-CAM (n, h, w), pixel by pixel.

    Arguments as in `grad_cam`.

    Returns:
        Same shape as `inputs`, signed; zero where Grad-CAM is.

    Raises:
        As `grad_cam` and `guided_backprop`.

    Differs from document 003: what it evaluated under the name Grad-CAM is close to this, with the guided gradient of a layer's
    sum in place of that of the class (FIDELITY E3.6).

    >>> from xai_lib import toys
    >>> x = torch.tensor([[[[1.0, 2.0], [3.0, -4.0]]]])
    >>> guided_grad_cam(toys.GapNet(), x, torch.zeros(1, dtype=torch.int64), layer="conv")[0, 0]
    tensor([[0.0625, 0.1250],
            [0.1875, 0.0000]])
    """
    coarse = grad_cam_maps(model, inputs, targets, layer=layer, score=score, max_batch=max_batch)
    guided = guided_backprop(model, inputs, targets, score=score, max_batch=max_batch)
    return guided * _upsampled(coarse, inputs)


def _net_and_layer(model: Model, inputs: Tensor, layer: str | None, method: str) -> tuple[nn.Module, str]:
    if inputs.ndim != 4:
        raise InputError(f"{method}: expected images (n, c, h, w), got shape {tuple(inputs.shape)}")
    if not isinstance(model, nn.Module):
        raise ModelError(f"{method} reads a layer, so it needs a torch.nn.Module, got {type(model).__name__}")
    name = layer or str(getattr(model, "cam_layer", "") or "")
    if not name:
        known = [known for known, module in model.named_modules() if isinstance(module, nn.Conv2d)]
        told = f"; its last convolutions: {', '.join(known[-3:])}" if known else "; it has no convolution by name"
        raise ConfigError(f"{method}: {type(model).__name__} names no cam_layer; pass layer=<name of a layer>{told}")
    find_layer(model, name)
    return model, name


def _head(net: nn.Module, head: str | None) -> nn.Linear:
    name = head or str(getattr(net, "head_layer", "") or "")
    linear = [None, *(module for module in net.modules() if isinstance(module, nn.Linear))]
    found = find_layer(net, name) if name else linear[-1]
    if not isinstance(found, nn.Linear):
        got = f"{name!r} is {type(found).__name__}" if name else "the model has none"
        raise UnsupportedModelError(f"cam needs a linear layer after global average pooling, but {got}; use grad_cam")
    return found


def _maps(seen: Seen, name: str, points: Tensor) -> Tensor:
    maps = seen[name]
    if maps.ndim != 4 or len(maps) != len(points):
        raise ModelError(
            f"layer {name!r} returns {tuple(maps.shape)}, expected maps ({len(points)}, k, h, w); take another layer"
        )
    if seen.calls[name] > 1:
        raise ModelError(
            f"layer {name!r} is called {seen.calls[name]} times in a pass, so its output is ambiguous; take another"
        )
    return maps


def _check_average(linear: nn.Linear, maps: Tensor, out: Tensor, name: str) -> None:
    """Refuse where the logits are not the linear layer of the averaged maps (to 0.1 %; 3 % in half precision)."""
    fits = linear.weight.shape == (out.shape[1], maps.shape[1])
    if fits:
        expected = nn.functional.linear(maps.to(linear.weight).mean(dim=(2, 3)), linear.weight, linear.bias)
        share = 1e-3 if maps.dtype in (torch.float32, torch.float64) else 0.03
        fits = bool((expected - out).abs().max() <= share * out.abs().max())
    if not fits:
        raise UnsupportedModelError(
            f"cam: the logits are not the linear layer {tuple(linear.weight.shape)} of the average of {name!r}, "
            f"{tuple(maps.shape[1:])}; cam needs global average pooling and one linear layer after it; use grad_cam"
        )


def _upsampled(maps: Tensor, inputs: Tensor) -> Tensor:
    """(n, h', w') -> (n, 1, h, w), bilinear; pixels are squares (align_corners=False)."""
    size = (inputs.shape[2], inputs.shape[3])
    return nn.functional.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)


def _spread(maps: Tensor, inputs: Tensor) -> Tensor:
    """The upsampled maps in the shape of `inputs`: each channel a c-th, so that the channel sum is the map."""
    return (_upsampled(maps, inputs) / inputs.shape[1]).expand_as(inputs).contiguous()
