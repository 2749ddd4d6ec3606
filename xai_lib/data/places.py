"""Where data sets are looked for: `$XAI_DATA`, then the repository's `data/`."""

import os
from pathlib import Path

from xai_lib.errors import ConfigError, DataError

VARIABLE = "XAI_DATA"
REPOSITORY = Path(__file__).resolve().parents[2] / "data"
"""The project's own folder: annotations, and whatever `xai data get` fetched when `$XAI_DATA` is not set."""


def roots() -> list[Path]:
    """The folders searched, in order; those that do not exist are listed too, so that messages can name them."""
    chosen = os.environ.get(VARIABLE, "").strip()
    return ([Path(chosen).expanduser().absolute()] if chosen else []) + [REPOSITORY]


def find(name: str, *relative: str) -> Path | None:
    """The first root that holds every one of these files, or None.

    Args:
        name: name of the data set, for messages.
        relative: paths below a root, such as "MNIST/raw/t10k-images-idx3-ubyte".

    Raises:
        DataError: a root cannot be read at all.
    """
    for root in roots():
        try:
            if all((root / path).is_file() for path in relative):
                return root
        except OSError as error:
            raise DataError(f"data set {name!r}: {root} cannot be read ({error.strerror}); check its permissions") from error
    return None


def need(name: str, *relative: str, how: str, instead: str) -> Path:
    """As `find`, but a missing set is an error that helps.

    Raises:
        DataError: says where it looked, how to get the set, and which packaged set works now.
    """
    root = find(name, *relative)
    if root is not None:
        return root
    looked = "; ".join(f"{r}{'' if r.is_dir() else ' (no such folder)'}" for r in roots())
    unset = "" if os.environ.get(VARIABLE, "").strip() else f" (${VARIABLE} is not set)"
    raise DataError(
        f"data set {name!r} not found: looked for {', '.join(relative)} in {looked}{unset}. "
        f"{how}. Without it, {instead!r} works now: it needs no download"
    )


def inside(root: Path, relative: str) -> Path:
    """`root / relative`, refused when it would leave `root` (`..`, absolute, NUL, backslash, a link that leads out).

    Raises:
        ConfigError: the name leaves the folder.
    """
    parts = relative.split("/")
    odd = not relative or "\0" in relative or "\\" in relative or len(relative) > 1024
    if not odd and ".." not in parts and "" not in parts:
        path = root / relative
        if path.resolve().is_relative_to(root.resolve()):
            return path
    raise ConfigError(f"path {relative[:100]!r} leaves {root}; give a plain name below that folder")
