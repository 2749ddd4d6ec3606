"""Rows in chunks: how many at a time, and fewer when memory runs out."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

from xai_lib.allocator import keep_freed_memory
from xai_lib.errors import EngineError, InputError

ROW_VALUES = {"cpu": 8 * 3 * 224 * 224, "cuda": 128 * 3 * 224 * 224}
"""Input values per chunk when `max_batch` is not given: 128 images of 224 px on a GPU, 8 on a CPU."""
FEW, ENOUGH = 4, 16
"""Where a CPU would get FEW rows or more it gets ENOUGH, which is faster: with less, PyTorch gives 1x1 convolutions on one
thread to code that is slower than oneDNN's."""

T = TypeVar("T")


def default_max_batch(inputs: Tensor) -> int:
    """Rows per chunk for inputs of this size on this device, 1 to 1024."""
    per_row = max(1, inputs[0].numel())
    values = ROW_VALUES.get(inputs.device.type, ROW_VALUES["cpu"])
    rows = max(1, min(1024, values // per_row))
    return ENOUGH if inputs.device.type == "cpu" and FEW <= rows < ENOUGH else rows


def in_chunks(work: Callable[[Tensor], T], n_rows: int, like: Tensor, max_batch: int | None) -> Iterator[tuple[Tensor, T]]:
    """`work` on chunks of row numbers, at most `max_batch` at a time, halved on out-of-memory.

    Args:
        work: row numbers (k,) -> anything.
        n_rows, like, max_batch: as in `score_rows`.

    Yields:
        (row numbers, what `work` gave for them) in order.

    Raises:
        InputError: max_batch below 1.
        EngineError: out of memory with a single row.
    """
    size = default_max_batch(like) if max_batch is None else int(max_batch)
    if size < 1:
        raise InputError(f"max_batch={max_batch}: expected at least 1 row per chunk")
    if like.device.type == "cpu":
        keep_freed_memory()
    start = 0
    while start < n_rows:
        index = torch.arange(start, min(start + size, n_rows), device=like.device)
        try:
            result = work(index)
        except (RuntimeError, MemoryError) as error:
            if not _out_of_memory(error):
                raise
            if size == 1:
                raise EngineError("out of memory with max_batch=1; use a smaller model or a smaller image") from error
            size //= 2
            if like.device.type == "cuda":
                torch.cuda.empty_cache()
            continue
        yield index, result
        start += len(index)


def _out_of_memory(error: BaseException) -> bool:
    kinds = (torch.OutOfMemoryError, MemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error) or "not enough memory" in str(error)
