"""Integrated Gradients against Captum, as ratios of times measured in one run.

    python -m benchmarks.bench_paths [--quick] [--out FILE]

EfficientNet-Lite0 at 224 px. Captum gets the model as its package builds it, behind its own normalisation; "raw" is forward and
backward of the same number of rows on our model at our batch size, nothing else. Repeats are interleaved.

(a) 150 steps of one baseline: ours, Captum as in its tutorial, Captum with internal_batch_size=16, raw.
(b) 50 random baselines: ours with adaptive nodes, with as few steps as reach the completeness gap of Captum's loop over
    baselines with 24 Gauss-Legendre steps each. Which number that is follows from the mean gap over ten photographs (a single
    gap is the error of one sum and can be small by chance); all gaps are written down, and the search is not timed.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from captum.attr import IntegratedGradients

from benchmarks.bench_metrics import compare, package_model
from benchmarks.report import write
from xai_lib import METHODS, METRICS, baselines, compute, data, models
from xai_lib.chunks import default_max_batch
from xai_lib.methods.path import nested_aggregates

OUT = Path(__file__).parent / "results" / "paths.json"
TRIED = (10, 11, 12, 14, 16, 20)


def raw(model: Any, x: torch.Tensor, targets: torch.Tensor, rows: int) -> None:
    size = default_max_batch(x)
    batch = x[:1].expand(size, *x.shape[1:]).contiguous(memory_format=torch.channels_last)
    for _ in range(-(-rows // size)):
        points = batch.clone(memory_format=torch.channels_last).requires_grad_(True)
        torch.autograd.grad(model(points).gather(1, targets[:1].expand(size, 1)).sum(), points)


def single(ours: Any, theirs: Any, x: torch.Tensor, t: torch.Tensor, steps: int, repeats: int) -> dict[str, Any]:
    explain = METHODS.bind("integrated_gradients", steps=steps)
    captum = IntegratedGradients(theirs)
    maps = explain(ours, x, t)
    peer = captum.attribute(x, target=t, n_steps=steps, internal_batch_size=16).detach()
    agreement = float((maps - peer).norm() / peer.norm())
    contestants = {
        "xai_lib": lambda _: explain(ours, x, t).sum().item(),
        "captum": lambda _: captum.attribute(x, target=t, n_steps=steps).sum().item(),
        "captum, internal_batch_size=16": lambda _: (
            captum.attribute(x, target=t, n_steps=steps, internal_batch_size=16).sum().item()
        ),
        "raw": lambda _: raw(ours, x, t, steps * len(x)),
    }
    found = compare("a: integrated gradients, one baseline", contestants, repeats, {"images": len(x), "steps": steps})
    return found | {"relative_difference_of_maps": agreement}


def many(ours: Any, theirs: Any, x: torch.Tensor, t: torch.Tensor, count: int, steps: int, repeats: int) -> dict[str, Any]:
    captum = IntegratedGradients(theirs)
    measure = METRICS.bind("completeness_gap", baseline="uniform", n_baselines=count, relative=True)

    def ask(own: int, rule: str = "adaptive", rows: slice = slice(None)) -> torch.Tensor:
        made = nested_aggregates(ours, x[rows], t[rows], counts=(count,), aggregates=("mean",), steps=own, rule=rule)
        return made[count, "mean"]

    def gaps(own: int, rule: str = "adaptive") -> list[float]:
        found = measure(ours, x, t, ask(own, rule)).tolist()
        print(f"{rule} {own}: gaps {found}", flush=True)
        return found

    goal = gaps(steps, "gauss_legendre")  # Captum's rule and nodes, at our speed
    tried: dict[int, list[float]] = {}
    for chosen in (*TRIED, steps):
        tried[chosen] = gaps(chosen)
        if np.mean(tried[chosen]) <= np.mean(goal):
            break
    one = slice(0, 1)
    starts = [baselines.draw("uniform", x[one], b) for b in range(count)]

    def loop(_: Any) -> float:
        made = [captum.attribute(x[one], baselines=b, target=t[one], n_steps=steps).detach() for b in starts]
        return torch.stack(made).mean(0).sum().item()

    contestants = {"xai_lib": lambda _: ask(chosen, rows=one).sum().item(), "captum loop": loop}
    settings = {"images": 1, "baselines": count, "steps": {"xai_lib": chosen, "captum": steps}}
    settings |= {"rule": "adaptive", "target_ratio": 4}
    found = compare("b: many baselines at equal completeness gap", contestants, repeats, settings)
    return found | {"gaps": {"captum's rule": goal, "xai_lib by steps": tried}}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repeats and baselines")
    parser.add_argument("--part", choices=("single", "many"), help="only one of the two")
    parser.add_argument("--out", type=Path, default=OUT)
    chosen = parser.parse_args(arguments)
    ours, theirs = models.load("efficientnet_lite0"), package_model()
    x = data.load("photos", n=10, seed=0).inputs
    t = compute.logits(ours, x).argmax(1)
    repeats, count = (2, 10) if chosen.quick else (4, 50)
    if chosen.part != "many":
        write([single(ours, theirs, x[:1], t[:1], 150, repeats)], chosen.out)
    if chosen.part != "single":
        write([many(ours, theirs, x, t, count, 24, 2)], chosen.out.with_name("many_baselines.json"))


if __name__ == "__main__":
    main()
