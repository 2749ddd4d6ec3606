"""The smallest amount of a perturbation at which the prediction changes: a coarse scan, then a fine one where it changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xai_lib import compute
from xai_lib.counterfactuals.perturbations import PERTURBATIONS
from xai_lib.errors import ConfigError, ModelError
from xai_lib.metrics.checks import check_choice
from xai_lib.types import Model, Spec

ALREADY = "predicted as another class without any change"
SIGNS: Mapping[str, tuple[int, ...]] = {"both": (1, -1), "positive": (1,), "negative": (-1,)}


@dataclass(frozen=True)
class Counterfactuals:
    """What `minimal_perturbation` found, by image.

    amounts   (n,) float64 size of the smallest change found, in the perturbation's unit; NaN: none up to the maximum
    signs     (n,) int64 its direction: 1 or -1; 0 where there is none
    flips_to  (n,) int64 the class that is then predicted; -1 where there is none
    rows      (n,) int64 rows sent through the model
    flags     why an amount is NaN or 0; "" for all others
    """

    amounts: Tensor
    signs: Tensor
    flips_to: Tensor
    rows: Tensor
    flags: tuple[str, ...]


def minimal_perturbation(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    perturbation: Spec = "rotation",
    maximum: float = 90.0,
    step: float = 0.2,
    precision: float = 0.1,
    directions: str = "both",
    max_batch: int | None = None,
) -> Counterfactuals:
    """Smallest change of each image after which another class than `targets` is predicted.

    min { |a| : argmax f(T(x, a)) != t }, searched on multiples of `precision`. A coarse scan takes a = step, 2 step, ... up to
    `maximum`, in both directions, until the prediction changes, at g step say; a fine scan then takes every multiple of
    `precision` between (g - 1) step and g step, in both directions. Images that are done leave the batch.

    A change that succeeds need not succeed when it is larger, so halving an interval may miss the first change; this scan
    guarantees:

    - at the amount returned, in the direction returned, the prediction is not t;
    - at no coarse amount below it, and at no multiple of `precision` below it in its own coarse interval, is it another class,
      in either direction.

    A change between two earlier coarse amounts that is undone before the next is not seen. With `step` equal to
    `precision` none that shows at a multiple of `precision` is missed. Such changes are common;
    `benchmarks/bench_rotation.py` counts them.

    Args:
        model: inputs -> logits.
        inputs: (n, c, h, w), or (n, ...) for perturbations that allow it.
        targets: (n,) int64, the class whose loss is sought.
        perturbation: registered in `PERTURBATIONS`, a {name: {parameters}} mapping, or `function(images, amounts)`.
        maximum: largest amount tried, a multiple of `step`.
        step: of the coarse scan, a multiple of `precision`.
        precision: of the result, in the perturbation's unit.
        directions: "both", "positive" or "negative"; a perturbation with one direction ignores "both". Where both change
            the prediction at the same amount, the positive one is reported.
        max_batch: most rows per pass.

    Returns:
        Amounts, directions, new classes and rows used, all independent of which other images are asked about.

    Raises:
        ConfigError: unknown perturbation, parameter or direction; amounts that are not positive or no multiples of each other.
        InputError: what `compute.check_request` refuses.
        ModelError: a logit is NaN.

    Source: FIDELITY 6.8. Differs from the document, which reports the bound of the first unlucky draw (`random_bounds`).
    Differs from captum's MinParamPerturbation, whose linear mode is one-sided, tries one image and one amount at a time, and
    whose binary mode takes success for monotone.

    >>> from xai_lib import toys
    >>> model = toys.Formula(lambda x: torch.stack([0 * x.flatten(), x.flatten() - 0.5], dim=1))
    >>> x, t = torch.tensor([[0.8], [0.6]]), torch.tensor([1, 1])
    >>> found = minimal_perturbation(model, x, t, perturbation="brightness", maximum=1.0, step=0.1, precision=0.01)
    >>> found.amounts.tolist(), found.signs.tolist(), found.flips_to.tolist()
    ([0.3, 0.1], [-1, -1], [0, 0])
    """
    compute.check_request(model, inputs, targets)
    coarse, fine = check_scales(maximum, step, precision)
    scan = Scan(model, inputs, targets, perturbation, directions, precision, max_batch)
    everyone = torch.arange(len(inputs), device=inputs.device)
    before = scan.classes(everyone, torch.zeros(len(inputs), device=inputs.device, dtype=torch.int64), (1,))[:, 0]
    scan.found(everyone[before != targets], 0, 0, before[before != targets])
    left = everyone[before == targets]
    at = scan.first_change(left, torch.zeros_like(left), fine, coarse)
    hit, start = left[at > 0], (at[at > 0] - 1) * fine
    if fine > 1:
        scan.first_change(hit, start, 1, fine - 1)
    flags = [""] * len(inputs)
    for i in everyone.tolist():
        if int(scan.flips_to[i]) < 0:
            flags[i] = f"none up to {maximum:g}"
        elif int(scan.units[i]) == 0:
            flags[i] = ALREADY
    amounts = scan.amounts(scan.units).where(scan.flips_to >= 0, torch.nan)
    return Counterfactuals(amounts, scan.signs, scan.flips_to, scan.rows, tuple(flags))


class Scan:
    """The state of a search over images: what was found, and how many rows it took. Amounts count in units of `precision`."""

    def __init__(
        self, model: Model, inputs: Tensor, targets: Tensor, perturbation: Spec, directions: str, precision: float,
        max_batch: int | None,
    ) -> None:  # fmt: skip
        self.model, self.inputs, self.targets, self.precision, self.max_batch = model, inputs, targets, precision, max_batch
        self.perturb = PERTURBATIONS.bind(perturbation)
        self.directions = signs_of(perturbation, directions)
        self.units = torch.zeros_like(targets)
        self.signs = torch.zeros_like(targets)
        self.flips_to = torch.full_like(targets, -1)
        self.rows = torch.zeros_like(targets)

    def amounts(self, units: Tensor) -> Tensor:
        """Multiples of the precision as the decimal numbers they are: 3 x 0.1 is 0.3."""
        return (units.double() * self.precision).round(decimals=10)

    def classes(self, image: Tensor, units: Tensor, signs: Sequence[int]) -> Tensor:
        """(m, signs) classes predicted for these images at these amounts, in each direction."""
        signed = self.amounts(units) * torch.tensor(signs, device=units.device, dtype=torch.float64)[:, None]
        self.rows.index_add_(0, image, torch.full_like(image, len(signs)))
        every = image.repeat(len(signs))
        return classes_at(self, self.perturb, every, signed.flatten()).reshape(len(signs), len(image)).T

    def found(self, image: Tensor, units: Tensor | int, signs: Tensor | int, classes: Tensor) -> None:
        """Note where images change."""
        for kept, value in ((self.units, units), (self.signs, signs), (self.flips_to, classes)):
            kept[image] = torch.as_tensor(value, device=image.device)

    def first_change(self, image: Tensor, start: Tensor, stride: int, length: int) -> Tensor:
        """Scan start + stride, start + 2 stride, ..., up to `length` strides, each image until its prediction changes.

        Several amounts are tried in one pass once many have failed, a quarter of those: how many depends on the image alone.

        Returns:
            (m,) the number of strides at which each image changed, 0 where it did not.
        """
        at = torch.zeros_like(image)
        done = 0
        while done < length and bool((at == 0).any()):
            size = min(max(1, done // 4), length - done)
            active = (at == 0).nonzero().flatten()
            strides = torch.arange(done + 1, done + size + 1, device=image.device)
            units = start[active] + stride * strides[:, None]
            made = self.classes(image[active].repeat(size), units.flatten(), self.directions)
            made = made.reshape(size, len(active), len(self.directions))
            changed = made != self.targets[image[active]][:, None]
            flipped = changed.any(dim=2).any(dim=0)
            amount = changed.any(dim=2).int().argmax(dim=0)  # the first of several maxima
            pick = torch.arange(len(active), device=image.device)
            direction = changed[amount, pick].int().argmax(dim=1)
            signs = torch.tensor(self.directions, device=image.device)[direction]
            to = made[amount, pick, direction]
            at[active[flipped]] = strides[amount[flipped]]
            self.found(image[active[flipped]], units[amount, pick][flipped], signs[flipped], to[flipped])
            done += size
        return at


def classes_at(scan: Any, perturb: Any, image: Tensor, signed: Tensor) -> Tensor:
    """Predicted classes of images at signed amounts, one row each."""

    def rows(index: Tensor) -> tuple[Tensor, Tensor]:
        own = image[index]
        return perturb(scan.inputs[own], signed[index]), scan.targets[own]

    if not len(image):
        return image.clone()
    made = compute.score_rows(scan.model, rows, len(image), scan.inputs, score=_prediction, max_batch=scan.max_batch)
    return torch.cat([classes for _, classes in made])


def _prediction(logits: Tensor, targets: Tensor) -> Tensor:
    if bool(logits.isnan().any()):
        raise ModelError("a logit of a changed image is NaN, so nothing is predicted; look for overflow inside the model")
    return logits.argmax(dim=1)


def check_scales(maximum: float, step: float, precision: float) -> tuple[int, int]:
    """How many steps make the maximum, and how many precisions a step.

    Raises:
        ConfigError: not positive and finite, or no multiples.
    """
    named = {"maximum": maximum, "step": step, "precision": precision}
    for name, value in named.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise ConfigError(f"{name}={value!r}: expected a positive number")
    counts = [maximum / step, step / precision]
    for count, (large, small) in zip(counts, (("maximum", "step"), ("step", "precision")), strict=True):
        if round(count) < 1 or abs(count - round(count)) > 1e-6:
            raise ConfigError(f"{large}={named[large]:g} is no multiple of {small}={named[small]:g}; change one of them")
    return round(counts[0]), round(counts[1])


def signs_of(perturbation: Spec, directions: str) -> tuple[int, ...]:
    """The directions that are tried; a registered perturbation may have only the positive one."""
    check_choice("directions", directions, tuple(SIGNS))
    if callable(perturbation):
        return SIGNS[directions]
    entry = PERTURBATIONS[PERTURBATIONS.split(perturbation)[0]]
    if len(entry.traits["directions"]) == 2:
        return SIGNS[directions]
    if directions == "negative":
        raise ConfigError(f"directions='negative': {entry.name} has one direction only; use 'positive'")
    return SIGNS["positive"]
