"""All benchmarks, one after the other: python -m benchmarks [--quick]."""

import sys

from benchmarks import (
    bench_boxes,
    bench_engine,
    bench_insertion,
    bench_memory,
    bench_metrics,
    bench_paths,
    bench_retrain,
    bench_rotation,
)

for script in (
    bench_paths,
    bench_metrics,
    bench_memory,
    bench_engine,
    bench_insertion,
    bench_retrain,
    bench_boxes,
    bench_rotation,
):
    script.main(sys.argv[1:])
