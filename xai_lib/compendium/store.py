"""Results on disk that survive anything: a shard is there whole, or it is not there.

    shards/<2 hex>/<key>.safetensors   the numbers
    shards/<2 hex>/<key>.json          the manifest, written last: request, key, checksum, size
    facts/<2 hex>/<key>.json           seconds, machine, versions: what may differ between two runs of one request
    corrupt/                           what was set aside
    tmp/                               files being written

The key is the sha256 of the canonical JSON of the request, so a shard never needs a lock: whoever computes it writes the same
bytes. A file is written under tmp/, synced, and renamed; the manifest only when its payload is in place.
"""

import contextlib
import hashlib
import json
import os
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from safetensors import SafetensorError
from safetensors.numpy import load, save

from xai_lib.compendium.canonical import canonical, key_of
from xai_lib.compendium.faultpoints import point
from xai_lib.errors import ConfigError, StoreError

PAYLOAD, MANIFEST = ".safetensors", ".json"
FORMAT = 1
EMPTY: Mapping[str, Any] = {}

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Shard:
    """One shard as it was read: its numbers, and what is known about how they were made."""

    arrays: Arrays
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Found:
    """One shard in a listing. state: sound, stale, corrupt."""

    key: str
    state: str
    bytes: int
    request: Mapping[str, Any]
    why: str = ""


class Store:
    """A folder of shards.

    Raises:
        StoreError: the folder cannot be written (said now, not after an hour).
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).absolute()
        try:
            for name in ("shards", "facts", "corrupt", "tmp"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            probe = self._temporary("probe")
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise StoreError(f"store {self.root}: cannot be written: {error.strerror}; check space and permissions") from None
        self.sweep()

    def has(self, request: Mapping[str, Any]) -> bool:
        """Whether a manifest is there (the payload is checked when it is read)."""
        return self._path("shards", key_of(request), MANIFEST).is_file()

    def read(self, request: Mapping[str, Any]) -> Shard | None:
        """The shard of a request, or None. What is there but not sound is set aside into corrupt/ and counts as absent."""
        key = key_of(request)
        wrong, arrays = self._check(key)
        if wrong:
            self.set_aside(key)
        if arrays is None:
            return None
        return Shard(arrays, self._facts(key))

    def holds(self, request: Mapping[str, Any], name: str) -> bool:
        """Whether the manifest of a request lists this array."""
        try:
            return name in self._manifest(key_of(request)).get("arrays", {})
        except (OSError, ValueError):
            return False

    def write(self, request: Mapping[str, Any], arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any] = EMPTY) -> str:
        """Write a shard: payload, then facts, then manifest; returns its key.

        Raises:
            StoreError: no space, a file size limit, or no permission; nothing half-written is left, other shards are intact.
        """
        key = key_of(request)
        own = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        payload = save(own)
        manifest = {
            "format": FORMAT,
            "key": key,
            "request": request,
            "sha256": hashlib.sha256(payload).hexdigest(),
            "bytes": len(payload),
            "arrays": {name: [str(array.dtype), list(array.shape)] for name, array in own.items()},
            "order": list(own),
        }
        point("before_tmp")
        self._put(self._path("shards", key, PAYLOAD), payload, "payload")
        self._put(self._path("facts", key, MANIFEST), json.dumps(dict(facts), sort_keys=True).encode(), "facts")
        point("between")
        self._put(self._path("shards", key, MANIFEST), canonical(manifest) + b"\n", "manifest")
        point("after_manifest")
        return key

    def set_aside(self, key: str) -> None:
        """Move what is there under a key into corrupt/."""
        token = secrets.token_hex(4)
        try:
            for end in (MANIFEST, PAYLOAD):  # the manifest first: without it the shard does not exist
                path = self._path("shards", key, end)
                with contextlib.suppress(FileNotFoundError):  # somebody else found the same
                    path.rename(self.root / "corrupt" / f"{key}.{token}{end}")
        except OSError as error:
            raise StoreError(
                f"store {self.root}: shard {key[:12]} is damaged and cannot be set aside: {error.strerror}"
            ) from None

    def delete(self, key: str) -> None:
        """Delete a shard: manifest first, so that it is gone at once."""
        for kind, end in (("shards", MANIFEST), ("shards", PAYLOAD), ("facts", MANIFEST)):
            self._path(kind, key, end).unlink(missing_ok=True)

    def listing(self, *, made_with: Callable[[Mapping[str, Any]], Any] | None = None, check: bool = False) -> Iterator[Found]:
        """Every shard, in key order.

        Args:
            made_with: request -> versions now; shards that say otherwise under "made_with" are stale: kept, never used.
            check: read every payload and compare it with its checksum.
        """
        for path in sorted((self.root / "shards").glob(f"*/*{MANIFEST}")):
            key = path.name.removesuffix(MANIFEST)
            try:
                manifest = self._manifest(key)
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                yield Found(key, "corrupt", _size(path), {}, str(error))
                continue
            wrong = self._check(key)[0] if check else ""
            request = manifest["request"]
            stale = made_with is not None and request.get("made_with") != made_with(request)
            state = "corrupt" if wrong else "stale" if stale else "sound"
            yield Found(key, state, int(manifest["bytes"]), request, wrong)

    def sweep(self) -> int:
        """Remove the temporary files of processes of this machine that are gone; returns how many."""
        gone = 0
        for path in (self.root / "tmp").iterdir():
            host, _, rest = path.name.partition("+")
            pid = rest.partition("+")[0]
            if host == _host() and pid.isdigit() and not psutil.pid_exists(int(pid)):
                path.unlink(missing_ok=True)
                gone += 1
        return gone

    def _check(self, key: str) -> tuple[str, Arrays | None]:
        """(what is wrong with a shard or "", its arrays or None)."""
        if not self._path("shards", key, MANIFEST).exists():
            return "", None
        try:
            manifest = self._manifest(key)
            payload = self._path("shards", key, PAYLOAD).read_bytes()
            if hashlib.sha256(payload).hexdigest() != manifest["sha256"]:
                raise ValueError(f"the payload ({len(payload)} bytes) does not have the checksum of its manifest")
            arrays = load(payload)  # in no particular order, unlike what was written
            return "", {name: arrays[name] for name in manifest["order"]}
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            return str(error) or type(error).__name__, None

    def _manifest(self, key: str) -> dict[str, Any]:
        """A manifest that is what it says; ValueError otherwise."""
        text = self._path("shards", key, MANIFEST).read_bytes()
        try:
            manifest = json.loads(text)
            request, digest, size = manifest["request"], manifest["sha256"], manifest["bytes"]
            if manifest["key"] != key or key_of(request) != key:
                raise ValueError("the manifest belongs to another key")
        except (KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"no manifest: {type(error).__name__}") from None
        if not isinstance(digest, str) or not isinstance(size, int):
            raise ValueError("no manifest: checksum or size missing")
        return dict(manifest)

    def _facts(self, key: str) -> dict[str, Any]:
        try:
            facts = json.loads(self._path("facts", key, MANIFEST).read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return facts if isinstance(facts, dict) else {}

    def _put(self, target: Path, content: bytes, what: str) -> None:
        temporary = self._temporary(target.name)
        try:
            target.parent.mkdir(exist_ok=True)
            with temporary.open("wb") as file:
                half = len(content) // 2
                file.write(content[:half])
                file.flush()
                point(f"mid_{what}")
                file.write(content[half:])
                file.flush()
                point(f"fsync_{what}")
                if what != "facts":  # losing those in a power cut costs no number
                    os.fsync(file.fileno())
            point(f"rename_{what}")
            temporary.rename(target)
            if what == "manifest":
                _sync_folder(target.parent)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise StoreError(
                f"store {self.root}: cannot write {len(content)} bytes: {error.strerror}; finished shards are kept, free some "
                "space and run again"
            ) from None
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def _temporary(self, name: str) -> Path:
        return self.root / "tmp" / f"{_host()}+{os.getpid()}+{secrets.token_hex(4)}+{name}"

    def _path(self, kind: str, key: str, end: str) -> Path:
        if len(key) != 64 or not set(key) <= set("0123456789abcdef"):
            raise ConfigError(f"store: {key[:80]!r} is no key (64 hexadecimal digits)")
        return self.root / kind / key[:2] / f"{key}{end}"


def tree(root: Path) -> dict[str, str]:
    """Relative path -> sha256 of every file under shards/: what two runs of one request have in common."""
    shards = Path(root) / "shards"
    files = sorted(path for path in shards.rglob("*") if path.is_file())
    return {path.relative_to(shards).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _host() -> str:
    return "".join(c if c.isalnum() or c in "-." else "-" for c in socket.gethostname()) or "host"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
