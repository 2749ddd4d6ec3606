"""The page of controls: how far a score is won by maps that know no model, from the published runs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from xai_lib import stats
from xai_lib.compendium.book_runs import Run
from xai_lib.compendium.book_words import interval, table
from xai_lib.errors import ConfigError

HEAD = ["Score", "Best control", "Best method", "Method − control, paired", "n", "Methods above the control"]

HOLES = ["Accuracy after retraining", "Sees the holes alone", "Sees what is left", "Difference, paired", "n"]


def page(studies: Mapping[str, Mapping[str, Any]], chapters: Mapping[str, Run]) -> str:
    """One table per study that names controls and has a published run.

    Raises:
        ConfigError: a study file names a score or a label that its run has not measured.
    """
    parts = []
    for name, study in studies.items():
        listed = study.get("controls") or []
        if name in chapters and listed:
            results = chapters[name].results()
            plain = [row(results, entry, name) for entry in listed if modelless(entry)]
            holes = [row(results, entry, name)[:-1] for entry in listed if not modelless(entry)]
            tables = ([table(HEAD, plain)] if plain else []) + ([table(HOLES, holes)] if holes else [])
            parts.append(f"## {{doc}}`{study['title']} </notebooks/{name}>`\n\n" + "\n\n".join(tables))
    return "\n\n".join(parts) or "No published run has a control yet."


def modelless(entry: Mapping[str, Any]) -> bool:
    """Whether the controls of a score know no model; a network that sees the holes of a removal alone has seen maps of one."""
    return not entry.get("controls_metric")


def row(results: pd.DataFrame, entry: Mapping[str, Any], study: str) -> list[Any]:
    """Best control and best method of one score, their paired difference, and how many methods lie above the control.

    The best control and the best method are those with the largest (smallest) mean over the images that all of them share.
    A method lies above the control if the 95 % interval of its paired difference from the best control does.
    """
    scores = wide(results, entry, study)
    sign = 1.0 if entry["better"] == "larger" else -1.0
    means = scores.mean() * sign
    controls, methods = list(entry["controls"]), list(entry["methods"])
    control, method = str(means[controls].idxmax()), str(means[methods].idxmax())
    plain, above = _without_prefix([*controls, *methods]), 0
    for one in methods:
        difference = stats.paired_difference(scores[one] * sign, scores[control] * sign)
        above += difference.low > 0
        if one == method:
            shown = stats.paired_difference(scores[one], scores[control])
    return [
        str(entry["title"]),
        f"{plain(control)}: {_mean(scores[control])}",
        f"{plain(method)}: {_mean(scores[method])}",
        interval(shown.value, shown.low, shown.high),
        len(scores),
        f"{above} of {len(methods)}",
    ]


def wide(results: pd.DataFrame, entry: Mapping[str, Any], study: str) -> pd.DataFrame:
    """Values of one score, averaged over models and seeds: images (rows, those that every label has) by label.

    Raises:
        ConfigError: no such score or label in the run, or no image that all of them share.
    """
    labels: Sequence[str] = [*entry["controls"], *entry["methods"]]
    metric, other = str(entry["metric"]), entry.get("controls_metric")
    if other:
        theirs = (results["metric"] == other) & results["method"].isin(entry["controls"])
        ours = (results["metric"] == metric) & results["method"].isin(entry["methods"])
        results = results[theirs | ours].assign(metric=metric)
    where = {word: entry.get(word) for word in ("dataset", "model")}
    return by_label(results, metric, labels, **where, place=f"{study}: controls")


def by_label(
    results: pd.DataFrame, metric: str, labels: Sequence[str], *, dataset: str | None, model: str | None, place: str
) -> pd.DataFrame:
    """Values of one metric: images (rows, those that every label has) by label; models and seeds are averaged.

    A number that belongs to no image, as the accuracy of a training, is repeated over seeds, which are the rows then.

    Raises:
        ConfigError: the run has not measured a label, or no image with all of them; begins with `place`.
    """
    rows = results[results["metric"] == metric]
    for word, wanted in (("dataset", dataset), ("model", model)):
        rows = rows[rows[word] == wanted] if wanted else rows
    rows = rows[rows["method"].isin(labels)]
    key = ["dataset", "sample"] if (rows["sample"].astype(str) != "").all() else ["dataset", "sample", "seed"]
    found = rows.pivot_table(index=key, columns="method", values="value", aggfunc="mean")
    missing = [label for label in labels if label not in found]
    if missing:
        raise ConfigError(f"{place}: {metric!r} has no value of {', '.join(map(repr, missing))} in the published run")
    shared = found[list(labels)].dropna()
    if shared.empty:
        raise ConfigError(f"{place}: {metric!r}: no image has a value of every label")
    return shared


def _without_prefix(labels: Sequence[str]) -> Callable[[str], str]:
    """How a label is shown: without the "case: " that all labels begin with."""
    first = labels[0].partition(": ")
    shared = bool(first[1]) and all(label.startswith(f"{first[0]}: ") for label in labels)
    return lambda label: label.removeprefix(f"{first[0]}: ") if shared else label


def _mean(values: "pd.Series[float]") -> str:
    estimate = stats.bootstrap_interval(values)
    return interval(estimate.value, estimate.low, estimate.high)
