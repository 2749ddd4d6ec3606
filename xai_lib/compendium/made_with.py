"""Versions that are part of every key."""

import ast
import hashlib
import platform
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path

import xai_lib
from xai_lib.errors import ConfigError

MACHINERY = ("compendium", "plotting")
DRAWINGS = ("_figures.py", "_tables.py", "_words.py")
PACKAGE = "xai_lib"
FINGERPRINTED = "xai_lib.data"
"""Data sets are in keys by fingerprint, so their source counts only where it is asked for."""


@cache
def made_with(modules: tuple[str, ...] = ()) -> dict[str, str]:
    """Versions that can change a number: of the algorithms' own source, and of what computes.

    Args:
        modules: where the numbers come from; with the algorithms they import they stand for the source. None given: all of
            the algorithms.
    """
    code = code_sha256(of=modules) if modules else code_sha256()
    found = {"python": platform.python_version(), "code": code}
    for package in ("torch", "numpy", "scipy", "scikit-image", "opencv-python"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "none"
    return found


def code_sha256(root: Path | None = None, of: Sequence[str] | None = None) -> str:
    """sha256 over the source of the algorithms (xai_lib without its machinery and drawings).

    Args:
        root: folder of the package.
        of: modules; only these and the algorithms that they import, directly or not.
    """
    top = root or _top()
    named = {_file(name, top) for name in of or ()}
    digest = hashlib.sha256()
    for path in sorted(top.rglob("*.py") if of is None else closure(of, top)):
        drawn = path.relative_to(top).parts[0] in MACHINERY or path.name.endswith(DRAWINGS)
        if path in named or not drawn:
            digest.update(path.relative_to(top).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def closure(modules: Iterable[str], root: Path | None = None) -> frozenset[Path]:
    """Files of these modules of xai_lib and of all that they import, wherever the import statement stands.

    What a registry hands out by name is imported by no statement: whoever asks one must name that module too. Imports of data
    sets are not followed, unless one of `modules` is one.

    Raises:
        ConfigError: no such module.
    """
    top = root or _top()
    waiting, found = list(modules), dict[str, Path]()
    followed = any(name.startswith(FINGERPRINTED) for name in waiting)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        path = _file(name, top)
        if path is None:
            raise ConfigError(f"module {name!r}: {PACKAGE} has none of this name")
        found[name] = path
        named = _named(path.read_bytes(), name, path.name == "__init__.py")
        more = [each for each in _resolved(named, top) if each not in found]
        waiting += [each for each in more if followed or not each.startswith(FINGERPRINTED)]
    return frozenset(found.values())


def _resolved(named: Iterable[tuple[str, tuple[str, ...]]], top: Path) -> Iterator[str]:
    """Modules of the package that import statements mean: a submodule where there is one, else the module itself."""
    for home, names in named:
        if _file(home, top) is None:
            continue
        own = {f"{home}.{each}" for each in names}
        inside = {each for each in own if _file(each, top)}
        yield from inside
        if inside != own or not own:
            yield home


@cache
def _named(source: bytes, name: str, package: bool) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """(module, names taken from it) of each import statement of a source."""
    found: list[tuple[str, tuple[str, ...]]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((_absolute(node, name, package), tuple(alias.name for alias in node.names)))
    return tuple(found)


def _absolute(node: ast.ImportFrom, name: str, package: bool) -> str:
    if not node.level:
        return node.module or ""
    parts = name.split(".")
    kept = parts[: len(parts) - node.level + package]
    return ".".join([*kept, *([node.module] if node.module else [])])


def _file(name: str, top: Path) -> Path | None:
    first, *rest = name.split(".")
    if first != PACKAGE:
        return None
    place = top.joinpath(*rest)
    options = (place / "__init__.py", place.with_suffix(".py")) if rest else (place / "__init__.py",)
    return next((path for path in options if path.is_file()), None)


def _top() -> Path:
    return Path(xai_lib.__file__).parent
