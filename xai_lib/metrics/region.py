"""How fast does the score fall while regions of the image are replaced, most relevant first? (FIDELITY 8.9)"""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from xai_lib import baselines, compute, maps, randomness
from xai_lib.checks import check_count
from xai_lib.errors import ConfigError, InputError
from xai_lib.metrics.checks import check_attributions, check_choice, undefined_where, without_order
from xai_lib.metrics.insertion_curves import SUBSTRATES, Substrate, composed, substrate
from xai_lib.registry import BASELINES, METRICS
from xai_lib.types import Model, Spec

ORDERS = ("morf", "lerf", "random")


@METRICS.register(label="Region perturbation", cite="samek2017", traits={"family": "faithfulness"})
def region_perturbation(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    attributions: Tensor,
    *,
    region: int = 9,
    n_regions: int = 100,
    order: str = "morf",
    fill: Substrate = "uniform",
    n_draws: int = 5,
    reduce: str = "sum",
    score: Any = "prob",
    seed: int = 0,
    max_batch: int | None = None,
) -> Tensor:
    """Area over the perturbation curve: AOPC = 1/(L + 1) sum_{k=0}^{L} (f(x_0) - f(x_k)), x_k the image without k regions.

    Regions are the tiles of a grid of `region` x `region` pixels from the upper left corner; the last ones may be smaller. They
    are replaced one after the other, for good, in the order of their mass, the sum of the channel-reduced map over their
    pixels. Only this order counts, so that multiplying the map by a positive number changes nothing. The model is not
    retrained: what it makes of replaced pixels is part of the number. Hold it against order "random", filled alike.

    Args:
        model: inputs -> logits.
        inputs: (n, c, h, w) in pixel space.
        targets: (n,) int64.
        attributions: same shape as `inputs`.
        region: side of a region in pixels, at least 1; 1 replaces single pixels.
        n_regions: L, 1 to the number of regions of the image.
        order: "morf", most relevant first; "lerf", least relevant first; or "random", drawn anew for each image and draw.
        fill: what regions become: "uniform", independent values from [0, 1] for each pixel and channel; a number; or the name
            of a substrate or baseline such as "mean", "black", "average", "blur" (`insertion_curves.substrate`).
        n_draws: how often fill and random order are drawn, at least 1; the mean is taken. The pixels of draw j belong to the
            image, j and the seed, never to map or order. Where nothing is random there is one draw.
        reduce: how channels become one value per pixel (`maps.reduce`): "sum" ranks with the sign, "abs_sum" without.
        score: f; the probability of the target by default.
        seed: of ties, random order and random fill.
        max_batch: most rows (images x regions) per forward pass.

    Returns:
        (n,) in units of the score, higher is better for "morf" and lower for "lerf"; negative where the score rises. NaN where
        the map is constant or holds NaN or infinity, or all masses are equal; order "random" does not look at the map.

    Raises:
        ConfigError: unknown order, fill or reduction, or a number out of range.
        InputError: inputs are not images, or arrays that do not fit.

    Differs from the paper and document 002: neither says what becomes of a border that the grid does not divide, nor how signs
    are treated; the document gives no number at all. Differs from Quantus 0.6.0, which returns the drops one by one, without
    k = 0, and fills with one colour per call.

    >>> from xai_lib import toys
    >>> x, w = torch.ones(1, 1, 2, 2), torch.tensor([0.4, 0.3, 0.2, 0.1]).reshape(1, 1, 2, 2)
    >>> own = {"region": 1, "n_regions": 4, "fill": "black", "score": "logit"}
    >>> round(region_perturbation(toys.linear(w.flatten(1)), x, torch.zeros(1, dtype=torch.int64), w * x, **own).item(), 4)
    0.6
    """
    scores = region_perturbation_curve(
        model, inputs, targets, attributions, region=region, n_regions=n_regions, order=order, fill=fill, n_draws=n_draws,
        reduce=reduce, score=score, seed=seed, max_batch=max_batch,
    )  # fmt: skip
    return (scores[:, :1] - scores).mean(dim=1).to(inputs.dtype)


def region_perturbation_curve(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    attributions: Tensor,
    *,
    region: int = 9,
    n_regions: int = 100,
    order: str = "morf",
    fill: Substrate = "uniform",
    n_draws: int = 5,
    reduce: str = "sum",
    score: Any = "prob",
    seed: int = 0,
    max_batch: int | None = None,
) -> Tensor:
    """f(x_0) ... f(x_L) of `region_perturbation`, means over the draws; arguments and errors as there.

    Returns:
        (n, 1 + n_regions) float64; NaN rows where nothing is ranked. The AOPC up to k regions is the mean of
        f(x_0) - f(x_j) over j = 0 to k.
    """
    compute.check_request(model, inputs, targets)
    check_attributions(attributions, inputs)
    check_choice("order", order, ORDERS)
    check_count("n_draws", n_draws)
    tiles = _tiles(inputs, region, n_regions)
    reduced = maps.reduce(attributions, reduce)
    masses = _masses(reduced, tiles)
    undefined = (without_order(reduced) | without_order(masses)) & (order != "random")
    ranked = masses.masked_fill(undefined[:, None], 0.0)
    draws = n_draws if order == "random" or _random(fill) else 1
    start = compute.scores(model, inputs, targets, score=score, max_batch=max_batch).double()
    total = torch.zeros(len(inputs), n_regions, dtype=torch.float64, device=inputs.device)
    for draw in range(draws):
        place = _places(ranked, inputs, order, draw, seed)
        filled = _filled(fill, model, inputs, draw, seed)

        def rows(index: Tensor, place: Tensor = place, filled: Tensor = filled) -> tuple[Tensor, Tensor]:
            image, step = index // n_regions, index % n_regions
            kept = place[image] > step[:, None]
            return composed(kept[:, tiles], inputs[image], filled[image]), targets[image]

        made = compute.score_rows(model, rows, total.numel(), inputs, score=score, max_batch=max_batch)
        total += torch.cat([part for _, part in made]).double().reshape(total.shape)
    return undefined_where(torch.cat([start[:, None], total / draws], dim=1), undefined[:, None])


def _tiles(inputs: Tensor, region: int, n_regions: int) -> Tensor:
    """The region that each pixel belongs to, (h w,) int64, numbered row by row."""
    check_count("region", region)
    check_count("n_regions", n_regions)
    if inputs.ndim != 4:
        raise InputError(
            f"inputs: expected images (n, c, h, w), got shape {tuple(inputs.shape)}; regions are squares of pixels"
        )
    rows, columns = (torch.arange(side, device=inputs.device) // region for side in inputs.shape[2:])
    across = int(columns[-1]) + 1
    there_are = (int(rows[-1]) + 1) * across
    if n_regions > there_are:
        raise ConfigError(
            f"n_regions={n_regions}: {tuple(inputs.shape[2:])} pixels hold {there_are} regions of {region} x {region}; "
            f"expected 1 to {there_are}, or a smaller region"
        )
    return (rows[:, None] * across + columns[None, :]).flatten()


def _masses(values: Tensor, tiles: Tensor) -> Tensor:
    flat = values.flatten(1).double()
    return torch.zeros(len(flat), int(tiles.max()) + 1, dtype=flat.dtype, device=flat.device).index_add_(1, tiles, flat)


def _places(masses: Tensor, inputs: Tensor, order: str, draw: int, seed: int) -> Tensor:
    """When each region goes, (n, regions) int64: 0 is replaced first."""
    if order == "random":
        name, count = f"region order {draw}", masses.shape[1]
        ranking = torch.stack([torch.randperm(count, generator=randomness.image_generator(seed, name, x)) for x in inputs])
        ranking = ranking.to(masses.device)
    else:
        ranking = maps.ranking(masses, seed=seed, descending=order == "morf")
    return ranking.argsort(dim=1)


def _filled(fill: Substrate, model: Model, inputs: Tensor, draw: int, seed: int) -> Tensor:
    return baselines.draw(cast(Spec, fill), inputs, draw, seed=seed) if _random(fill) else substrate(fill, model, inputs)


def _random(fill: Substrate) -> bool:
    if not isinstance(fill, str | Mapping):
        return False
    name, _ = BASELINES.split(fill)
    return name not in SUBSTRATES and name in BASELINES and baselines.is_random(fill)
