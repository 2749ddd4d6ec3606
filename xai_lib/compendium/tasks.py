"""Work as names and JSON: what a worker may be asked to do, and the one function that does it.

A task is a registered function over items, `function(items, **parameters) -> {name: (len(items), ...) array}` (a name that
begins with "_" is common to all items). Its request (name, parameters, items, versions) is the key under which the result is
stored, so whoever performs it, and however often, the same bytes end up in the same place.
"""

import importlib
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from xai_lib.compendium.canonical import canonical, key_of
from xai_lib.compendium.faultpoints import point
from xai_lib.compendium.made_with import made_with
from xai_lib.compendium.store import Arrays, Store
from xai_lib.errors import ConfigError, DataError, EngineError, InputError, ModelError, StoreError
from xai_lib.registry import Registry

TASKS = Registry("task", "xai_lib.compendium.task_list")
ITEM_ERRORS = (DataError, InputError, ModelError)
LEFT_OUT = "quarantined"
FACTS = "facts"
at_work: ContextVar[Store | None] = ContextVar("store", default=None)
"""The store of the task that is being performed, for tasks that read what others stored."""
POISONED = ("device-side assert", "CUDA error", "CUBLAS_STATUS", "CUDNN_STATUS")


@dataclass(frozen=True)
class Task:
    """One shard to be: a registered name, plain JSON, and what may not change the numbers.

    name        of a registered task
    items       what the result has one row for each of
    parameters  keyword arguments of the task
    settings    further keyword arguments that change no number (max_batch) and are no part of the key
    """

    name: str
    items: tuple[Any, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        canonical([self.name, list(self.items), dict(self.parameters), dict(self.settings)])
        if not self.items:
            raise ConfigError(f"task {self.name!r}: no items")

    @property
    def request(self) -> dict[str, Any]:
        """What the result is a function of."""
        own = {"task": self.name, "items": list(self.items), "parameters": dict(self.parameters)}
        return {**own, "made_with": versions(self.name, self.parameters)}

    @property
    def key(self) -> str:
        """Where the result is stored."""
        return key_of(self.request)

    def text(self) -> str:
        """What is sent to a worker."""
        return canonical([self.name, list(self.items), dict(self.parameters), dict(self.settings)]).decode()

    @classmethod
    def read(cls, text: str) -> "Task":
        """The task of a text."""
        name, items, parameters, settings = json.loads(text)
        return cls(name, tuple(items), parameters, settings)


@dataclass(frozen=True)
class Outcome:
    """What became of a task.

    status  done, known (it was there), or lost (no result; `why` says what happened)
    left_out  items without a result, with the reason
    """

    key: str
    status: str
    items: int
    seconds: float = 0.0
    left_out: Mapping[str, str] = field(default_factory=dict)
    why: str = ""


def versions(name: str, parameters: Mapping[str, Any]) -> dict[str, str]:
    """What made, or would make, the numbers of a task now.

    A task registered with the trait "sources", a function of its parameters that names modules of xai_lib, depends on their
    source and on what they import; any other task on all of the algorithms' source.
    """
    load_testing_tasks()
    sources = TASKS[name].traits.get("sources") if name in TASKS else None
    return made_with(tuple(sources(parameters))) if sources else made_with()


def item_name(item: Any) -> str:
    """What an item is called in messages: its first part."""
    return str(item[0] if isinstance(item, list | tuple) else item)


def perform(text: str, root: str, expendable: bool = False) -> dict[str, Any]:
    """Do one task and store its result; the function that workers run.

    Args:
        text: the task, as `Task.text` writes it.
        root: folder of the store.
        expendable: this process may end itself (a worker that is replaced), so a poisoned CUDA context ends it.

    Returns:
        The fields of an Outcome, as JSON.

    Raises:
        ConfigError: no such task or parameter.
        StoreError: the result cannot be written, or the data are not those that were asked about.
        EngineError: the task itself is wrong (an error that is no item's fault).
    """
    task = Task.read(text)
    store, request = _store(root), task.request
    function = _bound(task)
    start = time.perf_counter()
    if store.has(request) and store.read(request) is not None and not passing(left := left_out_of(store, request)):
        return vars(Outcome(task.key, "known", len(task.items), 0.0, left))
    facts: dict[str, Any] = {}
    token = at_work.set(store)
    try:
        point("before_task")
        arrays, left_out = with_quarantine(function, list(task.items), facts)
    except (ConfigError, StoreError):
        raise
    except (MemoryError, EngineError) as error:
        why = f"{type(error).__name__}: {error}"
        return vars(Outcome(task.key, "lost", len(task.items), time.perf_counter() - start, {}, why))
    except Exception as error:
        if expendable and isinstance(error, RuntimeError) and any(word in str(error) for word in POISONED):
            os._exit(70)  # a CUDA context does not recover; the worker is replaced, and the task tried once more
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}:{last.lineno}"
        raise EngineError(f"task {task.name!r} failed: {type(error).__name__} at {place}: {error}") from error
    finally:
        at_work.reset(token)
    if left_out:
        arrays[LEFT_OUT] = np.frombuffer(canonical(left_out), dtype=np.uint8)
    seconds = time.perf_counter() - start
    store.write(request, arrays, {"seconds": seconds, "machine": machine(), **facts})
    return vars(Outcome(task.key, "done", len(task.items), seconds, left_out))


def known(text: str) -> None:
    """Import what a task needs.

    Raises:
        ConfigError: no such task or parameter.
    """
    _bound(Task.read(text))


def left_out_of(store: Store, request: Mapping[str, Any]) -> dict[str, str]:
    """What a stored shard left out, with the reasons."""
    shard = store.read(request) if store.holds(request, LEFT_OUT) else None
    return dict(json.loads(shard.arrays[LEFT_OUT].tobytes())) if shard is not None else {}


def passing(left_out: Mapping[str, str]) -> bool:
    """Whether something was left out that may be there next time: a file that could not be read."""
    return any(why.startswith("DataError") for why in left_out.values())


def with_quarantine(
    function: Callable[[list[Any]], Mapping[str, Any]], items: list[Any], facts: dict[str, Any]
) -> tuple[Arrays, dict[str, str]]:
    """The arrays of all items; where one is bad, the others go on, and its rows are NaN.

    Returns:
        (arrays with one row an item, {name of a left-out item: reason}). A left-out item's row is NaN, in integer arrays -1.
        There are no arrays if every item is bad.
    """
    try:
        return _split(function(items), len(items), facts)
    except (*ITEM_ERRORS, MemoryError) as error:
        if len(items) == 1:
            if isinstance(error, MemoryError):
                raise
            return {}, {item_name(items[0]): f"{type(error).__name__}: {error}"}
    single = [with_quarantine(function, [item], {}) for item in items]
    left_out = {name: why for _, own in single for name, why in own.items()}
    like = next((arrays for arrays, _ in single if arrays), None)
    if like is None:
        return {}, left_out
    whole = {}
    for name, array in like.items():
        if name.startswith("_"):
            whole[name] = array
            continue
        whole[name] = np.concatenate([arrays.get(name, _blank(array)) for arrays, _ in single])
    return whole, left_out


def _blank(like: np.ndarray) -> np.ndarray:
    return np.full((1, *like.shape[1:]), np.nan if like.dtype.kind == "f" else -1 if like.dtype.kind == "i" else 0, like.dtype)


def _split(made: Mapping[str, Any], n: int, facts: dict[str, Any]) -> tuple[Arrays, dict[str, str]]:
    """Arrays, facts and left-out items of a task's answer; every array has one row an item."""
    arrays: Arrays = {}
    for name, value in made.items():
        if name == FACTS:
            facts.update(value)
        if name in (FACTS, LEFT_OUT):
            continue
        array = np.asarray(value)
        if not name.startswith("_") and (array.ndim < 1 or len(array) != n):
            raise EngineError(f"a task returned {name!r} of shape {array.shape} for {n} items; expected one row an item")
        arrays[name] = array
    return arrays, dict(made.get(LEFT_OUT, {}))


def _bound(task: Task) -> Callable[[list[Any]], Mapping[str, Any]]:
    load_testing_tasks()
    own = TASKS[task.name].parameters
    settings = {name: value for name, value in task.settings.items() if name in own}
    return partial(TASKS.bind(task.name, **{**task.parameters, **settings}))


@cache
def load_testing_tasks() -> None:
    """Tasks of the tests, which a worker of theirs has to find: XAI_TASKS=module, only together with XAI_TESTING=1."""
    if os.environ.get("XAI_TESTING") == "1" and os.environ.get("XAI_TASKS"):
        importlib.import_module(os.environ["XAI_TASKS"])


@cache
def _store(root: str) -> Store:
    return Store(root)


def machine() -> dict[str, Any]:
    """Where a number was computed."""
    torch = sys.modules.get("torch")
    found: dict[str, Any] = {"system": f"{platform.system()} {platform.machine()}", "pid": os.getpid()}
    if torch is not None:
        gpu = torch.cuda.is_available() and torch.cuda.is_initialized()
        found |= {"device": torch.cuda.get_device_name() if gpu else "cpu", "threads": torch.get_num_threads()}
    return found


def chunks(items: Sequence[Any], size: int) -> list[tuple[Any, ...]]:
    """Items in shards of `size`.

    >>> chunks("abcde", 2)
    [('a', 'b'), ('c', 'd'), ('e',)]
    """
    return [tuple(items[start : start + size]) for start in range(0, len(items), size)]
