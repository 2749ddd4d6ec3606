"""What a study is written in: YAML read safely, and the `parameters` cell of a notebook read without running it."""

import ast
import json
from pathlib import Path
from typing import Any

import yaml

from xai_lib.errors import ConfigError


class _UniqueKeys(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice (plain YAML silently keeps the last)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        if twice:
            raise ConfigError(f"line {node.start_mark.line + 1}: key {twice[0]!r} is given twice")
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds one mapping, read safely.

    Raises:
        ConfigError: unreadable, no YAML, a key given twice, or no mapping.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name}: cannot be read: {error}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path.name}: no valid YAML: {' '.join(str(error).split())}") from None
    except ConfigError as error:
        raise ConfigError(f"{path.name}: {error}") from None
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError(f"{path.name}: found {type(content).__name__}, expected a mapping with names as keys")
    return content


def notebook_defaults(path: Path) -> dict[str, Any]:
    """Names and values of a notebook's `parameters` cell, read without running it.

    Raises:
        ConfigError: no notebook, not exactly one cell tagged `parameters`, or a line that is no `name = literal`.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["cells"]
        cells = [cell for cell in found if "parameters" in cell.get("metadata", {}).get("tags", [])]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{path.name}: no readable notebook: {error}") from None
    if len(cells) != 1 or cells[0].get("cell_type") != "code":
        raise ConfigError(f"{path.name}: found {len(cells)} cells tagged 'parameters', expected one code cell")
    source = "".join(cells[0]["source"])
    try:
        return dict(_assignment(statement) for statement in ast.parse(source).body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"{path.name}: the parameters cell holds more than `name = literal`: {error}") from None


def _assignment(statement: ast.stmt) -> tuple[str, Any]:
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return name, ast.literal_eval(value)
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            return name, ast.literal_eval(value)
    raise ValueError(ast.unparse(statement))
