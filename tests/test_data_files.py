"""Reading files: idx digits, pictures of every odd kind, and boxes that follow them."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from xai_lib import data
from xai_lib.data import decode
from xai_lib.data.mnist import read_idx
from xai_lib.errors import DataError


def test_idx_reader_against_hand_made_bytes(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"\0\0\x08\x03" + struct.pack(">3I", 2, 1, 3) + bytes([1, 2, 3, 250, 251, 252]))
    assert read_idx(path).tolist() == [[[1, 2, 3]], [[250, 251, 252]]]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0\x08",
        b"\0\0\x0d\x01" + struct.pack(">I", 1) + b"1234",
        b"\0\0\x08\x02" + struct.pack(">2I", 2, 2) + b"123",
        b"\0\0\x08\x02" + struct.pack(">2I", 2, 2) + b"12345",
        b"\0\0\x08\x03" + struct.pack(">2I", 2, 2),
        b"\0\0\x08\x04" + struct.pack(">4I", *[2**32 - 1] * 4) + b"1",
        b"\x1f\x8b\x08\0 a gzip file",
    ],
)
def test_damaged_idx_is_refused(tmp_path, content):
    path = tmp_path / "damaged-idx"
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged-idx"):
        read_idx(path)


def test_mnist_layout_of_torchvision(tmp_path, monkeypatch):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    images = np.arange(3 * 784).reshape(3, 28, 28).astype(np.uint8)
    (raw / "t10k-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + struct.pack(">3I", 3, 28, 28) + images.tobytes())
    (raw / "t10k-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + struct.pack(">I", 3) + bytes([7, 0, 9]))
    monkeypatch.setenv("XAI_DATA", str(tmp_path))
    samples = data.load("mnist", ids=["test-00002", "test-00000"])
    assert samples.targets.tolist() == [9, 7]
    assert np.array_equal((samples.inputs[0, 0] * 255).round().numpy(), images[2])
    with pytest.raises(DataError, match="3 test digits, expected 10000"):
        data.check("mnist")
    (raw / "t10k-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + struct.pack(">I", 3) + bytes([7, 10, 9]))
    with pytest.raises(DataError, match="labels above 9 at test-00001"):
        data.load("mnist")


COLOUR = (200, 40, 90)


def written(folder, name, mode, colour, form, **options):
    path = folder / name
    Image.new(mode, (6, 4), colour).save(path, form, **options)
    return path


@pytest.mark.parametrize(
    ("mode", "colour", "form", "expected"),
    [
        ("RGB", COLOUR, "PNG", COLOUR),
        ("L", 77, "PNG", (77, 77, 77)),
        ("L", 77, "JPEG", (77, 77, 77)),
        ("1", 1, "PNG", (255, 255, 255)),
        ("LA", (77, 255), "PNG", (77, 77, 77)),
        ("RGBA", (*COLOUR, 255), "PNG", COLOUR),
        ("RGBA", (*COLOUR, 0), "PNG", (255, 255, 255)),
        ("I;16", 257 * 100, "PNG", (100, 100, 100)),
        ("CMYK", (0, 255, 255, 0), "JPEG", (254, 0, 0)),
    ],
)
def test_every_mode_becomes_rgb(tmp_path, mode, colour, form, expected):
    image = decode.picture(written(tmp_path, "odd", mode, colour, form))
    assert image.mode == "RGB"
    assert np.allclose(np.asarray(image)[1, 1], expected, atol=2)


def test_exif_rotation_is_applied(tmp_path):
    image = Image.new("RGB", (6, 4), "black")
    image.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    upright = decode.picture(tmp_path / "turned.png")
    assert upright.size == (4, 6)
    assert upright.getpixel((3, 0)) == (255, 0, 0)


def test_one_pixel_fills_the_square(tmp_path):
    Image.new("RGB", (1, 1), COLOUR).save(tmp_path / "dot.png")
    pixels = decode.pixels(decode.picture(tmp_path / "dot.png"), 8)
    assert pixels.shape == (3, 8, 8)
    assert np.allclose(pixels[:, 3, 3] * 255, COLOUR)


def jpeg(colour=COLOUR, side=64):
    noise = np.random.default_rng(0).integers(0, 60, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise + np.array(colour, dtype=np.uint8) // 2).save(buffer, "JPEG")
    return buffer.getvalue()


def bomb():
    """A PNG that claims 60,000 x 60,000 pixels."""
    buffer = io.BytesIO()
    Image.new("L", (1, 1)).save(buffer, "PNG")
    content = buffer.getvalue()
    header = b"IHDR" + struct.pack(">2I", 60_000, 60_000) + content[24:29]
    return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]


@pytest.mark.parametrize(
    "content",
    [b"", b"just text, whatever the name says", jpeg()[:900], jpeg()[:30], bomb(), b"GIF89a" + bytes(40), b"%PDF-1.4 ..."],
    ids=["empty", "text", "truncated", "header only", "bomb", "gif", "pdf"],
)
def test_damaged_picture_is_an_error_that_names_it(tmp_path, content):
    path = tmp_path / "damaged.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"damaged\.jpg"):
        decode.picture(path)


def test_picture_above_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "MAX_PIXELS", 23)
    with pytest.raises(DataError, match="6 x 4 pixels"):
        decode.picture(written(tmp_path, "large.png", "RGB", COLOUR, "PNG"))


def test_boxes_in_closed_form():
    boxes = np.array([[10, 10, 30, 20], [0, 0, 100, 50], [60, 0, 70, 5]])
    assert decode.fit_boxes(boxes, (0, 0, 100, 50), 10).tolist() == [[1, 2, 3, 4], [0, 0, 10, 10], [6, 0, 7, 1]]
    assert decode.fit_boxes(boxes, (10, 10, 30, 30), 40).tolist() == [[0, 0, 40, 20], [0, 0, 40, 40]]
    assert decode.fit_boxes(np.zeros((0, 4)), (0, 0, 1, 1), 8).shape == (0, 4)


def test_box_frames_the_same_pixels_after_cut_and_resize():
    values = np.zeros((50, 100, 3), dtype=np.uint8)
    values[10:20, 40:60] = 255
    crop = (30, 0, 80, 50)
    x0, y0, x1, y1 = decode.fit_boxes(np.array([[40, 10, 60, 20]]), crop, 100)[0].astype(int)
    bright = decode.pixels(Image.fromarray(values), 100, crop)[0].numpy() > 0.5
    expected = np.zeros((100, 100), dtype=bool)
    expected[y0:y1, x0:x1] = True
    assert np.array_equal(bright, expected)
