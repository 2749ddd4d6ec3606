"""Does the score follow the ranking of the pixels when they are put back or taken away? (FIDELITY 8.7)"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xai_lib import compute, maps
from xai_lib.errors import ConfigError
from xai_lib.metrics.checks import check_attributions, check_choice, without_order
from xai_lib.metrics.insertion_curves import Substrate, grid, merged, middles, scorer, stated_error
from xai_lib.registry import METRICS
from xai_lib.types import Model


@dataclass(frozen=True)
class Curve:
    """The score of each image while its pixels are flipped, most important first.

    fractions  (n, p) float64, share of the pixels that are flipped, from 0 to 1
    scores     (n, p) float64; NaN where the map ranks nothing
    points     (n,) int64, how many of the p belong to the image: one that needs fewer repeats its last
    error      (n,) float64, estimate of how far `auc` may be from that of all P + 1 points (`perturbation_curves`)
    """

    fractions: Tensor
    scores: Tensor
    points: Tensor
    error: Tensor

    @property
    def auc(self) -> Tensor:
        """(n,) float64: area under the curve by the trapezium rule over the true fractions; a mean score."""
        return torch.trapezoid(self.scores, self.fractions, dim=1)


def perturbation_curves(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    attributions: Tensor,
    games: Sequence[tuple[str, Substrate]],
    *,
    step: int | None = None,
    points: int | str | None = None,
    tolerance: float = 0.005,
    max_points: int = 129,
    reduce: str = "sum",
    score: Any = "prob",
    seed: int = 0,
    max_batch: int | None = None,
) -> list[Curve]:
    """The curves of several games, over one ranking of the pixels.

    "deletion" starts from the image and puts the substrate in the place of its pixels; "insertion" starts from the substrate
    and puts the image's pixels back. Both take pixels with all their channels, largest attribution first. Rows that are equal,
    such as the image itself or a substrate that two games share, are computed once.

    The stated error assumes that between two points, w apart, the score wanders like a random walk that is as lively as its
    changes D here and nearby. The area of such a piece is off with variance v w^3 / 12, where v is D^2 / w averaged over the
    piece and its two neighbours with weights 1/2, 1/4, 1/4. The error is three standard deviations of the sum,
    3 sqrt(sum v w^3 / 12), without pieces of one pixel.

    Args:
        model: inputs -> logits.
        inputs: (n, c, h, w) in pixel space, or (n, d).
        targets: (n,) int64.
        attributions: same shape as `inputs`.
        games: pairs of "insertion" or "deletion" and what it puts in or starts from (`substrate`).
        step: pixels per step, 1 to P - 1; the last step may be smaller. None: P / 28 rounded up, 1792 of 224 x 224.
        points: in place of `step`, the points of a curve with both ends: 3 to P + 1, evenly spaced up to rounding; or
            "adaptive": 17 even points, then again and again the middles of those pieces that make up 80 % of the error's
            variance, until the error is at most `tolerance` or the curve has `max_points`.
        tolerance: of "adaptive", in units of the score, at least 0.
        max_points: of "adaptive", at least 17.
        reduce: how channels become one value per pixel (`maps.reduce`): "sum" ranks with the sign, "abs_sum" without.
        score: the probability of the target by default.
        seed: of ties and random baselines.
        max_batch: most rows per forward pass.

    Returns:
        One `Curve` per game. An image's curve depends on nothing but the image; but since scores choose the adaptive points,
        another rounding (another `max_batch`) can choose another point.

    Raises:
        ConfigError: unknown game, substrate or reduction, a number out of range, or both `step` and `points`.
        InputError: arrays that do not fit.
    """
    compute.check_request(model, inputs, targets)
    check_attributions(attributions, inputs)
    if not games:
        raise ConfigError("games: none given; a game is a pair such as ('deletion', 'black')")
    for game, _ in games:
        check_choice("game", game, ("insertion", "deletion"))
    values = maps.reduce(attributions, reduce).flatten(1)
    pixels, n = values.shape[1], len(inputs)
    first = grid(pixels, step, points, tolerance, max_points).to(inputs.device)
    undefined = without_order(values)
    order = maps.ranking(values.masked_fill(undefined[:, None], 0.0), seed=seed)
    ask = scorer(model, inputs, targets, order, games, score, seed, max_batch)
    lines = torch.arange(len(games) * n, device=inputs.device)
    counts = first.expand(len(lines), -1)
    scores = ask(lines.repeat_interleave(len(first)), counts.flatten()).reshape(counts.shape)
    scores = scores.masked_fill(undefined.repeat(len(games))[:, None], float("nan"))
    while points == "adaptive":
        line, count = middles(counts, scores, pixels, tolerance, max_points)
        if len(line) == 0:
            break
        counts, scores = merged(counts, scores, line, count, ask(line, count))
    points_of, error = (counts < pixels).sum(dim=1) + 1, stated_error(counts, scores, pixels)
    parts = (of.split(n) for of in (counts.double() / pixels, scores, points_of, error))
    return [Curve(*part) for part in zip(*parts, strict=True)]


def insertion_deletion_curves(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    attributions: Tensor,
    *,
    insertion_substrate: Substrate = "rise_blur",
    deletion_substrate: Substrate = "mean",
    step: int | None = None,
    points: int | str | None = None,
    tolerance: float = 0.005,
    max_points: int = 129,
    reduce: str = "sum",
    score: Any = "prob",
    seed: int = 0,
    max_batch: int | None = None,
) -> tuple[Curve, Curve]:
    """The insertion curve and the deletion curve of each map, for figures.

    Arguments and errors as in `perturbation_curves`, which also takes more than two games.

    >>> from xai_lib import toys
    >>> x, w = torch.ones(1, 4), torch.tensor([[0.4, 0.3, 0.2, 0.1]])
    >>> own = {"insertion_substrate": 0.0, "deletion_substrate": 0.0, "step": 1, "score": "logit"}
    >>> _, deletion = insertion_deletion_curves(toys.linear(w), x, torch.zeros(1, dtype=torch.int64), w * x, **own)
    >>> [round(score, 4) for score in deletion.scores[0].tolist()]
    [1.0, 0.6, 0.3, 0.1, 0.0]
    """
    games = [("insertion", insertion_substrate), ("deletion", deletion_substrate)]
    inserted, deleted = perturbation_curves(
        model, inputs, targets, attributions, games, step=step, points=points, tolerance=tolerance, max_points=max_points,
        reduce=reduce, score=score, seed=seed, max_batch=max_batch,
    )  # fmt: skip
    return inserted, deleted


@METRICS.register(label="Insertion", cite="petsiuk2018", traits={"family": "faithfulness"})
def insertion(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    attributions: Tensor,
    *,
    substrate: Substrate = "rise_blur",
    step: int | None = None,
    points: int | str | None = None,
    tolerance: float = 0.005,
    max_points: int = 129,
    reduce: str = "sum",
    score: Any = "prob",
    seed: int = 0,
    max_batch: int | None = None,
) -> Tensor:
    """Area under the score while the image's pixels are put back on a substrate, most important first. Higher is better.

    Args:
        substrate: what the curve starts from; "rise_blur", as in RISE, leaves more to recognise than a plain colour.
        Others, errors and differences as in `insertion_deletion`.

    Returns:
        (n,) in units of the score ([0, 1] for the probability). NaN where the map is zero, constant, or holds NaN or infinity.
    """
    (curve,) = perturbation_curves(
        model, inputs, targets, attributions, [("insertion", substrate)], step=step, points=points, tolerance=tolerance,
        max_points=max_points, reduce=reduce, score=score, seed=seed, max_batch=max_batch,
    )  # fmt: skip
    return curve.auc.to(inputs.dtype)


@METRICS.register(label="Deletion", cite="petsiuk2018", traits={"family": "faithfulness"})
def deletion(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    attributions: Tensor,
    *,
    substrate: Substrate = "mean",
    step: int | None = None,
    points: int | str | None = None,
    tolerance: float = 0.005,
    max_points: int = 129,
    reduce: str = "sum",
    score: Any = "prob",
    seed: int = 0,
    max_batch: int | None = None,
) -> Tensor:
    """Area under the score while a substrate takes the place of the image's pixels, most important first. Lower is better.

    Args:
        substrate: what pixels become; "mean" is RISE's zero after normalisation.
        Others, errors and differences as in `insertion_deletion`.

    Returns:
        (n,) in units of the score ([0, 1] for the probability). NaN where the map is zero, constant, or holds NaN or infinity.
    """
    (curve,) = perturbation_curves(
        model, inputs, targets, attributions, [("deletion", substrate)], step=step, points=points, tolerance=tolerance,
        max_points=max_points, reduce=reduce, score=score, seed=seed, max_batch=max_batch,
    )  # fmt: skip
    return curve.auc.to(inputs.dtype)


@METRICS.register(label="Insertion - deletion", cite="akhtar2023", traits={"family": "faithfulness"})
def insertion_deletion(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    attributions: Tensor,
    *,
    insertion_substrate: Substrate = "rise_blur",
    deletion_substrate: Substrate = "mean",
    step: int | None = None,
    points: int | str | None = None,
    tolerance: float = 0.005,
    max_points: int = 129,
    reduce: str = "sum",
    score: Any = "prob",
    seed: int = 0,
    max_batch: int | None = None,
) -> Tensor:
    """AUC of insertion minus AUC of deletion, which is the AUC of the difference of the curves. Higher is better.

    The trapezium rule over true fractions, both ends included. Only the order of the pixels counts: invariant to any strictly
    rising function of the reduced map, but for ties. It rewards what concentrates on the middle of the image, and depends on
    both substrates: read it next to a random map and a centred one.

    Args:
        insertion_substrate: what insertion starts from (`insertion_curves.substrate`).
        deletion_substrate: what deleted pixels become.
        Others as in `perturbation_curves`; "adaptive" keeps to its tolerance in each of the two curves.

    Returns:
        (n,) in units of the score ([-1, 1] for the probability); 0 on average for random orders where both games have the same
        substrate. NaN where the map is zero, constant, or holds NaN or infinity.

    Raises:
        ConfigError, InputError: as in `perturbation_curves`.

    Differs from the document: 001 gives neither what takes the place of removed pixels, the step, nor the channel reduction.
    Differs from the code of RISE: the score of the given target, not of the predicted class; true fractions (the same where the
    step divides the number of pixels); ties in random order. Differs from the code of AGI, which takes the plain mean of the
    points and ranks channel values.

    >>> from xai_lib import toys
    >>> x, w = torch.ones(1, 4), torch.tensor([[0.4, 0.3, 0.2, 0.1]])
    >>> own = {"insertion_substrate": 0.0, "deletion_substrate": 0.0, "step": 1, "score": "logit"}
    >>> round(insertion_deletion(toys.linear(w), x, torch.zeros(1, dtype=torch.int64), w * x, **own).item(), 4)
    0.25
    """
    inserted, deleted = insertion_deletion_curves(
        model, inputs, targets, attributions, insertion_substrate=insertion_substrate, deletion_substrate=deletion_substrate,
        step=step, points=points, tolerance=tolerance, max_points=max_points, reduce=reduce, score=score, seed=seed,
        max_batch=max_batch,
    )  # fmt: skip
    return (inserted.auc - deleted.auc).to(inputs.dtype)
