"""Picture files to pixels: checked, upright, RGB, and boxes that follow the same transform."""

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from xai_lib.errors import DataError

FORMATS = ("JPEG", "PNG")
MAX_PIXELS = 50_000_000
"""Larger pictures are refused before they are decoded (a decompression bomb claims more)."""


def picture(path: Path) -> Image.Image:
    """One picture as upright 8-bit RGB.

    Grey is repeated, CMYK converted, 16-bit grey scaled by 255/65535, transparency laid on white, EXIF rotation applied.

    Raises:
        DataError: missing, empty, no JPEG or PNG, truncated, or more than `MAX_PIXELS` pixels; names the file.
    """
    try:
        if path.stat().st_size == 0:
            raise DataError(f"picture {path} is empty (0 bytes); fetch it again")
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
                return _rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:
        raise DataError(f"picture {path} is no {' or '.join(FORMATS)} file, whatever its name says; replace it") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"picture {path} is too large ({error}); at most {MAX_PIXELS:,} pixels are read") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise DataError(f"picture {path} cannot be read ({error}); it is missing or damaged, fetch it again") from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image, dtype=np.float64) / 65535 * 255).round().astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        ground = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def pixels(image: Image.Image, size: int, crop: tuple[int, int, int, int] | None = None) -> Tensor:
    """(3, size, size) float32 in [0, 1]: cut `crop` (x0 y0 x1 y1), then resize each axis on its own (bicubic, antialiased)."""
    box = None if crop is None else tuple(float(v) for v in crop)
    resized = image.resize((size, size), Image.Resampling.BICUBIC, box=box)  # type: ignore[arg-type]
    planes = np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1))
    return torch.from_numpy(np.divide(planes, np.float32(255), dtype=np.float32))


def fit_boxes(boxes: np.ndarray, crop: tuple[float, float, float, float], size: int) -> np.ndarray:
    """Boxes of a picture, in pixels of `crop` resized to `size` x `size`.

    x' = (x - x0) * size / (x1 - x0), y alike with its own factor; clipped to [0, size]; boxes without area are dropped.

    Args:
        boxes: (k, 4), x0 y0 x1 y1 in the whole picture, x1 and y1 exclusive.
        crop: the part that is kept.
        size: side of the result.

    Returns:
        (j, 4) float32, j <= k.

    >>> fit_boxes(np.array([[50, 0, 100, 20]]), (0, 0, 100, 40), 10).tolist()
    [[5.0, 0.0, 10.0, 5.0]]
    """
    x0, y0, x1, y1 = crop
    scale = np.array([size / (x1 - x0), size / (y1 - y0)] * 2)
    moved = (np.asarray(boxes, dtype=np.float64).reshape(-1, 4) - [x0, y0, x0, y0]) * scale
    moved = moved.clip(0, size)
    kept = (moved[:, 2] > moved[:, 0]) & (moved[:, 3] > moved[:, 1])
    return moved[kept].astype(np.float32)
