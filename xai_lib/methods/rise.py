"""RISE: scores under random smooth masks (Petsiuk et al. 2018)."""

from typing import Any

import torch
from torch import Tensor

from xai_lib import baselines
from xai_lib.checks import check_count
from xai_lib.compute import check_request, score_rows
from xai_lib.errors import ConfigError, InputError
from xai_lib.randomness import image_generator
from xai_lib.registry import METHODS
from xai_lib.types import Model, Spec


@METHODS.register(label="RISE", cite="petsiuk2018", traits={"family": "perturbation", "image": True, "random": True})
def rise(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    n_masks: int = 4000,
    grid: int = 7,
    p: float = 0.5,
    baseline: Spec = "black",
    score: Any = "prob",
    seed: int = 0,
    max_batch: int | None = None,
) -> Tensor:
    """S = 1 / (N p) sum_j f_t(x' + (x - x') M_j) M_j over N random masks M_j in [0, 1], with x' the baseline.

    A mask: `grid` x `grid` cells, each 1 with probability p, enlarged bilinearly so that a cell has ceil(h / grid) x
    ceil(w / grid) pixels and one cell is to spare, then cut to (h, w) at a random shift of less than a cell. E M = p at every
    pixel. S estimates E[f_t(x M) M] / p: the mean score given that the pixel is seen. For a constant f = a it is a (1 within
    sampling error), not 0, so only differences between pixels mean something.

    Args:
        model: inputs -> logits; it needs no gradient.
        inputs: (n, c, h, w) in pixel space.
        targets: (n,) int64.
        n_masks: N, at least 1 (paper: 4,000 for VGG-16, 8,000 for ResNet-50). The first k of N masks are those of N = k.
        grid: cells along each side, at least 1.
        p: probability that a cell is seen, in (0, 1].
        baseline: what is seen where the mask is 0; black, as in the paper's formula.
        score: the explained scalar f: prob, logit, log_prob, margin, or a callable.
        seed: of the masks, drawn per image, and of a random baseline.
        max_batch: most rows (images x masks) per forward pass; so many masks are held at full size.

    Returns:
        Same shape as `inputs`, in score units; each of the c channels holds a c-th of S, so that
        `maps.reduce(..., "sum")` gives S. At least 0 for a score that is.

    Raises:
        ConfigError: `n_masks`, `grid` or `p` out of range.
        InputError: inputs are not images; else see `compute.check_request`.

    Differs from the authors' code, which draws one set of masks for all images: here an image has its own, so that its map does
    not depend on its company, and differences between images hold mask noise too. There inputs are normalised before the
    product, so that what is hidden becomes the mean colour and not black.

    >>> from xai_lib import toys
    >>> x, t = torch.ones(1, 1, 2, 2), torch.zeros(1, dtype=torch.int64)
    >>> rise(toys.mean_pixel(), x, t, n_masks=3, p=1.0, score="logit")[0, 0]
    tensor([[1., 1.],
            [1., 1.]])
    """
    _check(n_masks, grid, p)
    check_request(model, inputs, targets)
    if inputs.ndim != 4:
        raise InputError(f"rise: expected images (n, c, h, w), got shape {tuple(inputs.shape)}")
    images = inputs.detach().contiguous()
    n, channels, height, width = images.shape
    fill = baselines.draw(baseline, images, seed=seed)
    down, across = (enlargement(side, grid).to(images) for side in (height, width))
    cells, shifts = (part.to(images.device) for part in draw_masks(images, n_masks, grid, p, seed))
    v, u = (torch.arange(side, device=images.device) for side in (height, width))

    def masks(image: Tensor, sample: Tensor) -> Tensor:
        """(k, 1, h, w)"""
        top, left = shifts[image, sample].unbind(1)
        rows_of, columns_of = down[top[:, None] + v], across[left[:, None] + u]
        return (rows_of @ cells[image, sample].to(images) @ columns_of.mT)[:, None]

    def rows(index: Tensor) -> tuple[Tensor, Tensor]:
        image, sample = index // n_masks, index % n_masks
        return fill[image] + (images[image] - fill[image]) * masks(image, sample), targets[image]

    total = torch.zeros(n, height, width, dtype=torch.float64, device=images.device)
    for index, values in score_rows(model, rows, n * n_masks, images, score=score, max_batch=max_batch):
        image, sample = index // n_masks, index % n_masks
        total.index_add_(0, image, values.double()[:, None, None] * masks(image, sample)[:, 0].double())
    return (total / (n_masks * p * channels)).to(images)[:, None].expand_as(images).contiguous()


def draw_masks(inputs: Tensor, n_masks: int, grid: int, p: float, seed: int) -> tuple[Tensor, Tensor]:
    """The masks of each image in their small form, on the CPU.

    Args:
        inputs: (n, c, h, w).
        n_masks, grid, p, seed: as in `rise`.

    Returns:
        cells (n, n_masks, grid, grid) bool, and shifts (n, n_masks, 2) int64: rows and columns cut off at the upper left.
    """
    cell = torch.tensor([-(-side // grid) for side in inputs.shape[2:]], dtype=torch.float64)
    cells, shifts = [], []
    for image in inputs.detach().cpu():
        seen = torch.rand(n_masks, grid, grid, generator=image_generator(seed, "rise cells", image))
        place = torch.rand(n_masks, 2, dtype=torch.float64, generator=image_generator(seed, "rise shifts", image))
        cells.append(seen < p)
        shifts.append((place * cell).long())
    return torch.stack(cells), torch.stack(shifts)


def enlargement(side: int, grid: int) -> Tensor:
    """Bilinear weights of `grid` cells at each pixel of the enlarged mask, (grid + 1) ceil(side / grid) pixels long.

    Pixels and cells are squares whose centres carry the values; beyond the outermost centres the cells are mirrored there (as
    skimage's `resize` with mode "reflect").

    Returns:
        (pixels, grid) float64, rows sum to 1.

    >>> enlargement(2, 2)
    tensor([[0.8333, 0.1667],
            [0.5000, 0.5000],
            [0.1667, 0.8333]], dtype=torch.float64)
    """
    pixels = (grid + 1) * -(-side // grid)
    place = (torch.arange(pixels, dtype=torch.float64) + 0.5) * grid / pixels - 0.5
    place = place.abs()
    place = (grid - 1) - ((grid - 1) - place).abs()
    if grid == 1:
        place = torch.zeros_like(place)
    return (1 - (place[:, None] - torch.arange(grid, dtype=torch.float64)).abs()).clamp_min(0)


def _check(n_masks: int, grid: int, p: float) -> None:
    for name, value in (("n_masks", n_masks), ("grid", grid)):
        check_count(name, value)
    if isinstance(p, bool) or not isinstance(p, int | float) or not 0 < p <= 1:
        raise ConfigError(f"rise: p={p!r}, expected a probability in (0, 1], such as 0.5")
