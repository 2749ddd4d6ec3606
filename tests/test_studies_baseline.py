"""The experiments of `baseline_study` on toys: labels, oracles, slow twins."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from xai_lib import agreement, baselines, compute, contours, maps, toys
from xai_lib.compendium.results import COLUMNS, checked
from xai_lib.errors import ConfigError
from xai_lib.studies import baseline_choice as choice
from xai_lib.studies import baseline_counts as many
from xai_lib.studies import baseline_quality as quality
from xai_lib.studies.case import Case, explainer, measure, rows
from xai_lib.types import Samples


@pytest.fixture(scope="module")
def case() -> Case:
    generator = torch.Generator().manual_seed(3)
    inputs = torch.rand(4, 3, 16, 16, generator=generator)
    samples = Samples(
        inputs, torch.zeros(4, dtype=torch.int64), tuple("abcd"), ("p", "q", "r", "s"), "toy", "CC0", True,
        boxes=(np.array([[2, 2, 10, 12]], dtype=np.float32),) * 4,
    )  # fmt: skip
    model = toys.TinyNet()
    return Case(model, samples, compute.logits(model, inputs).argmax(1))


def of(frame: pd.DataFrame, metric: str, method: str) -> np.ndarray:
    return frame[(frame.metric == metric) & (frame.method == method)].value.to_numpy()


def test_rows_are_results_rows(case):
    frame = rows(case, "m", "q", torch.tensor([1.0, 2.0, 3.0, float("nan")]), method_parameters={"b": 1})
    assert set(frame.columns) == set(COLUMNS)
    assert frame["sample"].tolist() == list("abcd")
    assert frame.flag.tolist() == ["", "", "", "undefined"]
    assert len(checked(frame)) == 4
    assert rows(case, "m", "q", 3.0)["sample"].tolist() == [""]


def test_measure_asks_the_metric_and_records_its_parameters(case):
    a = explainer(case, "gradient")(case.model, case.inputs, case.targets)
    frame = measure(case, "gradient", "sparseness", a, reduce="sum_abs")
    size = maps.reduce(a, "sum_abs").flatten(1).sort(1).values.double()
    n = size.shape[1]
    gini = ((2 * torch.arange(1, n + 1) - n - 1) * size).sum(1) / (n * size.sum(1))
    np.testing.assert_allclose(frame.value, gini, atol=1e-5)
    assert frame.metric_parameters.iloc[0] == {"reduce": "sum_abs"}


def test_one_baseline_of_each_kind(case):
    kinds = ["black", "white", "uniform", "blur"]
    made = choice.single_maps(case, kinds=kinds, steps=3)
    assert list(made) == [*kinds, "uniform, second draw"]
    frame = checked(choice.single_table(case, kinds=kinds, steps=3, fraction=0.1, reduce="sum"))
    pairs = frame[(frame.metric == "rank_correlation") & frame.method.str.contains(" vs ")]
    assert len(pairs) == 6 * 4
    by_hand = pairs.groupby("sample").value.mean()
    np.testing.assert_allclose(of(frame, "rank_correlation", "different kinds"), by_hand.loc[list("abcd")])
    again = agreement.rank_correlation(maps.reduce(made["black"], "sum"), maps.reduce(made["white"], "sum"))
    np.testing.assert_allclose(of(frame, "rank_correlation", "black vs white"), again)
    assert not np.allclose(of(frame, "rank_correlation", choice.TWO_DRAWS), 1)
    assert (of(frame, "kept_accuracy", "whole image") == 1).all()
    with pytest.raises(ConfigError, match="black and uniform"):
        choice.single_maps(case, kinds=["white"], steps=2)


def test_regions_have_the_sizes_they_claim(case):
    a = explainer(case, "gradient")(case.model, case.inputs, case.targets)
    frame = choice.kept_regions(case, a, fraction=0.1, reduce="sum")
    area = {m: of(frame, "kept_area", m) for m in frame.method.unique()}
    for label in ("top pixels", "random pixels"):
        assert area[label] == pytest.approx([25 / 256] * 4)
    for label in ("random patch", "centre patch"):
        assert area[label] == pytest.approx(area["hull"])
    assert (area["polylines"] <= area["hull"]).all()
    assert (area["hull"] <= area["rectangle"]).all()


def test_blindness_of_a_black_baseline_in_closed_form(case):
    """f = sum x: attributions are x - x', so the share on the darkest tenth is known."""
    linear = Case(toys.linear([[1.0] * 768]), case.samples, torch.zeros(4, dtype=torch.int64))
    made = choice.single_maps(linear, kinds=["black", "max_distance", "uniform"], steps=1)
    frame = choice.blindness(linear, made)
    x = case.inputs.flatten(1).double()
    k = int(0.1 * 768)
    expected = x.sort(1).values[:, :k].sum(1) / x.sum(1)
    np.testing.assert_allclose(of(frame, "share_on_darkest", "black"), expected, rtol=1e-5)
    assert (of(frame, "share_on_darkest", "black") < of(frame, "share_on_darkest", "max_distance")).all()


def test_the_reference_has_not_been_seen(case):
    """Maps of the first S baselines are compared with the mean over baselines S + 1 to L."""
    nested = many.nested(case, "uniform", (1, 2, 5), steps=2)
    frame = many.approach(case, "uniform", nested, reduce="sum")
    single = [
        explainer(case, "integrated_gradients", steps=2, baseline=lambda x, b=b: baselines.draw("uniform", x, b))(
            case.model, case.inputs, case.targets
        )
        for b in range(2, 5)
    ]
    reference = maps.reduce(torch.stack(single).mean(0), "sum")
    expected = agreement.rank_correlation(maps.reduce(nested[2, "mean"], "sum"), reference)
    np.testing.assert_allclose(of(frame, "agreement_with_reference", "uniform x2 mean"), expected, atol=1e-3)
    assert "uniform x5 mean" not in set(frame.method)


def test_area_is_taken_out_of_confidence():
    """Where confidence is area plus a constant per image, nothing is left but the constant."""
    lines = [
        {"metric": metric, "method": f"uniform x{b} mean", "sample": s, "value": value, "metric_parameters": {}}
        for s, offset in (("a", 0.1), ("b", 0.4))
        for b, area in ((1, 0.2), (5, 0.3), (10, 0.5))
        for metric, value in ((many.PATCH, offset + 0.7 * area), ("contour_patch_area", area))
    ]
    left = many.adjust_for_area(pd.DataFrame(lines))
    np.testing.assert_allclose(left[left["sample"] == "a"].value, 0.1, atol=1e-12)
    np.testing.assert_allclose(left[left["sample"] == "b"].value, 0.4, atol=1e-12)


def test_patch_table_and_its_averages(case):
    frame = checked(many.conditions_table(case, "uniform", (1, 2, 4), steps=2, fraction=0.1, reduce="sum"))
    both = np.stack([of(frame, many.PATCH, f"uniform x{b} mean") for b in (2, 4)])
    np.testing.assert_allclose(of(frame, many.PATCH, "uniform mean of B>1"), both.mean(0))
    a = many.nested_maps(case, kind="uniform", counts=(1, 2, 4), steps=2)["4 median"]
    masks = contours.patch_masks(maps.reduce(a, "sum"), fraction=0.1)
    np.testing.assert_allclose(of(frame, "contour_patch_area", "uniform x4 median"), masks.flatten(1).double().mean(1))
    first = many.running_table(case, frame, "uniform", (1, 2, 4), "mean")
    assert first["baselines"].tolist() == [1, 2, 4]
    assert first["p(patch)"].tolist()[1] == of(frame, many.PATCH, "uniform x2 mean")[0]


def test_shared_explainers_equal_separate_ones_and_save_work(case, spy):
    watched = Case(spy(case.model), case.samples, case.targets)
    shared = quality.nested_explainers(watched, "uniform", (1, 3), steps=2)
    for count in (3, 1, 3):
        alone = explainer(case, "multi_baseline_integrated_gradients", n_baselines=count, steps=2)
        expected = alone(case.model, case.inputs, case.targets)
        torch.testing.assert_close(shared[count](watched.model, case.inputs, case.targets), expected, atol=1e-6, rtol=1e-4)
    assert sum(watched.model.calls) == 4 * 3 * 2


def test_shared_explainers_notice_another_model_and_another_draw(case):
    from xai_lib import randomness

    model = toys.TinyNet(seed=5)
    own = Case(model, case.samples, case.targets)
    shared = quality.nested_explainers(own, "uniform", (2,), steps=2)[2]
    before = shared(model, case.inputs, case.targets)
    model.head.weight.data *= 2
    torch.testing.assert_close(shared(model, case.inputs, case.targets), 2 * before, atol=1e-5, rtol=1e-4)
    with randomness.drawn_as(case.inputs[:1], ["another image"]):
        assert not torch.allclose(shared(model, case.inputs[:1], case.targets[:1]), 2 * before[:1])


def test_table3_has_eight_metrics_for_every_count(case):
    frame = checked(
        quality.table3(
            case,
            kind="uniform",
            counts=(1, 3),
            steps=2,
            n_samples=2,
            radius=0.05,
            stages=2,
            features_fraction=0.1,
            reduce="sum",
        )
    )
    assert set(frame.metric) == {*quality.BETTER, "avg_sensitivity_fresh"}
    assert (frame.groupby("metric").method.nunique() == 2).all()
    for label in ("uniform x1", "uniform x3 mean"):
        assert (of(frame, "max_sensitivity", label) >= of(frame, "avg_sensitivity", label)).all()
        assert (of(frame, "avg_sensitivity_fresh", label) > of(frame, "avg_sensitivity", label)).all()


def test_convergence_states_and_measures(case):
    frame = many.convergence_rows(case, kind="uniform", tolerance=0.6, max_baselines=20, steps=2)
    assert set(of(frame, "baselines_needed", "auto at 0.6") % 5) == {0}
    assert set(frame.metric) == {"baselines_needed", "stated_error", "measured_error"}
    assert len(checked(frame)) == 12


def test_interpolation_runs_from_baseline_to_image(case):
    line, probability, norm = many.interpolation(case, 1, (0.0, 0.5, 1.0), "black")
    assert not line[0].any()
    torch.testing.assert_close(line[2], case.inputs[1])
    torch.testing.assert_close(line[1], case.inputs[1] / 2)
    whole = compute.scores(case.model, case.inputs[1:2], case.targets[1:2], score="prob")
    assert probability[2] == pytest.approx(whole.item(), rel=1e-5)
    assert norm.shape == (3,)


PLANNED = [
    ("baseline_study", {"nested_maps"}),
    ("path_attribution", set()),
    ("roar", {"order_pixels", "train_net"}),  # behind stored trainings
]


@pytest.mark.parametrize(("name", "unread"), PLANNED)
def test_the_plan_and_the_notebook_ask_for_the_same(name, unread):
    """What the latest smoke run on this machine read is planned, and of the plan it read all but maps behind stored tables."""
    from xai_lib.compendium import planning, study, tasks

    loaded = study.load(name)
    finished = sorted((loaded.root / "runs" / loaded.name).glob("2*/run.json"))
    records = [json.loads(path.read_text()) for path in finished]
    mine = [r for r in records if r["profile"] == "smoke" and r.get("made_with") == tasks.made_with()]
    if not mine:
        pytest.skip("no smoke run of this very code here; `make book` makes one")
    works = planning.works_of(loaded, loaded.resolve("smoke"))
    planned = {task.key: work.task for stage in works for work in stage for task in work.tasks()}
    used = set(mine[-1]["shards"]["keys"])
    assert used <= set(planned)
    assert {planned[key] for key in set(planned) - used} <= unread
