"""A grid of retrainings against the loop that a user would write, as ratios of times measured in one run.

    python -m benchmarks.bench_retrain [--quick] [--whole] [--out FILE]

The same trainings of the network of document 002 (nets.lenet, SGD, batches of 64) on digits with 30 % of the pixels removed at
random, five epochs each: the first 150 steps of a process take twice as long as later ones, which ten epochs of
60,000 digits do not notice and one epoch of 5,000 would.

grid     `retraining` through store and engine: one training a task on one thread, as many side by side as there are cores;
         everything counts but the start of its workers (each trains one net before) and the order of removal, which all
         shares and seeds have in common
loader   one after the other on all cores: a Dataset whose items are removed, normalised tensors, in a DataLoader that shuffles
pictures the same, but each item is read as document 002's code reads it: a PIL picture, ToTensor, Normalize

--whole times instead, once, the grid that a ROAR curve of one method needs: Integrated Gradients (25 steps from black, as in
the study) and random under `hooker`, five seeds, five shares, 60,000 digits and ten epochs, with the nets of untouched digits
and all maps, from an empty store. It needs the data set `mnist` and some 20 minutes.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torchvision import transforms

from benchmarks.report import write

OUT = Path(__file__).parent / "results" / "retrain.json"
MEAN, STD = 0.1307, 0.3081
RECIPE: dict[str, Any] = {"epochs": 5, "batch": 64, "learning_rate": 1e-3, "optimiser": "sgd", "momentum": 0.9}


class Digits(torch.utils.data.Dataset):
    def __init__(self, inputs: torch.Tensor, targets: torch.Tensor, pictures: bool) -> None:
        to_picture, normalise = transforms.ToPILImage(), transforms.Normalize((MEAN,), (STD,))
        self.read = transforms.Compose([transforms.ToTensor(), normalise])
        self.items = [to_picture(each) for each in inputs] if pictures else [normalise(each) for each in inputs]
        self.targets, self.pictures = targets.tolist(), pictures

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, k: int) -> tuple[Any, int]:
        return (self.read(self.items[k]) if self.pictures else self.items[k]), self.targets[k]


class Net(nn.Module):
    """The document's network, as a user writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.pool = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5), nn.MaxPool2d(2, 2)
        self.fc1, self.fc2, self.fc3 = nn.Linear(256, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(torch.relu(self.conv1(x)))
        x = self.pool(torch.relu(self.conv2(x))).view(-1, 256)
        return self.fc3(torch.relu(self.fc2(torch.relu(self.fc1(x)))))


def loop(inputs: torch.Tensor, targets: torch.Tensor, seeds: range, pictures: bool) -> float:
    """Seconds of the trainings, one after the other."""
    digits = Digits(inputs, targets, pictures)
    start = time.perf_counter()
    for seed in seeds:
        torch.manual_seed(seed)
        net = Net()
        loader = torch.utils.data.DataLoader(digits, batch_size=64, shuffle=True)
        optimiser, criterion = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9), nn.CrossEntropyLoss()
        running = 0.0
        for _ in range(RECIPE["epochs"]):
            for points, truth in loader:
                optimiser.zero_grad()
                value = criterion(net(points), truth)
                value.backward()
                optimiser.step()
                running += value.item()
    return time.perf_counter() - start


def measure(n: int, trainings: int, repeats: int) -> dict[str, Any]:
    from xai_lib.compendium.benchmark import default_store, fill
    from xai_lib.compendium.engine import cores, open_engine
    from xai_lib.compendium.retraining import Plan, Removal
    from xai_lib.compendium.retraining_tasks import left
    from xai_lib.compendium.store import Store
    from xai_lib.compendium.tasks import at_work

    workers, steps = cores(), trainings * RECIPE["epochs"] * -(-n // 64)
    found: dict[str, list[float]] = {"grid": [], "loader": [], "pictures": []}
    for repeat in range(repeats):
        seeds = range(1 + repeat * trainings, 1 + (repeat + 1) * trainings)
        with tempfile.TemporaryDirectory() as place, open_engine(f"local:{workers}") as engine:
            store = Store(place)
            token = at_work.set(store)
            digits = {"name": "mnist_5k", "split": "all", "n": n}
            plan = Plan(digits, {**digits, "n": 100}, ["lenet", {}], RECIPE, (0.3,), tuple(seeds))
            removal = Removal(("random_attribution", {}))
            nets, orders, again = plan.stages([removal])
            fill([nets[:1], orders, [plan.trainings(seeds=range(-workers, 0))]], store, engine)
            start = time.perf_counter()
            fill([again], default_store(), engine)
            found["grid"].append(time.perf_counter() - start)
            pictures = left(plan.case, plan.removal(removal, 0.3), "train")
            at_work.reset(token)
        for name in ("loader", "pictures"):
            found[name].append(loop(pictures, plan.samples("train").targets, seeds, name == "pictures"))
    return {
        "benchmark": f"{trainings} trainings, {RECIPE['epochs']} epochs over {n} digits, grid on {workers} cores or a loop",
        "seconds": {name: [round(s, 2) for s in values] for name, values in found.items()},
        "ms_per_step": {name: round(1e3 * float(np.median(v)) / steps, 2) for name, v in found.items()},
        "speedup": {name: ratio(found[name], found["grid"]) for name in ("loader", "pictures")},
        "target": 3,
    }


def whole() -> dict[str, Any]:
    from xai_lib.compendium.benchmark import fill
    from xai_lib.compendium.engine import cores, open_engine
    from xai_lib.compendium.retraining import Plan, Removal, roar
    from xai_lib.compendium.store import Store
    from xai_lib.compendium.tasks import at_work
    from xai_lib.removal import HOOKER
    from xai_lib.studies.roar import IG_BLACK

    removals = {method[0]: Removal(method, HOOKER) for method in (("random_attribution", {}), IG_BLACK)}
    plan = Plan(
        {"name": "mnist", "split": "train"}, {"name": "mnist", "split": "test"}, ["lenet", {}], {**RECIPE, "epochs": 10}
    )
    seconds = {}
    with tempfile.TemporaryDirectory() as place, open_engine(f"local:{cores()}") as engine:
        store = Store(place)
        token = at_work.set(store)
        start = time.perf_counter()
        for name, stage in zip(("nets", "maps", "retrainings"), plan.stages(list(removals.values())), strict=True):
            fill([stage], store, engine)
            seconds[name] = round(time.perf_counter() - start - sum(seconds.values()), 1)
        table = roar(plan, removals)
        at_work.reset(token)
    found = table.groupby(["method", "fraction"])["accuracy"].agg(["mean", "min", "max", "count"]).round(4).reset_index()
    return {
        "benchmark": f"ROAR of two methods, {len(plan.seeds)} seeds, 60,000 digits, on {cores()} cores",
        "trainings": len(table),
        "seconds": seconds,
        "minutes": round(sum(seconds.values()) / 60, 1),
        "target_minutes": 20,
        "accuracy": found.to_dict("records"),
    }


def ratio(slow: list[float], fast: list[float]) -> dict[str, float]:
    each = [a / b for a, b in zip(slow, fast, strict=True)]
    return {"median": round(float(np.median(each)), 2), "low": round(min(each), 2), "high": round(max(each), 2)}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer trainings and repeats")
    parser.add_argument("--whole", action="store_true", help="the grid of one ROAR curve at full size, and nothing else")
    parser.add_argument("--out", type=Path, default=OUT)
    chosen = parser.parse_args(arguments)
    if chosen.whole:
        write([whole()], chosen.out.with_name("retrain_whole.json"))
        return
    write([measure(5000, 4 if chosen.quick else 12, 2 if chosen.quick else 3)], chosen.out)


if __name__ == "__main__":
    main()
