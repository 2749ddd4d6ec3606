"""Data sets: `load` for all at once, `batches` for one batch at a time.

Looked for in `$XAI_DATA`, then in the repository's `data/`; the packaged ones are always there. Nothing is downloaded
unless `get` is called, or a loader that can fetch is told allow_download=True.

>>> samples = load("photos", n=2, seed=0)
>>> tuple(samples.inputs.shape), samples.ids == load("photos", n=5, seed=0).ids[:2]
((2, 3, 224, 224), True)
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from xai_lib.data import cifar10, food, imagenet, mnist, pasted, photos, shapes, tabular
from xai_lib.data.inventory import Check, Listing, check, found_at, get, listing
from xai_lib.data.places import roots
from xai_lib.data.source import choose, open_source, stream
from xai_lib.data.tabular import columns
from xai_lib.errors import ConfigError
from xai_lib.registry import DATASETS
from xai_lib.types import Samples

__all__ = [
    "Check",
    "Listing",
    "batches",
    "check",
    "cifar10",
    "columns",
    "food",
    "found_at",
    "get",
    "imagenet",
    "listing",
    "load",
    "mnist",
    "pasted",
    "photos",
    "roots",
    "shapes",
    "tabular",
]


def load(
    name: str | Mapping[str, Mapping[str, Any] | None],
    *,
    split: str | None = None,
    n: int | None = None,
    seed: int = 0,
    ids: Sequence[str] | None = None,
    **own: Any,
) -> Samples:
    """A data set, or a part of it, in memory.

    Args:
        name: a registered data set, or {name: {own parameters}}.
        split: part of the set; each set has its own default.
        n: how many rows. They are drawn in an order fixed by `seed`: the first 5 of n=50 are those of n=5.
        seed: of that order (and of the pictures themselves, for "shapes").
        ids: these rows instead, in this order.
        own: the data set's own parameters, such as size=224 or classes=[920].

    Raises:
        ConfigError: unknown name, parameter or split; n out of range; n together with ids.
        DataError: the set is missing (where it looked, how to get it, what works now), damaged, or lacks an id.
    """
    given = _request(name, own)
    return DATASETS.bind(given[0], **given[1])(split=split, n=n, seed=seed, ids=ids)


def batches(
    name: str | Mapping[str, Mapping[str, Any] | None],
    *,
    size: int = 32,
    split: str | None = None,
    n: int | None = None,
    seed: int = 0,
    ids: Sequence[str] | None = None,
    own: Mapping[str, Any] | None = None,
) -> Iterator[Samples]:
    """The rows that `load` would give, `size` at a time; only one batch is in memory.

    Args:
        name: as for `load`; `split`, `n`, `seed` and `ids` too.
        size: rows per batch, at least 1 (not the side of a picture: that is own={"size": 224}).
        own: the data set's own parameters.

    Raises:
        ConfigError, DataError: as for `load`, at the call, except for a damaged picture, which is met on the way.
    """
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise ConfigError(f"batches of size={size!r}: expected a whole number of at least 1")
    given = _request(name, dict(own or {}))
    source = open_source(given[0], split=split, seed=seed, **given[1])
    return stream(source, choose(source, n, seed, ids), size)


def _request(name: Any, own: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and own parameters, both checked against the registry."""
    known, inside = DATASETS.split(name)
    parameters = {**inside, **own}
    shared = sorted({"split", "n", "seed", "ids"} & set(parameters))
    if shared:
        raise ConfigError(f"data set {known!r}: give {', '.join(shared)} as arguments of load, not among its own parameters")
    DATASETS.bind(known, **parameters)
    return known, parameters
