"""Lesson `foundations_agnostic`: what keeps the answer of one row (anchors), and what changes it (counterfactuals)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics.pairwise import euclidean_distances
from torch import Tensor

from xai_lib.anchor_search import Anchor, Settings, search
from xai_lib.counterfactuals import minimal_perturbation
from xai_lib.studies.foundations_agnostic import Asked, Cost, Task, as_net, costing, costs, tidy

ANCHORS, SINGLE, GREEDY, NEAREST = "anchors", "one column", "few columns", "nearest other row"
CLAIMED, JOINT = "precision, columns drawn one by one", "precision, other columns of one row"
COVERED, KEPT, BENIGN = "training rows covered", "keeps the answer", "changed answers with a benign row"
COLUMNS_CHANGED, CHANGE, AWAY = "columns changed", "sum of changes", "distance to the nearest training row"
FURTHEST, STEP = 5.0, 0.1
"""How far, and in which steps, the change of one column is searched, in standard deviations."""
LONGEST = 8
"""Columns of the longest rule that is tried."""
ITSELF = "the row itself"
WAYS = (SINGLE, GREEDY, NEAREST)


@dataclass(frozen=True)
class Rule:
    """An anchor of a row of a table: these columns stay on the row's side of their median.

    anchor    what the search found, its precision over rows whose other columns are drawn one by one
    middle    (d,) medians of the training rows
    above     (d,) whether the row lies above them
    joint     precision with the other columns of one random training row
    turned    numbers of those rows where the answer changed, one a draw
    covered   share of the training rows under the rule
    kept      whether the tested rows under the rule get the row's answer
    cost      of the search
    """

    anchor: Anchor
    middle: np.ndarray
    above: np.ndarray
    joint: float
    turned: np.ndarray
    covered: float
    kept: np.ndarray
    cost: Cost


def anchor(asked: Asked, row: np.ndarray, table: np.ndarray, tested: np.ndarray, settings: Settings, *, seed: int) -> Rule:
    """The anchor of a row by `anchor_search.search`.

    A column that is present has the value of a random training row on the row's side of the median, one that is absent of a
    random row on the other side. As each is present with probability 1/2, columns outside the rule are drawn as they are
    distributed, but one by one.
    """
    middle = np.median(table, axis=0)
    above, generator = row > middle, np.random.default_rng(seed)
    answer = asked.function(row[None])[0] >= 0.5
    sides = [
        [column[(column > m) == side] for side in (not own, own)] for column, m, own in zip(table.T, middle, above, strict=True)
    ]

    def draw(present: np.ndarray) -> np.ndarray:
        picked = [[side[generator.integers(len(side), size=len(present))] for side in own] for own in sides]
        return np.stack([np.where(bits, own[1], own[0]) for bits, own in zip(present.T, picked, strict=True)], axis=1)

    def ask(present: Tensor) -> Tensor:
        first = asked.rows == before  # the search begins with the row itself
        return torch.from_numpy((asked.predict(row[None] if first else draw(present.numpy())) >= 0.5) == answer)

    before = asked.rows
    with costing(asked) as cost:
        found = search(ask, len(row), torch.Generator().manual_seed(seed), settings)
    rule = list(found.segments)
    donors = generator.integers(len(table), size=1000)
    whole = table[donors]
    for column in rule:
        own = sides[column][1]
        whole[:, column] = own[generator.integers(len(own), size=len(whole))]
    held = (asked.function(whole) >= 0.5) == answer
    under = [((rows > middle) == above)[:, rule].all(axis=1) for rows in (table, tested)]
    kept = (asked.function(tested[under[1]]) >= 0.5) == answer if under[1].any() else np.zeros(0, dtype=bool)
    return Rule(found, middle, above, float(held.mean()), donors[~held], float(under[0].mean()), kept, cost)


def anchors(task: Task, p: Mapping[str, Any]) -> tuple[dict[str, Rule], pd.DataFrame]:
    """Each model's anchor of the explained row, and its numbers.

    That row fulfils its own rule and keeps its own answer, so it is none of the held-out rows that the rule is tested on.
    """
    others = np.delete(task.x_test, task.row, axis=0)
    settings = Settings(threshold=p["precision"], beam_size=2, max_rows=500, max_segments=LONGEST)
    found = {
        name: anchor(model, task.explained, task.x, others, settings, seed=task.seed) for name, model in task.models.items()
    }
    rows = []
    for name, rule in found.items():
        rows += [
            tidy(CLAIMED, ANCHORS, rule.anchor.precision, name),
            tidy(JOINT, ANCHORS, rule.joint, name),
            tidy(BENIGN, ANCHORS, float(task.y[rule.turned].mean()) if len(rule.turned) else float("nan"), name),
            tidy(COVERED, ANCHORS, rule.covered, name),
            tidy("columns in the rule", ANCHORS, float(len(rule.anchor.segments)), name),
            *costs(ANCHORS, name, rule.cost),
        ]
        rows += [tidy(KEPT, ANCHORS, float(v), name, seed=k) for k, v in enumerate(rule.kept)]
    return found, pd.DataFrame(rows)


@dataclass(frozen=True)
class Changed:
    """A counterfactual of a row.

    row       (d,) the changed row; None where none was found
    score     what the model says of it
    cost      of the search
    """

    row: np.ndarray | None
    score: float
    cost: Cost


def one_column(asked: Asked, row: np.ndarray) -> Changed:
    """The smallest change of a single column that changes the answer, by `minimal_perturbation` for all columns at once.

    Each image is the row and a direction, of which the model sees their sum.
    """
    start = torch.from_numpy(np.stack([np.tile(row, (len(row), 1)), np.zeros((len(row), len(row)))], axis=1))
    directions = torch.eye(len(row), dtype=start.dtype)
    start = torch.cat([start, directions[:, None]], dim=1)
    net, answer = as_net(asked), int(asked.function(row[None])[0] < 0.5)

    def pushed(images: Tensor, amounts: float | Tensor) -> Tensor:
        moved = images.clone()
        moved[:, 1] = torch.as_tensor(amounts).reshape(-1, 1).to(images) * images[:, 2]
        return moved

    with costing(asked) as cost:
        found = minimal_perturbation(
            lambda images: net(images[:, 0] + images[:, 1]), start, torch.full((len(row),), answer),
            perturbation=pushed, maximum=FURTHEST, step=STEP, precision=STEP,
        )  # fmt: skip
    sizes = found.amounts.nan_to_num(nan=np.inf).numpy()
    if not np.isfinite(sizes).any():
        return Changed(None, float("nan"), cost)
    best, made = int(sizes.argmin()), row.copy()
    made[best] += sizes[best] * int(found.signs[best])
    return Changed(made, float(asked.function(made[None])[0]), cost)


def few_columns(asked: Asked, row: np.ndarray, table: np.ndarray) -> Changed:
    """Greedy: change one more column, to one of the table's nine deciles, until the answer changes.

    Of the changes that change the answer the smallest is taken; where there is none, the one that moves the score most. In the
    end each changed column is put back where the answer stays changed without it.
    """
    sign = 1 if asked.function(row[None])[0] >= 0.5 else -1
    deciles, d = np.quantile(table, np.linspace(0.1, 0.9, 9), axis=0), len(row)
    made, score, left = row.copy(), float("nan"), list(range(d))
    with costing(asked) as cost:
        while left:
            tried = np.repeat(made[None], 9 * len(left), axis=0)
            tried[np.arange(len(tried)), np.repeat(left, 9)] = deciles[:, left].T.ravel()
            scores = asked.predict(tried)
            size = np.where((scores >= 0.5) != (sign > 0), np.abs(tried - made).sum(axis=1), np.inf)
            best = int(size.argmin()) if np.isfinite(size).any() else int((sign * scores).argmin())
            made, score = tried[best], float(scores[best])
            left.remove(left[best // 9])
            if (score >= 0.5) != (sign > 0):
                break
        else:
            return Changed(None, float("nan"), cost)
        for column in np.flatnonzero(made != row):
            without = made.copy()
            without[column] = row[column]
            back = float(asked.predict(without[None])[0])
            if (back >= 0.5) != (sign > 0):
                made, score = without, back
    return Changed(made, score, cost)


def nearest_row(asked: Asked, row: np.ndarray, table: np.ndarray) -> Changed:
    """The training row with another answer at the smallest sum of absolute differences."""
    with costing(asked) as cost:
        scores = asked.predict(table)
        apart = np.abs(table - row).sum(axis=1)
        apart[(scores >= 0.5) == (asked.function(row[None])[0] >= 0.5)] = np.inf
    best = int(apart.argmin())
    return Changed(table[best] if np.isfinite(apart[best]) else None, float(scores[best]), cost)


def inside(row: np.ndarray, table: np.ndarray) -> bool:
    """Whether every value lies between the smallest and the largest of its column.

    >>> inside(np.array([1.0, 2.0]), np.array([[0.0, 0.0], [3.0, 2.0]])), inside(np.array([-1.0]), np.array([[0.0], [3.0]]))
    (True, False)
    """
    return bool(((row >= table.min(axis=0)) & (row <= table.max(axis=0))).all())


def counterfactuals(task: Task) -> tuple[dict[tuple[str, str], Changed], pd.DataFrame]:
    """Each way under each model, and: columns changed, sum of changes, and how far from any training row it ends.

    The last is the distance to the nearest training row, in units of the median such distance among training rows.
    """
    row, found, rows = task.explained, {}, []
    among = euclidean_distances(task.x)
    np.fill_diagonal(among, np.inf)
    usual = float(np.median(among.min(axis=1)))
    rows.append(tidy(AWAY, ITSELF, float(euclidean_distances(row[None], task.x).min()) / usual, "none"))
    for name, model in task.models.items():
        made = (one_column(model, row), few_columns(model, row, task.x), nearest_row(model, row, task.x))
        for way, changed in zip(WAYS, made, strict=True):
            found[name, way] = changed
            to = np.full_like(row, np.nan) if changed.row is None else changed.row
            off = float("nan") if changed.row is None else float(euclidean_distances(to[None], task.x).min()) / usual
            rows += [
                tidy(COLUMNS_CHANGED, way, float("nan") if changed.row is None else float((to != row).sum()), name),
                tidy(CHANGE, way, float(np.abs(to - row).sum()), name),
                tidy(AWAY, way, off, name),
                *costs(way, name, changed.cost),
            ]
    return found, pd.DataFrame(rows)
