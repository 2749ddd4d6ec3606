"""What every metric refuses, and which maps it cannot judge."""

from typing import Any

import torch
from torch import Tensor

from xai_lib.errors import ConfigError, InputError


def check_attributions(attributions: Any, inputs: Tensor | None = None) -> None:
    """Refuse attributions that are no float tensor or do not belong to the inputs.

    Raises:
        InputError: not a float tensor (n, ...), or its shape or device is not that of `inputs`.
    """
    if not isinstance(attributions, Tensor) or not attributions.is_floating_point() or attributions.ndim < 2:
        got = f"{attributions.dtype} {tuple(attributions.shape)}" if isinstance(attributions, Tensor) else type(attributions)
        raise InputError(f"attributions: expected a float tensor (n, ...), got {got}; pass what the method returned")
    if inputs is None:
        return
    if attributions.shape != inputs.shape:
        raise InputError(
            f"attributions: expected the shape of the inputs {tuple(inputs.shape)}, got {tuple(attributions.shape)}; "
            "pass raw attributions, the metric reduces channels itself"
        )
    if attributions.device != inputs.device:
        raise InputError(f"attributions: inputs are on {inputs.device}, attributions on {attributions.device}")


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse a word that is not among the choices.

    Raises:
        ConfigError: `value` is not one of `choices`.
    """
    if value not in choices:
        raise ConfigError(f"{name}={value!r}: expected one of {', '.join(choices)}")


def without_order(maps: Tensor) -> Tensor:
    """Maps that rank nothing: zero, constant, or with NaN or infinity.

    Args:
        maps: (n, ...).

    Returns:
        (n,) bool.

    >>> without_order(torch.tensor([[1.0, 1.0], [1.0, 2.0], [1.0, float("nan")]])).tolist()
    [True, False, True]
    """
    flat = maps.flatten(1)
    return (flat == flat[:, :1]).all(dim=1) | ~torch.isfinite(flat).all(dim=1)


def undefined_where(values: Tensor, undefined: Tensor) -> Tensor:
    """`values` with NaN at the rows that are undefined."""
    return values.masked_fill(undefined, float("nan"))
