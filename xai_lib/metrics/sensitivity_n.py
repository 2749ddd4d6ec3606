"""Does the attribution of a random set of pixels predict how far the score falls without it? (FIDELITY 8.8)"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xai_lib import agreement, compute, maps, randomness
from xai_lib.checks import check_count
from xai_lib.errors import ConfigError, InputError
from xai_lib.metrics.checks import check_attributions, undefined_where, without_order
from xai_lib.metrics.insertion_curves import Substrate, composed, substrate
from xai_lib.registry import METRICS
from xai_lib.types import Model

FRACTIONS = tuple(float(fraction) for fraction in np.geomspace(0.01, 0.9, 10))
"""The default subset sizes as shares of the pixels: ten from 0.01 to 0.9, evenly spaced on a logarithmic scale."""


@dataclass(frozen=True)
class SubsetDrops:
    """How far the score of each image falls when random subsets of its pixels are replaced; independent of any map.

    sizes    f numbers of pixels
    drops    (n, f, m) float64, f(x) - f(x without the subset)
    digests  n keys of the images' draws
    seed     of the subsets
    """

    sizes: tuple[int, ...]
    drops: Tensor
    digests: tuple[str, ...]
    seed: int


@METRICS.register(label="Sensitivity-n", cite="ancona2018", traits={"family": "faithfulness"})
def sensitivity_n(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    attributions: Tensor,
    *,
    fractions: Sequence[float] = FRACTIONS,
    n_subsets: int = 100,
    baseline: Substrate = "black",
    reduce: str = "sum",
    score: Any = "logit",
    seed: int = 0,
    max_batch: int | None = None,
) -> Tensor:
    """Pearson correlation of subset attribution and score drop, averaged over subset sizes.

    For each size k, with S_1 .. S_m random subsets of exactly k pixels: corr_j(sum_{i in S_j} A_i, f(x) - f(x with S_j
    replaced)); the mean over the sizes. Invariant to multiplying the map by a positive number, and to adding a constant to it.

    Args:
        model: inputs -> logits.
        inputs: (n, c, h, w) or (n, d).
        targets: (n,) int64.
        attributions: same shape as `inputs`.
        fractions: sizes as shares of the P pixels, in (0, 1); k = round(fraction * P), 1 to P - 1.
        n_subsets: m, at least 2. Subsets belong to the image, the size and the seed, never to the map, so that all methods are
            asked the same; and they are nested: the first 20 of 100 are the 20.
        baseline: what removed pixels become: a value, "mean" (zero after the model's normalisation), or any other substrate
            (`insertion_curves.substrate`).
        reduce: how channels become one value per pixel (`maps.reduce`). Only with "sum", of a complete method and its own
            baseline, does the sum over all pixels equal the drop.
        score: what drops; the logit by default.
        seed: of the subsets, and of a random baseline.
        max_batch: most rows (images x sizes x subsets) per forward pass.

    Returns:
        (n,) in [-1, 1], higher is better. NaN where it is undefined for any of the sizes: the map is constant or holds NaN or
        infinity, all subsets have the same attribution, or the same drop. Intervals over images: `stats`.

    Raises:
        ConfigError: a fraction whose k is 0 or P, or fewer than 2 subsets.

    Differs from the document: 001 gives neither the number of subsets, the fractions, nor the space of its zeros. Differs from
    Quantus 0.6.0, whose SensitivityN removes sorted features cumulatively and compares single steps with cumulative drops: it
    answers -0.46 for exact attributions of a linear model, where this is 1.

    >>> from xai_lib import toys
    >>> x, w = torch.ones(1, 5), torch.tensor([[4.0, 3.0, 2.0, 1.0, -2.0]])
    >>> own = {"fractions": (0.2, 0.6), "n_subsets": 20}
    >>> round(sensitivity_n(toys.linear(w), x, torch.zeros(1, dtype=torch.int64), w * x, **own).item(), 5)
    1.0
    """
    found = sensitivity_n_curve(
        model, inputs, targets, attributions, fractions=fractions, n_subsets=n_subsets, baseline=baseline, reduce=reduce,
        score=score, seed=seed, max_batch=max_batch,
    )  # fmt: skip
    return found.mean(dim=-1)


def sensitivity_n_curve(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    attributions: Tensor,
    *,
    fractions: Sequence[float] = FRACTIONS,
    n_subsets: int = 100,
    baseline: Substrate = "black",
    reduce: str = "sum",
    score: Any = "logit",
    seed: int = 0,
    max_batch: int | None = None,
) -> Tensor:
    """The correlation at each subset size, for one map per image or for several at the price of one.

    Args:
        attributions: (n, ...) like the inputs, or (m, n, ...) for m maps of each image.
        Others as in `sensitivity_n`.

    Returns:
        (n, f), or (m, n, f), in [-1, 1]; NaN where undefined at that size.
    """
    compute.check_request(model, inputs, targets)
    _stacked(attributions, inputs)
    drops = subset_drops(
        model, inputs, targets, fractions=fractions, n_subsets=n_subsets, baseline=baseline, score=score, seed=seed,
        max_batch=max_batch,
    )  # fmt: skip
    return subset_correlations(drops, inputs, attributions, reduce=reduce)


def subset_drops(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    fractions: Sequence[float] = FRACTIONS,
    n_subsets: int = 100,
    baseline: Substrate = "black",
    score: Any = "logit",
    seed: int = 0,
    max_batch: int | None = None,
) -> SubsetDrops:
    """The part of sensitivity-n that costs forward passes, n (f m + 1) of them, and knows no map.

    Arguments as in `sensitivity_n`. Pass the result to `subset_correlations` with each map.
    """
    compute.check_request(model, inputs, targets)
    check_count("n_subsets", n_subsets)
    if n_subsets < 2:
        raise ConfigError(f"n_subsets={n_subsets}: a correlation needs at least 2")
    pixels = maps.reduce(inputs[:1]).numel()
    sizes = _sizes(fractions, pixels)
    fill = substrate(baseline, model, inputs, seed=seed)
    keys = tuple(randomness.digest(image) for image in inputs)
    shape = len(inputs), len(sizes), n_subsets

    def rows(index: Tensor) -> tuple[Tensor, Tensor]:
        kept = torch.ones(len(index), pixels, dtype=torch.bool)
        places = (part.tolist() for part in torch.unravel_index(index, shape))
        for row, (image, size, number) in enumerate(zip(*places, strict=True)):
            kept[row, _subset(keys[image], sizes[size], number, pixels, seed)] = False
        images = index // (len(sizes) * n_subsets)
        return composed(kept.to(inputs.device), inputs[images], fill[images]), targets[images]

    before = compute.scores(model, inputs, targets, score=score, max_batch=max_batch)
    made = compute.score_rows(model, rows, math.prod(shape), inputs, score=score, max_batch=max_batch)
    after = torch.cat([part for _, part in made]).reshape(shape)
    return SubsetDrops(sizes, before.double()[:, None, None] - after.double(), keys, seed)


def subset_correlations(drops: SubsetDrops, inputs: Tensor, attributions: Tensor, *, reduce: str = "sum") -> Tensor:
    """Sensitivity-n of maps from drops that are known.

    Args:
        drops: from `subset_drops` of the same inputs.
        inputs: (n, ...) as given there.
        attributions: (n, ...), or (m, n, ...) for m maps of each image.
        reduce: as in `sensitivity_n`.

    Returns:
        (n, f) or (m, n, f) in [-1, 1], in the dtype of the attributions; NaN where undefined.

    Raises:
        InputError: the inputs are not those of `drops`, or the attributions do not fit them.
    """
    several = _stacked(attributions, inputs)
    if tuple(randomness.digest(image) for image in inputs) != drops.digests:
        raise InputError("inputs: not the images of these drops; give the same images, in the same order")
    values = torch.stack([maps.reduce(each, reduce).flatten(1) for each in several]).detach().double().cpu()
    undefined = torch.stack([without_order(each) for each in values])[:, :, None]
    values = values.masked_fill(undefined, 0.0)
    n, f, s = drops.drops.shape
    sums = torch.empty((len(values), n, f, s), dtype=torch.float64)
    for i, size, number in itertools.product(range(n), range(f), range(s)):
        subset = _subset(drops.digests[i], drops.sizes[size], number, values.shape[2], drops.seed)
        sums[:, i, size, number] = values[:, i, subset].sum(dim=1)
    fallen = drops.drops.cpu().expand_as(sums)
    found = torch.as_tensor(agreement.correlation(sums.flatten(0, 2), fallen.flatten(0, 2))).reshape(sums.shape[:-1])
    found = undefined_where(found, undefined).to(attributions)
    return found if attributions.ndim > inputs.ndim else found[0]


def _subset(digest: str, size: int, number: int, pixels: int, seed: int) -> Tensor:
    """Which pixels are in subset `number` of this size of this image, (size,) int64."""
    generator = torch.Generator().manual_seed(randomness.key(seed, "subset", digest, size, number))
    return torch.randperm(pixels, generator=generator)[:size]


def _sizes(fractions: Sequence[float], pixels: int) -> tuple[int, ...]:
    if len(fractions) == 0:
        raise ConfigError("fractions: empty; give at least one number between 0 and 1")
    sizes = tuple(round(float(fraction) * pixels) for fraction in fractions)
    wrong = [fraction for fraction, size in zip(fractions, sizes, strict=True) if not 0 < size < pixels]
    if wrong:
        raise ConfigError(f"fractions {wrong} of {pixels} pixels are none or all of them; there must be subsets to choose from")
    return sizes


def _stacked(attributions: Tensor, inputs: Tensor) -> Tensor:
    """Attributions as (m, n, ...), checked."""
    if not isinstance(attributions, Tensor) or attributions.ndim <= inputs.ndim:
        check_attributions(attributions, inputs)
        return attributions[None]
    for each in attributions:
        check_attributions(each, inputs)
    return attributions
