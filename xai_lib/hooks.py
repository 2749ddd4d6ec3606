"""What is done to a model and undone afterwards: watching layers, randomising layers, seeding the global generator."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from xai_lib.errors import ConfigError, ModelError
from xai_lib.randomness import key


def find_layer(model: nn.Module, name: str) -> nn.Module:
    """The layer of this dotted name, as in `model.named_modules()`.

    Raises:
        ModelError: there is none; the message gives the closest names.
    """
    known = dict(model.named_modules())
    if name in known and name:
        return known[name]
    names = [known_name for known_name in known if known_name]
    close = get_close_matches(str(name), names, n=3, cutoff=0.3) or names[:3]
    raise ModelError(f"{type(model).__name__} has no layer {name!r}; closest: {', '.join(close) or '(none)'}")


class Seen:
    """What a probe saw: `seen[layer]` is the layer's last output, `seen.gradients[layer]` the last gradient with respect to it.

    outputs    layer -> output of its last call, still part of the graph where there is one
    gradients  layer -> gradient, filled by the backward pass of a probe with `gradients=True`
    calls      layer -> how many times it was called
    """

    def __init__(self, layers: Sequence[str]) -> None:
        self.outputs: dict[str, Tensor] = {}
        self.gradients: dict[str, Tensor] = {}
        self.calls = dict.fromkeys(layers, 0)

    def __getitem__(self, layer: str) -> Tensor:
        if layer in self.outputs:
            return self.outputs[layer]
        told = "was not called yet" if layer in self.calls else f"is not watched; watched: {', '.join(self.calls)}"
        raise ModelError(f"layer {layer!r} {told}")


@contextmanager
def probe(model: nn.Module, layers: str | Sequence[str], *, gradients: bool = False) -> Iterator[Seen]:
    """Watch the outputs of layers; the hooks are always removed, also after an exception.

    What is captured is the layer's own output, even when an in-place operation follows (the model goes on with a copy).

    Args:
        model: any module.
        layers: one name or several, as in `model.named_modules()`.
        gradients: also capture the gradient with respect to each output in the next backward pass. Where neither input nor
            weights ask for a gradient, the graph starts at the first watched layer, so nothing before it is differentiated.

    Yields:
        Seen.

    Raises:
        ModelError: no such layer, or a layer whose output is not one tensor.

    >>> net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    >>> with probe(net, "0") as seen:
    ...     _ = net(torch.ones(3, 2))
    >>> tuple(seen["0"].shape), len(net[0]._forward_hooks)
    ((3, 2), 0)
    """
    names = [layers] if isinstance(layers, str) else list(layers)
    modules = {name: find_layer(model, name) for name in names}
    seen = Seen(names)
    handles: list[Any] = []
    try:
        for name, module in modules.items():
            handles.append(module.register_forward_hook(_watch(seen, name, gradients)))
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _watch(seen: Seen, name: str, gradients: bool) -> Any:
    def hook(module: nn.Module, arguments: Any, output: Any) -> Tensor:
        if not isinstance(output, Tensor):
            raise ModelError(f"layer {name!r} returns {type(output).__name__}, expected one tensor; watch a layer inside it")
        if gradients and torch.is_grad_enabled() and not output.requires_grad:
            output = output.detach().requires_grad_(True)
        seen.outputs[name] = output
        seen.calls[name] += 1
        if gradients and output.requires_grad:
            output.register_hook(lambda gradient: seen.gradients.__setitem__(name, gradient))
        return output.clone()

    return hook


@contextmanager
def global_seed(seed: int, *, devices: Sequence[torch.device] = ()) -> Iterator[None]:
    """Seed PyTorch's global generators for the code inside; their states are put back afterwards.

    For layers that draw from the global generator (dropout, `reset_parameters`); everything else takes a generator.

    Args:
        seed: 0 to 2**63 - 1.
        devices: GPUs whose generators are used inside; the CPU's always is.
    """
    indices = [torch.cuda.current_device() if d.index is None else d.index for d in devices if d.type == "cuda"]
    with torch.random.fork_rng(devices=indices):
        torch.default_generator.manual_seed(seed)
        for index in indices:
            with torch.cuda.device(index):
                torch.cuda.manual_seed(seed)
        yield


@contextmanager
def randomised(model: nn.Module, layers: Sequence[str], seed: int) -> Iterator[nn.Module]:
    """Re-initialise layers as if they had never been trained; every byte is put back afterwards, also after an exception.

    Each layer draws from its own generator, keyed by `seed` and the layer's name, so that layers of equal shape get different
    weights and a layer gets the same ones whatever else is randomised. BatchNorm also forgets its running statistics.
    Numbers are drawn on the CPU in float32 by the layer's own `reset_parameters`, so they do not depend on device or memory
    format. A name that stands for a block means all layers in it.

    Args:
        model: any module.
        layers: names as in `model.named_modules()`; `layer_groups` gives them from output to input.
        seed: of the draw.

    Yields:
        The same model.

    Raises:
        ModelError: no such layer, nothing to randomise in it, or parameters without a `reset_parameters`.
    """
    chosen: dict[str, nn.Module] = {}
    for layer in layers:
        inside = {
            f"{layer}.{name}".rstrip("."): module for name, module in find_layer(model, layer).named_modules() if _own(module)
        }
        if not inside:
            raise ModelError(f"layer {layer!r} has no parameters to randomise; use layer_groups(model, k)")
        chosen.update(inside)
    for name, module in chosen.items():
        if not hasattr(module, "reset_parameters"):
            raise ModelError(f"layer {name!r} ({type(module).__name__}) has no reset_parameters(), so it cannot be randomised")
    kept = [(tensor, tensor.detach().clone()) for module in chosen.values() for tensor in _tensors(module)]
    try:
        for name, module in chosen.items():
            _reset(module, key(seed, "randomised", name))
        yield model
    finally:
        with torch.no_grad():
            for tensor, values in kept:
                tensor.copy_(values)


def _own(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False))


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(recurse=False), *module.buffers(recurse=False)]


def _reset(module: nn.Module, seed: int) -> None:
    blank: dict[int, Any] = {}
    for tensor in _tensors(module):
        values = torch.empty(tensor.shape, dtype=torch.float32 if tensor.is_floating_point() else tensor.dtype)
        blank[id(tensor)] = nn.Parameter(values) if isinstance(tensor, nn.Parameter) else values
    twin: Any = copy.deepcopy(module, blank)
    with global_seed(seed):
        twin.reset_parameters()
    with torch.no_grad():
        for tensor, drawn in zip(_tensors(module), _tensors(twin), strict=True):
            tensor.copy_(drawn)


def layer_groups(model: nn.Module, k: int) -> list[list[str]]:
    """The layers with parameters in k consecutive groups, from output to input, as equal in number as possible.

    For cascading randomisation in few stages: stage j randomises groups 0 to j. The order is that in which layers run (for a
    model with `input_shape`; one forward pass of zeros, layers that never run are left out), else that of registration.

    Args:
        model: any module.
        k: number of groups, 1 to the number of layers.

    Returns:
        k lists of names; the first holds the output layer as its first entry, smaller groups come first.

    Raises:
        ConfigError: k out of range.

    >>> layer_groups(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.Linear(2, 1)), 2)
    [['3'], ['2', '0']]
    """
    names = _running_order(model)[::-1]
    if not 1 <= k <= len(names):
        raise ConfigError(f"k={k}: expected 1 to {len(names)}, the number of layers with parameters")
    edges = [len(names) * i // k for i in range(k + 1)]
    return [names[low:high] for low, high in pairwise(edges)]


def _running_order(model: nn.Module) -> list[str]:
    names = [name for name, module in model.named_modules() if name and _own(module)]
    shape = getattr(model, "input_shape", None)
    if shape is None or not names:
        return names
    order: list[str] = []
    handles: list[Any] = []
    first = next(model.parameters())
    try:
        for name in names:
            handles.append(find_layer(model, name).register_forward_hook(lambda *_, name=name: order.append(name)))
        with torch.inference_mode():
            model(torch.zeros((1, *shape), dtype=first.dtype, device=first.device))
    finally:
        for handle in handles:
            handle.remove()
    return list(dict.fromkeys(order))
