"""One training on one thread: the unit of every grid of retrainings."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from xai_lib.models import training


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch's operators on one thread inside the block, so that a training gives the same bytes beside others as alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fit(
    build: Callable[..., nn.Module], inputs: Tensor, targets: Tensor, *, seed: int, recipe: Mapping[str, Any]
) -> tuple[nn.Module, training.TrainingRecord]:
    """One training on one thread: a net built from `seed`, trained by `training.train` with batches drawn from `seed`.

    Args:
        build: build(seed=...) -> untrained net of pixels in [0, 1].
        recipe: keyword arguments of `training.train`.

    Returns:
        (net in eval mode, record).
    """
    with one_thread():
        net = build(seed=seed)
        return net, training.train(net, inputs, targets, seed=seed, **recipe)
