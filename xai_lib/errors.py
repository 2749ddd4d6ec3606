"""One tree of errors; every message restates what was asked, what was found, and what to do.

`exit_code` is what the `xai` command returns when the error reaches it (RELIABILITY.md).
"""

from collections.abc import Iterable
from difflib import get_close_matches


class XaiError(Exception):
    """Root of all errors this project raises on purpose."""

    exit_code = 1


class ConfigError(XaiError):
    """A request that cannot be understood: unknown name, wrong type, out of range."""

    exit_code = 2


class InputError(XaiError):
    """Arrays that cannot be explained: wrong shape, dtype, device, values or targets."""

    exit_code = 2


class DataError(XaiError):
    """A data set that is missing, unreadable or damaged."""

    exit_code = 4


class ModelError(XaiError):
    """A model that is missing, damaged, in training mode or not differentiable."""

    exit_code = 4


class UnsupportedModelError(ModelError):
    """A model whose structure a method cannot treat correctly."""


class StoreError(XaiError):
    """Results that cannot be written or do not match their checksum."""

    exit_code = 5


class EngineError(XaiError):
    """A computation that could not be carried out: out of memory, a dead or hanging process."""

    exit_code = 1


def unknown(kind: str, name: object, known: Iterable[str]) -> ConfigError:
    """The error for a name that is not in a list: gives the closest match and the whole list.

    >>> str(unknown("method", "gradeint", ["gradient", "saliency"]))
    "unknown method 'gradeint': did you mean 'gradient'? Known: gradient, saliency"
    """
    names = sorted(known)
    close = get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return ConfigError(f"unknown {kind} {name!r}: {hint}Known: {', '.join(names) or '(none)'}")
