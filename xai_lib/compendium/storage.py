"""The store in words: `xai status` and `xai verify`."""

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xai_lib.compendium.store import Store
from xai_lib.compendium.study import root
from xai_lib.compendium.tasks import versions
from xai_lib.errors import StoreError

SHOWN = 20


def here() -> Store:
    """The store of this repository, or $XAI_STORE."""
    return Store(os.environ.get("XAI_STORE") or root() / "runs" / "store")


def status(store: Store | None = None, *, delete_stale: bool = False) -> str:
    """Counts and bytes by task and state; stale shards with what has changed since they were made.

    Args:
        delete_stale: delete those that other versions made (they are never used, and never deleted otherwise).
    """
    place = store or here()
    counts: Counter[tuple[str, str]] = Counter()
    sizes: Counter[tuple[str, str]] = Counter()
    changed: Counter[str] = Counter()
    for found in place.listing(made_with=_now):
        kind = str(found.request.get("task", "unknown")), found.state
        counts[kind] += 1
        sizes[kind] += found.bytes
        if found.state == "stale":
            now, then = _now(found.request), found.request.get("made_with") or {}
            changed.update(name for name in {*now, *then} if now.get(name) != then.get(name))
            if delete_stale:
                place.delete(found.key)
    lines = [f"{_name(place)}: {sum(counts.values())} shards, {sum(sizes.values()) / 1e6:,.1f} MB"]
    lines += [
        f"  {state:8} {task:24} {counts[task, state]:6} {sizes[task, state] / 1e6:12,.1f} MB" for task, state in sorted(counts)
    ]
    if changed:
        what = "deleted" if delete_stale else "kept, not used; --delete-stale deletes them"
        lines.append(f"stale because these changed: {', '.join(sorted(changed))} ({what})")
    aside = len({path.name.split(".")[0] for path in (place.root / "corrupt").iterdir()})
    if aside:
        lines.append(f"{aside} damaged shards were set aside in corrupt/")
    return "\n".join(lines)


def verify(store: Store | None = None) -> tuple[str, int]:
    """Every payload against its checksum; damaged shards are set aside, to be computed again by the next run.

    Returns:
        (report, exit code): 0 when all are sound, 5 otherwise.
    """
    place = store or here()
    total, bad = 0, []
    for found in place.listing(check=True):
        total += 1
        if found.state == "corrupt":
            place.set_aside(found.key)
            bad.append(f"  {found.key[:12]}: {found.why}")
    if not bad:
        return f"{_name(place)}: {total} shards, all sound", 0
    more = [f"  ... and {len(bad) - SHOWN} more"] if len(bad) > SHOWN else []
    text = f"{_name(place)}: {len(bad)} of {total} shards are damaged and were set aside; the next run computes them again"
    return "\n".join([text, *bad[:SHOWN], *more]), StoreError.exit_code


def _now(request: Mapping[str, Any]) -> dict[str, str]:
    return versions(str(request.get("task")), request.get("parameters", {}))


def _name(store: Store) -> Path:
    top = root()
    return store.root.relative_to(top) if store.root.is_relative_to(top) else store.root
