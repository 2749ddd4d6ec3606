"""A case: one model, its samples, the explained classes; and the tidy rows that are measured on it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from xai_lib import METHODS, METRICS, MODELS, compute, data, models
from xai_lib.compendium import ledger
from xai_lib.data.source import choose, open_source
from xai_lib.errors import DataError
from xai_lib.scores import choose_targets
from xai_lib.types import Model, Samples, Spec

OTHER = "other: "
"""Prefix of the rows of further networks on the main one's images, so that a label belongs to one network."""


@dataclass(frozen=True)
class Case:
    """What is explained.

    model    loaded model
    samples  the images
    targets  (n,) the explained classes
    score    the explained scalar
    seed     of every random draw
    prefix   put before method labels, so that a second case has its own rows
    spec     how to open it again by name, plain JSON; None for a case made by hand
    """

    model: Model
    samples: Samples
    targets: Tensor
    score: str = "logit"
    seed: int = 0
    prefix: str = ""
    max_batch: int | None = None
    spec: Mapping[str, Any] | None = None

    @property
    def inputs(self) -> Tensor:
        """(n, c, h, w)."""
        return self.samples.inputs

    def first(self, n: int) -> "Case":
        """The same case on its first n samples."""
        n = min(n, len(self.samples))
        return replace(self, samples=self.samples.subset(range(n)), targets=self.targets[:n])


def open_case(
    model: str,
    dataset: Spec,
    *,
    n: int,
    running_class: int | None = None,
    target: str = "predicted",
    score: str = "logit",
    seed: int = 0,
    prefix: str = "",
    max_batch: int = 0,
    shard: int = 8,
    size: int = 0,
) -> Case:
    """Load a model and n samples, and choose what is explained.

    Args:
        model: registered model.
        dataset: registered data set or {name: {parameters}}.
        n: number of samples; not used where the data set's parameters name ids.
        running_class: if the data set has an image of this class, it comes first (the running example of the study).
        target: "predicted" or "label".
        score, seed, prefix: see `Case`.
        max_batch: most rows per pass, 0 chooses.
        shard: images that are computed and stored together; a run that is interrupted loses at most these.
        size: side of the images in pixels; a model that takes no size decides it. 0: what model and data set have by default.
    """
    wanted: Any = {model: {"size": size}} if size and "size" in MODELS[model].parameters else model
    net = open_model(wanted)
    limit = max_batch or None
    name, own = data_spec(dataset)
    if size:
        own["size"] = net.input_shape[-1]
    chosen = {"ids": own.pop("ids")} if "ids" in own else {"n": n}
    samples = readable(name, seed=seed, **chosen, **own)
    if running_class is not None and name == "imagenet":
        leader = readable(name, n=1, seed=seed, classes=[running_class], **own)
        others = [i for i in samples.ids if i not in leader.ids]
        samples = readable(name, ids=[*leader.ids, *others][:n], **own)
    if target == "label":  # the network need not be asked, which takes a minute for 16,000 pictures
        targets = samples.targets
    else:
        targets = choose_targets(compute.logits(net, samples.inputs, max_batch=limit), samples.targets, target)
    spec = {
        "model": wanted,
        "weights": net.weights_sha256,
        "dataset": name,
        "own": {k: v for k, v in own.items() if k != "split"},
        "split": own.get("split"),
        "data_seed": seed,
        "score": score,
        "seed": seed,
        "prefix": prefix,
        "shard": shard,
    }
    return Case(net, samples, targets, score, seed, prefix, limit, spec)


def open_model(wanted: Spec) -> Any:
    """A registered model given as a name or {name: {parameters}}."""
    name, own = MODELS.split(wanted)
    return models.load(name, **own)


def readable(name: str, **asked: Any) -> Samples:
    """`data.load` without the pictures that cannot be read; those are noted in the record of the run.

    Raises:
        DataError: the set is missing, or none of the pictures can be read.
    """
    try:
        return data.load(name, **asked)
    except DataError:
        request = {key: asked.pop(key) for key in ("n", "ids", "split", "seed") if key in asked}
    source = open_source(name, split=request.get("split"), seed=request.get("seed", 0), **asked)
    chosen = choose(source, request.get("n"), request.get("seed", 0), request.get("ids"))
    good = []
    for row in chosen:
        try:
            source.read([row])
            good.append(row)
        except DataError as error:
            ledger.left_out[str(source.ids[row])] = str(error)
            last = error
    if not good:
        raise last
    return source.read(good)


def data_spec(dataset: Spec) -> tuple[str, dict[str, Any]]:
    """Name and parameters of a data set given as a name or mapping."""
    from xai_lib import DATASETS

    return DATASETS.split(dataset)


def rows(
    case: Case,
    method: str,
    metric: str,
    values: Any,
    *,
    method_parameters: Mapping[str, Any] | None = None,
    metric_parameters: Mapping[str, Any] | None = None,
    seconds: float = float("nan"),
    flag: str = "undefined",
) -> pd.DataFrame:
    """Tidy rows, one per sample of the case (or one row with an empty sample for a single number).

    Args:
        method: label of the condition; the case's prefix is put before it.
        metric: name of what was measured.
        values: (n,) in the order of the samples, or one number.
        seconds: time spent per value; the whole time is shared equally.
        flag: reason noted where a value is NaN.

    Returns:
        DataFrame with the columns of results.csv.
    """
    numbers = np.atleast_1d(np.asarray(values, dtype=float))
    samples = list(case.samples.ids) if len(numbers) == len(case.samples) and np.ndim(values) else [""] * len(numbers)
    return pd.DataFrame(
        {
            "dataset": case.samples.name,
            "model": getattr(case.model, "name", "model"),
            "method": case.prefix + method,
            "method_parameters": [dict(method_parameters or {})] * len(numbers),
            "metric": metric,
            "metric_parameters": [dict(metric_parameters or {})] * len(numbers),
            "sample": samples,
            "seed": case.seed,
            "value": numbers,
            "seconds": seconds / len(numbers),
            "flag": ["" if np.isfinite(v) else flag for v in numbers],
        }
    )


def measure(
    case: Case,
    method: str,
    metric: Any,
    attributions: Tensor,
    *,
    explain: Callable[..., Tensor] | None = None,
    method_parameters: Mapping[str, Any] | None = None,
    name: str | None = None,
    **parameters: Any,
) -> pd.DataFrame:
    """Ask one registered metric about one set of attributions, as tidy rows.

    Args:
        method: label of the condition.
        metric: registered metric.
        attributions: (n, ...) for the case's samples.
        explain: the bound method that made them, for metrics that explain again.
        method_parameters: recorded with every row.
        name: the metric's name in the table; its registered name by default.
        parameters: own parameters of the metric.
    """
    bound = METRICS.bind(metric, **parameters)
    words = {
        "model": case.model,
        "inputs": case.inputs,
        "targets": case.targets,
        "attributions": attributions,
        "boxes": case.samples.boxes,
        "masks": case.samples.masks,
        "method": explain,
    }
    start = perf_counter()
    values = METRICS.ask(bound, words)
    label, resolved = METRICS.resolved(metric, **parameters)
    return rows(
        case,
        method,
        name or label,
        values.detach().cpu(),
        method_parameters=method_parameters,
        metric_parameters={k: v for k, v in resolved.items() if k != "max_batch"},
        seconds=perf_counter() - start,
    )


def explainer(case: Case, spec: Spec, **parameters: Any) -> Callable[..., Tensor]:
    """A bound method with the case's score, seed and batch limit, where the method takes them."""
    own = METHODS[METHODS.split(spec)[0]].parameters
    shared = {"score": case.score, "seed": case.seed, "max_batch": case.max_batch}
    return METHODS.bind(spec, **{k: v for k, v in shared.items() if k in own}, **parameters)
