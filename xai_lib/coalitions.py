"""What a model says of an image with some of its segments replaced: the one question that superpixel methods ask.

A coalition is a row of M booleans: which segments of the image are present; the pixels of the others take the fill's values.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from xai_lib import baselines, compute, segments
from xai_lib.chunks import default_max_batch
from xai_lib.types import Model, Spec

Design = Callable[[int], Tensor]
"""Image number -> its coalitions (S, M) bool; asked for when its turn comes."""


def fill(baseline: Spec, inputs: Tensor, labels: Tensor, *, seed: int = 0) -> Tensor:
    """What replaced pixels become.

    Args:
        baseline: "segment_mean" (the mean colour of the pixel's own segment, the lime package's default), or a registered
            baseline, {name: {parameters}} or callable.
        inputs: (n, c, h, w).
        labels: (n, h, w), from `segments.segment`.
        seed: for random baselines, drawn per image.

    Returns:
        Same shape as `inputs`.
    """
    if isinstance(baseline, str) and baseline == "segment_mean":
        return segments.segment_mean(inputs.detach(), labels)
    return baselines.draw(baseline, inputs.detach(), 0, seed=seed)


def responses(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    labels: Tensor,
    absent: Tensor,
    design: Design,
    *,
    score: Any = "logit",
    max_batch: int | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The scores of every image's coalitions; images follow each other in the same chunks, rows are made on demand.

    Args:
        model: inputs -> logits.
        inputs: (n, c, h, w).
        targets: (n,) int64.
        labels: (n, h, w), from `segments.segment`.
        absent: (n, c, h, w), from `fill`.
        design: the coalitions of an image.
        score: the explained scalar.
        max_batch: most rows (images x coalitions) per pass.

    Yields:
        For each image in order its coalitions (S, M) bool and their scores (S,) float64, both on the CPU.
    """
    like = inputs.detach()
    enough = default_max_batch(like) if max_batch is None else max_batch
    waiting: list[Tensor] = []
    for image in range(len(like)):
        waiting.append(design(image))
        if image + 1 < len(like) and sum(map(len, waiting)) < enough:
            continue
        group = slice(image + 1 - len(waiting), image + 1)
        rows = _rows(like[group], targets[group], labels[group], absent[group], waiting)
        made = compute.score_rows(model, rows, sum(map(len, waiting)), like, score=score, max_batch=max_batch)
        values = torch.cat([part for _, part in made]).double().cpu()
        yield from zip(waiting, values.split([len(own) for own in waiting]), strict=True)
        waiting = []


def _rows(inputs: Tensor, targets: Tensor, labels: Tensor, absent: Tensor, designs: list[Tensor]) -> compute.Rows:
    widest = max(own.shape[1] for own in designs)
    padded = [torch.nn.functional.pad(own, (0, widest - own.shape[1])) for own in designs]
    table = torch.cat(padded).to(inputs.device)
    sizes = torch.tensor([len(own) for own in designs])
    owner = torch.arange(len(designs)).repeat_interleave(sizes).to(inputs.device)
    flat = labels.flatten(1)

    def rows(index: Tensor) -> tuple[Tensor, Tensor]:
        image = owner[index]
        present = table[index].gather(1, flat[image]).reshape(len(index), 1, *labels.shape[1:])
        return torch.where(present, inputs[image], absent[image]), targets[image]

    return rows
