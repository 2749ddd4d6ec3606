"""Lesson `foundations_evaluation`: what is measured on digits, how far evaluations agree, and what the page shows."""

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy import stats as scipy_stats

from xai_lib import METHODS, METRICS
from xai_lib.compendium import study
from xai_lib.compendium.results import checked
from xai_lib.studies import foundations_evaluation as lesson
from xai_lib.studies.case import rows

P = {"n_images": 5, "n_retrain": 100, "removed": 0.5, "fill": "black", "seed": 0}


@pytest.fixture(scope="module")
def made():
    return lesson.all_toys()


@pytest.fixture(scope="module")
def opened():
    digits = lesson.digits.open_digits(P)
    return digits, lesson.digits.training(P), lesson.digits.attributions(digits)


@pytest.fixture(scope="module")
def measured(opened):
    digits, other, maps = opened
    own = lesson.digits
    frames = [
        own.retraining_rows(digits, other, P),
        own.subset_rows(digits, maps, n_subsets=20),
        own.removal_rows(digits, maps),
    ]
    frames += [own.randomisation_rows(digits), own.place_rows(digits, maps), own.stability_rows(digits)]
    frames += [own.gap_rows(digits, maps), own.contrast_rows(digits, other, P)]
    return lesson.joined(frames)


def of(frame, metric, method):
    return frame[(frame.metric == metric) & (frame.method == method)].value.to_numpy()


@pytest.mark.slow
def test_results_of_the_run_are_a_results_table(measured, made):
    agreed = lesson.concordance_rows(measured, P)[1]
    table = checked(lesson.joined([lesson.toy_rows(made), measured, agreed]))
    assert of(table, "toy: region perturbation", "right map").tolist() == [2.25]
    assert of(table, "control: soundness", "wrong map").tolist() == pytest.approx([4.0])
    assert of(table, "toy: Keep And Retrain", "wrong map").tolist() == [0.5]
    assert set(table[table.metric == lesson.digits.AOPC + ", white"].method) == {*lesson.digits.PANEL, lesson.digits.WHITE}


@pytest.mark.slow
def test_what_the_page_says_of_controls_on_digits(measured):
    own = lesson.digits
    assert np.isclose(of(measured, own.ENERGY, "|x − x'|"), 1, atol=1e-2).all()
    for label in ("random", "centre"):
        assert (of(measured, own.STABLE, label) == 0).all(), label
    for label in own.CONTROLS:
        assert np.allclose(of(measured, own.CHECK, label), 1), label
        assert np.allclose(of(measured, own.CONTRAST, label), 0), label
    assert abs(of(measured, own.CHECK, "noise seeded by the weights")).max() < 0.2
    assert of(measured, own.GAP, "random + constant").max() < 1e-3 < of(measured, own.GAP, "random").min()
    white, black = (of(measured, f"{own.GAME}, white", label).mean() for label in (own.WHITE, "IG"))
    assert white > black
    assert of(measured, f"{own.GAME}, black", own.WHITE).mean() < of(measured, f"{own.GAME}, black", "IG").mean()


@pytest.mark.slow
def test_rows_are_the_registered_metrics(opened, measured):
    digits, _, maps = opened
    words = {"model": digits.model, "inputs": digits.inputs, "targets": digits.targets, "attributions": maps["IG"]}
    own = {"region": 4, "n_regions": 24, "fill": "black", "n_draws": 2}
    expected = METRICS.ask(METRICS.bind("region_perturbation", **own), words)
    assert of(measured, "region perturbation, black", "IG").tolist() == pytest.approx(expected.tolist())
    sizes = lesson.digits.SIZES
    expected = METRICS.ask(METRICS.bind("sensitivity_n", fractions=sizes, n_subsets=20), words)
    assert of(measured, "Sensitivity-n", "IG").tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    assert len(of(measured, "Sensitivity-n, 50 %", "IG")) == len(digits.samples)


def test_maps_of_the_true_class_and_of_the_predicted_one(opened):
    digits, other, _ = opened
    both = (other, digits)
    shifted = [(one.samples.targets + 1) % 10 for one in both]
    changed = [type(one)(one.model, one.samples, targets) for one, targets in zip(both, shifted, strict=True)]
    predicted, true = (lesson.digits.pair(changed, digits.model, "gradient", true=true)[1] for true in (False, True))
    gradient = METHODS.bind("gradient")
    assert torch.allclose(true, gradient(digits.model, digits.inputs, digits.samples.targets))
    assert torch.allclose(predicted, gradient(digits.model, digits.inputs, shifted[1]))
    assert not set(digits.samples.ids) & set(other.samples.ids), "no digit is trained on and asked"


def test_ramps_have_digits_on_them_and_sides_that_can_be_told():
    images = torch.zeros(40, 1, 28, 28)
    images[:, :, 10:18, 12:16] = 0.9
    pictures, scenes, sides, masks = lesson.digits.on_ramps(images, 0)
    assert torch.equal(masks, images[:, 0] > 0.1)
    assert torch.equal(pictures[masks[:, None]], images[masks[:, None]])
    assert torch.equal(pictures[~masks[:, None]], scenes[~masks[:, None]])
    halves = [scenes[:, 0, :, 14:], scenes[:, 0, :, :14], scenes[:, 0, 14:], scenes[:, 0, :14]]
    brightness = torch.stack([half.mean(dim=(1, 2)) for half in halves], dim=1)
    assert torch.equal(brightness.argmax(dim=1), sides)
    assert len(sides.unique()) == 4


def test_boxes_are_tight_around_the_ink():
    image = torch.zeros(1, 1, 28, 28)
    image[0, 0, 5:9, 7:20] = 1
    image[0, 0, 0, 0] = 0.05
    assert lesson.digits.ink_boxes(image)[0].tolist() == [[7, 5, 20, 9]]


def test_concordance_of_evaluations_with_a_known_order():
    one = np.array([[3.0, 2.0, 1.0], [3.2, 2.1, 0.9]])
    assert lesson.concordance_of({"a": one, "b": 10 * one}) == lesson.concordance_of({"a": one, "b": one})
    assert lesson.concordance_of({"a": one, "b": one}).value == pytest.approx(1.0)
    against = lesson.concordance_of({"a": one, "b": -one})
    assert (against.value, against.low, against.high, against.n) == (0.0, 0.0, 0.0, 2)


def test_concordance_is_the_mean_rank_correlation_of_pairs_and_its_interval_comes_from_the_same_images():
    generator = np.random.default_rng(0)
    common = generator.normal(size=(30, 5)) * 3
    scores = {f"judge {k}": np.arange(5.0) * 0.3 * k + common + generator.normal(size=(30, 5)) for k in range(4)}
    found = lesson.concordance_of(scores, resamples=200)
    orders = [each.mean(axis=0) for each in scores.values()]
    rho = np.mean([scipy_stats.spearmanr(a, b).statistic for a, b in combinations(orders, 2)])
    assert found.value == pytest.approx((1 + 3 * rho) / 4)
    assert found.low <= found.value <= found.high
    assert found.low < found.high
    same = lesson.concordance_of({"a": common, "b": common, "c": common})
    assert (same.low, same.high) == (1.0, 1.0), "evaluations draw the same images"


def test_resampling_lowers_a_perfect_concordance_of_close_means():
    """All six evaluations have one true order, W = 1; single images are noisy, and every draw swaps ranks."""
    generator = np.random.default_rng(0)
    scores = {f"judge {k}": 0.1 * np.arange(6.0) + generator.normal(size=(40, 6)) for k in range(6)}
    found, drawn = lesson.concordance_of(scores, resamples=100), lesson.resampled(scores, resamples=100)
    assert drawn.shape == (100,)
    assert drawn.mean() < found.value < 1
    assert [found.low, found.high] == pytest.approx(np.percentile(drawn, [2.5, 97.5]).tolist())
    random, stacked = np.random.default_rng(0), np.stack(list(scores.values()))  # a slow twin of the first draw
    rows_ = random.integers(40, size=40)
    orders = [scipy_stats.rankdata([sum(one[r, m] for r in rows_) for m in range(6)]) for one in stacked]
    sums = np.sum(orders, axis=0)
    assert drawn[0] == pytest.approx(12 * ((sums - sums.mean()) ** 2).sum() / (36 * (216 - 6)))


def test_the_basic_interval_covers_a_known_concordance_less_often_than_the_spread_does():
    """Why the page has the spread: W of the true means is known, and 2 W - q covers it less often than q."""
    generator = np.random.default_rng(0)
    spread = basic = 0
    for _ in range(40):
        true = 0.3 * generator.normal(size=(6, 6))
        known = lesson.concordance_of({str(k): one[None] for k, one in enumerate(true)}, resamples=1).value
        scores = {str(k): one + generator.normal(size=(60, 6)) for k, one in enumerate(true)}
        found = lesson.concordance_of(scores, resamples=60)
        spread += found.low <= known <= found.high
        basic += 2 * found.value - found.high <= known <= 2 * found.value - found.low
    assert basic < spread - 5
    told = " ".join(study.load("foundations_evaluation").limits)
    assert "spread over digits drawn anew, no confidence interval" in told


def test_comparisons_turn_every_evaluation_so_that_larger_is_better(opened):
    digits = opened[0]
    frames = []
    for metric, sign in lesson.judged("white").values():
        for place, label in enumerate(lesson.digits.PANEL):
            frames.append(rows(digits, label, metric, sign * (place + np.arange(5) / 100)))
    found = lesson.compared(lesson.joined(frames).sample(frac=1, random_state=0), "white")
    assert list(found) == list(lesson.judged("white"))
    order = np.argsort(np.array(digits.samples.ids))
    expected = np.arange(6.0) + order[:, None] / 100
    assert all(np.allclose(each, expected) for each in found.values())
    assert lesson.concordance_of(found).value == pytest.approx(1.0)


@pytest.fixture
def shown(monkeypatch):
    kept = {}
    monkeypatch.setattr(
        "xai_lib.plotting.output.display",
        lambda data, raw, metadata: kept.update({metadata["xai"]["name"]: (data, metadata["xai"])}),
    )
    return kept


def test_toys_are_shown_with_their_numbers(made, shown):
    for names in (["sky"], ["shifted", "copies"], ["randomised"]):
        lesson.figures.toys(made, names)
    assert set(shown) == {"evaluation-toy-sky", "evaluation-toy-shifted", "evaluation-toy-randomised"}
    alt = shown["evaluation-toy-sky"][1]["alt"]
    assert "right 2.25, wrong 3.00" in alt
    assert "0.375, 0" in alt


def test_every_toy_is_in_the_closing_table(made, shown):
    lesson.tables.closing(made)
    text = shown["evaluation-closing"][0]["text/markdown"]
    assert "11 toys with a known right map; in 11 of them" in text
    for toy in made.values():
        assert f"| {toy.evaluation} |" in text
    assert text.count("| wrong |") == 10
    assert set(lesson.tables.SHORT) == set(made)


@pytest.mark.slow
def test_tables_of_digits_have_a_row_for_each_map(measured, shown):
    own = measured[measured.metric.str.startswith("region perturbation")]
    lesson.tables.scores(own, "removal", lesson.digits.AOPC)
    lines = shown["evaluation-removal"][0]["text/markdown"].splitlines()
    assert "| map | black | white | uniform |" in lines
    assert len([line for line in lines if line.startswith("| ")]) == 2 + 7
    black = of(measured, "region perturbation, black", "IG").mean()
    assert any(line.startswith(f"| IG | {black:.3f} [") for line in lines)
    retrained = measured[measured.metric.isin([lesson.digits.ROAR, lesson.digits.PATTERN])]
    lesson.tables.scores(retrained, "retraining")
    assert "| nothing removed |" in shown["evaluation-retraining"][0]["text/markdown"]


@pytest.mark.slow
def test_ranks_are_shown_with_their_agreement(measured, shown):
    agreed = lesson.ranked(measured, P)
    caption, alt = (shown["evaluation-ranks"][1][key] for key in ("caption", "alt"))
    whole = of(agreed, lesson.AGREEMENT, "all six maps")[0]
    assert f"W = {whole:.2f}" in alt
    assert "Max-Sensitivity a tie" in alt
    assert "0.17 on average" in caption
    assert "in brackets its spread, the middle 95 % over digits drawn anew" in caption
    drawn = lesson.resampled(lesson.compared(measured, "black"))
    assert of(agreed, f"{lesson.AGREEMENT}, mean of resamples", "all six maps")[0] == pytest.approx(drawn.mean())
    assert lesson.figures.order_of([[3.0, 1.0, 2.0], [3.0, 3.0, 1.0]], [1, -1]).tolist() == [[1, 3, 2], [2.5, 2.5, 1]]


def test_the_study_is_a_lesson_whose_notebook_has_its_parameters():
    own = study.load("foundations_evaluation")
    own.check_notebook()
    assert own.document is None
    assert sorted(each.level for each in own.exercises) == ["change", "extend", "predict"]
    assert own.profile_values("book")["n_images"] > own.profile_values("smoke")["n_images"]
