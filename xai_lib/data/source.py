"""What every data set has in common: a list of ids, a seeded order, and a function that reads chosen rows.

A source knows its ids without reading pictures, so that choosing is cheap and `batches` holds one batch at a time.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from xai_lib.errors import ConfigError, DataError, unknown
from xai_lib.randomness import key
from xai_lib.types import Samples

Opener = Callable[..., "Source"]
OPENERS: dict[str, Opener] = {}
SPLITS: dict[str, tuple[str, ...]] = {}


@dataclass(frozen=True)
class Source:
    """An opened data set: nothing is read until `read` is called.

    ids     names of all rows, in the order of the source
    read    row numbers -> Samples, in that order
    verify  checks what only this source can check (sums, sizes); returns remarks, raises DataError
    seeded  whether `n` rows are drawn in a seeded order (False: the source is random itself, so its first n rows)
    """

    name: str
    ids: Sequence[str]
    read: Callable[[Sequence[int]], Samples]
    verify: Callable[[], list[str]] = field(default=list)
    seeded: bool = True


def opens(name: str, *splits: str) -> Callable[[Opener], Opener]:
    """Decorator: this function opens the data set `name` as `(split, seed, *, own parameters) -> Source`.

    Args:
        name: name of the data set.
        splits: the splits it has; the first is the default.
    """

    def enter(function: Opener) -> Opener:
        OPENERS[name], SPLITS[name] = function, splits
        return function

    return enter


def open_source(name: str, *, split: str | None, seed: int, **own: Any) -> Source:
    """The opened data set, with split and seed checked.

    Raises:
        ConfigError: unknown split, or a seed that is no whole number.
        DataError: the data set is missing or damaged.
    """
    known = SPLITS[name]
    chosen = known[0] if split is None else split
    if chosen not in known:
        raise unknown(f"split of data set {name!r}", chosen, known)
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise ConfigError(f"data set {name!r}: seed={seed!r} is no whole number")
    return OPENERS[name](chosen, seed, **own)


def choose(source: Source, n: int | None, seed: int, ids: Sequence[str] | None) -> list[int]:
    """Row numbers for a request.

    With `n`, rows are ranked by sha256 of (seed, id), so the first 5 of n=50 are the rows of n=5, a class filter keeps
    the order, and no library version changes it. Without `n` and `ids`: all rows, in the order of the source.

    Raises:
        ConfigError: `n` out of range or together with `ids`; an id that looks like a path.
        DataError: an id that is not in the data set (with the closest ones).
    """
    total = len(source.ids)
    if ids is not None:
        if n is not None:
            raise ConfigError(f"data set {source.name!r}: give n={n} or ids, not both")
        return _rows(source, ids)
    if n is None:
        return list(range(total))
    if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= total:
        raise ConfigError(f"data set {source.name!r}: n={n!r}, expected a whole number from 1 to {total}")
    if not source.seeded:
        return list(range(n))
    return sorted(range(total), key=lambda i: key("data", seed, source.ids[i]))[:n]


def _rows(source: Source, ids: Sequence[str]) -> list[int]:
    if isinstance(ids, str) or not ids or not all(isinstance(i, str) for i in ids):
        raise ConfigError(
            f"data set {source.name!r}: ids={ids!r}, expected a list of at least one name such as {source.ids[0]!r}"
        )
    for i in ids:
        if not i or len(i) > 200 or i.startswith(".") or any(c in i for c in "/\\\0"):
            raise ConfigError(
                f"data set {source.name!r}: id {i[:100]!r} is a path, expected a plain name like {source.ids[0]!r}"
            )
    if len(set(ids)) != len(ids):
        twice = next(i for i in ids if list(ids).count(i) > 1)
        raise ConfigError(f"data set {source.name!r}: id {twice!r} is asked for twice; every sample needs its own id")
    at = {name: row for row, name in enumerate(source.ids)}
    for i in ids:
        if i not in at:
            close = get_close_matches(i, list(source.ids), n=3, cutoff=0.0) if len(at) <= 20_000 else list(source.ids[:3])
            raise DataError(f"data set {source.name!r} has no id {i!r}; closest: {', '.join(close)} ({len(at)} ids in all)")
    return [at[i] for i in ids]


def take(name: str, split: str | None, n: int | None, seed: int, ids: Sequence[str] | None, **own: Any) -> Samples:
    """Open, choose and read: the body of every registered loader."""
    source = open_source(name, split=split, seed=seed, **own)
    return source.read(choose(source, n, seed, ids))


def stream(source: Source, rows: Sequence[int], size: int) -> Iterator[Samples]:
    """The rows in batches of `size`; one batch is in memory at a time."""
    for start in range(0, len(rows), size):
        yield source.read(rows[start : start + size])


def check_size(name: str, size: int) -> None:
    """Refuse a picture size that is no whole number from 8 to 1024.

    Raises:
        ConfigError: out of range.
    """
    if not isinstance(size, int) or isinstance(size, bool) or not 8 <= size <= 1024:
        raise ConfigError(f"data set {name!r}: size={size!r}, expected whole pixels from 8 to 1024")
