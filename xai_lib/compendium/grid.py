"""The grid: every model x method x metric on every image, one tidy row each (the Attributer and Evaluator of document 003).

    table = run("photos", ["efficientnet_lite0"], ["gradient", {"integrated_gradients": {"steps": 16}}], ["sparseness"], n=8)

Images are read, explained and judged shard by shard, so memory does not grow with their number.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch

from xai_lib import DATASETS, METHODS, METRICS, MODELS, models
from xai_lib.compendium import ledger
from xai_lib.compendium.benchmark import SHARD, Summary, Work, default_store, fill, gather
from xai_lib.compendium.engine import open_engine
from xai_lib.compendium.experiments import PREDICTED, content, reopened
from xai_lib.compendium.results import COLUMNS
from xai_lib.compendium.store import Store
from xai_lib.compendium.tasks import FACTS, LEFT_OUT, TASKS
from xai_lib.data.source import choose, open_source
from xai_lib.errors import ConfigError, DataError, InputError
from xai_lib.studies.case import explainer, measure
from xai_lib.types import Spec

FULL = {"score": "logit", "target": "predicted", "seed": 0}


@TASKS.register(label="Attributions", cite="none")
def attribute(items: list[Any], *, case: Mapping[str, Any], method: list[Any], max_batch: int | None = None) -> dict[str, Any]:
    """Maps of one method for these images: {"attributions": (n, ...), "targets": (n,)}.

    Raises:
        InputError: a map holds NaN or infinity (with more than one image, so that the others are tried alone).
    """
    own = reopened(case, items, max_batch)
    maps = explainer(own, {method[0]: method[1]})(own.model, own.inputs, own.targets)
    bad = [str(items[i][0]) for i, a in enumerate(maps) if not bool(torch.isfinite(a).all())]
    if bad:
        raise InputError(f"nonfinite: the map of {', '.join(bad[:3])} holds NaN or infinity")
    return {"attributions": maps.detach().cpu().numpy(), "targets": own.targets.numpy()}


@TASKS.register(label="Metric", cite="none")
def evaluate(
    items: list[Any], *, case: Mapping[str, Any], method: list[Any], metric: list[Any], max_batch: int | None = None
) -> dict[str, Any]:
    """One metric of one method's maps, which come from the store: {"value": (n,)}; NaN where it is undefined."""
    found = gather(Work("attribute", case, tuple(items), {"method": method}, len(items), max_batch))
    good = [k for k, item in enumerate(items) if item[0] not in found.left_out]
    own = reopened(case, [[*items[k][:2], int(found.arrays["targets"][k])] for k in good], max_batch)
    explain = explainer(own, {method[0]: method[1]})
    maps = torch.from_numpy(found.arrays["attributions"][good])
    frame = measure(own, method[0], metric[0], maps, explain=explain, **metric[1])
    values = np.full(len(items), np.nan)
    values[good] = frame.value
    return {"value": values, LEFT_OUT: found.left_out, FACTS: {"measuring": float(frame.seconds.sum())}}


@dataclass(frozen=True)
class Images:
    """Which images: a data set by name, and what `data.load` would be asked."""

    dataset: Spec
    n: int | None = None
    split: str | None = None
    seed: int = 0
    ids: Sequence[str] | None = None

    def items(self, target: str) -> tuple[list[Any], dict[str, str]]:
        """[id, hash of the values, target] of each image, read one at a time; and the images that cannot be read, with why."""
        name, own = DATASETS.split(self.dataset)
        DATASETS.bind(name, **own)
        source = open_source(name, split=self.split, seed=self.seed, **own)
        found: list[Any] = []
        bad: dict[str, str] = {}
        for row in choose(source, self.n, self.seed, self.ids):
            try:
                one = source.read([row])
            except DataError as error:
                bad[str(source.ids[row])] = str(error)
                continue
            label = PREDICTED if target == "predicted" else int(one.targets[0])
            found.append([one.ids[0], content(one, 0), label])
        return found, bad


@dataclass(frozen=True)
class Cell:
    """One model and method, with the metrics asked of it."""

    model: str
    method: list[Any]
    label: str
    attributions: Work
    metrics: Mapping[str, Work] = field(default_factory=dict)


def cells(
    images: Images, items: Sequence[Any], model_names: Sequence[str], methods: Any, metrics: Any, *, score: str, seed: int,
    shard: int, max_batch: int | None,
) -> Iterator[Cell]:  # fmt: skip
    """The works of a grid; every name and parameter is checked before the first."""
    wanted = [(label, METHODS.split(spec)) for label, spec in _labelled(METHODS, methods)]
    asked = [(label, METRICS.split(spec)) for label, spec in _labelled(METRICS, metrics)]
    for registry, entries in ((METHODS, wanted), (METRICS, asked)):
        for _, (name, own) in entries:
            registry.bind(name, **own)
    for name in model_names:
        MODELS.bind(name)
    dataset, own_data = DATASETS.split(images.dataset)
    for name in model_names:
        case = {
            "model": name, "weights": models.load(name).weights_sha256, "dataset": dataset, "own": own_data,
            "split": images.split, "data_seed": images.seed, "score": score, "seed": seed, "prefix": "",
        }  # fmt: skip
        for label, method in wanted:
            kept = {"method": list(method)}
            own_metrics = {}
            for title, metric in asked:
                parameters = _with_seed(METRICS, metric, seed)
                own_metrics[title] = Work("evaluate", case, tuple(items), {**kept, "metric": parameters}, shard, max_batch)
            yield Cell(name, list(method), label, Work("attribute", case, tuple(items), kept, shard, max_batch), own_metrics)


def run(
    samples: Spec | Images,
    model_names: Sequence[str],
    methods: Sequence[Spec] | Mapping[str, Spec],
    metrics: Sequence[Spec] | Mapping[str, Spec],
    *,
    store: Store | None = None,
    engine: str = "serial",
    n: int | None = None,
    score: str = "logit",
    target: str = "predicted",
    seed: int = 0,
    shard: int = SHARD,
    max_batch: int | None = None,
    part: tuple[int, int] = (1, 1),
    timeout: float | None = None,
    progress: Any = sys.stderr,
) -> pd.DataFrame:
    """Every metric of every method's maps under every model, image by image.

    Args:
        samples: a data set by name or {name: {parameters}}, or `Images`.
        model_names: registered models.
        methods, metrics: registered ones, or {label: spec} to give names of your own.
        store: where shards are kept; `default_store()` when None.
        engine: see `open_engine`.
        n: how many images, in the seeded order of `data.load`.
        score: the explained scalar.
        target: "predicted" or "label": the explained class.
        seed: of every random draw.
        shard: images that are computed and stored together.
        max_batch: most rows per pass; changes no number beyond rounding and no key.
        part: (i, k): only the i-th of k parts of the shards, for job arrays; the table then holds what the store has.
        timeout: seconds for one shard (not with "serial").
        progress: stream for the progress bar, or None.

    Returns:
        The columns of results.csv: dataset, model, method, method_parameters, metric, metric_parameters, sample, seed, value,
        seconds (of the metric in that shard, shared equally by its images), flag ("" or why the value is NaN: undefined, or the
        reason why the image was left out). `.attrs`: "quarantined" {image: reason}, "shards" [keys], "summary".

    Raises:
        ConfigError: an unknown name or parameter; nothing was started.
        DataError: the data set is missing.
        StoreError, EngineError: see `benchmark.calculate`.
    """
    images = samples if isinstance(samples, Images) else Images(samples, n=n, seed=seed)
    if target not in ("predicted", "label"):
        raise ConfigError(f"target={target!r}: expected 'predicted' or 'label'")
    place = store if store is not None else default_store()
    items, bad = images.items(target)
    if not items:
        raise DataError(
            f"data set {images.dataset!r}: none of {len(bad)} images can be read; the first: {next(iter(bad.values()))}"
        )
    grid = list(cells(images, items, model_names, methods, metrics, score=score, seed=seed, shard=shard, max_batch=max_batch))
    with open_engine(engine) as workers:
        summary = fill(stages(grid), place, workers, part=part, timeout=timeout, progress=progress)
    ledger.left_out.update({**bad, **summary.left_out, **summary.lost})
    table = pd.concat([rows for cell in grid for rows in _rows(cell, images, items, place, seed, summary)], ignore_index=True)
    table.attrs = {
        "quarantined": {**bad, **summary.left_out, **summary.lost},
        "shards": sorted(ledger.shards),
        "summary": summary,
    }
    return table


def stages(grid: Sequence[Cell]) -> list[list[Work]]:
    """All maps, then all metrics of them."""
    return [[cell.attributions for cell in grid], [work for cell in grid for work in cell.metrics.values()]]


def _rows(
    cell: Cell, images: Images, items: Sequence[Any], store: Store, seed: int, summary: Summary
) -> Iterator[pd.DataFrame]:
    dataset = cell.attributions.case["dataset"]
    for label, work in cell.metrics.items():
        name, asked = work.parameters["metric"]
        for task in work.tasks():
            shard = store.read(task.request)
            if shard is None and not any(str(item[0]) in summary.lost for item in task.items):
                continue  # another part's
            values = np.full(len(task.items), np.nan)
            left: Mapping[str, str] = {}
            if shard is not None:
                left = json.loads(shard.arrays[LEFT_OUT].tobytes()) if LEFT_OUT in shard.arrays else {}
                values = shard.arrays.get("value", values)
                ledger.shards[task.key] = float(shard.facts.get("seconds", 0.0))
            names = [str(item[0]) for item in task.items]
            reasons = {**summary.lost, **left}
            yield pd.DataFrame(
                {
                    "dataset": dataset,
                    "model": cell.model,
                    "method": cell.label,
                    "method_parameters": [METHODS.resolved(cell.method[0], **cell.method[1])[1]] * len(names),
                    "metric": label,
                    "metric_parameters": [METRICS.resolved(name, **asked)[1]] * len(names),
                    "sample": names,
                    "seed": seed,
                    "value": values,
                    "seconds": float(shard.facts.get("measuring", np.nan)) / len(names) if shard is not None else np.nan,
                    "flag": ["" if np.isfinite(v) else reasons.get(i, "undefined") for i, v in zip(names, values, strict=True)],
                }
            )[list(COLUMNS)]


def _labelled(registry: Any, specs: Any) -> list[tuple[str, Spec]]:
    """(label, spec) of each; a label is the name, with the parameters where the name alone is not unique."""
    if isinstance(specs, Mapping):
        return list(specs.items())
    if isinstance(specs, str):
        raise ConfigError(f"{registry.kind}s={specs!r}: expected a list such as [{specs!r}]")
    if any(callable(spec) for spec in specs):
        raise ConfigError(f"{registry.kind}s: a function cannot be sent to a worker or named in a key; register it first")
    names = [registry.split(spec)[0] for spec in specs]
    labels = []
    for spec, name in zip(specs, names, strict=True):
        own = registry.split(spec)[1]
        text = ", ".join(f"{k}={v}" for k, v in own.items())
        labels.append(f"{name} ({text})" if names.count(name) > 1 and text else name)
    if len(set(labels)) != len(labels):
        raise ConfigError(f"{registry.kind}s {labels}: asked for twice; give each its own label, {{label: spec}}")
    return list(zip(labels, specs, strict=True))


def _with_seed(registry: Any, spec: tuple[str, dict[str, Any]], seed: int) -> list[Any]:
    name, own = spec
    given = {"seed": seed} if "seed" in registry[name].parameters else {}
    return [name, {**given, **own}]
