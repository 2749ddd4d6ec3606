"""Anchors: segments that hold a prediction whatever happens to the others (FIDELITY 6.7).

Our own, from the paper: the authors' package (anchor-exp 0.0.2.0) asks for spaCy and is no longer released, the maintained one
(alibi 0.9.6) is under the Business Source Licence and asks for numpy below 2.
"""

from functools import partial

import torch
from torch import Tensor

from xai_lib import coalitions
from xai_lib.anchor_search import Anchor, Settings, search
from xai_lib.compute import check_request
from xai_lib.randomness import image_generator
from xai_lib.registry import METHODS
from xai_lib.segments import Segmentation, counts, segment, spread
from xai_lib.types import Model, Spec


@METHODS.register(
    label="Anchors", cite="ribeiro2018", traits={"family": "surrogate", "image": True, "random": True, "positive": True}
)
def anchors_image(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    segments: Segmentation = "slic",
    baseline: Spec = "segment_mean",
    threshold: float = 0.95,
    delta: float = 0.05,
    epsilon: float = 0.1,
    tolerance: float = 0.05,
    beam_size: int = 1,
    draws: int = 100,
    max_rows: int = 1000,
    max_segments: int | None = None,
    seed: int = 0,
    max_batch: int | None = None,
) -> Tensor:
    """1 on the fewest segments A with P(arg max f(z) = t | A present) >= threshold, 0 elsewhere.

    In z each segment outside A is replaced with probability 1/2. A beam search from the empty rule: every rule of the beam is
    extended by every segment, KL-LUCB keeps the `beam_size` most precise, and the first that passes the test is the anchor. A
    rule of k segments covers 2^-k of all z, so that the shortest covers most.

    Args:
        model: inputs -> logits.
        inputs: (n, c, h, w) in pixel space.
        targets: (n,) int64, the class t.
        segments, baseline: as in `feature_ablation`; the authors take "quickshift" and the mean of each segment.
        threshold: of the precision, in (0, 1).
        delta: probability of a wrong choice or test, in (0, 1).
        epsilon: by how much a rule that is kept may be less precise than one that is not, in (0, 1).
        tolerance: by how much the lower bound of an anchor's precision may lie below the threshold, in (0, 1).
        beam_size: rules kept of each size, at least 1.
        draws: images drawn at a time, at least 1.
        max_rows: most images drawn to choose the rules of one size, and most to test one rule (at least `draws`). A choice that
            this ends is made by the means, a test that it ends is not passed; `Anchor.settled` says so.
        max_segments: longest rule tried; None = all segments, which is always an anchor.
        seed: of the images drawn, per image, and of random baselines.
        max_batch: most rows per forward pass.

    Returns:
        Same shape as `inputs`, 0 or 1/c in each channel, so that `maps.reduce(..., "sum")` is 1 on the anchor. All zero where
        no perturbation changes the class (the empty rule is the anchor), where none was found, and where the model does not
        predict t for the image itself; `anchors` tells which, with precision and coverage.

    Raises:
        ConfigError: a number out of range.
        InputError: as `feature_ablation`.

    Differs from the authors' code: a rule is tested on images drawn after it was chosen (those that made it the best of many
    flatter it), the empty rule is tested as the others are, coverage is exact, not sampled, ties are broken at random, and the
    number of rows is bounded.

    >>> from xai_lib import toys
    >>> both = toys.Formula(lambda x: x[:, 0, 0, :2].prod(dim=1) - 0.5)
    >>> x, t = torch.ones(1, 1, 1, 3), torch.zeros(1, dtype=torch.int64)
    >>> anchors_image(both, x, t, segments="grid", baseline="black").flatten().tolist()
    [1.0, 1.0, 0.0]
    """
    settings = Settings(threshold, delta, epsilon, tolerance, beam_size, draws, max_rows, max_segments)
    check_request(model, inputs, targets)
    labels = segment(segments, inputs)
    made = anchors(model, inputs, targets, labels, settings, baseline=baseline, seed=seed, max_batch=max_batch)
    inside = [torch.zeros(size) for size in counts(labels)]
    for own, anchor in zip(inside, made, strict=True):
        own[list(anchor.segments if anchor.found else ())] = 1
    return spread(inside, labels, inputs)


def anchors(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    labels: Tensor,
    settings: Settings,
    *,
    baseline: Spec = "segment_mean",
    seed: int = 0,
    max_batch: int | None = None,
) -> list[Anchor]:
    """The rules behind `anchors_image`; arguments as there, `labels` from `segments.segment`.

    Returns:
        for each image its anchor, or the most precise rule of the last size tried; no segments and precision 0 where the model
        does not predict t for the image itself.
    """
    absent = coalitions.fill(baseline, inputs, labels, seed=seed)
    found = []
    for image, size in enumerate(counts(labels)):
        one = slice(image, image + 1)
        ask = partial(_stays, model, inputs[one], targets[one], labels[one], absent[one], max_batch)
        generator = image_generator(seed, "anchors_image", inputs[image])
        found.append(search(ask, size, generator, settings))
    return found


def _stays(
    model: Model, image: Tensor, target: Tensor, labels: Tensor, absent: Tensor, max_batch: int | None, present: Tensor
) -> Tensor:
    made = coalitions.responses(model, image, target, labels, absent, lambda _: present, score=_predicted, max_batch=max_batch)
    return next(values for _, values in made) == 1


def _predicted(logits: Tensor, targets: Tensor) -> Tensor:
    return (logits.argmax(dim=1) == targets).to(logits)
