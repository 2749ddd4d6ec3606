"""Files a page needs, put into the stage so that no page asks another host for anything."""

import shutil
from importlib.resources import as_file, files
from pathlib import Path

from xai_lib.errors import ConfigError

MATHJAX = "static/mathjax/es5/tex-svg-full.js"
"""MathJax 3 in one file: SVG output needs no font files, the full bundle asks for no further TeX extension."""


def copy_mathjax(assets: Path) -> Path:
    """Copy MathJax out of the installed package `django-static-mathjax`; returns the file in the stage.

    Raises:
        ConfigError: the package is not installed or does not hold the file.
    """
    target = assets / "mathjax" / "tex-svg-full.js"
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with as_file(files("mathjax") / MATHJAX) as source:
            shutil.copyfile(source, target)
    except (ModuleNotFoundError, OSError) as error:
        raise ConfigError(
            f"formulas need {MATHJAX} of the package django-static-mathjax, which was not found ({error}); "
            "install the project's dependencies again (`make install`)"
        ) from error
    return target


def copy_pages(root: Path, stage: Path) -> None:
    """Pages, bibliography and assets of book/ under the same relative path; runs are staged one by one elsewhere."""
    source = root / "book"
    if not (source / "_toc.yml").is_file():
        raise ConfigError(f"{source / '_toc.yml'} is missing: {root} is not the root of the compendium; pass its folder")
    for path in sorted(source.rglob("*")):
        relative = path.relative_to(source)
        if path.is_file() and relative.parts[0] != "runs" and not any(part.startswith(".") for part in relative.parts):
            target = stage / "book" / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
