"""CIFAR-10 in two layouts: the published batches as torchvision keeps them, and Hugging Face parquet files.

    cifar-10-batches-py/{data_batch_1..5,test_batch}    the lossless original, byte by byte (MD5)
    cifar10/{train,test}-00000-of-00001.parquet         columns img {bytes, path} and label; here JPEG re-encodings, shuffled

The batches are pickles. They are never unpickled: their operations are only listed, and the one long string among them is the
pixels. The two layouts hold other pictures under the same row number, so their ids differ.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from xai_lib.data.cifar10_files import CLASSES, open_batches, open_parquet
from xai_lib.data.download import MIRROR, REMOTES, Remote, fetch, target_root
from xai_lib.data.places import need, roots
from xai_lib.data.source import Source, opens, take
from xai_lib.errors import DataError
from xai_lib.registry import DATASETS
from xai_lib.types import Samples

LICENCE = "no licence stated (A. Krizhevsky 2009, from 80 Million Tiny Images); research use, not redistributed"
COUNTS = {"test": 10_000, "train": 50_000}
PARTIAL = {"test": 8_000}
"""A known copy in parquet files lacks 2,000 test pictures."""
PARQUET = {split: f"cifar10/{split}-00000-of-00001.parquet" for split in COUNTS}
BATCHES = "cifar-10-batches-py"
ARCHIVE = "cifar-10-python"
MD5 = {
    "test": {"test_batch": "40351d587109b95175f43aff81a1287e"},
    "train": {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    },
}
HOW = "Get it with `xai data get cifar10` (170 MB, lossless), or put the parquet files there and set XAI_DATA"

REMOTES["cifar10"] = (
    "https://www.cs.toronto.edu/~kriz",
    (
        Remote(
            f"{ARCHIVE}.tar.gz",
            "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
            170_498_071,
            ARCHIVE,
            "tar",
            200_000_000,
        ),
    ),
)


@DATASETS.register(
    label="CIFAR-10",
    cite="krizhevsky2009",
    traits={"kind": "image", "classes": 10, "packaged": False, "licence": LICENCE, "redistributable": False},
)
def cifar10(
    *,
    split: str | None = None,
    n: int | None = None,
    seed: int = 0,
    ids: Sequence[str] | None = None,
    allow_download: bool = False,
) -> Samples:
    """Small colour pictures of ten classes, (n, 3, 32, 32): 50,000 to train with and 10,000 to test with.

    The published batches are taken where they are, else parquet files. Which were read is told by `extra["encoding"]` ("raw",
    "JPEG" or "PNG"), the licence line and the ids ("test-00007" or "parquet-test-00007").

    Args:
        split: "test" (default) or "train".
        n: how many pictures, drawn in an order fixed by `seed`.
        seed: of that order.
        ids: these pictures instead.
        allow_download: fetch the published batches when neither layout is found.

    Raises:
        DataError: not found (with the way to get it), not the published bytes, a column, picture or label that is missing or
            damaged, or another number of pictures than the set has.
    """
    return take("cifar10", split, n, seed, ids, allow_download=allow_download)


@opens("cifar10", "test", "train")
def open_cifar10(split: str, seed: int, *, allow_download: bool = False) -> Source:
    """The split, opened: batches are checked and mapped, of a parquet file only the footer is read."""
    place = _located(split)
    if place is None and allow_download:
        base, remotes = REMOTES["cifar10"]
        fetch(os.environ.get(MIRROR, "").strip() or base, remotes, target_root(None))
        place = _located(split)
    if place is None:
        first = next(iter(MD5[split]))
        place = need("cifar10", f"{BATCHES}/{first}", PARQUET[split], how=HOW, instead="photos")
    original = place.suffix != ".parquet"
    total, read_rows = open_batches(place, MD5[split]) if original else open_parquet(place)
    known = sorted({COUNTS[split], PARTIAL.get(split, COUNTS[split])})
    if total not in known:
        told = " or ".join(f"{count:,}" for count in known)
        raise DataError(f"data set 'cifar10': {total:,} {split} pictures in {place}, expected {told}; fetch it again")
    ids = [f"{'' if original else 'parquet-'}{split}-{row:05d}" for row in range(total)]

    def read(chosen: Sequence[int]) -> Samples:
        names = [ids[row] for row in chosen]
        return _samples(*read_rows(chosen, names), names)

    def verify() -> list[str]:
        if original:
            return []
        return [f"{place.name}: not the published files; {total:,} of {COUNTS[split]:,} pictures, encoded and ordered anew"]

    return Source("cifar10", ids, read, verify)


def _located(split: str) -> Path | None:
    """The folder of the published batches, or the parquet file: the first in the order of `roots`."""
    for root in roots():
        try:
            for folder in (root / BATCHES, root / ARCHIVE / BATCHES):
                if folder.is_dir():
                    return folder
            if (root / PARQUET[split]).is_file():
                return root / PARQUET[split]
        except OSError as error:
            raise DataError(f"data set 'cifar10': {root} cannot be read ({error.strerror}); check its permissions") from error
    return None


def _samples(planes: np.ndarray, labels: np.ndarray, encodings: Sequence[str], ids: Sequence[str]) -> Samples:
    wrong = [ids[i] for i in np.flatnonzero((labels < 0) | (labels >= len(CLASSES))).tolist()]
    if wrong:
        raise DataError(f"data set 'cifar10': labels outside 0 to 9 at {', '.join(wrong[:5])}; the file is damaged")
    return Samples(
        inputs=torch.from_numpy(np.divide(planes, np.float32(255), dtype=np.float32)),
        targets=torch.from_numpy(labels.astype(np.int64)),
        ids=tuple(ids),
        class_names=CLASSES,
        name="cifar10",
        licence=f"{LICENCE}; JPEG re-encodings" if "JPEG" in encodings else LICENCE,
        redistributable=False,
        extra={"encoding": list(encodings)},
    )
