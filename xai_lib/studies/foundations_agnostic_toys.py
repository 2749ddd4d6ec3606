"""Lesson `foundations_agnostic`: models of one line in which each tool misleads, with what is so and what the tool says."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtri
from sklearn.metrics.pairwise import rbf_kernel

from xai_lib import effects
from xai_lib.anchor_search import Settings
from xai_lib.prototypes import prototypes
from xai_lib.studies import foundations_agnostic_global as over_all
from xai_lib.studies import foundations_agnostic_local as shares
from xai_lib.studies import foundations_agnostic_nearby as nearby
from xai_lib.studies.foundations_agnostic import Asked, tidy

SO, SAYS = "what is so", "what the tool says"
APART, STEEP = 0.3, 10.0
CLIFF, EQUAL, SIGNS = "$x_1 + 10 \\max(x_1 - x_2 - 0.3, 0)$", "$x_1 = x_2$", "independent, $\\pm 1$"
DIAGONAL = 100
"""Rows of the table whose two columns are equal."""


@dataclass(frozen=True)
class Shown:
    """One toy.

    tool, model, table  which tool, f in mathematics, and what the rows are
    question            the number that is looked at
    so, says            what it is, and what the tool makes of it
    """

    tool: str
    model: str
    table: str
    question: str
    so: float
    says: float


def crossing(rows: np.ndarray) -> np.ndarray:
    """f = x1 x2."""
    return np.asarray(rows[:, 0] * rows[:, 1])


def cliff(rows: np.ndarray) -> np.ndarray:
    """f = x1 + 10 max(x1 - x2 - 0.3, 0): x1 wherever the two are alike, a cliff where no row of the diagonal is."""
    return np.asarray(rows[:, 0] + STEEP * np.maximum(rows[:, 0] - rows[:, 1] - APART, 0))


def both_positive(rows: np.ndarray) -> np.ndarray:
    """f = [x1 > 0 and x2 > 0]."""
    return np.asarray((rows[:, :2] > 0).all(axis=1), dtype=np.float64)


def diagonal() -> np.ndarray:
    """(100, 2) rows (u, u), u in the middle of each hundredth of [0, 1]."""
    return np.repeat(((np.arange(DIAGONAL) + 0.5) / DIAGONAL)[:, None], 2, axis=1)


def square() -> np.ndarray:
    """(400, 2) the rows of a grid on [-1, 1]^2: independent columns of mean 0."""
    axis = (np.arange(20) + 0.5) / 10 - 1
    return np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)


def curve(function: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, at: np.ndarray) -> np.ndarray:
    """(n, g) ICE of the first column."""
    return over_all.individual(Asked(function), rows, 0, at)


def slope(of: effects.Ale) -> float:
    """Last value of an ALE less the first, over the way between them."""
    return float((of.values[-1] - of.values[0]) / (of.edges[-1] - of.edges[0]))


def pdp_toys() -> list[Shown]:
    """PDP, ICE and ALE: an interaction that cancels, and a cliff beside the rows."""
    ends, grid, line = np.array([0.0, 1.0]), square(), diagonal()
    crossed, fallen = curve(crossing, grid, ends), curve(cliff, line, ends)
    steepest, flat = float(np.abs(np.diff(crossed)).max()), slope(effects.ale(crossing, grid, 0))
    bend = slope(effects.ale(cliff, line, 0))
    product, apart, effect, rise = "$x_1 x_2$", "independent, mean 0", "steepest effect of $x_1$", "rise over $x_1$ from 0 to 1"
    return [
        Shown("PDP", product, apart, effect, steepest, _slope(crossed)),
        Shown("ALE", product, apart, effect, steepest, flat),
        Shown("PDP", CLIFF, EQUAL, rise, _along(line), _slope(fallen)),
        Shown("ICE", CLIFF, EQUAL, "largest score", float(cliff(line).max()), float(fallen.max())),
        Shown("ALE", CLIFF, EQUAL, rise, _along(line), bend),
    ]


def permutation_toys(*, repeats: int = 200, seed: int = 0) -> list[Shown]:
    """Two columns that are one: $f = (x_1 + x_2) / 2$ answers every row of the diagonal as $f = x_1$ does."""
    rows = 2 * diagonal() - 1
    truth = rows[:, 0]

    def mean_square(scores: np.ndarray) -> float:
        return float(((scores - truth) ** 2).mean())

    alone, shared = (
        over_all.shuffled(Asked(model), rows, mean_square, repeats=repeats, seed=seed)[0].mean() / truth.var()
        for model in (lambda r: r[:, 0], lambda r: r.mean(axis=1))
    )
    both = importance_of_both(rows, repeats=repeats, seed=seed)
    question, tool = "rise of the squared error without what $x_1$ tells, in variances", "permutation importance"
    return [
        Shown(tool, "$x_1$", EQUAL, question, 2.0, float(alone)),
        Shown(tool, "$(x_1 + x_2) / 2$", EQUAL, question, both, float(shared)),
    ]


def h_toys() -> list[Shown]:
    """Sums, products, and a product that is next to nothing."""
    pair, cube = square(), np.array(np.meshgrid(*[[-1.0, 1.0]] * 3)).reshape(3, -1).T

    def h(function: Callable[[np.ndarray], np.ndarray], rows: np.ndarray) -> float:
        return float(effects.interactions(function, rows, [0, 1]).h[0, 1])

    def small(rows: np.ndarray) -> np.ndarray:
        return np.asarray(rows[:, 2] + 0.01 * crossing(rows))

    def sum_and_product(rows: np.ndarray) -> np.ndarray:
        return np.asarray(rows[:, :2].sum(axis=1) + crossing(rows))

    share = float((0.01 * crossing(cube)).std() / small(cube).std())
    own, all_of = "share of what the pair does together", "share of the score that is interaction"
    return [
        Shown("H-statistic", "$x_1 + x_2$", "independent", own, 0.0, h(lambda r: r.sum(axis=1), pair)),
        Shown("H-statistic", "$x_1 + x_2 + x_1 x_2$", SIGNS, own, 3**-0.5, h(sum_and_product, cube)),
        Shown("H-statistic", "$x_1 x_2$", "independent, mean 0", own, 1.0, h(crossing, pair)),
        Shown("H-statistic", "$x_3 + 0.01 \\, x_1 x_2$", SIGNS, all_of, share, h(small, cube)),
    ]


def three_heaps() -> np.ndarray:
    """(21, 1) seven rows each about 0, 5 and 10."""
    return np.concatenate([centre + np.linspace(-1, 1, 7) / 5 for centre in (0, 5, 10)])[:, None]


def prototype_toys() -> list[Shown]:
    """Three heaps and three prototypes: a narrow kernel finds each heap, a wide one compares no more than means."""
    heaps = three_heaps()
    found = []
    for width in (1, 100):
        chosen = prototypes(rbf_kernel(heaps, gamma=1 / (2 * width**2)), 3)
        reached = len({round(float(heaps[row, 0]) / 5) for row in chosen})
        found.append(
            Shown(
                "prototypes", f"kernel of width {width}", "heaps near 0, 5, 10", "heaps with a prototype", 3.0, float(reached)
            )
        )
    return found


def lime_toys(*, n_samples: int = 5000, seed: int = 0) -> list[Shown]:
    """A step at 0, seen from 2: nothing within 2 of the row matters, and LIME draws from the whole column."""
    table = np.repeat(ndtri((np.arange(400) + 0.5) / 400)[:, None], 2, axis=1)
    step, row = Asked(lambda rows: (rows[:, 0] > 0).astype(np.float64)), np.array([2.0, 0.1])
    found = shares.lime_weights(step, row, table, n_samples=n_samples, seed=seed)[0]
    return [
        Shown("LIME", "$[x_1 > 0]$ at $x_1 = 2$", "standard normal", "change of $f$ for $x_1$ near the row", 0.0, float(found))
    ]


def anchor_toys(*, seed: int = 0) -> list[Shown]:
    """Columns that are one: on every row $x_1$ alone decides, but the search draws them apart."""
    rows = np.repeat(np.array([-1.0, 1.0])[:, None], 2, axis=1).repeat(50, axis=0)
    found = nearby.anchor(Asked(both_positive), np.ones(2), rows, rows, Settings(), seed=seed)
    alone = float(both_positive(rows[rows[:, 0] > 0]).mean())
    question = "columns that a rule needs"
    return [
        Shown(
            "anchors",
            "$[x_1 > 0 \\text{ and } x_2 > 0]$",
            "$x_1 = x_2$",
            question,
            1.0 if alone == 1 else 2.0,
            float(len(found.anchor.segments)),
        )
    ]


def counterfactual_toys() -> list[Shown]:
    """Columns that are one: two searches leave the rows that there are, the third changes more than is needed."""
    line, row, asked = 4 * diagonal() - 2, np.ones(2), Asked(sum_positive)
    found = {nearby.SINGLE: nearby.one_column(asked, row), nearby.GREEDY: nearby.few_columns(asked, row, line)}
    model, shown = "$[x_1 + x_2 > 0]$ at $(1, 1)$", []
    for way, made in found.items():
        off = np.inf if made.row is None else float(np.abs(line - made.row).sum(axis=1).min())
        shown.append(Shown(way, model, EQUAL, "distance from the changed row to the nearest", 0.0, off))
    near = nearby.nearest_row(asked, row, line)
    moved = np.inf if near.row is None else float((near.row != row).sum())
    return [*shown, Shown(nearby.NEAREST, model, EQUAL, "columns that must change", 1.0, moved)]


def shap_toys() -> list[Shown]:
    """The cliff again: on every row $f = x_1$, and $x_2$ gets a share."""
    found = shares.shap_values(Asked(cliff), np.ones((1, 2)), diagonal(), permutations=None)[0]
    return [Shown("SHAP", CLIFF, EQUAL, f"share of $x_{k + 1}$ at $(1, 1)$", (0.5, 0.0)[k], float(found[k])) for k in (1, 0)]


def every() -> list[Shown]:
    """All toys, in the order of the lesson."""
    made = (pdp_toys, permutation_toys, h_toys, prototype_toys, lime_toys, anchor_toys, counterfactual_toys, shap_toys)
    return [one for make in made for one in make()]


def rows_of(shown: list[Shown]) -> pd.DataFrame:
    """Results of toys: what is so, and what the tool says."""
    found = []
    for one in shown:
        method = f"{one.tool}: {one.model} | {one.table} | {one.question}"
        found += [tidy(SO, method, one.so, "toy"), tidy(SAYS, method, one.says, "toy")]
    return pd.DataFrame(found)


def sum_positive(rows: np.ndarray) -> np.ndarray:
    """f = [x1 + x2 > 0]."""
    return np.asarray(rows.sum(axis=1) > 0, dtype=np.float64)


def _slope(ice: np.ndarray) -> float:
    return float(np.diff(ice.mean(axis=0))[0])


def _along(line: np.ndarray) -> float:
    """Rise of the cliff's score along the rows there are, for a way of 1."""
    scores = cliff(line)
    return float((scores[-1] - scores[0]) / (line[-1, 0] - line[0, 0]))


def importance_of_both(rows: np.ndarray, *, repeats: int = 200, seed: int = 0) -> float:
    """Rise of the squared error of (x1 + x2) / 2, in variances, when both columns are shuffled together."""
    generator, truth = np.random.default_rng(seed), rows[:, 0]
    found = [((rows[generator.permutation(len(rows))].mean(axis=1) - truth) ** 2).mean() for _ in range(repeats)]
    return float(np.mean(found) / truth.var())
