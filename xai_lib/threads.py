"""Small work on one thread."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from threadpoolctl import threadpool_limits

P = ParamSpec("P")
R = TypeVar("R")


def on_one_thread(function: Callable[P, R]) -> Callable[P, R]:
    """The function with OpenMP and BLAS held to one thread while it runs.

    For fits of small tables, which several threads do not make faster: OpenMP lets them wait for each other by turning, so that
    on cores that another process uses a fit of a second can take a minute.

    >>> import math
    >>> on_one_thread(math.sqrt)(4.0)
    2.0
    """

    @wraps(function)
    def held(*args: P.args, **kwargs: P.kwargs) -> R:
        with threadpool_limits(limits=1):
            return function(*args, **kwargs)

    return held
