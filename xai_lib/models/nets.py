"""Small nets that are trained here; every activation is a module of its own, so that every method can treat them."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from xai_lib.errors import ConfigError
from xai_lib.hooks import global_seed
from xai_lib.models.wrapper import Normalise

MNIST_MEAN, MNIST_STD = 0.1307, 0.3081


class Lenet(nn.Module):
    """Two convolutions 5x5 with ReLU and 2x2 max pooling, then three linear layers: the net of document 002.

    conv(c, 6, 5)-pool-conv(6, 16, 5)-pool-120-84-classes for `widths=(6, 16)`; 44,426 parameters for 28 px grey images.
    Takes pixels in [0, 1]: (x - mean) / std is its first layer.
    """

    def __init__(
        self, channels: int, classes: int, size: int, widths: Sequence[int], mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        side = ((size - 4) // 2 - 4) // 2
        self.normalise = Normalise(mean, std)
        self.conv1 = nn.Conv2d(channels, widths[0], 5)
        self.act1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(widths[0], widths[1], 5)
        self.act2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)
        self.flatten = nn.Flatten(1)
        self.fc1 = nn.Linear(widths[1] * side * side, 120)
        self.act3 = nn.ReLU()
        self.fc2 = nn.Linear(120, 84)
        self.act4 = nn.ReLU()
        self.fc3 = nn.Linear(84, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, channels, size, size) -> logits (n, classes)."""
        hidden = self.pool1(self.act1(self.conv1(self.normalise(inputs))))
        return self._head(self.pool2(self.act2(self.conv2(hidden))))

    def training_forward(self, inputs: Tensor) -> Tensor:
        """Logits and gradients of `forward`, faster: what `training.train` calls.

        The convolutional part stays in oneDNN's memory layout, and pools before ReLU, on a quarter of the values, since
        max(relu(h)) = relu(max(h)). Hooks on its activations and poolings are not called. Off the CPU, in other precisions and
        without oneDNN it is `forward`.
        """
        single = inputs.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        if not (single and inputs.device.type == "cpu" and torch.backends.mkldnn.is_available()):
            return self(inputs)
        hidden = self.normalise(inputs).to_mkldnn()
        for conv in (self.conv1, self.conv2):
            hidden = functional.relu(functional.max_pool2d(conv(hidden), 2, 2))
        return self._head(hidden.to_dense())

    def _head(self, pooled: Tensor) -> Tensor:
        return self.fc3(self.act4(self.fc2(self.act3(self.fc1(self.flatten(pooled))))))


def lenet(
    *,
    channels: int = 1,
    classes: int = 10,
    size: int = 28,
    widths: Sequence[int] = (6, 16),
    mean: Sequence[float] = (MNIST_MEAN,),
    std: Sequence[float] = (MNIST_STD,),
    seed: int = 0,
) -> Lenet:
    """An untrained Lenet, with PyTorch's default initialisation drawn from `seed`.

    Args:
        channels: of the images.
        classes: number of logits.
        size: height and width of the images, at least 16 pixels.
        widths: channels of the two convolutions.
        mean: per channel, pixels in [0, 1].
        std: per channel.
        seed: of the weights.

    >>> sum(p.numel() for p in lenet().parameters())
    44426
    """
    if size < 16 or channels != len(mean):
        raise ConfigError(f"lenet: size={size} must be at least 16, and mean and std need {channels} numbers each")
    with global_seed(seed):
        return Lenet(channels, classes, size, widths, mean, std)


def mlp(*, features: int, classes: int, hidden: Sequence[int] = (64, 32), seed: int = 0) -> nn.Sequential:
    """Linear layers with ReLU between them, for standardised tables (n, features).

    >>> import torch
    >>> mlp(features=4, classes=3)(torch.zeros(2, 4)).shape
    torch.Size([2, 3])
    """
    sizes = [features, *hidden]
    layers: list[nn.Module] = []
    with global_seed(seed):
        for size, following in pairwise(sizes):
            layers += [nn.Linear(size, following), nn.ReLU()]
        layers.append(nn.Linear(sizes[-1], classes))
    return nn.Sequential(*layers)
