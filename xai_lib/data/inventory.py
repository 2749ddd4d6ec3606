"""What `xai data list|get|check` show and do."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from xai_lib.data import food, pasted, places
from xai_lib.data.cifar10 import ARCHIVE, BATCHES, PARQUET
from xai_lib.data.download import MIRROR, REMOTES, fetch, target_root
from xai_lib.data.source import SPLITS, Source, open_source, stream
from xai_lib.errors import DataError
from xai_lib.registry import DATASETS

FILES = {
    "mnist": ("MNIST/raw/t10k-images-idx3-ubyte",),
    "imagenet": ("imagenet/metadata/image_ids.txt",),
    "cifar10": (f"{BATCHES}/test_batch", f"{ARCHIVE}/{BATCHES}/test_batch", PARQUET["test"]),
    "food101": tuple(f"{folder}/meta/classes.txt" for folder in (food.FOLDER, f"{food.ARCHIVE}/{food.FOLDER}")),
}
"""A file of each layout of each set that is not packaged, relative to a searched folder."""
MADE_OF = {pasted.NAME: ("cifar10", "food101")}
"""Sets without files of their own: they are here when their parts are."""
SAMPLED = 200
"""Rows of each generated set that `check` draws; every other set is read whole."""


@dataclass(frozen=True)
class Listing:
    """One line of `xai data list`; `n` (rows over all splits) is None where the set is missing or damaged."""

    name: str
    label: str
    kind: str
    packaged: bool
    found_at: str | None
    n: int | None
    classes: int
    licence: str
    redistributable: bool


@dataclass(frozen=True)
class Check:
    """What `check` found: rows read per split, and remarks that are no errors."""

    name: str
    found_at: str
    n: dict[str, int]
    remarks: tuple[str, ...]


def listing() -> list[Listing]:
    """All data sets, packaged ones first; opens each, reads no picture."""
    return sorted((_list(name) for name in DATASETS), key=lambda entry: (not entry.packaged, entry.name))


def found_at(name: str) -> str | None:
    """Where a set lies: "packaged", a folder (that of each part, for a set made of others), or None.

    Raises:
        ConfigError: unknown name.
    """
    if DATASETS[name].traits["packaged"]:
        return "packaged"
    if name in MADE_OF:
        parts = [found_at(part) for part in MADE_OF[name]]
        return None if None in parts else "; ".join(sorted({str(part) for part in parts}))
    found = {places.find(name, file) for file in FILES[name]}
    return next((str(root) for root in places.roots() if root in found), None)


def get(name: str, root: Path | str | None = None, mirror: str | None = None) -> list[Path]:
    """Download a data set into `root` (default: `$XAI_DATA`, else the repository's data/).

    Args:
        name: a data set, such as "mnist".
        root: the folder that gets it.
        mirror: address of the folder that holds the files; default `$XAI_MIRROR`, else the official one.

    Returns:
        The files; an empty list for a packaged set.

    Raises:
        ConfigError: unknown name, or an address that is none.
        DataError: the set may not be downloaded, is not reachable, or does not match its checksum.
        StoreError: the folder cannot be written.
    """
    if DATASETS[name].traits["packaged"]:
        return []
    if name in MADE_OF:
        raise DataError(f"data set {name!r} is no download: it is made of {' and '.join(MADE_OF[name])}; get those")
    if name not in REMOTES:
        from xai_lib.data.imagenet import HOW

        raise DataError(f"data set {name!r} cannot be downloaded. {HOW}")
    base, remotes = REMOTES[name]
    return fetch(mirror or os.environ.get(MIRROR, "").strip() or base, remotes, target_root(root))


def check(name: str) -> Check:
    """Read a whole set: checksums, counts, every picture, every box.

    Raises:
        ConfigError: unknown name.
        DataError: missing, or damaged; lists up to ten damaged pictures with their files.
    """
    place = found_at(name)
    counts, remarks, broken = {}, [], []
    for split in SPLITS[name]:
        source = open_source(name, split=split, seed=0)
        remarks += source.verify()
        counts[split] = len(source.ids)
        broken += _broken(source)
    if broken:
        more = f" and {len(broken) - 10} more" if len(broken) > 10 else ""
        raise DataError(f"data set {name!r}: {len(broken)} damaged: {'; '.join(broken[:10])}{more}")
    return Check(name, str(place), counts, tuple(remarks))


def _broken(source: Source) -> list[str]:
    """One message per row that cannot be read or holds impossible values."""
    total = len(source.ids) if source.seeded else min(SAMPLED, len(source.ids))
    messages: list[str] = []
    for start in range(0, total, 256):
        rows = range(start, min(start + 256, total))
        try:
            messages += _impossible(source, rows)
        except DataError:
            for row in rows:
                try:
                    messages += _impossible(source, [row])
                except DataError as error:
                    messages.append(str(error))
    return messages


def _impossible(source: Source, rows: range | list[int]) -> list[str]:
    messages = []
    for samples in stream(source, rows, 32):
        inputs = samples.inputs
        finite = torch.isfinite(inputs).flatten(1).all(1)
        ranged = torch.ones_like(finite) if inputs.ndim == 2 else ((inputs >= 0) & (inputs <= 1)).flatten(1).all(1)
        labelled = (samples.targets >= 0) & (samples.targets < len(samples.class_names))
        boxed = torch.ones_like(finite)
        for row, boxes in enumerate(samples.boxes or ()):
            low, high = (boxes[:, :2], boxes[:, 2:])
            boxed[row] = bool((low >= 0).all() and (low < high).all() and (high <= inputs.shape[-1]).all())
        for word, fine in (("values", finite & ranged), ("label", labelled), ("box", boxed)):
            messages += [f"{samples.ids[i]}: impossible {word}" for i in torch.nonzero(~fine).flatten().tolist()]
    return messages


def _list(name: str) -> Listing:
    entry, place, n = DATASETS[name], None, None
    try:
        place = found_at(name)
        splits = ("all",) if "all" in SPLITS[name] else SPLITS[name]
        n = sum(len(open_source(name, split=split, seed=0).ids) for split in splits) if place else None
    except DataError:
        pass  # listed without a count; `check` says what is wrong
    traits = entry.traits
    return Listing(
        name,
        entry.label,
        traits["kind"],
        traits["packaged"],
        place,
        n,
        traits["classes"],
        traits["licence"],
        traits["redistributable"],
    )
