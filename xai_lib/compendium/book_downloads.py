"""What a reader's browser has to load: pictures without what they do not need, large tables compressed."""

import base64
import gzip
import io
import shutil
from pathlib import Path

import nbformat
from PIL import Image

LARGE_PICTURE = 200_000
"""Bytes from which a picture is worth the time to write it again."""
LARGE_TABLE = 5_000_000
"""Bytes from which a table is offered compressed."""


def lighten(notebook: nbformat.NotebookNode) -> None:
    """Large PNG outputs are replaced by smaller ones with the same pixels."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            given = output.get("data", {}).get("image/png")
            if given and len(given) > LARGE_PICTURE * 4 / 3:
                output["data"]["image/png"] = base64.b64encode(lighter(base64.b64decode(given))).decode("ascii")


def lighter(png: bytes) -> bytes:
    """The same picture as PNG in no more bytes: packed well, without an alpha channel that is opaque everywhere."""
    picture: Image.Image = Image.open(io.BytesIO(png))
    if picture.mode == "RGBA" and picture.getchannel("A").getextrema() == (255, 255):
        picture = picture.convert("RGB")
    packed = io.BytesIO()
    picture.save(packed, "PNG", optimize=True)
    return min(packed.getvalue(), png, key=len)


def copy_table(source: Path, target: Path) -> Path:
    """Copy a table; a large one becomes TARGET.gz, the same bytes for the same table, which pandas reads as it is.

    Returns:
        The file written.
    """
    if source.stat().st_size < LARGE_TABLE:
        return Path(shutil.copyfile(source, target))
    packed = target.with_name(f"{target.name}.gz")
    with source.open("rb") as plain, packed.open("wb") as file, gzip.GzipFile("", "wb", 6, file, mtime=0) as stream:
        shutil.copyfileobj(plain, stream)
    return packed
