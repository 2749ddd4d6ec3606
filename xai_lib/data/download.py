"""Fetching a data set, only when asked: `xai data get NAME`.

Every file is streamed to a temporary name beside its place, checked against its sha256, unpacked, and renamed; a failure
leaves nothing behind. `XAI_MIRROR` (or `mirror=`) replaces the address, so that no test and no closed network needs ours.
"""

import gzip
import hashlib
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from xai_lib.data.places import inside, roots
from xai_lib.errors import ConfigError, DataError, StoreError

MIRROR = "XAI_MIRROR"
LONGEST_NAME = 255
CHUNK = 1 << 20
TIMEOUT = 30.0


@dataclass(frozen=True)
class Remote:
    """One file to fetch.

    path     name below the base address
    sha256   of the file as it is sent;  size: its bytes, no more are accepted
    target   where it goes below the root: a file, or a folder for an archive
    unpack   "gz", "tar" or "" ;  unpacked: bytes after unpacking, no more are written
    """

    path: str
    sha256: str
    size: int
    target: str
    unpack: str = ""
    unpacked: int = 0


MNIST_BASE = "https://ossci-datasets.s3.amazonaws.com/mnist"
MNIST = tuple(
    Remote(f"{name}.gz", sha256, size, f"MNIST/raw/{name}", "gz", unpacked)
    for name, sha256, size, unpacked in (
        ("train-images-idx3-ubyte", "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9_912_422, 47_040_016),
        ("train-labels-idx1-ubyte", "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28_881, 60_008),
        ("t10k-images-idx3-ubyte", "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1_648_877, 7_840_016),
        ("t10k-labels-idx1-ubyte", "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4_542, 10_008),
    )
)
REMOTES: dict[str, tuple[str, tuple[Remote, ...]]] = {"mnist": (MNIST_BASE, MNIST)}


def fetch(base: str, remotes: tuple[Remote, ...], root: Path) -> list[Path]:
    """Fetch files into `root`; those already there with the right size are kept.

    Args:
        base: address of the folder, http or https.
        remotes: what to fetch.
        root: the folder that gets them.

    Returns:
        The paths of all targets.

    Raises:
        ConfigError: the address is no http(s) address, or a target leaves `root`.
        DataError: not reachable, cut short, wrong checksum, or an archive that is refused.
        StoreError: `root` cannot be written.
    """
    parts = urlsplit(base)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ConfigError(f"mirror {base!r}: expected an address such as https://example.org/mnist")
    targets = [inside(root, remote.target) for remote in remotes]
    for remote, target in zip(remotes, targets, strict=True):
        if not _there(target, remote):
            _fetch(f"{base.rstrip('/')}/{remote.path}", remote, target)
    return targets


def target_root(root: Path | str | None) -> Path:
    """Where a data set is put: `root`, or the first folder that is searched."""
    return Path(root).expanduser().absolute() if root is not None else roots()[0]


def _there(target: Path, remote: Remote) -> bool:
    return target.is_dir() or (target.is_file() and target.stat().st_size == (remote.unpacked or remote.size))


def _fetch(url: str, remote: Remote, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".part-") as folder:
            sent = Path(folder) / "sent"
            _stream(url, remote, sent)
            ready = _unpacked(sent, remote, Path(folder) / "ready")
            ready.replace(target)
    except OSError as error:
        raise StoreError(f"{target} cannot be written ({error}); give a folder you may write to, or set XAI_DATA") from error


def _stream(url: str, remote: Remote, sent: Path) -> None:
    digest, count = hashlib.sha256(), 0
    with _reply(url) as reply, sent.open("wb") as file:
        while chunk := _read(url, reply):
            count += len(chunk)
            if count > remote.size:
                raise DataError(f"{url}: more than the {remote.size:,} bytes expected; nothing was kept")
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    if count < remote.size:
        raise DataError(f"{url}: cut short, {count:,} of {remote.size:,} bytes; nothing was kept, try again")
    if digest.hexdigest() != remote.sha256:
        raise DataError(f"{url}: sha256 {digest.hexdigest()}, expected {remote.sha256}; nothing was kept")


@contextmanager
def _reply(url: str) -> Iterator[BinaryIO]:
    advice = "check the network, or name a mirror with XAI_MIRROR"
    try:
        reply = urlopen(Request(url, headers={"User-Agent": "xai_lib"}), timeout=TIMEOUT)  # the scheme is checked in `fetch`
    except HTTPError as error:
        with error:
            raise DataError(f"{url} cannot be fetched (HTTP {error.code} {error.reason}); {advice}") from error
    except (URLError, OSError, ValueError) as error:
        raise DataError(f"{url} cannot be fetched ({error}); {advice}") from error
    with reply:
        yield reply


def _read(url: str, reply: BinaryIO) -> bytes:
    try:
        return reply.read(CHUNK)
    except Exception as error:
        raise DataError(f"{url}: the connection broke ({error!r}); nothing was kept, try again") from error


def _unpacked(sent: Path, remote: Remote, ready: Path) -> Path:
    if remote.unpack == "gz":
        _gunzip(sent, ready, remote.unpacked)
        return ready
    if remote.unpack == "tar":
        extract(sent, ready, remote.unpacked)
        return ready
    return sent


def _gunzip(archive: Path, target: Path, limit: int) -> None:
    count = 0
    try:
        with gzip.open(archive, "rb") as source, target.open("wb") as file:
            while chunk := source.read(CHUNK):
                count += len(chunk)
                if count > limit:
                    raise DataError(f"{archive}: unpacks to more than {limit:,} bytes; refused")
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
    except (gzip.BadGzipFile, EOFError) as error:
        raise DataError(f"{archive} is no complete gzip file ({error}); fetch it again") from error
    if count != limit:
        raise DataError(f"{archive}: unpacks to {count:,} bytes, expected {limit:,}; fetch it again")


def extract(archive: Path, folder: Path, limit: int) -> None:
    """Unpack a tar archive into a new folder; everything is checked before the first byte is written.

    Args:
        archive: the file (plain, gzip, bzip2 or xz).
        folder: must not exist; removed again when unpacking fails.
        limit: most bytes that the members may claim together.

    Raises:
        DataError: a member is no plain file or folder, leaves `folder`, has too long a name or that of another member, or the
            claimed sizes exceed `limit`.
    """
    folder.mkdir(parents=True)
    try:
        with tarfile.open(archive) as tar:
            members, claimed = [], 0
            files: set[Path] = set()
            folders: set[Path] = set()
            for member in tar:
                claimed += member.size
                if not (member.isreg() or member.isdir()):
                    raise DataError(
                        f"{archive}: {member.name[:100]!r} is a link or device; only files and folders are unpacked"
                    )
                if claimed > limit:
                    raise DataError(f"{archive}: its members claim more than {limit:,} bytes; refused")
                place = inside(folder, member.name.removeprefix("./").rstrip("/") or ".")
                if any(len(part.encode()) > LONGEST_NAME for part in place.parts):
                    raise DataError(f"{archive}: {member.name[:100]!r} is too long a name; refused")
                if place in files or any(parent in files for parent in place.parents) or (member.isreg() and place in folders):
                    raise DataError(f"{archive}: {member.name[:100]!r} is both a file and a folder, or there twice; refused")
                (files if member.isreg() else folders).add(place)
                folders.update(place.parents)
                members.append(member)
            tar.extractall(folder, members=members, filter="data")
    except (tarfile.TarError, EOFError, ConfigError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise DataError(f"{archive} was refused ({error}); nothing was kept") from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
