"""What store and engine cost, and what two processes gain, measured in one run.

    python -m benchmarks.bench_engine [--quick] [--out FILE]

(a) Integrated Gradients of photographs (EfficientNet-Lite0) through the store: the share of the time that goes into keys,
    checksums, writing and reading, measured by timing every call of the store; the rest is what a plain loop would take.
(b) `local:2` against `serial`, workers warm (a first shard each is not timed): a sampler that is all Python (beside it what two
    bare processes gain over one, the most that this machine allows), and Integrated
    Gradients on the small MNIST network and on EfficientNet-Lite0. Repeats are interleaved, each on a fresh store.
(c) 1,000 tasks that do nothing, one shard each.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

OUT = Path(__file__).parent / "results" / "engine.json"
os.environ |= {"XAI_TESTING": "1", "XAI_TASKS": "benchmarks.sampler"}
os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])


@contextmanager
def timed_store(spent: dict[str, float]) -> Iterator[None]:
    from xai_lib.compendium.store import Store

    def wrap(name: str) -> Any:
        own = getattr(Store, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return own(*args, **kwargs)
            finally:
                spent[name] = spent.get(name, 0.0) + time.perf_counter() - start

        return mock.patch.object(Store, name, timed)

    with wrap("has"), wrap("read"), wrap("write"):
        yield


def works(model: str, dataset: str, method: list[Any], n: int, shard: int, seed: int = 0) -> list[Any]:
    from xai_lib import models
    from xai_lib.compendium.benchmark import Work
    from xai_lib.compendium.grid import Images

    items, _ = Images(dataset, n=n, seed=seed).items("predicted")
    case = {
        "model": model, "weights": models.load(model).weights_sha256, "dataset": dataset, "own": {}, "split": None,
        "data_seed": seed, "score": "logit", "seed": seed, "prefix": "",
    }  # fmt: skip
    return [[Work("attribute", case, tuple(items), {"method": method}, shard)]]


def overhead(quick: bool) -> dict[str, Any]:
    from xai_lib.compendium.benchmark import fill, gather
    from xai_lib.compendium.engine import Serial
    from xai_lib.compendium.store import Store

    stages = works("efficientnet_lite0", "photos", ["integrated_gradients", {"steps": 16}], 4 if quick else 16, 4)
    shares = []
    for _ in range(2 if quick else 4):
        spent: dict[str, float] = {}
        with tempfile.TemporaryDirectory() as place, timed_store(spent):
            store = Store(place)
            start = time.perf_counter()
            fill(stages, store, Serial())
            gather(stages[0][0], store)
            total = time.perf_counter() - start
        shares.append({"seconds": round(total, 3), "store": {k: round(v, 4) for k, v in spent.items()}})
    share = [sum(one["store"].values()) / (one["seconds"] - sum(one["store"].values())) for one in shares]
    return {
        "benchmark": "a: store against compute, integrated gradients 16 steps", "runs": shares,
        "overhead": {"median": round(float(np.median(share)), 4), "low": round(min(share), 4), "high": round(max(share), 4)},
        "target": 0.03,
    }  # fmt: skip


BARE = """
import sys, time, torch
from benchmarks.sampler import python_bound
torch.set_num_threads(1)
images = torch.rand(int(sys.argv[1]), 1, 28, 28)
print("ready", flush=True)
sys.stdin.readline()
start = time.perf_counter()
python_bound(None, images, None)
print(time.perf_counter() - start, flush=True)
"""


def bare(n: int, processes: int) -> float:
    """Seconds that so many processes with nothing but the sampler take for n images between them, once all are ready."""
    command = [sys.executable, "-c", BARE, str(n // processes)]
    started = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    for process in started:
        assert process.stdout is not None
        process.stdout.readline()
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return max(float(process.communicate()[0]) for process in started)


def ceiling(n: int, repeats: int) -> dict[str, Any]:
    """What two processes gain on this machine without any library: local:2 cannot gain more."""
    found = [(bare(n, 1), bare(n, 2)) for _ in range(repeats)]
    ratio = [one / two for one, two in found]
    return {
        "benchmark": "b: two bare processes against one, Python-bound sampler (the machine's ceiling)",
        "seconds": {"one": [round(one, 2) for one, _ in found], "two": [round(two, 2) for _, two in found]},
        "speedup": {"median": round(float(np.median(ratio)), 2), "low": round(min(ratio), 2), "high": round(max(ratio), 2)},
    }


def scaling(name: str, ask: Callable[[int], list[Any]], warm: Callable[[], list[Any]], repeats: int) -> dict[str, Any]:
    from xai_lib.compendium.benchmark import fill
    from xai_lib.compendium.engine import open_engine
    from xai_lib.compendium.store import Store

    seconds: dict[str, list[float]] = {"serial": [], "local:2": []}
    for repeat in range(repeats):
        for spec, spent in seconds.items():
            with tempfile.TemporaryDirectory() as place, open_engine(spec) as engine:
                store = Store(place)
                fill(warm(), store, engine)
                stages = ask(repeat)
                start = time.perf_counter()
                fill(stages, store, engine)
                spent.append(time.perf_counter() - start)
    ratio = [a / b for a, b in zip(seconds["serial"], seconds["local:2"], strict=True)]
    return {
        "benchmark": f"b: local:2 against serial, {name}", "seconds": {k: [round(s, 2) for s in v] for k, v in seconds.items()},
        "speedup": {"median": round(float(np.median(ratio)), 2), "low": round(min(ratio), 2), "high": round(max(ratio), 2)},
    }  # fmt: skip


def noops() -> dict[str, Any]:
    from xai_lib.compendium.engine import open_engine
    from xai_lib.compendium.store import Store
    from xai_lib.compendium.tasks import Task

    found = {}
    for spec in ("serial", "local:2"):
        with tempfile.TemporaryDirectory() as place, open_engine(spec) as engine:
            store = Store(place)
            list(engine.run((Task("noop", (-k,)) for k in range(1, 5)), store))
            start = time.perf_counter()
            count = sum(1 for _ in engine.run((Task("noop", (k,)) for k in range(1000)), store))
            found[spec] = {"tasks": count, "seconds": round(time.perf_counter() - start, 2)}
    return {"benchmark": "c: 1,000 tasks that do nothing", "runs": found, "target_seconds": 10}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer images and repeats")
    parser.add_argument("--out", type=Path, default=OUT)
    chosen = parser.parse_args(arguments)
    from benchmarks.report import write
    from xai_lib.compendium.tasks import load_testing_tasks

    load_testing_tasks()
    repeats = 2 if chosen.quick else 3
    digits, photographs = ("mnist_cnn", "mnist_5k"), ("efficientnet_lite0", "photos")
    sampler, ig = ["python_bound", {}], ["integrated_gradients", {"steps": 50}]

    def asked(where: tuple[str, str], method: list[Any], n: int, shard: int) -> tuple[Any, Any]:
        return (lambda seed: works(*where, method, n, shard, seed)), (lambda: works(*where, method, 2, 1, 99))

    few = 2 if chosen.quick else 1
    parts: list[Callable[[], dict[str, Any]]] = [
        lambda: overhead(chosen.quick),
        lambda: ceiling(200 // few, 2 * repeats),
        lambda: scaling("Python-bound sampler", *asked(digits, sampler, 200 // few, 10), 2 * repeats),
        lambda: scaling("integrated gradients, mnist_cnn", *asked(digits, ig, 2000 // few, 25), repeats),
        lambda: scaling("integrated gradients, efficientnet_lite0", *asked(photographs, ig, 16 // few, 2), repeats),
        noops,
    ]
    rows = []
    for part in parts:
        rows.append(part())
        print(json.dumps(rows[-1]), flush=True)
    write(rows, chosen.out)


if __name__ == "__main__":
    main()
