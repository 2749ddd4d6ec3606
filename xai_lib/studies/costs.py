"""What one map costs: rows through the model, memory, seconds."""

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from statistics import median
from time import perf_counter
from typing import Any, cast

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from xai_lib.studies.case import Case, rows

METRICS = ("rows_forward", "rows_gradient", "peak_bytes")


@dataclass
class Cost:
    """What happened between the start and the end.

    rows_forward   rows that went through the model and did not come back
    rows_gradient  rows that went through it forward and backward
    peak_bytes     most bytes of tensors alive at once, made since the start
    seconds        of the wall
    """

    rows_forward: int = 0
    rows_gradient: int = 0
    peak_bytes: int = 0
    seconds: float = 0.0


class Allocations(TorchDispatchMode):
    """Counts the bytes of the tensors that operations make, each storage from its birth to its death.

    Views and results in place count nothing, nor does what was alive before. Scratch memory inside one operation and NumPy's
    arrays are not seen. `operations` says how many there were.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = self.operations = 0
        self._alive: dict[int, Any] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Else PyTorch imports its compiler, which takes seconds, to be kept out of here."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do the operation, and look at what is new."""
        self.operations += 1
        for value in args:
            self._see(value, old=True)
        out = func(*args, **(kwargs or {}))
        self._see(out)
        self.peak = max(self.peak, self.now)
        return out

    def _see(self, value: Any, *, old: bool = False) -> None:
        """Count a tensor, or those of a list; what an operation is given and we have not seen was alive before."""
        if isinstance(value, list | tuple):
            for part in value:
                self._see(part, old=old)
        elif isinstance(value, Tensor) and value.layout == torch.strided:
            storage = value.untyped_storage()
            name = id(storage)
            if name not in self._alive:
                size = 0 if old else storage.nbytes()
                self.now += size
                self._alive[name] = weakref.ref(storage, lambda _: self._gone(name, size))

    def _gone(self, name: int, size: int) -> None:
        self._alive.pop(name, None)
        self.now -= size


@contextmanager
def counted(model: nn.Module) -> Iterator[Cost]:
    """Count rows at the model itself, and seconds, of the code inside; the numbers are there when it ends."""
    cost = Cost()

    def passed(module: nn.Module, arguments: Any, out: Tensor) -> None:
        cost.rows_forward += len(out)
        if out.requires_grad:
            out.register_hook(returned)

    def returned(gradient: Tensor) -> None:
        cost.rows_forward -= len(gradient)
        cost.rows_gradient += len(gradient)

    handle = model.register_forward_hook(passed)
    start = perf_counter()
    try:
        yield cost
    finally:
        cost.seconds = perf_counter() - start
        handle.remove()


def rows_of(case: Case, contestants: Mapping[str, Callable[[Case], Tensor]]) -> pd.DataFrame:
    """Cost of each method, one image at a time, nothing shared with another method.

    Rows `rows_forward`, `rows_gradient` and `peak_bytes` (see `Cost`); their column `seconds` is the time of an image, less
    what counting bytes took as far as `delay` tells, some per cent either way. Rows per pass are those that `compute` chooses,
    whatever the case asks for, so that the memory is that of every run.

    Args:
        contestants: by label, what makes the maps of a case.
    """
    images = [
        replace(case, samples=case.samples.subset([i]), targets=case.targets[i : i + 1], max_batch=None)
        for i in range(len(case.samples))
    ]
    frames = []
    for label, make in contestants.items():
        costs = [_cost(image, make) for image in images]
        seconds = sum(cost.seconds for cost in costs)
        for metric in METRICS:
            values = [float(getattr(cost, metric)) for cost in costs]
            frames.append(rows(case, label, metric, values, seconds=seconds))
    return pd.concat(frames)


def _cost(case: Case, make: Callable[[Case], Tensor]) -> Cost:
    with counted(cast(nn.Module, case.model)) as cost, Allocations() as memory:
        make(case)
    cost.peak_bytes = memory.peak
    cost.seconds = max(0.0, cost.seconds - memory.operations * delay())
    return cost


@cache
def delay(rounds: int = 9, n: int = 200) -> float:
    """Seconds by which `Allocations` delays one operation: the median over rounds, on a convolution of a single value."""
    value, found = torch.zeros(1, 1, 1, 1), []
    for _ in range(rounds):
        took = []
        for mode in (nullcontext(), Allocations()):
            with mode:
                start = perf_counter()
                for _ in range(n):
                    torch.conv2d(value, value)
                took.append(perf_counter() - start)
        found.append((took[1] - took[0]) / n)
    return median(found)
