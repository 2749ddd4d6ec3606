"""Does an explanation notice when the model's parameters are replaced by random ones? (FIDELITY 8.13)

Similarity is the Spearman correlation of channel-reduced maps, signed or absolute; it does not depend on the scale of a map, so
nothing is normalised. Absolute maps of unrelated models still agree where both follow the edges of the image: read every number
against `randomisation_floor`.
"""

import torch
from torch import Tensor, nn

from xai_lib import agreement, compute, hooks, maps
from xai_lib.errors import ModelError
from xai_lib.metrics.checks import check_attributions, check_choice, check_count
from xai_lib.metrics.profile import bound_explainer
from xai_lib.randomness import key
from xai_lib.registry import METRICS
from xai_lib.types import Method, Model


def randomisation_table(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    attributions: Tensor | None,
    method: Method,
    *,
    order: str = "cascading",
    stages: int = 3,
    absolute: bool = False,
    reduce: str = "sum",
    seed: int = 0,
    max_batch: int | None = None,
) -> tuple[tuple[str, ...], Tensor]:
    """Similarity of each map to the map of the same image under ever more, or one by one, random layers.

    Args:
        model: torch module; it is put back as it was.
        inputs: (n, ...) in pixel space.
        targets: (n,) int64, kept for every stage.
        attributions: A(x) of the trained model by the same `method`, or None to compute it here.
        method: bound method, called with (model, inputs, targets).
        order: "cascading", from the logits down, cumulatively; or "independent", one group of layers at a time.
        stages: groups the layers with parameters are divided into, 1 to their number (`hooks.layer_groups`).
        absolute: compare |map| instead of the signed map.
        reduce: how channels become one map (`maps.reduce`).
        seed: of the random parameters; each layer draws its own.
        max_batch: most rows per pass; passed on to a method that takes it.

    Returns:
        names of the deepest layer of each stage, first the one nearest to the logits, and (stages, n) correlations in [-1, 1];
        NaN where one of the two maps is zero, constant, or holds NaN or infinity.

    Raises:
        ConfigError: unknown `order`, or `stages` out of range.
        ModelError: the model is no torch module, or a layer cannot be randomised.

    Differs from Quantus 0.6.0 (MPRT), which gives layers of equal shape the same random weights.
    """
    compute.check_request(model, inputs, targets)
    check_choice("order", order, ("cascading", "independent"))
    check_count("stages", stages)
    explain = bound_explainer(method, max_batch)
    given = explain(model, inputs, targets) if attributions is None else attributions
    check_attributions(given, inputs)
    module = _module(model)
    groups = hooks.layer_groups(module, stages)
    rows = []
    for i, group in enumerate(groups):
        layers = [name for part in groups[: i + 1] for name in part] if order == "cascading" else group
        with hooks.randomised(module, layers, seed):
            again = explain(model, inputs, targets)
        rows.append(_similarity(given, again, reduce, absolute))
    return tuple(group[-1] for group in groups), torch.stack(rows).to(inputs)


def randomisation_floor(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    method: Method,
    *,
    absolute: bool = False,
    reduce: str = "sum",
    seed: int = 0,
    max_batch: int | None = None,
) -> Tensor:
    """Similarity of the maps of two models whose parameters are all random and independent: what "unrelated" looks like.

    Arguments as in `randomisation_table`.

    Returns:
        (n,) in [-1, 1], same NaN rule.
    """
    compute.check_request(model, inputs, targets)
    explain = bound_explainer(method, max_batch)
    module = _module(model)
    (layers,) = hooks.layer_groups(module, 1)
    made = []
    for side in ("first", "second"):
        with hooks.randomised(module, layers, key("randomisation floor", side, seed)):
            made.append(explain(model, inputs, targets))
    return _similarity(made[0], made[1], reduce, absolute).to(inputs)


@METRICS.register(label="Model parameter randomisation", cite="adebayo2018")
def model_parameter_randomisation(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    attributions: Tensor,
    method: Method,
    *,
    order: str = "cascading",
    stages: int = 3,
    absolute: bool = False,
    reduce: str = "sum",
    seed: int = 0,
    max_batch: int | None = None,
) -> Tensor:
    """Mean over the stages of `randomisation_table`: Spearman correlation of the map with its map under random parameters.

    Lower in absolute value is better: an explanation of the model must change with the model. Invariant to multiplying the
    method by a positive number.

    Arguments as in `randomisation_table`.

    Returns:
        (n,) in [-1, 1]. NaN where no stage is defined; stages that are not (a random model may have a zero map) are left out.

    Differs from the document: 000 averages Quantus's MPRT, which compares absolute maps, module by module.
    """
    table = randomisation_table(
        model, inputs, targets, attributions, method, order=order, stages=stages, absolute=absolute, reduce=reduce,
        seed=seed, max_batch=max_batch,
    )[1]  # fmt: skip
    return table.nanmean(dim=0)


def _module(model: Model) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise ModelError(f"parameter randomisation needs a torch module, got {type(model).__name__}")
    return model


def _similarity(first: Tensor, second: Tensor, reduce: str, absolute: bool) -> Tensor:
    pair = [maps.reduce(attributions, reduce) for attributions in (first, second)]
    finite = torch.isfinite(torch.stack(pair)).flatten(2).all(dim=2).all(dim=0)
    pair = [(one.abs() if absolute else one).masked_fill(~finite.reshape(-1, *[1] * (one.ndim - 1)), 0.0) for one in pair]
    return torch.as_tensor(agreement.rank_correlation(*pair))
