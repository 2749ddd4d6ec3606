"""Experiments of studies as tasks: functions of a case, stored shard by shard, each shard computed only once.

`study_task` registers a function of a case; `stored` gives its result for all images of a case.
"""

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch

from xai_lib import compute, data, randomness
from xai_lib.compendium.benchmark import SHARD, Gathered, Work, gather
from xai_lib.compendium.canonical import canonical
from xai_lib.compendium.results import COLUMNS
from xai_lib.compendium.study import load
from xai_lib.compendium.tasks import FACTS, LEFT_OUT, TASKS
from xai_lib.errors import ConfigError, EngineError, StoreError
from xai_lib.scores import choose_targets
from xai_lib.studies.case import Case, open_model

F = TypeVar("F", bound=Callable[..., Any])
PREDICTED = -1
CONDITIONS = "_conditions"
FLAG = 48


def given(name: str, namespace: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a study among the variables of its notebook: `p = given("baseline_study", globals())`.

    Raises:
        ConfigError: a parameter is no variable there.
    """
    parameters = load(name).parameters
    missing = [key for key in parameters if key not in namespace]
    if missing:
        raise ConfigError(f"{name}: no variable {', '.join(missing)}; the parameters cell must run first")
    return {key: namespace[key] for key in parameters}


def items_of(case: Case) -> tuple[Any, ...]:
    """[id, hash of the values, explained class] of each image."""
    triples = zip(case.samples.ids, range(len(case.samples)), case.targets.tolist(), strict=True)
    return tuple([name, content(case.samples, k), target] for name, k, target in triples)


def content(samples: Any, k: int) -> str:
    """Hash of what a task may read of an image: its values, boxes and mask."""
    digest = hashlib.sha256(randomness.image_values(samples.inputs[k]).encode())
    for part in (samples.boxes, samples.masks):
        if part is not None:
            digest.update(np.ascontiguousarray(part[k]).tobytes())
    return digest.hexdigest()[:16]


def reopened(case: Mapping[str, Any], items: Sequence[Any], max_batch: int | None = None) -> Case:
    """The case of a task's JSON: model (kept between tasks) and these images.

    Raises:
        StoreError: weights or images are not those that were asked about.
        DataError: an image cannot be read.
    """
    model = _model(canonical(case["model"]))
    if model.weights_sha256 != case["weights"]:
        raise StoreError(f"model {case['model']!r}: its weights changed since the run began; start again")
    samples = data.load(
        {case["dataset"]: case["own"]}, ids=[item[0] for item in items], split=case["split"], seed=case["data_seed"]
    )
    for k, item in enumerate(items):
        if content(samples, k) != item[1]:
            raise StoreError(f"data set {case['dataset']!r}: image {item[0]!r} changed since the run began; start again")
    targets = torch.tensor([item[2] for item in items])
    if bool((targets == PREDICTED).any()):
        predicted = choose_targets(compute.logits(model, samples.inputs, max_batch=max_batch), samples.targets, "predicted")
        targets = torch.where(targets == PREDICTED, predicted, targets)
    return Case(model, samples, targets, case["score"], case["seed"], case["prefix"], max_batch, case)


@lru_cache(maxsize=2)
def _model(wanted: bytes) -> Any:
    return open_model(json.loads(wanted))


def stored(case: Case, task: Callable[..., Any], **parameters: Any) -> Any:
    """The result of a study task for all images of a case, from the store where it is there.

    Args:
        case: what is explained; one without `spec` (made by hand) is computed directly.
        task: a function registered with `study_task`.
        parameters: plain JSON.

    Returns:
        What the task returns for a case: {label: (n, ...)} or a table.
    """
    if case.spec is None:
        return task(case, **parameters)
    found = gather(work_of(case, task, **parameters))
    if CONDITIONS in found.arrays:
        return table_of(found, case)
    return {name: torch.from_numpy(array) for name, array in found.arrays.items()}


def work_of(case: Case, task: Callable[..., Any], **parameters: Any) -> Work:
    """The work of a study task on a case that was opened by name."""
    if case.spec is None:
        raise ConfigError(f"task {task.__name__!r}: this case was made by hand; open it by name with open_case")
    size = int(case.spec.get("shard", SHARD))
    return Work(task.__name__, case.spec, items_of(case), parameters, size, case.max_batch)


def without_pictures(case: Case) -> Case:
    """The same case with one value per image in place of its pixels: for tables, which need names and labels alone.

    Parts of it (`Case.first`) then copy no pictures, however many tables are made.
    """
    samples = case.samples
    return replace(case, samples=replace(samples, inputs=samples.inputs.flatten(1)[:, :1].clone(), masks=None))


def study_task(*, label: str) -> Callable[[F], F]:
    """Decorator: enter `function(case, *, plain parameters)` as a task; it returns tensors by name, or a tidy table.

    Each result must belong to one image: a task never sees more than a shard.
    """

    def enter(function: F) -> F:
        own = [p for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]

        def task(items: list[Any], *, case: Mapping[str, Any], max_batch: int | None = None, **given: Any) -> dict[str, Any]:
            made = function(reopened(case, items, max_batch), **given)
            if isinstance(made, pd.DataFrame):
                return _arrays_of(made, [item[0] for item in items])
            return {name: tensor.detach().cpu().numpy() for name, tensor in made.items()}

        words = [inspect.Parameter("items", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
        extra = [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=None) for n in ("case", "max_batch")]
        vars(task)["__signature__"] = inspect.Signature([*words, *extra, *own])
        task.__name__, task.__doc__ = function.__name__, function.__doc__
        TASKS.register(label=label, cite="none")(task)
        return function

    return enter


def _arrays_of(frame: pd.DataFrame, ids: Sequence[str]) -> dict[str, Any]:
    """A tidy table of these images as (n, conditions) values; what does not belong to an image is refused."""
    texts = frame.assign(**{c: [_text(v) for v in frame[c]] for c in ("method_parameters", "metric_parameters")})
    keys = ["dataset", "model", "method", "method_parameters", "metric", "metric_parameters", "seed"]
    conditions = texts[keys].drop_duplicates().reset_index(drop=True)
    place = {tuple(row): k for k, row in enumerate(conditions.itertuples(index=False))}
    row_of = {name: k for k, name in enumerate(ids)}
    values = np.full((len(ids), len(conditions)), np.nan)
    flags = np.zeros((len(ids), len(conditions), FLAG), np.uint8)
    seconds = np.zeros(len(conditions))
    for row in texts.to_dict("records"):
        if row["sample"] not in row_of:
            raise EngineError(f"a task's table has a row of {row['metric']!r} for {row['sample']!r}, none of its images")
        at = row_of[row["sample"]], place[tuple(row[key] for key in keys)]
        text = np.frombuffer(str(row["flag"]).encode()[:FLAG], np.uint8)
        values[at], flags[at][: len(text)] = row["value"], text
        seconds[at[1]] += np.nan_to_num(row["seconds"])
    listed = [[*(str(v) for v in row[:-1]), int(row[-1])] for row in place]
    return {
        "values": values,
        "flags": flags,
        CONDITIONS: np.frombuffer(canonical(listed), np.uint8),
        FACTS: {"seconds_each": (seconds / len(ids)).tolist()},
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else canonical(dict(value)).decode()


def table_of(found: Gathered, case: Case) -> pd.DataFrame:
    """The tidy table of a gathered work, condition by condition."""
    frames = []
    each = [np.asarray(own.get("seconds_each", [np.nan])) for _, own in found.facts]
    for column, condition in enumerate(json.loads(found.arrays[CONDITIONS].tobytes())):
        names = ("dataset", "model", "method", "method_parameters", "metric", "metric_parameters", "seed")
        own = dict(zip(names, condition, strict=True))
        values = found.arrays["values"][:, column]
        texts = [row.tobytes().rstrip(b"\0").decode() for row in found.arrays["flags"][:, column]]
        spent = [known[column] if column < len(known) else np.nan for known in each]
        seconds = np.repeat(spent, [n for n, _ in found.facts])
        frames.append(
            pd.DataFrame(
                {
                    **{name: own[name] for name in ("dataset", "model", "method", "metric", "seed")},
                    **{name: [json.loads(own[name])] * len(values) for name in ("method_parameters", "metric_parameters")},
                    "sample": list(case.samples.ids),
                    "value": values,
                    "seconds": seconds,
                    "flag": [t or ("" if np.isfinite(v) else LEFT_OUT) for t, v in zip(texts, values, strict=True)],
                }
            )[list(COLUMNS)]
        )
    return pd.concat(frames, ignore_index=True)
