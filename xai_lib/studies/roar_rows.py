"""Tidy rows of trainings: one per label, fraction and seed, and what follows from them seed by seed."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from xai_lib import agreement, retrain
from xai_lib.compendium.benchmark import gather
from xai_lib.compendium.results import COLUMNS
from xai_lib.compendium.retraining_tasks import left, trained
from xai_lib.models import training
from xai_lib.studies.roar import Experiment

BELOW_RANDOM = "accuracy below random"
AT_CHANCE = "at chance"
SPREAD = "spread between methods"
CHANGE = "accuracy minus untouched"
PUBLISHED = "accuracy as published"
ORDER = "agreement of orders"
MARGIN = 0.05
"""A training is at chance if its accuracy is at most this far above the share of the largest class."""


def accuracy_at(fraction: float, experiment: Experiment | None = None) -> str:
    """The metric's name.

    >>> accuracy_at(0.3)
    'accuracy at 30 %'
    """
    if experiment is not None and experiment.show == "pattern":
        return "accuracy of the pattern"
    if experiment is not None and experiment.keep:
        return f"accuracy with {100 * fraction:g} % kept"
    return f"accuracy at {100 * fraction:g} %" if fraction else "accuracy"


def training_rows(experiments: Mapping[str, Experiment]) -> pd.DataFrame:
    """Accuracy on all test pictures, loss of the last epoch, and whether the training stayed at chance.

    Args:
        experiments: by label; what is not stored is trained here.

    Returns:
        Tidy rows; `sample` is the seed of the training.
    """
    frames = []
    for label, experiment in experiments.items():
        truth = experiment.plan.samples("test").targets.numpy()
        chance = np.bincount(truth).max() / len(truth) + MARGIN
        for fraction, work in experiment.works().items():
            found = gather(work).arrays
            accuracy = (found["predicted"] == truth).mean(axis=1)
            name = accuracy_at(fraction, experiment)
            values = {name: accuracy, name.replace("accuracy", "training loss", 1): found["losses"][:, -1]}
            if fraction:
                values |= {name.replace("accuracy", AT_CHANCE, 1): (accuracy <= chance).astype(float)}
            frames += [_rows(experiment, label, metric, own, work.items) for metric, own in values.items()]
    return pd.concat(frames, ignore_index=True)


def published_rows(experiments: Mapping[str, Experiment]) -> pd.DataFrame:
    """Accuracy as document 002's code reports it: 628 of 10,000 pictures, percentages cut, averaged over classes."""
    frames = []
    for label, experiment in experiments.items():
        samples = experiment.plan.samples("test")
        numbers = [int(name.rsplit("-", 1)[-1]) for name in samples.ids]
        for fraction, work in experiment.works().items():
            predicted = gather(work).arrays["predicted"]
            truth = samples.targets.numpy()
            values = [retrain.accuracy_as_published(own, truth, numbers) for own in predicted]
            metric = accuracy_at(fraction, experiment).replace("accuracy", PUBLISHED, 1)
            frames.append(_rows(experiment, label, metric, values, work.items))
    return pd.concat(frames, ignore_index=True)


def area_rows(frame: pd.DataFrame, experiments: Mapping[str, Experiment], control: str) -> pd.DataFrame:
    """How far each method's accuracy lies below that of a random removal with the same seed, on average over the fractions.

    Args:
        frame: rows of `training_rows`.
        experiments: of one plan, with the control among them.
        control: label of the random removal.
    """
    curves = {label: curve(frame, label, each) for label, each in experiments.items() if each.removal is not None}
    frames = []
    for label, (fractions, values) in curves.items():
        if label == control or len(fractions) < 2:
            continue
        area = retrain.area_between(fractions, values.to_numpy(), curves[control][1].to_numpy())
        frames.append(_rows(experiments[label], label, BELOW_RANDOM, area, list(values.index)))
    return pd.concat(frames, ignore_index=True)


def change_rows(frame: pd.DataFrame, experiments: Mapping[str, Experiment], untouched: str) -> pd.DataFrame:
    """Accuracy minus that of whole pictures with the same seed; above 0, a net profits from what was removed."""
    whole = frame[(frame.method == untouched) & (frame.metric == "accuracy")].set_index("seed").value
    frames = []
    for label, experiment in experiments.items():
        if experiment.removal is None:
            continue
        fractions, values = curve(frame, label, experiment)
        for fraction, (_, own) in zip(fractions, values.items(), strict=True):
            metric = accuracy_at(fraction, experiment).replace("accuracy", CHANGE, 1)
            frames.append(_rows(experiment, label, metric, own - whole.loc[own.index], list(own.index)))
    return pd.concat(frames, ignore_index=True)


def shift_rows(label: str, experiment: Experiment) -> pd.DataFrame:
    """Accuracy lost by a net that was trained on whole pictures, and by one retrained on what is left, seed by seed.

    The first mixes what is missing with what looks unfamiliar; the second holds only what is missing.
    """
    plan = experiment.plan
    truth = plan.samples("test").targets
    whole = gather(plan.trainings()).arrays["predicted"]
    frames = []
    for fraction, work in experiment.works().items():
        pictures = left(plan.case, work.parameters["removal"], "test")
        before = (whole == truth.numpy()).mean(axis=1)
        nets = [trained(plan.case, seed) for seed in work.items]
        fixed = [training.correct(net, pictures, truth).double().mean().item() for net in nets]
        again = (gather(work).arrays["predicted"] == truth.numpy()).mean(axis=1)
        for kind, after in (("without retraining", np.asarray(fixed)), ("with retraining", again)):
            metric = f"accuracy lost at {100 * fraction:g} %"
            frames.append(_rows(experiment, f"{label}, {kind}", metric, before - after, work.items))
    return pd.concat(frames, ignore_index=True)


def order_rows(
    frame: pd.DataFrame, first: Mapping[str, str], second: Mapping[str, str], experiment: Experiment
) -> pd.DataFrame:
    """Kendall's tau between the orders of the same methods in two groups of trainings, seed by seed.

    Args:
        frame: rows of `training_rows`.
        first, second: method -> its label in either group; accuracies are averaged over the shares that both have. Methods
            that were not trained in both groups are left out; with fewer than two left, or no share in common, there are no
            rows.
        experiment: one of the second group.
    """
    shares = [accuracy_at(each) for each in experiment.works() if each]
    own = frame[frame.metric.isin(shares)]
    trained = set(own.method)
    both = [name for name in first if {first[name], second[name]} <= trained]
    labels = [[group[name] for name in both] for group in (first, second)]
    groups = [own[own.method.isin(some)] for some in labels]
    common = set(groups[0].metric) & set(groups[1].metric)
    if len(both) < 2 or not common:
        return frame.iloc[:0]
    tables = [
        group[group.metric.isin(common)].pivot_table(index="seed", columns="method", values="value")[some]
        for group, some in zip(groups, labels, strict=True)
    ]
    seeds = sorted(set(tables[0].index) & set(tables[1].index))
    tau = agreement.kendall(*(table.loc[seeds].to_numpy() for table in tables))
    return _rows(experiment, "digits and colour pictures", ORDER, tau, seeds)


def curve(frame: pd.DataFrame, label: str, experiment: Experiment) -> tuple[list[float], pd.DataFrame]:
    """Fractions, and accuracies with one row per seed and one column per fraction."""
    fractions = [each for each in experiment.works() if each]
    names = [accuracy_at(each, experiment) for each in fractions]
    own = frame[(frame.method == label) & frame.metric.isin(names)]
    return fractions, own.pivot_table(index="seed", columns="metric", values="value")[names]


def spread_rows(frame: pd.DataFrame, experiments: Mapping[str, Experiment], methods: Iterable[str]) -> pd.DataFrame:
    """Standard deviation of the accuracy over methods, averaged over fractions, for ROAR and KAR and each seed."""
    frames = []
    for title, prefix in (("ROAR", "panel: "), ("KAR", "KAR: ")):
        labels = [prefix + name for name in methods]
        cubes = np.stack([curve(frame, label, experiments[label])[1].to_numpy() for label in labels])
        seeds = list(curve(frame, labels[0], experiments[labels[0]])[1].index)
        frames.append(_rows(experiments[labels[0]], title, SPREAD, cubes.std(axis=0, ddof=1).mean(axis=1), seeds))
    return pd.concat(frames, ignore_index=True)


def _rows(experiment: Experiment, label: str, metric: str, values: Any, seeds: Iterable[Any]) -> pd.DataFrame:
    case = experiment.plan.case
    names = [int(seed) for seed in seeds]
    own: dict[str, Any] = {"net": case["net"], "recipe": case["recipe"]}
    if experiment.removal is not None:
        own |= {
            "explained": list(experiment.removal.method),
            "rules": asdict(experiment.removal.rules),
            "keep": experiment.keep,
        }
    return pd.DataFrame(
        {
            "dataset": case["dataset"],
            "model": case["model"],
            "method": label,
            "method_parameters": [own] * len(names),
            "metric": metric,
            "metric_parameters": [{}] * len(names),
            "sample": [f"seed {name}" for name in names],
            "seed": names,
            "value": np.asarray(values, dtype=float),
            "seconds": np.nan,
            "flag": ["" if np.isfinite(value) else "undefined" for value in np.asarray(values, dtype=float)],
        }
    )[list(COLUMNS)]
