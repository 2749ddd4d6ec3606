"""Network dissection: on which concept the strongest activations of each unit of a layer lie (Bau et al. 2017).

found = dissect(activations(model, inputs, "act4"), concepts, tail=0.005)
found.iou            # (units, concepts)
found.detectors(0.04)
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xai_lib import compute
from xai_lib.chunks import in_chunks
from xai_lib.errors import ConfigError, InputError, ModelError
from xai_lib.hooks import probe
from xai_lib.randomness import key

CHUNK = 32
"""Pictures whose unit masks are held at once."""


@dataclass(frozen=True)
class Dissection:
    """What a dissection found.

    thresholds  (k,) T of each unit
    iou         (k, c) intersection over union of each unit's mask with each concept, over all pixels of all pictures, in [0, 1]
    fired       (k,) share of all pixels that lie in a unit's mask
    coverage    (c,) share of all pixels that lie in a concept
    """

    thresholds: Tensor
    iou: Tensor
    fired: Tensor
    coverage: Tensor

    @property
    def best(self) -> tuple[Tensor, Tensor]:
        """The largest IoU of each unit, (k,), and the number of its concept, (k,), the first of equals."""
        return self.iou.amax(dim=1), self.iou.argmax(dim=1)

    def detectors(self, threshold: float = 0.04) -> Tensor:
        """Whether the largest IoU of a unit is above the threshold, (k,) bool."""
        return self.best[0] > threshold


def activations(model: nn.Module, inputs: Tensor, layer: str, *, max_batch: int | None = None) -> Tensor:
    """The output of a layer for all inputs, (n, k, h, w), without a graph.

    Args:
        model: a module in eval mode.
        inputs: (n, c, H, W) in pixel space.
        layer: name of a layer that returns maps, as in `model.named_modules()`.
        max_batch: most rows per pass.

    Raises:
        ModelError: no such layer, or one without maps.
        InputError: as `compute.check_request`.

    >>> from xai_lib import toys
    >>> activations(toys.GapNet(), torch.ones(1, 1, 1, 1), "conv").flatten().tolist()
    [1.0, -1.0]
    """
    compute.check_request(model, inputs, torch.zeros(len(inputs), dtype=torch.int64, device=inputs.device))

    def work(index: Tensor) -> Tensor:
        with torch.no_grad(), probe(model, layer) as seen:
            model(compute.channels_last_copy(inputs[index].detach()))
        maps = seen[layer]
        if maps.ndim != 4 or len(maps) != len(index):
            raise ModelError(
                f"layer {layer!r} returns {tuple(maps.shape)}, expected maps ({len(index)}, k, h, w); take another"
            )
        return maps.contiguous()

    return torch.cat([made for _, made in in_chunks(work, len(inputs), inputs, max_batch)])


def thresholds(maps: Tensor, tail: float = 0.005) -> Tensor:
    """T_k: the smallest activation of unit k that at most a share `tail` of its values, over pictures and positions, exceeds.

    Args:
        maps: (n, k, h, w).
        tail: in (0, 1); the paper takes 0.005.

    Returns:
        (k,).

    Raises:
        ConfigError: `tail` out of range, or so small that no value could exceed T.

    >>> thresholds(torch.arange(8.0).reshape(2, 1, 2, 2), tail=0.25).item()
    5.0
    """
    if not 0 < tail < 1:
        raise ConfigError(f"tail={tail!r}: expected a share in (0, 1), such as 0.005")
    values = maps.transpose(0, 1).flatten(1)
    above = math.floor(tail * values.shape[1] + 1e-9)
    if above < 1:
        raise ConfigError(
            f"tail={tail!r} of {values.shape[1]} values is less than one value; take more pictures or a larger tail"
        )
    return values.topk(above + 1, dim=1).values[:, -1]


def dissect(maps: Tensor, concepts: Tensor, *, tail: float = 0.005) -> Dissection:
    """IoU_kc = |M_k and L_c| / |M_k or L_c|, M_k = [upsampled A_k > T_k], counted over all pixels of all pictures.

    A unit whose mask covers the share m of all pixels cannot have a larger IoU with a concept of coverage p than
    min(m, p) / max(m, p) (`largest_iou`): with few pixels above T no unit can detect a large concept.

    Args:
        maps: (n, k, h, w) activations A.
        concepts: (n, c, H, W) bool, the pixels of each concept L in each picture.
        tail: share of the activations above T, see `thresholds`.

    Returns:
        Dissection. A unit that never exceeds its threshold (a dead one) has IoU 0 with everything, as has a concept without
        pixels.

    Raises:
        InputError: shapes or types that do not fit, or activations that hold NaN or infinity.
        ConfigError: see `thresholds`.

    Differs from the paper: M takes values above T, not at T, since a unit after a rectifier can have T = 0; upsampling is
    bilinear on the grid of the layer, without the offset of receptive fields, which is 0 where convolutions pad evenly.

    >>> square = torch.zeros(1, 1, 4, 4)
    >>> square[0, 0, :2, :2] = 1.0
    >>> dissect(square, square > 0, tail=0.25).iou.item(), dissect(square, square == 0, tail=0.25).iou.item()
    (1.0, 0.0)
    """
    _check(maps, concepts)
    limits = thresholds(maps, tail)
    both = torch.zeros(maps.shape[1], concepts.shape[1], dtype=torch.float64)
    units, labels = torch.zeros(maps.shape[1], dtype=torch.float64), torch.zeros(concepts.shape[1], dtype=torch.float64)
    for some in torch.arange(len(maps)).split(CHUNK):
        masks = unit_masks(maps[some], limits, (concepts.shape[2], concepts.shape[3])).transpose(0, 1).flatten(1).float()
        known = concepts[some].transpose(0, 1).flatten(1).float()
        both += (masks @ known.T).double().cpu()
        units += masks.sum(dim=1).double().cpu()
        labels += known.sum(dim=1).double().cpu()
    union = units[:, None] + labels[None, :] - both
    pixels = len(maps) * concepts.shape[2] * concepts.shape[3]
    return Dissection(limits, both / union.clamp_min(1), units / pixels, labels / pixels)


def unit_masks(maps: Tensor, limits: Tensor, size: tuple[int, int]) -> Tensor:
    """M: where the upsampled activations exceed the threshold of their unit, (n, k, *size) bool.

    Args:
        maps: (n, k, h, w).
        limits: (k,), from `thresholds`.
        size: of the pictures.
    """
    large = nn.functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)
    return large > limits[:, None, None]


def of_others(concepts: Tensor, *, seed: int = 0) -> Tensor:
    """The control: each picture gets the concepts of another one; one cycle through all pictures, drawn from `seed`.

    What is left of an IoU is due to place, size and number of concepts, not to the picture.

    Args:
        concepts: (n, c, H, W), n at least 2.

    Raises:
        InputError: a single picture.

    >>> of_others(torch.eye(3)[:, :, None, None]).argmax(dim=1).flatten().tolist() in ([1, 2, 0], [2, 0, 1])
    True
    """
    if len(concepts) < 2:
        raise InputError(f"concepts: {len(concepts)} picture has no other to take concepts from; expected at least 2")
    order = torch.randperm(len(concepts), generator=torch.Generator().manual_seed(key(seed, "dissection of others")))
    source = torch.empty_like(order)
    source[order] = order.roll(1)
    return concepts[source.to(concepts.device)]


def largest_iou(fired: Tensor, coverage: Tensor) -> Tensor:
    """min(m, p) / max(m, p): the IoU of two sets of these shares when one contains the other, the largest there is.

    Args:
        fired: (k,) shares m.
        coverage: (c,) shares p.

    Returns:
        (k, c); 0 where both are 0.

    >>> largest_iou(torch.tensor([0.25]), torch.tensor([0.5, 0.125])).tolist()
    [[0.5, 0.5]]
    """
    low, high = torch.minimum(fired[:, None], coverage), torch.maximum(fired[:, None], coverage)
    return torch.where(high > 0, low / torch.where(high > 0, high, 1.0), 0.0)


def _check(maps: Tensor, concepts: Tensor) -> None:
    if maps.ndim != 4 or not maps.is_floating_point():
        raise InputError(f"maps: expected float activations (n, k, h, w), got {maps.dtype} {tuple(maps.shape)}")
    if concepts.dtype != torch.bool or concepts.ndim != 4 or len(concepts) != len(maps) or not len(maps):
        got = f"{concepts.dtype} {tuple(concepts.shape)}"
        raise InputError(f"concepts: expected bool ({len(maps)}, c, H, W) for {len(maps)} pictures, got {got}")
    if not bool(torch.isfinite(maps).all()):
        raise InputError("maps: the activations hold NaN or infinity; look at the model and its inputs first")
