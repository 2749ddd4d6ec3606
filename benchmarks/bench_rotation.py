"""The smallest rotation that changes a prediction, against captum's linear search at the same precision.

    python -m benchmarks.bench_rotation [--quick] [--model NAME] [--out FILE]

CIFAR-10 test images (with XAI_DATA), or drawn shapes without it, that the net classifies correctly; both directions.

(a) "one grid": every multiple of 0.5 degrees up to 90, `minimal_perturbation` with step equal to precision against
    `captum.robust.MinParamPerturbation` in linear mode, once per direction, with torchvision's rotate. Both answer the same
    question; angles are compared before anything is timed, and a difference ends the script.
(b) "all images": 500 images to 0.1 degree, by coarse steps of 0.1, 0.2 and 0.5 degree; seconds, rows per image, the time of a
    row over that of a plain forward row, and how many images have a smaller angle among all multiples of 0.1. Target: 120 s on
    two cores.
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
STEPS, PRECISION = (0.1, 0.2, 0.5), 0.1
"""The first step is the precision: every angle is tried."""
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


def whole_set(model: Any, name: str, inputs: Tensor, targets: Tensor) -> list[dict[str, Any]]:
    compute.logits(model, inputs)  # the first pass is slower
    start = time.perf_counter()
    compute.logits(model, inputs)
    forward = (time.perf_counter() - start) / len(inputs)
    rows, every = [], None
    for step in STEPS:
        start = time.perf_counter()
        found = minimal_perturbation(model, inputs, targets, maximum=MAXIMUM, step=step, precision=PRECISION)
        seconds = time.perf_counter() - start
        count, angles = int(found.rows.sum()), found.amounts.nan_to_num(MAXIMUM)
        every = angles if every is None else every
        settings = {"model": model.name, "data": name, "images": len(inputs), "step": step, "precision": PRECISION}
        rows.append(
            {
                "benchmark": "b: all images",
                "settings": settings | {"target_seconds_of_500": TARGET_SECONDS},
                "seconds": round(seconds, 2),
                "rows_per_image": round(count / len(inputs), 1),
                "milliseconds_per_row": round(1000 * seconds / count, 4),
                "over_plain_forward_rows": round(seconds / count / forward, 3),
                "median_degrees": float(angles.median()),
                "none": int(found.amounts.isnan().sum()),
                "share_with_a_smaller_angle": round(float((every < angles).double().mean()), 4),
                "mean_degrees_too_large": round(float((angles - every).mean()), 3),
            }
        )
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer images and repeats")
    parser.add_argument("--model", default="cifar_conv8", help="a registered net for 32-pixel pictures")
    parser.add_argument("--out", type=Path, default=OUT)
    chosen = parser.parse_args(arguments)
    model = models.load(chosen.model)
    few, every, repeats = (2, 12, 1) if chosen.quick else (5, 500, 3)
    name, inputs, targets = images(model, every)
    rows = [same_grid(model, name, inputs[:few], targets[:few], repeats), *whole_set(model, name, inputs, targets)]
    write(rows, chosen.out)


if __name__ == "__main__":
    main()
