"""Pictures with two labels, after the BAM data set: a CIFAR-10 picture pasted on a Food-101 picture.

Object and scene are drawn independently: each block of 100 pictures holds every pair of the ten object classes and ten scene
classes once. A picture depends on (seed, split, index) and on the two sets alone; their test parts make the test pictures.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from xai_lib.data import cifar10, food
from xai_lib.data.cifar10_files import CLASSES as OBJECTS
from xai_lib.data.decode import pixels
from xai_lib.data.shapes import check_objects
from xai_lib.data.source import Source, check_size, opens, take
from xai_lib.errors import DataError
from xai_lib.randomness import key
from xai_lib.registry import DATASETS
from xai_lib.types import Samples

NAME = "cifar_on_food"
SCENES = (
    "apple_pie",
    "baby_back_ribs",
    "baklava",
    "beef_carpaccio",
    "beef_tartare",
    "beet_salad",
    "beignets",
    "bibimbap",
    "bread_pudding",
    "breakfast_burrito",
)
"""The first ten classes of Food-101, whether or not the others are here."""
PAIRS = len(OBJECTS) * len(SCENES)
TOTAL = 10_000
SMALLEST, LARGEST = 1 / math.sqrt(3), 1 / math.sqrt(2)
"""Side of the object as a share of the scene's side: one third to one half of its area."""
CANDIDATES, ROUNDS = 16, 64
"""CIFAR-10 pictures that are looked at together for one of a class, and how often before it is said to be missing."""
LICENCE = f"objects: {cifar10.LICENCE}; scenes: {food.LICENCE}"


@DATASETS.register(
    label="CIFAR-10 on Food-101",
    cite="yang2019",
    traits={"kind": "image", "classes": len(OBJECTS), "packaged": False, "licence": LICENCE, "redistributable": False},
)
def cifar_on_food(
    *,
    split: str | None = None,
    n: int | None = None,
    seed: int = 0,
    ids: Sequence[str] | None = None,
    size: int = 64,
    objects: bool = True,
) -> Samples:
    """Whole CIFAR-10 pictures on Food-101 scenes, (n, 3, size, size), with masks, boxes and `extra["scene"]`.

    The object's side is drawn between 1/sqrt(3) and 1/sqrt(2) of the scene's, its place among those that do not cut it. The
    object is a square with its own background, where BAM pastes a cut-out.

    Args:
        split: "test" (default) or "train"; 10,000 pictures each, made of that part of both sets.
        n: the first n pictures; multiples of 100 hold every pair of classes equally often.
        seed: of the pictures themselves.
        ids: these pictures instead, such as "test-00003".
        size: side in pixels, 8 to 1024. The same index shows the same object and scene at the same place (to a pixel).
        objects: False gives the scene alone; labels, masks and boxes stay those of the object that is left out.

    Returns:
        Samples; targets are indices into `class_names` (the object), extra["scene"] indices into `SCENES`, and
        extra["object_id"] and extra["scene_id"] name the two pictures in their data sets.

    Raises:
        DataError: CIFAR-10 or Food-101 is missing (with the way to get it), damaged, or lacks a class.
    """
    return take(NAME, split, n, seed, ids, size=size, objects=objects)


@opens(NAME, "test", "train")
def open_cifar_on_food(split: str, seed: int, *, size: int = 64, objects: bool = True) -> Source:
    """Both sets, opened; pictures are read later."""
    check_size(NAME, size)
    check_objects(NAME, objects)
    parts = _opened(split, size)
    names = [f"{split}-{index:05d}" for index in range(TOTAL)]

    def read(chosen: Sequence[int]) -> Samples:
        plans = [plan(seed, split, int(index), size) for index in chosen]
        rows = [parts.rows(one) for one in plans]
        masks = torch.zeros((len(plans), size, size), dtype=torch.bool)
        inputs = torch.cat([parts.scenes.read([scene]).inputs for _, scene in rows])
        for at, (one, (row, _)) in enumerate(zip(plans, rows, strict=True)):
            x0, y0, x1, y1 = one.box
            masks[at, y0:y1, x0:x1] = True
            if objects:
                inputs[at, :, y0:y1, x0:x1] = resized(parts.objects.read([row]).inputs[0], x1 - x0)
        return Samples(
            inputs=inputs,
            targets=torch.tensor([one.object for one in plans], dtype=torch.long),
            ids=tuple(names[index] for index in chosen),
            class_names=OBJECTS,
            name=NAME,
            licence=LICENCE,
            redistributable=False,
            boxes=tuple(np.array([one.box], dtype=np.float32) for one in plans),
            masks=masks,
            extra={
                "scene": torch.tensor([one.scene for one in plans], dtype=torch.long),
                "object_id": [parts.objects.ids[row] for row, _ in rows],
                "scene_id": [parts.scenes.ids[scene] for _, scene in rows],
            },
        )

    return Source(NAME, names, read, seeded=False)


@dataclass(frozen=True)
class Plan:
    """What is drawn for a picture before anything is read.

    object  index into OBJECTS;  scene  index into SCENES
    box     x0 y0 x1 y1 of the object in pixels, x1 and y1 exclusive
    random  chooses the two pictures
    """

    object: int
    scene: int
    box: tuple[int, int, int, int]
    random: np.random.Generator


def plan(seed: int, split: str, index: int, size: int) -> Plan:
    """Classes, place and side of one picture.

    >>> one = plan(0, "test", 7, 64)
    >>> x0, y0, x1, y1 = one.box
    >>> x1 - x0 == y1 - y0, 1 / 3 <= (x1 - x0) ** 2 / 64**2 <= 1 / 2
    (True, True)
    """
    block, place = divmod(index, PAIRS)
    pairs = np.random.Generator(np.random.PCG64(key(NAME, "pairs", seed, split, block))).permutation(PAIRS)
    own, scene = divmod(int(pairs[place]), len(SCENES))
    random = np.random.Generator(np.random.PCG64(key(NAME, seed, split, index)))
    share, across, down = random.uniform(SMALLEST, LARGEST), random.random(), random.random()
    side = min(max(round(share * size), math.ceil(SMALLEST * size)), math.floor(LARGEST * size))
    x0, y0 = int(across * (size - side + 1)), int(down * (size - side + 1))
    return Plan(own, scene, (x0, y0, x0 + side, y0 + side), random)


def resized(image: Tensor, side: int) -> Tensor:
    """(3, 32, 32) in [0, 1] of whole grey levels -> (3, side, side), bicubic."""
    levels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return pixels(Image.fromarray(levels), side)


def _opened(split: str, size: int) -> "_Parts":
    found, missing = [], []
    for open_part in (partial(cifar10.open_cifar10, split, 0), partial(food.open_food101, split, 0, size=size)):
        try:
            found.append(open_part())
        except DataError as error:
            missing.append(str(error))
    if missing:
        told = ". Also: ".join(missing)
        raise DataError(f"data set {NAME!r} is made of 'cifar10' and 'food101': {told} ('shapes' has objects on scenes too)")
    return _Parts(*found)


class _Parts:
    """The two opened sets, and where the pictures of a class are."""

    def __init__(self, objects: Source, scenes: Source) -> None:
        self.objects, self.scenes = objects, scenes
        self.labels: dict[int, int] = {}
        self.of_scene: dict[str, list[int]] = defaultdict(list)
        for row, name in enumerate(scenes.ids):
            self.of_scene[food.class_of(name)].append(row)
        missing = [name for name in SCENES if not self.of_scene[name]]
        if missing:
            raise DataError(
                f"data set {NAME!r}: 'food101' has no picture of {', '.join(missing)} here; it takes all ten scenes"
            )

    def rows(self, one: Plan) -> tuple[int, int]:
        """The rows of a plan's object and scene, each uniform among the pictures of its class."""
        rows = self.of_scene[SCENES[one.scene]]
        scene = rows[int(one.random.integers(len(rows)))]
        for _ in range(ROUNDS):
            tried = one.random.integers(len(self.objects.ids), size=CANDIDATES).tolist()
            unknown = sorted({row for row in tried if row not in self.labels})
            if unknown:
                self.labels.update(zip(unknown, self.objects.read(unknown).targets.tolist(), strict=True))
            fitting = [row for row in tried if self.labels[row] == one.object]
            if fitting:
                return fitting[0], scene
        raise DataError(
            f"data set {NAME!r}: no {OBJECTS[one.object]!r} among {ROUNDS * CANDIDATES:,} pictures of 'cifar10' drawn at "
            "random; the set lacks that class, fetch it again"
        )
