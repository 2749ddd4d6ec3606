"""Peak memory against the number of images, each size in a process of its own.

    python -m benchmarks.bench_memory [--quick] [--out FILE]

EfficientNet-Lite0, gradient and sparseness of generated images at 224 px: (a) streamed with `data.batches`, (b) by the grid,
through a store.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.report import write

OUT = Path(__file__).parent / "results" / "memory.json"


def stream(n: int) -> None:
    """Explain n images batch by batch and print the peak resident size in MB."""
    from xai_lib import METHODS, METRICS, data, models

    model = models.load("efficientnet_lite0")
    explain, ask, total = METHODS.bind("gradient"), METRICS.bind("sparseness"), 0.0
    for part in data.batches("shapes", size=16, n=n, own={"size": 224}):
        targets = part.targets.clamp(max=9)
        total += ask(explain(model, part.inputs, targets)).sum().item()
    print(json.dumps({"images": n, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "mean": total / n}))


def through_grid(n: int) -> None:
    """The same by `grid.run`, with maps and values kept in a store."""
    from xai_lib.compendium import grid
    from xai_lib.compendium.store import Store

    with tempfile.TemporaryDirectory() as place:
        asked = {"store": Store(place), "n": n, "shard": 16, "progress": None}
        table = grid.run({"shapes": {"size": 224}}, ["efficientnet_lite0"], ["gradient"], ["sparseness"], **asked)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"images": n, "peak_mb": peak, "mean": float(table.value.mean())}))


WAYS = {"a: streamed": stream, "b: by the grid": through_grid}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="32 and 128 images instead of 100 and 1,000")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--images", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=OUT)
    chosen = parser.parse_args(arguments)
    if chosen.way:
        WAYS[chosen.way](chosen.images)
        return
    rows = []
    for way in WAYS:
        found = []
        for n in (32, 128) if chosen.quick else (100, 1000):
            command = [sys.executable, "-m", "benchmarks.bench_memory", "--way", way, "--images", str(n)]
            found.append(
                json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
            )
        growth = found[1]["peak_mb"] / found[0]["peak_mb"] - 1
        rows.append({"name": f"peak memory, {way}", "runs": found, "growth": round(growth, 4), "target_growth": 0.1})
    write(rows, chosen.out)


if __name__ == "__main__":
    main()
