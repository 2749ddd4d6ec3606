"""Pictures with the same pixels in fewer bytes, and large tables compressed."""

import base64
import io
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from xai_lib.compendium import book_downloads


def png(pixels: np.ndarray, **own: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **own)
    return buffer.getvalue()


def picture(alpha: int) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 60, (300, 300, 4), dtype=np.uint8)
    pixels[..., 3] = alpha
    return pixels


def test_an_opaque_picture_keeps_its_pixels_and_loses_its_alpha_channel() -> None:
    given = png(picture(255), compress_level=1)
    made = book_downloads.lighter(given)
    assert len(made) < 0.9 * len(given)
    assert (np.asarray(Image.open(io.BytesIO(made))) == picture(255)[..., :3]).all()


def test_a_picture_with_transparency_keeps_it() -> None:
    pixels = picture(255)
    pixels[0, 0, 3] = 7
    made = book_downloads.lighter(png(pixels, compress_level=1))
    assert (np.asarray(Image.open(io.BytesIO(made))) == pixels).all()


def test_a_picture_that_cannot_be_packed_better_is_left() -> None:
    best = book_downloads.lighter(png(picture(255)[..., :3]))
    assert book_downloads.lighter(best) == best


def test_only_large_pictures_of_a_notebook_are_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    big, small = (base64.b64encode(png(one, compress_level=0)).decode() for one in (picture(255), picture(255)[:20, :20]))
    cell = nbformat.v4.new_code_cell(
        outputs=[nbformat.v4.new_output("display_data", {"image/png": one, "text/plain": "x"}) for one in (big, small)]
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("x"), cell])
    book_downloads.lighten(notebook)
    made = [output["data"]["image/png"] for output in notebook.cells[1].outputs]
    assert len(made[0]) < len(big)
    assert made[1] == small


def test_a_large_table_is_compressed_and_reads_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "results.csv"
    pd.DataFrame({"a": range(1000), "b": 0.5}).to_csv(source, index=False)
    plain = book_downloads.copy_table(source, tmp_path / "out.csv")
    assert (plain.name, plain.read_bytes()) == ("out.csv", source.read_bytes())
    monkeypatch.setattr(book_downloads, "LARGE_TABLE", 100)
    packed = []
    for now, name in ((1.0, "one.csv"), (2e9, "two.csv")):
        monkeypatch.setattr(book_downloads.gzip.time, "time", lambda now=now: now)
        packed.append(book_downloads.copy_table(source, tmp_path / name))
    assert [path.name for path in packed] == ["one.csv.gz", "two.csv.gz"]
    assert packed[0].read_bytes() == packed[1].read_bytes()
    assert pd.read_csv(packed[0]).equals(pd.read_csv(source))
