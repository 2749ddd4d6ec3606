"""Expected Gradients: one integral over the line and over the references (FIDELITY 5.1)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from xai_lib import baselines
from xai_lib.compute import check_request
from xai_lib.errors import ConfigError
from xai_lib.paths import Nodes, path_integral
from xai_lib.randomness import per_image
from xai_lib.registry import METHODS
from xai_lib.types import Model, Spec


@METHODS.register(
    label="Expected Gradients",
    cite="erion2021",
    traits={"family": "path integral", "gradient": True, "random": True, "linear": True},
)
def expected_gradients(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    baseline: Spec = "uniform",
    n_references: int | None = None,
    steps: int = 150,
    seed: int = 0,
    score: Any = "logit",
    max_batch: int | None = None,
) -> Tensor:
    """A_i = E_{x' ~ D, a ~ U(0,1)} [(x_i - x'_i) df(x' + a (x - x'))/dx_i], the mean of random samples (x', a).

    Args:
        model: inputs -> logits.
        inputs: (n, ...) in pixel space.
        targets: (n,) int64.
        baseline: D, a random baseline (`dataset_samples` for the authors' training images); with `n_references=1` any.
            Reference number r is `baselines.draw(baseline, inputs, r, seed=seed)`.
        n_references: None = a fresh reference with every sample (the authors' sampler, R = steps with one a each); or R,
            at least 1.
        steps: positions a drawn for each of the R references; None above: number of samples. At least 1.
        seed: references and positions are drawn per image.
        score: the explained scalar.
        max_batch: most rows (images x samples) per pass.

    Returns:
        Same shape as `inputs`. Unbiased; sums to f(x) - E f(x') in expectation, so that a gap shows the sampling error.

    Raises:
        ConfigError: a deterministic baseline with more than one reference, or a bad count.
        InputError, ModelError: see `compute.check_request` and `baselines.draw`.

    Differs from document 001: its 3 x 50 is `n_references=3, steps=50`, its 150 x 1 the default; its references are not stated.
    Differs from the authors' code: references are drawn for each image with replacement, not dealt out to the batch.

    >>> from xai_lib import toys
    >>> bank = torch.tensor([[3.0, 0.0]])
    >>> x, t = torch.tensor([[1.0, 1.0]]), torch.zeros(1, dtype=torch.int64)
    >>> spec = {"dataset_samples": {"reference": bank}}
    >>> expected_gradients(toys.linear([[2.0, -3.0]]), x, t, baseline=spec, steps=4)
    tensor([[-4., -3.]])
    """
    check_request(model, inputs, targets)
    _check_counts(steps, n_references, baseline)
    each = 1 if n_references is None else steps
    samples = steps if n_references is None else n_references * steps
    inputs = inputs.detach()
    positions = per_image(inputs, seed, "expected_gradients", lambda x, g: torch.rand(samples, generator=g))
    reference = _references(baseline, inputs, seed)

    def point(image: Tensor, node: Tensor) -> Tensor:
        start = reference(image, node // each)
        along = positions[image, node].reshape(-1, *[1] * (inputs.ndim - 1))
        return torch.addcmul(start, along, inputs[image] - start)

    def segment(image: Tensor, node: Tensor) -> Tensor:
        return (inputs[image] - reference(image, node // each)) / samples

    return path_integral(model, targets, Nodes(inputs, samples, point, segment), score=score, max_batch=max_batch)


def _references(baseline: Spec, inputs: Tensor, seed: int) -> Callable[[Tensor, Tensor], Tensor]:
    """(image numbers, reference numbers) -> references. Only those of the last chunk are kept."""
    if not baselines.is_random(baseline):
        fixed = baselines.draw(baseline, inputs, seed=seed)
        return lambda image, number: fixed[image]
    kept: dict[tuple[int, int], Tensor] = {}

    def drawn(image: Tensor, number: Tensor) -> Tensor:
        nonlocal kept
        pairs = list(zip(image.tolist(), number.tolist(), strict=True))
        kept = {
            (i, r): kept[i, r] if (i, r) in kept else baselines.draw(baseline, inputs[i : i + 1], r, seed=seed)[0]
            for i, r in dict.fromkeys(pairs)
        }
        return torch.stack([kept[pair] for pair in pairs])

    return drawn


def _check_counts(steps: Any, n_references: Any, baseline: Spec) -> None:
    counts = {"steps": steps} if n_references is None else {"steps": steps, "n_references": n_references}
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ConfigError(f"{name}={count!r}: expected an integer of at least 1")
    if n_references != 1 and not baselines.is_random(baseline):
        raise ConfigError(
            f"n_references={n_references} with baseline {baseline!r}: it is the same image every time; "
            "use a random baseline, n_references=1, or integrated_gradients"
        )
