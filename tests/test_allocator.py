"""Freed memory is kept: once, where glibc allows it, and never against the user's own settings."""

import ctypes
import platform
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from xai_lib import allocator, compute, toys


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    made: list[tuple[int, int]] = []

    def mallopt(option: int, value: int) -> int:
        made.append((option, value))
        return 1

    for name in allocator.OWN_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(mallopt=mallopt))
    allocator.keep_freed_memory.cache_clear()
    yield made
    allocator.keep_freed_memory.cache_clear()


def test_set_once_by_the_first_rows_on_a_cpu(calls: list[Any]) -> None:
    for _ in range(2):
        compute.scores(toys.linear([[1.0, 2.0]]), torch.ones(1, 2), torch.zeros(1, dtype=torch.int64))
    assert calls == [(-3, 1 << 30), (-1, 1 << 30)]


@pytest.mark.parametrize("name", allocator.OWN_SETTINGS)
def test_the_users_own_settings_win(calls: list[Any], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    assert not allocator.keep_freed_memory()
    assert calls == []


def test_another_c_library_is_no_error(calls: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    assert not allocator.keep_freed_memory()
    assert calls == []


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_glibc_takes_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in allocator.OWN_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    assert allocator.keep_freed_memory.__wrapped__()
