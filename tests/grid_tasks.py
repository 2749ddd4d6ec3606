"""A LIME-like sampler for the tests of the grid: many small draws in Python, a linear fit for each image."""

import os

import torch

from xai_lib import compute, randomness
from xai_lib.registry import METHODS


def lime_like(model, inputs, targets, *, n_draws: int = 40, seed: int = 0, score: str = "logit", max_batch: int | None = None):
    def explain(image, generator):
        return torch.stack([torch.rand(image.shape[-2:], generator=generator) > 0.5 for _ in range(n_draws)]).float()

    made = []
    for image, target in zip(inputs, targets, strict=True):
        generator = torch.Generator().manual_seed(randomness.key("lime_like", seed, randomness.digest(image)))
        draws = explain(image, generator)
        values = compute.scores(model, image[None] * draws[:, None], target.expand(n_draws), score=score, max_batch=max_batch)
        flat = draws.flatten(1) - 0.5
        weights = flat.T @ torch.linalg.solve(flat @ flat.T + torch.eye(n_draws), values - values.mean())
        made.append(weights.reshape(1, *image.shape[-2:]).expand_as(image))
    return torch.stack(made)


def register():
    """Enter the sampler; called by who needs it, since the tests of all methods must not find it."""
    METHODS.register(label="LIME-like sampler", cite="none", traits={"random": True})(lime_like)


if os.environ.get("XAI_TASKS") == __name__:  # in a worker
    register()
