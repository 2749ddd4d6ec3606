"""Folders that are either absent or whole."""

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path

from xai_lib.compendium.processes import uninterrupted
from xai_lib.errors import StoreError

WORK = ".work"


@contextlib.contextmanager
def partial(parent: Path, name: str) -> Iterator[Path]:
    """A scratch folder parent/.<name>.partial, removed on leaving unless it was settled elsewhere.

    Its owner holds a lock in it, so that the leftovers of killed owners can be told from folders in use; they are swept here.

    Raises:
        StoreError: the parent cannot be written.
    """
    fresh, place = parent / f".{name}.new", parent / f".{name}.partial"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        sweep(parent)
        (fresh / WORK).mkdir(parents=True)
        lock = (fresh / WORK / "lock").open("w")
    except OSError as error:
        raise StoreError(f"{parent}: cannot be written: {error.strerror}; check space and permissions") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fresh.rename(place)
        yield place
    finally:
        with uninterrupted():
            for leftover in (fresh, place):
                shutil.rmtree(leftover, ignore_errors=True)
            lock.close()


def sweep(parent: Path) -> None:
    """Remove the partial folders whose owners are gone."""
    for place in parent.glob(".*.partial"):
        try:
            with (place / WORK / "lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(place, ignore_errors=True)
        except OSError:
            continue


def settle(place: Path, target: Path, *, replace: bool) -> None:
    """Move a complete folder to its final name, without its work files, in one rename.

    Args:
        place: the partial folder.
        target: its final place.
        replace: whether a former target gives way (it is renamed aside first and removed last).

    Raises:
        StoreError: it cannot be moved; a former target stays as it was.
    """
    aside = target.with_name(f".{place.name.strip('.')}.former")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(place / WORK, ignore_errors=True)
        with uninterrupted():
            if replace:
                with contextlib.suppress(FileNotFoundError):
                    target.rename(aside)
            try:
                place.rename(target)
            except OSError:
                if aside.exists():
                    aside.rename(target)
                raise
    except OSError as error:
        raise StoreError(f"{target}: cannot be written: {error.strerror}; check space and permissions") from None
    shutil.rmtree(aside, ignore_errors=True)
