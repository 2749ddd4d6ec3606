"""A copy of a model in which every activation is a module called once, for libraries that work with modules (FIDELITY C5)."""

import copy
from collections import Counter
from typing import Any

import torch
from torch import Tensor, fx, nn

from xai_lib.errors import ModelError, UnsupportedModelError
from xai_lib.models.prepare import activations
from xai_lib.models.wrapper import PixelModel

POOLS = ("kernel_size", "stride", "padding")
MODULES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "relu": (nn.ReLU, ()),
    "relu6": (nn.ReLU6, ()),
    "sigmoid": (nn.Sigmoid, ()),
    "tanh": (nn.Tanh, ()),
    "silu": (nn.SiLU, ()),
    "gelu": (nn.GELU, ("approximate",)),
    "elu": (nn.ELU, ("alpha",)),
    "leaky_relu": (nn.LeakyReLU, ("negative_slope",)),
    "softplus": (nn.Softplus, ("beta", "threshold")),
    "softmax": (nn.Softmax, ("dim",)),
    "max_pool2d": (nn.MaxPool2d, (*POOLS, "dilation", "ceil_mode")),
    "avg_pool2d": (nn.AvgPool2d, (*POOLS, "ceil_mode", "count_include_pad", "divisor_override")),
    "adaptive_avg_pool2d": (nn.AdaptiveAvgPool2d, ("output_size",)),
}
"""Functions and tensor methods -> the module that takes their place and its arguments, in order."""

BOUNDS = {"clamp": ("min", "max"), "clip": ("min", "max"), "clamp_min": ("min",), "hardtanh": ("min_val", "max_val")}
"""Functions that cut at given values, and how these are called."""


UNREAD = (("return_indices", False), ("_stacklevel", 3))
"""Arguments that PyTorch adds to calls, and that change nothing."""


class Add(nn.Module):
    """a + b as a module, for the sums of residual nets."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Two tensors of one shape -> their sum."""
        return first + second


def canonical(model: nn.Module, inputs: Tensor) -> nn.Module:
    """A copy of the model as one tree of modules, each called once; or a refusal.

    Functional activations, poolings and sums become modules (`MODULES`, `BOUNDS`, `Add`), a module called at k places becomes
    k modules that share its weights, and nothing works in place. The copy has the names of the original's layers; those made
    anew begin with `call_`. Of a `PixelModel` the network is rewritten and the wrapper stays.

    Args:
        model: in eval mode, traceable by torch.fx: its calls may not depend on the values of the inputs.
        inputs: examples on which the copy is compared.

    Returns:
        An fx.GraphModule, or a PixelModel that holds one. Blocks of layers are not called as such any more: watch a layer.

    Raises:
        UnsupportedModelError: not traceable; an activation without a module; logits that differ by more than 1e-5 of the
            largest (in-place changes that are read elsewhere).
        ModelError: not a module, or in training mode.

    >>> net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(inplace=True)).eval()
    >>> [type(module).__name__ for module in canonical(net, torch.ones(1, 2)).children()]
    ['Linear', 'ReLU']
    """
    if not isinstance(model, nn.Module) or any(module.training for module in model.modules()):
        raise ModelError(f"canonical: expected a torch.nn.Module in eval mode, got {type(model).__name__}; call model.eval()")
    made = copy.deepcopy(model).requires_grad_(False)
    if isinstance(made, PixelModel):
        made.network = _rewritten(made.network)
    else:
        made = _rewritten(made)
    _check_logits(model, made, inputs)
    _check_activations(made, inputs)
    return made


class _Tracer(fx.Tracer):
    """Registers modules that are made in `forward`."""

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        if all(m is not known for known in self.root.modules()):
            self.root.add_module(f"call_made_{sum(1 for _ in self.root.modules())}", m.eval())
            self.submodule_paths = {module: name for name, module in self.root.named_modules()}
        return super().call_module(m, forward, args, kwargs)


def _rewritten(net: nn.Module) -> nn.Module:
    try:
        with torch.enable_grad():  # without, some layers choose a path of their own
            graph = _Tracer().trace(net)
    except Exception as error:  # whatever the model's own code makes of placeholders
        reason = str(error).partition("\n")[0]
        raise UnsupportedModelError(
            f"canonical: {type(net).__name__} cannot be traced ({type(error).__name__}: {reason}); "
            "give it a forward without decisions that depend on the inputs"
        ) from error
    for node in graph.nodes:
        made = _module_for(node) if node.op in ("call_function", "call_method") else None
        if made is not None:
            name = _free(net, f"call_{node.name}")
            net.add_module(name, made)
            tensors = [value for value in (*node.args, *node.kwargs.values()) if isinstance(value, fx.Node)]
            node.op, node.target, node.args, node.kwargs = "call_module", name, tuple(tensors), {}
    _separate(net, graph)
    traced = fx.GraphModule(net, graph, type(net).__name__)
    for module in traced.modules():
        if getattr(module, "inplace", False):
            vars(module)["inplace"] = False
    return traced.eval()


def _separate(net: nn.Module, graph: fx.Graph) -> None:
    """A module of its own for each place of a call; weights are shared."""
    calls: Counter[str] = Counter()
    for node in graph.nodes:
        if node.op != "call_module":
            continue
        name = str(node.target)
        calls[name] += 1
        if calls[name] > 1:
            module = net.get_submodule(name)
            shared: dict[int, Any] = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
            node.target = _free(net, f"call_{name.replace('.', '_')}_{calls[name]}")
            net.add_module(node.target, copy.deepcopy(module, shared))


def _free(net: nn.Module, name: str) -> str:
    """The name, with a number where something is called so already."""
    tried = (name if not i else f"{name}_{i}" for i in range(len(dir(net)) + 1))
    return next(each for each in tried if not hasattr(net, each))


def _module_for(node: fx.Node) -> nn.Module | None:
    """The module that does what a call does, None where the call may stay."""
    name = node.target if isinstance(node.target, str) else str(getattr(node.target, "__name__", ""))
    name = name.removesuffix("_")
    values = list(node.args[1:])
    kwargs = {k: v for k, v in node.kwargs.items() if v is not None and (k, v) not in UNREAD and k not in ("input", "inplace")}
    if name in ("add", "iadd") and len(values) == 1 and not kwargs:
        return Add() if isinstance(node.args[0], fx.Node) and isinstance(values[0], fx.Node) else None
    places = MODULES[name][1] if name in MODULES else BOUNDS.get(name, ())
    given: dict[str, Any] = {**dict(zip(places, values, strict=False)), **kwargs}
    if any(isinstance(value, fx.Node) for value in given.values()) or not set(given) <= set(places):
        return None
    if name in MODULES:
        made: nn.Module = MODULES[name][0](**given)
        return made.eval()
    if name not in BOUNDS:
        return None
    low, high = given.get(places[0]), given.get(places[-1]) if len(places) > 1 else None
    if name == "hardtanh":
        low, high = given.get("min_val", -1.0), given.get("max_val", 1.0)
    if low == 0 and high is None:
        return nn.ReLU().eval()
    if low == 0 and high == 6:
        return nn.ReLU6().eval()
    return nn.Hardtanh(low, high).eval() if low is not None and high is not None else None


def _check_logits(model: nn.Module, made: nn.Module, inputs: Tensor) -> None:
    points = inputs.detach()
    with torch.no_grad():
        expected, found = model(points.clone()), made(points.clone())
    difference, largest = float((expected - found).abs().max()), float(expected.abs().max())
    if not difference <= 1e-5 * max(largest, 1e-30):
        raise UnsupportedModelError(
            f"canonical: the logits of the rewritten model differ by {difference:.2g} (largest logit {largest:.2g}); "
            "does the model read a tensor after changing it in place?"
        )


def _check_activations(made: nn.Module, inputs: Tensor) -> None:
    """Refuse where the graph of a pass holds more activations than the tree has modules for them."""
    points = inputs.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        found, others = activations(made(points), points)
    names = Counter(type(node).__name__.partition("Backward")[0] for node, *_ in found) + others
    modules = sum(type(module).__module__ == nn.ReLU.__module__ for module in made.modules())
    if names.total() > modules:
        told = ", ".join(f"{name} ({count}x)" for name, count in sorted(names.items()))
        raise UnsupportedModelError(
            f"canonical: a pass computes {told}, but calls {modules} modules for activations; "
            f"call them through modules, or as functions among {', '.join([*MODULES, *BOUNDS])}"
        )
