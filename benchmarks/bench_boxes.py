"""Boxes of one map at 1,000 thresholds against a threshold-by-threshold loop of OpenCV, as ratios of times in one run.

    python -m benchmarks.bench_boxes [--quick] [--out FILE]

Maps of 224 px: "blurred" noise under a Gaussian of 8 px, "enlarged" a 7x7 map as class activation maps are, negative part cut,
"noisy" |noise| under a smooth envelope as gradients look. Repeats are interleaved; before anything is timed, the boxes of all
contestants are held against each other, and a difference ends the script.

(a) the box of the largest component (MaxBoxAcc), `components(...).largest_boxes` against connectedComponentsWithStats
(b) the best IoU among the boxes of all components with one true box (MaxBoxAccV2), the same two
(c) the boxes of the WSOL benchmark of Choe et al. (8 bits, polygon area): `contour_boxes(...).largest_boxes` against
    findContours; "by levels" is that loop over the thresholds that differ after rounding, at most 256
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks.bench_metrics import compare
from benchmarks.report import write
from xai_lib.boxes import best_iou, wsol_boxes
from xai_lib.component_tree import components
from xai_lib.contour_tree import contour_boxes

OUT = Path(__file__).parent / "results" / "boxes.json"
SIZE, TRUTH = 224, np.array([[60, 40, 180, 170]])


def drawn(kind: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    if kind == "blurred":
        made = cv2.GaussianBlur(rng.standard_normal((SIZE, SIZE)), (0, 0), 8)
    elif kind == "enlarged":
        made = cv2.resize(rng.standard_normal((7, 7)), (SIZE, SIZE), interpolation=cv2.INTER_LINEAR).clip(min=0)
    else:
        envelope = cv2.GaussianBlur(rng.random((SIZE, SIZE)), (0, 0), 8)
        made = np.abs(rng.standard_normal((SIZE, SIZE))) * envelope
    return np.asarray((made - made.min()) / np.ptp(made))


def found(one_map: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, boxes and areas of the components above one threshold."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats((one_map > threshold).view(np.uint8), connectivity=8)
    boxes, areas = stats[1:, :4], stats[1:, 4]
    boxes[:, 2:] += boxes[:, :2]
    return labels, boxes, areas


def largest_loop(one_map: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    rows = np.zeros((len(thresholds), 4), dtype=np.int64)
    for row, threshold in zip(rows, thresholds, strict=True):
        labels, boxes, areas = found(one_map, threshold)
        if len(areas) == 0:
            continue
        largest = areas.argmax()
        tied = np.append(False, areas == areas[largest])
        if tied.sum() > 1:  # the first in reading order
            largest = labels.ravel()[tied[labels].argmax()] - 1
        row[:] = boxes[largest]
    return rows


def every_loop(one_map: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    return np.array([best_iou(found(one_map, threshold)[1], TRUTH).max(initial=0.0) for threshold in thresholds])


def every_tree(one_map: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    made = components(one_map, thresholds)
    return made.best(best_iou(made.boxes, TRUTH))


def contour_loop(one_map: np.ndarray, thresholds: np.ndarray, by_levels: bool = False) -> np.ndarray:
    image = (one_map * 255).astype(np.uint8)
    levels = (thresholds * image.max()).astype(int)
    asked, inverse = np.unique(levels, return_inverse=True) if by_levels else (levels, np.arange(len(levels)))
    rows = np.zeros((len(asked), 4), dtype=np.int64)
    for row, level in zip(rows, asked.tolist(), strict=True):
        _, binary = cv2.threshold(image, level, 255, cv2.THRESH_BINARY)
        contours, _ = cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
        if contours:
            x, y, w, h = cv2.boundingRect(max(contours, key=cv2.contourArea))
            row[:] = x, y, x + w, y + h
    return wsol_boxes(rows, (SIZE, SIZE))[inverse]


Contestant = Callable[[np.ndarray, np.ndarray], np.ndarray]
PARTS: dict[str, dict[str, Contestant]] = {
    "a: largest component": {"xai_lib": lambda m, t: components(m, t).largest_boxes, "opencv loop": largest_loop},
    "b: every component": {"xai_lib": every_tree, "opencv loop": every_loop},
    "c: the WSOL benchmark's boxes": {
        "xai_lib": lambda m, t: contour_boxes(m, t).largest_boxes,
        "opencv loop": contour_loop,
        "opencv loop by levels": lambda m, t: contour_loop(m, t, by_levels=True),
    },
}


def measured(part: str, kind: str, count: int, repeats: int) -> dict[str, Any]:
    one_map, thresholds = drawn(kind), np.arange(count) * (1 / count)
    answers = {who: ask(one_map, thresholds) for who, ask in PARTS[part].items()}
    for who, answer in answers.items():
        if not np.array_equal(answer, answers["xai_lib"]):
            raise SystemExit(f"{part}, {kind}: {who} finds other boxes")
    contestants = {who: lambda _, ask=ask: float(ask(one_map, thresholds).sum()) for who, ask in PARTS[part].items()}
    settings: dict[str, Any] = {"map": kind, "side": SIZE, "thresholds": count, "identical": True}
    settings |= {"components": len(components(one_map, thresholds))}
    settings |= {"target_ratio": 10} if part.startswith(("a", "b")) else {}
    return compare(part, contestants, repeats, settings)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer thresholds and repeats")
    parser.add_argument("--out", type=Path, default=OUT)
    chosen = parser.parse_args(arguments)
    count, repeats = (200, 2) if chosen.quick else (1000, 3)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(torch.get_num_threads())
    rows = [measured(part, kind, count, repeats) for part in PARTS for kind in ("blurred", "enlarged", "noisy")]
    cv2.setNumThreads(threads)
    write(rows, chosen.out)


if __name__ == "__main__":
    main()
