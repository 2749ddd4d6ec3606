"""What `path_attribution` spends: rows counted at the model, memory, and the work that its experiments share."""

import gc
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from test_studies_path import CURVES, OWN, SEARCH, make, of
from torch import nn

from xai_lib import METHODS, agreement, compute, plotting, toys
from xai_lib.compendium.experiments import stored
from xai_lib.compendium.results import checked
from xai_lib.metrics.insertion import perturbation_curves
from xai_lib.studies import (
    costs,
    path_attribution,
    path_costs,
    path_curves,
    path_maps,
    path_mechanism,
    path_scores,
    path_tables,
)
from xai_lib.studies.case import Case, explainer, open_case, rows
from xai_lib.studies.costs import Allocations, counted
from xai_lib.studies.path_maps import CREDIBLE, IG

pytestmark = pytest.mark.slow

FOUR = 4 * 4  # bytes of four float32 values


@pytest.fixture(scope="module")
def case() -> Case:
    return make(toys.TinyNet())


def spent(case: Case, name: str, **own: object) -> tuple[int, int]:
    """Rows (forward alone, forward and backward) of a registered method."""
    with counted(case.model) as cost:
        explainer(case, name, **own)(case.model, case.inputs, case.targets)
    return cost.rows_forward, cost.rows_gradient


@pytest.mark.parametrize(
    ("name", "own", "per_image"),
    [
        ("gradient", {}, (0, 1)),
        ("integrated_gradients", {"steps": 7}, (0, 7)),
        ("smoothgrad", {"n_samples": 5}, (0, 5)),
        ("expected_gradients", {"steps": 3, "n_references": 2}, (0, 6)),
        ("blur_integrated_gradients", {"steps": 4}, (0, 4)),
        ("random_attribution", {}, (0, 0)),
        ("centre_gaussian", {}, (0, 0)),
    ],
)
@pytest.mark.parametrize("max_batch", [None, 3])
def test_rows_are_those_of_the_formula(case, name, own, per_image, max_batch):
    own |= {"max_batch": max_batch} if max_batch and name not in ("random_attribution", "centre_gaussian") else {}
    with counted(case.model) as cost:
        METHODS.bind(name, **own)(case.model, case.inputs, case.targets)
    assert (cost.rows_forward, cost.rows_gradient) == tuple(4 * k for k in per_image)
    assert not case.model._forward_hooks
    assert cost.seconds > 0 or per_image == (0, 0)


def test_rows_of_the_credible_method_follow_algorithm_1(case):
    forward, gradient = spent(case, "credible_path_attribution", n_baselines=2, steps=6, sigmas=(11.0, 34.0), **SEARCH)
    frame = path_mechanism.mechanism_rows(case, **OWN)
    assert gradient == of(frame, "gradient_passes", CREDIBLE).sum()  # derived there, counted here
    assert forward == 4 * 2 * 2  # of each image and baseline: its class and its logits


@pytest.mark.parametrize("label", path_maps.OURS)
def test_the_other_readings_ask_for_the_same_rows(case, label):
    own = {"n_baselines": 2, "steps": 6, "sigmas": (11.0, 34.0), **SEARCH}
    if path_maps.OURS[label].get("check") != "none":
        assert spent(case, "credible_path_attribution", **own, **path_maps.OURS[label]) == spent(
            case, "credible_path_attribution", **own
        )


def test_the_cost_table_has_every_method_of_table_1(case):
    frame = checked(path_costs.cost_rows(case.first(2), **OWN))
    left_out = {*path_maps.OURS, "gradient x |x - x'|"} - {CREDIBLE}
    expected = {*path_maps.panel_of("full", 6), *path_maps.OURS, *path_maps.CONTROLS} - left_out
    assert set(frame.method) == expected
    assert set(frame.metric) == set(costs.METRICS)
    assert of(frame, "rows_gradient", IG).tolist() == [6, 6]
    assert of(frame, "rows_gradient", "random map").tolist() == [0, 0]
    assert of(frame, "rows_forward", "AGI").tolist() == [1, 1]
    apart, ours = (of(frame, "rows_gradient", label) for label in ("|x - x'|", CREDIBLE))
    np.testing.assert_array_equal(ours - apart, [7, 7])  # the gradient at the image and six nodes


@pytest.mark.parametrize(("delay", "shares"), [(0.0, {False}), (1.0, {True})])
def test_seconds_are_less_what_the_counting_took(case, monkeypatch, delay, shares):
    assert 0 < costs.delay() < 0.01
    monkeypatch.setattr(costs, "delay", lambda: delay)
    frame = path_costs.cost_rows(case.first(1), **OWN)
    assert set(frame.seconds == 0) == shares
    assert (frame.seconds >= 0).all()


def test_cost_is_the_same_in_every_run_and_for_every_batch_size(case):
    gc.collect()
    first, second = (path_costs.cost_rows(one, **OWN) for one in (case.first(1), replace(case.first(1), max_batch=2)))
    pd.testing.assert_frame_equal(first.drop(columns="seconds"), second.drop(columns="seconds"))
    alone = path_costs.cost_rows(path_attribution.after(case, 3), **OWN)
    both = path_costs.cost_rows(path_attribution.after(case, 2), **OWN)
    np.testing.assert_array_equal(both[both["sample"] == "d"].value, alone.value)


def test_memory_is_that_of_the_tensors_alive_at_once():
    before = torch.zeros(1000)
    with Allocations() as memory:
        first = torch.ones(4)
        assert memory.now == FOUR
        second = first + first
        second += 1  # in place
        view = second.reshape(2, 2).T  # no memory of its own
        assert memory.now == 2 * FOUR
        del first
        assert memory.now == FOUR
        third = before.view(-1) * 1.0
        assert memory.now == FOUR + 4000
        del third
        fourth = torch.stack([second, second])
        assert memory.now == 3 * FOUR
    assert memory.peak == FOUR + 4000
    del view, second, fourth
    assert memory.now == 0


def test_memory_of_a_backward_pass_is_seen():
    class Three(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return (inputs.exp().exp().exp()).sum(1, keepdim=True)

    model, x = Three().eval(), torch.zeros(1, 1000)
    with torch.inference_mode(), Allocations() as forward:
        model(x)
    assert 8000 <= forward.peak < 8100  # a result and the next one
    with Allocations() as both:
        (gradient,) = torch.autograd.grad(model(x.requires_grad_(True)).sum(), x)
    assert 16_000 <= both.peak < 16_100  # three results are kept, and a gradient on its way back
    assert gradient.shape == x.shape


class Spy(nn.Module):
    """TinyNet that notes the rows it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.seen = toys.TinyNet(), 0
        self.eval()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.seen += len(inputs)
        return self.net(inputs)


@pytest.mark.parametrize("points", [5, "adaptive"])
@pytest.mark.parametrize("n", [1, 4, 20])
def test_curves_of_many_maps_are_those_of_each(points, n):
    case = make(toys.TinyNet(), n=1)
    inputs = torch.rand(n, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    targets = torch.arange(n) % 4
    samples = replace(case.samples, inputs=inputs, targets=targets, ids=tuple(map(str, range(n))))
    case = Case(case.model, samples, targets)
    maps = {k: torch.randn(inputs.shape, generator=torch.Generator().manual_seed(i)) for i, k in enumerate("abcde")}
    maps["zero"] = torch.zeros_like(inputs)
    own = {"points": points, "tolerance": 0.001}
    for reduce in ("sum", "abs_sum"):
        made = path_curves.curves_of(case, maps, path_scores.GAMES, reduce=reduce, **own)
        assert list(made) == list(maps)
        for label, a in maps.items():
            single = perturbation_curves(case.model, inputs, targets, a, path_scores.GAMES, reduce=reduce, **own)
            for curve, other in zip(made[label], single, strict=True):
                torch.testing.assert_close(curve.auc, other.auc, equal_nan=True, atol=1e-6, rtol=0)
                torch.testing.assert_close(curve.error, other.error, equal_nan=True, atol=1e-6, rtol=0)
                assert curve.points.tolist() == other.points.tolist()


def test_ends_of_curves_are_asked_once():
    case = make(Spy())
    case.model.seen = 0
    maps = {k: torch.randn(case.inputs.shape, generator=torch.Generator().manual_seed(i)) for i, k in enumerate("abcdef")}
    path_curves.curves_of(case, maps, path_scores.GAMES, points=5, tolerance=0.01)
    assert case.model.seen == 4 * (6 * 2 * 3 + 3)


def test_only_equal_rows_are_remembered():
    model, known = Spy(), torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    kept = path_curves.Remembering(model, known)
    other = known.clone()
    other[0, 0, 0, 0], other[0, 0, 0, 1] = known[0, 0, 0, 1], known[0, 0, 0, 0]  # the same sum of bits
    other[1] = torch.nextafter(known[1], torch.ones(()))
    asked = torch.cat([known, other, known[:1]]).contiguous(memory_format=torch.channels_last)
    model.seen = 0
    with torch.inference_mode():
        found = kept(asked)
    assert model.seen == 2
    torch.testing.assert_close(found, model.net(asked))
    assert kept.input_shape is None
    model.seen = 0
    gradient = compute.input_gradient(kept, known, torch.zeros(3, dtype=torch.int64))
    torch.testing.assert_close(gradient, compute.input_gradient(model.net, known, torch.zeros(3, dtype=torch.int64)))
    assert model.seen == 3


def test_algorithm_1_is_not_run_again_where_its_result_is_known(case):
    own = {"n_baselines": 2, "sigmas": [11.0, 34.0], **SEARCH}
    variants = {"A": {}, "random": {"check": "random"}}
    first = path_maps.credible(case, variants, steps=6, **own)
    with counted(case.model) as cost:
        again = path_maps.credible(case, variants, found=first["A"].found, steps=6, **own)
    for label in variants:
        assert torch.equal(first[label].attributions, again[label].attributions)
        assert again[label].found == first["A"].found
    assert cost.rows_gradient == 4 * (1 + 2 + 6)  # one look at each baseline
    alone = path_maps.credible(
        case, {"": {}}, found=first["A"].found[1:], steps=6, **{**own, "n_baselines": 1, "sigmas": [34.0]}
    )
    expected = path_maps.credible(case, {"": {}}, steps=6, **{**own, "n_baselines": 1, "sigmas": [34.0]})
    assert torch.equal(alone[""].attributions, expected[""].attributions)


def test_settings_are_those_of_the_method_but_search_less(case):
    base = {"n_baselines": 2, "steps": 6, "sigmas": [11.0, 34.0], **SEARCH}
    one = {"n_baselines": 1, "sigmas": [34.0]}
    changes = {
        "default": {}, "delta x 0.5": {"delta": 0.015}, "delta x 2.5": {"delta": 0.075}, "eta x 0.4": {"eta": 0.008},
        "epsilon x 2": {"epsilon": 0.1}, "sigma x 0.5": {"sigmas": [5.5, 17.0]}, "sigma x 2": {"sigmas": [22.0, 68.0]},
        "steps x 3": {"steps": 18}, "1 baseline": one,
    }  # fmt: skip
    with counted(case.model) as spent:
        frame = path_scores.setting_rows(case, **OWN, **CURVES)

    def explained(seed: int, **change: object) -> torch.Tensor:
        explain = explainer(replace(case, seed=seed), "credible_path_attribution", **{**base, **change})
        return explain(case.model, case.inputs, case.targets)

    with counted(case.model) as alone:
        made = {label: explained(0, **change) for label, change in changes.items()}
        again = {"2 baselines": explained(1), "1 baseline": explained(1, **one)}
    for label, a in made.items():
        first, second = perturbation_curves(case.model, case.inputs, case.targets, a, path_scores.GAMES, **CURVES)
        np.testing.assert_allclose(of(frame, path_scores.GAME, f"credible, {label}"), first.auc - second.auc, atol=1e-6)
    for label, a in again.items():
        agreed = agreement.rank_correlation(made["default" if label[0] == "2" else label].sum(1), a.sum(1))
        np.testing.assert_allclose(of(frame, "seed_agreement", f"credible, {label}"), agreed, atol=1e-6)
    steps = [path_maps.searched(case, "logit_l2", sigma, SEARCH).iterations.sum().item() for sigma in (11.0, 34.0)]
    assert min(steps) > 0
    assert spent.rows_gradient == alone.rows_gradient - 2 * sum(steps) - 2 * steps[1]


def test_kept_maps_are_read_from_the_store(tmp_path, monkeypatch):
    monkeypatch.setenv("XAI_STORE", str(tmp_path))
    case = open_case("mnist_cnn", {"mnist_5k": {"split": "test"}}, n=3, shard=2)
    own = {"panel": "full", "steps": 3, "sigmas": [5.0, 10.0, 20.0], "search": SEARCH}
    made = path_maps.panel_maps(case, **own)
    path_maps.kept(case, **own)
    with counted(case.model) as cost:
        again = path_maps.kept(case, **own)
        frames = [
            stored(case, path_mechanism.mechanism_rows, **{k: v for k, v in own.items() if k != "panel"}),
            path_scores.panel_rows(case, keep=True, **own, **CURVES),
        ]
    assert cost.rows_gradient == 0  # the task's own model did the rest
    assert list(again.maps) == list(made.maps)
    for label, a in made.maps.items():
        torch.testing.assert_close(again.maps[label], a, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(again.accepted, made.accepted, atol=1e-6, rtol=0)
    for one, other in zip(again.found, made.found, strict=True):
        assert one.iterations.tolist() == other.iterations.tolist()
        assert one.converged.dtype == torch.bool
        torch.testing.assert_close(one.distance, other.distance, atol=1e-4, rtol=1e-4)
    checked(pd.concat(frames))


@pytest.mark.parametrize(("steps", "classes", "most"), [(3, 1, 3), (8, 1, 8), (24, 3, 8), (150, 18, 8)])
def test_adversarial_paths_share_the_steps(steps, classes, most):
    for label in ("AGI", "AGI, official code"):
        own = path_maps.simple_methods(steps)[label][1]
        assert (own["n_classes"], own["max_iter"]) == (classes, most)


def test_the_few_and_the_rest_are_all_images(case):
    case = replace(case, targets=torch.arange(4))
    rest = path_attribution.after(case, 3)
    assert rest.samples.ids == ("d",)
    assert torch.equal(rest.inputs, case.inputs[3:])
    assert rest.targets.tolist() == case.targets[3:].tolist()
    assert path_attribution.after(case, 4) is None
    cases = path_attribution.Cases(case, case.first(3), rest, (), (), case, case)
    assert [(c.samples.ids, keep) for c, keep in path_attribution.halves(cases)] == [(("a", "b", "c"), True), (("d",), False)]
    whole = path_attribution.Cases(case, case, None, (), (), case, case)
    own = {**OWN, **CURVES}
    both, one = (path_attribution.table_one(c, **own) for c in (cases, whole))
    for metric in ("insertion", "confidence", path_scores.GAME):
        tables = [t[t.metric == metric].pivot(index="sample", columns="method", values="value") for t in (both, one)]
        pd.testing.assert_frame_equal(*tables, atol=1e-5, check_exact=False)
    assert both[both.metric == f"{path_scores.GAME}_abs"].groupby("method").size().loc[[IG, "AGI"]].tolist() == [4, 3]


def shown(monkeypatch, make_table, *arguments: object) -> tuple[pd.DataFrame, str]:
    caught = []
    monkeypatch.setattr(plotting, "table", lambda frame, *, caption, name: caught.append((frame, caption, name)))
    make_table(*arguments)
    ((frame, caption, _),) = caught
    return frame.set_index("method"), caption


def test_the_table_without_signs_says_what_changes(case, monkeypatch):
    signed = {IG: [0.1, 0.2, 0.3, 0.4], CREDIBLE: [0.3, 0.4, 0.5, 0.6], "AGI": [0.0, 0.0, 0.0, 0.0]}
    absolute = {IG: [0.2, 0.3, 0.4, 0.9], CREDIBLE: [0.1, 0.2, 0.3, 0.8], "AGI": [0.5, 0.5, 0.5, np.nan]}
    frame = pd.concat(
        [rows(case, k, path_scores.GAME, np.array(v)) for k, v in signed.items()]
        + [rows(case, k, f"{path_scores.GAME}_abs", np.array(v)) for k, v in absolute.items()]
    )
    table, caption = shown(monkeypatch, path_tables.without_sign, frame, [IG, CREDIBLE, "AGI"])
    assert table.signed.tolist() == pytest.approx([0.2, 0.4, 0])  # of the three images that have both
    assert table.absolute.tolist() == pytest.approx([0.3, 0.2, 0.5])
    assert table.change.tolist() == ["0.100 [0.100, 0.100]", "−0.200 [−0.200, −0.200]", "0.500 [0.500, 0.500]"]
    assert "n = 3 images" in caption
    assert f"−0.200 [−0.200, −0.200] ({CREDIBLE}) and 0.500 [0.500, 0.500] (AGI)" in caption
    assert "minus Integrated Gradients goes from 0.200 [0.200, 0.200] to −0.100 [−0.100, −0.100]" in caption
    assert "methods is −1.00 [−1.00, −1.00]" in caption


def test_the_cost_table_shows_means_and_seconds(case, monkeypatch):
    frame = pd.concat(
        [
            rows(case.first(2), label, metric, np.array(v) * k, seconds=k)
            for label, k in (("b", 2.0), ("a", 1.0))
            for metric, v in (("rows_forward", [0, 2]), ("rows_gradient", [3, 5]), ("peak_bytes", [1e6, 3e6]))
        ]
    )
    table, caption = shown(monkeypatch, path_tables.costs, frame)
    assert table.index.tolist() == ["b", "a"]
    assert table.loc["b"].tolist() == [2, 8, 1.0, 4]
    assert table.loc["a"].tolist() == [1, 4, 0.5, 2]
    assert "n = 2" in caption
    assert json.dumps(caption).count("\\n") == 0


def test_gradients_at_many_points_are_those_at_each(case):
    points = [0.3 * case.inputs, case.inputs, 1 - case.inputs]
    for point, made in zip(points, path_mechanism.gradients(case, points), strict=True):
        torch.testing.assert_close(made, compute.input_gradient(case.model, point, case.targets))
