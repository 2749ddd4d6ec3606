"""The one bibliography of the book: keys are unique, because a repeated key silently drops every later entry."""

import re
from pathlib import Path

from xai_lib.errors import ConfigError

_ENTRY = re.compile(r"^@(?P<kind>\w+)\s*\{\s*(?P<key>[^,\s]+)\s*,", flags=re.M)


def keys(path: Path) -> list[str]:
    """The citation keys in the order of the file.

    Raises:
        ConfigError: the file is missing, a key is used twice, or a key is not of the form authoryear in lower case.
    """
    if not path.is_file():
        raise ConfigError(f"{path} is missing; the book needs exactly one bibliography there")
    found = [match["key"] for match in _ENTRY.finditer(path.read_text(encoding="utf-8")) if match["kind"].lower() != "comment"]
    twice = sorted({key for key in found if found.count(key) > 1})
    if twice:
        raise ConfigError(f"{path.name}: the keys {', '.join(twice)} appear twice; give each work one entry")
    odd = [key for key in found if not re.fullmatch(r"[a-z]+\d{4}[a-z]*", key)]
    if odd:
        raise ConfigError(f"{path.name}: the keys {', '.join(odd)} are not lower-case authoryear, such as hooker2019")
    return found
