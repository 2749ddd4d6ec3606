"""Parameters of a study: declared types, and the strict conversion of what a file or a command line gives.

Conversion guesses nothing: "true" is a bool only where a bool is declared, 5.0 is no int, and the text "1e-3" (which YAML 1.1
reads as a string) is a float only where a float is declared.
"""

import importlib
import math
import re
import reprlib
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from xai_lib import registry
from xai_lib.errors import ConfigError, unknown

LONGEST_TEXT = 200
REGISTRIES = {
    "models": ("xai_lib.models", registry.MODELS),
    "methods": ("xai_lib.methods", registry.METHODS),
    "metrics": ("xai_lib.metrics", registry.METRICS),
    "baselines": ("xai_lib.baselines", registry.BASELINES),
    "datasets": ("xai_lib.data", registry.DATASETS),
}
TYPES = Literal["int", "float", "str", "bool", "path", "list[int]", "list[float]", "list[str]", "int_or_auto"]


class Parameter(BaseModel):
    """One parameter of a study.

    type      int, float, str, bool, path (stays under the repository), list[int], list[float], list[str], int_or_auto
    default   the value of the smoke profile
    range     [low, high], both inclusive, null = open; for lists it holds for each element
    choices   the only allowed values (of each element)
    registry  values are registered names or {name: {parameter: value}} mappings
    help      one line
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: TYPES
    default: Any
    range: tuple[float | None, float | None] | None = None
    choices: tuple[Any, ...] | None = None
    registry: Literal["models", "methods", "metrics", "baselines", "datasets"] | None = None
    help: str = Field(min_length=3)

    @property
    def expected(self) -> str:
        """What is accepted, in words."""
        words = {"int_or_auto": "an int or 'auto'", "path": "a path under the repository"}.get(self.type, self.type)
        if self.range is not None:
            low, high = ("..." if end is None else f"{end:g}" for end in self.range)
            words += f" in [{low}, {high}]"
        if self.choices is not None:
            words += f" out of {', '.join(map(str, self.choices))}"
        if self.registry is not None:
            words += f" (names of {self.registry}, or {{name: {{parameter: value}}}})"
        return words

    def convert(self, name: str, value: Any, *, root: Path) -> Any:
        """`value` as the declared type.

        Args:
            name: the parameter's name, for messages.
            value: a typed value (YAML, Python) or text (command line).
            root: where paths must stay.

        Returns:
            int, float, str, bool, a {name: {...}} mapping, or a list of these; plain JSON.

        Raises:
            ConfigError: wrong type, NaN or infinity, out of range, not a choice, or a path outside `root`.
        """
        try:
            if self.type.startswith("list["):
                element = self.type[5:-1]
                return [self._checked(name, _scalar(element, item, self.registry, root)) for item in _items(value)]
            return self._checked(name, _scalar(self.type, value, self.registry, root))
        except ValueError as error:
            why = f" ({error})" if str(error) else ""
            raise ConfigError(f"parameter {name!r}: found {_short(value)}, expected {self.expected}{why}") from None

    def _checked(self, name: str, value: Any) -> Any:
        if self.range is not None and not isinstance(value, str | dict):
            low, high = self.range
            if (low is not None and value < low) or (high is not None and value > high):
                raise ValueError(f"{value} is out of range")
        if self.choices is not None and value not in self.choices:
            raise unknown(f"choice of parameter {name!r}", value, map(str, self.choices))
        return value

    def check_registered(self, name: str, value: Any) -> None:
        """Look the value up in its registry (imports the room that fills it).

        Raises:
            ConfigError: unknown name (with the closest one) or unknown parameter of it.
        """
        if self.registry is None:
            return
        room, entries = REGISTRIES[self.registry]
        importlib.import_module(room)
        for spec in value if isinstance(value, list) else [value]:
            try:
                entries.bind(spec)
            except ConfigError as error:
                raise ConfigError(f"parameter {name!r}: {error}") from None


def _short(value: Any) -> str:
    text = reprlib.repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _items(value: Any) -> list[Any]:
    """The elements of a list given as a list, as "[1, 5]" or as "1,5"."""
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("["):
            try:
                value = yaml.safe_load(text)
            except (yaml.YAMLError, RecursionError):
                raise ValueError("not a YAML list") from None
        else:
            value = [part.strip() for part in text.split(",")] if text else []
    if not isinstance(value, list | tuple):
        raise ValueError("a list is needed: 1,5,10")
    if not value:
        raise ValueError("the list is empty")
    return list(value)


def _scalar(kind: str, value: Any, registered: str | None, root: Path) -> Any:
    """One value as `kind`; ValueError when it is not."""
    match kind:
        case "bool":
            if isinstance(value, bool):
                return value
            if value in ("true", "false"):
                return value == "true"
        case "int":
            if isinstance(value, int) and not isinstance(value, bool):
                return value
            if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,18}", value):
                return int(value)
        case "int_or_auto":
            return value if value == "auto" else _scalar("int", value, registered, root)
        case "float":
            if isinstance(value, int | float | str) and not isinstance(value, bool):
                number = float(value)
                if not math.isfinite(number):
                    raise ValueError("not a finite number")
                return number
        case "str":
            return _specification(value) if registered else _text(value)
        case "path":
            return inside(root, _text(value)).relative_to(root.resolve()).as_posix()
    raise ValueError("wrong type")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("wrong type")
    if len(value) > LONGEST_TEXT or not value.isprintable():
        raise ValueError(f"at most {LONGEST_TEXT} printable characters")
    return value


def _specification(value: Any) -> str | dict[str, Any]:
    """A registered name, or a one-entry mapping given as such or as YAML text."""
    if isinstance(value, str) and ("{" in value or ":" in value):
        try:
            value = yaml.safe_load(_text(value))
        except (yaml.YAMLError, RecursionError):
            raise ValueError("not a YAML mapping") from None
    if isinstance(value, dict):
        if len(value) != 1 or not all(isinstance(own, dict | None) for own in value.values()):
            raise ValueError("one {name: {parameter: value}} is needed")
        return value
    return _text(value)


def inside(root: Path, path: str) -> Path:
    """`path` resolved against `root`, which it must not leave, symbolic links included.

    Raises:
        ConfigError: it leaves the root, or is no possible path.
    """
    place = root.resolve()
    if not path.isprintable() or len(path) > LONGEST_TEXT or "\\" in path:
        raise ConfigError(f"path {_short(path)}: expected at most {LONGEST_TEXT} printable characters without backslashes")
    resolved = (place / path).resolve()
    if not resolved.is_relative_to(place):
        raise ConfigError(f"path {path!r} leaves {place}; name a place under it")
    return resolved
