"""One thread while a function runs, and what was there before afterwards."""

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from xai_lib.threads import on_one_thread


def counts() -> set[int]:
    np.ones((2, 2)) @ np.ones((2, 2))
    return {pool["num_threads"] for pool in threadpool_info()}


def test_threads_are_limited_inside_and_put_back() -> None:
    with threadpool_limits(limits=2):
        before = counts()
        assert on_one_thread(counts)() == {1}
        assert counts() == before


def test_arguments_results_and_name_go_through() -> None:
    def divided(a: float, *, by: float) -> float:
        """Text."""
        return a / by

    held = on_one_thread(divided)
    assert (held(6, by=3), held.__name__, held.__doc__) == (2, "divided", "Text.")
    with pytest.raises(ZeroDivisionError):
        held(1, by=0)
