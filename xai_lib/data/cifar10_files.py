"""The files of CIFAR-10: published batches and parquet files, each as (number of pictures, reader of chosen rows)."""

import hashlib
import io
import json
import pickletools
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from xai_lib.data.decode import FORMATS
from xai_lib.errors import DataError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE = 32
PIXELS = 3 * SIDE * SIDE

Read = tuple[np.ndarray, np.ndarray, list[str]]
"""pixels (n, 3, 32, 32) uint8, labels (n,), and how each picture was stored: "raw", "JPEG" or "PNG"."""
Reader = Callable[[Sequence[int], Sequence[str]], Read]
"""(row numbers, their ids) -> what those rows hold."""


def open_batches(folder: Path, files: Mapping[str, str]) -> tuple[int, Reader]:
    """Number of pictures and reader of torchvision's folder.

    Args:
        folder: `cifar-10-batches-py`.
        files: the batches by name, each with the MD5 that it must have.

    Raises:
        DataError: a file that is missing, or has other bytes.
    """
    parts = []
    for name, md5 in files.items():
        content = _bytes(folder / name)
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != md5:
            raise DataError(f"{folder / name}: md5 {found}, the published file has {md5}; fetch it again")
        offset, labels = parse_batch(content, str(folder / name))
        shape = (len(labels), 3, SIDE, SIDE)
        parts.append((np.memmap(folder / name, dtype=np.uint8, mode="r", offset=offset, shape=shape), labels))
    labels = np.concatenate([part[1] for part in parts])
    starts = np.cumsum([0, *[len(part[1]) for part in parts]])

    def read_rows(rows: Sequence[int], names: Sequence[str]) -> Read:
        at = np.asarray(rows)
        planes = np.empty((len(at), 3, SIDE, SIDE), dtype=np.uint8)
        for start, (pixels, _) in zip(starts, parts, strict=False):
            own = (at >= start) & (at < start + len(pixels))
            planes[own] = pixels[at[own] - start]
        return planes, labels[at], ["raw"] * len(at)

    return len(labels), read_rows


def parse_batch(content: bytes, name: str) -> tuple[int, np.ndarray]:
    """Where the pixels of a pickled batch start, and its labels; nothing is executed.

    The pixels are the only string of more than 255 bytes; the labels are the numbers between "labels" and the next string.

    Raises:
        DataError: not such a pickle, or pixels and labels that do not belong together.
    """
    labels: list[int] = []
    strings: list[tuple[int, int]] = []
    collecting = False
    try:
        for code, value, at in pickletools.genops(content):
            if code.name == "BINSTRING" and isinstance(value, str):
                strings.append(((at or 0) + 5, len(value)))
            if isinstance(value, str) and code.name.endswith("STRING"):
                collecting = value == "labels"
            elif collecting and code.name.startswith("BININT") and isinstance(value, int):
                labels.append(value)
    except ValueError as error:
        raise DataError(f"{name} is no pickled batch ({error}); fetch it again") from error
    if len(strings) != 1 or not labels or strings[0][1] != PIXELS * len(labels):
        held = ", ".join(f"{size:,} bytes" for _, size in strings) or "no pixels"
        raise DataError(f"{name}: {held} for {len(labels):,} labels, expected {PIXELS:,} bytes each; fetch it again")
    return strings[0][0], np.array(labels)


def open_parquet(path: Path) -> tuple[int, Reader]:
    """Number of pictures and reader of a parquet file; the columns are read at the first use and kept, still encoded.

    Raises:
        DataError: no parquet file, a column that is missing or of another type, other class names, or rows without label.
    """
    import pyarrow as pa  # late: only this layout needs it
    from pyarrow import parquet

    def opened(read: Callable[[parquet.ParquetFile], Any]) -> Any:
        try:
            with parquet.ParquetFile(path, page_checksum_verification=True) as file:
                return read(file)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path} is no whole parquet file ({str(error)[:200]}); fetch it again") from error

    total = opened(lambda file: file.metadata.num_rows)
    _check_columns(path, opened(lambda file: file.schema_arrow))

    @cache
    def columns() -> tuple[Any, np.ndarray]:
        table = opened(lambda file: file.read(columns=["img.bytes", "label"], use_threads=False))
        if table["label"].null_count:
            raise DataError(f"{path}: {table['label'].null_count} rows have no label; fetch it again")
        return table["img"], table["label"].to_numpy()

    def read_rows(rows: Sequence[int], names: Sequence[str]) -> Read:
        pictures, labels = columns()
        planes = np.empty((len(rows), 3, SIDE, SIDE), dtype=np.uint8)
        encodings = []
        for at, (row, name) in enumerate(zip(rows, names, strict=True)):
            planes[at], encoding = decoded((pictures[row].as_py() or {}).get("bytes"), f"{path}: {name}")
            encodings.append(encoding)
        return planes, labels[list(rows)], encodings

    return total, read_rows


def decoded(content: bytes | None, name: str) -> tuple[np.ndarray, str]:
    """The pixels of one encoded picture, (3, 32, 32) uint8, and its format, "JPEG" or "PNG".

    Raises:
        DataError: empty, damaged, neither JPEG nor PNG, or of another size.
    """
    if not content:
        raise DataError(f"{name}: the picture is empty; fetch the file again")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.size == (SIDE, SIDE):
                return np.asarray(image.convert("RGB")).transpose(2, 0, 1), str(image.format)
            told = f"{image.width} x {image.height} pixels, expected {SIDE} x {SIDE}"
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{name}: the picture cannot be read ({error}); fetch the file again") from error
    raise DataError(f"{name}: {told}")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); fetch it again") from error


def _check_columns(path: Path, schema: Any) -> None:
    from pyarrow import types

    fields = {field.name: field.type for field in schema}
    image = fields.get("img")
    inner = {field.name: field.type for field in image} if image is not None and types.is_struct(image) else {}
    coded = inner.get("bytes")
    if coded is None or not (types.is_binary(coded) or types.is_large_binary(coded)):
        raise DataError(f"{path}: expected a column img {{bytes, path}}, found {schema.names} with img {image}")
    if "label" not in fields or not types.is_integer(fields["label"]):
        raise DataError(f"{path}: expected a column label of whole numbers, found {schema.names}, label {fields.get('label')}")
    try:
        names = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]["label"]["names"]
    except (KeyError, TypeError, ValueError):
        return  # the class names are optional there
    if tuple(names) != CLASSES:
        raise DataError(f"{path}: classes {names}, expected {list(CLASSES)}; it is another data set")
