"""Which methods take a model: accepted, repaired or refused, found out by asking for a map."""

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from xai_lib import baselines, compute, maps
from xai_lib.errors import InputError, XaiError
from xai_lib.registry import METHODS
from xai_lib.types import Model, Spec

TOLERANCE = 1e-3
"""Two maps are the same where they differ by no more than this part of the largest value."""


def adoptability(model: Model, inputs: Tensor, methods: Sequence[Spec], *, compare: bool = True) -> list[dict[str, str]]:
    """One row per method: what becomes of this model.

        accepted   there is a map
        repaired   there is a map, and Captum's own call on the untouched model raises or gives another one (`compare`)
        refused    the method says why not
        failed     it breaks, or its map holds NaN or infinity

    Args:
        model: inputs -> logits, in eval mode. Captum gets a copy.
        inputs: (n, ...); the first is explained, for its predicted class.
        methods: registered names, or {name: {parameters}}.
        compare: ask Captum too, for `COUNTERPARTS`.

    Returns:
        Rows with keys method, label, verdict and reason (one sentence at most; "" where there is nothing to say).

    Raises:
        InputError: no inputs. ConfigError: unknown method or parameter.

    >>> from xai_lib import toys
    >>> [row["verdict"] for row in adoptability(toys.TinyNet(), torch.rand(1, 3, 8, 8), ["gradient", "guided_backprop"])]
    ['accepted', 'refused']
    """
    if not isinstance(inputs, Tensor) or inputs.ndim < 2 or len(inputs) == 0:
        raise InputError("inputs: expected a tensor with at least one row (n, ...) to be explained")
    bound = [(METHODS[METHODS.split(spec)[0]], METHODS.bind(spec)) for spec in methods]
    image = inputs[:1]
    targets = compute.logits(model, image).argmax(dim=1)
    rows = []
    for entry, method in bound:
        verdict, reason = _asked(method, entry.name, model, image, targets, compare)
        rows.append({"method": entry.name, "label": entry.label, "verdict": verdict, "reason": reason})
    return rows


def _asked(
    method: Callable[..., Tensor], name: str, model: Model, image: Tensor, targets: Tensor, compare: bool
) -> tuple[str, str]:
    try:
        made = method(model, image, targets)
    except XaiError as error:
        return "refused", _first_line(error)
    except Exception as error:  # whatever the model's own code raises
        return "failed", f"{type(error).__name__}: {_first_line(error)}"
    flag = maps.flags(made)[0]
    if flag == "nonfinite":
        return "failed", "the map holds NaN or infinity"
    told = _unlike_captum(method, name, model, image, targets, made) if compare and name in COUNTERPARTS else ""
    if told:
        return "repaired", told
    return "accepted", {"zero": "the map is zero", "constant": "the map is constant"}.get(flag, "")


def _unlike_captum(method: Callable[..., Tensor], name: str, model: Model, image: Tensor, targets: Tensor, made: Tensor) -> str:
    """What is wrong with Captum's direct call, "" where it agrees."""
    if not isinstance(model, nn.Module):
        return "Captum takes modules only"
    own = dict(method.keywords) if isinstance(method, partial) else {}
    if own.get("rule", "epsilon") != "epsilon":
        return ""
    try:
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")  # it says that it sets hooks
            other = COUNTERPARTS[name](copy.deepcopy(model), image.detach().clone(), targets, own).detach()
    except Exception as error:  # it raises plain assertions, among others
        return f"Captum raises {type(error).__name__}: {_first_line(error)}"
    scale = max(float(made.abs().max()), float(other.abs().max()))
    difference = float((made - other).abs().max())
    if difference <= TOLERANCE * scale:
        return ""
    return f"Captum's map differs by {difference / scale:.2g} of the largest value"


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0].strip()[:300]


def _guided(model: nn.Module, image: Tensor, targets: Tensor, own: Mapping[str, Any]) -> Tensor:
    from captum.attr import GuidedBackprop

    return GuidedBackprop(model).attribute(image, target=targets)


def _deconvolved(model: nn.Module, image: Tensor, targets: Tensor, own: Mapping[str, Any]) -> Tensor:
    from captum.attr import Deconvolution

    return Deconvolution(model).attribute(image, target=targets)


def _lifted(model: nn.Module, image: Tensor, targets: Tensor, own: Mapping[str, Any]) -> Tensor:
    from captum.attr import DeepLift

    start = baselines.draw(own.get("baseline", "black"), image, seed=own.get("seed", 0))
    return DeepLift(model).attribute(image, start, target=targets)


def _relevant(model: nn.Module, image: Tensor, targets: Tensor, own: Mapping[str, Any]) -> Tensor:
    from captum.attr import LRP

    return LRP(model).attribute(image, target=targets)


COUNTERPARTS: dict[str, Callable[[nn.Module, Tensor, Tensor, Mapping[str, Any]], Tensor]] = {
    "guided_backprop": _guided,
    "deconvnet": _deconvolved,
    "deeplift": _lifted,
    "lrp": _relevant,
}
"""Methods that Captum has too, and that depend on how a model is built; `lrp` is compared under the rule epsilon."""
