"""One set of perturbed images and re-explanations for the four robustness metrics (FIDELITY 8.1 to 8.3)."""

import inspect
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from xai_lib import compute, maps, randomness
from xai_lib.checks import check_count
from xai_lib.chunks import default_max_batch
from xai_lib.errors import ConfigError
from xai_lib.metrics.checks import check_attributions, check_choice, undefined_where
from xai_lib.registry import METHODS
from xai_lib.types import Method, Model

NORMALISATIONS = ("none", "max_abs", "min_max")


def robustness_profile(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    attributions: Tensor | None,
    method: Method,
    *,
    n_samples: int = 10,
    radius: float = 0.02,
    noise: str = "uniform",
    reduce: str = "sum",
    normalise: str = "none",
    lipschitz_normalise: str = "max_abs",
    eps_min: float = 1e-6,
    log: bool = False,
    same_prediction: bool = True,
    seed: int = 0,
    max_batch: int | None = None,
) -> dict[str, Tensor]:
    """All four robustness metrics from one set of perturbed images and re-explanations.

    With x_j = x + d_j, j = 1..N, maps e = A(x), e_j = A(x_j) and logits h, h_j:

        max_sensitivity            max_j  ||e_j - e|| / ||e||
        avg_sensitivity            mean_j ||e_j - e|| / ||e||
        local_lipschitz_estimate   max_j  ||e_j - e|| / ||x_j - x||
        relative_output_stability  max_j  ||(e_j - e) / e|| / max(||h_j - h||, eps_min)

    All norms are Euclidean. The perturbations belong to the image and are nested: the first 5 of 50 are the 5. They are not
    clipped to [0, 1]. A method that draws at random (baselines, noise) draws the same for x_j as for x.

    Args:
        model: inputs -> logits.
        inputs: (n, ...) in pixel space.
        targets: (n,) int64, kept for the perturbed images.
        attributions: A(x) by the same `method`, or None to compute it here.
        method: bound method, called with (model, inputs, targets).
        n_samples: N, at least 1.
        radius: d ~ U(-radius, radius), or its standard deviation for Gaussian noise; input units, above 0.
        noise: "uniform" or "gaussian".
        reduce: how channels become one map (`maps.reduce`), or "none" to compare all channel values.
        normalise: of every map by itself, before all but the Lipschitz estimate: "none", "max_abs" or "min_max".
        lipschitz_normalise: the same for the Lipschitz estimate, which is not free of scale.
        eps_min: takes the place of map values that are 0 in the division by e, and bounds the output change from below.
        log: natural logarithm of the relative output stability, as its authors report it.
        same_prediction: leave out samples whose predicted class differs, in the relative output stability only.
        seed: of the perturbations.
        max_batch: most rows per forward pass, and most perturbed images that are explained at once (this bounds memory); passed
            on to a method that takes it.

    Returns:
        {name: (n,)}, all at least 0 (but for `log`); lower is more robust. NaN where e is zero or holds NaN or infinity,
        where a re-explanation does, and for relative output stability where no sample keeps the prediction. A constant
        explainer gives 0 (log: -infinity).

    Raises:
        ConfigError: unknown word, or a count or radius out of range.
        InputError: shapes that do not fit.

    Differs from the document: 000 names Quantus without parameters. Differs from Quantus 0.6.0: one shared set of perturbations
    instead of U(-.2, .2), N(0, .1) and U(.02, .2) for the three kinds; maps normalised one by one, not by the largest of the
    batch; one changed prediction does not make the whole image undefined.

    >>> from xai_lib import toys
    >>> def twice(model, inputs, targets):
    ...     return 2 * inputs
    >>> x, t = torch.tensor([[0.2, 0.4]]), torch.zeros(1, dtype=torch.int64)
    >>> own = {"n_samples": 3, "lipschitz_normalise": "none"}
    >>> made = robustness_profile(toys.linear([[1.0, 1.0]]), x, t, None, twice, **own)
    >>> round(made["local_lipschitz_estimate"].item(), 4)
    2.0
    """
    compute.check_request(model, inputs, targets)
    _check(n_samples, radius, noise, normalise, lipschitz_normalise, eps_min)
    explain = bound_explainer(method, max_batch)
    given = explain(model, inputs, targets) if attributions is None else attributions
    check_attributions(given, inputs)
    before = _views(given, reduce, normalise, lipschitz_normalise)
    outputs = compute.logits(model, inputs, max_batch=max_batch)
    parts = []
    for image, moved, digests in _perturbed(inputs, n_samples, radius, noise, seed, max_batch):
        with randomness.drawn_as(moved, digests):
            again = explain(model, moved, targets[image])
        check_attributions(again, moved)
        after = _views(again, reduce, normalise, lipschitz_normalise)
        parts.append(_differences([view[image] for view in before], after, moved - inputs[image], eps_min))
        logits = compute.logits(model, moved, max_batch=max_batch)
        parts[-1]["output"] = _norm(logits.double() - outputs[image].double()).clamp_min(eps_min)
        parts[-1]["kept"] = (logits.argmax(dim=1) == outputs[image].argmax(dim=1)) | (not same_prediction)
    samples = {name: torch.cat([part[name] for part in parts]).reshape(-1, n_samples) for name in parts[0]}
    size = _norm(before[0])
    undefined = (size == 0) | ~torch.isfinite(size)
    return {name: undefined_where(v, undefined).to(inputs.dtype) for name, v in _summary(samples, size, log).items()}


def bound_explainer(method: Method, max_batch: int | None) -> Method:
    """The method, with the metric's `max_batch` passed on where it takes one and none was bound."""
    bound = METHODS.bind(method)
    taken = bound.keywords if isinstance(bound, partial) else {}
    if max_batch is None or "max_batch" in taken or "max_batch" not in inspect.signature(bound).parameters:
        return bound
    return partial(bound, max_batch=max_batch)


def perturbations(inputs: Tensor, *, n_samples: int, radius: float, noise: str = "uniform", seed: int = 0) -> Tensor:
    """The perturbations that `robustness_profile` adds, all at once.

    Arguments as there.

    Returns:
        (n_samples, n, ...); number j of an image is the same whatever `n_samples`.
    """
    digests = [randomness.digest(image) for image in inputs]
    rows = [[_perturbation(inputs, digest, j, radius, noise, seed) for digest in digests] for j in range(n_samples)]
    return torch.stack([torch.stack(row) for row in rows]).to(inputs)


def _perturbation(inputs: Tensor, digest: str, number: int, radius: float, noise: str, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(randomness.key(seed, "robustness", number, digest))
    if noise == "gaussian":
        return radius * torch.randn(inputs.shape[1:], generator=generator)
    return radius * (2 * torch.rand(inputs.shape[1:], generator=generator) - 1)


def _perturbed(
    inputs: Tensor, n_samples: int, radius: float, noise: str, seed: int, max_batch: int | None
) -> Iterator[tuple[Tensor, Tensor, list[str]]]:
    """Chunks of perturbed images: image numbers (k,), images (k, ...), digests of their originals."""
    digests = [randomness.digest(image) for image in inputs]
    for index in torch.arange(len(inputs) * n_samples, device=inputs.device).split(max_batch or default_max_batch(inputs)):
        image = index // n_samples
        names = [digests[i] for i in image.tolist()]
        numbers = (index % n_samples).tolist()
        shifts = [_perturbation(inputs, name, j, radius, noise, seed) for name, j in zip(names, numbers, strict=True)]
        yield image, inputs[image] + torch.stack(shifts).to(inputs), names


def _views(attributions: Tensor, reduce: str, *normalisations: str) -> list[Tensor]:
    """The maps (n, p) under each normalisation, float64."""
    reduced = attributions if reduce == "none" else maps.reduce(attributions, reduce)
    flat = reduced.flatten(1).double()
    return [flat if how == "none" else maps.normalise(flat, how) for how in normalisations]


def _differences(before: list[Tensor], after: list[Tensor], shift: Tensor, eps_min: float) -> dict[str, Tensor]:
    change = after[0] - before[0]
    return {
        "change": _norm(change),
        "scaled_change": _norm(after[1] - before[1]),
        "ratio": _norm(change / torch.where(before[0] == 0, eps_min, before[0])),
        "distance": _norm(shift.flatten(1).double()),
    }


def _summary(samples: dict[str, Tensor], size: Tensor, log: bool) -> dict[str, Tensor]:
    relative = samples["change"] / size[:, None]
    stability = samples["ratio"] / samples["output"]
    largest = stability.masked_fill(~samples["kept"], float("-inf")).amax(dim=1)
    largest = undefined_where(largest, ~samples["kept"].any(dim=1))
    return {
        "max_sensitivity": relative.amax(dim=1),
        "avg_sensitivity": relative.mean(dim=1),
        "local_lipschitz_estimate": (samples["scaled_change"] / samples["distance"]).amax(dim=1),
        "relative_output_stability": largest.log() if log else largest,
    }


def _norm(rows: Tensor) -> Tensor:
    return torch.linalg.vector_norm(rows, dim=1)


def _check(n_samples: int, radius: float, noise: str, normalise: str, lipschitz_normalise: str, eps_min: float) -> None:
    check_count("n_samples", n_samples)
    check_choice("noise", noise, ("uniform", "gaussian"))
    check_choice("normalise", normalise, NORMALISATIONS)
    check_choice("normalise of the Lipschitz estimate", lipschitz_normalise, NORMALISATIONS)
    if not (0 < radius < float("inf") and 0 < eps_min < float("inf")):
        raise ConfigError(f"radius={radius!r}, eps_min={eps_min!r}: expected finite numbers above 0")
