"""Which chapters name a method or metric: in their study file, in their notebook, or in the code that the notebook imports."""

import ast
import json
from collections.abc import Container, Iterator, Mapping
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
    found, waiting = set(_texts(content)), [ast.parse(cells)]
    seen: set[str] = set()
    while waiting:
        tree = waiting.pop()
        modules = _imported(tree)
        found |= _constants(tree) | modules
        own = {name for name in modules if name.startswith(f"xai_lib.studies.{prefix}")}
        for module in own - seen:
            seen.add(module)
            path = PACKAGE / "studies" / f"{module.split('.')[2]}.py"
            if path.is_file():
                waiting.append(ast.parse(path.read_bytes()))
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


def _constants(tree: ast.Module) -> set[str]:
    """Texts, and names that are called or bound: a metric may be called as a function."""
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    calls = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
    names = {call.id for call in calls if isinstance(call, ast.Name)}
    return texts | names | {call.attr for call in calls if isinstance(call, ast.Attribute)}


def _imported(tree: ast.Module) -> set[str]:
    """Modules of the library; `from xai_lib.studies import x` names one."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("xai_lib"):
            found |= {str(node.module), *(f"{node.module}.{one.name}" for one in node.names)}
        elif isinstance(node, ast.Import):
            found |= {one.name for one in node.names if one.name.startswith("xai_lib")}
    return found
