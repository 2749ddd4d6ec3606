"""Nets that a grid of retrainings can train by name. A new one changes no stored result of another."""

from collections.abc import Mapping
from typing import Any

from xai_lib.errors import unknown

NETS: Mapping[str, tuple[str, str]] = {
    "lenet": ("xai_lib.models.nets", "lenet"),
    "cifar_resnet": ("xai_lib.models.cifar_nets", "resnet"),
    "small_resnet": ("xai_lib.models.small_resnet", "small_resnet"),
    "resnet50": ("xai_lib.models.document_resnet", "resnet50"),
}
"""Nets that can be trained by name: module and function, function(seed=..., **parameters)."""


def net_module(case: Mapping[str, Any]) -> str:
    """The module that builds the case's net.

    Raises:
        ConfigError: no such net.
    """
    if case["net"][0] not in NETS:
        raise unknown("net", case["net"][0], NETS)
    return NETS[case["net"][0]][0]
