"""One text and one key for each request."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

DEPTH = 20


def canonical(request: Any) -> bytes:
    """The one JSON text of a request: sorted keys, no spaces, ASCII, no NaN.

    Raises:
        TypeError: it holds what is no JSON (a function, an array, a key that is no text), or NaN, or nests too deeply.

    >>> canonical({"b": 1, "a": [0.5, None]})
    b'{"a":[0.5,null],"b":1}'
    """
    _check_json(request, "request", 0)
    return json.dumps(request, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def _check_json(value: Any, place: str, depth: int) -> None:
    if depth > DEPTH:
        raise TypeError(f"{place}: nested deeper than {DEPTH}")
    if isinstance(value, dict):
        for key, own in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{place}: key {key!r} is no text; a request is plain JSON")
            _check_json(own, f"{place}.{key}", depth + 1)
    elif isinstance(value, list | tuple):
        for index, own in enumerate(value):
            _check_json(own, f"{place}[{index}]", depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise TypeError(f"{place}: {value} is no JSON number")
    elif value is not None and not isinstance(value, str | bool | int | float):
        raise TypeError(f"{place}: {type(value).__name__} is no JSON; a task is a name and plain values")


def key_of(request: Mapping[str, Any]) -> str:
    """sha256 of the canonical JSON."""
    return hashlib.sha256(canonical(request)).hexdigest()
