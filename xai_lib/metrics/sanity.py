"""Does an explanation notice when the model's parameters, or the labels it learned, become random? (FIDELITY 8.13)

Maps are compared after channel reduction by a registered similarity (`xai_lib.similarity`), by default Spearman correlation.
Maps of unrelated models still agree where both follow the edges of the image: read every number against
`randomisation_floor`.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from xai_lib import compute, hooks, maps
from xai_lib.checks import check_count
from xai_lib.errors import ModelError
from xai_lib.metrics.checks import check_attributions, check_choice
from xai_lib.metrics.profile import bound_explainer
from xai_lib.randomness import key
from xai_lib.registry import METRICS
from xai_lib.similarity import bound_similarities
from xai_lib.types import Method, Model, Spec


def randomisation_table(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    attributions: Tensor | None,
    method: Method,
    *,
    order: str = "cascading",
    stages: int = 3,
    similarity: Spec = "spearman",
    absolute: bool | None = None,
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
        similarity: "spearman", "ssim", "hog", {name: {parameters}} or a callable (`xai_lib.similarity`).
        absolute: compare |map| instead of the signed map; None: as `similarity` says, signed if it says nothing.
        reduce: how channels become one map (`maps.reduce`).
        seed: of the random parameters; each layer draws its own.
        max_batch: most rows per pass; passed on to a method that takes it.

    Returns:
        names of the deepest layer of each stage, first the one nearest to the logits, and (stages, n) similarities in [-1, 1];
        NaN where one of the two maps is zero, constant, or holds NaN or infinity.

    Raises:
        ConfigError: unknown `order` or `similarity`, or `stages` out of range.
        InputError: maps that the similarity cannot compare, such as maps smaller than the window of SSIM.
        ModelError: the model is no torch module, or a layer cannot be randomised.

    Differs from Quantus 0.6.0 (MPRT), which gives layers of equal shape the same random weights.
    """
    names, tables = randomisation_tables(
        model, inputs, targets, attributions, method, similarities={"own": similarity}, order=order, stages=stages,
        absolute=absolute, reduce=reduce, seed=seed, max_batch=max_batch,
    )  # fmt: skip
    return names, tables["own"]


def randomisation_tables(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    attributions: Tensor | None,
    method: Method,
    *,
    similarities: Mapping[str, Spec],
    order: str = "cascading",
    stages: int = 3,
    absolute: bool | None = None,
    reduce: str = "sum",
    seed: int = 0,
    max_batch: int | None = None,
) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """`randomisation_table` for several similarities at the price of one: every map is made once.

    Args:
        similarities: label -> similarity, such as {"abs": {"spearman": {"absolute": True}}, "SSIM": "ssim"}; at least one.
        Others as in `randomisation_table`.

    Returns:
        names of the stages, and for each label (stages, n).
    """
    compare = bound_similarities(similarities, absolute)
    cascade = _cascade(model, inputs, targets, attributions, method, order, stages, seed, max_batch)
    given = maps.reduce(next(cascade)[1], reduce)
    found: dict[str, list[Tensor]] = {label: [] for label in compare}
    names = []
    for name, made in cascade:
        names.append(name)
        for label, function in compare.items():
            found[label].append(function(given, maps.reduce(made, reduce)))
    return tuple(names), {label: torch.stack(rows).to(inputs) for label, rows in found.items()}


def randomised_maps(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    method: Method,
    *,
    order: str = "cascading",
    stages: int = 3,
    seed: int = 0,
    max_batch: int | None = None,
) -> tuple[tuple[str, ...], Tensor]:
    """The attributions behind `randomisation_table`, for a strip of pictures; arguments as there. Keeps all in memory.

    Returns:
        "trained" and the names of the stages, and (1 + stages, n, ...) raw attributions.
    """
    made = list(_cascade(model, inputs, targets, None, method, order, stages, seed, max_batch))
    return tuple(name for name, _ in made), torch.stack([attributions for _, attributions in made])


def randomisation_floor(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    method: Method,
    *,
    similarity: Spec = "spearman",
    absolute: bool | None = None,
    reduce: str = "sum",
    seed: int = 0,
    max_batch: int | None = None,
) -> Tensor:
    """Similarity of the maps of two models whose parameters are all random and independent: what "unrelated" looks like.

    Arguments and NaN rule as in `randomisation_table`; (n,) in [-1, 1].
    """
    return randomisation_floors(
        model, inputs, targets, method, similarities={"own": similarity}, absolute=absolute, reduce=reduce, seed=seed,
        max_batch=max_batch,
    )["own"]  # fmt: skip


def randomisation_floors(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    method: Method,
    *,
    similarities: Mapping[str, Spec],
    absolute: bool | None = None,
    reduce: str = "sum",
    seed: int = 0,
    max_batch: int | None = None,
) -> dict[str, Tensor]:
    """`randomisation_floor` for several similarities at the price of one; arguments as in `randomisation_tables`."""
    compute.check_request(model, inputs, targets)
    compare = bound_similarities(similarities, absolute)
    explain = bound_explainer(method, max_batch)
    module = _module(model)
    (layers,) = hooks.layer_groups(module, 1)
    made = []
    for side in ("first", "second"):
        with hooks.randomised(module, layers, key("randomisation floor", side, seed)):
            made.append(maps.reduce(explain(model, inputs, targets), reduce))
    return {label: function(*made).to(inputs) for label, function in compare.items()}


def data_randomisation(
    model: Model,
    shuffled_model: Model,
    inputs: Tensor,
    targets: Tensor,
    attributions: Tensor | None,
    method: Method,
    *,
    shuffled_targets: Tensor | None = None,
    similarity: Spec = "spearman",
    absolute: bool | None = None,
    reduce: str = "sum",
    max_batch: int | None = None,
) -> Tensor:
    """Similarity of each map to that of a model with the same architecture, trained on permuted labels until it fits them.

    Lower in absolute value is better: what such a model has learned of an image's label has nothing to do with the image.

    Args:
        model: trained on the labels.
        shuffled_model: trained on permuted labels.
        targets: (n,) int64, explained of `model`.
        attributions: A(x) of `model` by the same `method`, or None to compute it here.
        shuffled_targets: (n,) int64, explained of `shuffled_model`; None: `targets`.
        similarity: as in `randomisation_table`; {"spearman": {"within": ink}} leaves out pixels that are zero in any map.
        Others as in `randomisation_table`.

    Returns:
        (n,) in [-1, 1]; NaN where one of the two maps is zero, constant, or holds NaN or infinity.

    >>> from xai_lib import METHODS, toys
    >>> x, t = torch.rand(1, 3, generator=torch.Generator().manual_seed(0)), torch.zeros(1, dtype=torch.int64)
    >>> one, other = toys.linear([[1.0, 2.0, 3.0]]), toys.linear([[2.0, 1.0, 3.0]])
    >>> data_randomisation(one, other, x, t, None, METHODS.bind("gradient"))
    tensor([0.5000])
    """
    compute.check_request(model, inputs, targets)
    other = targets if shuffled_targets is None else shuffled_targets
    compute.check_request(shuffled_model, inputs, other)
    compare = bound_similarities({"own": similarity}, absolute)["own"]
    explain = bound_explainer(method, max_batch)
    given = explain(model, inputs, targets) if attributions is None else attributions
    check_attributions(given, inputs)
    again = explain(shuffled_model, inputs, other)
    return compare(maps.reduce(given, reduce), maps.reduce(again, reduce)).to(inputs)


@METRICS.register(label="Model parameter randomisation", cite="adebayo2018", traits={"family": "randomisation"})
def model_parameter_randomisation(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    attributions: Tensor,
    method: Method,
    *,
    order: str = "cascading",
    stages: int = 3,
    similarity: Spec = "spearman",
    absolute: bool | None = None,
    reduce: str = "sum",
    seed: int = 0,
    max_batch: int | None = None,
) -> Tensor:
    """Mean over the stages of `randomisation_table` of the similarity of the map to its map under random parameters.

    Lower in absolute value is better: an explanation of the model must change with the model. Invariant to multiplying the
    method by a positive number. Arguments as in `randomisation_table`.

    Returns:
        (n,) in [-1, 1]. NaN where no stage is defined; stages that are not (a random model may have a zero map) are left out.

    Differs from the document: 000 averages Quantus's MPRT, which compares absolute maps, module by module.
    """
    table = randomisation_table(
        model, inputs, targets, attributions, method, order=order, stages=stages, similarity=similarity, absolute=absolute,
        reduce=reduce, seed=seed, max_batch=max_batch,
    )[1]  # fmt: skip
    return table.nanmean(dim=0)


def _cascade(
    model: Model, inputs: Tensor, targets: Tensor, attributions: Tensor | None, method: Method, order: str, stages: int,
    seed: int, max_batch: int | None,
) -> Iterator[tuple[str, Tensor]]:  # fmt: skip
    """("trained", A(x)), then (deepest layer, A(x)) of each stage, one at a time."""
    compute.check_request(model, inputs, targets)
    check_choice("order", order, ("cascading", "independent"))
    check_count("stages", stages)
    explain = bound_explainer(method, max_batch)
    given = explain(model, inputs, targets) if attributions is None else attributions
    check_attributions(given, inputs)
    module = _module(model)
    groups = hooks.layer_groups(module, stages)
    yield "trained", given
    for i, group in enumerate(groups):
        layers = [name for part in groups[: i + 1] for name in part] if order == "cascading" else group
        with hooks.randomised(module, layers, seed):
            again = explain(model, inputs, targets)
        yield group[-1], again


def _module(model: Model) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise ModelError(f"parameter randomisation needs a torch module, got {type(model).__name__}")
    return model
