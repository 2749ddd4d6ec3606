"""LIME: a weighted linear model of the answers to images with superpixels taken away (FIDELITY 6.5)."""

from typing import Any

import numpy as np
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


@METHODS.register(label="LIME", cite="ribeiro2016", traits={"family": "surrogate", "image": True, "random": True})
def lime_image(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    segments: Segmentation = "slic",
    baseline: Spec = "segment_mean",
    n_samples: int = 1000,
    kernel_width: float = 0.25,
    top: int | None = None,
    seed: int = 0,
    score: Any = "prob",
    max_batch: int | None = None,
) -> Tensor:
    """The weights w of min sum_j pi_j (f(x_j) - b - w z_j)^2 + |w|^2, with z_j random in {0, 1}^M and z_0 = 1.

    x_j shows the segments with z_j = 1 and the fill elsewhere; pi_j = exp(-d_j^2 / (2 s^2)), where d_j = 1 - sqrt(|z_j| / M) is
    the cosine distance between z_j and 1.

    Args:
        model: inputs -> logits.
        inputs: (n, c, h, w) in pixel space.
        targets: (n,) int64.
        segments: as in `feature_ablation`; the lime package's default is "quickshift".
        baseline: the fill, as there; the package calls it the hide colour, and takes the mean of each segment.
        n_samples: rows per image, the image itself among them, at least 2.
        kernel_width: s, above 0.
        top: keep the values of this many segments, those with the largest |w|, and set the others to 0; None keeps all.
        seed: of the coalitions, drawn per image, and of random baselines.
        score: the explained scalar f, the probability as in the package.
        max_batch: most rows (images x samples) per forward pass.

    Returns:
        Same shape as `inputs`, signed, in score units, laid out as in `feature_ablation`. The penalty shrinks w, the more the
        smaller the sum of the pi_j: compare within an image, not between numbers of samples.

    Raises:
        ConfigError: a bad count or width.
        InputError: as `feature_ablation`.

    Differs from the lime package, whose regression it calls: always the class asked for (there: class 1 by default), one
    generator per image, no progress bars. Differs from document 003, which took 500 samples, a black fill and `top=5`.

    >>> from xai_lib import toys
    >>> x, t = torch.ones(1, 1, 1, 2), torch.zeros(1, dtype=torch.int64)
    >>> own = {"segments": "grid", "baseline": "black", "score": "logit", "n_samples": 4000}
    >>> [round(value) for value in lime_image(toys.linear([[20.0, -10.0]]), x, t, **own).flatten().tolist()]
    [20, -10]
    """
    check_request(model, inputs, targets)
    if top is not None:
        check_count("top", top)
    labels = segment(segments, inputs)
    weights, _ = lime_weights(
        model, inputs, targets, labels, baseline=baseline, n_samples=n_samples, kernel_width=kernel_width, seed=seed,
        score=score, max_batch=max_batch,
    )  # fmt: skip
    return spread([_largest(own, top) for own in weights], labels, inputs)


def lime_weights(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    labels: Tensor,
    *,
    baseline: Spec = "segment_mean",
    n_samples: int = 1000,
    kernel_width: float = 0.25,
    seed: int = 0,
    score: Any = "prob",
    max_batch: int | None = None,
) -> tuple[list[Tensor], Tensor]:
    """The weights behind `lime_image` and how well they fit; arguments as there, `labels` from `segments.segment`.

    Returns:
        for each image w (M,) float64; and (n,) float64, the weighted R^2 of the fit on its own samples, at most 1.
    """
    check_count("n_samples", n_samples, least=2)
    if not kernel_width > 0:
        raise ConfigError(f"kernel_width={kernel_width}: expected a number above 0")
    absent, sizes = coalitions.fill(baseline, inputs, labels, seed=seed), counts(labels)

    def design(image: int) -> Tensor:
        own = image_generator(seed, "lime_image", inputs[image]).initial_seed() % 2**32
        return lime_design(sizes[image], n_samples, np.random.RandomState(own))

    made = coalitions.responses(model, inputs, targets, labels, absent, design, score=score, max_batch=max_batch)
    fits = [ridge(present, values, lime_kernel(present, kernel_width)) for present, values in made]
    return [weights for weights, _ in fits], torch.tensor([r2 for _, r2 in fits], dtype=torch.float64)


def lime_design(n_segments: int, n_samples: int, state: Any) -> Tensor:
    """Coalitions (n_samples, n_segments) bool as the lime package draws them from a numpy RandomState; the first is full."""
    present = torch.from_numpy(state.randint(0, 2, n_samples * n_segments).reshape(n_samples, n_segments) == 1)
    present[0] = True
    return present


def lime_kernel(present: Tensor, kernel_width: float) -> Tensor:
    """Weights of coalitions (S, M) bool.

    Returns:
        (S,) float64 in (0, 1]: exp(-d^2 / (2 s^2)), d = 1 - sqrt(|z| / M), 1 for the full coalition.

    >>> lime_kernel(torch.tensor([[True, True, True, True], [True, False, False, False]]), 0.25)
    tensor([1.0000, 0.1353], dtype=torch.float64)
    """
    distances = 1 - present.double().mean(dim=1).sqrt()
    return (-(distances**2) / (2 * kernel_width**2)).exp()


def ridge(present: Tensor, values: Tensor, weights: Tensor) -> tuple[Tensor, float]:
    """The lime package's surrogate: weighted ridge regression with an intercept and penalty 1.

    Args:
        present: (S, M) bool.
        values: (S,), what is fitted.
        weights: (S,), at least 0.

    Returns:
        w (M,) float64, and the weighted R^2.

    >>> present = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    >>> ridge(present, 2 * present[:, 0] - present[:, 1] + 0.5, torch.ones(4))[0]
    tensor([ 1.0000, -0.5000], dtype=torch.float64)
    """
    from lime.lime_base import LimeBase

    base = LimeBase(kernel_fn=lambda given: given, random_state=0)
    data, answers = present.double().numpy(), values.double().numpy()[:, None]
    _, found, r2, _ = base.explain_instance_with_data(
        data, answers, weights.double().numpy(), 0, data.shape[1], feature_selection="none"
    )
    return torch.tensor([weight for _, weight in sorted(found)], dtype=torch.float64), float(r2)


def _largest(weights: Tensor, top: int | None) -> Tensor:
    """The `top` largest |w|, zeros elsewhere; of equal ones the first segments."""
    if top is None or top >= len(weights):
        return weights
    kept = weights.abs().argsort(descending=True, stable=True)[:top]
    return torch.zeros_like(weights).index_copy(0, kept, weights[kept])
