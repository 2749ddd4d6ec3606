"""What is predicted at given amounts of a perturbation, and which classes images go to."""

from collections.abc import Sequence

import torch
from torch import Tensor

from xai_lib import compute
from xai_lib.counterfactuals.search import Scan, classes_at
from xai_lib.errors import ConfigError, InputError
from xai_lib.types import Model, Spec


def predictions(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    perturbation: Spec,
    amounts: Sequence[float],
    *,
    max_batch: int | None = None,
) -> Tensor:
    """The class predicted for every image at every signed amount of a perturbation.

    Args:
        model, inputs, targets, perturbation, max_batch: as in `minimal_perturbation`; targets are only checked.
        amounts: k signed amounts, for instance (5, 6, -5, -6) for "cover_rows": five or six rows from the top, or the bottom.

    Returns:
        (n, k) int64.

    Raises:
        ConfigError, InputError, ModelError: as `minimal_perturbation`; ConfigError where there are no amounts.

    >>> from xai_lib import toys
    >>> model = toys.Formula(lambda x: x.flatten(1)[:, :2])
    >>> x = torch.tensor([[0.9, 0.5]]).reshape(1, 1, 2, 1)
    >>> predictions(model, x, torch.zeros(1, dtype=torch.int64), "cover_rows", (0, 1, -1)).tolist()
    [[0, 1, 0]]
    """
    compute.check_request(model, inputs, targets)
    if not len(amounts):
        raise ConfigError("amounts=(): expected at least one")
    asked = Scan(model, inputs, targets, perturbation, "both", 1.0, max_batch)
    signed = torch.tensor([float(a) for a in amounts], dtype=torch.float64, device=inputs.device)
    image = torch.arange(len(inputs), device=inputs.device).repeat(len(signed))
    made = classes_at(asked, asked.perturb, image, signed.repeat_interleave(len(inputs)))
    return made.reshape(len(signed), len(inputs)).T


def transitions(before: Tensor, after: Tensor, classes: int) -> Tensor:
    """How many images go from each class (row) to each class (column).

    Args:
        before: (n,) int64.
        after: (n,) int64; negative where an image went nowhere, which is not counted.
        classes: how many there are.

    Returns:
        (classes, classes) int64.

    Raises:
        InputError: different lengths, or a class beyond `classes`.

    >>> transitions(torch.tensor([0, 0, 1]), torch.tensor([1, 1, -1]), 2)
    tensor([[0, 2],
            [0, 0]])
    """
    if before.shape != after.shape or before.ndim != 1:
        raise InputError(f"transitions: classes of shape {tuple(before.shape)} and {tuple(after.shape)}; expected (n,) twice")
    if len(before) and (int(torch.maximum(before, after).max()) >= classes or int(before.min()) < 0):
        raise InputError(f"transitions: classes must be 0 to {classes - 1}")
    went = after >= 0
    return torch.bincount(before[went] * classes + after[went], minlength=classes**2).reshape(classes, classes)
