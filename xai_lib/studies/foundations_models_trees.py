"""Lesson `foundations_models`: what can be read off a tree, off many of them, and off the weights of a net."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from xai_lib.studies.foundations_models import HIDDEN, Split, bootstraps, draw, forest, net, tidy, tree
from xai_lib.threads import on_one_thread

FIRST, SAME_FIRST, SAME_THREE, SAME_CLASS = "first question", "same first question", "same first three questions", "same class"
IMPURITY, PERMUTATION, BELOW = "impurity importance", "permutation importance", "features below the noise"
MANY, TWO = "noise of many values", "noise of two values"
SHUFFLED, REAL = "impurity importance, labels shuffled", "mean over the measurements"
REPEATS = 3
TWINS = ("units in another order", "units rescaled", "another start")
OUTPUT, WEIGHTS = "largest change of a logit", "mean change of a weight, over the mean weight"
RULE = "decision tree"


@dataclass(frozen=True)
class Node:
    """A node of a drawn tree.

    depth        0 for the root
    height       vertical place; leaves are 0, 1, 2, ... from top to bottom
    question     "column <= threshold", or None for a leaf
    counts       training rows here, by class
    yes, no      positions of the next nodes in the list, None for a leaf
    """

    depth: int
    height: float
    question: str | None
    counts: tuple[int, ...]
    yes: int | None = None
    no: int | None = None


def nodes(fitted: Any, columns: Sequence[str]) -> list[Node]:
    """A fitted tree as a list whose first entry is the root; leaves get the heights 0, 1, ..., a question the mean of two."""
    inner = fitted.tree_
    made: list[Node] = []
    leaves = iter(range(inner.n_leaves))

    def place(at: int, depth: int) -> int:
        mine = len(made)
        counts = tuple(int(c) for c in np.rint(inner.value[at][0] * inner.n_node_samples[at]))
        made.append(Node(depth, 0.0, None, counts))
        if inner.children_left[at] < 0:
            made[mine] = Node(depth, float(next(leaves)), None, counts)
            return mine
        yes, no = place(int(inner.children_left[at]), depth + 1), place(int(inner.children_right[at]), depth + 1)
        question = f"{columns[inner.feature[at]]} ≤ {inner.threshold[at]:.3g}"
        made[mine] = Node(depth, (made[yes].height + made[no].height) / 2, question, counts, yes, no)
        return mine

    place(0, 0)
    return made


def drawn_tree(split: Split, p: Mapping[str, Any]) -> Any:
    """The tree of the page, fitted to original units: no scale changes a question."""
    return tree(p["depth"], draw(p["seed"], "tree")).fit(split.raw_train, split.y_train)


def questions(fitted: Any) -> tuple[int, ...]:
    """Columns of the first question and of the two that follow; -1 where there is none."""
    inner = fitted.tree_
    if inner.children_left[0] < 0:
        return (-1, -1, -1)
    below = (int(inner.children_left[0]), int(inner.children_right[0]))
    return tuple(max(-1, int(inner.feature[at])) for at in (0, *below))


@on_one_thread
def question_rows(split: Split, p: Mapping[str, Any]) -> pd.DataFrame:
    """Trees of resamples beside the drawn one: which column they ask first, and how often they answer alike."""
    rows = bootstraps(len(split.raw_train), p["n_bootstraps"], p["seed"], "trees")
    fits = [tree(p["depth"], draw(p["seed"], "tree")).fit(split.raw_train[at], split.y_train[at]) for at in rows]
    drawn = drawn_tree(split, p)
    own, other = questions(drawn), [questions(one) for one in fits]
    answers = drawn.predict(split.raw_test)
    each = [f"resample {b}" for b in range(len(fits))]
    frames = [
        tidy(SAME_FIRST, RULE, [q[0] == own[0] for q in other], each, model=RULE),
        tidy(SAME_THREE, RULE, [q == own for q in other], each, model=RULE),
        tidy(SAME_CLASS, RULE, [(one.predict(split.raw_test) == answers).mean() for one in fits], each, model=RULE),
    ]
    for j in sorted({q[0] for q in other} - {-1}, key=lambda j: -sum(q[0] == j for q in other)):
        frames.append(tidy(FIRST, split.columns[j], [q[0] == j for q in other], each, model=RULE))
    return pd.concat(frames, ignore_index=True)


# --- a forest, and two columns of noise ---------------------------------------------------------------------------------------


def with_noise(split: Split, seed: int) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """(training, test) rows with two more columns that know nothing: one of many values, one of two."""
    generator = np.random.default_rng(draw(seed, "noise", split.number))
    parts = []
    for x in (split.x_train, split.x_test):
        coin = generator.integers(2, size=len(x)) * 2.0 - 1
        parts.append(np.column_stack([x, generator.normal(size=len(x)), coin]))
    return parts[0], parts[1], (*split.columns, MANY, TWO)


@on_one_thread
def importance_rows(made: Sequence[Split], p: Mapping[str, Any]) -> pd.DataFrame:
    """Both importances of a full-depth forest, column by column and split by split.

    Impurity importance is the fall of the Gini impurity by a column's questions on the training rows, as a share of all;
    permutation importance is the fall of the accuracy on the test rows when the column is shuffled. With the labels shuffled
    before fitting, no column knows anything.
    """
    from sklearn.inspection import permutation_importance

    found: dict[str, list[np.ndarray]] = {IMPURITY: [], PERMUTATION: []}
    ignorant = []
    names: tuple[str, ...] = ()
    for split in made:
        train, test, names = with_noise(split, p["seed"])
        fitted = forest(p["n_trees"], draw(p["seed"], "forest", split.number)).fit(train, split.y_train)
        labels = np.random.default_rng(draw(p["seed"], "labels", split.number)).permutation(split.y_train)
        ignorant.append(forest(p["n_trees"], 0).fit(train, labels).feature_importances_)
        state = draw(p["seed"], "shuffles", split.number)
        shuffled = permutation_importance(
            fitted, test, split.y_test, n_repeats=REPEATS, random_state=state, scoring=forest_accuracy
        )
        found[IMPURITY].append(fitted.feature_importances_)
        found[PERMUTATION].append(shuffled.importances_mean)
    each = [f"split {split.number}" for split in made]
    lost = np.array(ignorant)
    means = {MANY: lost[:, -2], TWO: lost[:, -1], REAL: lost[:, :-2].mean(axis=1)}
    frames = [tidy(SHUFFLED, name, values, each, model="random forest") for name, values in means.items()]
    for metric, values in found.items():
        table = np.array(values)
        frames += [tidy(metric, name, table[:, j], each, model="random forest") for j, name in enumerate(names)]
        noise = table[:, [names.index(MANY)]]
        frames.append(tidy(BELOW, metric, (table[:, :-2] < noise).sum(axis=1), each, model="random forest"))
    return pd.concat(frames, ignore_index=True)


def forest_accuracy(fitted: Any, x: np.ndarray, y: np.ndarray) -> float:
    """`fitted.score(x, y)` without its thread pool, which takes ten times as long as the trees do."""
    rows = np.asarray(x, dtype=np.float32)
    share = np.mean([one.tree_.predict(rows) for one in fitted.estimators_], axis=0)
    return float((fitted.classes_[share.argmax(axis=1)] == y).mean())


# --- weights of a net ---------------------------------------------------------------------------------------------------------


def logits(fitted: Any, x: np.ndarray) -> np.ndarray:
    """w2 . relu(W1 x + b1) + b2 of a fitted net with one hidden layer and two classes: (n,)."""
    (first, second), (b1, b2) = fitted.coefs_, fitted.intercepts_
    return np.asarray((np.maximum(x @ first + b1, 0) @ second + b2)[:, 0])


def reordered(fitted: Any, order: np.ndarray) -> Any:
    """The net with its hidden units in another order: columns of W1 and b1, rows of w2."""
    twin = deepcopy(fitted)
    twin.coefs_ = [fitted.coefs_[0][:, order], fitted.coefs_[1][order]]
    twin.intercepts_ = [fitted.intercepts_[0][order], fitted.intercepts_[1]]
    return twin


def rescaled(fitted: Any, factors: np.ndarray) -> Any:
    """The net with each hidden unit enlarged by a positive factor and read out through its inverse: relu(c z) = c relu(z)."""
    twin = deepcopy(fitted)
    twin.coefs_ = [fitted.coefs_[0] * factors, fitted.coefs_[1] / factors[:, None]]
    twin.intercepts_ = [fitted.intercepts_[0] * factors, fitted.intercepts_[1]]
    return twin


def twins(split: Split, seed: int) -> tuple[Any, dict[str, Any]]:
    """A fitted net, and three others by label: two with the same function, and one from another start."""
    own = net(draw(seed, "net", split.number)).fit(split.x_train, split.y_train)
    generator = np.random.default_rng(draw(seed, "twins", split.number))
    order = generator.permutation(HIDDEN)
    factors = 2 ** generator.uniform(-2, 2, size=HIDDEN)
    again = net(draw(seed, "another net", split.number)).fit(split.x_train, split.y_train)
    return own, dict(zip(TWINS, (reordered(own, order), rescaled(own, factors), again), strict=True))


@on_one_thread
def net_rows(made: Sequence[Split], p: Mapping[str, Any]) -> pd.DataFrame:
    """Each twin beside the net: change of test logits, of weights (mean |change| over mean |weight|), share of same answers."""
    found: dict[tuple[str, str], list[float]] = {}
    for split in made:
        own, others = twins(split, p["seed"])
        z = logits(own, split.x_test)
        for label, other in others.items():
            y = logits(other, split.x_test)
            before, after = (np.concatenate([w.ravel() for w in one.coefs_]) for one in (own, other))
            moved = np.abs(after - before).mean() / np.abs(before).mean()
            measured = {OUTPUT: np.abs(z - y).max(), WEIGHTS: moved, SAME_CLASS: ((z > 0) == (y > 0)).mean()}
            for metric, value in measured.items():
                found.setdefault((metric, label), []).append(float(value))
    each = [f"split {split.number}" for split in made]
    return pd.concat([tidy(m, label, v, each, model="MLP") for (m, label), v in found.items()], ignore_index=True)
