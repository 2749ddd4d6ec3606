"""What a training or an order of removal would cost, measured on a slice, for `xai plan`."""

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from xai_lib import METHODS, compute
from xai_lib.compendium import retraining_tasks as tasks
from xai_lib.models.fit import fit

Cost = tuple[int, int, int, float]
"""Forward rows, rows with gradient, bytes and seconds of one item."""
STEPS, FEW = 10, 8


def training_cost(items: Any, parameters: Mapping[str, Any]) -> Cost:
    """One training: the time of a few steps on whole pictures, times all steps."""
    case = parameters["case"]
    train, test = (tasks.samples_of(case, split) for split in tasks.SPLITS)
    recipe = tasks.training_arguments(case)
    few = min(STEPS * recipe["batch"], len(train))
    build = partial(tasks.build, case)
    for _ in range(2):  # the first pays for what happens once
        start = time.perf_counter()
        net, _ = fit(build, train.inputs[:few], train.targets[:few], seed=0, recipe={**recipe, "epochs": 1})
        seconds = time.perf_counter() - start
    rows = recipe["epochs"] * len(tasks.half(parameters["part"], len(train)))
    weights = sum(each.numel() * each.element_size() for each in net.state_dict().values())
    kept = (weights if parameters["removal"] is None else 0) + len(test) + 16 * recipe["epochs"]
    return len(test), rows, kept, seconds / few * rows


def order_cost(items: Any, parameters: Mapping[str, Any]) -> Cost:
    """One block of pictures: rows and time of a few, with an untrained net, times the pictures of an average block."""
    case, method = parameters["case"], parameters["method"]
    samples = tasks.samples_of(case, items[0][0])
    pictures = round(sum(stop - start for _, start, stop in items) / len(items))
    inputs, targets = samples.inputs[:FEW], samples.targets[:FEW]
    net = tasks.build(case, seed=0).requires_grad_(False).eval()
    counts = {True: 0, False: 0}

    def count(module: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        counts[torch.is_grad_enabled()] += len(given[0])

    net.register_forward_pre_hook(count)
    start = time.perf_counter()
    compute.logits(net, inputs)
    METHODS.bind({method[0]: method[1]})(net, inputs, targets)
    seconds = time.perf_counter() - start
    forward, backward = (round(counts[kind] * pictures / len(inputs)) for kind in (False, True))
    size = 2 * inputs[0].numel() + 1
    return forward, backward, size * pictures, seconds / len(inputs) * pictures
