"""Completeness and soundness of a map as a certificate for its label, after Gupta et al. (FIDELITY 8.10)

A map is a certificate for label a if what it marks makes the model say a. Complete: whatever the model believes has a map that
shows it. Sound: what it does not believe has none. Neither is the completeness axiom, for which see `completeness_gap`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from xai_lib import compute, maps
from xai_lib.checks import check_count
from xai_lib.errors import ConfigError
from xai_lib.metrics.checks import check_attributions, check_choice, undefined_where, without_order
from xai_lib.metrics.insertion_curves import Substrate, composed, grid, substrate
from xai_lib.metrics.profile import bound_explainer
from xai_lib.registry import METRICS
from xai_lib.types import Method, Model

OVER = ("all", "target", "others")


@dataclass(frozen=True)
class Certificates:
    """What the model believes of some labels of each image, and what it believes when it sees only what their maps mark.

    labels         (n, k) int64; the target first, then the others by falling logit
    probabilities  (n, k) float64, p_a: softmax probability of each label on the whole image
    certificates   (n, k) float64, r_a: its mean along the insertion curve of the label's own map; NaN where that ranks nothing
    """

    labels: Tensor
    probabilities: Tensor
    certificates: Tensor


def certificates(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    method: Method,
    *,
    labels: int = 10,
    restrict: bool = True,
    fill: Substrate = "mean",
    step: int | None = None,
    points: int | None = None,
    reduce: str = "sum",
    seed: int = 0,
    max_batch: int | None = None,
) -> Certificates:
    """p_a and r_a of the labels of each image; both metrics follow from one call (`completeness_of`, `soundness_of`).

    r_a = mean_k p_a(x with all but the c_k first pixels of the map for a replaced), k = 1..K; the empty image is left out.

    Args:
        model: inputs -> logits.
        inputs: (n, c, h, w) in pixel space, or (n, d).
        targets: (n,) int64, the label that comes first.
        method: bound method, asked for the map of each label.
        labels: how many labels: the target and the most probable others; all where the model has fewer.
        restrict: the softmax is among these labels only, as if the model knew no others.
        fill: what replaced pixels become (`insertion_curves.substrate`); "mean" is 0 after the model's normalisation.
        step: pixels per step of the curve, as in `perturbation_curves`; None: P / 28 rounded up, 1792 of 224 x 224.
        points: in place of `step`, the points of the curve with both ends, of which the first is left out.
        reduce: how channels become one value per pixel (`maps.reduce`).
        seed: of ties and of a random `fill`.
        max_batch: most rows per forward pass; passed on to a method that takes it.

    Returns:
        Certificates. An image's numbers do not depend on the others.

    Raises:
        ConfigError: a number or word out of range.
        InputError: arrays that do not fit, or a target that the model does not have.
    """
    compute.check_request(model, inputs, targets)
    check_count("labels", labels)
    if points is not None and (isinstance(points, bool) or not isinstance(points, int)):
        raise ConfigError(f"points={points!r}: expected an integer")
    pixels = inputs[0].numel() if inputs.ndim == 2 else inputs[0, 0].numel()
    counts = grid(pixels, step, points, 0.0, 0)[1:].to(inputs.device)
    explain = bound_explainer(method, max_batch)
    filled = substrate(fill, model, inputs, seed=seed)
    logits = compute.scores(model, inputs, targets, score=lambda out, _: out, max_batch=max_batch)
    first = logits.scatter(1, targets[:, None], float("inf"))
    chosen = first.argsort(dim=1, descending=True, stable=True)[:, :labels]
    believed = (logits.gather(1, chosen) if restrict else logits).double().softmax(dim=1)
    believed = believed if restrict else believed.gather(1, chosen)
    found = []
    for rank in range(chosen.shape[1]):
        made = explain(model, inputs, chosen[:, rank])
        check_attributions(made, inputs)
        found.append(_curve_mean(model, inputs, filled, maps.reduce(made, reduce).flatten(1), chosen, rank, counts,
                                 restrict=restrict, seed=seed, max_batch=max_batch))  # fmt: skip
    return Certificates(chosen, believed, torch.stack(found, dim=1))


def completeness_of(certificate: Tensor, probability: Tensor, *, epsilon: float = 0.1, alpha: float = 1.0) -> Tensor:
    """min(1, max(epsilon, r) / min(alpha, p)): 1 where the certificate is worth as much as the model's belief.

    Args:
        certificate: r in [0, 1], any shape.
        probability: p in [0, 1], same shape.
        epsilon: r counts as at least this, so that labels of p below it cannot fail; in [0, 1].
        alpha: p counts as at most this; in (0, 1].

    Returns:
        Same shape, in [0, 1]; NaN where r or p is.

    >>> completeness_of(torch.tensor([0.6, 0.9, 0.5]), torch.tensor([0.8, 0.8, 0.05]))
    tensor([0.7500, 1.0000, 1.0000])
    """
    if not 0 <= epsilon <= 1 or not 0 < alpha <= 1:
        raise ConfigError(f"epsilon={epsilon!r}, alpha={alpha!r}: expected 0 <= epsilon <= 1 and 0 < alpha <= 1")
    return _ratio(certificate.clamp_min(epsilon), probability.clamp_max(alpha))


def soundness_of(certificate: Tensor, probability: Tensor, *, beta: float = 0.1) -> Tensor:
    """min(1, max(beta, p) / r): 1 where the certificate is worth no more than the model's belief.

    Args:
        certificate: r in [0, 1], any shape.
        probability: p in [0, 1], same shape.
        beta: p counts as at least this; in [0, 1].

    Returns:
        Same shape, in [0, 1]; NaN where r or p is.

    >>> soundness_of(torch.tensor([0.6, 0.9, 0.5]), torch.tensor([0.8, 0.8, 0.05]))
    tensor([1.0000, 0.8889, 0.2000])
    """
    if not 0 <= beta <= 1:
        raise ConfigError(f"beta={beta!r}: expected 0 to 1")
    return _ratio(probability.clamp_min(beta), certificate)


@METRICS.register(label="Certificate completeness", cite="gupta2022", traits={"family": "faithfulness"})
def certificate_completeness(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    method: Method,
    *,
    labels: int = 10,
    over: str = "all",
    epsilon: float = 0.1,
    alpha: float = 1.0,
    restrict: bool = True,
    fill: Substrate = "mean",
    step: int | None = None,
    points: int | None = None,
    reduce: str = "sum",
    seed: int = 0,
    max_batch: int | None = None,
) -> Tensor:
    """Least completeness over labels, min_a min(1, max(epsilon, r_a) / min(alpha, p_a)), of the method's maps for them.

    It judges the method as a certifier: each label has its own map. Not the completeness axiom (`completeness_gap`).

    Args:
        over: "all" labels, the "target" alone, or the "others".
        epsilon, alpha: as in `completeness_of`.
        Others as in `certificates`.

    Returns:
        (n,) in [0, 1], higher is better. NaN where the map of one of these labels is zero, constant, or holds NaN or infinity,
        and over "others" where there is no other.

    Raises:
        ConfigError, InputError: as in `certificates`.

    Differs from document 002, whose words say neither this nor the axiom. Differs from the code of Gupta et al.: ten labels per
    image instead of ten for all images; ties in random order; a step that follows the number of pixels.
    """
    _check(over)
    completeness_of(torch.ones(1), torch.ones(1), epsilon=epsilon, alpha=alpha)
    made = certificates(
        model, inputs, targets, method, labels=labels, restrict=restrict, fill=fill, step=step, points=points, reduce=reduce,
        seed=seed, max_batch=max_batch,
    )  # fmt: skip
    values = completeness_of(made.certificates, made.probabilities, epsilon=epsilon, alpha=alpha)
    return _worst(values, over).to(inputs.dtype)


@METRICS.register(label="Certificate soundness", cite="gupta2022", traits={"family": "faithfulness"})
def certificate_soundness(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    method: Method,
    *,
    labels: int = 10,
    over: str = "all",
    beta: float = 0.1,
    restrict: bool = True,
    fill: Substrate = "mean",
    step: int | None = None,
    points: int | None = None,
    reduce: str = "sum",
    seed: int = 0,
    max_batch: int | None = None,
) -> Tensor:
    """Least soundness over labels, min_a min(1, max(beta, p_a) / r_a), of the method's maps for them.

    It is low where the map of a label that the model does not believe in makes the model say it. Arguments, range, NaN rule,
    errors and differences as in `certificate_completeness`.
    """
    _check(over)
    soundness_of(torch.ones(1), torch.ones(1), beta=beta)
    made = certificates(
        model, inputs, targets, method, labels=labels, restrict=restrict, fill=fill, step=step, points=points, reduce=reduce,
        seed=seed, max_batch=max_batch,
    )  # fmt: skip
    return _worst(soundness_of(made.certificates, made.probabilities, beta=beta), over).to(inputs.dtype)


def _curve_mean(
    model: Model, inputs: Tensor, filled: Tensor, values: Tensor, chosen: Tensor, rank: int, counts: Tensor, *, restrict: bool,
    seed: int, max_batch: int | None,
) -> Tensor:  # fmt: skip
    """Mean probability (n,) of the label `chosen[:, rank]` over the points of its insertion curve."""
    undefined = without_order(values)
    place = maps.ranking(values.masked_fill(undefined[:, None], 0.0), seed=seed).argsort(dim=1)
    now = torch.arange(0)  # images of the rows that were asked for last: the softmax is among their own labels

    def rows(index: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal now
        now = index // len(counts)
        kept = place[now] < counts[index % len(counts)][:, None]
        return composed(kept, inputs[now], filled[now]), chosen[now, rank]

    def probability(out: Tensor, targets: Tensor) -> Tensor:
        if restrict:
            return out.gather(1, chosen[now]).softmax(dim=1)[:, rank]
        return out.softmax(dim=1).gather(1, targets[:, None])[:, 0]

    made = compute.score_rows(model, rows, len(inputs) * len(counts), inputs, score=probability, max_batch=max_batch)
    curves = torch.cat([part for _, part in made]).double().reshape(len(inputs), len(counts))
    return undefined_where(curves.mean(dim=1), undefined)


def _ratio(upper: Tensor, lower: Tensor) -> Tensor:
    return torch.where(upper >= lower, torch.ones_like(upper), upper / lower)


def _worst(values: Tensor, over: str) -> Tensor:
    of = {"all": values, "target": values[:, :1], "others": values[:, 1:]}[over]
    return of.amin(dim=1) if of.shape[1] else torch.full_like(values[:, 0], float("nan"))


def _check(over: str) -> None:
    check_choice("over", over, OVER)
