"""Meaningful perturbation: the smallest smooth mask whose deletion makes the score fall (FIDELITY 6.2)."""

from typing import Any

import torch
from torch import Tensor, nn

from xai_lib import baselines
from xai_lib.checks import check_count
from xai_lib.compute import check_request, gradient_rows, score_rows
from xai_lib.errors import ConfigError, InputError
from xai_lib.randomness import image_generator
from xai_lib.registry import METHODS
from xai_lib.types import Model, Spec

RADII = range(0, 175, 5)
"""Radii of the circles that the search may start from, in pixels at 224 px (authors' code)."""
RESIDUE = 0.01
"""A circle suppresses the score when at most this share of what the largest circle takes away is left."""


@METHODS.register(
    label="Meaningful perturbation",
    cite="fong2017",
    traits={"family": "perturbation", "image": True, "gradient": True, "random": True, "positive": True},
)
def meaningful_perturbation(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    iterations: int = 300,
    learning_rate: float = 0.1,
    l1: float = 1e-4,
    tv: float = 1e-2,
    beta: float = 3.0,
    baseline: Spec = "blur",
    mask_size: int | None = None,
    mask_blur: float | None = None,
    jitter: int | None = None,
    initial: str = "circle",
    score: Any = "prob",
    seed: int = 0,
    max_batch: int | None = None,
) -> Tensor:
    """S = 1 - m, where m in [0, 1] minimises l1 |1 - m|_1 + tv sum |grad m|^beta + f_t(m x + (1 - m) x'), x' the baseline.

    m lives on a coarse grid; it is enlarged (nearest) and smoothed (Gaussian) before it meets the picture. Adam, with a state
    for each image; m is clipped to [0, 1] after each iteration. |grad m| is the length of the forward differences between
    neighbouring cells; both sums run over the cells, so `l1` and `tv` belong with `mask_size`. S is at full size, smoothed:
    what was deleted.

    Args:
        model: inputs -> logits.
        inputs: (n, c, h, w) in pixel space.
        targets: (n,) int64.
        iterations: steps of Adam (decay rates 0.9 and 0.999), at least 1; each costs a forward and a backward pass.
        learning_rate: above 0.
        l1, tv: weights, at least 0. The paper's setting for localisation is l1 = 1e-3, beta = 2 (with the five top classes).
        beta: exponent, above 0.
        baseline: x'; blur (10 px at 224 px) by default, black and uniform being the authors' other two. A random one is drawn
            anew at each iteration.
        mask_size: cells along the shorter side, 1 to that side. None = an eighth of it (28 at 224 px), but at least 14 or all.
        mask_blur: standard deviation of the smoothing in pixels, at least 0. None = 5 px at 224 px, scaled with the shorter
            side.
        jitter: picture and baseline are shifted under the mask, along each axis by one of this many whole pixels around 0,
            drawn per image and iteration; at least 1, which is none. None = 4 px at 224 px, scaled.
        initial: "circle" starts from the smallest centred disc (35 tried) whose deletion leaves at most 1 % of what the largest
            takes away; "none" from the whole picture.
        score: the explained scalar f: prob, logit, log_prob, margin, or a callable.
        seed: of the jitter and of a random baseline.
        max_batch: most rows per pass.

    Returns:
        Same shape as `inputs`, in [0, 1 / c]: each of the c channels holds a c-th of S, so that `maps.reduce(..., "sum")`
        gives S. Zero for a score that never changes. Adam makes small gradients count as much as large ones, so that rounding
        (another batch size, another machine) can show where the score hardly depends on m.

    Raises:
        ConfigError: a parameter out of range.
        ModelError: no gradient reaches the inputs.
        InputError: inputs are not images; else see `compute.check_request`.

    Differs from the authors' code in that the gradient is exact (theirs leaves out the smoothing of the mask), that pictures
    are shifted with their edges repeated (theirs are cut from a larger copy), and that |1 - m| has slope 1 also at m = 1.

    >>> from xai_lib import toys
    >>> model, x = toys.linear([[0.5, 0.1, -0.3, 0.4]]), torch.ones(1, 1, 2, 2)
    >>> own = {"iterations": 60, "l1": 0.2, "tv": 0.0, "mask_blur": 0.0, "baseline": "black", "score": "logit"}
    >>> meaningful_perturbation(model, x, torch.zeros(1, dtype=torch.int64), **own)[0, 0]
    tensor([[1., 0.],
            [0., 1.]])
    """
    _check(iterations, learning_rate, l1, tv, beta, initial)
    check_request(model, inputs, targets)
    if inputs.ndim != 4:
        raise InputError(f"meaningful_perturbation: expected images (n, c, h, w), got shape {tuple(inputs.shape)}")
    images = inputs.detach().contiguous()
    down, across = _enlarging(images, mask_size, mask_blur)
    moves = _moves(images, iterations, jitter, seed)
    random = baselines.is_random(baseline)
    null = baselines.draw(baseline, images, seed=seed)
    ask = {"score": score, "max_batch": max_batch}
    deleted = torch.zeros(len(images), down.shape[1], across.shape[1], dtype=torch.float64, device=images.device)
    if initial == "circle":
        deleted = _circles(model, images, targets, null, down, across, ask)
    first, second = torch.zeros_like(deleted), torch.zeros_like(deleted)
    for step in range(iterations):
        null = baselines.draw(baseline, images, step, seed=seed) if random else null
        slope = _slope(model, images, targets, null, deleted, moves[:, step], down, across, ask)
        slope += l1 + tv * _roughness_slope(deleted, beta)
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        length = (second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
        deleted = (deleted - learning_rate * first / (1 - 0.9 ** (step + 1)) / length).clamp(0, 1)
    made = (down @ deleted @ across.mT / images.shape[1]).to(images)
    return made[:, None].expand_as(images).contiguous()


def _slope(
    model: Model, images: Tensor, targets: Tensor, null: Tensor, deleted: Tensor, moves: Tensor,
    down: Tensor, across: Tensor, ask: dict[str, Any],
) -> Tensor:  # fmt: skip
    """Gradient (n, cells, cells) of the score with respect to what is deleted."""

    def rows(index: Tensor) -> tuple[Tensor, Tensor]:
        image, other = _moved(images[index], moves[index]), _moved(null[index], moves[index])
        share = (down @ deleted[index] @ across.mT).to(image)[:, None]
        return image + share * (other - image), targets[index]

    slope = torch.empty_like(deleted)
    for index, gradient in gradient_rows(model, rows, len(images), images, **ask):
        difference = _moved(null[index] - images[index], moves[index])
        slope[index] = down.mT @ (gradient * difference).sum(dim=1).double() @ across
    return slope


def _roughness_slope(deleted: Tensor, beta: float) -> Tensor:
    """Gradient of sum |grad m|^beta over the cells of each image; 0 where neighbours are equal."""
    with torch.enable_grad():
        cells = deleted.detach().clone().requires_grad_(True)
        below = nn.functional.pad(cells.diff(dim=1), (0, 0, 0, 1))
        right = nn.functional.pad(cells.diff(dim=2), (0, 1))
        total = (below**2 + right**2).clamp_min(1e-10).pow(beta / 2).sum()
        return torch.autograd.grad(total, cells)[0]


def _circles(
    model: Model, images: Tensor, targets: Tensor, null: Tensor, down: Tensor, across: Tensor, ask: dict[str, Any]
) -> Tensor:
    """What the search starts from: for each image the smallest disc whose deletion suppresses the score, on the coarse grid."""
    height, width = images.shape[2:]
    scale = min(height, width) / 224
    v, u = ((torch.arange(side, dtype=torch.float64) - (side - 1) / 2) ** 2 for side in (height, width))
    squared = v[:, None] + u[None, :]
    discs = torch.stack([(squared <= (radius * scale) ** 2).double() for radius in RADII])
    smooth = baselines.blur(discs[1:, None], sigma=10 * scale)
    small = nn.functional.adaptive_avg_pool2d(smooth, (down.shape[1], across.shape[1]))[:, 0]
    candidates = torch.cat([torch.zeros_like(small[:1]), small]).to(images.device)
    shares = (down @ candidates @ across.mT).to(images)[:, None]
    many = len(candidates)

    def rows(index: Tensor) -> tuple[Tensor, Tensor]:
        image, disc = index // many, index % many
        return images[image] + shares[disc] * (null[image] - images[image]), targets[image]

    made = score_rows(model, rows, len(images) * many, images, **ask)
    found = torch.cat([values for _, values in made]).reshape(-1, many).double()
    whole, last = found[:, :1], found[:, -1:]
    rounding = 16 * torch.finfo(images.dtype).eps * torch.maximum(whole.abs(), last.abs())
    suppressed = found - last <= RESIDUE * (whole - last) + rounding
    return candidates[suppressed.int().argmax(dim=1)].clone()


def _enlarging(images: Tensor, mask_size: int | None, mask_blur: float | None) -> tuple[Tensor, Tensor]:
    """Weights (h, cells) and (w, cells) that enlarge and smooth a coarse mask M: rows @ M @ columns^T."""
    short = min(images.shape[2:])
    size = max(min(short, 14), round(short / 8)) if mask_size is None else mask_size
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= short:
        raise ConfigError(f"mask_size={mask_size!r}: expected whole cells from 1 to the shorter side, {short}")
    sigma = 5 * short / 224 if mask_blur is None else float(mask_blur)
    if not sigma >= 0:
        raise ConfigError(f"mask_blur={mask_blur!r}: expected pixels, at least 0")
    return _axis(images.shape[2], size, short, sigma, images), _axis(images.shape[3], size, short, sigma, images)


def _axis(side: int, size: int, short: int, sigma: float, images: Tensor) -> Tensor:
    cells = max(1, round(size * side / short))
    nearest = torch.arange(side) * cells // side
    weights = nn.functional.one_hot(nearest, cells).double()
    if sigma > 0:
        wide = min(short, round(3 * sigma) + 2)  # as far as `blur` looks
        band = weights.T[:, None, :, None].expand(-1, 1, -1, wide)
        weights = baselines.blur(band, sigma=sigma)[:, 0, :, 0].T
    return weights.to(images.device)


def _moves(images: Tensor, iterations: int, jitter: int | None, seed: int) -> Tensor:
    """(n, iterations, 2) int64: rows and columns by which each picture is shifted at each iteration."""
    many = max(1, round(4 * min(images.shape[2:]) / 224)) if jitter is None else jitter
    if isinstance(many, bool) or not isinstance(many, int) or many < 1:
        raise ConfigError(f"jitter={jitter!r}: expected a whole number of places of at least 1 (1 = none)")
    generators = (image_generator(seed, "meaningful_perturbation", image) for image in images)
    drawn = torch.stack([torch.randint(many, (iterations, 2), generator=generator) for generator in generators])
    return (drawn - many // 2).to(images.device)


def _moved(pictures: Tensor, moves: Tensor) -> Tensor:
    """(k, c, h, w) shifted by (k, 2) pixels; edges are repeated."""
    if not bool(moves.any()):
        return pictures
    height, width = pictures.shape[2:]
    v = (torch.arange(height, device=pictures.device) + moves[:, :1]).clamp(0, height - 1)
    u = (torch.arange(width, device=pictures.device) + moves[:, 1:]).clamp(0, width - 1)
    own = torch.arange(len(pictures), device=pictures.device)[:, None, None]
    return pictures[own, :, v[:, :, None], u[:, None, :]].permute(0, 3, 1, 2)


def _check(iterations: int, learning_rate: float, l1: float, tv: float, beta: float, initial: str) -> None:
    check_count("iterations", iterations)
    if not learning_rate > 0 or not beta > 0:
        raise ConfigError(f"learning_rate={learning_rate!r}, beta={beta!r}: expected numbers above 0")
    if not l1 >= 0 or not tv >= 0:
        raise ConfigError(f"l1={l1!r}, tv={tv!r}: expected weights of at least 0")
    if initial not in ("circle", "none"):
        raise ConfigError(f"initial={initial!r}: expected 'circle' or 'none'")
