"""The reference of the library: every public module, function and class with its docstring, read from the sources."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xai_lib.compendium.book_registry import literal
from xai_lib.compendium.book_words import code, table
from xai_lib.errors import ConfigError

LEFT_OUT = ("compendium", "studies")
"""Folders that are no part of the library: the machinery around it, and what single chapters compute."""


@dataclass(frozen=True)
class Named:
    """A public function or class.

    name       as it is imported
    signature  with types and defaults, as in the source
    docstring  whole
    """

    name: str
    signature: str
    docstring: str


def page(package: Path) -> str:
    """A section for each public module, in the order of their names: what it is for, its names, its docstrings folded.

    Args:
        package: the folder of `xai_lib`.

    Raises:
        ConfigError: a public name without a docstring.
    """
    parts = []
    for path in modules(package):
        tree = ast.parse(path.read_bytes())
        name = ".".join((package.name, *path.relative_to(package).with_suffix("").parts)).removesuffix(".__init__")
        found = list(public(tree, name))
        about = ast.get_docstring(tree)
        if found and about:
            rows = [(code(one.name), literal(_first(one.docstring))) for one in found]
            texts = "\n\n".join(f"{one.signature}\n{_indented(one.docstring)}" for one in found)
            folded = f"::::{{dropdown}} Signatures and docstrings of {code(name)}\n```text\n{texts}\n```\n::::"
            parts.append(f"## {code(name)}\n\n{literal(_first(about))}\n\n{table(['Name', 'What it is'], rows)}\n\n{folded}")
    return "\n\n".join(parts)


def modules(package: Path) -> list[Path]:
    """Files of the public modules."""
    return [
        path
        for path in sorted(package.rglob("*.py"), key=lambda path: path.relative_to(package).with_suffix("").parts)
        if path.relative_to(package).parts[0] not in LEFT_OUT and not (path.name.startswith("_") and path.name != "__init__.py")
    ]


def public(tree: ast.Module, module: str) -> Iterator[Named]:
    """Functions and classes at the top of a module whose names have no underscore in front.

    Raises:
        ConfigError: one without a docstring.
    """
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            text = ast.get_docstring(node)
            if not text:
                raise ConfigError(f"{module}.{node.name}: has no docstring, so the reference of the library cannot show it")
            yield Named(node.name, _signature(node), text)


def _signature(node: ast.FunctionDef | ast.ClassDef) -> str:
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(map(ast.unparse, node.bases))
        return f"class {node.name}({bases})" if bases else f"class {node.name}"
    returned = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{node.name}({ast.unparse(node.args)}){returned}"


def _first(text: str) -> str:
    """The first paragraph on one line."""
    return " ".join(text.split("\n\n")[0].split())


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" if line else "" for line in text.splitlines())
