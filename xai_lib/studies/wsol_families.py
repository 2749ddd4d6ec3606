"""Study `wsol`, part 7: which families of nets a method accepts, repairs or refuses."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from xai_lib import data, models
from xai_lib.adoptability import adoptability
from xai_lib.hooks import global_seed
from xai_lib.types import Model

SIDE = 64


def families() -> dict[str, tuple[Model, Tensor]]:
    """By name: a net of each family, and one picture for it."""
    photo = data.load("photos", n=1, seed=0, size=SIDE).inputs
    digit = data.load("mnist_5k", split="test", n=1, seed=0).inputs
    tiny = torch.nn.functional.interpolate(photo, size=32, mode="area")
    return {
        "ReLU, max pooling": (models.load("mnist_cnn"), digit),
        "ReLU, residual": (models.load("cifar_resnet"), tiny),
        "shared ReLU6, residual": (models.load("efficientnet_lite0", size=SIDE), photo),
        "SiLU": (drawn(nn.SiLU), tiny),
        "sigmoid": (drawn(nn.Sigmoid), tiny),
        "any function": (lambda rows: rows.flatten(2).mean(2) @ torch.eye(3, 5), tiny),
    }


def drawn(activation: type[nn.Module]) -> nn.Module:
    """Two convolutions with an activation each, global average pooling and a linear layer, untrained."""
    with global_seed(0):
        layers = OrderedDict(
            conv1=nn.Conv2d(3, 8, 3, 2), act1=activation(), conv2=nn.Conv2d(8, 8, 3, 2), act2=activation(),
            pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(1), head=nn.Linear(8, 5),
        )  # fmt: skip
        net = nn.Sequential(layers).eval().requires_grad_(False)
    vars(net).update(cam_layer="act2", head_layer="head")
    return net


def table(panel: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    """One row a method, one column a family: accepted, repaired, refused or failed."""
    columns: dict[str, list[str]] = {}
    for family, (model, image) in families().items():
        asked = [{name: _small(own)} for name, own in panel.values()]
        columns[family] = [row["verdict"] for row in adoptability(model, image, asked)]
    return pd.DataFrame({"method": list(panel), **columns})


def _small(own: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters, with as few questions as show whether there is a map."""
    few = {"steps": 2, "n_masks": 2, "iterations": 1, "patch": 16, "stride": 16}
    return {k: few.get(k, v) for k, v in own.items()}
