"""Lesson `foundations_maps`: shapes on a plain ground, their concepts, and a small net that tells the shapes apart."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from xai_lib import compute, data
from xai_lib.errors import InputError
from xai_lib.hooks import global_seed
from xai_lib.models.training import TrainingRecord, train
from xai_lib.models.wrapper import PixelModel
from xai_lib.types import Samples

SIDE = 32
WIDTHS = (16, 24, 32, 48)
COLOURS = ("red", "yellow", "green", "cyan", "blue", "magenta")
SATURATED = 0.25
"""Least distance between the largest and the smallest channel of a pixel that has a colour."""


def plain_shapes(split: str, n: int, *, seed: int = 0) -> Samples:
    """The first n shapes of `data.shapes` at 32 pixels, each on the mean colour of its own ground instead of a texture.

    Textures are taken away with the help of the exact masks, so that a net learns the shapes within seconds.

    Args:
        split: "train" or "test".
        n: how many.
        seed: of the pictures.
    """
    samples = data.load("shapes", split=split, n=n, seed=seed, size=SIDE)
    inside = _masks(samples)[:, None]
    ground = (samples.inputs * ~inside).sum(dim=(2, 3), keepdim=True) / (~inside).sum(dim=(2, 3), keepdim=True)
    return replace(samples, inputs=torch.where(inside, samples.inputs, ground))


def _masks(samples: Samples) -> Tensor:
    if samples.masks is None:
        raise InputError(
            f"samples {samples.name!r} have no masks, so that ground and object cannot be told apart; take 'shapes'"
        )
    return samples.masks


def blank_net(classes: int, *, seed: int = 0) -> nn.Sequential:
    """Four convolutions with BatchNorm and ReLU, global average pooling, one linear layer: a net that has a CAM.

    Layers conv1 norm1 act1 ... act4 pool flatten head; the maps of act1 and act2 have half the pictures' side, the others a
    quarter.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    with global_seed(seed):
        before = 3
        for i, width in enumerate(WIDTHS, start=1):
            side = 5 if i == 1 else 3
            layers[f"conv{i}"] = nn.Conv2d(before, width, side, stride=2 if i == 1 else 1, padding=side // 2, bias=False)
            layers[f"norm{i}"] = nn.BatchNorm2d(width)
            layers[f"act{i}"] = nn.ReLU()
            if i == 2:
                layers["shrink"] = nn.MaxPool2d(2)
            before = width
        layers.update(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(1), head=nn.Linear(before, classes))
    return nn.Sequential(layers).to(memory_format=torch.channels_last)


def pixel_model(net: nn.Sequential, name: str, class_names: Sequence[str]) -> PixelModel:
    """The net as every loaded model is: frozen, pixels in, logits out."""
    return PixelModel(
        net.eval(), name=name, input_shape=(3, SIDE, SIDE), class_names=class_names, mean=[0.5] * 3, std=[0.25] * 3,
        cam_layer="act4", head_layer="head",
    )  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """A net before and after training.

    untrained, net  with equal architecture; `untrained` has the weights from which training began
    record          of the training
    """

    untrained: PixelModel
    net: PixelModel
    record: TrainingRecord


def trained(samples: Samples, *, epochs: int, seed: int = 0) -> Trained:
    """Train `blank_net` with Adam, one learning-rate cycle up to 0.01, and random quarter turns and mirrors of whole batches.

    BatchNorm of the untrained net has the statistics of the pictures (`calibrated`), or its activations would have no scale.

    Args:
        samples: to train on.
        epochs: passes over them.
        seed: of weights and order.
    """
    inputs = ((samples.inputs - 0.5) / 0.25).contiguous(memory_format=torch.channels_last)
    names = samples.class_names
    before = calibrated(blank_net(len(names), seed=seed), inputs)
    net = blank_net(len(names), seed=seed)
    batch = min(32, len(samples))
    record = train(
        net, inputs, samples.targets, epochs=epochs, batch=batch, learning_rate=0.01, seed=seed, schedule="one_cycle",
        augment=_turned,
    )  # fmt: skip
    return Trained(pixel_model(before, "shapes_net_untrained", names), pixel_model(net, "shapes_net", names), record)


def calibrated(net: nn.Sequential, inputs: Tensor) -> nn.Sequential:
    """The net, each BatchNorm of which keeps mean and variance of these inputs as they are: one pass, no step.

    With its momentum m a norm would keep (1 - m) + m var of the variance, and later ones would be fed with what is too small.

    Args:
        net: is changed and returned in training mode; weights and momenta stay.
        inputs: (n, ...) of the net.
    """
    norms = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    with torch.no_grad():
        net.train()(inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return net


def _turned(inputs: Tensor, generator: torch.Generator) -> Tensor:
    quarter, mirrored = torch.randint(0, 4, (), generator=generator), torch.randint(0, 2, (), generator=generator)
    turned = inputs.rot90(int(quarter), (2, 3))
    return turned.flip(3) if bool(mirrored) else turned


def right(model: PixelModel, samples: Samples) -> Tensor:
    """(n,) 1 where the answer is the label, else 0."""
    return (compute.logits(model, samples.inputs).argmax(dim=1) == samples.targets).double()


def concept_names(samples: Samples) -> tuple[str, ...]:
    """Names of the concepts of `concepts_of`, in order."""
    return (*samples.class_names, "object", "ground", *COLOURS, "dark", "light")


def concepts_of(samples: Samples) -> Tensor:
    """The pixels of each concept, (n, c, h, w) bool: one for each shape, any object, ground, six hues, dark and light.

    A pixel has the hue that is nearest to its own (sectors of 60 degrees) if its largest and smallest channel differ by
    `SATURATED`; else it is dark (mean below 0.4), light (above 0.6) or nothing.
    """
    masks = _masks(samples)
    own = [masks & (samples.targets == k)[:, None, None] for k in range(len(samples.class_names))]
    high, low = samples.inputs.amax(dim=1), samples.inputs.amin(dim=1)
    coloured = high - low >= SATURATED
    red, green, blue = samples.inputs.unbind(dim=1)
    angle = torch.atan2(3**0.5 * (green - blue), 2 * red - green - blue)
    sector = (angle / (torch.pi / 3)).round().long() % len(COLOURS)
    hues = [coloured & (sector == k) for k in range(len(COLOURS))]
    mean = samples.inputs.mean(dim=1)
    return torch.stack([*own, masks, ~masks, *hues, ~coloured & (mean < 0.4), ~coloured & (mean > 0.6)], dim=1)
