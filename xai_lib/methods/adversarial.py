"""Adversarial Gradient Integration: paths that climb towards other classes (FIDELITY 5.2, 5.3)."""

from typing import Any

import torch
from torch import Tensor

from xai_lib import compute
from xai_lib.errors import ConfigError, InputError, ModelError, unknown
from xai_lib.randomness import image_generator
from xai_lib.registry import METHODS, SCORES
from xai_lib.types import Model

VARIANTS = ("paper", "official_code")
CLASSES = ("probable", "random", "spaced")

POINT_VALUES = 24 * 1024 * 1024
"""Most values of path points held at once (96 MB in float32); paths are taken in groups that fit."""


@METHODS.register(
    label="Adversarial Gradient Integration", cite="pan2021", traits={"family": "path integral", "gradient": True}
)
def adversarial_gradient_integration(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    variant: str = "paper",
    n_classes: int = 20,
    classes: str = "probable",
    step: float = 0.05,
    max_iter: int = 20,
    seed: int = 0,
    score: Any = "prob",
    max_batch: int | None = None,
) -> Tensor:
    """A = sum_t sum_k -dp_c(x_k)/dx (x_{k+1} - x_k), along x_{k+1} = clip(x_k + step sgn dp_t(x_k)/dx) for false classes t.

    Each path starts at x_0 = x and ends where class t is predicted, or after `max_iter` steps.

    Args:
        model: inputs -> logits.
        inputs: (n, ...) in pixel space. Images are clipped to [0, 1], tables (n, d) are not.
        targets: (n,) int64, the explained class c; every other class is a false one.
        variant: "paper", or "official_code": each point is a single step away from the input, x_{k+1} = clip(x + step
            sgn dp_t(x_k)/dx), and A = sum -dp_c(x_k)/dx (x_{k+1} - x), so that the path never gets further and A grows with
            the number of iterations.
        n_classes: how many false classes, at least 1; all of them where the model has fewer.
        classes: which: "probable" (largest logits of x), "random" (drawn per image from `seed`), or "spaced" (every
            classes/n_classes-th class number, less c: the authors' script).
        step: eps, length of a step in input units (pixel space), above 0.
        max_iter: most steps per path, at least 1.
        seed: for random classes.
        score: p, the explained scalar, which is also the one climbed for t.
        max_batch: most rows (images x classes) per pass.

    Returns:
        Same shape as `inputs`. "paper" sums to sum_t (p_c(x) - p_c(end of path t)) up to the left Riemann error; zero where the
        paths stop at once.

    Raises:
        ConfigError: unknown variant or choice of classes, a bad count or step.
        ModelError: the model has a single class; else see `compute.check_request`.

    Differs from the paper: it draws the classes at random. Differs from the authors' quantitative scripts: they apply softmax
    twice. Differs from document 001: it used the authors' code (`variant="official_code"`) with 150 steps in all and without
    cutting maps at percentiles; it does not say how the steps were divided between classes and iterations.

    >>> from xai_lib import toys
    >>> x, t = torch.tensor([[0.6, 0.2]]), torch.zeros(1, dtype=torch.int64)
    >>> adversarial_gradient_integration(toys.linear([[1.0, -2.0], [-1.0, 2.0]]), x, t)
    tensor([[0.0490, 0.0979]])
    """
    return adversarial_paths(
        model, inputs, targets, variant=variant, n_classes=n_classes, classes=classes, step=step, max_iter=max_iter, seed=seed,
        score=score, max_batch=max_batch,
    )[0]  # fmt: skip


def adversarial_paths(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    variant: str = "paper",
    n_classes: int = 20,
    classes: str = "probable",
    step: float = 0.05,
    max_iter: int = 20,
    seed: int = 0,
    score: Any = "prob",
    max_batch: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The maps of `adversarial_gradient_integration` and how its paths went; arguments as there.

    Returns:
        maps (n, ...); reached (n,), the share of an image's paths that stopped because t was predicted, in [0, 1]; steps (n,)
        int64, taken on all paths of an image. A point is judged before the next step, so that the last one never is.
    """
    compute.check_request(model, inputs, targets)
    _check_request(variant, classes, {"n_classes": n_classes, "max_iter": max_iter}, step)
    inputs = inputs.detach()
    image, false = _false_classes(model, inputs, targets, n_classes, classes, seed, max_batch)
    maps = torch.zeros_like(inputs, memory_format=torch.contiguous_format)
    reached, steps = torch.zeros_like(targets), torch.zeros_like(targets)
    group = max(1, POINT_VALUES // inputs[0].numel())
    settings: dict[str, Any] = {"like": inputs, "max_batch": max_batch}
    for first in range(0, len(image), group):
        of, to = image[first : first + group], false[first : first + group]
        points = inputs[of]
        for _ in range(max_iter):
            there, climb = _rows(model, points, to, score=_climbed(score), **settings)
            going = there < 0.5
            reached.index_add_(0, of[~going], torch.ones_like(of[~going]))
            of, to, points, climb = of[going], to[going], points[going], climb[going]
            if len(of) == 0:
                break
            _, slope = _rows(model, points, targets[of], score=score, **settings)
            origin = points if variant == "paper" else inputs[of]
            points = origin + step * climb.sign()
            points = points.clamp(0, 1) if inputs.ndim == 4 else points
            maps.index_add_(0, of, -slope * (points - origin))
            steps.index_add_(0, of, torch.ones_like(of))
    return maps, reached / image.bincount(minlength=len(inputs)), steps


def _rows(
    model: Model, points: Tensor, targets: Tensor, *, like: Tensor, score: Any, max_batch: int | None
) -> tuple[Tensor, Tensor]:
    made = compute.scored_gradient_rows(
        model, lambda index: (points[index], targets[index]), len(points), like, score=score, max_batch=max_batch
    )
    parts = [both for _, both in made]
    return torch.cat([values for values, _ in parts]), torch.cat([gradients for _, gradients in parts])


def _climbed(score: Any) -> Any:
    """A score with the gradient of `score`, whose value says whether the target is predicted: one pass gives both."""
    function = SCORES.bind(score)

    def climbed(logits: Tensor, targets: Tensor) -> Tensor:
        own = function(logits, targets)
        return own - own.detach() + (logits.argmax(dim=1) == targets).to(own)

    return climbed


def _false_classes(
    model: Model, inputs: Tensor, targets: Tensor, n_classes: int, classes: str, seed: int, max_batch: int | None
) -> tuple[Tensor, Tensor]:
    """(image numbers, false classes) of all paths, image by image."""
    logits = compute.logits(model, inputs, max_batch=max_batch)
    count = logits.shape[1]
    if count < 2:
        raise ModelError(f"adversarial_gradient_integration needs a false class; the model has {count} class")
    if int(targets.max()) >= count:
        raise InputError(f"targets: class {int(targets.max())} asked, the model has {count} (0 to {count - 1})")
    if classes == "probable":
        order = logits.argsort(dim=1, descending=True, stable=True)
    elif classes == "random":
        generators = (image_generator(seed, "adversarial_gradient_integration", x) for x in inputs)
        order = torch.stack([torch.randperm(count, generator=g) for g in generators]).to(targets)
    else:
        order = torch.arange(0, count, max(1, count // n_classes)).to(targets)[:n_classes].expand(len(inputs), -1)
    usable = order != targets[:, None]
    image, place = (usable & (usable.cumsum(dim=1) <= n_classes)).nonzero(as_tuple=True)
    return image, order[image, place]


def _check_request(variant: str, classes: str, counts: dict[str, Any], step: float) -> None:
    if variant not in VARIANTS:
        raise unknown("variant of adversarial_gradient_integration", variant, VARIANTS)
    if classes not in CLASSES:
        raise unknown("choice of classes", classes, CLASSES)
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ConfigError(f"{name}={count!r}: expected an integer of at least 1")
    if classes == "spaced" and counts["n_classes"] == 1:
        raise ConfigError("classes='spaced' with n_classes=1 is class 0 alone, which may be the explained one; use at least 2")
    if not step > 0:
        raise ConfigError(f"step={step}: expected a number above 0, in input units")
