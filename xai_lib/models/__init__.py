"""Classifiers by name: eval mode, frozen, pixels in [0, 1] in, logits out."""

from pathlib import Path
from typing import Any

import torch

from xai_lib.errors import ConfigError
from xai_lib.models import cifar_nets, nets, torchvision_nets, zoo  # all but nets register models
from xai_lib.models.sources import source_of
from xai_lib.models.weights import places
from xai_lib.models.wrapper import PRECISIONS, Normalise, PixelModel, state_sha256
from xai_lib.registry import MODELS

__all__ = [
    "MODELS",
    "PRECISIONS",
    "Normalise",
    "PixelModel",
    "cifar_nets",
    "listing",
    "load",
    "nets",
    "state_sha256",
    "torchvision_nets",
    "zoo",
]


def load(
    name: str,
    *,
    weights: str | Path | None = None,
    device: str | torch.device | None = None,
    precision: str = "float32",
    **own: Any,
) -> PixelModel:
    """A registered model, ready to be explained.

    Args:
        name: one of MODELS; `listing()` tells which work now.
        weights: a .safetensors or .pth file instead of the usual one; its sha256 is checked where it is known (from the zoo, a
            JSON card beside the file, or the eight digits in its name).
        device: "cpu" (also None), "cuda", "cuda:1" or "auto" (a GPU when there is one).
        precision: "float32"; "float64"; "bfloat16" runs the network under autocast and still returns float32 logits.
        own: the model's own parameters, such as `size`, `fold_batch_norm` or `allow_download`.

    Returns:
        PixelModel with `.name .input_shape .class_names .weights_sha256`.

    Raises:
        ConfigError: unknown name or parameter, unknown device.
        ModelError: weights that are missing or damaged; raised before any forward pass.

    >>> load("efficientnet_lite0", size=64).input_shape
    (3, 64, 64)
    """
    place = _device(device)
    model: PixelModel = MODELS.bind(name, weights=weights, precision=precision, **own)()
    return model.to(place)


def _device(device: str | torch.device | None) -> torch.device:
    gpu = torch.cuda.is_available()
    if device is None or device == "auto":
        return torch.device("cuda" if gpu and device == "auto" else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device={device!r}: expected 'cpu', 'cuda', 'cuda:N' or 'auto'") from error
    if chosen.type == "cuda" and not gpu:
        raise ConfigError(f"device={device!r}: this machine has no usable GPU; use device='cpu' or 'auto'")
    return chosen


def listing() -> list[dict[str, Any]]:
    """One row per registered model: name, label, cite, its traits, and where its weights are now.

    Returns:
        Rows with keys name label cite dataset input classes parameters top1_published needs_weights available weights;
        `available` is True when `load(name)` needs no download, `weights` the file then used.

    >>> [row["available"] for row in listing() if row["name"] == "efficientnet_lite0"]
    [True]
    """
    rows = []
    for name, entry in MODELS.items():
        source = cifar_nets.SOURCES.get(name) or source_of(name)
        found = next((path for path in places(source) if path.is_file()), None)
        rows.append(
            {
                "name": name,
                "label": entry.label,
                "cite": entry.cite,
                **entry.traits,
                "available": found is not None,
                "weights": str(found or ""),
            }
        )
    return rows
