"""ImageNet validation pictures with boxes: `imagenet/val/*.JPEG` and `imagenet/metadata/*.txt`.

The metadata is the text format of the WSOL benchmark of Choe et al. (2020):

    image_ids.txt      val/NAME.JPEG
    class_labels.txt   val/NAME.JPEG,class
    image_sizes.txt    val/NAME.JPEG,width,height        of the ORIGINAL picture
    localization.txt   val/NAME.JPEG,x0,y0,x1,y1         in the ORIGINAL picture, x1 and y1 inclusive; one line per box
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from xai_lib.data.decode import fit_boxes, picture, pixels
from xai_lib.data.places import inside, need
from xai_lib.data.source import Source, check_size, opens, take
from xai_lib.errors import ConfigError, DataError
from xai_lib.imagenet_classes import imagenet_classes
from xai_lib.registry import DATASETS
from xai_lib.types import Samples

LICENCE = "ImageNet terms of access: non-commercial research and education, no redistribution"
HOW = (
    "It may not be downloaded without an account: ask at image-net.org, put the pictures in imagenet/val and the WSOL "
    "benchmark's metadata in imagenet/metadata, and set XAI_DATA to the folder above"
)


@DATASETS.register(
    label="ImageNet (validation)",
    cite="russakovsky2015",
    traits={"packaged": False, "licence": LICENCE, "redistributable": False, "kind": "image", "classes": 1000},
)
def imagenet(
    *,
    split: str | None = None,
    n: int | None = None,
    seed: int = 0,
    ids: Sequence[str] | None = None,
    size: int = 224,
    classes: Sequence[int] | None = None,
) -> Samples:
    """Validation pictures of ILSVRC-2012, (n, 3, size, size), with boxes of the labelled object.

    The whole picture is squashed to a square (bicubic), so no box is cut and any size works. Top-1 of EfficientNet-Lite0 at
    224 px on the 227 px copy: 83.0 % on 300 pictures for bilinear, bicubic and centre crop alike; 81.3, 82.0 and 82.5 % on
    all 1,000.

    Args:
        split: "val", the only one.
        n: how many pictures, drawn in an order fixed by `seed`.
        seed: of that order.
        ids: these pictures instead, such as "ILSVRC2012_val_00038213".
        size: side in pixels, 8 to 1024.
        classes: only pictures with these class indices, such as [920] for the traffic light.

    Returns:
        Samples; class names are torchvision's. Boxes are scaled per axis, x1 and y1 exclusive, clipped to the picture.

    Raises:
        DataError: the set is missing, its metadata is damaged, or a picture cannot be read (names the file).
    """
    return take("imagenet", split, n, seed, ids, size=size, classes=classes)


@opens("imagenet", "val")
def open_imagenet(split: str, seed: int, *, size: int = 224, classes: Sequence[int] | None = None) -> Source:
    """The metadata, opened and checked; pictures are read later."""
    check_size("imagenet", size)
    wanted = _classes(classes)
    tables = [f"imagenet/metadata/{kind}.txt" for kind in ("image_ids", "class_labels", "image_sizes", "localization")]
    root = need("imagenet", *tables, how=HOW, instead="photos") / "imagenet"
    records = read_metadata(root / "metadata")
    rows = [record for record in records if wanted is None or record.label in wanted]
    if not rows:
        raise DataError(f"data set 'imagenet' in {root}: no picture of classes {sorted(wanted or ())} among {len(records)}")

    def read(chosen: Sequence[int]) -> Samples:
        picked = [rows[row] for row in chosen]
        return Samples(
            inputs=torch.stack([pixels(picture(_file(root, record.file)), size) for record in picked]),
            targets=torch.tensor([record.label for record in picked], dtype=torch.long),
            ids=tuple(record.id for record in picked),
            class_names=imagenet_classes(),
            name="imagenet",
            licence=LICENCE,
            redistributable=False,
            boxes=tuple(fit_boxes(record.boxes, (0, 0, *record.size), size) for record in picked),
        )

    return Source("imagenet", [record.id for record in rows], read)


class Record:
    """One line of the metadata: file, class, original (width, height), and (k, 4) boxes in it, exclusive."""

    __slots__ = ("boxes", "file", "id", "label", "size")

    def __init__(self, file: str, label: int, size: tuple[int, int], boxes: np.ndarray) -> None:
        self.file, self.label, self.size, self.boxes = file, label, size, boxes
        self.id = file.rpartition("/")[2].rpartition(".")[0]


def read_metadata(folder: Path) -> list[Record]:
    """The four tables joined, in the order of image_ids.txt.

    Raises:
        DataError: a line that cannot be read, a picture without label or size, a class outside 0..999, ids that repeat.
    """
    files = [line[0] for line, _ in _table(folder / "image_ids.txt", 0)]
    labels = {line[0]: values[0] for line, values in _table(folder / "class_labels.txt", 1)}
    sizes = {line[0]: (values[0], values[1]) for line, values in _table(folder / "image_sizes.txt", 2)}
    boxes: dict[str, list[list[int]]] = defaultdict(list)
    for line, (x0, y0, x1, y1) in _table(folder / "localization.txt", 4):
        boxes[line[0]].append([x0, y0, x1 + 1, y1 + 1])
    records = []
    for file in files:
        if file not in labels or file not in sizes:
            raise DataError(f"{folder}: {file} has no line in class_labels.txt or image_sizes.txt; fetch the metadata again")
        if not 0 <= labels[file] < 1000 or min(sizes[file]) < 1:
            raise DataError(f"{folder}: {file} has class {labels[file]} and size {sizes[file]}; expected 0 to 999 and positive")
        records.append(Record(file, labels[file], sizes[file], np.array(boxes[file], dtype=float).reshape(-1, 4)))
    if len({record.id for record in records}) != len(records):
        raise DataError(f"{folder}/image_ids.txt: names repeat; every picture needs its own name")
    return records


def _table(path: Path, numbers: int) -> list[tuple[list[str], list[int]]]:
    """Lines `file,number,...` as (fields, numbers)."""
    rows = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); fetch the metadata again") from error
    for count, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        fields = line.strip().split(",")
        try:
            values = [int(field) for field in fields[1:]]
        except ValueError:
            values = []
        if len(fields) != numbers + 1 or len(values) != numbers:
            raise DataError(f"{path}, line {count}: expected a file and {numbers} whole numbers, found {line[:80]!r}")
        rows.append((fields, values))
    return rows


def _file(root: Path, name: str) -> Path:
    folder, _, rest = name.partition("/")
    try:
        if folder == "val":
            return inside(root / "val", rest)
    except ConfigError as error:
        raise DataError(f"{root}/metadata names a picture outside the folder: {error}") from error
    raise DataError(f"{root}/metadata names {name[:100]!r}, expected val/NAME.JPEG; fetch the metadata again")


def _classes(classes: Sequence[int] | None) -> set[int] | None:
    if classes is None:
        return None
    numbers = isinstance(classes, list | tuple) and all(isinstance(c, int) and not isinstance(c, bool) for c in classes)
    if not numbers or not classes or not all(0 <= c < 1000 for c in classes):
        raise ConfigError(f"data set 'imagenet': classes={classes!r}, expected a list of class indices from 0 to 999")
    return set(classes)
