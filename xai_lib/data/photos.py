"""Natural photographs that scikit-image and scikit-learn ship, with boxes annotated by hand by this project.

`data/annotations/photos.json` holds, per photograph, the file, author and licence, and per sample the square that is cut
out, the best-fitting ImageNet class (chosen by looking, not by a model) and the boxes of that object.
"""

import hashlib
import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from xai_lib.data.decode import fit_boxes, picture, pixels
from xai_lib.data.places import REPOSITORY
from xai_lib.data.source import Source, check_size, opens, take
from xai_lib.errors import DataError
from xai_lib.imagenet_classes import imagenet_classes
from xai_lib.registry import DATASETS
from xai_lib.types import Samples

LICENCE = "public domain, CC0 or CC BY 2.0, see extra['licence'] and extra['author'] of each picture"
ANNOTATIONS = REPOSITORY / "annotations" / "photos.json"
FOLDERS = {"skimage": "data", "sklearn": "datasets/images"}


@DATASETS.register(
    label="Photographs",
    cite="none",
    traits={"packaged": True, "licence": LICENCE, "redistributable": True, "kind": "image", "classes": 1000},
)
def photos(
    *, split: str | None = None, n: int | None = None, seed: int = 0, ids: Sequence[str] | None = None, size: int = 224
) -> Samples:
    """Square cuts of seven photographs, (n, 3, size, size), with ImageNet classes and boxes.

    Several samples are cuts of one photograph, so they are not independent: fine for showing and testing, too few and too
    alike for a claim. `extra` has "photo", "author", "licence" and "note" per sample.

    Args:
        split: "all", the only one.
        n: how many, drawn in an order fixed by `seed`.
        seed: of that order.
        ids: these instead, such as "chelsea".
        size: side in pixels, 8 to 1024.
    """
    return take("photos", split, n, seed, ids, size=size)


@opens("photos", "all")
def open_photos(split: str, seed: int, *, size: int = 224) -> Source:
    """The annotations, opened; photographs are read later."""
    check_size("photos", size)
    book = read_annotations(ANNOTATIONS)
    rows, files = book["samples"], book["photos"]

    def read(chosen: Sequence[int]) -> Samples:
        picked = [rows[row] for row in chosen]
        images = {name: _photograph(files[name]) for name in {row["photo"] for row in picked}}
        cuts = [pixels(images[row["photo"]], size, tuple(row["crop"])) for row in picked]
        extra = {"photo": [row["photo"] for row in picked], "note": [row.get("note", "") for row in picked]}
        extra |= {word: [files[row["photo"]][word] for row in picked] for word in ("author", "licence")}
        return Samples(
            inputs=torch.stack(cuts),
            targets=torch.tensor([row["class"] for row in picked], dtype=torch.long),
            ids=tuple(row["id"] for row in picked),
            class_names=imagenet_classes(),
            name="photos",
            licence=LICENCE,
            redistributable=True,
            boxes=tuple(fit_boxes(np.array(row["boxes"]), row["crop"], size) for row in picked),
            extra=extra,
        )

    return Source("photos", [row["id"] for row in rows], read, lambda: _verify(files))


def read_annotations(path: Path) -> dict[str, Any]:
    """The annotation file.

    Raises:
        DataError: missing, no JSON, or without its two tables.
    """
    try:
        book = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(book["photos"], dict) and isinstance(book["samples"], list):
            return book
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"data set 'photos': {path} cannot be read ({error!r}); install from a checkout (`pip install -e .`) that has it"
        ) from error
    raise DataError(f"data set 'photos': {path} lacks its tables 'photos' and 'samples'; restore it with git")


def _file(photo: dict[str, Any]) -> Path:
    package = photo["package"]
    spec = find_spec(package) if package in FOLDERS else None
    if spec is None or spec.origin is None:
        raise DataError(f"data set 'photos': the package {package!r} is not installed; `pip install -e .`")
    return Path(spec.origin).parent / FOLDERS[package] / Path(photo["file"]).name


def _photograph(photo: dict[str, Any]) -> Image.Image:
    image = picture(_file(photo))
    if list(image.size) != photo["size"]:
        raise DataError(f"{_file(photo)} has {image.size} pixels, the boxes were drawn on {photo['size']}; check the version")
    return image


def _verify(photos_: dict[str, Any]) -> list[str]:
    for photo in photos_.values():
        digest = hashlib.sha256(_file(photo).read_bytes()).hexdigest()
        if digest != photo["sha256"]:
            raise DataError(f"{_file(photo)} has sha256 {digest}, expected {photo['sha256']}; another version of the package?")
    return []
