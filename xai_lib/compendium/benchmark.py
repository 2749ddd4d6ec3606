"""Experiments over many images, through store and engine.

A work is one task over all images of a case, shard by shard. `fill` computes works, `gather` puts their shards together.
Studies use it through `experiments`, the grid of models, methods and metrics through `grid.run`.
"""

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from time import monotonic
from typing import Any

import numpy as np

from xai_lib.compendium import ledger
from xai_lib.compendium.engine import Engine, Serial
from xai_lib.compendium.faultpoints import point
from xai_lib.compendium.progress import Meter
from xai_lib.compendium.store import Arrays, Shard, Store
from xai_lib.compendium.study import root
from xai_lib.compendium.tasks import LEFT_OUT, Outcome, Task, at_work, chunks, item_name, left_out_of, passing
from xai_lib.errors import ConfigError, DataError, EngineError, StoreError

SHARD = 8


@dataclass(frozen=True)
class Work:
    """One task over all items of a case, shard by shard."""

    task: str
    case: Mapping[str, Any]
    items: tuple[Any, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    size: int = SHARD
    max_batch: int | None = None

    def tasks(self) -> list[Task]:
        """The shards."""
        own = {"case": dict(self.case), **self.parameters}
        return [Task(self.task, items, own, {"max_batch": self.max_batch}) for items in chunks(self.items, self.size)]


@dataclass
class Summary:
    """What a computation came to: counts of tasks, seconds, and what has no result."""

    done: int = 0
    known: int = 0
    seconds: float = 0.0
    lost: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def add(self, task: Task, outcome: Outcome) -> None:
        """Count one outcome."""
        if outcome.status == "lost":
            self.lost |= {item_name(item): outcome.why for item in task.items}
        else:
            setattr(self, outcome.status, getattr(self, outcome.status) + 1)
        self.left_out |= outcome.left_out

    def merge(self, other: "Summary") -> None:
        """Add another computation's counts."""
        self.done, self.known, self.seconds = self.done + other.done, self.known + other.known, self.seconds + other.seconds
        self.lost |= other.lost
        self.left_out |= other.left_out


def default_store() -> Store:
    """The store of this process: that of the task at work, else $XAI_STORE, else runs/store in the repository."""
    current = at_work.get()
    return current if current is not None else _opened(os.environ.get("XAI_STORE") or str(root() / "runs" / "store"))


@lru_cache(maxsize=4)
def _opened(place: str) -> Store:
    return Store(place)


def calculate(
    tasks: Iterable[Task], store: Store, engine: Engine, *, label: str = "", timeout: float | None = None, progress: Any = None
) -> Summary:
    """Do what the store does not have yet.

    Args:
        tasks: what is wanted.
        label: of the progress bar.
        timeout: seconds for one task (see `Engine.run`).
        progress: stream for the progress bar, or None for none.

    Raises:
        StoreError, EngineError, ConfigError: see `tasks.perform`; what is finished stays.
    """
    wanted = {task.key: task for task in tasks}
    told = {task.key: left_out_of(store, task.request) for task in wanted.values() if store.has(task.request)}
    missing = [task for key, task in wanted.items() if key not in told or passing(told[key])]
    summary = Summary(known=len(wanted) - len(missing))
    for left in told.values():
        summary.left_out |= {} if passing(left) else left
    start = monotonic()
    with Meter(progress, label, sum(len(task.items) for task in missing)) as meter:
        for outcome in engine.run(missing, store, timeout=timeout):
            if outcome.key not in wanted:
                raise EngineError(
                    "a worker computed under another key: its xai_lib, Python or packages differ from those of this process "
                    "(was the source changed after the start?); use one version everywhere and start again, what is done stays"
                )
            summary.add(wanted[outcome.key], outcome)
            meter.advance(outcome.items)
    summary.seconds = monotonic() - start
    return summary


Stages = Sequence[Sequence[Work]]
"""Works in the order in which they need each other: those of a later stage read what an earlier one stored."""


def part_of(stage: Sequence[Work], part: tuple[int, int]) -> list[Task]:
    """The i-th of k parts of the shards of some works: of every work each k-th, so that a part needs no other part's maps.

    Raises:
        ConfigError: no such part.
    """
    i, k = part
    if not 1 <= i <= k:
        raise ConfigError(f"shard {i}/{k}: expected i/n with 1 <= i <= n")
    return [task for work in stage for task in work.tasks()[i - 1 :: k]]


def fill(
    stages: Stages, store: Store, engine: Engine, *, part: tuple[int, int] = (1, 1), timeout: float | None = None,
    progress: Any = None,
) -> Summary:  # fmt: skip
    """Compute a part of some stages into the store; arguments as in `calculate`."""
    total = Summary()
    for number, stage in enumerate(stages, start=1):
        tasks = part_of(stage, part)
        label = f"stage {number}/{len(stages)}"
        total.merge(calculate(tasks, store, engine, label=label, timeout=timeout, progress=progress))
    return total


@dataclass(frozen=True)
class Gathered:
    """All shards of a work put together.

    arrays    one row an item; names that begin with "_" are common to all items
    left_out  items without a result (rows NaN, or -1 in integer arrays), with the reason
    facts     (number of items, facts) of each shard
    """

    arrays: Arrays
    left_out: Mapping[str, str]
    facts: Sequence[tuple[int, Mapping[str, Any]]]


def gather(work: Work, store: Store | None = None) -> Gathered:
    """The results of a work, computing here what is missing.

    Raises:
        StoreError: a shard that is damaged again right after it was recomputed.
        DataError: no item has a result, because each was left out.
        EngineError: no item has a result, because shards were lost.
    """
    place, tasks = store if store is not None else default_store(), work.tasks()
    summary = calculate(tasks, place, Serial(), label=work.task, progress=default_progress())
    found: list[tuple[Arrays, int]] = []
    left_out: dict[str, str] = {}
    facts: list[tuple[int, Mapping[str, Any]]] = []
    for task in tasks:
        names = map(item_name, task.items)
        lost = {name: f"lost: {summary.lost[name]}" for name in names if name in summary.lost}
        shard = None if lost else _sound(task, place)
        arrays = dict(shard.arrays) if shard else {}
        text = arrays.pop(LEFT_OUT, None)
        left_out |= lost if text is None else json.loads(text.tobytes())
        found.append((arrays, len(task.items)))
        facts.append((len(task.items), shard.facts if shard else {}))
        point("aggregate")
    like = next((arrays for arrays, _ in found if arrays), None)
    if like is None:
        name, why = next(iter(left_out.items()))
        kind = EngineError if summary.lost else DataError
        raise kind(f"task {work.task!r}: none of {len(work.items)} items has a result; {name}: {why}")
    ledger.left_out.update(left_out)
    return Gathered({name: _joined(name, like[name], found) for name in like}, left_out, facts)


def _sound(task: Task, store: Store) -> Shard:
    shard = store.read(task.request)
    if shard is None:  # damaged after it was written: set aside by `read`, computed once more
        calculate([task], store, Serial())
        shard = store.read(task.request)
    if shard is None:
        raise StoreError(
            f"store {store.root}: shard {task.key[:12]} is damaged again right after it was recomputed: check the disk"
        )
    ledger.shards[task.key] = float(shard.facts.get("seconds", 0.0))
    return shard


def _joined(name: str, like: np.ndarray, found: Sequence[tuple[Arrays, int]]) -> np.ndarray:
    if name.startswith("_"):
        if any(arrays and not np.array_equal(arrays[name], like) for arrays, _ in found):
            raise EngineError(f"the shards of one work disagree about {name[1:]!r}: its task depends on its neighbours")
        return like
    fill = np.nan if like.dtype.kind == "f" else -1 if like.dtype.kind == "i" else 0
    return np.concatenate([arrays[name] if arrays else np.full((n, *like.shape[1:]), fill, like.dtype) for arrays, n in found])


def default_progress() -> Any:
    """Standard error, but inside a run, whose runner shows what happens."""
    return None if os.environ.get("XAI_RUN_DIR") else sys.stderr
