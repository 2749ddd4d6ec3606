"""DeepLIFT with the Rescale rule, its mean over baselines, and GradientSHAP (FIDELITY 3.8, 5.1, 6.6)."""

from typing import Any

import torch
from torch import Tensor

from xai_lib import baselines
from xai_lib.checks import check_count
from xai_lib.compute import check_request, gradient_rows
from xai_lib.errors import ConfigError
from xai_lib.methods.expected import _references
from xai_lib.models.rescale import Rescaled
from xai_lib.paths import Nodes, path_integral
from xai_lib.randomness import digest, key, per_image
from xai_lib.registry import METHODS
from xai_lib.types import Model, Spec


@METHODS.register(
    label="DeepLIFT (Rescale)", cite="shrikumar2017", traits={"family": "modified backpropagation", "gradient": True}
)
def deeplift(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    baseline: Spec = "black",
    seed: int = 0,
    max_batch: int | None = None,
) -> Tensor:
    """A_i = m_i (x_i - x'_i): the chain rule with delta out / delta in for the derivative of every activation.

    Deltas are differences between the passes of x and of its baseline x'. Activations with one input (also ReLU6 and other
    clamps, GELU, SiLU, sigmoid): m = delta out / delta in, the derivative where |delta in| is at the level of rounding. Max
    pooling: what the maximum gained goes to the place of the maximum in x, what it lost to that in x' (to that in x where x'
    is as large there), divided by delta in there. A product a b of two activations: (b + b') / 2 for a and (a + a') / 2 for
    b, its Shapley values. Linear layers as usual.

    Args:
        model: inputs -> logits; any callable. Its calls may not depend on the values of the inputs.
        inputs: (n, ...) in pixel space.
        targets: (n,) int64; the logit is explained.
        baseline: x': registered name, {name: {parameters}} or callable; a random one is its draw number 0 under `seed`.
        seed: for random baselines.
        max_batch: most rows per pass; x and x' go in passes of their own.

    Returns:
        Same shape as `inputs`, in logits; sums to f(x) - f(x') up to rounding (`completeness_gap`).

    Raises:
        UnsupportedModelError: an operation without a rule, named (softmax or layer normalisation inside the net, attention, a
            maximum of two activations), a mask made from the inputs, or other calls for x than for x'.
        InputError, ModelError: see `compute.check_request` and `baselines.draw`.

    Differs from Captum: that multiplies by the plain gradient at ReLU6, functional and shared activations, drops the rule of
    a pool right after a ReLU (LeNet, VGG), and where pooling windows overlap it loses what they share. Differs from the
    paper: neither max pooling nor products have a rule there.

    >>> from xai_lib import toys
    >>> x = torch.tensor([[1.0, 1.0], [0.0, 3.0]])
    >>> deeplift(toys.two_relu(), x, torch.zeros(2, dtype=torch.int64))
    tensor([[ 6., -3.],
            [ 0., -4.]])
    """
    check_request(model, inputs, targets)
    return _mean_contributions(model, inputs, targets, baseline, 1, seed, max_batch, "deeplift")


@METHODS.register(
    label="DeepSHAP", cite="lundberg2017", traits={"family": "modified backpropagation", "gradient": True, "random": True}
)
def deep_shap(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    baseline: Spec = "uniform",
    n_baselines: int = 10,
    seed: int = 0,
    max_batch: int | None = None,
) -> Tensor:
    """A = (1/B) sum_b deeplift(x; x'_b), b = 1..B.

    Args:
        baseline: a random baseline (`dataset_samples` for training images); number b is `baselines.draw(baseline, x, b)`.
        n_baselines: B, at least 1.
        model, inputs, targets, seed, max_batch: as in `deeplift`.

    Returns:
        Same shape as `inputs`; sums to f(x) - mean_b f(x'_b) (`completeness_gap` with the same `n_baselines` and `seed`).

    Raises:
        ConfigError: B below 1, or more than one copy of a deterministic baseline. Else as `deeplift`.

    Differs from the shap package: there a random subset of the data is the same set of baselines for all images.
    """
    check_request(model, inputs, targets)
    check_count("n_baselines", n_baselines)
    if n_baselines > 1 and not callable(baseline) and not baselines.is_random(baseline):
        raise ConfigError(
            f"n_baselines={n_baselines} with baseline {baseline!r}: it is the same image every time; "
            "use a random baseline, or deeplift"
        )
    return _mean_contributions(model, inputs, targets, baseline, n_baselines, seed, max_batch, "deep_shap")


@METHODS.register(
    label="GradientSHAP",
    cite="lundberg2017",
    traits={"family": "path integral", "gradient": True, "random": True, "linear": True},
)
def gradient_shap(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    baseline: Spec = "uniform",
    n_samples: int = 50,
    noise_fraction: float = 0.0,
    sigma: float | None = None,
    seed: int = 0,
    score: Any = "logit",
    max_batch: int | None = None,
) -> Tensor:
    """A = mean_j (x + e_j - x'_j) df(x'_j + a_j (x + e_j - x'_j))/dx, a_j ~ U(0, 1), e_j ~ N(0, sigma^2), x'_j drawn.

    Without noise this is `expected_gradients` with `steps=n_samples`, number for number.

    Args:
        model: inputs -> logits.
        inputs: (n, ...) in pixel space.
        targets: (n,) int64.
        baseline: registered name, {name: {parameters}} or callable; sample j uses `baselines.draw(baseline, x, j, seed=seed)`.
        n_samples: j = 1..J, at least 1.
        noise_fraction: sigma as a fraction of the image's max - min.
        sigma: absolute standard deviation in input units; overrides `noise_fraction`.
        seed: positions, noise and baselines are drawn per image.
        score: the explained scalar.
        max_batch: most rows (images x samples) per pass.

    Returns:
        Same shape as `inputs`. Sums in expectation to E f(x + e) - E f(x').

    Raises:
        ConfigError: a bad number.
        InputError, ModelError: see `compute.check_request` and `baselines.draw`.

    Differs from Captum: that draws from PyTorch's and NumPy's global generators, and each row of the batch from one pool.

    >>> from xai_lib import toys
    >>> x, t = torch.tensor([[1.0, 1.0]]), torch.zeros(1, dtype=torch.int64)
    >>> gradient_shap(toys.linear([[2.0, -3.0]]), x, t, baseline="black")
    tensor([[ 2.0000, -3.0000]])
    """
    check_request(model, inputs, targets)
    check_count("n_samples", n_samples)
    if noise_fraction < 0 or (sigma is not None and sigma < 0):
        raise ConfigError(f"noise_fraction={noise_fraction}, sigma={sigma}: expected numbers of at least 0")
    inputs = inputs.detach()
    positions = per_image(inputs, seed, "expected_gradients", lambda x, g: torch.rand(n_samples, generator=g))
    reference = _references(baseline, inputs, seed)
    flat = inputs.flatten(1)
    spread = noise_fraction * (flat.amax(1) - flat.amin(1)) if sigma is None else torch.full_like(flat[:, 0], sigma)
    names = [digest(image) for image in inputs]

    def end(image: Tensor, sample: Tensor) -> Tensor:
        if not bool(spread.any()):
            return inputs[image]
        generators = [
            torch.Generator().manual_seed(key(seed, "gradient_shap", names[i], j))
            for i, j in zip(image.tolist(), sample.tolist(), strict=True)
        ]
        noise = torch.stack([torch.randn(inputs.shape[1:], generator=g) for g in generators]).to(inputs)
        return inputs[image] + _as_rows(spread[image], inputs) * noise

    def point(image: Tensor, sample: Tensor) -> Tensor:
        start = reference(image, sample)
        return torch.addcmul(start, _as_rows(positions[image, sample], inputs), end(image, sample) - start)

    def segment(image: Tensor, sample: Tensor) -> Tensor:
        return (end(image, sample) - reference(image, sample)) / n_samples

    return path_integral(model, targets, Nodes(inputs, n_samples, point, segment), score=score, max_batch=max_batch)


def _as_rows(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (like.ndim - 1))


def _mean_contributions(
    model: Model, inputs: Tensor, targets: Tensor, baseline: Spec, count: int, seed: int, max_batch: int | None, method: str
) -> Tensor:
    """Mean over baselines of multiplier x (x - x'); row i of the work is image i mod n with baseline i // n."""
    inputs, n = inputs.detach(), len(inputs)
    starts: dict[int, Tensor] = {}
    pair = Rescaled(model, method)

    def rows(index: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal starts
        numbers = (index // n).unique().tolist()
        starts = {b: starts[b] if b in starts else baselines.draw(baseline, inputs, b, seed=seed) for b in numbers}
        pair.references = torch.stack([starts[i // n][i % n] for i in index.tolist()])
        return inputs[index % n], targets[index % n]

    total = torch.zeros_like(inputs, memory_format=torch.contiguous_format)
    for index, multipliers in gradient_rows(pair, rows, n * count, inputs, max_batch=max_batch):
        difference = inputs[index % n] - pair.references
        total.index_add_(0, index % n, multipliers * difference / count)
    return total
