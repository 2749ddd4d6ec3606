"""torchvision's ImageNet classifiers, with weights from a file; downloaded only when that is allowed."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from xai_lib.imagenet_classes import imagenet_classes
from xai_lib.models.folding import fold_batch_norms
from xai_lib.models.sources import imagenet_traits, state_of
from xai_lib.models.weights import fill
from xai_lib.models.wrapper import PixelModel
from xai_lib.registry import MODELS

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def blank(name: str) -> nn.Module:
    """torchvision's net without weights (meta device); Inception v3 without auxiliary head and without its own rescaling."""
    own = {"aux_logits": False, "init_weights": False, "transform_input": False} if name == "inception_v3" else {}
    import torchvision  # late: two seconds that the other models need not wait

    with torch.device("meta"):
        return torchvision.models.get_model(name, weights=None, **own).eval()


def _load(
    name: str,
    given: str | Path | None,
    allow_download: bool | None,
    fold: bool,
    precision: str,
    *,
    layers: tuple[str, str],
    rename: Callable[[str], str] = str,
    size: int = 224,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> PixelModel:
    state, digest, path = state_of(name, given, allow_download)
    net = blank(name)
    kept = {rename(key): tensor for key, tensor in state.items() if not key.startswith("AuxLogits.")}
    fill(net, kept, source=str(path))
    if fold:
        fold_batch_norms(net)
    cam_layer, head_layer = layers
    return PixelModel(
        net,
        name=name,
        input_shape=(3, size, size),
        class_names=imagenet_classes(),
        mean=mean,
        std=std,
        weights_sha256=digest,
        cam_layer=cam_layer,
        head_layer=head_layer,
        precision=precision,
    )


@MODELS.register(label="ResNet-18", cite="he2016", traits=imagenet_traits(11_689_512, 0.69758))
def resnet18(
    *,
    weights: str | Path | None = None,
    allow_download: bool | None = None,
    fold_batch_norm: bool = True,
    precision: str = "float32",
) -> PixelModel:
    """ResNet-18 of torchvision (IMAGENET1K_V1).

    Args:
        weights: a file; None looks in $XAI_WEIGHTS and the cache of torch.hub.
        allow_download: whether the file may be fetched; None reads $XAI_ALLOW_DOWNLOAD.
        fold_batch_norm: merge BatchNorm into the convolutions: equal logits, faster.
        precision: "float32", "float64" or "bfloat16".
    """
    return _load("resnet18", weights, allow_download, fold_batch_norm, precision, layers=("layer4", "fc"))


@MODELS.register(label="ResNet-34", cite="he2016", traits=imagenet_traits(21_797_672, 0.73314))
def resnet34(
    *,
    weights: str | Path | None = None,
    allow_download: bool | None = None,
    fold_batch_norm: bool = True,
    precision: str = "float32",
) -> PixelModel:
    """ResNet-34 of torchvision (IMAGENET1K_V1); arguments as `resnet18`."""
    return _load("resnet34", weights, allow_download, fold_batch_norm, precision, layers=("layer4", "fc"))


@MODELS.register(label="ResNet-50", cite="he2016", traits=imagenet_traits(25_557_032, 0.7613))
def resnet50(
    *,
    weights: str | Path | None = None,
    allow_download: bool | None = None,
    fold_batch_norm: bool = True,
    precision: str = "float32",
) -> PixelModel:
    """ResNet-50 of torchvision (IMAGENET1K_V1, the file of the years of the documents); arguments as `resnet18`."""
    return _load("resnet50", weights, allow_download, fold_batch_norm, precision, layers=("layer4", "fc"))


@MODELS.register(label="VGG-16", cite="simonyan2015", traits=imagenet_traits(138_357_544, 0.71592))
def vgg16(*, weights: str | Path | None = None, allow_download: bool | None = None, precision: str = "float32") -> PixelModel:
    """VGG-16 without BatchNorm of torchvision (IMAGENET1K_V1); arguments as `resnet18`."""
    return _load("vgg16", weights, allow_download, False, precision, layers=("features.29", "classifier.6"))


@MODELS.register(label="DenseNet-121", cite="huang2017", traits=imagenet_traits(7_978_856, 0.74434))
def densenet121(
    *,
    weights: str | Path | None = None,
    allow_download: bool | None = None,
    fold_batch_norm: bool = True,
    precision: str = "float32",
) -> PixelModel:
    """DenseNet-121 of torchvision (IMAGENET1K_V1); arguments as `resnet18`.

    Its published file spells names as `norm.1`; they are read as `norm1`. The `cam_layer` is the last BatchNorm, before the
    ReLU that torchvision applies as a function.
    """
    return _load(
        "densenet121",
        weights,
        allow_download,
        fold_batch_norm,
        precision,
        layers=("features.norm5", "classifier"),
        rename=densenet_name,
    )


def densenet_name(key: str) -> str:
    """Today's spelling of a name in an old DenseNet file.

    >>> densenet_name("features.denseblock1.denselayer1.norm.1.weight")
    'features.denseblock1.denselayer1.norm1.weight'
    """
    for word in ("norm", "conv"):
        for digit in "12":
            key = key.replace(f".{word}.{digit}.", f".{word}{digit}.")
    return key


@MODELS.register(label="Inception v3", cite="szegedy2016", traits=imagenet_traits(23_834_568, 0.77294, size=299))
def inception_v3(
    *,
    weights: str | Path | None = None,
    allow_download: bool | None = None,
    fold_batch_norm: bool = True,
    precision: str = "float32",
) -> PixelModel:
    """Inception v3 of torchvision (IMAGENET1K_V1), 299 pixels; arguments as `resnet18`.

    Its weights come from TensorFlow and expect (x - 0.5) / 0.5; that is what torchvision's `transform_input` makes of
    ImageNet-normalised inputs. The auxiliary head, unused in eval mode, is left out (parameters are counted without it).
    """
    return _load(
        "inception_v3",
        weights,
        allow_download,
        fold_batch_norm,
        precision,
        layers=("Mixed_7c", "fc"),
        size=299,
        mean=[0.5] * 3,
        std=[0.5] * 3,
    )
