"""Which chapters name a method or metric: in their study file, in their notebook, or in the code that the notebook imports."""

import ast
import json
from collections.abc import Container, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from xai_lib import methods, metrics
from xai_lib.registry import METHODS, METRICS, Entry

PACKAGE = Path(__file__).parents[1]


def uses(entry: Entry, words: Container[str]) -> bool:
    """Whether a study with these words uses a registered function: by its name, or by the module that holds nothing else."""
    module = entry.function.__module__
    alone = sum(one.function.__module__ == module for registry in (METHODS, METRICS) for one in registry.values()) == 1
    return entry.name in words or (alone and module in words)


def named(root: Path, study: str, content: Mapping[str, Any]) -> frozenset[str]:
    """All words that a study could mean a registered function by, and the modules of the library that its code imports.

    The study's code is that of its notebook and of the modules of `xai_lib.studies` that are called like it (its first word; a
    lesson's full name).

    Args:
        root: the repository.
        study: its name.
        content: its study file.
    """
    notebook = json.loads((root / "notebooks" / f"{study}.ipynb").read_text(encoding="utf-8"))
    prefix = study if study.startswith("foundations_") else study.partition("_")[0]
    cells = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code")
    words, modules = _read(ast.parse(cells))
    found, seen = {*_texts(content), *words, *modules}, set[str]()
    waiting = set(modules)
    while waiting:
        module = waiting.pop()
        if module.startswith(f"xai_lib.studies.{prefix}") and module not in seen:
            seen.add(module)
            words, modules = _module(module.split(".")[2])
            found |= words | modules
            waiting |= modules
    homes = {getattr(getattr(package, name, None), "__module__", "") for package in (methods, metrics) for name in found}
    return frozenset(found | homes | {text.replace(" ", "_") for text in found})


def _texts(content: Any) -> Iterator[str]:
    """Every key and every text in nested lists and mappings."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield str(key)
            yield from _texts(value)
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _texts(value)
    elif isinstance(content, str):
        yield content


@cache
def _module(name: str) -> tuple[frozenset[str], frozenset[str]]:
    """What a module of `xai_lib.studies` says and imports."""
    path = PACKAGE / "studies" / f"{name}.py"
    return _read(ast.parse(path.read_bytes())) if path.is_file() else (frozenset(), frozenset())


def _read(tree: ast.Module) -> tuple[frozenset[str], frozenset[str]]:
    """Texts and called names; and imported modules of the library, where `from xai_lib.studies import x` names one too."""
    words: set[str] = set()
    modules: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)):
                words.add(text)
            case ast.Call(func=ast.Name(id=name)) | ast.Call(func=ast.Attribute(attr=name)):
                words.add(name)
            case ast.ImportFrom(module=str(home)) if home.startswith("xai_lib"):
                modules |= {home, *(f"{home}.{one.name}" for one in node.names)}
            case ast.Import():
                modules |= {one.name for one in node.names if one.name.startswith("xai_lib")}
    return frozenset(words), frozenset(modules)
