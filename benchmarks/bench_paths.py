"""Integrated Gradients against Captum, as ratios of times measured in one run.

    python -m benchmarks.bench_paths [--quick] [--out FILE]

EfficientNet-Lite0 at 224 px. Captum gets the model as its package builds it, behind its own normalisation; "raw" is forward and
backward of the same number of rows on our model as we call it, at our batch size, nothing else. Repeats are interleaved.
In (a) Captum has glibc's usual allocator; in (b) it has ours, which keeps freed memory, to its advantage.

(a) 150 steps of one baseline: ours, Captum as in its tutorial, Captum with internal_batch_size=16, raw.
(b) 50 random baselines: ours with staggered nodes against Captum's loop over baselines with 24 Gauss-Legendre steps each. Ours
    takes as few steps as reach that loop's completeness gap, and as few as also reach its maps' distance from finer ones (72
    middle nodes): the gap is the error of one sum and says little about the map. Both numbers follow from means over five
    photographs; everything is written down, and the search is not timed.
"""

import argparse
import contextlib
import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from captum.attr import IntegratedGradients

from benchmarks.bench_metrics import compare, package_model
from benchmarks.report import write
from xai_lib import METHODS, METRICS, baselines, compute, data, models
from xai_lib.allocator import KEEP, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
from xai_lib.chunks import default_max_batch
from xai_lib.fused import gradient_forward
from xai_lib.methods.path import nested_aggregates

OUT = Path(__file__).parent / "results" / "paths.json"
GLIBC_LARGEST = 32 << 20
"""Bytes; the largest thresholds that glibc chooses by itself."""
TRIED = (14, 16, 18, 20)
FINE = 72


def raw(model: Any, x: torch.Tensor, targets: torch.Tensor, rows: int) -> None:
    size = default_max_batch(x)
    batch = x[:1].expand(size, *x.shape[1:]).contiguous(memory_format=torch.channels_last)
    for _ in range(-(-rows // size)):
        points = batch.clone(memory_format=torch.channels_last).requires_grad_(True)
        torch.autograd.grad(gradient_forward(model, points).gather(1, targets[:1].expand(size, 1)).sum(), points)


@contextlib.contextmanager
def usual_allocator() -> Iterator[None]:
    """glibc as it is in a process without this library, which asks it to keep freed memory; nothing without glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", lambda *_: 0)
    for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
        mallopt(option, GLIBC_LARGEST)
    try:
        yield
    finally:
        for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
            mallopt(option, KEEP)


def single(ours: Any, theirs: Any, x: torch.Tensor, t: torch.Tensor, steps: int, repeats: int) -> dict[str, Any]:
    explain = METHODS.bind("integrated_gradients", steps=steps)
    captum = IntegratedGradients(theirs)
    maps = explain(ours, x, t)
    peer = captum.attribute(x, target=t, n_steps=steps, internal_batch_size=16).detach()
    agreement = float((maps - peer).norm() / peer.norm())

    def theirs_alone(size: int | None) -> float:
        with usual_allocator():
            return captum.attribute(x, target=t, n_steps=steps, internal_batch_size=size).sum().item()

    contestants = {
        "xai_lib": lambda _: explain(ours, x, t).sum().item(),
        "captum": lambda _: theirs_alone(None),
        "captum, internal_batch_size=16": lambda _: theirs_alone(16),
        "raw": lambda _: raw(ours, x, t, steps * len(x)),
    }
    found = compare("a: integrated gradients, one baseline", contestants, repeats, {"images": len(x), "steps": steps})
    return found | {"relative_difference_of_maps": agreement}


def many(ours: Any, theirs: Any, x: torch.Tensor, t: torch.Tensor, count: int, steps: int, repeats: int) -> dict[str, Any]:
    captum = IntegratedGradients(theirs)
    measure = METRICS.bind("completeness_gap", baseline="uniform", n_baselines=count, relative=True)

    def ask(own: int, rule: str = "staggered", rows: slice = slice(None)) -> torch.Tensor:
        made = nested_aggregates(ours, x[rows], t[rows], counts=(count,), aggregates=("mean",), steps=own, rule=rule)
        return made[count, "mean"]

    fine = ask(FINE, "middle")

    def errors(own: int, rule: str = "staggered") -> dict[str, list[float]]:
        maps = ask(own, rule)
        distances = (maps - fine).flatten(1).norm(dim=1) / fine.flatten(1).norm(dim=1)
        found = {"gap": measure(ours, x, t, maps).tolist(), "distance": distances.tolist()}
        print(f"{rule} {own}: {found}", flush=True)
        return found

    def reached(own: int, *what: str) -> bool:
        return all(np.mean(tried[own][each]) <= np.mean(goal[each]) for each in what)

    goal = errors(steps, "gauss_legendre")  # Captum's rule and nodes, at our speed
    tried: dict[int, dict[str, list[float]]] = {}
    for own in (*TRIED, steps):
        tried[own] = errors(own)
        if reached(own, "gap", "distance"):
            break
    by_gap = next((own for own in tried if reached(own, "gap")), steps)
    by_map = next((own for own in tried if reached(own, "gap", "distance")), steps)
    one = slice(0, 1)
    starts = [baselines.draw("uniform", x[one], b) for b in range(count)]

    def loop(_: Any) -> float:
        made = [captum.attribute(x[one], baselines=b, target=t[one], n_steps=steps).detach() for b in starts]
        return torch.stack(made).mean(0).sum().item()

    contestants = {
        "xai_lib": lambda _: ask(by_gap, rows=one).sum().item(),
        "captum loop": loop,
        "xai_lib, equally fine maps": lambda _: ask(by_map, rows=one).sum().item(),
    }
    settings = {"images": 1, "baselines": count, "target_ratio": 4}
    settings["steps"] = {"xai_lib": by_gap, "captum": steps, "xai_lib, equally fine maps": by_map}
    found = compare("b: many baselines at equal completeness gap", contestants, repeats, settings)
    return found | {"errors": {"captum's rule": goal, "xai_lib by steps": tried}}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repeats and baselines")
    parser.add_argument("--part", choices=("single", "many"), help="only one of the two")
    parser.add_argument("--out", type=Path, default=OUT)
    chosen = parser.parse_args(arguments)
    ours, theirs = models.load("efficientnet_lite0"), package_model()
    x = data.load("photos", n=5, seed=0).inputs
    t = compute.logits(ours, x).argmax(1)
    repeats, count = (2, 10) if chosen.quick else (4, 50)
    if chosen.part != "many":
        write([single(ours, theirs, x[:1], t[:1], 150, repeats)], chosen.out)
    if chosen.part != "single":
        write([many(ours, theirs, x, t, count, 24, 2)], chosen.out.with_name("many_baselines.json"))


if __name__ == "__main__":
    main()
