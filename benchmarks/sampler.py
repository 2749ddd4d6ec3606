"""A sampler whose time goes into Python and not into the model, as LIME's and many perturbation methods' does."""

import torch

from xai_lib import randomness
from xai_lib.compendium.tasks import TASKS
from xai_lib.registry import METHODS


@METHODS.register(label="Python-bound sampler", cite="none", traits={"random": True})
def python_bound(model, inputs, targets, *, n_draws: int = 4000, seed: int = 0):
    made = []
    for image in inputs:
        generator = torch.Generator().manual_seed(randomness.key("python_bound", seed, randomness.digest(image)))
        total = torch.zeros_like(image)
        for _ in range(n_draws):
            total[..., torch.randint(image.shape[-1], (1,), generator=generator).item()] += 1.0
        made.append(total)
    return torch.stack(made)


@TASKS.register(label="No-op", cite="none")
def noop(items):
    return {"value": torch.zeros(len(items)).numpy()}
