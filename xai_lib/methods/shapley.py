"""Shapley values of superpixels, by enumeration and by weighted least squares (FIDELITY 6.6)."""

from itertools import combinations
from math import comb
from typing import Any

import torch
from torch import Tensor

from xai_lib import coalitions
from xai_lib.checks import check_count
from xai_lib.compute import check_request
from xai_lib.errors import ConfigError
from xai_lib.randomness import image_generator
from xai_lib.registry import METHODS
from xai_lib.segments import Segmentation, counts, segment, spread
from xai_lib.types import Model, Spec

MOST_SEGMENTS = 12
"""Most segments of `shapley_values`: 2^12 = 4096 rows per image."""

NINE: Spec = {"grid": {"rows": 3, "columns": 3}}


@METHODS.register(label="Shapley values", cite="shapley1953", traits={"family": "Shapley value", "image": True, "linear": True})
def shapley_values(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    segments: Segmentation = NINE,
    baseline: Spec = "black",
    seed: int = 0,
    score: Any = "logit",
    max_batch: int | None = None,
) -> Tensor:
    """phi_k = sum over coalitions S without k of |S|! (M - |S| - 1)! / M! (f(x_S + k) - f(x_S)), all 2^M of them.

    Args:
        segments: as in `feature_ablation`, at most 12 per image.
        Others as in `feature_ablation`.

    Returns:
        Same shape as `inputs`, signed, in score units, laid out as in `feature_ablation`: the values of an image's segments
        sum to f(x) - f(baseline).

    Raises:
        ConfigError: more than 12 segments.
        InputError: as `feature_ablation`.

    >>> from xai_lib import toys
    >>> model = toys.Formula(lambda x: x[:, 0, 0, 0] * x[:, 0, 0, 1] + x[:, 0, 0, 2])
    >>> x, t = torch.tensor([[[[2.0, 3.0, 4.0]]]]), torch.zeros(1, dtype=torch.int64)
    >>> shapley_values(model, x, t).flatten().tolist()
    [3.0, 3.0, 4.0]
    """
    check_request(model, inputs, targets)
    labels = segment(segments, inputs)
    absent, sizes = coalitions.fill(baseline, inputs, labels, seed=seed), counts(labels)
    if max(sizes) > MOST_SEGMENTS:
        raise ConfigError(
            f"shapley_values: image {sizes.index(max(sizes))} has {max(sizes)} segments, 2^{max(sizes)} rows; take at most "
            f"{MOST_SEGMENTS}, or kernel_shap"
        )
    made = coalitions.responses(
        model, inputs, targets, labels, absent, lambda image: all_coalitions(sizes[image]), score=score, max_batch=max_batch
    )
    return spread([_from_all(present, values) for present, values in made], labels, inputs)


@METHODS.register(
    label="Kernel SHAP", cite="lundberg2017", traits={"family": "Shapley value", "image": True, "random": True, "linear": True}
)
def kernel_shap(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    segments: Segmentation = "slic",
    baseline: Spec = "black",
    n_samples: int = 1000,
    seed: int = 0,
    score: Any = "logit",
    max_batch: int | None = None,
) -> Tensor:
    """phi of min sum_z pi_z (f(x_z) - f(x') - phi z)^2 subject to sum phi = f(x) - f(x'), pi_z as in `shap_kernel`.

    x_z shows the segments with z = 1 and the baseline x' elsewhere. Where all 2^M - 2 coalitions z fit in `n_samples`, they are
    all used, and phi are the Shapley values. Otherwise all of sizes 1 and M - 1 are, then those of further sizes as long as
    their part of the weight pays for all of them, and from the other sizes random pairs of complements.

    Args:
        model: inputs -> logits.
        inputs: (n, c, h, w) in pixel space.
        targets: (n,) int64.
        segments, baseline, score: as in `feature_ablation`.
        n_samples: most coalitions per image besides the empty and the full one, at least 2 M (or 2^M - 2, where that is less).
        seed: of the coalitions, drawn per image, and of random baselines.
        max_batch: most rows (images x coalitions) per forward pass.

    Returns:
        Same shape as `inputs`, signed, in score units, laid out as in `feature_ablation`: the values of an image's segments
        sum to f(x) - f(x') whatever the number of samples.

    Raises:
        ConfigError: too few samples.
        InputError: as `feature_ablation`.

    Differs from Captum, which draws from a global generator and replaces the two constraints by large weights. Differs from
    document 003, whose "SHAP" is a product of gradients (FIDELITY E3.6).

    >>> from xai_lib import toys
    >>> model = toys.Formula(lambda x: x[:, 0, 0, 0] * x[:, 0, 0, 1] + x[:, 0, 0, 2])
    >>> x, t = torch.tensor([[[[2.0, 3.0, 4.0]]]]), torch.zeros(1, dtype=torch.int64)
    >>> [round(value, 5) for value in kernel_shap(model, x, t, segments="grid").flatten().tolist()]
    [3.0, 3.0, 4.0]
    """
    check_request(model, inputs, targets)
    check_count("n_samples", n_samples)
    labels = segment(segments, inputs)
    absent, sizes = coalitions.fill(baseline, inputs, labels, seed=seed), counts(labels)
    _check_samples(n_samples, sizes)
    weights: dict[int, Tensor] = {}

    def design(image: int) -> Tensor:
        generator = image_generator(seed, "kernel_shap", inputs[image])
        present, weights[image] = shap_design(sizes[image], n_samples, generator)
        full = torch.ones(1, sizes[image], dtype=torch.bool)
        return torch.cat([~full, full, present])

    made = coalitions.responses(model, inputs, targets, labels, absent, design, score=score, max_batch=max_batch)
    found = []
    for image, (present, values) in enumerate(made):
        gains = values - values[0]
        found.append(constrained_least_squares(present[2:], gains[2:], weights.pop(image), gains[1]))
    return spread(found, labels, inputs)


def shap_kernel(n_segments: int) -> Tensor:
    """Weight of one coalition of each size s = 1 .. M - 1: pi_s = (M - 1) / (C(M, s) s (M - s)), (M - 1,) float64.

    >>> shap_kernel(3)
    tensor([0.3333, 0.3333], dtype=torch.float64)
    """
    m = n_segments
    return torch.tensor([(m - 1) / (comb(m, s) * s * (m - s)) for s in range(1, m)], dtype=torch.float64)


def shap_design(n_segments: int, n_samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """At most `n_samples` coalitions and their weights.

    Returns:
        (S, M) bool; (S,) float64. The weights of each size that is complete are its pi_s; the sampled ones share the weight of
        all coalitions of the other sizes equally.
    """
    m, kernel = n_segments, shap_kernel(n_segments)
    if 2**m - 2 <= n_samples:
        present = all_coalitions(m)[1:-1]
        return present, kernel[present.sum(dim=1) - 1]
    share = {s: (m - 1) / (s * (m - s)) * (1 if 2 * s == m else 2) for s in range(1, m // 2 + 1)}
    left, parts, weights = n_samples, [], []
    while share:
        size = min(share)
        complete = comb(m, size) * (1 if 2 * size == m else 2)
        if size > 1 and left * share[size] < complete * sum(share.values()):
            break
        chosen = _of_size(m, size)
        parts.append(chosen if 2 * size == m else torch.cat([chosen, ~chosen]))
        weights.append(torch.full((complete,), float(kernel[size - 1]), dtype=torch.float64))
        left -= complete
        del share[size]
    pairs = left // 2 if share else 0
    if pairs:
        sizes, mass = list(share), torch.tensor(list(share.values()), dtype=torch.float64)
        drawn = torch.multinomial(mass, pairs, replacement=True, generator=generator)
        places = torch.rand(pairs, m, generator=generator, dtype=torch.float64).argsort(dim=1).argsort(dim=1)
        chosen = places < torch.tensor(sizes)[drawn][:, None]
        parts.append(torch.cat([chosen, ~chosen]))
        weights.append(torch.full((2 * pairs,), float(mass.sum()) / (2 * pairs), dtype=torch.float64))
    return torch.cat(parts), torch.cat(weights)


def constrained_least_squares(present: Tensor, gains: Tensor, weights: Tensor, total: Tensor) -> Tensor:
    """min sum_j w_j (g_j - phi z_j)^2 subject to sum phi = total.

    Args:
        present: z, (S, M) bool, whose rows and their complements tell all segments apart.
        gains: g, (S,), above the empty coalition.
        weights: w, (S,).
        total: scalar, the gain of the full coalition.

    Returns:
        phi (M,) float64; the last segment's value is what the others leave of the total.
    """
    z, w = present.double(), weights.double()
    rest = z[:, :-1] - z[:, -1:]
    left = gains.double() - z[:, -1] * total
    others = torch.linalg.solve(rest.T @ (w[:, None] * rest), rest.T @ (w * left))
    return torch.cat([others, (total - others.sum()).reshape(1)])


def all_coalitions(n_segments: int) -> Tensor:
    """All subsets as (2^M, M) bool: row r holds the binary digits of r, lowest first."""
    rows = torch.arange(2**n_segments)
    return (rows[:, None] >> torch.arange(n_segments)) % 2 == 1


def _from_all(present: Tensor, values: Tensor) -> Tensor:
    m = present.shape[1]
    size = present.sum(dim=1)
    weight = torch.tensor([1 / (m * comb(m - 1, s)) for s in range(m)], dtype=torch.float64)
    numbers = torch.arange(len(present))
    found = []
    for k in range(m):
        without = numbers[~present[:, k]]
        found.append((weight[size[without]] * (values[without + 2**k] - values[without])).sum())
    return torch.stack(found)


def _of_size(n_segments: int, size: int) -> Tensor:
    """All coalitions of one size, (C(M, size), M) bool."""
    members = torch.tensor(list(combinations(range(n_segments), size)))
    return torch.zeros(len(members), n_segments, dtype=torch.bool).scatter(1, members, True)


def _check_samples(n_samples: int, sizes: list[int]) -> None:
    for image, m in enumerate(sizes):
        least = min(2 * m, 2**m - 2)
        if n_samples < least:
            raise ConfigError(
                f"n_samples={n_samples}: image {image} has {m} segments, kernel_shap needs at least {least} coalitions (each "
                "segment alone, and each left out), and many more to be accurate; or take fewer segments"
            )
