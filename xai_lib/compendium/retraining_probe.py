"""What a training or an order of removal would cost, measured on a slice, for `xai plan`."""

import time
from functools import partial

import torch
from torch import nn

from xai_lib import METHODS, compute
from xai_lib.compendium import retraining_tasks as tasks
from xai_lib.compendium.benchmark import Work
from xai_lib.compendium.tasks import Task
from xai_lib.models.fit import fit

Cost = tuple[int, int, int, float]
"""Forward rows, rows with gradient, bytes and seconds of one item."""
STEPS, FEW = 10, 8


def training_cost(task: Task, work: Work) -> Cost:
    """One training: the time of a few steps on whole pictures, times all steps."""
    parameters, case = task.parameters, task.parameters["case"]
    train, test = (tasks.samples_of(case, split) for split in tasks.SPLITS)
    recipe = tasks.training_arguments(case)
    slice_of_it = {k: v for k, v in recipe.items() if k != "drops"} | {"epochs": 1, "schedule": "constant"}
    few = min(STEPS * recipe["batch"], len(train))
    build = partial(tasks.build, case)
    for _ in range(2):  # the first pays for what happens once
        start = time.perf_counter()
        net, _ = fit(build, train.inputs[:few], train.targets[:few], seed=0, recipe=slice_of_it)
        seconds = time.perf_counter() - start
    rows = recipe["epochs"] * len(tasks.half(parameters["part"], len(train)))
    weights = sum(each.numel() * each.element_size() for each in net.state_dict().values())
    kept = (weights if parameters["removal"] is None else 0) + len(test) + 16 * recipe["epochs"]
    return len(test), rows, kept, seconds / few * rows


def order_cost(task: Task, work: Work) -> Cost:
    """One block of pictures: rows and time of a few, with an untrained net, times the pictures of an average block."""
    case, method = task.parameters["case"], task.parameters["method"]
    samples = tasks.samples_of(case, work.items[0][0])
    pictures = round(sum(stop - start for _, start, stop in work.items) / len(work.items))
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


COSTS = {"train_net": training_cost, "order_pixels": order_cost}
"""By task: how one item's cost is found where items are no images."""
