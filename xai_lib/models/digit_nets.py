"""The digit classifiers of document 004: three nets of two linear layers, and LeNet-5 with sigmoids.

`mnist_mlp` and `mnist_sigmoid_cnn` read pixels. `mnist_hog_mlp` and `mnist_lbp_mlp` read what `xai_lib.features` makes of
pixels, since nothing can be differentiated through those: give them `features.FEATURES[name](images)`.
Every activation is a module of its own and nothing works in place, so that every method can treat them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from xai_lib.errors import unknown
from xai_lib.hooks import global_seed
from xai_lib.models.trained import add_sources, state_of
from xai_lib.models.weights import fill
from xai_lib.models.wrapper import Normalise, PixelModel
from xai_lib.registry import MODELS

DIGITS = tuple(str(digit) for digit in range(10))
INPUTS: dict[str, tuple[int, ...]] = {
    "mnist_mlp": (1, 28, 28),
    "mnist_hog_mlp": (36,),
    "mnist_lbp_mlp": (1, 28, 28),
    "mnist_sigmoid_cnn": (1, 28, 28),
}
NAMES = tuple(INPUTS)
add_sources(NAMES, module="digit_recipes", data="MNIST")
READS = {"mnist_mlp": "pixels", "mnist_hog_mlp": "hog", "mnist_lbp_mlp": "lbp", "mnist_sigmoid_cnn": "pixels"}
"""What each net reads: "pixels", or a name in `xai_lib.features.FEATURES`."""


class DigitMlp(nn.Module):
    """Two linear layers with ReLU between them: z = W2 relu(W1 x + b1) + b2, of the flattened input x.

    Args:
        features: numbers in one input.
        hidden: units between the layers.
        centred: the first layer of the net is (x - 0.5) / 0.5, as for pixels in the authors' code.
    """

    def __init__(self, features: int, hidden: int, *, centred: bool) -> None:
        super().__init__()
        self.normalise: nn.Module = Normalise((0.5,), (0.5,)) if centred else nn.Identity()
        self.flatten = nn.Flatten(1)
        self.fc1 = nn.Linear(features, hidden)
        self.act = nn.ReLU()
        self.fc2 = nn.Linear(hidden, len(DIGITS))

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, ...) with `features` numbers each -> logits (n, 10)."""
        return self.fc2(self.act(self.fc1(self.flatten(self.normalise(inputs)))))


class SigmoidLenet(nn.Module):
    """LeNet-5: conv(1, 6, 5)-pool-conv(6, 16, 5)-pool-120-84-10, a sigmoid after each layer but the last, max pooling.

    The first convolution keeps 28 x 28 (two black pixels around the picture); pixels in [0, 1] enter as they are.
    61,706 parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.act1 = nn.Sigmoid()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.act2 = nn.Sigmoid()
        self.pool2 = nn.MaxPool2d(2)
        self.flatten = nn.Flatten(1)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.act3 = nn.Sigmoid()
        self.fc2 = nn.Linear(120, 84)
        self.act4 = nn.Sigmoid()
        self.fc3 = nn.Linear(84, len(DIGITS))

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, 1, 28, 28) -> logits (n, 10)."""
        hidden = self.pool1(self.act1(self.conv1(inputs)))
        hidden = self.flatten(self.pool2(self.act2(self.conv2(hidden))))
        return self.fc3(self.act4(self.fc2(self.act3(self.fc1(hidden)))))


_BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "mnist_mlp": lambda: DigitMlp(784, 20, centred=True),
    "mnist_hog_mlp": lambda: DigitMlp(36, 12, centred=False),
    "mnist_lbp_mlp": lambda: DigitMlp(784, 12, centred=False),
    "mnist_sigmoid_cnn": SigmoidLenet,
}
_LAYERS = {"mnist_sigmoid_cnn": ("act2", "fc3")}


def build(name: str, *, seed: int = 0) -> nn.Module:
    """A net as it is before training, with PyTorch's default initialisation drawn from `seed`; trainable.

    Args:
        name: one of NAMES.
        seed: of the weights.

    Raises:
        ConfigError: an unknown name.

    >>> [sum(p.numel() for p in build(name).parameters()) for name in NAMES]
    [15910, 574, 9550, 61706]
    """
    if name not in _BUILDERS:
        raise unknown("digit net", name, _BUILDERS)
    with global_seed(seed):
        return _BUILDERS[name]()


def untrained(name: str, *, seed: int = 0, precision: str = "float32") -> PixelModel:
    """The net of `build`, frozen and ready to be explained: what a trained net is compared with.

    >>> untrained("mnist_hog_mlp").input_shape
    (36,)
    """
    return _wrapped(name, build(name, seed=seed), "", precision)


def _wrapped(name: str, net: nn.Module, digest: str, precision: str) -> PixelModel:
    cam, head = _LAYERS.get(name, ("", "fc2"))
    return PixelModel(
        net,
        name=name,
        input_shape=INPUTS[name],
        class_names=DIGITS,
        weights_sha256=digest,
        cam_layer=cam,
        head_layer=head,
        precision=precision,
    )


def _load(name: str, given: str | Path | None, precision: str) -> PixelModel:
    state, digest, path = state_of(name, given)
    net = build(name)
    fill(net, state, source=str(path))
    return _wrapped(name, net, digest, precision)


def _traits(name: str, parameters: int) -> dict[str, Any]:
    return {
        "dataset": "mnist",
        "input": INPUTS[name],
        "reads": READS[name],
        "classes": 10,
        "parameters": parameters,
        "top1_published": None,
        "needs_weights": False,
    }


@MODELS.register(label="LeNet-5 with sigmoids (MNIST)", cite="lecun1998", traits=_traits("mnist_sigmoid_cnn", 61_706))
def mnist_sigmoid_cnn(*, weights: str | Path | None = None, precision: str = "float32") -> PixelModel:
    """LeNet-5 with sigmoids for MNIST digits, trained by this project as document 004 did; its card tells how.

    Args:
        weights: a file instead of data/checkpoints/mnist_sigmoid_cnn.safetensors.
        precision: "float32", "float64" or "bfloat16".
    """
    return _load("mnist_sigmoid_cnn", weights, precision)


@MODELS.register(label="MLP 784-20-10 (MNIST)", cite="lecun1998", traits=_traits("mnist_mlp", 15_910))
def mnist_mlp(*, weights: str | Path | None = None, precision: str = "float32") -> PixelModel:
    """Two linear layers on the 784 pixels of a digit, trained as document 004 did; arguments as `mnist_sigmoid_cnn`."""
    return _load("mnist_mlp", weights, precision)


@MODELS.register(label="MLP 36-12-10 on HOG (MNIST)", cite="dalal2005", traits=_traits("mnist_hog_mlp", 574))
def mnist_hog_mlp(*, weights: str | Path | None = None, precision: str = "float32") -> PixelModel:
    """Two linear layers on the 36 HOG features of a digit (`features.hog`); arguments as `mnist_sigmoid_cnn`.

    Inputs are (n, 36) features, not pixels: nothing can be differentiated through the histogram.
    """
    return _load("mnist_hog_mlp", weights, precision)


@MODELS.register(label="MLP 784-12-10 on LBP (MNIST)", cite="ojala2002", traits=_traits("mnist_lbp_mlp", 9_550))
def mnist_lbp_mlp(*, weights: str | Path | None = None, precision: str = "float32") -> PixelModel:
    """Two linear layers on the LBP image of a digit (`features.lbp`); arguments as `mnist_sigmoid_cnn`.

    Inputs are LBP images (n, 1, 28, 28) in [0, 1], not pixels: nothing can be differentiated through the comparisons.
    """
    return _load("mnist_lbp_mlp", weights, precision)
