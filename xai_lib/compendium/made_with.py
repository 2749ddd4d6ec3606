"""Versions that are part of every key."""

import hashlib
import platform
from functools import cache
from importlib import metadata
from pathlib import Path

import xai_lib

MACHINERY = ("compendium", "plotting")
DRAWINGS = ("_figures.py", "_words.py")


@cache
def made_with() -> dict[str, str]:
    """Versions that can change a number: of the algorithms' own source, and of what computes."""
    found = {"python": platform.python_version(), "code": code_sha256()}
    for package in ("torch", "numpy", "scipy", "scikit-image", "opencv-python"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "none"
    return found


def code_sha256(root: Path | None = None) -> str:
    """sha256 over the source of the algorithms (xai_lib without its machinery and drawings)."""
    top = root or Path(xai_lib.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(top.rglob("*.py")):
        if path.relative_to(top).parts[0] not in MACHINERY and not path.name.endswith(DRAWINGS):
            digest.update(path.relative_to(top).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
