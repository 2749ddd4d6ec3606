"""Food-101 as torchvision keeps it: pictures of 101 dishes, 750 of each to train with and 250 to test with.

    food-101/images/<class>/<number>.jpg
    food-101/meta/classes.txt                   one class a line: its order is that of the labels
    food-101/meta/{train,test}.{json,txt}       class/number of every picture; the json is read where both are there

A subset of the classes works too. The training pictures were not cleaned by the authors: some labels are wrong.
"""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from xai_lib.data.decode import picture, pixels
from xai_lib.data.download import MIRROR, REMOTES, Remote, fetch, target_root
from xai_lib.data.places import inside, need, roots
from xai_lib.data.source import Source, check_size, opens, take
from xai_lib.errors import ConfigError, DataError, unknown
from xai_lib.registry import DATASETS
from xai_lib.types import Samples

LICENCE = "pictures of Foodspotting's users (L. Bossard et al. 2014); scientific fair use, not redistributed"
CLASSES = 101
PER_CLASS = {"test": 250, "train": 750}
FOLDER = "food-101"
ARCHIVE = "food-101-archive"
"""Where the archive is unpacked: it holds a folder `food-101` of its own."""
HOW = "Get it with `xai data get food101` (5 GB), or put a folder food-101 there as torchvision does, and set XAI_DATA"
NAME = re.compile(r"[A-Za-z0-9_]+")
AGAIN = "; fetch the set again"

REMOTES["food101"] = (
    "http://data.vision.ee.ethz.ch/cvl",
    (
        Remote(
            f"{FOLDER}.tar.gz",
            "d97d15e438b7f4498f96086a4f7e2fa42a32f2712e87d3295441b2b6314053a4",
            4_996_278_331,
            ARCHIVE,
            "tar",
            6_000_000_000,
        ),
    ),
)


@DATASETS.register(
    label="Food-101",
    cite="bossard2014",
    traits={"kind": "image", "classes": CLASSES, "packaged": False, "licence": LICENCE, "redistributable": False},
)
def food101(
    *,
    split: str | None = None,
    n: int | None = None,
    seed: int = 0,
    ids: Sequence[str] | None = None,
    size: int = 64,
    classes: Sequence[str] | None = None,
    allow_download: bool = False,
) -> Samples:
    """Photographs of dishes, (n, 3, size, size), read lazily.

    The shorter side is resized to `size` and the centre cut (bicubic, antialiased), in one step, so that the longer side is
    not rounded on the way.

    Args:
        split: "test" (default) or "train".
        n: how many pictures, drawn in an order fixed by `seed`.
        seed: of that order.
        ids: these pictures instead, such as "apple_pie-1011328".
        size: side in pixels, 8 to 1024.
        classes: only these dishes, such as ["apple_pie", "baklava"]; default: those whose folders are here.
        allow_download: fetch the published archive (5 GB) when the set is not found.

    Returns:
        Samples; targets are indices into `class_names`, which keep the order of `meta/classes.txt`.

    Raises:
        ConfigError: a class that the set does not know, or an impossible size.
        DataError: not found (with the way to get it), a list, folder or picture that is missing or damaged (names the file).
    """
    return take("food101", split, n, seed, ids, size=size, classes=classes, allow_download=allow_download)


@opens("food101", "test", "train")
def open_food101(
    split: str, seed: int, *, size: int = 64, classes: Sequence[str] | None = None, allow_download: bool = False
) -> Source:
    """The lists, read and checked; pictures are read later."""
    check_size("food101", size)
    folder = _folder(split, allow_download)
    known = read_classes(folder)
    names = _chosen(folder, known, classes)
    label = {name: index for index, name in enumerate(names)}
    files = [file for file in read_list(folder, split, known) if file.partition("/")[0] in label]
    if not files:
        raise DataError(f"data set 'food101': {folder / 'meta'} lists no {split} picture of {', '.join(names[:5])}{AGAIN}")
    ids = [file.replace("/", "-") for file in files]

    def read(chosen: Sequence[int]) -> Samples:
        picked = [files[row] for row in chosen]
        return Samples(
            inputs=torch.stack([_pixels(folder, file, size) for file in picked]),
            targets=torch.tensor([label[file.partition("/")[0]] for file in picked], dtype=torch.long),
            ids=tuple(ids[row] for row in chosen),
            class_names=names,
            name="food101",
            licence=LICENCE,
            redistributable=False,
        )

    def verify() -> list[str]:
        whole = CLASSES * PER_CLASS[split]
        if len(files) == whole:
            return []
        return [f"not the whole set: {len(names)} of {CLASSES} classes, {len(files):,} of {whole:,} {split} pictures"]

    return Source("food101", ids, read, verify)


def read_classes(folder: Path) -> tuple[str, ...]:
    """The classes of `meta/classes.txt`, in its order.

    Raises:
        DataError: unreadable, empty, repeated, or names that are no plain folder names.
    """
    path = folder / "meta" / "classes.txt"
    names = tuple(_text(path).split())
    odd = [name[:100] for name in names if not NAME.fullmatch(name)]
    if odd or not names or len(set(names)) != len(names):
        raise DataError(
            f"{path}: {len(names)} names{f', such as {odd[0]!r}' if odd else ''}, expected unlike plain ones{AGAIN}"
        )
    return names


def read_list(folder: Path, split: str, classes: Sequence[str]) -> list[str]:
    """The pictures of a split as class/number, from its json or else its txt, in the order of the file.

    Raises:
        DataError: unreadable, of another form, a class that is none, or a picture that is listed twice.
    """
    path = folder / "meta" / f"{split}.json"
    if path.is_file():
        try:
            files = [file for own in json.loads(_text(path)).values() for file in own]
        except (ValueError, AttributeError, TypeError, RecursionError) as error:
            raise DataError(f"{path}: expected a list of pictures for each class ({error}){AGAIN}") from error
    else:
        path = path.with_suffix(".txt")
        files = _text(path).split()
    known = set(classes)
    for file in files:
        own, _, number = str(file).partition("/")
        if own not in known or not NAME.fullmatch(number):
            raise DataError(f"{path} names {str(file)[:100]!r}, expected a class of classes.txt, '/' and a plain name{AGAIN}")
    if len(set(files)) != len(files):
        raise DataError(f"{path}: a picture is listed twice{AGAIN}")
    return files


def class_of(name: str) -> str:
    """The class in the id of a picture.

    >>> class_of("apple_pie-1011328")
    'apple_pie'
    """
    return name.rpartition("-")[0]


def _folder(split: str, allow_download: bool) -> Path:
    """The first folder `food-101` with the lists of the split, in the order of `roots`."""
    found = _located(split)
    if found is None and allow_download:
        base, remotes = REMOTES["food101"]
        fetch(os.environ.get(MIRROR, "").strip() or base, remotes, target_root(None))
        found = _located(split)
    if found is not None:
        return found
    need("food101", f"{FOLDER}/meta/classes.txt", f"{FOLDER}/meta/{split}.json", how=HOW, instead="photos")
    raise DataError(f"data set 'food101' not found. {HOW}")


def _located(split: str) -> Path | None:
    for root in roots():
        try:
            for folder in (root / FOLDER, root / ARCHIVE / FOLDER):
                listed = any((folder / "meta" / f"{split}.{ending}").is_file() for ending in ("json", "txt"))
                if listed and (folder / "meta" / "classes.txt").is_file():
                    return folder
        except OSError as error:
            raise DataError(f"data set 'food101': {root} cannot be read ({error.strerror}); check its permissions") from error
    return None


def _chosen(folder: Path, known: Sequence[str], classes: Sequence[str] | None) -> tuple[str, ...]:
    """The classes asked for, or those that have a folder; in the order of classes.txt."""
    here = [name for name in known if (folder / "images" / name).is_dir()]
    if not here:
        raise DataError(f"data set 'food101': {folder / 'images'} holds no folder of {known[0]!r} or another class{AGAIN}")
    if classes is None:
        return tuple(here)
    if not isinstance(classes, list | tuple) or not classes or not all(isinstance(name, str) for name in classes):
        raise ConfigError(f"data set 'food101': classes={classes!r}, expected a list of names such as {known[0]!r}")
    for name in classes:
        if name not in known:
            raise unknown("class of data set 'food101'", name, known)
        if name not in here:
            raise DataError(f"data set 'food101': {folder / 'images'} has no folder {name!r}; here are {', '.join(here[:10])}")
    return tuple(name for name in known if name in classes)


def _pixels(folder: Path, file: str, size: int) -> Tensor:
    """The central square of a picture, resized."""
    try:
        path = inside(folder / "images" / file.partition("/")[0], f"{file.partition('/')[2]}.jpg")
    except ConfigError as error:
        raise DataError(f"{folder}: a picture lies outside its folder: {error}") from error
    image = picture(path)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return pixels(image, size, (left, top, left + side, top + side))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}){AGAIN}") from error
