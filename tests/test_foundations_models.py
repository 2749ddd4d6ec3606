"""The lesson on models that can be read: known answers, and that what its page says of models is so."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.tree import DecisionTreeClassifier

from xai_lib.compendium import study
from xai_lib.compendium.book_tokens import fill
from xai_lib.compendium.results import checked
from xai_lib.errors import ConfigError
from xai_lib.plotting import number, output, style
from xai_lib.studies import foundations_models as lesson
from xai_lib.studies import foundations_models_figures as figures
from xai_lib.studies import foundations_models_linear as linear
from xai_lib.studies import foundations_models_map_figures as map_figures
from xai_lib.studies import foundations_models_maps as maps
from xai_lib.studies import foundations_models_tables as tables
from xai_lib.studies import foundations_models_trees as trees

pytestmark = pytest.mark.slow

P = {
    "n_splits": 2, "n_bootstraps": 8, "penalty": 1.0, "weak_penalty": 0.001, "k": 5, "depth": 3, "n_trees": 16, "n_rows": 60,
    "n_maps": 2, "perplexities": [15.0, 4.0], "tsne_steps": 300, "seed": 0,
}  # fmt: skip
REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def splits():
    return lesson.splits(2, 0)


@pytest.fixture(scope="module")
def resampled(splits):
    return linear.resampled(splits[0], P)


@pytest.fixture(scope="module")
def shown():
    return [maps.pictures(name, P) for name in (maps.DIGITS, lesson.TABLE)]


@pytest.fixture(scope="module")
def rows(splits, resampled, shown):
    found = {
        "size": lesson.size_rows(splits[0]),
        "accuracy": lesson.accuracy_rows(splits, P),
        "weights": linear.coefficient_rows(resampled, splits[0]),
        "rulers": linear.ruler_rows(splits, P),
        "vectors": linear.vector_rows(splits),
        "questions": trees.question_rows(splits[0], P),
        "importance": trees.importance_rows(splits, P),
        "nets": trees.net_rows(splits, P),
        "pictures": lesson.joined([maps.picture_rows(one, P) for one in shown]),
        "disagreement": maps.disagreement_rows(shown[0], maps.two_models(shown[0], 0)),
    }
    return {**found, "all": checked(lesson.joined(list(found.values())))}


def toy(raw_train, y_train, raw_test, y_test):
    train, test = (np.asarray(x, dtype=float) for x in (raw_train, raw_test))
    values, n = np.vstack([train, test]), len(train)
    names = [f"column {j}" for j in range(values.shape[1])]
    ids = [f"row {i}" for i in range(len(values))]
    labels = np.array([*y_train, *y_test])
    return lesson.split_of(values, labels, np.arange(n), np.arange(n, len(values)), names, ids)


def mean(frame, metric, method, **where):
    return lesson.values_of(frame, metric, method, **where).mean()


# --- splits -------------------------------------------------------------------------------------------------------------------


def test_a_split_is_stratified_and_scaled_by_its_training_part_only(splits):
    for split in splits:
        assert sorted([*split.train, *split.test]) == list(range(569))
        assert len(split.test) == 143
        assert abs(split.y_test.mean() - split.y_train.mean()) < 0.005
        centre, spread = split.raw_train.mean(axis=0), split.raw_train.std(axis=0)
        assert split.x_train == pytest.approx((split.raw_train - centre) / spread)
        assert split.x_test == pytest.approx((split.raw_test - centre) / spread)
    assert not np.array_equal(splits[0].test, splits[1].test)
    assert np.array_equal(splits[0].test, lesson.splits(1, 0)[0].test)
    assert not np.array_equal(splits[0].test, lesson.splits(1, 1)[0].test)


def test_every_model_beats_the_largest_class_and_differences_are_paired(rows):
    frame = rows["accuracy"]
    least = lesson.values_of(frame, lesson.ACCURACY, "largest class")
    assert least == pytest.approx(90 / 143)
    for label in list(lesson.FAMILIES)[1:]:
        own = lesson.values_of(frame, lesson.ACCURACY, label)
        assert (own > least + 0.2).all(), label
        away = own - lesson.values_of(frame, lesson.ACCURACY, lesson.LINEAR)
        assert lesson.values_of(frame, lesson.DIFFERENCE, label) == pytest.approx(away)


def test_numbers_kept_by_hand():
    split = toy([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1], [[0.5]], [0])
    kept = {}
    for label in ("largest class", lesson.LINEAR, "k nearest neighbours", "linear SVM", "decision tree", "MLP"):
        fitted = lesson.FAMILIES[label].make({**P, "k": 1}, 0).fit(split.x_train, split.y_train)
        kept[label] = lesson.FAMILIES[label].kept(fitted, split)
    assert kept == {
        "largest class": 1, lesson.LINEAR: 2, "k nearest neighbours": 8, "linear SVM": 2, "decision tree": 4, "MLP": 49,
    }  # fmt: skip
    rbf = lesson.support_vectors("rbf").fit(split.x_train, split.y_train)
    assert lesson.FAMILIES["RBF SVM"].kept(rbf, split) == 2 * len(rbf.support_) + 1
    many = lesson.forest(3, 0).fit(split.x_train, split.y_train)
    by_hand = sum(3 * one.tree_.n_leaves - 2 for one in many.estimators_)
    assert lesson.FAMILIES["random forest"].kept(many, split) == by_hand


# --- coefficients -------------------------------------------------------------------------------------------------------------


def test_the_penalty_is_the_one_of_the_formula():
    generator = np.random.default_rng(0)
    x, t = generator.normal(size=(50, 3)), np.sign(generator.normal(size=50))
    for penalty in (0.1, 3.0):
        fitted = lesson.logistic(penalty).fit(x, (t > 0).astype(int))
        w, z = fitted.coef_[0], fitted.decision_function(x)
        assert penalty * w == pytest.approx((t / (1 + np.exp(t * z))) @ x, abs=1e-4)
    with pytest.raises(ConfigError, match="expected above 0"):
        lesson.logistic(0.0)


def test_twins_share_a_weight_evenly_and_only_the_sum_is_in_the_data():
    generator = np.random.default_rng(1)
    x = generator.normal(size=(80, 1))
    y = (x[:, 0] + generator.normal(size=80) > 0).astype(int)
    both = lesson.logistic(1.0).fit(np.hstack([x, x]), y).coef_[0]
    assert both[0] == pytest.approx(both[1])
    assert both.sum() == pytest.approx(lesson.logistic(0.5).fit(x, y).coef_[0, 0], abs=1e-5)


def test_what_the_training_rows_lose_by_each_share_of_a_pair():
    """Without anything to tell, log 2 a row; of exact copies no share is better; of a pair that differs, the contrast is."""
    y = np.tile([0, 1], 50)
    nothing = linear.pair_losses(np.zeros((100, 2)), y, P)
    assert list(nothing) == [*linear.PENALTIES, linear.EVEN]
    assert list(nothing.values()) == pytest.approx([100 * np.log(2)] * 3)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(100, 1)) + 0.5 * y[:, None]
    copies = linear.pair_losses(np.hstack([x, x]), y, P)
    assert copies[linear.EVEN] == pytest.approx(copies["weak penalty"], rel=1e-4)
    nearly = np.hstack([x, x + 0.05 * (generator.normal(size=(100, 1)) + 2 * y[:, None])])
    found = linear.pair_losses(nearly, y, P)
    assert found["weak penalty"] < 0.8 * found["usual penalty"] < 0.8 * found[linear.EVEN]
    fitted = lesson.logistic(P["penalty"]).fit(nearly, y)
    slow = sum(np.log(1 + np.exp(-(2 * t - 1) * z)) for t, z in zip(y, fitted.decision_function(nearly), strict=True))
    assert found["usual penalty"] == pytest.approx(slow)


def test_the_data_fix_the_contrast_of_the_pair_and_the_penalty_hides_it(rows, resampled):
    frame, (usual, weak) = rows["weights"], linear.PENALTIES
    for k, penalty in enumerate(linear.PENALTIES):
        own = resampled.pair[k]
        assert lesson.values_of(frame, linear.TOTAL, penalty) == pytest.approx(own[:, 0] + own[:, 1])
        assert lesson.values_of(frame, linear.CONTRAST, penalty) == pytest.approx(own[:, 0] - own[:, 1])
    contrast = lesson.values_of(frame, linear.CONTRAST, weak)
    assert contrast.min() > 3 * lesson.values_of(frame, linear.CONTRAST, usual).max()
    assert lesson.values_of(frame, linear.IN_PAIR, f"mean radius, {weak}").min() > 0
    assert mean(frame, linear.IN_PAIR, f"mean radius, {usual}") < 0
    lost = [mean(frame, linear.LOSS, label) for label in (weak, usual, linear.EVEN)]
    assert 0 < lost[0] < 0.9 * lost[1] < lost[1] < lost[2]


def test_both_signs_and_pairs_by_hand():
    weights = np.ones((40, 3))
    weights[0, 1] = weights[:2, 2] = -1
    assert linear.both_signs(weights).tolist() == [False, False, True]
    assert linear.both_signs(-weights).tolist() == [False, False, True]
    values = np.array([[1.0, 2.0, 4.0], [2.0, 4.0, 8.0], [1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [5.0, 6.0, 9.0]])
    assert linear.between_pairs(values) == pytest.approx([1, -1])


def test_fits_to_resamples_are_those_of_a_plain_loop(splits, resampled):
    split = splits[0]
    for b in (0, 5):
        at = np.random.default_rng(lesson.draw(0, "coefficients", b)).integers(426, size=426)
        fitted = lesson.logistic(0.001).fit(split.x_train[at], split.y_train[at])
        assert resampled.weights[1, b] == pytest.approx(fitted.coef_[0])
        assert resampled.scores[1, b] == pytest.approx(split.x_test @ fitted.coef_[0] + fitted.intercept_[0])
        both = split.x_train[at][:, [split.columns.index("mean radius"), split.columns.index("mean perimeter")]]
        assert resampled.pair[0, b] == pytest.approx(lesson.logistic(1.0).fit(both, split.y_train[at]).coef_[0])
    assert resampled.alone[0] == pytest.approx(lesson.logistic(1.0).fit(split.x_train[:, :1], split.y_train).coef_[0, 0])


def test_with_the_penalty_turned_down_coefficients_move_and_scores_do_not(rows, resampled):
    frame, (usual, weak) = rows["weights"], linear.PENALTIES
    assert mean(frame, linear.PAIRED, "training rows") > 0.99
    assert mean(frame, linear.CHANGING, weak) > mean(frame, linear.CHANGING, usual) + 4
    assert np.median(lesson.values_of(frame, linear.RELATIVE, weak)) > 2 * np.median(
        lesson.values_of(frame, linear.RELATIVE, usual)
    )
    for penalty in linear.PENALTIES:
        assert mean(frame, linear.SAME_SCORES, penalty) > 0.95 > mean(frame, linear.SAME_WEIGHTS, penalty)
    assert mean(frame, linear.SAME_WEIGHTS, usual) > mean(frame, linear.SAME_WEIGHTS, weak)
    assert mean(frame, linear.APART, weak) > 5 * mean(frame, linear.SUM, weak)
    pair = resampled.pair[1]
    assert mean(frame, linear.SUM, weak) == pytest.approx((pair[:, 0] + pair[:, 1]).std(ddof=1))
    assert mean(frame, linear.APART, weak) == pytest.approx((pair[:, 0] - pair[:, 1]).std(ddof=1))
    opposite = sum(np.sign(resampled.weights[0, :, j].mean()) != np.sign(resampled.alone[j]) for j in range(30))
    assert 0 < mean(frame, linear.OPPOSITE, usual) == opposite


# --- neighbours and support vectors -------------------------------------------------------------------------------------------


def test_neighbours_of_the_most_divided_row_by_hand():
    train = [[0.0], [1.0], [2.0], [10.0], [11.0], [12.0]]
    split = toy(train, [0, 0, 0, 1, 1, 1], [[0.5], [6.1], [11.5]], [0, 1, 1])
    assert linear.divided(split, 4) == 1
    found = linear.neighbour_table(split, 1, 2, ["column 0"])
    assert found["row"].tolist() == ["row 7", "row 3", "row 2"]
    assert found["class"].tolist() == ["benign", "benign", "malignant"]
    assert found["column 0"].tolist() == [6.1, 10.0, 2.0]
    assert found["distance"].tolist() == pytest.approx([0, 3.9 / np.std(train), 4.1 / np.std(train)])


def test_another_ruler_has_other_neighbours(splits, rows):
    found = linear.rulers(splits[0], 0)
    train, test = found["range 0 to 1"]
    assert (train.min(axis=0) == 0).all()
    assert train.max(axis=0) == pytest.approx(1)
    assert np.array_equal(found["with as many noise columns"][1][:, :30], splits[0].x_test)
    assert found["with as many noise columns"][0].shape == (426, 60)
    kept = {label: lesson.values_of(rows["rulers"], linear.KEPT, label) for label in found}
    near = [
        lesson.neighbours(5).fit(x, splits[0].y_train).kneighbors(z, return_distance=False) for x, z in list(found.values())[:2]
    ]
    slow = [sum(i in b for i in a) / 5 for a, b in zip(*near, strict=True)]
    assert kept["range 0 to 1"][0] == pytest.approx(np.mean(slow))
    assert (kept["standardised"] == 1).all()
    assert (kept["original units"] < 0.3).all()
    assert (kept["with as many noise columns"] < 0.5).all()
    assert test.shape == (143, 30)


def test_rulers_are_compared_split_by_split(splits, rows):
    frame, standard = rows["rulers"], "standardised"
    first = lesson.values_of(frame, linear.RULER_ACCURACY, standard)
    assert (lesson.values_of(frame, linear.SAME_ANSWER, standard) == 1).all()
    assert standard not in set(frame[frame.metric == linear.LESS].method)
    for label, (train, test) in list(linear.rulers(splits[1], 0).items())[1:]:
        away = lesson.values_of(frame, linear.RULER_ACCURACY, label) - first
        assert lesson.values_of(frame, linear.LESS, label) == pytest.approx(away)
        said = [
            lesson.neighbours(5).fit(a, splits[1].y_train).predict(b)
            for a, b in ((splits[1].x_train, splits[1].x_test), (train, test))
        ]
        assert lesson.values_of(frame, linear.SAME_ANSWER, label)[1] == pytest.approx((said[0] == said[1]).mean())


def test_the_margin_of_two_points_is_their_distance():
    fitted = lesson.support_vectors("linear").fit(np.array([[0.0, 0.0], [2.0, 0.0]]), [0, 1])
    assert fitted.coef_[0] == pytest.approx([1, 0], abs=1e-5)
    split = toy([[0.0, 0.0], [2.0, 1.0]], [0, 1], [[0.0, 0.0]], [0])
    frame = linear.vector_rows([split])
    assert mean(frame, linear.MARGIN, "linear SVM") == pytest.approx(2 * np.sqrt(2), abs=1e-4)  # standardised: (-1, -1), (1, 1)
    assert mean(frame, linear.VECTORS, "linear SVM") == 2


def test_a_score_is_the_sum_over_support_vectors_and_the_other_rows_can_go(splits, rows):
    split = splits[0]
    fitted = lesson.support_vectors("rbf").fit(split.x_train, split.y_train)
    parts = linear.terms(fitted, split.x_test)
    assert parts.sum(axis=1) + fitted.intercept_[0] == pytest.approx(fitted.decision_function(split.x_test))
    slow = []
    for row in np.abs(parts):
        taken, count = 0.0, 0
        for value in sorted(row, reverse=True):
            taken, count = taken + value, count + 1
            if taken >= row.sum() / 2:
                break
        slow.append(count)
    assert linear.needed(parts).tolist() == slow
    assert lesson.values_of(rows["vectors"], linear.HALF, "RBF SVM")[0] == pytest.approx(np.mean(slow))
    for label in ("linear SVM", "RBF SVM"):
        assert lesson.values_of(rows["vectors"], linear.REFIT, label).max() < 1e-3
    fewer = fitted.support_[10:]
    broken = lesson.support_vectors("rbf").fit(split.x_train[fewer], split.y_train[fewer])
    assert np.abs(broken.decision_function(split.x_test) - fitted.decision_function(split.x_test)).max() > 0.01


def test_support_vectors_are_on_the_edge_of_the_margin_or_beyond_it(splits):
    for values, holds in linear.signed_margins(splits[0]).values():
        assert values[holds].max() < 1 + 1e-3
        assert values[~holds].min() > 1 - 1e-3
        assert (values > 0).mean() > 0.97


# --- trees --------------------------------------------------------------------------------------------------------------------


def test_a_tree_of_two_questions_by_hand():
    x = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
    made = trees.nodes(DecisionTreeClassifier(random_state=0).fit(x, [0, 0, 0, 1, 1]), ["a", "b"])
    root, *_ = made
    assert root.question in ("a ≤ 0.5", "b ≤ 0.5")
    assert root.counts == (3, 2)
    below = made[root.no]
    assert {root.question, below.question} == {"a ≤ 0.5", "b ≤ 0.5"}
    leaves = [one for one in made if one.question is None]
    assert sorted(one.counts for one in leaves) == [(0, 2), (1, 0), (2, 0)]
    assert sorted(one.height for one in leaves) == [0, 1, 2]
    assert (below.height, root.height) == (1.5, 0.75)
    assert [made[root.yes].depth, below.depth, made[below.yes].depth] == [1, 1, 2]


def test_the_drawn_questions_give_the_answers_of_the_tree(splits):
    split = splits[0]
    fitted = trees.drawn_tree(split, P)
    made = trees.nodes(fitted, split.columns)
    answers = []
    for row in split.raw_test:
        at = made[0]
        while at.question is not None:
            name, threshold = at.question.split(" ≤ ")
            at = made[at.yes if row[split.columns.index(name)] <= float(threshold) else at.no]
        answers.append(int(np.argmax(at.counts)))
    assert (np.array(answers) == fitted.predict(split.raw_test)).mean() > 0.99  # thresholds are drawn with three digits
    assert made[0].counts == tuple(np.bincount(split.y_train))


def test_the_first_question_does_not_depend_on_the_depth_and_does_on_the_sample(splits, rows):
    split = splits[0]
    shallow = trees.question_rows(split, {**P, "depth": 1})
    frame = rows["questions"]
    same = [lesson.values_of(one, trees.SAME_FIRST, "decision tree") for one in (shallow, frame)]
    assert same[0].tolist() == same[1].tolist()
    assert 0 < same[1].mean() < 1
    first = frame[frame.metric == trees.FIRST].groupby("method", sort=False).value.mean()
    assert first.sum() == pytest.approx(1)
    assert first.is_monotonic_decreasing
    own = trees.questions(trees.drawn_tree(split, P))
    assert first[split.columns[own[0]]] == pytest.approx(same[1].mean())
    assert mean(frame, trees.SAME_CLASS, "decision tree") > mean(frame, trees.SAME_FIRST, "decision tree")
    assert mean(frame, trees.SAME_THREE, "decision tree") <= same[1].mean()
    alone = DecisionTreeClassifier().fit([[0.0], [1.0]], [1, 1])
    assert trees.questions(alone) == (-1, -1, -1)
    assert trees.questions(DecisionTreeClassifier().fit([[0.0], [1.0]], [0, 1])) == (0, -1, -1)


def test_noise_of_many_values_is_important_by_impurity_only(splits, rows):
    frame = rows["importance"]
    many, two = (lesson.values_of(frame, trees.IMPURITY, name) for name in (trees.MANY, trees.TWO))
    assert (many > 0).all()
    assert (many > 2 * two).all()
    for name in (trees.MANY, trees.TWO):
        assert abs(mean(frame, trees.PERMUTATION, name)) < 0.01
    lost = [lesson.values_of(frame, trees.SHUFFLED, name) for name in (trees.MANY, trees.REAL, trees.TWO)]
    assert lost[0] + 30 * lost[1] + lost[2] == pytest.approx(1)
    assert (np.minimum(lost[0], lost[1]) > 2 * lost[2]).all()
    names = [*splits[0].columns, trees.MANY, trees.TWO]
    total = sum(lesson.values_of(frame, trees.IMPURITY, name) for name in names)
    assert total == pytest.approx(1)
    below = sum(lesson.values_of(frame, trees.IMPURITY, name) < many for name in splits[0].columns)
    assert lesson.values_of(frame, trees.BELOW, trees.IMPURITY).tolist() == below.tolist()


def test_columns_are_shuffled_on_held_out_rows(splits, rows):
    from sklearn.inspection import permutation_importance

    train, test, names = trees.with_noise(splits[1], 0)
    fitted = lesson.forest(16, lesson.draw(0, "forest", 1)).fit(train, splits[1].y_train)
    state = lesson.draw(0, "shuffles", 1)
    found = permutation_importance(fitted, test, splits[1].y_test, n_repeats=trees.REPEATS, random_state=state).importances_mean
    assert np.abs(found).max() > 0
    assert [lesson.values_of(rows["importance"], trees.PERMUTATION, name)[1] for name in names] == pytest.approx(found.tolist())


def test_columns_of_noise_know_nothing_and_the_others_stay(splits):
    train, test, names = trees.with_noise(splits[0], 0)
    assert names[-2:] == (trees.MANY, trees.TWO)
    assert np.array_equal(train[:, :30], splits[0].x_train)
    assert np.array_equal(test[:, :30], splits[0].x_test)
    assert len(np.unique(train[:, 30])) == 426
    assert np.unique(train[:, 31]).tolist() == [-1, 1]
    assert np.abs(np.corrcoef(train[:, 30:].T, splits[0].y_train)[2, :2]).max() < 0.12


def test_the_accuracy_of_a_forest_without_its_threads(splits):
    split = splits[0]
    for n, state in ((2, 0), (7, 1), (20, 2)):
        fitted = lesson.forest(n, state).fit(split.x_train, split.y_train)
        assert trees.forest_accuracy(fitted, split.x_test, split.y_test) == fitted.score(split.x_test, split.y_test)


# --- weights of nets ----------------------------------------------------------------------------------------------------------


def test_other_weights_give_the_same_function(splits, rows):
    split = splits[0]
    own, others = trees.twins(split, 0)
    z = trees.logits(own, split.x_test)
    assert 1 / (1 + np.exp(-z)) == pytest.approx(own.predict_proba(split.x_test)[:, 1])
    for label in trees.TWINS[:2]:
        assert trees.logits(others[label], split.x_test) == pytest.approx(z, abs=1e-11)
        assert others[label].predict_proba(split.x_test) == pytest.approx(own.predict_proba(split.x_test))
        assert np.abs(others[label].coefs_[0] - own.coefs_[0]).max() > 0.1
        assert lesson.values_of(rows["nets"], trees.OUTPUT, label).max() < 1e-11
        assert (lesson.values_of(rows["nets"], trees.SAME_CLASS, label) == 1).all()
        assert mean(rows["nets"], trees.WEIGHTS, label) > 0.2
    assert mean(rows["nets"], trees.OUTPUT, trees.TWINS[2]) > 0.1
    assert mean(rows["nets"], trees.SAME_CLASS, trees.TWINS[2]) > 0.95


def test_a_net_of_two_units_by_hand():
    split = toy([[-1.0], [1.0]], [0, 1], [[0.0]], [0])
    own = lesson.net(0).fit(split.x_train, split.y_train)
    own.coefs_, own.intercepts_ = [np.array([[1.0, -2.0]]), np.array([[3.0], [5.0]])], [np.array([0.0, 1.0]), np.array([0.5])]
    x = np.array([[2.0], [-1.0]])
    assert trees.logits(own, x).tolist() == [6.5, 15.5]
    twin = trees.reordered(own, np.array([1, 0]))
    assert twin.coefs_[0].tolist() == [[-2.0, 1.0]]
    assert twin.coefs_[1].tolist() == [[5.0], [3.0]]
    larger = trees.rescaled(own, np.array([2.0, 0.5]))
    assert larger.coefs_[0].tolist() == [[2.0, -1.0]]
    assert larger.coefs_[1].tolist() == [[1.5], [10.0]]
    assert trees.logits(twin, x).tolist() == trees.logits(larger, x).tolist() == [6.5, 15.5]
    assert own.coefs_[0].tolist() == [[1.0, -2.0]]


# --- pictures -----------------------------------------------------------------------------------------------------------------


def test_a_turned_mirrored_and_stretched_picture_is_the_same_picture():
    points = np.random.default_rng(0).normal(size=(400, 2))
    turned = 3 * points @ np.array([[0.6, 0.8], [0.8, -0.6]]) + 5
    assert maps.disparity(points, turned) == pytest.approx(0, abs=1e-12)
    assert maps.shared(points, turned) == 1
    other = np.random.default_rng(1).normal(size=(400, 2))
    assert maps.disparity(points, other) > 0.9
    assert maps.shared(points, other) == pytest.approx(maps.NEAR / 399, abs=0.01)
    assert maps.nearest(np.array([[0.0], [1.0], [5.0]]), 1) == [{1}, {0}, {1}]


def test_pca_shows_the_directions_of_most_variance(shown):
    for own in shown:
        centred = own.inputs - own.inputs.mean(axis=0)
        values = np.linalg.svd(centred, compute_uv=False) ** 2
        assert own.variance == pytest.approx(values[:2].sum() / values.sum())
        assert own.pca.var(axis=0) * len(own.pca) == pytest.approx(values[:2])
    patients = shown[1].inputs
    assert patients.mean(axis=0) == pytest.approx(0, abs=1e-6)
    assert patients.std(axis=0) == pytest.approx(1)


def test_a_picture_changes_with_seed_and_perplexity_and_is_repeatable(shown, rows):
    own = shown[0]
    assert np.array_equal(own.tsne[15.0, 0], maps.tsne(own.inputs, 15.0, 300, lesson.draw(0, "tsne", maps.DIGITS, 0)))
    frame = rows["pictures"]
    where = {"dataset": maps.DIGITS}
    assert mean(frame, maps.DISPARITY, maps.SEEDS, **where) == pytest.approx(
        maps.disparity(own.tsne[15.0, 0], own.tsne[15.0, 1])
    )
    widths = [maps.shared(own.tsne[15.0, k], own.tsne[4.0, k]) for k in (0, 1)]
    assert lesson.values_of(frame, maps.SHARED, maps.PERPLEXITIES, **where) == pytest.approx(widths)
    for label in (maps.SEEDS, maps.PERPLEXITIES):
        assert mean(frame, maps.DISPARITY, label, **where) > 0.05
    kept = [mean(frame, maps.PRESERVED, label, **where) for label in (maps.CHANCE, "PCA", "t-SNE")]
    assert kept[0] == pytest.approx(10 / 59)
    assert kept[0] + 0.1 < min(kept[1:])
    with pytest.raises(ConfigError, match="fewer than the 60 rows"):
        maps.tsne(own.inputs, 60, 300, 0)


def test_answers_are_held_out_and_the_models_disagree(shown, rows):
    own = shown[0]
    shuffled = maps.Pictures(own.dataset, own.inputs, np.random.default_rng(0).permutation(own.labels), own.pca, 0.0, own.tsne)
    for answers in maps.two_models(shuffled, 0).values():
        assert (answers == shuffled.labels).mean() < 0.4
    frame = rows["disagreement"]
    right = [lesson.values_of(frame, maps.RIGHT, label) for label in maps.MODELS]
    assert right[0].mean() > right[1].mean() > 0.15
    differ = lesson.values_of(frame, maps.DISAGREE, "both")
    assert differ.mean() > 0.2
    assert (differ[right[0] != right[1]] == 1).all()


# --- the page -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def displayed(monkeypatch):
    found = {}

    def display(data, raw, metadata):
        found[metadata["xai"]["name"]] = metadata["xai"].get("alt") or data["text/markdown"]

    monkeypatch.setattr(output, "display", display)
    monkeypatch.setattr(style, "DPI", 30)
    return found


def test_figures_say_their_numbers(displayed, splits, resampled, rows, shown):
    split = splits[0]
    figures.accuracies(rows["accuracy"])
    figures.pair(resampled)
    figures.coefficients(resampled, split)
    figures.margins(split)
    figures.tree(trees.nodes(trees.drawn_tree(split, P), split.columns), split)
    figures.first_questions(rows["questions"])
    figures.importances(rows["importance"])
    figures.weights(split, 0)
    map_figures.inputs(shown, rows["pictures"])
    map_figures.two_models(shown[0], maps.two_models(shown[0], 0), rows["disagreement"])
    map_figures.choices(shown[0])
    assert "always the largest class 0.629; n = 2 splits." in displayed["accuracies"]
    changing = [int(mean(rows["weights"], linear.CHANGING, penalty)) for penalty in linear.PENALTIES]
    assert (
        f"{changing[0]} of 30 coefficients have both signs under the usual penalty, {changing[1]} under"
        in displayed["coefficients"]
    )
    apart = [number(mean(rows["weights"], linear.CONTRAST, penalty)) for penalty in linear.PENALTIES]
    assert f"Mean of the difference: {apart[0]} and {apart[1]}; 8 resamples." in displayed["pair"]
    vectors = int(lesson.values_of(rows["vectors"], linear.VECTORS, "RBF SVM")[0])
    assert f"RBF SVM: {vectors} support vectors" in displayed["margins"]
    wrong = 426 - round(426 * trees.drawn_tree(split, P).score(split.raw_train, split.y_train))
    assert f"{wrong} of 426 training patients in a leaf of the other class" in displayed["tree"]
    assert "another start, which gives" in displayed["weights"]
    assert "perplexity 15, seed 1: " in displayed["tsne-choices"]
    assert "disagree on" in displayed["two-models"]
    assert len(displayed) == 11


def test_one_seed_and_one_perplexity_still_make_a_page(displayed, shown):
    own = shown[0]
    alone = maps.Pictures(own.dataset, own.inputs, own.labels, own.pca, own.variance, {(15.0, 0): own.tsne[15.0, 0]})
    frame = maps.picture_rows(alone, {**P, "perplexities": [15.0], "n_maps": 1})
    tables.pictures(frame, [own.dataset])
    map_figures.choices(alone)
    assert "another seed" not in displayed["pictures"]
    assert "no other picture" in displayed["tsne-choices"]


def test_tables_hold_the_results(displayed, splits, rows):
    tables.coefficients(rows["weights"])
    tables.neighbours(splits[0], P)
    tables.rulers(rows["rulers"])
    tables.pictures(rows["pictures"], [maps.DIGITS, lesson.TABLE])
    tables.closing(rows["accuracy"])
    assert displayed["coefficients-agree"].count(" of 30 |") == 4
    assert displayed["neighbours"].count("breast_cancer-") == 6
    assert "| standardised | 1.00 [1.00, 1.00], n = 2 |" in displayed["rulers"]
    assert "| answers kept |" in displayed["rulers"]
    assert displayed["pictures"].count(", another ") == 4
    assert "| logistic regression | a weight for each column | 31 numbers |" in displayed["closing"]
    assert set(tables.WORDS) == set(lesson.FAMILIES)
    with pytest.raises(ConfigError, match="no values of 'accuracy' for 'perceptron'"):
        lesson.values_of(rows["accuracy"], lesson.ACCURACY, "perceptron")


def test_every_number_in_the_prose_comes_from_the_run(rows):
    own = study.load("foundations_models", place=REPOSITORY)
    own.check_notebook()
    cells = json.loads(own.notebook.read_text(encoding="utf-8"))["cells"]
    prose = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    filled = [fill(text, rows["all"], {"parameters": own.profile_values("smoke")}) for text in prose]
    assert not any("⟦" in text or "nan" in text.split() for text in filled)
    assert sum(text.count("⟦") for text in prose) > 30
    code = [
        line for cell in cells if cell["cell_type"] == "code" for line in "".join(cell["source"]).splitlines() if line.strip()
    ]
    assert len(code) <= 60
    assert max(map(len, code)) <= 128


def test_results_are_tidy(rows):
    frame = rows["all"]
    assert isinstance(frame, pd.DataFrame)
    assert set(frame.dataset) == {lesson.TABLE, maps.DIGITS}
    assert np.isfinite(frame.value).all()
    assert {"patients": 569, "columns": 30, "training patients": 426}.items() <= dict(
        rows["size"][["method", "value"]].itertuples(index=False)
    ).items()
