"""The smallest rotation that changes a prediction, against captum's linear search at the same precision.

    python -m benchmarks.bench_rotation [--quick] [--model NAME] [--out FILE]

CIFAR-10 test images (with XAI_DATA), or drawn shapes without it, that the net classifies correctly; both directions.

(a) "one grid": every multiple of 0.5 degrees up to 90, `minimal_perturbation` with step equal to precision against
    `captum.robust.MinParamPerturbation` in linear mode, once per direction, with torchvision's rotate. Both answer the same
    question; angles are compared before anything is timed, and a difference ends the script.
(b) "all images": the search of the studies, coarse steps of 1 degree and then 0.1 degree; seconds, rows per image,
    and the time of as many plain forward rows. Target: 120 s on two cores.
(c) "what the coarse scan misses": the same answers beside every multiple of 0.1 degree, on a few images.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from captum.robust import MinParamPerturbation
from torch import Tensor
from torchvision.transforms.functional import rotate

from benchmarks.bench_metrics import compare
from benchmarks.report import write
from xai_lib import compute, data, models
from xai_lib.counterfactuals import minimal_perturbation
from xai_lib.errors import DataError

OUT = Path(__file__).parent / "results" / "rotation.json"
GRID, MAXIMUM = 0.5, 90.0
COARSE = {"step": 1.0, "precision": 0.1}
TARGET_SECONDS = 120


def images(model: Any, n: int) -> tuple[str, Tensor, Tensor]:
    """The first n test images that the net classifies correctly; drawn shapes, as the net calls them, without CIFAR-10."""
    try:
        samples = data.load("cifar10", split="test", n=int(1.5 * n) + 8)
    except DataError:
        shapes = data.load("shapes", n=n, size=32).inputs
        return "shapes", shapes, compute.logits(model, shapes).argmax(dim=1)
    right = (compute.logits(model, samples.inputs).argmax(dim=1) == samples.targets).nonzero().flatten()[:n]
    return "cifar10", samples.inputs[right], samples.targets[right]


def ours(model: Any, inputs: Tensor, targets: Tensor) -> Tensor:
    return minimal_perturbation(model, inputs, targets, step=GRID, precision=GRID, maximum=MAXIMUM).amounts.nan_to_num(-1)


def captums(model: Any, inputs: Tensor, targets: Tensor) -> Tensor:
    """The smaller of both directions; its maximum is excluded, so one step more is given."""
    found = []
    for image, target in zip(inputs, targets.tolist(), strict=True):
        either = []
        for sign in (1, -1):
            search = MinParamPerturbation(
                model, lambda x, angle, sign=sign: rotate(x, sign * angle), "angle", GRID, MAXIMUM + GRID, GRID
            )
            with torch.inference_mode():
                either.append(search.evaluate(image[None], target=target)[1])
        found.append(min((angle for angle in either if angle is not None), default=-1.0))
    return torch.tensor(found, dtype=torch.float64)


def same_grid(model: Any, name: str, inputs: Tensor, targets: Tensor, repeats: int) -> dict[str, Any]:
    answers = ours(model, inputs, targets), captums(model, inputs, targets)
    if not torch.equal(*answers):
        raise SystemExit(f"one grid: different angles, {answers[0].tolist()} and {answers[1].tolist()}")
    contestants = {
        "xai_lib": lambda _: float(ours(model, inputs, targets).sum()),
        "captum": lambda _: float(captums(model, inputs, targets).sum()),
    }
    settings = {"model": model.name, "data": name, "images": len(inputs), "degrees": GRID, "identical": True}
    return compare("a: one grid", contestants, repeats, settings)


def whole_set(model: Any, name: str, inputs: Tensor, targets: Tensor) -> dict[str, Any]:
    start = time.perf_counter()
    found = minimal_perturbation(model, inputs, targets, maximum=MAXIMUM, **COARSE)
    seconds = time.perf_counter() - start
    count = int(found.rows.sum())
    start = time.perf_counter()
    compute.logits(model, inputs)
    forward = (time.perf_counter() - start) / len(inputs)
    return {
        "benchmark": "b: all images",
        "model": model.name,
        "data": name,
        "images": len(inputs),
        **COARSE,
        "seconds": round(seconds, 2),
        "target_seconds_of_500": TARGET_SECONDS,
        "rows_per_image": round(count / len(inputs), 1),
        "milliseconds_per_row": round(1000 * seconds / count, 4),
        "over_plain_forward_rows": round(seconds / count / forward, 3),
        "median_degrees": float(found.amounts.nan_to_num(MAXIMUM).median()),
        "none": int(found.amounts.isnan().sum()),
    }


def missed(model: Any, name: str, inputs: Tensor, targets: Tensor) -> dict[str, Any]:
    fine = minimal_perturbation(model, inputs, targets, maximum=MAXIMUM, step=0.1, precision=0.1).amounts.nan_to_num(MAXIMUM)
    coarse = minimal_perturbation(model, inputs, targets, maximum=MAXIMUM, **COARSE).amounts.nan_to_num(MAXIMUM)
    return {
        "benchmark": "c: what the coarse scan misses",
        "model": model.name,
        "data": name,
        "images": len(inputs),
        "share_with_a_smaller_angle": float((fine < coarse).double().mean()),
        "mean_degrees_too_large": round(float((coarse - fine).mean()), 3),
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer images and repeats")
    parser.add_argument("--model", default="cifar_conv8", help="a registered net for 32-pixel pictures")
    parser.add_argument("--out", type=Path, default=OUT)
    chosen = parser.parse_args(arguments)
    model = models.load(chosen.model)
    few, fine, every, repeats = (2, 4, 20, 1) if chosen.quick else (5, 40, 500, 3)
    name, inputs, targets = images(model, every)
    rows = [
        same_grid(model, name, inputs[:few], targets[:few], repeats),
        whole_set(model, name, inputs, targets),
        missed(model, name, inputs[:fine], targets[:fine]),
    ]
    write(rows, chosen.out)


if __name__ == "__main__":
    main()
