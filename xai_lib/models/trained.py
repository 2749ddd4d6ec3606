"""Nets that this project trained: where their checkpoints lie, and the command that made each.

A file of its own, so that one more net changes no file that stored results of other nets depend on.
"""

from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from xai_lib.models.cifar_nets import SOURCES
from xai_lib.models.weights import Source, expected_sha256, find, read

WORKS_NOW = "mnist_cnn"


def add_sources(names: Iterable[str], *, module: str, data: str) -> None:
    """Say where checkpoints come from: NAME.safetensors, made by `python -m xai_lib.models.MODULE NAME`.

    Args:
        names: of the nets; `models.listing` finds their files from now on.
        module: with the command that trains them.
        data: the data set that the command needs under XAI_DATA, as readers call it.
    """
    for name in names:
        SOURCES[name] = Source(
            f"{name}.safetensors", how=f"python -m xai_lib.models.{module} {name}, with {data} under XAI_DATA"
        )


def state_of(name: str, given: str | Path | None) -> tuple[dict[str, Tensor], str, Path]:
    """The checked tensors of a net's checkpoint, the sha256 of their file, and the file.

    Args:
        name: a net of `add_sources`.
        given: a file to take instead of the usual one, or None.

    Raises:
        ModelError: the file is missing or damaged.
    """
    source = SOURCES[name]
    path = find(name, source, weights=given, allow_download=False, works_now=WORKS_NOW)
    state, digest = read(path, sha256=expected_sha256(path, source))
    return state, digest, path
