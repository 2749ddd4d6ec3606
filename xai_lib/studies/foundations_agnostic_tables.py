"""Lesson `foundations_agnostic`: its tables."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from xai_lib import plotting
from xai_lib.plotting import number
from xai_lib.stats import Estimate, bootstrap_interval
from xai_lib.studies import foundations_agnostic_global as over_all
from xai_lib.studies import foundations_agnostic_local as shares
from xai_lib.studies import foundations_agnostic_nearby as nearby
from xai_lib.studies.foundations_agnostic import RIGHT, ROWS, SECONDS, SHORT, Task
from xai_lib.studies.foundations_agnostic_toys import Shown


def models(task: Task, frame: pd.DataFrame) -> None:
    """How well both models answer, and what they say of the explained row."""
    rows = [
        {
            "model": name,
            "right on held-out rows": _mean(frame, RIGHT, name),
            "P(malignant) of the explained row": float(model.function(task.explained[None])[0]),
        }
        for name, model in task.models.items()
    ]
    caption = (
        f"Two models fitted on {len(task.x)} rows of {len(task.columns)} columns; mean with 95 % interval over n held-out rows."
    )
    plotting.table(pd.DataFrame(rows), caption=caption, name="models")


def toys(shown: Sequence[Shown], *tools: str) -> None:
    """The toys of some tools."""
    rows = [
        {
            "tool": one.tool,
            "model $f$": one.model,
            "rows": one.table,
            "asked": one.question,
            "what is so": round(one.so, 9),
            "the tool says": round(one.says, 9),
        }
        for one in shown
        if one.tool in tools
    ]
    caption = "Models of one line: what is so, and what the tool says. All numbers are computed."
    plotting.table(pd.DataFrame(rows), caption=caption, name="toys-" + tools[0].lower().replace(" ", "-"))


def interactions(frame: pd.DataFrame) -> None:
    """H of each pair and its size, by model."""
    pairs = list(frame[frame.metric == over_all.SHARE].method.unique())
    rows = []
    for pair in sorted(pairs, key=lambda name: -_mean(frame, over_all.SIZE, SHORT[1], name).value):
        found: dict[str, Any] = {"pair": pair}
        for model in SHORT:
            found[f"{model}: H"] = _mean(frame, over_all.SHARE, model, pair)
            found[f"{model}: H of all rows"] = _value(frame, over_all.SHARE_ALL, model, pair)
            found[f"{model}: size"] = _mean(frame, over_all.SIZE, model, pair)
        rows.append(found)
    n = frame[frame.metric == over_all.SHARE].seed.nunique()
    caption = (
        "H of pairs of columns, and the size of the interaction in probability; mean and 95 % interval over "
        f"{n} random sets of rows, and H of all training rows."
    )
    plotting.table(
        pd.DataFrame(rows), caption=caption, name="interactions", digits=2, undefined="the pair does nothing together"
    )


def anchors(found: Mapping[str, nearby.Rule], task: Task) -> None:
    """Each model's rule, and three answers to how often it holds."""
    rows = []
    for name, rule in found.items():
        words = [
            f"{task.columns[k]} {'>' if rule.above[k] else '≤'} {number(float(rule.middle[k]), 2)}"
            for k in rule.anchor.segments
        ]
        rows.append(
            {
                "model": name,
                "rule": ("" if rule.anchor.found else "none found, best tried: ") + (" and ".join(words) or "(always)"),
                "others drawn one by one": rule.anchor.precision,
                "others of one training row": rule.joint,
                "other held-out rows under the rule that keep the answer": f"{int(rule.kept.sum())} of {len(rule.kept)}",
                "training rows covered": rule.covered,
            }
        )
    caption = "Anchors of the explained row; values in standard deviations. Three answers to how often the rule holds."
    plotting.table(pd.DataFrame(rows), caption=caption, name="anchors")


def counterfactuals(found: Mapping[tuple[str, str], nearby.Changed], frame: pd.DataFrame, task: Task) -> None:
    """What each search changes, and where it ends."""
    rows, row = [], task.explained
    for (name, way), changed in found.items():
        own = {metric: _value(frame, metric, name, way) for metric in (nearby.COLUMNS_CHANGED, nearby.CHANGE, nearby.AWAY)}
        moved = [] if changed.row is None else [k for k in np.argsort(-np.abs(changed.row - row)) if changed.row[k] != row[k]]
        words = [f"{task.columns[k]} {number(float(row[k]), 2)} → {number(float(changed.row[k]), 2)}" for k in moved[:2]]  # type: ignore[index]
        rows.append(
            {
                "model": name,
                "search": way,
                "change": "none found" if changed.row is None else ", ".join(words) + (", ..." if len(moved) > 2 else ""),
                "columns": float("nan") if changed.row is None else len(moved),
                "sum of changes": own[nearby.CHANGE],
                "inside the rows' range": "–" if changed.row is None else nearby.inside(changed.row, task.x),
                "distance to the nearest row": own[nearby.AWAY],
            }
        )
    start = _value(frame, nearby.AWAY, "none", nearby.ITSELF)
    caption = (
        "Counterfactuals of the explained row, in standard deviations. The last column counts in the median distance between a training row "
        f"and its nearest neighbour; the explained row itself lies at {number(start)}."
    )
    plotting.table(pd.DataFrame(rows), caption=caption, name="counterfactuals", undefined="no change of that kind was found")


def exact(frame: pd.DataFrame) -> None:
    """The shap package beside our own exact values."""
    model = str(frame.model.iloc[0])
    gap = _value(frame, shares.DIFFERENCE, model, shares.EXACT)
    rows = [
        {
            "computed by": way,
            "model": model,
            "rows asked": int(_value(frame, ROWS, model, way)),
            "seconds": _value(frame, SECONDS, model, way),
        }
        for way in (shares.EXACT, shares.OURS)
    ]
    caption = f"Exact Shapley values of three held-out rows, twice; the largest difference of two values is {number(gap, 2)}."
    plotting.table(pd.DataFrame(rows), caption=caption, name="exact")


QUESTIONS = {
    over_all.PDP: ("What happens on average, and to each row, when a column is set?", "global and local", "PDP"),
    over_all.ALE: ("The same, only near where the rows are", "global", "ALE"),
    over_all.PERMUTATION: (
        "How much worse is the model without what only this column tells?",
        "global",
        "permutation importance",
    ),
    over_all.H: ("How much of what two columns do together is no sum?", "global", "H-statistic"),
    over_all.PROTOTYPES: ("Which rows stand for the table, and which are left out?", "global, of the data", "prototypes"),
    shares.LIME: ("Which quartiles speak for the class, around here?", "local", "LIME"),
    nearby.ANCHORS: ("What keeps the answer, whatever the rest is?", "local", "anchors"),
    nearby.SINGLE: ("Which smallest change of one column changes the answer?", "local", nearby.SINGLE),
    nearby.GREEDY: ("Which few changes do?", "local", nearby.GREEDY),
    nearby.NEAREST: ("Which row that exists has another answer?", "local", nearby.NEAREST),
    shares.SHAP: ("How is the difference from the mean score shared out?", "local", "SHAP"),
}
"""Tool -> question, scope, and the toys in which it misleads."""


def closing(frame: pd.DataFrame, shown: Sequence[Shown]) -> None:
    """Every tool: its question, what it asked and took under the forest, and where it misleads."""
    rows = []
    for tool, (question, scope, toy) in QUESTIONS.items():
        model = "none" if tool == over_all.PROTOTYPES else SHORT[0]
        worst = max((one for one in shown if one.tool == toy), key=lambda one: abs(one.says - one.so))
        rows.append(
            {
                "tool": tool,
                "question": question,
                "scope": scope,
                "rows asked": int(_value(frame, ROWS, model, tool)),
                "seconds": _value(frame, SECONDS, model, tool),
                "misleads, for instance": f"{worst.model}, {worst.table}: {worst.question}: {number(round(worst.so, 6))}; "
                f"it says {number(round(worst.says, 6))}",
            }
        )
    caption = (
        f"What each tool answers and what it asked of the {SHORT[0]} in this run, counted; curves for one column, permutation importance for all, "
        "H for the pairs above on sets of rows, local tools for one row and one seed."
    )
    plotting.table(pd.DataFrame(rows), caption=caption, name="costs", digits=2)


def _value(frame: pd.DataFrame, metric: str, model: str, method: str) -> float:
    own = frame[(frame.metric == metric) & (frame.model == model) & (frame.method == method)].value
    return float(own.item())


def _mean(frame: pd.DataFrame, metric: str, model: str, method: str | None = None) -> Estimate:
    own = frame[(frame.metric == metric) & (frame.model == model)]
    return bootstrap_interval((own if method is None else own[own.method == method]).value.to_numpy(), resamples=1000)
