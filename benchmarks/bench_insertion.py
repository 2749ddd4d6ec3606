"""Insertion and deletion against raw forward passes and against the evaluation loop of RISE, as ratios measured in one run.

    python -m benchmarks.bench_insertion [--quick] [--toy] [--only speed|agreement] [--out FILE]

EfficientNet-Lite0 at 224 px; maps of Integrated Gradients.

(a) Both curves at 225 points (steps of 224 pixels) against the forward passes of as many rows on the same model at the same
    batch size, nothing else. "plain_loop_difference" is the largest difference of any score from a loop that flips the pixels
    in the same order (of tied pixels, too: Integrated Gradients has many zeros) and asks the model row by row.
(b) Both curves with adaptive points against the protocol of RISE: 225 points, rows one by one, on the model as its package
    loads it, behind its own normalisation (gradients are not recorded), ties as they come. "difference" is that of the areas.
(c) Areas with adaptive points against areas with the 225 points of the published loop, which (a) shows to be those of a plain
    loop, over many images (photographs; ImageNet where XAI_DATA is set): |difference| of each image, its mean and its largest,
    how many images keep to 0.005, and what the adaptive curves state as their error.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.bench_metrics import compare, package_model
from benchmarks.report import write
from xai_lib import METHODS, compute, data, maps, models, toys
from xai_lib.chunks import default_max_batch
from xai_lib.metrics.insertion import insertion_deletion_curves
from xai_lib.metrics.insertion_curves import substrate

OUT = Path(__file__).parent / "results" / "insertion.json"
GAMES = (("insertion", "rise_blur"), ("deletion", "mean"))
TARGET = 0.005


def raw(model: Any, x: torch.Tensor, rows: int) -> None:
    size = default_max_batch(x)
    batch = x[:1].expand(size, *x.shape[1:]).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        for _ in range(rows // size):
            model(batch)
        if rows % size:
            model(batch[: rows % size])


def row_by_row(model: Any, x: torch.Tensor, t: torch.Tensor, orders: np.ndarray, step: int) -> np.ndarray:
    """Scores (n, 2, points) as RISE computes them: one image, one curve, one row at a time."""
    pixels = orders.shape[1]
    found = []
    for i, order in enumerate(orders):
        for game, spec in GAMES:
            fill = substrate(spec, model, x[i : i + 1])
            start, finish = (fill.clone(), x[i : i + 1]) if game == "insertion" else (x[i : i + 1].clone(), fill)
            scores = []
            for done in range(0, pixels + step, step):
                with torch.no_grad():
                    scores.append(model(start).softmax(1)[0, t[i]].item())
                flipped = torch.as_tensor(order[done : done + step].copy())
                start.view(1, -1, pixels)[:, :, flipped] = finish.reshape(1, -1, pixels)[:, :, flipped]
            found.append(scores)
    return np.asarray(found).reshape(len(x), len(GAMES), -1)


def order_of_rise(attributions: torch.Tensor) -> np.ndarray:
    return np.flip(np.argsort(maps.reduce(attributions, "sum").flatten(1).numpy(), axis=1), axis=1)


def areas(scores: np.ndarray) -> np.ndarray:
    return (scores.sum(-1) - scores[..., 0] / 2 - scores[..., -1] / 2) / (scores.shape[-1] - 1)


def differences(adaptive: np.ndarray, reference: np.ndarray) -> dict[str, np.ndarray]:
    """|difference| of each image, in each of the two areas and in insertion minus deletion."""
    gap = adaptive - reference
    return {"insertion": np.abs(gap[:, 0]), "deletion": np.abs(gap[:, 1]), "insertion_deletion": np.abs(gap @ [1, -1])}


def summary(found: dict[str, np.ndarray]) -> dict[str, Any]:
    return {name: {"mean": round(float(d.mean()), 5), "largest": round(float(d.max()), 5)} for name, d in found.items()}


def ours(model: Any, x: torch.Tensor, t: torch.Tensor, a: torch.Tensor, points: int | str) -> tuple[Any, Any]:
    return insertion_deletion_curves(model, x, t, a, points=points)


def both_areas(curves: tuple[Any, Any]) -> np.ndarray:
    return torch.stack([curve.auc for curve in curves], dim=1).numpy()


def speed(model: Any, theirs: Any, x: torch.Tensor, t: torch.Tensor, options: argparse.Namespace) -> list[dict[str, Any]]:
    a = METHODS.bind("integrated_gradients", steps=options.steps)(model, x, t)
    few, step = slice(0, options.few), x[0, 0].numel() // (options.points - 1)
    rows = options.few * (2 * (options.points - 2) + 3)
    settings = {"images": options.few, "points": options.points, "rows": rows}
    contestants = {
        "raw": lambda _: raw(model, x, rows),
        "xai_lib": lambda _: both_areas(ours(model, x[few], t[few], a[few], options.points)).tolist(),
    }
    first = compare("a: insertion and deletion, fixed points", contestants, options.repeats, settings | {"target_ratio": 1.15})
    loop = row_by_row(model, x[:1], t[:1], maps.ranking(maps.reduce(a[:1], "sum")).numpy(), step)[0]
    fixed = [curve.scores[0].numpy() for curve in ours(model, x[:1], t[:1], a[:1], options.points)]
    first["plain_loop_difference"] = float(np.abs(np.stack(fixed) - loop).max())
    made: dict[str, Any] = {}

    def adaptive(_: Any) -> list[Any]:
        made["curves"] = ours(model, x, t, a, "adaptive")
        return both_areas(made["curves"]).tolist()

    contestants = {"xai_lib": adaptive, "rise": lambda _: areas(row_by_row(theirs, x, t, order_of_rise(a), step)).tolist()}
    settings = {"images": len(x), "points": options.points, "target_ratio": 8}
    second = compare("b: adaptive points against RISE", contestants, options.repeats_rise, settings)
    second["points"] = [curve.points.tolist() for curve in made["curves"]]
    second["difference"] = summary(differences(*(np.asarray(second["values"][who]) for who in ("xai_lib", "rise"))))
    return [first, second]


def agreement(model: Any, x: torch.Tensor, t: torch.Tensor, name: str, options: argparse.Namespace) -> dict[str, Any]:
    adaptive, fixed, stated, points = [], [], [], []
    for i in range(0, len(x), 10):
        part = slice(i, i + 10)
        a = METHODS.bind("integrated_gradients", steps=options.steps)(model, x[part], t[part])
        curves = ours(model, x[part], t[part], a, "adaptive")
        adaptive.append(both_areas(curves))
        fixed.append(both_areas(ours(model, x[part], t[part], a, options.points)))
        stated.append(torch.stack([curve.error for curve in curves], dim=1).numpy())
        points.append(torch.stack([curve.points for curve in curves], dim=1).numpy())
        print(f"{i + len(a)} images", flush=True)
    first, second, errors = (np.concatenate(parts) for parts in (adaptive, fixed, stated))
    counts, gaps = np.concatenate(points), differences(first, second)
    return {
        "benchmark": "c: areas with adaptive points against fixed points",
        "settings": {"images": len(x), "data": name, "points": options.points, "target_difference": TARGET},
        "difference": summary(gaps),
        "images_within_target": {name: int((d <= TARGET).sum()) for name, d in gaps.items()},
        "points": {"mean": round(float(counts.mean()), 1), "largest": int(counts.max())},
        "stated_error": {"mean": round(float(errors.mean()), 5), "exceeded": int((np.abs(first - second) > errors).sum())},
        "difference_of_each_image": {name: d.round(6).tolist() for name, d in gaps.items()},
        "areas": {"adaptive": first.round(6).tolist(), "fixed": second.round(6).tolist()},
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer images and repeats")
    parser.add_argument("--toy", action="store_true", help="a tiny net at 28 px: only shows that the script runs")
    parser.add_argument("--only", choices=("speed", "agreement"), help="(a) and (b), or (c)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=OUT)
    chosen = parser.parse_args(arguments)
    sizes = {"images": 3, "few": 1, "many": 50, "points": 225, "steps": 20, "repeats": 3, "repeats_rise": 1}
    if chosen.quick:
        sizes |= {"images": 1, "many": 4, "repeats": 2}
    if chosen.toy:
        sizes |= {"images": 2, "many": 4, "points": 50, "steps": 2}
    options = argparse.Namespace(**vars(chosen), **sizes)
    torch.set_num_threads(options.threads)
    name = "imagenet" if os.environ.get("XAI_DATA") else "photos"
    if options.toy:
        model = theirs = toys.TinyNet(channels=3)
        x = many = torch.rand(options.many, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    else:
        model, theirs = models.load("efficientnet_lite0"), package_model()
        x, many = (
            data.load("photos", seed=0).inputs,
            data.load(name, n=options.many if name == "imagenet" else None, seed=0).inputs,
        )
    x, many = x[: options.images], many[: options.many]
    if options.only != "agreement":
        write(speed(model, theirs, x, compute.logits(model, x).argmax(1), options), options.out)
    if options.only != "speed":
        found = agreement(model, many, compute.logits(model, many).argmax(1), "random" if options.toy else name, options)
        write([found], options.out.with_name("insertion_agreement.json"))


if __name__ == "__main__":
    main()
