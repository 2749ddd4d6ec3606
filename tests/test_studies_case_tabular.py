"""The tables of the study `case_studies`: published listings, what leads, and stability, from known arrays and in small."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from xai_lib import tabular
from xai_lib.compendium.benchmark import gather
from xai_lib.compendium.results import checked
from xai_lib.compendium.tasks import TASKS
from xai_lib.methods.lime_tabular import lime_rules, parse_rule
from xai_lib.plotting import output
from xai_lib.studies import case_tabular, case_tabular_figures, case_tabular_tables, case_tabular_tasks
from xai_lib.studies.case_listings import listings
from xai_lib.studies.case_tabular import (
    AGAIN,
    AWAY,
    CLASSES,
    INSIDE,
    LEADS,
    LISTED,
    OTHERS,
    R2,
    SAME,
    SETTING,
    SETTING_SIGNS,
    SPREAD,
    WEIGHT,
)

P = {
    "tables": ["iris"], "table_seeds": 2, "table_epochs": 3, "table_background": 4, "lime_seeds": 3, "lime_samples": 60,
    "lime_rows": 2, "lime_setting_rows": 2, "lime_setting_seeds": 2, "lime_counts": [40],
}  # fmt: skip

pytestmark = pytest.mark.usefixtures("module_store")


@pytest.fixture(scope="module")
def listed():
    return case_tabular.listing_rows(P)


@pytest.fixture(scope="module")
def explained():
    return case_tabular.explanation_rows(P)


def value(frame, metric, method, sample):
    own = frame[(frame.metric == metric) & (frame.method == method) & (frame["sample"] == sample)].value
    assert len(own) == 1
    return own.item()


# --- the published listings ---------------------------------------------------------------------------------------------------


def test_the_listings_are_those_of_the_document():
    found = {one.heading: one for one in listings()}
    assert [len(one.terms) for one in found.values()] == [4, 4, 4, 10, 10, 10, 10, 10]
    setosa = {rule: round(weight, 3) for rule, weight in found["setosa"].terms.items()}
    assert setosa == {
        "sepal length (cm) <= -0.90": -0.298, "sepal width (cm) > 0.56": -0.202, "petal width (cm) <= -1.18": -0.074,
        "petal length (cm) <= -1.23": -0.074,
    }  # fmt: skip
    assert found["class_0"].terms["alcohol > 0.84"] == pytest.approx(-0.3134332679978472, abs=1e-6)
    assert found["benign"].terms["worst texture <= -0.75"] == pytest.approx(0.21842857185438763, abs=1e-6)
    for one in found.values():
        assert list(one.terms.values()) == sorted(one.terms.values(), key=abs, reverse=True)
        assert {parse_rule(rule)[0] for rule in one.terms} <= set(tabular.columns(one.table))


def test_rows_of_a_listing_are_the_surrogates_of_its_row(listed):
    fitted = tabular.as_done("iris")
    row = fitted.train.inputs[100:101]
    for label, words in ((1, CLASSES[0]), (2, CLASSES[1])):
        found = []
        for seed in range(3):
            own = {"background": fitted.train.inputs, "names": fitted.columns, "n_samples": 60, "seed": seed}
            (one,) = lime_rules(fitted.net, row, label, **own)
            found.append(dict(zip(one.rules, one.weights, strict=True)))
        (virginica,) = [one for one in listings() if one.heading == "virginica"]
        for rule, printed in virginica.terms.items():
            values = np.array([own[rule] for own in found])
            sample = f"virginica: {rule}"
            assert value(listed, WEIGHT, words, sample) == pytest.approx(values.mean())
            assert value(listed, SPREAD, words, sample) == pytest.approx(values.std(ddof=1))
            away = abs(printed - values.mean()) / values.std(ddof=1)
            assert value(listed, AWAY, words, sample) == pytest.approx(away)
            assert value(listed, INSIDE, words, sample) == (away < 3)
            assert value(listed, LISTED, words, sample) == 1
            assert value(listed, WEIGHT, "published", sample) == printed


def test_signs_of_other_fits_are_counted_term_by_term():
    (setosa,) = [one for one in listings() if one.heading == "setosa"]
    names = tabular.columns("iris")
    printed = np.array([setosa.terms[rule] for rule in setosa.terms])
    at = [names.index(parse_rule(rule)[0]) for rule in setosa.terms]
    weights = np.zeros((2, 2, 4))
    weights[:, :, at] = printed + np.array([0.01, -0.01])[:, None, None]
    refits = np.zeros((2, 2, 4))
    refits[0, 0, at], refits[1, 0, at], refits[:, 1] = printed, -printed, 1.0
    refits[1, 0, at[0]] = printed[0]
    frame = pd.concat(case_tabular._listed(setosa, weights, refits, 0, names))
    again = (
        frame[frame.metric == AGAIN]
        .pivot(index="sample", columns="seed", values="value")
        .reindex([f"setosa: {rule}" for rule in setosa.terms])
    )
    assert again.to_numpy().tolist() == [[1, 1], [1, 0], [1, 0], [1, 0]]
    assert (frame[frame.metric == AWAY].value < 1e-9).all()


def test_terms_that_a_seed_does_not_print_are_left_out_of_its_mean():
    (benign,) = [one for one in listings() if one.heading == "benign"]
    names = tabular.columns("breast_cancer")
    at = [names.index(parse_rule(rule)[0]) for rule in benign.terms]
    printed = np.array(list(benign.terms.values()))
    weights = np.full((4, 2, 30), np.nan)
    weights[:, :, at] = printed + np.array([-0.01, 0.01, 0.02, -0.02])[:, None, None]
    weights[1:, :, at[7]] = np.nan  # printed once: no deviation
    weights[:, :, at[8]] = np.nan  # never printed
    weights[2:, :, at[9]] = np.nan
    frame = pd.concat(case_tabular._listed(benign, weights, weights, 1, names))
    own = frame[frame.method == CLASSES[0]].pivot_table(index="sample", columns="metric", values="value", dropna=False)
    own = own.reindex([f"benign: {rule}" for rule in benign.terms])
    assert own[LISTED].tolist() == [1.0] * 7 + [0.25, 0.0, 0.5]
    assert own[WEIGHT].to_numpy()[[0, 7, 9]] == pytest.approx([printed[0], printed[7] - 0.01, printed[9]])
    assert own[SPREAD].to_numpy()[[0, 9]] == pytest.approx([np.std([-0.01, 0.01, 0.02, -0.02], ddof=1), 0.02 / np.sqrt(2)])
    inside = frame[(frame.metric == INSIDE) & (frame.method == CLASSES[0])].value.to_numpy()
    assert inside[[0, 8, 9]].tolist() == [1.0, 0.0, 1.0], "what no seed prints is not given again"
    assert np.isnan(inside[7])
    assert OTHERS not in set(frame.method), "the predicted class is class 1"


def test_where_the_predicted_class_is_not_class_1_has_rows_of_its_own():
    (setosa,) = [one for one in listings() if one.heading == "setosa"]
    weights = np.random.default_rng(0).normal(size=(3, 2, 4))
    frame = pd.concat(case_tabular._listed(setosa, weights, weights, 0, tabular.columns("iris")))
    inside = frame[frame.metric == INSIDE]
    assert inside[inside.method == OTHERS].value.tolist() == inside[inside.method == CLASSES[1]].value.tolist()
    assert len(inside[inside.method == OTHERS]) == 4


def test_the_listings_are_asked_for_ten_terms():
    """As the package chooses, fits again and prints them; all four columns of a smaller table."""
    case = {"table": "wine", "rows": [0], "n_samples": 60, "versions": {}}
    made = case_tabular_tasks.table_listings([[tabular.PUBLISHED_SEED, 0]], case=case)["weights"]
    assert np.isfinite(made).sum(axis=-1).tolist() == [[[10, 10]]]
    fitted = tabular.as_done("wine")
    own = {"background": fitted.train.inputs, "names": fitted.columns, "n_samples": 60, "n_features": 10, "seed": 0}
    (one,) = lime_rules(fitted.net, fitted.train.inputs[:1], 1, **own)
    assert made[0, 0, 0, list(one.columns)].tolist() == pytest.approx(list(one.weights))
    iris = case_tabular_tasks.table_listings([[tabular.PUBLISHED_SEED, 0]], case={**case, "table": "iris"})["weights"]
    assert np.isfinite(iris).all()


# --- what leads, what agrees --------------------------------------------------------------------------------------------------


def test_shares_agreement_and_signs_by_hand():
    values = np.array([[[1.0, -3.0, 0.0], [2.0, 1.0, 1.0]], [[0.0, 0.0, -1.0], [0.0, 0.0, 5.0]]])
    assert case_tabular.leading(values).tolist() == [[0.5, 0.5, 0], [0, 0, 1]]
    assert case_tabular.shares(values).tolist() == [[(0.75 + 1.5) / 2, (2.25 + 0.75) / 2, 0.375], [0, 0, 3]]
    same, ranked = case_tabular.agreeing(values[:1], np.array([[[1.0, 3.0, 0.0], [1.0, 2.0, -4.0]]]))
    assert same.tolist() == [0.5]
    first, second = 1.0, np.corrcoef([3, 1.5, 1.5], [1, 2, 3])[0, 1]
    assert ranked[0] == pytest.approx((first + second) / 2)
    draws = np.array([[[[1.0, -1.0], [2.0, 1.0], [1.0, -1.0]]]])
    assert case_tabular.constant_signs(draws).tolist() == [0.5]
    many = np.ones((1, 1, 2, 12)) * np.arange(12, 0, -1)
    many[0, 0, 1, 10:] *= -0.5  # the two smallest change their sign, and are not among the ten
    assert case_tabular.constant_signs(many).tolist() == [1.0]
    many[0, 0, 1, 0] *= -0.5
    assert case_tabular.constant_signs(many).tolist() == [0.9]


def test_rows_follow_from_what_is_stored(explained):
    found = gather(case_tabular.explanation_work(P, "iris")).arrays
    assert found["lime"].shape == (2, 2, 3, 2, 4)
    names = tabular.columns("iris")
    lead = np.abs(found["lime"][1, :, :, 1]).argmax(axis=-1)
    for j, name in enumerate(names):
        assert value(explained, LEADS, f"iris: {name} | LIME", "seed 1") == (lead == j).mean()
    assert value(explained, R2, "iris: LIME", "seed 0") == pytest.approx(found["r2"][0, :, :, 1].mean())
    first = np.abs(found["permutation"][0]).argmax()
    expected = (np.abs(found["lime"].mean(axis=2)[0, :, 1]).argmax(axis=-1) == first).mean()
    assert value(explained, SAME, "iris: LIME | permutation", "seed 0") == expected


def test_what_is_stored_belongs_to_the_seeds_net():
    found = gather(case_tabular.explanation_work(P, "iris")).arrays
    case = {"table": "iris", "epochs": 3}
    fitted, inputs = case_tabular_tasks.drawn_rows(case, 1, 2)
    assert inputs.shape == (2, 4)
    assert all((fitted.test.inputs == row).all(dim=1).any() for row in inputs)
    predicted = fitted.net(inputs).argmax(dim=1)
    assert found["predicted"][1].tolist() == predicted.tolist()
    own = {"background": fitted.train.inputs, "n_samples": 60, "seed": 2}
    for k, labels in enumerate((torch.ones_like(predicted), predicted)):
        for i, one in enumerate(lime_rules(fitted.net, inputs, labels, **own)):
            np.testing.assert_allclose(found["lime"][1, i, 2, k, list(one.columns)], one.weights)
            assert found["miss"][1, i, 2, k] == pytest.approx(abs(one.local - one.score))
    p = fitted.net(inputs).softmax(1).gather(1, predicted[:, None])[:, 0]
    totals = torch.from_numpy(found["shapley"][1]).sum(1)
    assert ((p - totals) > 0).all()  # what is left is the mean probability of the background
    assert ((p - totals) < 1).all()
    own = {"n_rows": 2, "n_repeats": 3, "n_background": 4}
    alone = TASKS["table_explanations"].function([1], case=case_tabular.explanation_work(P, "iris").case, **own)
    for name, values in found.items():
        np.testing.assert_array_equal(alone[name][0], values[1])


def test_settings_are_held_against_the_next_seed():
    frame = case_tabular.setting_rows(P)
    found = gather(case_tabular.setting_work(P, "iris")).arrays["lime"]
    assert list(case_tabular.settings(P)) == ["as it is", "half the width", "twice the width", "40 drawn rows"]
    assert found.shape == (2, 4, 2, 2, 4)
    for k, name in enumerate(case_tabular.settings(P)):
        own, next_seed = found[0, k], found[0, 0][:, [1, 0]]
        expected = (np.abs(own).argmax(-1) == np.abs(next_seed).argmax(-1)).mean()
        assert value(frame, SETTING, f"iris: {name}", "seed 0") == expected
    assert not np.array_equal(found[:, 0], found[:, 1])
    np.testing.assert_array_equal(found[:, 0], gather(case_tabular.explanation_work(P, "iris")).arrays["lime"][:, :, :2, 1])


def test_a_setting_is_never_held_against_its_own_draws(monkeypatch):
    """Two seeds that differ in leader and sign: each is compared with the other one as it is."""
    as_it_is, turned = [[2.0, 1.0, 0.1, 0.1], [1.0, -2.0, 0.1, 0.1]], [[1.0, -2.0, 0.1, 0.1], [2.0, 1.0, 0.1, 0.1]]
    lime = np.array([as_it_is, turned, as_it_is, turned])[None, :, None]
    made = SimpleNamespace(arrays={"lime": lime, "r2": np.arange(8.0).reshape(1, 4, 1, 2)})
    monkeypatch.setattr(case_tabular, "gather", lambda work: made)
    frame = case_tabular.setting_rows(P)
    assert frame[frame.metric == SETTING].value.tolist() == [0, 1, 0, 1]
    assert frame[frame.metric == SETTING_SIGNS].value.tolist() == [0.75, 1, 0.75, 1]
    assert frame[frame.metric == R2].value.tolist() == [0.5, 2.5, 4.5, 6.5]


def test_the_plan_is_what_the_rows_read(listed, explained):
    (stage,) = case_tabular.works(P)
    assert [work.task for work in stage] == ["table_listings"] * 2 + ["table_explanations", "table_settings"]
    assert stage[0].items == ([42, 0], [42, 1], [42, 2])
    assert stage[1].items == ([0, 0], [1, 0])
    assert set(stage[0].case["versions"]) == {"lime", "scikit-learn"}
    three = case_tabular.works({**P, "tables": list(tabular.TABLES)})[0]
    assert len(three) == 12
    assert len(checked(listed))
    assert len(checked(explained))
    assert [fitted.net.name for fitted in case_tabular.used(P)] == ["iris_mlp_as_done", "iris_mlp"]


def test_figures_and_tables(listed, explained, monkeypatch):
    shown = []
    monkeypatch.setattr(output, "display", lambda data, **own: shown.append((data, own["metadata"]["xai"])))
    case_tabular_figures.listing(listed)
    case_tabular_figures.leaders(explained)
    case_tabular_figures.stability(case_tabular.setting_rows(P))
    case_tabular_tables.listed(listed)
    case_tabular_tables.agreement(explained)
    case_tabular_tables.fit(explained)
    names = [words["name"] for _, words in shown]
    assert names == ["lime-listings", "table-leaders", "lime-stability", "lime-listed", "table-agreement", "lime-fit"]
    inside = int(listed[(listed.metric == INSIDE) & (listed.method == CLASSES[0])].value.sum())
    assert f"12 published weights; {inside} lie within 3" in shown[0][1]["alt"]
    text = shown[3][0]["text/markdown"]
    own = listed[(listed.metric == INSIDE) & (listed.method == CLASSES[1]) & listed["sample"].str.startswith("setosa: ")]
    assert f"{int(own.value.sum())} of 4" in next(line for line in text.splitlines() if line.startswith("| setosa"))
    assert "| LIME | Shapley values |" in shown[4][0]["text/markdown"]
