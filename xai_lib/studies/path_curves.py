"""Study `path_attribution`: insertion and deletion of many maps of the same images, whose curves share their ends."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, cast

import torch
from torch import Tensor, nn

from xai_lib import compute
from xai_lib.metrics.insertion import Curve, perturbation_curves
from xai_lib.metrics.insertion_curves import substrate
from xai_lib.studies.case import Case
from xai_lib.types import Model

TOGETHER = 16
"""Images whose maps are taken together."""


class Remembering(nn.Module):
    """A model that has answered some rows once and for all; every other row it asks the model.

    Known rows are found by the sum of their bits, in any memory layout, and then compared value by value. Where a gradient is
    wanted nothing is remembered.
    """

    def __init__(self, model: Model, rows: Tensor, max_batch: int | None = None) -> None:
        """`rows`: (k, ...) to be remembered."""
        super().__init__()
        self.training = False
        self.model, self.rows = model, rows
        self.input_shape = getattr(model, "input_shape", None)
        self.sums = _sums(rows)
        self.answers = compute.logits(model, rows, max_batch=max_batch)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits of the rows."""
        if inputs.requires_grad:
            return self._asked(inputs)
        pairs = (_sums(inputs)[:, None] == self.sums).nonzero().tolist()
        known = {k: j for k, j in pairs if torch.equal(inputs[k], self.rows[j])}
        if not known:
            return self._asked(inputs)
        out = self.answers.new_empty((len(inputs), self.answers.shape[1]))
        out[list(known)] = self.answers[list(known.values())]
        others = [k for k in range(len(inputs)) if k not in known]
        if others:
            out[others] = self._asked(inputs[others])
        return out

    def _asked(self, inputs: Tensor) -> Tensor:
        return cast(Tensor, self.model(inputs))


def _sums(rows: Tensor) -> Tensor:
    """(k,) int64: each row's values read as whole numbers, which add up to the same in any order."""
    bits = rows.detach().view({2: torch.int16, 4: torch.int32, 8: torch.int64}[rows.element_size()])
    return bits.sum(dim=tuple(range(1, rows.ndim)))


def curves_of(
    case: Case,
    attributions: Mapping[str, Tensor],
    games: Sequence[tuple[str, Any]],
    *,
    points: Any,
    tolerance: float,
    reduce: str = "sum",
) -> dict[str, list[Curve]]:
    """Curves of several maps of the same images, each as `perturbation_curves` gives them for one map.

    The ends of the curves, images and what takes the place of their pixels, are the same for every map and are asked once. Maps
    are taken together so that passes through the model are full where images are few.
    """
    n = len(case.inputs)
    fills = {str(spec): substrate(spec, case.model, case.inputs, seed=case.seed) for _, spec in games}
    model = Remembering(case.model, torch.cat([case.inputs, *fills.values()]), case.max_batch)
    own: dict[str, Any] = {"points": points, "tolerance": tolerance, "reduce": reduce}
    made: dict[str, list[Curve]] = {}
    for labels in batched(attributions, max(1, TOGETHER // n)):
        k = len(labels)
        inputs, targets = torch.cat([case.inputs] * k), case.targets.repeat(k)
        maps = torch.cat([attributions[label] for label in labels])
        found = perturbation_curves(model, inputs, targets, maps, games, **own, seed=case.seed, max_batch=case.max_batch)
        parts = [[part.split(n) for part in (c.fractions, c.scores, c.points, c.error)] for c in found]
        made |= {label: [Curve(*(part[j] for part in curve)) for curve in parts] for j, label in enumerate(labels)}
    return made


def batched(labels: Iterable[str], size: int) -> Iterator[tuple[str, ...]]:
    """Labels in groups."""
    left = iter(labels)
    while group := tuple(islice(left, size)):
        yield group
