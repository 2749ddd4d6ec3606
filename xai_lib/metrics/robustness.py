"""Four robustness metrics, each a selection of `robustness_profile` (FIDELITY 8.1 to 8.3).

Where more than one is wanted, call `robustness_profile` once: the four share their perturbed images and re-explanations.
"""

from torch import Tensor

from xai_lib.metrics.profile import robustness_profile
from xai_lib.registry import METRICS
from xai_lib.types import Method, Model


@METRICS.register(label="Max-Sensitivity", cite="yeh2019", traits={"family": "robustness"})
def max_sensitivity(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    attributions: Tensor,
    method: Method,
    *,
    n_samples: int = 10,
    radius: float = 0.02,
    noise: str = "uniform",
    reduce: str = "sum",
    normalise: str = "none",
    seed: int = 0,
    max_batch: int | None = None,
) -> Tensor:
    """Largest relative change of the map, max_j ||A(x + d_j) - A(x)|| / ||A(x)||. Lower is more robust.

    Arguments, NaN rule and differences as in `robustness_profile`; at least `avg_sensitivity` for the same arguments. Invariant
    to multiplying the explainer by any number but 0.

    Returns:
        (n,), at least 0, no unit.
    """
    return robustness_profile(
        model, inputs, targets, attributions, method, n_samples=n_samples, radius=radius, noise=noise, reduce=reduce,
        normalise=normalise, seed=seed, max_batch=max_batch,
    )["max_sensitivity"]  # fmt: skip


@METRICS.register(label="Avg-Sensitivity", cite="yeh2019", traits={"family": "robustness"})
def avg_sensitivity(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    attributions: Tensor,
    method: Method,
    *,
    n_samples: int = 10,
    radius: float = 0.02,
    noise: str = "uniform",
    reduce: str = "sum",
    normalise: str = "none",
    seed: int = 0,
    max_batch: int | None = None,
) -> Tensor:
    """Mean relative change of the map, mean_j ||A(x + d_j) - A(x)|| / ||A(x)||. Lower is more robust.

    Arguments, NaN rule and differences as in `robustness_profile`. Invariant to multiplying the explainer by any number but 0.

    Returns:
        (n,), at least 0, no unit.
    """
    return robustness_profile(
        model, inputs, targets, attributions, method, n_samples=n_samples, radius=radius, noise=noise, reduce=reduce,
        normalise=normalise, seed=seed, max_batch=max_batch,
    )["avg_sensitivity"]  # fmt: skip


@METRICS.register(label="Local Lipschitz estimate", cite="alvarezmelis2018robustness", traits={"family": "robustness"})
def local_lipschitz_estimate(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    attributions: Tensor,
    method: Method,
    *,
    n_samples: int = 10,
    radius: float = 0.02,
    noise: str = "uniform",
    reduce: str = "sum",
    normalise: str = "max_abs",
    seed: int = 0,
    max_batch: int | None = None,
) -> Tensor:
    """Largest change of the map per change of the image, max_j ||A(x + d_j) - A(x)|| / ||d_j||. Lower is more robust.

    Arguments, NaN rule and differences as in `robustness_profile`. With normalise="none" it grows with the scale of the
    explainer and is in its units per input unit; normalised, it is invariant to that scale.

    Returns:
        (n,), at least 0.
    """
    return robustness_profile(
        model, inputs, targets, attributions, method, n_samples=n_samples, radius=radius, noise=noise, reduce=reduce,
        lipschitz_normalise=normalise, seed=seed, max_batch=max_batch,
    )["local_lipschitz_estimate"]  # fmt: skip


@METRICS.register(label="Relative output stability", cite="agarwal2022", traits={"family": "robustness"})
def relative_output_stability(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    attributions: Tensor,
    method: Method,
    *,
    n_samples: int = 10,
    radius: float = 0.02,
    noise: str = "uniform",
    reduce: str = "sum",
    normalise: str = "none",
    eps_min: float = 1e-6,
    log: bool = False,
    same_prediction: bool = True,
    seed: int = 0,
    max_batch: int | None = None,
) -> Tensor:
    """Largest relative change of the map per change of the logits, max_j ||(A(x + d_j) - A(x)) / A(x)|| / ||h_j - h||.

    Lower is more robust. The division is pixel by pixel, so that single near-zero pixels decide: the distribution over images
    is heavy-tailed, use medians or `log`. Arguments, NaN rule and differences as in `robustness_profile`. Invariant to
    multiplying the explainer by any number but 0 (where no pixel is exactly 0).

    Returns:
        (n,), at least 0 (any number if `log`), in 1 / logit.
    """
    return robustness_profile(
        model, inputs, targets, attributions, method, n_samples=n_samples, radius=radius, noise=noise, reduce=reduce,
        normalise=normalise, eps_min=eps_min, log=log, same_prediction=same_prediction, seed=seed, max_batch=max_batch,
    )["relative_output_stability"]  # fmt: skip
