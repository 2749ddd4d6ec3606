"""What a study would compute, how much of it is stored, and how long the rest would take; and computing it ahead.

A study takes part by a module xai_lib/studies/<study>.py with a function `works(parameters) -> stages of works`.
"""

import importlib
import importlib.util
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from xai_lib.compendium import ledger, retraining_probe
from xai_lib.compendium.benchmark import Stages, Summary, Work, default_store, fill
from xai_lib.compendium.engine import open_engine
from xai_lib.compendium.experiments import reopened
from xai_lib.compendium.progress import clock
from xai_lib.compendium.store import Store
from xai_lib.compendium.study import Resolved, Study
from xai_lib.compendium.tasks import TASKS, Task, item_name, with_quarantine
from xai_lib.errors import ConfigError, XaiError


def works_of(study: Study, resolved: Resolved) -> Stages:
    """The works of a study under these parameters.

    Raises:
        ConfigError: the study computes everything inside its notebook.
    """
    name = f"xai_lib.studies.{study.name}"
    works = getattr(importlib.import_module(name), "works", None) if importlib.util.find_spec(name) else None
    if works is None:
        raise ConfigError(f"study {study.name!r} has no plan: everything is computed inside its notebook, by `xai run` alone")
    stages: Stages = works(resolved.values)
    return stages


def read_part(text: str | None) -> tuple[int, int]:
    """The (i, n) of "i/n".

    Raises:
        ConfigError: it is none.

    >>> read_part("2/4"), read_part(None)
    ((2, 4), (1, 1))
    """
    first, slash, last = (text or "1/1").partition("/")
    if not slash or not first.isdigit() or not last.isdigit() or not 1 <= int(first) <= int(last) <= 100_000:
        raise ConfigError(f"--shard {text!r}: expected i/n with 1 <= i <= n, such as 2/8")
    return int(first), int(last)


def compute(
    study: Study, resolved: Resolved, *, engine: str, shard: str | None = None, timeout: float | None = None,
    progress: Any = sys.stderr,
) -> Summary:  # fmt: skip
    """Compute a study, or one part of it, into the store, without its notebook.

    Args:
        engine: see `engine.open_engine`.
        shard: "i/n" for the i-th of n parts.
        timeout: seconds one shard may take.
        progress: stream for the progress bar, or None.

    Raises:
        ConfigError, DataError, ModelError: the request, a data set or weights.
        StoreError, EngineError: see `benchmark.calculate`; what is finished stays.
    """
    part = read_part(shard)
    with open_engine(engine) as workers:
        ledger.clear()
        summary = fill(works_of(study, resolved), default_store(), workers, part=part, timeout=timeout, progress=progress)
        summary.left_out = {**ledger.left_out, **summary.left_out}
        return summary


def report(summary: Summary) -> str:
    """A summary in words."""
    lines = [f"{summary.done} shards computed, {summary.known} were there, {clock(summary.seconds)}"]
    for title, items in (("quarantined", summary.left_out), ("lost", summary.lost)):
        lines += [f"{title}: {name}: {why}" for name, why in list(items.items())[:20]]
        lines += [f"... and {len(items) - 20} more"] if len(items) > 20 else []
    return "\n".join(lines)


@dataclass(frozen=True)
class Line:
    """One work of a plan: what is there, and what the rest would take."""

    label: str
    images: int
    shards: int
    missing: int
    forward: int
    backward: int
    bytes: int
    seconds: float


def plan(stages: Stages, store: Store) -> list[Line]:
    """Measure every work on its first image, and multiply.

    Rows are counted by watching the model; bytes and seconds are those of the one image (a second time, so that neither loading
    nor the first pass counts), times the images of the missing shards. Of a training a few steps are measured.
    """
    return [_line(work, store) for stage in stages for work in stage]


def _line(work: Work, store: Store) -> Line:
    tasks = work.tasks()
    missing = [task for task in tasks if not store.has(task.request)]
    label = f"{TASKS[work.task].label} ({work.case['dataset']}, {work.case['model']})"
    if not missing:
        return Line(label, len(work.items), len(tasks), 0, 0, 0, 0, 0.0)
    images = sum(len(task.items) for task in missing)
    forward, backward, size, seconds = retraining_probe.COSTS.get(work.task, _probe)(missing[0], work)
    return Line(
        label, len(work.items), len(tasks), len(missing), forward * images, backward * images, size * images, seconds * images
    )


def _probe(task: Task, work: Work) -> tuple[int, int, int, float]:
    """(forward rows, rows with gradient, bytes, seconds) of one image."""
    function = TASKS.bind(task.name, **task.parameters)
    item = [task.items[0]]
    model = reopened(work.case, item).model
    counts = {True: 0, False: 0}

    def count(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        counts[torch.is_grad_enabled()] += len(inputs[0])

    handle = model.register_forward_pre_hook(count) if isinstance(model, torch.nn.Module) else None
    try:
        start = time.perf_counter()
        arrays, left_out = with_quarantine(function, item, {})
        seconds = time.perf_counter() - start
    finally:
        if handle is not None:
            handle.remove()
    if left_out:
        raise XaiError(f"plan: the first image, {item_name(item[0])}, cannot be computed: {next(iter(left_out.values()))}")
    return counts[False], counts[True], sum(array.nbytes for array in arrays.values()), seconds


def table(lines: Sequence[Line], workers: int = 1) -> str:
    """A plan as a text table with its sums."""
    head = ("work", "images", "shards", "missing", "rows forward", "rows with gradient", "MB", "minutes")
    rows: list[Sequence[str]] = [head]
    for line in lines:
        rows.append(_cells(line.label, line))
    total = Line("all", 0, *(sum(getattr(line, name) for line in lines) for name in _SUMS))
    rows.append(_cells("all", total, images=""))
    widths = [max(len(row[k]) for row in rows) for k in range(len(head))]
    text = "\n".join(
        "  ".join(c.rjust(w) if k else c.ljust(w) for k, (c, w) in enumerate(zip(row, widths, strict=True))) for row in rows
    )
    shared = f"; about {total.seconds / 60 / workers:.1f} with {workers} workers" if workers > 1 else ""
    return f"{text}\n\nabout {total.seconds / 60:.1f} minutes in one process, measured on one image of each work{shared}"


_SUMS = ("shards", "missing", "forward", "backward", "bytes", "seconds")


def _cells(label: str, line: Line, images: str | None = None) -> list[str]:
    numbers = [f"{v:,}" for v in (line.shards, line.missing, line.forward, line.backward)]
    count = f"{line.images:,}" if images is None else images
    return [label, count, *numbers, f"{line.bytes / 1e6:,.1f}", f"{line.seconds / 60:.1f}"]
