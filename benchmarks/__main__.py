"""All benchmarks, one after the other: python -m benchmarks [--quick]."""

import sys

from benchmarks import bench_engine, bench_memory, bench_metrics, bench_paths

for script in (bench_paths, bench_metrics, bench_memory, bench_engine):
    script.main(sys.argv[1:])
