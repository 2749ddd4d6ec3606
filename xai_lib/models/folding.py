"""BatchNorm folded into the convolution before it: the same function of the input with fewer passes over memory.

For a frozen net, gamma (w * x - mean) / sqrt(var + eps) + beta is one convolution with weights w gamma / sqrt(var + eps).
"""

from typing import Any

from torch import fx, nn


def fold_pair(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """One convolution equal to `norm(conv(x))` in eval mode; computed in float64, stored in the convolution's type.

    >>> import torch
    >>> conv, norm = nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1, eps=0.0).eval()
    >>> _ = conv.weight.data.fill_(2.0), norm.running_var.fill_(4.0), norm.bias.data.fill_(1.0)
    >>> fold_pair(conv, norm)(torch.ones(1, 1, 1, 1)).item()
    2.0
    """
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise ValueError("fold_pair: the BatchNorm keeps no running statistics")
    scale = (variance.double() + norm.eps).rsqrt() * (norm.weight.detach().double() if norm.affine else 1.0)
    shift = (norm.bias.detach().double() if norm.affine else 0.0) - mean.double() * scale
    given: dict[str, Any] = {
        "kernel_size": conv.kernel_size,
        "stride": tuple(conv.stride),
        "padding": conv.padding,
        "dilation": conv.dilation,
        "groups": conv.groups,
    }
    folded = nn.Conv2d(conv.in_channels, conv.out_channels, device="meta", **given)
    bias = shift if conv.bias is None else shift + conv.bias.detach().double() * scale
    dtype = conv.weight.dtype
    folded.weight = nn.Parameter((conv.weight.detach().double() * scale.view(-1, 1, 1, 1)).to(dtype))
    folded.bias = nn.Parameter(bias.to(dtype))
    return folded.train(conv.training)


def fold_batch_norms(network: nn.Module) -> int:
    """Fold, in place, every BatchNorm whose input is the output of a convolution that nothing else reads.

    The BatchNorm's place is taken by an Identity, so that names of layers stay.

    Returns:
        How many were folded.
    """
    graph = fx.symbolic_trace(network).graph
    calls = [node for node in graph.nodes if node.op == "call_module"]
    targets = [node.target for node in calls]
    folded = 0
    for node in calls:
        before = node.args[0] if node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) != 1:
            continue
        norm, conv = network.get_submodule(str(node.target)), network.get_submodule(str(before.target))
        if type(norm) is not nn.BatchNorm2d or type(conv) is not nn.Conv2d:
            continue
        if targets.count(node.target) > 1 or targets.count(before.target) > 1 or norm.running_mean is None:
            continue
        network.set_submodule(str(before.target), fold_pair(conv, norm))
        network.set_submodule(str(node.target), nn.Identity())
        folded += 1
    return folded
