"""Superpixels: label maps (n, h, w), their means and borders, and maps with one value per segment (FIDELITY 6.3, E4.3).

A label map is int64; the segments of an image are numbered 0 .. M - 1. It belongs to its image alone: nothing is drawn.

>>> SEGMENTATIONS.bind("grid", rows=2, columns=2)(torch.zeros(1, 1, 2, 4))[0]
tensor([[0, 0, 1, 1],
        [2, 2, 3, 3]])
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xai_lib.checks import check_count
from xai_lib.errors import ConfigError, InputError
from xai_lib.registry import Registry
from xai_lib.types import Spec

SEGMENTATIONS = Registry("segmentation")
Segmentation = Spec | Tensor
"""A registered segmentation, a `{name: {parameters}}` mapping, a callable `inputs -> label maps`, or the label maps."""


@SEGMENTATIONS.register(label="SLIC", cite="achanta2012")
def slic(inputs: Tensor, *, n_segments: int = 100, compactness: float = 10.0, sigma: float = 1.0) -> Tensor:
    """k-means of pixels in colour and place: D^2 = d_Lab^2 + (d_xy / S)^2 m^2, S = sqrt(p / k), within 2S x 2S, connected.

    Args:
        inputs: (n, c, h, w). Grey pictures are repeated to 3 channels, as in document 004; 3 channels are taken as RGB and
            compared in Lab; any other number is compared as it is. scikit-image stretches each picture to [0, 1] first.
        n_segments: k, asked for; scikit-image gives about as many.
        compactness: m, above 0: weight of place against colour (Lab units).
        sigma: of the Gaussian that smoothes the picture first, in pixels; 0 = none.

    Returns:
        (n, h, w) int64 label maps. Setting 100, 10, 1 is that of document 004.

    Differs from document 004: its printed formula is not that of SLIC (FIDELITY E4.3); its code is.
    """
    from skimage.segmentation import slic as cluster

    check_count("n_segments", n_segments)
    if not compactness > 0 or sigma < 0:
        raise ConfigError(f"segmentation 'slic': compactness={compactness}, sigma={sigma}; expected above 0, and at least 0")
    own = {"n_segments": n_segments, "compactness": compactness, "sigma": sigma, "start_label": 0}
    return _each(inputs, lambda picture: cluster(picture, **own, convert2lab=picture.shape[2] == 3, channel_axis=-1))


@SEGMENTATIONS.register(label="Quickshift", cite="vedaldi2008")
def quickshift(inputs: Tensor, *, kernel_size: float = 4.0, max_dist: float = 200.0, ratio: float = 0.2) -> Tensor:
    """Each pixel joins its nearest neighbour of higher density, in colour (times `ratio`) and place; the trees are segments.

    The defaults are those of the lime package for photographs of 224 px; smaller pictures need a smaller `kernel_size`, or
    are one segment.

    Args:
        inputs: as in `slic`.
        kernel_size: width of the density estimate in pixels, at least 1; larger = fewer segments.
        max_dist: longest link, above 0.
        ratio: weight of colour against place, in [0, 1].

    Returns:
        (n, h, w) int64 label maps. Ties are broken by a fixed generator (scikit-image, seed 42), as in the lime package.
    """
    from skimage.segmentation import quickshift as shift

    if kernel_size < 1 or not max_dist > 0 or not 0 <= ratio <= 1:
        found = f"kernel_size={kernel_size}, max_dist={max_dist}, ratio={ratio}"
        raise ConfigError(f"segmentation 'quickshift': {found}; expected at least 1, above 0, in [0, 1]")
    own = {"kernel_size": kernel_size, "max_dist": max_dist, "ratio": ratio, "rng": 42}
    return _each(inputs, lambda picture: shift(picture, **own, convert2lab=picture.shape[2] == 3, channel_axis=-1))


@SEGMENTATIONS.register(label="Regular grid", cite="none")
def grid(inputs: Tensor, *, rows: int = 7, columns: int = 7) -> Tensor:
    """Rectangles, whatever the picture: label(u, v) = floor(u rows / h) columns + floor(v columns / w).

    Args:
        inputs: (n, c, h, w).
        rows, columns: at least 1; never more than the picture has pixels.

    Returns:
        (n, h, w) int64 label maps.
    """
    check_count("rows", rows)
    check_count("columns", columns)
    height, width = inputs.shape[2:]
    rows, columns = min(rows, height), min(columns, width)
    down = torch.arange(height, device=inputs.device) * rows // height
    across = torch.arange(width, device=inputs.device) * columns // width
    return (down[:, None] * columns + across).expand(len(inputs), -1, -1).clone()


def segment(segments: Segmentation, inputs: Tensor) -> Tensor:
    """Label maps of images, checked and numbered.

    Args:
        segments: a segmentation, or integer label maps (n, h, w), whose labels may be any numbers.
        inputs: (n, c, h, w).

    Returns:
        (n, h, w) int64 on the device of `inputs`; labels 0 .. M - 1 of each image in ascending order of the given ones.

    Raises:
        ConfigError: unknown segmentation or parameter.
        InputError: inputs are no images, labels are no integers of shape (n, h, w), or an image is one segment only.
    """
    if inputs.ndim != 4:
        raise InputError(f"inputs: expected images (n, c, h, w) to cut into segments, got shape {tuple(inputs.shape)}")
    made: Any = segments if isinstance(segments, Tensor) else SEGMENTATIONS.bind(segments)(inputs.detach())
    expected = (len(inputs), *inputs.shape[2:])
    if not isinstance(made, Tensor) or made.is_floating_point() or made.dtype == torch.bool or tuple(made.shape) != expected:
        got = f"{made.dtype} {tuple(made.shape)}" if isinstance(made, Tensor) else type(made).__name__
        raise InputError(f"segments: expected integer label maps of shape {expected}, one label per pixel, got {got}")
    numbered = [np.unique(own, return_inverse=True)[1].reshape(own.shape) for own in made.detach().cpu().numpy()]
    alone = [i for i, own in enumerate(numbered) if own.max() == 0]
    if alone:
        raise InputError(
            f"segments: images {alone[:10]} are one segment only, so that nothing can be compared; ask for more or smaller "
            "segments, for instance {'grid': {'rows': 7, 'columns': 7}}"
        )
    return torch.from_numpy(np.stack(numbered).astype(np.int64)).to(inputs.device)


def counts(labels: Tensor) -> list[int]:
    """How many segments each label map has."""
    return [int(own) + 1 for own in labels.flatten(1).amax(dim=1).tolist()]


def segment_means(values: Tensor, labels: Tensor) -> Tensor:
    """Means over segments.

    Args:
        values: (n, c, h, w).
        labels: (n, h, w), from `segment`.

    Returns:
        (n, c, M) float64, M the largest number of segments; 0 for segments that an image does not have.
    """
    _check(values, labels)
    flat = values.detach().double().flatten(2)
    index = labels.flatten(1)[:, None].expand_as(flat)
    empty = flat.new_zeros(*flat.shape[:2], max(counts(labels)))
    sizes = empty.scatter_add(2, index, torch.ones_like(flat))
    return empty.scatter_add(2, index, flat) / sizes.clamp_min(1)


def segment_mean(attributions: Tensor, labels: Tensor) -> Tensor:
    """Each pixel becomes the mean of its segment, channel by channel: the sum over a segment, and over the image, stays.

    Of Integrated Gradients this is what document 004 shows as "SLIC" and did not compute: it only draws the borders
    (`boundaries`) on the pixel map. Of an image it is the fill of the lime package.

    Args:
        attributions: (n, c, h, w).
        labels: (n, h, w), from `segment`.

    Returns:
        Same shape as `attributions`.

    >>> segment_mean(torch.tensor([[[[1.0, 2.0, 6.0]]]]), torch.tensor([[[0, 1, 1]]]))
    tensor([[[[1., 4., 4.]]]])
    """
    means = segment_means(attributions, labels)
    index = labels.flatten(1)[:, None].expand(-1, attributions.shape[1], -1)
    return means.gather(2, index).reshape(attributions.shape).to(attributions)


def spread(values: Sequence[Tensor], labels: Tensor, like: Tensor) -> Tensor:
    """Attributions with one value per segment.

    Every pixel has the value of its segment, whatever the segment's size, and each of the c channels a c-th of it, so that
    `maps.reduce(..., "sum")` shows the value. (Captum gives every channel the whole value: c times as much.) The sum over
    pixels weighs segments by their size; `segment_means` of the reduced map gives the values back.

    Args:
        values: for each image (M,), the value of segment 0, 1, ...
        labels: (n, h, w), from `segment`.
        like: (n, c, h, w), the inputs.

    Returns:
        Same shape and dtype as `like`.
    """
    padded = torch.nn.utils.rnn.pad_sequence([own.to(labels.device) for own in values], batch_first=True)
    maps = padded.gather(1, labels.flatten(1)).reshape(labels.shape)[:, None]
    return (maps / like.shape[1]).to(like).expand_as(like).contiguous()


def boundaries(labels: Tensor) -> Tensor:
    """Where segments meet: pixels whose right or lower neighbour belongs to another segment.

    Args:
        labels: (n, h, w).

    Returns:
        (n, h, w) bool, to be drawn over a picture or a map.

    >>> boundaries(torch.tensor([[[0, 0, 1], [2, 2, 2]]]))[0].int()
    tensor([[1, 1, 1],
            [0, 0, 0]], dtype=torch.int32)
    """
    edge = torch.zeros_like(labels, dtype=torch.bool)
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edge[:, :, :-1] |= labels[:, :, :-1] != labels[:, :, 1:]
    return edge


def _each(inputs: Tensor, cut: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    """`cut` on each picture (h, w, c), float64, grey ones with 3 equal channels."""
    pictures = inputs.detach().cpu().double().permute(0, 2, 3, 1)
    pictures = pictures.expand(-1, -1, -1, 3) if pictures.shape[3] == 1 else pictures
    made = [cut(np.ascontiguousarray(picture.numpy())).astype(np.int64) for picture in pictures]
    return torch.from_numpy(np.stack(made)).to(inputs.device)


def _check(values: Tensor, labels: Tensor) -> None:
    if values.ndim != 4 or labels.shape != (len(values), *values.shape[2:]):
        raise InputError(
            f"segments: values (n, c, h, w) and label maps (n, h, w) needed, got {tuple(values.shape)}, {tuple(labels.shape)}"
        )
