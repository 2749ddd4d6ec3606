"""The form every loaded model has: frozen, in eval mode, pixel space [0, 1] in, float logits out."""

import hashlib
import warnings
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from xai_lib.errors import ConfigError, InputError
from xai_lib.fused import gradient_forward

PRECISIONS = ("float32", "float64", "bfloat16")


class Normalise(nn.Module):
    """(x - mean) / std, channel by channel.

    mean, std: one number per channel, in pixel units of [0, 1].

    >>> Normalise([0.5], [0.25])(torch.ones(1, 1, 1, 1)).item()
    2.0
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or min(std, default=0.0) <= 0:
            raise ConfigError(f"normalisation: expected one mean and one positive std per channel, got {mean} and {std}")
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Pixels (n, c, h, w) -> what the network was trained on, same shape."""
        return (inputs - self.mean) / self.std


class PixelModel(nn.Module):
    """A frozen classifier of pixels: logits = network((x - mean) / std).

    The model is always in eval mode: `train()` warns and changes nothing, since a model that is explained must answer equally
    to equal inputs (train a net from `xai_lib.models.nets` instead). Weights are kept in channels-last memory, in-place
    activations are made out-of-place so that hooks see what a layer returned.

    name            registered name, or the one given
    input_shape     (c, h, w) of one input
    class_names     the name of each logit
    weights_sha256  of the weights file, or of the weights themselves when there is no file
    cam_layer       name of the layer whose output enters the global pooling, "" when there is none
    head_layer      name of the last linear layer, "" when there is none
    precision       "float32", "float64" or "bfloat16" (autocast inside, float32 logits outside)
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
        input_shape: Sequence[int],
        class_names: Sequence[str],
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        weights_sha256: str = "",
        cam_layer: str = "",
        head_layer: str = "",
        precision: str = "float32",
    ) -> None:
        super().__init__()
        if precision not in PRECISIONS:
            raise ConfigError(f"precision={precision!r}: expected one of {', '.join(PRECISIONS)}")
        self.normalise: nn.Module = nn.Identity() if mean is None or std is None else Normalise(mean, std)
        self.network = network
        self.name = name
        self.input_shape = tuple(int(size) for size in input_shape)
        self.class_names = tuple(class_names)
        self.weights_sha256 = weights_sha256 or state_sha256(network)
        self.cam_layer = f"network.{cam_layer}" if cam_layer else ""
        self.head_layer = f"network.{head_layer}" if head_layer else ""
        self.precision = precision
        for module in network.modules():
            if getattr(module, "inplace", False):
                vars(module)["inplace"] = False
        self.requires_grad_(False)
        super().train(False)
        self.to(memory_format=torch.channels_last)
        if precision == "float64":
            self.double()

    def forward(self, inputs: Tensor) -> Tensor:
        """Pixels (n, *input_shape) in [0, 1] -> logits (n, classes); float32, or float64 with that precision.

        Raises:
            InputError: rows of another shape than `input_shape`.
        """
        return self._answer(inputs, self.network)

    def gradient_forward(self, inputs: Tensor) -> Tensor:
        """The same, in the way that is fastest where only the gradient to the inputs is asked, of first order.

        See `fused.gradient_forward`, which takes it unless the model has hooks.
        """
        return self._answer(inputs, partial(gradient_forward, self.network))

    def _answer(self, inputs: Tensor, network: Callable[[Tensor], Tensor]) -> Tensor:
        if tuple(inputs.shape[1:]) != self.input_shape:
            raise InputError(f"{self.name}: takes (n, {', '.join(map(str, self.input_shape))}), got {tuple(inputs.shape)}")
        points = self.normalise(inputs)
        if self.precision != "bfloat16":
            return network(points)
        with torch.autocast(inputs.device.type, torch.bfloat16):
            out = network(points)
        return out.float()

    def train(self, mode: bool = True) -> "PixelModel":
        """Stay in eval mode; warns when training mode is asked for."""
        if mode:
            warnings.warn(f"{self.name} is frozen and stays in eval mode; train a net from xai_lib.models.nets", stacklevel=2)
        return super().train(False)


def state_sha256(module: nn.Module) -> str:
    """sha256 over the names, shapes, types and bytes of all parameters and persistent buffers, in name order.

    >>> state_sha256(nn.Identity())[:8]
    'e3b0c442'
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {tuple(values.shape)} {values.dtype}".encode())
        digest.update(values.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
