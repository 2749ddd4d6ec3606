"""Tasks without torch for the tests of store and engine; workers find them through XAI_TASKS."""

import os
import signal
import time
from pathlib import Path

import numpy as np

from xai_lib.compendium.tasks import TASKS
from xai_lib.errors import DataError

if os.environ.get("XAI_TOYS") == "alone":  # a child then needs no torch: it starts in 0.3 s, not in 6
    vars(TASKS)["_home"] = ""


def first_time(mark):
    """Whether nobody was here before; with an empty `mark` always. The mark stays for whoever comes after."""
    if mark and Path(mark).exists():
        return False
    if mark:
        Path(mark).touch()
    return True


@TASKS.register(label="No-op", cite="none")
def noop(items):
    return {"value": np.zeros(len(items))}


@TASKS.register(label="Powers", cite="none")
def powers(items, *, exponent: int = 2, case: dict | None = None, pause: float = 0.0, log: str = ""):
    """`log` gets a line for each call, so that a test knows what was computed, and how often."""
    if log:
        with Path(log).open("a") as file:
            file.write(f"{items[0]} {os.getpid()}\n")
    time.sleep(pause)
    return {"value": np.array([float(item) ** exponent for item in items]), "index": np.arange(len(items))}


@TASKS.register(label="Noise", cite="none")
def noise(items, *, seed: int = 0, case: dict | None = None):
    """Draws belong to the item, so shards never depend on their neighbours."""
    return {"value": np.stack([np.random.default_rng([seed, int(item)]).random(64) for item in items])}


@TASKS.register(label="Large", cite="none")
def large(items, *, kilobytes: int):
    """Rows of a chosen size."""
    rows = [np.random.default_rng(int(item)).integers(0, 256, kilobytes * 1024, np.uint8) for item in items]
    return {"value": np.stack(rows)}


@TASKS.register(label="Deadly", cite="none")
def deadly(items, *, item: int, once: str = "", pause: float = 0.0):
    """Kills its process at one item, always, or only if the file `once` does not exist yet."""
    if item in items and first_time(once):
        time.sleep(pause)
        os.kill(os.getpid(), signal.SIGKILL)
    return {"value": np.array(items, dtype=float)}


@TASKS.register(label="Poisoned", cite="none")
def poisoned(items, *, item: int, once: str = "", pause: float = 0.0, log: str = ""):
    """Fails at one item as CUDA does when its context is beyond repair; `log` gets the process of each attempt."""
    if item in items:
        with Path(log).open("a") as file:
            file.write(f"{os.getpid()}\n")
        if first_time(once):
            time.sleep(pause)
            raise RuntimeError("CUDA error: device-side assert triggered")
    return {"value": np.array(items, dtype=float)}


@TASKS.register(label="Bad items", cite="none")
def bad_items(items, *, bad: list):
    for item in items:
        if item in bad:
            raise DataError(f"item {item} cannot be read")
    return {"value": np.array(items, dtype=float), "index": np.array(items)}


@TASKS.register(label="Hungry", cite="none")
def hungry(items, *, most: int, case: dict | None = None):
    """Takes `most` items at once, and none above 99."""
    if len(items) > most or max(items) > 99:
        raise MemoryError("too much at once")
    return {"value": np.array(items, dtype=float)}


@TASKS.register(label="Greedy", cite="none")
def greedy(items, *, megabytes: int, item: int = -1):
    """Allocates and touches memory for each item, or for one item only."""
    count = len(items) if item < 0 else int(item in items)
    block = np.ones(megabytes * count * 2**17)
    return {"value": np.array(items, dtype=float) + 0 * block.sum()}


@TASKS.register(label="Sleeper", cite="none")
def sleeper(items, *, seconds: float, item: int = -1):
    if item in items or item < 0:
        time.sleep(seconds)
    return {"value": np.array(items, dtype=float)}


@TASKS.register(label="Wrong", cite="none")
def wrong(items):
    raise KeyError("a mistake in the task itself")
