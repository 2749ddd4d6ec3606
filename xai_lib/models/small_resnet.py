"""A small ResNet for pictures of 64 to 128 pixels: what a grid of retrainings can afford on one core."""

from collections.abc import Sequence

from torch import Tensor, nn

from xai_lib.errors import ConfigError
from xai_lib.hooks import global_seed
from xai_lib.models.cifar_nets import ResidualBlock
from xai_lib.models.wrapper import Normalise

FOOD_MEAN, FOOD_STD = (0.5429, 0.4420, 0.3494), (0.2665, 0.2710, 0.2723)
"""Of the 3,750 training pictures of the first ten classes of Food-101 at 64 pixels."""


class SmallResnet(nn.Module):
    """normalise, features, global average, one linear layer.

    normalise   (x - mean) / std: takes pixels in [0, 1]
    features    stem and residual blocks, each activation a module of its own, nothing in place
    cam_layer   name of the layer whose output the average pools: what Grad-CAM reads
    head_layer  name of the linear layer
    """

    head_layer = "fc"

    def __init__(
        self, features: nn.Sequential, channels: int, classes: int, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        self.normalise = Normalise(mean, std)
        self.features = features
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten(1)
        self.fc = nn.Linear(channels, classes)
        self.cam_layer = f"features.{len(features) - 1}"

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, channels, h, w), pixels in [0, 1] -> logits (n, classes)."""
        return self.fc(self.flatten(self.pool(self.features(self.normalise(inputs)))))


def small_resnet(
    *,
    classes: int = 10,
    widths: Sequence[int] = (32, 64, 128),
    blocks: int = 1,
    pool: bool = True,
    mean: Sequence[float] = FOOD_MEAN,
    std: Sequence[float] = FOOD_STD,
    seed: int = 0,
) -> SmallResnet:
    """An untrained ResNet: a 5x5 convolution with stride 2, 2x2 max pooling, then `blocks` residual blocks per width.

    The first block of every later width halves the side, so that 64 pixels end as 4 x 4 features, 128 pixels as 8 x 8.

    Args:
        classes: number of logits.
        widths: channels of each stage; the first is also that of the stem.
        blocks: per stage, at least 1.
        pool: False leaves out the pooling: twice the side everywhere after it, and about twice the time.
        mean: per channel of the pictures, pixels in [0, 1].
        std: per channel.
        seed: of the weights (PyTorch's default initialisation).

    Raises:
        ConfigError: a number that is no whole one of at least 1, or mean and std that do not fit each other.

    >>> import torch
    >>> net = small_resnet()
    >>> net(torch.zeros(2, 3, 64, 64)).shape, net.cam_layer, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 10]), 'features.6', 310186)
    """
    for value in (classes, blocks, *widths):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConfigError(f"small_resnet: {value!r} among classes, blocks and widths, expected whole numbers of at least 1")
    if not widths:
        raise ConfigError("small_resnet: no widths, expected one for each stage")
    with global_seed(seed):
        width = widths[0]
        layers: list[nn.Module] = [nn.Conv2d(len(mean), width, 5, 2, 2, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        if pool:
            layers.append(nn.MaxPool2d(2))
        channels = width
        for stage, width in enumerate(widths):
            for block in range(blocks):
                layers.append(ResidualBlock(channels, width, 2 if stage and not block else 1))
                channels = width
        return SmallResnet(nn.Sequential(*layers), channels, classes, mean, std)
