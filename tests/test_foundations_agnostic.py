"""Lesson `foundations_agnostic`: every toy in closed form, every count of rows, and each tool against what it must say."""

import sys
import warnings
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from xai_lib import toys as models
from xai_lib.anchor_search import Settings
from xai_lib.compendium import study
from xai_lib.compendium.results import checked
from xai_lib.plotting import output
from xai_lib.studies import foundations_agnostic as lesson
from xai_lib.studies import foundations_agnostic_curve_figures as curve_figures
from xai_lib.studies import foundations_agnostic_figures as figures
from xai_lib.studies import foundations_agnostic_global as over_all
from xai_lib.studies import foundations_agnostic_local as shares
from xai_lib.studies import foundations_agnostic_nearby as nearby
from xai_lib.studies import foundations_agnostic_tables as tables
from xai_lib.studies import foundations_agnostic_toys as toys
from xai_lib.tabular_importance import shapley_rows

pytestmark = pytest.mark.slow

P = {
    "seed": 0, "column": "worst concave points", "certainty": 0.9, "repeats": 2, "n_seeds": 2, "h_rows": 8, "prototypes": 3,
    "kernel_width": 1.0, "lime_samples": [30, 60], "precision": 0.9, "shap_background": 4, "shap_orders": 1,
}  # fmt: skip
N, D, HELD_OUT = 456, 30, 113


@pytest.fixture(scope="module")
def task():
    places = (lesson, over_all, shares)
    before = lesson.TREES
    for place in places:
        place.TREES = 5
    yield lesson.open_task(P)
    for place in places:
        place.TREES = before


@pytest.fixture(scope="module")
def measured(task):
    """All that the notebook measures, in small."""
    found = SimpleNamespace(
        curves=over_all.curves(task, P),
        important=over_all.importance(task, P),
        together=over_all.interaction(task, over_all.some_columns(task, 3), P),
        stand=over_all.stand(task, P),
        lime=shares.lime(task, P),
        shap=shares.shap(task, P),
    )
    found.rules, found.ruled = nearby.anchors(task, P)
    found.changes, found.changed = nearby.counterfactuals(task)
    found.frames = [over_all.curve_rows(found.curves), found.important, found.together, found.stand.frame]
    found.frames += [found.lime, found.shap, found.ruled, found.changed]
    return found


@pytest.fixture(scope="module")
def shown():
    return toys.every()


@pytest.fixture
def said(monkeypatch):
    found = []
    monkeypatch.setattr(output, "display", lambda data, raw, metadata: found.append((data["text/plain"], metadata["xai"])))
    return found


def value(frame, metric, model, method):
    own = frame[(frame.metric == metric) & (frame.model == model) & (frame.method == method)].value
    return float(own.item())


# --- toys: what is so, and what the tool says ---------------------------------------------------------------------------------


KNOWN = [  # tool, part of the question or model, what is so, what the tool says, to within
    ("PDP", "steepest", 0.95, 0.0, 1e-12),
    ("ALE", "steepest", 0.95, 0.0, 1e-12),
    ("PDP", "rise over", 1.0, 1 + 5 * 0.7**2, 1e-9),
    ("ICE", "largest", 0.995, 1 + 10 * (1 - 0.005 - 0.3), 1e-9),
    ("ALE", "rise over", 1.0, 1.0, 1e-9),
    ("permutation importance", "$x_1$|", 2.0, 2.0, 0.08),
    ("permutation importance", "$(x_1 + x_2) / 2$", 2.0, 0.5, 0.02),
    ("H-statistic", "$x_1 + x_2$|", 0.0, 0.0, 1e-12),
    ("H-statistic", "$x_1 + x_2 + x_1 x_2$", 3**-0.5, 3**-0.5, 1e-12),
    ("H-statistic", "$x_1 x_2$|", 1.0, 1.0, 1e-12),
    ("H-statistic", "x_3", (1e-4 / (1 + 1e-4)) ** 0.5, 1.0, 1e-9),
    ("prototypes", "width 1|", 3.0, 3.0, 0),
    ("prototypes", "width 100", 3.0, 1.0, 0),
    ("LIME", "x_1 > 0", 0.0, 2 / 3, 0.03),
    ("anchors", "x_1 > 0", 1.0, 2.0, 0),
    (nearby.SINGLE, "distance", 0.0, 2.0, 0.05),
    (nearby.NEAREST, "must change", 1.0, 2.0, 0),
    ("SHAP", "share of $x_1$", 0.5, 1.725, 1e-9),
    ("SHAP", "share of $x_2$", 0.0, -1.225, 1e-9),
]


@pytest.mark.parametrize(("tool", "part", "so", "says", "within"), KNOWN)
def test_a_toy_has_its_closed_form(shown, tool, part, so, says, within):
    (one,) = [one for one in shown if one.tool == tool and part in f"{one.model}|{one.table}|{one.question}|"]
    assert one.so == pytest.approx(so, abs=0.06 if tool.startswith("perm") else 1e-9)
    assert one.says == pytest.approx(says, abs=max(within, 1e-12))


def test_every_tool_has_a_toy_in_which_it_misleads(shown):
    for _, _, toy in tables.QUESTIONS.values():
        assert max(abs(one.so - one.says) for one in shown if one.tool == toy) > 0.3, toy


def test_partial_dependence_on_the_other_column_of_the_cliff():
    """Solution of the first exercise: mean of x1 + 5 (0.7 - z)_+^2, and ALE 0."""
    at = np.linspace(0, 1, 6)
    found = over_all.individual(lesson.Asked(toys.cliff), toys.diagonal(), 1, at).mean(axis=0)
    np.testing.assert_allclose(found, 0.5 + 5 * np.maximum(0.7 - at, 0) ** 2, atol=2e-3)
    np.testing.assert_allclose(toys.effects.ale(toys.cliff, toys.diagonal(), 1).values, 0, atol=1e-12)


# --- what is asked, counted ---------------------------------------------------------------------------------------------------


def test_the_wrapper_counts_rows_and_undoes_nothing():
    asked = lesson.Asked(lambda rows: rows.sum(axis=1))
    asked.predict(np.ones((7, 2)))
    with lesson.costing(asked) as cost:
        asked.predict(np.ones((3, 2)))
        lesson.as_net(asked)(torch.full((4, 2), 0.3, dtype=torch.float64))
    assert (asked.rows, cost.rows) == (14, 7)
    assert cost.seconds >= 0


def test_the_net_of_a_score_gives_it_back():
    asked = lesson.Asked(lambda rows: rows[:, 0])
    out = lesson.as_net(asked)(torch.tensor([[0.25], [1.0]], dtype=torch.float64))
    torch.testing.assert_close(out.softmax(dim=1)[:, 0], torch.tensor([0.25, 1.0], dtype=torch.float64), atol=1e-9, rtol=0)


def test_the_table_and_the_explained_row(task):
    assert task.x.shape == (N, D)
    assert task.x_test.shape == (HELD_OUT, D)
    np.testing.assert_allclose(task.x.mean(axis=0), 0, atol=1e-5)
    scores = [model.function(task.x_test) for model in task.models.values()]
    sure = (scores[0] > 0.5) & (scores[1] > 0.5) & (task.test.targets.numpy() == 0)
    typical = sure & (np.abs(task.x_test).max(axis=1) <= lesson.TYPICAL)
    assert typical[task.row]
    assert abs(scores[0][task.row] - 0.9) == pytest.approx(np.abs(scores[0][typical] - 0.9).min())


def test_global_tools_ask_for_what_their_formulas_say(task, measured, said):
    curves, important, together = measured.curves, measured.important, measured.together
    frame = pd.concat(measured.frames)
    for model in lesson.SHORT:
        assert value(frame, lesson.ROWS, model, over_all.PDP) == N * over_all.GRID
        assert value(frame, lesson.ROWS, model, over_all.ALE) == 2 * N
        assert value(frame, lesson.ROWS, model, over_all.PERMUTATION) == (1 + D * P["repeats"]) * HELD_OUT
        assert value(frame, lesson.ROWS, model, over_all.H) == P["n_seeds"] * (3 + 3) * P["h_rows"] ** 2
    for curve in curves.values():
        np.testing.assert_allclose([one.value for one in curve.mean], curve.ice.mean(axis=0), atol=1e-12)
    curve_figures.ice(curves, task)
    curve_figures.ale(curves, task)
    curve_figures.cancelling()
    curve_figures.beside_the_rows()
    figures.importance(important)
    tables.interactions(together)
    assert [len(words[1]["alt"]) > 40 for words in said if "alt" in words[1]] == [True] * 5
    assert "3.45" in said[3][0]


def test_a_centred_curve_has_the_interval_of_the_curve_that_is_drawn():
    """f = x1 + 100 x2: single rows lie far apart, and less their own mean over the rows they are one line."""
    rows = np.random.default_rng(0).normal(size=(40, 2))
    at = np.linspace(-1, 1.5, 6)
    ice = toys.curve(lambda r: r[:, 0] + 100 * r[:, 1], rows, at)
    found = over_all.centred(ice, at, rows[:, 0])
    inside = np.clip(rows[:, 0], -1, 1.5)
    np.testing.assert_allclose(found, np.tile(at - inside.mean(), (40, 1)), atol=1e-9)
    bent = toys.curve(lambda r: np.exp(r[:, 0]) * r[:, 1], rows, at)
    slow = [own - np.mean([np.interp(x, at, own) for x in rows[:, 0]]) for own in bent]
    np.testing.assert_allclose(over_all.centred(bent, at, rows[:, 0]), slow, atol=1e-12)


def test_the_figure_of_two_curves_draws_the_centred_interval(task, measured, said, monkeypatch):
    drawn = []
    monkeypatch.setattr(curve_figures, "band", lambda ax, at, found, *words, **more: drawn.append(found))
    curve_figures.ale(measured.curves, task)
    for found, curve in zip(drawn, measured.curves.values(), strict=True):
        own = over_all.centred(curve.ice, curve.at, task.x[:, task.column])
        np.testing.assert_allclose([one.value for one in found], own.mean(axis=0), atol=1e-12)
        widths = [np.mean([one.high - one.low for one in each]) for each in (found, curve.mean)]
        assert widths[0] < 0.5 * widths[1]


def test_rows_that_a_shuffle_puts_right_make_importance_negative(task, measured):
    """The same shuffles, row by row: their mean is the importance; what is put right weighs against what is put wrong."""
    frame, own = measured.important, task.columns[task.column]
    for model in lesson.SHORT:
        parts = {
            way: frame[(frame.metric == over_all.DRAWN) & (frame.model == model) & (frame.method == way)]
            for way in (over_all.OVER_SHUFFLES, over_all.OVER_ROWS)
        }
        falls = frame[(frame.metric == over_all.FALL) & (frame.model == model)]
        assert parts[over_all.OVER_SHUFFLES].value.tolist() == falls[falls.method == own].value.tolist()
        assert parts[over_all.OVER_ROWS]["sample"].tolist() == list(task.test.ids)
        assert parts[over_all.OVER_ROWS].value.mean() == pytest.approx(parts[over_all.OVER_SHUFFLES].value.mean())
        right = (task.models[model].function(task.x_test) < 0.5).astype(int) == task.test.targets.numpy()
        assert value(frame, over_all.WRONG, model, over_all.PERMUTATION) == (~right).sum()
        rows = parts[over_all.OVER_ROWS].value.to_numpy()
        assert (rows[right] >= 0).all()
        assert (rows[~right] <= 0).all()
        assert value(frame, over_all.PUT_RIGHT, model, over_all.PERMUTATION) == pytest.approx(-rows[~right].sum())
        assert value(frame, over_all.PUT_WRONG, model, over_all.PERMUTATION) == pytest.approx(rows[right].sum())
        means = falls.groupby("method").value.mean()
        assert value(frame, over_all.ABOVE, model, over_all.PERMUTATION) == (means > 0).sum()
        assert value(frame, over_all.BELOW, model, over_all.PERMUTATION) <= (means < 0).sum()


def test_intervals_below_0_are_counted():
    falls = np.array([[-0.2, -0.1, -0.3, -0.2], [0.0, 0.0, 0.0, 0.0], [-0.2, 0.1, 0.1, -0.1], [0.1, 0.2, 0.1, 0.2]])
    assert over_all.signs(falls) == {over_all.ABOVE: 1, over_all.BELOW: 1}


def test_h_of_all_rows_stands_beside_that_of_few(task, measured, said):
    frame, (first, second, _) = measured.together, over_all.some_columns(task, 3)
    found = toys.effects.interactions(task.models["MLP"].predict, task.x, [task.columns.index(c) for c in (first, second)])
    pair = f"{first} × {second}"
    assert value(frame, over_all.SHARE_ALL, "MLP", pair) == pytest.approx(found.h[0, 1])
    assert value(frame, over_all.SIZE_ALL, "MLP", pair) == pytest.approx(found.size[0, 1])
    assert value(frame, lesson.ROWS, "MLP", over_all.H_ALL) == (3 + 3) * N**2
    few = frame[(frame.metric == over_all.SHARE) & (frame.model == "MLP")].value.mean()
    assert few > 1.2 * frame[(frame.metric == over_all.SHARE_ALL) & (frame.model == "MLP")].value.mean()
    tables.interactions(frame)
    assert "| MLP: H | MLP: H of all rows | MLP: size |" in said[0][0]


def test_ice_is_the_score_with_the_column_set(task):
    model = task.models["MLP"]
    found = over_all.individual(model, task.x[:5], 3, np.array([-1.0, 2.0]))
    for i, z in ((0, 0), (4, 1)):
        row = task.x[i].copy()
        row[3] = (-1.0, 2.0)[z]
        assert found[i, z] == pytest.approx(model.function(row[None])[0], abs=1e-12)


def test_prototypes_of_the_table(task, measured, said):
    found = measured.stand
    assert len({*found.chosen, *found.odd}) == 2 * P["prototypes"]
    assert value(found.frame, lesson.ROWS, "none", over_all.PROTOTYPES) == 0
    assert found.mmd[-1] < found.random[:, -1].mean()
    figures.stand(found, task)
    assert "random rows" in said[0][0]


def test_the_figure_of_importance_shows_what_is_below_0(task, measured, said):
    figures.importance(measured.important)
    own = measured.important[measured.important.metric == over_all.FALL]
    least = own[own.model == "forest"].groupby("method").value.mean().min()
    assert f"forest from {figures.number(least)} to" in said[0][1]["alt"]


# --- local tools --------------------------------------------------------------------------------------------------------------


def test_lime_asks_for_its_draws_and_repeats_itself(task, measured, said):
    frame = measured.lime
    model = task.models["forest"]
    again = shares.lime_weights(model, task.explained, task.x, n_samples=60, seed=1)
    first = frame[(frame.metric == shares.WEIGHT) & (frame.model == "forest") & (frame.seed == 1)]
    np.testing.assert_array_equal(first.value, again)
    assert value(frame, lesson.ROWS, "MLP", shares.LIME) == 60
    assert frame[frame.metric == shares.SAME].value.between(0, 1).all()
    figures.lime(frame, P)
    figures.shares(frame, measured.shap)
    assert len(said) == 2


def test_no_seed_of_lime_is_used_in_two_pairs(task, measured):
    a, b, c = {1, 2}, {2, 3}, {4}
    assert shares.overlaps([a, b]) == [1 / 3]
    assert shares.overlaps([a, b, c]) == [1 / 3]
    assert shares.overlaps([a, b, c, c, a]) == [1 / 3, 1.0]
    frame = measured.lime
    for model in lesson.SHORT:
        own = frame[(frame.metric == shares.SAME) & (frame.model == model)].value
        assert len(own) == len(P["lime_samples"]) * (P["n_seeds"] // 2)
        most = frame[(frame.metric == shares.SAME_MOST) & (frame.model == model)]
        assert most.value.tolist() == own.tolist()[-1:]


def test_shapley_values_of_shap_are_those_of_this_library():
    """FIDELITY TV-27, and a random forest of four columns against a background of seven rows."""
    product = lesson.Asked(lambda rows: rows[:, 0] * rows[:, 1] + rows[:, 2])
    found = shares.shap_values(product, np.array([[2.0, 3.0, 4.0]]), np.zeros((1, 3)), permutations=None)
    np.testing.assert_allclose(found, [[3, 3, 4]], atol=1e-9)
    from sklearn.ensemble import RandomForestClassifier

    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 4))
    forest = RandomForestClassifier(5, random_state=0).fit(x, x[:, 0] * x[:, 1] > 0)
    asked, background, rows = lesson.Asked(lesson.malignant(forest)), x[:7], x[10:13]
    theirs = shares.shap_values(asked, rows, background, permutations=None)
    ours = shapley_rows(
        lesson.as_net(asked), torch.from_numpy(rows), torch.zeros(3, dtype=torch.int64), background=torch.from_numpy(background)
    )
    np.testing.assert_allclose(theirs, ours.numpy(), atol=1e-9)
    assert np.abs(theirs).max() > 0.1
    many = shares.shap_values(asked, rows, background, permutations=300)
    np.testing.assert_allclose(many, theirs, atol=0.03)


def test_the_lesson_compares_both_on_few_columns(task, said):
    frame = shares.exact(task, over_all.some_columns(task, 4), P)
    assert value(frame, shares.DIFFERENCE, "forest of 4 columns", shares.EXACT) < 1e-9
    assert value(frame, lesson.ROWS, "forest of 4 columns", shares.OURS) == 3 * 2**4 * P["shap_background"]
    tables.exact(frame)
    assert "forest of 4 columns" in said[0][0]


def test_shap_is_imported_without_a_warning_and_leaves_the_compiler_as_it_was(monkeypatch):
    from numba.core import config

    for name in [name for name in sys.modules if name == "shap" or name.startswith("shap.")]:
        monkeypatch.delitem(sys.modules, name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = shares.library()
    assert found.__version__
    assert not config.DISABLE_JIT


def test_shapley_values_over_orders_sum_to_the_difference(measured):
    frame = measured.shap
    for model in lesson.SHORT:
        own = frame[(frame.metric == shares.VALUE) & (frame.model == model)]
        np.testing.assert_allclose(
            own.groupby("seed").value.sum(), value(frame, "score less mean score", model, shares.SHAP), atol=1e-9
        )
        at_least = P["shap_background"] * 2 * D * P["shap_orders"]
        assert 0.95 * at_least <= value(frame, lesson.ROWS, model, shares.SHAP) <= 1.1 * at_least


@pytest.fixture
def slope():
    """f = 1 / (1 + exp(-(x1 + 2 x2 - 0 x3))): the answer changes where x1 + 2 x2 does."""
    return lesson.Asked(lambda rows: 1 / (1 + np.exp(-(rows[:, 0] + 2 * rows[:, 1]))))


def test_the_smallest_change_of_one_column(slope):
    found = nearby.one_column(slope, np.array([1.0, 0.55, 7.0]))
    np.testing.assert_allclose(found.row, [1.0, -0.55, 7.0], atol=1e-9)  # 1 + 1.1 = 2 * 1.05: the 11th step of 0.1
    assert found.score < 0.5
    below = nearby.one_column(slope, np.array([-1.0, -0.55, 7.0]))
    np.testing.assert_allclose(below.row, [-1.0, 0.55, 7.0], atol=1e-9)


def test_no_change_of_one_column_is_said():
    both = lesson.Asked(lambda rows: 1 - 0.9 * ((rows > 0).sum(axis=1) == 0))
    assert nearby.one_column(both, np.array([1.0, 1.0])).row is None
    found = nearby.few_columns(both, np.array([1.0, 1.0]), np.random.default_rng(0).normal(size=(50, 2)))
    assert found.row is not None
    assert (found.row < 0).all()
    assert nearby.few_columns(both, np.array([1.0, 1.0]), np.ones((50, 2))).row is None


def test_few_columns_takes_the_smallest_change_that_works_and_puts_the_others_back(slope):
    table = np.linspace(-2, 2, 11)[:, None].repeat(3, axis=1)
    found = nearby.few_columns(slope, np.array([1.0, 0.2, 0.0]), table)
    np.testing.assert_allclose(found.row, [1.0, -0.8, 0.0], atol=1e-9)  # deciles are multiples of 0.4
    vain = lesson.Asked(lambda rows: np.where((rows[:, 0] < 0) & (rows[:, 1] < 0), 0.1, 0.6 + 0.001 * rows[:, 2]))
    found = nearby.few_columns(vain, np.array([1.0, 1.0, 1.0]), table)
    assert found.row[2] == 1.0, "its change was no help"
    assert found.score == pytest.approx(0.1)


def test_the_nearest_row_with_another_answer(slope):
    table = np.array([[-1.0, 0, 0], [3.0, 0, 0], [0.9, -0.6, 0], [1.0, 1.0, 0]])
    found = nearby.nearest_row(slope, np.array([1.0, 0.0, 0.0]), table)
    np.testing.assert_array_equal(found.row, [0.9, -0.6, 0])
    assert found.cost.rows == 4
    assert nearby.nearest_row(slope, np.array([1.0, 0.0, 0.0]), table[[1, 3]]).row is None


def test_an_anchor_is_the_column_that_decides():
    rows = np.random.default_rng(0).normal(size=(300, 4))
    asked = lesson.Asked(lambda r: (r[:, 2] > 0).astype(float))
    for sign in (1.0, -1.0):
        row = np.array([0.3, -0.4, sign, 0.1])
        found = nearby.anchor(asked, row, rows - np.median(rows, axis=0), rows, Settings(), seed=0)
        assert found.anchor.found
        assert found.anchor.segments == (2,)
        assert found.above.tolist() == [True, False, sign > 0, True]
        assert found.anchor.precision == found.joint == 1.0
        assert found.covered == pytest.approx(0.5)
        assert len(found.turned) == 0


def test_the_rows_that_turn_an_answer_are_named():
    """f = [x1 + x2 > 0]: under the best rule, x1 above its median, just the rows with a low x2 change the answer."""
    rows = np.random.default_rng(2).normal(size=(200, 2))
    asked = lesson.Asked(lambda r: (2 * r[:, 0] + r[:, 1] > 0).astype(float))
    found = nearby.anchor(asked, np.array([1.0, 1.0]), rows, rows, Settings(threshold=0.8), seed=0)
    assert found.anchor.segments == (0,)
    assert found.joint == pytest.approx(1 - len(found.turned) / 1000)
    assert len(found.turned) > 20
    assert (rows[found.turned, 1] < 0).all()


def test_rows_outside_the_rule_are_drawn_as_each_column_is_distributed():
    """f = [x1 <= third quartile] holds for three quarters of the draws under the empty rule, whatever the row's side."""
    rows = np.random.default_rng(1).normal(size=(400, 2))
    third = np.quantile(rows[:, 0], 0.75)
    asked = lesson.Asked(lambda r: (r[:, 0] <= third).astype(float))
    found = nearby.anchor(asked, np.array([0.1, 0.1]), rows, rows, Settings(threshold=0.7, max_rows=4000, draws=1000), seed=0)
    assert found.anchor.segments == ()
    assert found.anchor.precision == pytest.approx(0.75, abs=0.03)


def test_nearby_tools_on_the_table(task, measured, said):
    rules, ruled, changes, frame = measured.rules, measured.ruled, measured.changes, measured.changed
    for name, rule in rules.items():
        under = ((task.x_test > rule.middle) == rule.above)[:, list(rule.anchor.segments)].all(axis=1)
        assert under[task.row], "a row fulfils its own rule"
        assert len(rule.kept) == under.sum() - 1
        assert value(ruled, nearby.BENIGN, name, nearby.ANCHORS) == pytest.approx(task.y[rule.turned].mean())
        assert value(ruled, lesson.ROWS, name, nearby.ANCHORS) == rule.anchor.rows
        model = task.models[name]
        for way in nearby.WAYS:
            changed = changes[name, way]
            if changed.row is not None:
                assert model.function(changed.row[None])[0] < 0.5
                assert value(frame, nearby.CHANGE, name, way) == pytest.approx(np.abs(changed.row - task.explained).sum())
        assert value(frame, nearby.AWAY, name, nearby.NEAREST) == pytest.approx(0, abs=1e-6)
        sizes = [value(frame, nearby.COLUMNS_CHANGED, name, way) for way in (nearby.GREEDY, nearby.NEAREST)]
        assert sizes[0] <= sizes[1]
    tables.anchors(rules, task)
    tables.counterfactuals(changes, frame, task)
    assert "lies at" in said[1][1]["caption"]
    flags = [line.split("|")[6].strip() for line in said[1][0].splitlines() if line.startswith(("| forest", "| MLP"))]
    expected = [None if one.row is None else nearby.inside(one.row, task.x) for one in changes.values()]
    assert flags == [{None: "–", True: "yes", False: "no"}[flag] for flag in expected]


# --- the page -----------------------------------------------------------------------------------------------------------------


def test_the_closing_table_and_the_results(task, measured, shown, said):
    right = lesson.held_out(task)
    rows = checked(lesson.results([right, *measured.frames, toys.rows_of(shown)]))
    tables.models(task, right)
    tables.closing(rows, shown)
    for tool, words in tables.QUESTIONS.items():
        assert f"| {tool} | {words[0]} |" in said[1][0]
    for tools in (("PDP", "ICE", "ALE"), nearby.WAYS, ("SHAP",)):
        tables.toys(shown, *tools)
    assert "−1.2" in said[-1][0]
    assert [one.name for one in lesson.models_of(task)] == ["breast_cancer_forest", "breast_cancer_MLP"]


def test_undefined_values_are_flagged():
    assert lesson.tidy("a", "b", float("nan"), "forest")["flag"] == "undefined"
    assert lesson.tidy("a", "b", 1.0, "toy")["dataset"] == "none"


def test_leading_columns_are_those_furthest_from_0_under_either_model():
    rows = [
        lesson.tidy(over_all.FALL, c, v, m)
        for m, vs in (("forest", (0, 3, 1, -5)), ("MLP", (0, 0, 4, 4)))
        for c, v in zip("abcd", vs, strict=True)
    ]
    rows += [lesson.tidy(over_all.FALL, "a", v, "forest", seed=k) for k, v in enumerate((9.0, -9.0))]
    rows.append(lesson.tidy(over_all.FALL, "twin", 99.0, over_all.TWINS))
    assert over_all.leading(pd.DataFrame(rows), 3) == ["d", "c", "b"]


def test_the_study_file():
    loaded = study.load("foundations_agnostic")
    loaded.check_notebook()
    assert {exercise.level for exercise in loaded.exercises} == {"predict", "change", "extend"}
    assert [loaded.resolve(name).profile for name in ("smoke", "book")] == ["smoke", "book"]


def test_lime_weight_of_a_step_in_closed_form_whatever_the_kernel():
    """E[f | own quartile] - E[f | another quartile] = 1 - 1/3; the weights are a product over columns and drop out."""
    (one,) = toys.lime_toys(n_samples=20000, seed=5)
    assert one.says == pytest.approx(2 / 3, abs=0.015)
    linear = partial(shares.lime_weights, n_samples=4000, seed=0)
    net = lesson.Asked(lambda rows: 0.5 + 0 * rows[:, 0])
    np.testing.assert_allclose(linear(net, np.zeros(2), np.random.default_rng(0).normal(size=(99, 2))), 0, atol=1e-9)


def test_toys_of_the_library_agree_with_those_of_the_lesson():
    x = torch.from_numpy(toys.square()[:9])
    np.testing.assert_allclose(models.product()(x)[:, 0].numpy(), toys.crossing(x.numpy()))
