"""Which pixels of a picture are removed, and what is left: the first half of RemOve And Retrain (FIDELITY 8.11).

The removal pattern itself can tell the class (FIDELITY E2.4): if maps of test pictures are made for their true label, a net may
read the label off the pattern. `degrade(..., show="pattern")` gives that pattern alone, to measure how much it tells.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from xai_lib import maps
from xai_lib.errors import ConfigError, InputError, unknown

TARGETS = ("label", "predicted", "held_out")
RANKINGS = ("signed", "abs", "squared")
UNITS = ("pixel", "channel")
TIES = ("random", "index")
SHOWN = ("picture", "pattern")


@dataclass(frozen=True)
class Protocol:
    """How maps become removed pixels.

    target    class that is explained: "label", the true one; "predicted"; "held_out", predicted by a net that was not trained
              on that picture
    ranking   "signed", "abs" or "squared" values; for units "pixel" they are summed over the channels
    unit      what is ranked and removed: "pixel", all channels together, or "channel", each channel value alone
    ties      "random", seeded, or "index", the earlier pixel first
    fill      written in place of what is removed: "mean", of the training pictures by channel; a number; or one per channel
    saved_as  None; or (mean, std): pictures are normalised, clipped to [0, 1] and rounded to 8 bits, as a normalised tensor
              written to a PNG file is. What is removed holds `fill` before the rounding
    """

    target: str = "predicted"
    ranking: str = "squared"
    unit: str = "channel"
    ties: str = "random"
    fill: str | float | tuple[float, ...] = "mean"
    saved_as: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        known = {"target": TARGETS, "ranking": RANKINGS, "unit": UNITS, "ties": TIES}
        for name, options in known.items():
            if getattr(self, name) not in options:
                raise unknown(f"{name} of a protocol", getattr(self, name), options)
        if isinstance(self.fill, str) and self.fill != "mean":
            raise ConfigError(f"fill={self.fill!r}: expected 'mean', a number or one number per channel")


HOOKER = Protocol()
"""As the official code of ROAR: class predicted, squared maps, channel values, mean of the data set."""
LORETH_GREY = Protocol("label", "abs", "channel", "index", 0.1307, (0.1307, 0.3081))
"""As coded for MNIST by document 002: true label, and the mean of the raw pixels written into normalised ones (E2.4, E2.5)."""
LORETH_COLOUR = Protocol("label", "abs", "channel", "index", (0.68322, 0.556736, 0.417154))
"""As coded for Food-101: ImageNet's mean (.485, .456, .406) written into pixels normalised by (.561, .440, .312; .252, .256,
.259), which is this colour in pixel space."""


def protocol(name: str, channels: int = 1, **changed: Any) -> Protocol:
    """A protocol by name: "hooker" or "loreth", with some of its fields changed.

    Args:
        name: "hooker", or "loreth" in the form for 1 channel (MNIST) or 3 (Food-101).
        channels: of the pictures.
        changed: fields of `Protocol`.

    Raises:
        ConfigError: unknown name or field.

    >>> protocol("hooker", target="label").target, protocol("loreth", 3).saved_as
    ('label', None)
    """
    presets = {"hooker": HOOKER, "loreth": LORETH_GREY if channels == 1 else LORETH_COLOUR}
    if name not in presets:
        raise unknown("protocol", name, presets)
    for field in changed:
        if field not in vars(HOOKER):
            raise unknown("field of a protocol", field, vars(HOOKER))
    return replace(presets[name], **changed)


def removal_order(attributions: Tensor, rules: Protocol = HOOKER, *, seed: int = 0) -> Tensor:
    """What goes first: positions by falling importance.

    Args:
        attributions: (n, c, h, w), signed.
        rules: its ranking, unit and ties are used.
        seed: of the order of equal values, together with the map itself (`maps.ranking`).

    Returns:
        (n, p) int64, each row a permutation of 0 .. p - 1; p = h w for pixels, c h w for channel values.

    Raises:
        InputError: no images, or a map with NaN.

    >>> pixel = torch.tensor([[[[1.0, -3.0, 2.0]]]])
    >>> [removal_order(pixel, Protocol(ranking=how)).tolist()[0] for how in RANKINGS]
    [[2, 0, 1], [1, 2, 0], [1, 2, 0]]
    """
    if attributions.ndim != 4:
        raise InputError(f"attributions: expected (n, c, h, w), got shape {tuple(attributions.shape)}")
    values = {"signed": attributions, "abs": attributions.abs(), "squared": attributions**2}[rules.ranking]
    values = values.sum(dim=1) if rules.unit == "pixel" else values.flatten(1)
    if rules.ties == "random":
        return maps.ranking(values, seed=seed)
    if bool(values.isnan().any()):
        raise InputError("attributions: a map holds NaN and cannot be ranked; see maps.flags, and leave it out")
    return values.flatten(1).argsort(dim=1, descending=True, stable=True)


def removed(order: Tensor, shape: Sequence[int], fraction: float, *, unit: str = "channel", keep: bool = False) -> Tensor:
    """Which values are gone.

    Args:
        order: (n, p) of `removal_order`, with the same `unit`.
        shape: (c, h, w) of a picture.
        fraction: of the p positions, in [0, 1]; exactly floor(fraction p) are the most important ones.
        keep: False, these are removed (ROAR); True, all others are (KAR).

    Returns:
        (n, c, h, w) bool, True where the value is removed; a removed pixel is removed in every channel.

    Raises:
        ConfigError: a fraction outside [0, 1].
        InputError: an order that does not fit the shape.

    >>> removed(torch.tensor([[2, 0, 1, 3]]), (1, 2, 2), 0.5).int().tolist()
    [[[[1, 0], [1, 0]]]]
    """
    channels, height, width = shape
    p = height * width * (1 if unit == "pixel" else channels)
    if not 0 <= fraction <= 1:
        raise ConfigError(f"fraction {fraction!r}: must lie in [0, 1], for instance 0.1 for a tenth of the pixels")
    if order.ndim != 2 or order.shape[1] != p:
        raise InputError(f"order: expected (n, {p}) positions for pictures {tuple(shape)} by {unit}, got {tuple(order.shape)}")
    most = order[:, : math.floor(fraction * p + 1e-9)].to(torch.int64)
    gone = torch.full((len(order), p), keep, dtype=torch.bool).scatter_(1, most, not keep)
    return gone.reshape(-1, p // (height * width), height, width).expand(-1, channels, -1, -1)


def degrade(
    inputs: Tensor,
    gone: Tensor,
    *,
    fill: Sequence[float],
    saved_as: tuple[float, float] | None = None,
    show: str = "picture",
) -> Tensor:
    """What is left of pictures.

    Args:
        inputs: (n, c, h, w) in [0, 1].
        gone: (n, c, h, w) bool, from `removed`.
        fill: a value per channel, in pixel space.
        saved_as: see `Protocol`.
        show: "picture"; or "pattern", 1 where a value is removed and 0 elsewhere, the picture itself hidden.

    Returns:
        (n, c, h, w), a new tensor.

    Raises:
        InputError, ConfigError: shapes that do not fit, unknown `show`.

    >>> picture, first = torch.tensor([[[[0.2, 0.8]]]]), torch.tensor([[[[True, False]]]])
    >>> degrade(picture, first, fill=[0.5]).tolist()
    [[[[0.5, 0.800000011920929]]]]
    """
    if show not in SHOWN:
        raise unknown("show", show, SHOWN)
    if gone.shape != inputs.shape or gone.dtype != torch.bool or len(fill) != inputs.shape[1]:
        raise InputError(
            f"degrade: inputs {tuple(inputs.shape)} need a bool mask of that shape and {inputs.shape[1]} fill values, "
            f"got {gone.dtype} {tuple(gone.shape)} and {len(fill)}"
        )
    if show == "pattern":
        return gone.to(inputs)
    values = torch.tensor(fill).to(inputs).reshape(1, -1, 1, 1)
    if saved_as is None:
        return torch.where(gone, values, inputs)
    mean, std = saved_as
    left = torch.where(gone, values, (inputs - mean) / std)
    return (left.clamp(0, 1) * 255 + 0.5).floor().clamp(max=255) / 255


def fill_of(wanted: str | float | Sequence[float], inputs: Tensor) -> tuple[float, ...]:
    """The fill value of each channel; "mean" is taken over these (training) pictures.

    Raises:
        ConfigError: as many numbers as channels are needed.
    """
    channels = inputs.shape[1]
    if isinstance(wanted, str):
        return tuple(inputs.double().mean(dim=(0, 2, 3)).tolist())
    values = (float(wanted),) * channels if isinstance(wanted, int | float) else tuple(map(float, wanted))
    if len(values) != channels:
        raise ConfigError(f"fill={wanted!r}: the pictures have {channels} channels")
    return values
