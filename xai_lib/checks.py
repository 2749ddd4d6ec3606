"""Checks of arguments that many functions share."""

from xai_lib.errors import ConfigError


def check_count(name: str, value: object, least: int = 1) -> None:
    """Refuse a count that is no integer, or too small.

    Raises:
        ConfigError: `value` is no integer of at least `least`.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name}={value!r}: expected an integer of at least {least}")
