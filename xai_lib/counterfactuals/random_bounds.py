"""The protocol of document 004: at every bound a fresh random amount, until one changes the prediction (FIDELITY E4.2)."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xai_lib import compute, randomness
from xai_lib.checks import check_count
from xai_lib.counterfactuals.search import Scan, check_scales, classes_at
from xai_lib.errors import ConfigError
from xai_lib.types import Model, Spec

BLOCK = 64
"""Images whose draws are held at once."""


@dataclass(frozen=True)
class RandomBounds:
    """What `random_bounds` found, by image and repeat.

    bounds    (n, repeats) float64 the bound at the first draw that changed the prediction, the number that is reported; NaN
              where none below the maximum did; 0 where the class is another without any change
    drawn     (n, repeats) float64 that draw itself, signed
    flips_to  (n, repeats) int64 the class it gave, -1 where there is none
    rows      (n,) int64 rows sent through the model
    """

    bounds: Tensor
    drawn: Tensor
    flips_to: Tensor
    rows: Tensor


def random_bounds(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    perturbation: Spec = "rotation",
    maximum: float = 90.0,
    step: float = 0.01,
    repeats: int = 10,
    resolution: float | None = 0.5,
    seed: int = 0,
    max_batch: int | None = None,
) -> RandomBounds:
    """The bound d at which a fresh uniform draw from [-d, d] first changes the prediction, d = step, 2 step, ... < maximum.

    What `MinParamPerturbation` reports when its attack is torchvision's `RandomRotation(d)`: a random number, larger than the
    smallest change (see `overshoot`), and another at every call.

    Args:
        model, inputs, targets, perturbation, max_batch: as in `minimal_perturbation`.
        maximum: bounds stay below it.
        step: of the bounds.
        repeats: independent runs of the protocol per image.
        resolution: draws are rounded to multiples of it, and the prediction is looked up there, so that all repeats share the
            rows; must divide `maximum`. None: every draw goes through the model as it is, which takes far more rows.
        seed: of the draws, which belong to the image.

    Returns:
        Bounds, draws and classes, independent of which other images are asked about. The draws are the same for every
        `resolution`.

    Raises:
        ConfigError: amounts that are not positive, `resolution` no divisor of `maximum`, no repeat, a perturbation whose
            amounts are whole.
        InputError, ModelError: as `minimal_perturbation`.

    Source: FIDELITY E4.2, 6.8 (`as_published`). Differs from the document in the generator, and for the pictures it used,
    which it does not name.

    >>> from xai_lib import toys
    >>> model = toys.Formula(lambda x: (x - 0.5).abs().flatten(1).sum(1) - 0.2)
    >>> x, t = torch.tensor([[0.5]]), torch.tensor([1])
    >>> found = random_bounds(model, x, t, perturbation="brightness", maximum=0.5, step=0.001, resolution=0.001, repeats=200)
    >>> round(found.bounds.mean().item(), 3), round(0.2 + overshoot(0.2, 0.001), 3)
    (0.218, 0.218)
    """
    compute.check_request(model, inputs, targets)
    check_count("repeats", repeats)
    check_scales(maximum, step, step)
    cells = 0 if resolution is None else check_scales(maximum, resolution, resolution)[0]
    parts = []
    for block in torch.arange(len(inputs), device=inputs.device).split(BLOCK):
        scan = Scan(model, inputs[block], targets[block], perturbation, "both", resolution or step, max_batch)
        if len(scan.directions) == 1:
            raise ConfigError("random_bounds: draws have both signs; this perturbation has one direction only")
        run = _Run(scan, maximum, step, repeats, seed)
        if resolution is None:
            run.by_draws()
        else:
            run.by_cells(cells)
        parts.append((run.bounds, run.drawn, run.flips_to, scan.rows.cpu()))
    return RandomBounds(*(torch.cat(column).to(inputs.device) for column in zip(*parts, strict=True)))


class _Run:
    """The protocol for a few images."""

    def __init__(self, scan: Scan, maximum: float, step: float, repeats: int, seed: int) -> None:
        self.scan, self.step = scan, step
        self.count = math.ceil(round(maximum / step, 6)) - 1
        self.limits = (np.arange(1, self.count + 1) * step).round(10)
        self.draws = [self._drawn(image, repeats, seed) for image in scan.inputs]
        shape = (len(scan.inputs), repeats)
        self.bounds = torch.full(shape, torch.nan, dtype=torch.float64)
        self.drawn = torch.full(shape, torch.nan, dtype=torch.float64)
        self.flips_to = torch.full(shape, -1)
        everyone = torch.arange(len(scan.inputs), device=scan.inputs.device)
        before = scan.classes(everyone, torch.zeros_like(everyone), (1,))[:, 0]
        self.before = before.cpu()
        self.already = (before != scan.targets).cpu()
        self.bounds[self.already], self.drawn[self.already] = 0.0, 0.0
        self.flips_to[self.already] = self.before[self.already][:, None]

    def _drawn(self, image: Tensor, repeats: int, seed: int) -> np.ndarray:
        """(repeats, count) signed amounts, uniform below their limits."""
        generator = randomness.image_generator(seed, "random_bounds", image)
        unit = torch.rand((repeats, self.count), generator=generator, dtype=torch.float64).numpy()
        return np.asarray((2 * unit - 1) * self.limits)

    def note(self, image: int, repeat: int, draw: int, to: int) -> None:
        """The draw that was the first to change the prediction."""
        self.bounds[image, repeat] = self.limits[draw]
        self.drawn[image, repeat] = self.draws[image][repeat, draw]
        self.flips_to[image, repeat] = to

    def by_cells(self, cells: int) -> None:
        """Predictions at multiples of the resolution, from 0 outwards as far as the repeats need them."""
        scan, device = self.scan, self.scan.inputs.device
        curves = np.tile(self.before.numpy()[:, None], (1, 2 * cells + 1))
        targets = scan.targets.cpu().numpy()
        read = [np.rint(own / scan.precision).astype(int) + cells for own in self.draws]
        known, seen = 0, 0
        active = [i for i in range(len(curves)) if not self.already[i]]
        while active and known < cells:
            size = min(max(1, known // 4), cells - known)
            new = torch.arange(known + 1, known + size + 1)
            image = torch.tensor(active).repeat(size)
            made = scan.classes(image.to(device), new.repeat_interleave(len(active)).to(device), (1, -1)).cpu().numpy()
            for column, sign in enumerate((1, -1)):
                curves[image.numpy(), cells + sign * new.numpy().repeat(len(active))] = made[:, column]
            known += size
            reach = int(np.searchsorted(self.limits, (known + 0.5) * scan.precision)) if known < cells else self.count
            for i in list(active):
                self._look_up(i, curves[i][read[i][:, seen:reach]], int(targets[i]), seen)
                if bool(torch.isfinite(self.bounds[i]).all()):
                    active.remove(i)
            seen = reach

    def _look_up(self, image: int, classes: np.ndarray, target: int, seen: int) -> None:
        """First changed predictions among those of the next draws, (repeats, draws)."""
        changed = classes != target
        for repeat in np.flatnonzero(changed.any(axis=1) & np.isnan(self.bounds[image].numpy())):
            first = int(changed[repeat].argmax())
            self.note(image, int(repeat), seen + first, int(classes[repeat, first]))

    def by_draws(self) -> None:
        """Every draw through the model, a few of each repeat at a time."""
        scan, start, size = self.scan, 0, 8
        while start < self.count:
            left = torch.isnan(self.bounds).nonzero().tolist()
            if not left:
                return
            amounts = np.stack([self.draws[i][r, start : start + size] for i, r in left])
            image = torch.tensor([i for i, _ in left], device=scan.inputs.device).repeat_interleave(amounts.shape[1])
            scan.rows.index_add_(0, image, torch.ones_like(image))
            signed = torch.from_numpy(amounts).flatten().to(image.device)
            classes = classes_at(scan, scan.perturb, image, signed).reshape(amounts.shape).cpu().numpy()
            for (i, r), own in zip(left, classes, strict=True):
                changed = np.flatnonzero(own != int(scan.targets[i]))
                if len(changed):
                    self.note(i, r, start + int(changed[0]), int(own[changed[0]]))
            start += size


def overshoot(amount: Any, step: float, *, sides: int = 2) -> Any:
    """How far the bound of the first unlucky draw lies above the smallest change, on average.

    Where every |a| >= amount changes the prediction, P(no change up to d) = prod amount / d_j ~ exp(-(d - amount)^2 / (2 step
    amount)): a Rayleigh distribution, mean sqrt(pi / 2 step amount) (FIDELITY E4.2). Where only one direction does, half as
    many draws are unlucky: sqrt(pi step amount).

    Args:
        amount: smallest change, a number or tensor, much larger than `step`.
        step: of the bounds.
        sides: directions in which larger amounts change the prediction, 1 or 2.

    Returns:
        As `amount`, in its unit.

    Raises:
        ConfigError: other sides.

    >>> round(overshoot(2.4, 0.01), 2), round(overshoot(80.0, 0.01), 1)
    (0.19, 1.1)
    """
    if sides not in (1, 2):
        raise ConfigError(f"sides={sides!r}: expected 1 or 2")
    return (math.pi / sides * step * amount) ** 0.5
