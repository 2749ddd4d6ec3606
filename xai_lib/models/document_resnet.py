"""ResNet-50 as document 002 trains it on Food-101: from small random weights, normalisation inside."""

from collections.abc import Sequence

from torch import Tensor, nn

from xai_lib.errors import ConfigError
from xai_lib.hooks import global_seed
from xai_lib.models.wrapper import Normalise

MEAN, STD = (0.561, 0.440, 0.312), (0.252, 0.256, 0.259)
"""Of Food-101, as the document's code has them."""


class DocumentResnet(nn.Module):
    """(x - mean) / std, then torchvision's ResNet-50."""

    cam_layer, head_layer = "net.layer4", "net.fc"

    def __init__(self, net: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.normalise = Normalise(mean, std)
        self.net = net

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, 3, h, w), pixels in [0, 1] -> logits (n, classes)."""
        logits: Tensor = self.net(self.normalise(inputs))
        return logits


def resnet50(
    *, classes: int = 101, initial_std: float = 0.01, mean: Sequence[float] = MEAN, std: Sequence[float] = STD, seed: int = 0
) -> DocumentResnet:
    """An untrained ResNet-50; weights of convolutions and linear layers are drawn from N(0, initial_std^2), biases are 0.

    Args:
        classes: number of logits.
        initial_std: 0.01 in the document's code.
        mean: per channel of the pictures, pixels in [0, 1].
        std: per channel.
        seed: of the weights.

    Raises:
        ConfigError: no class, or a deviation of 0 or less.
    """
    if classes < 1 or not initial_std > 0:
        raise ConfigError(f"resnet50: classes={classes}, initial_std={initial_std}: expected at least 1 and above 0")
    from torchvision import models

    with global_seed(seed):
        net = models.resnet50(weights=None, num_classes=classes)
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.normal_(layer.weight, 0.0, initial_std)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
    return DocumentResnet(net, mean, std)
