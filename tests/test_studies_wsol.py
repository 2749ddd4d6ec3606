"""The study `wsol`: known overlaps, thresholds chosen on other images, ratios, and its plan."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr

from xai_lib import METHODS, compute, maps, models, plotting, toys
from xai_lib.compendium import rules, study
from xai_lib.compendium.experiments import without_pictures
from xai_lib.compendium.results import checked
from xai_lib.studies import path_tables, wsol, wsol_checks, wsol_figures, wsol_rows, wsol_scores, wsol_tables
from xai_lib.studies.case import OTHER, Case, rows
from xai_lib.studies.path_scores import GAME
from xai_lib.studies.wsol_scores import BOX, GAIN, KS, MASS, MATCHED, PRECISION, SWEEP, TIGHT, iou_name
from xai_lib.types import Samples

SIDE = 12
BOX_OF = np.array([[2.0, 3.0, 8.0, 9.0]])


def made_case(n: int = 6) -> Case:
    model = toys.TinyNet()
    model.name = "net"
    inputs = torch.rand(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    boxes = tuple(BOX_OF + np.array([0, 0, k % 3, 0]) for k in range(n))
    ids = tuple("abcdefghij"[:n])
    targets = torch.zeros(n, dtype=torch.int64)
    samples = Samples(inputs, targets, ids, ("p", "q", "r", "s"), "toy", "CC0", True, boxes=boxes)
    return Case(model, samples, compute.logits(model, inputs).argmax(1))


@pytest.fixture(scope="module")
def case() -> Case:
    return made_case()


@pytest.fixture(scope="module")
def panel() -> dict:
    spec = ("random_attribution", {})
    return {
        **wsol.CONTROLS,
        "gradient": ("gradient", {}),
        **dict.fromkeys(MATCHED, spec),
        "IG": ("integrated_gradients", {"steps": 2}),
        "CAM": ("centre_gaussian", {}),
        "Grad-CAM": ("edge_detector", {}),
    }


@pytest.fixture(scope="module")
def scores(case, panel) -> dict:
    return wsol_scores.localisation_scores(case, methods=panel, keep=False, thresholds=10)


def of(frame: pd.DataFrame, metric: str, method: str) -> np.ndarray:
    return frame[(frame.metric == metric) & (frame.method == method)].value.to_numpy()


def painted(case: Case) -> torch.Tensor:
    """Ones on the object's box, and a lone pixel of a half elsewhere."""
    one = torch.zeros(len(case.samples), 1, SIDE, SIDE)
    for k, own in enumerate(case.samples.boxes):
        x0, y0, x1, y1 = (int(v) for v in own[0])
        one[k, 0, y0:y1, x0:x1] = 1
        one[k, 0, SIDE - 1, SIDE - 1] = 0.5
    return one


def test_a_map_of_the_box_itself_has_every_score_at_its_best(case):
    found = wsol_scores.localised(case, "CAM", painted(case), 10)
    boxes = [own[0] for own in case.samples.boxes]
    area = np.array([(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes])
    to_corner = np.array([(SIDE - x0) * (SIDE - y0) for x0, y0, _, _ in boxes])
    assert found[BOX].tolist() == [1] * 6
    assert found["localised"].tolist() == [1] * 6
    assert found["points at it"].tolist() == [1] * 6
    assert found[TIGHT].numpy() == pytest.approx(area / to_corner)
    assert found[GAIN].numpy() == pytest.approx(area / to_corner - 1)
    assert found[MASS].numpy() == pytest.approx(area / (area + 0.5) - area / SIDE**2)
    assert found[PRECISION].numpy() == pytest.approx(np.ones(6))
    assert found[iou_name(0.5)].numpy() == pytest.approx(area / (area + 1))
    assert found[iou_name(1, True)].numpy() == pytest.approx(area / (area + 1))
    assert found[SWEEP].shape == (6, 10)
    assert found[SWEEP].min() > 0.3


def test_signs_are_read_where_they_speak(case):
    """Negative evidence outside the box: the sign leaves it out, the absolute value takes it for the object."""
    one = painted(case) - 10 * torch.nn.functional.pad(torch.ones(6, 1, 2, 2), (0, SIDE - 2, 0, SIDE - 2))
    assert wsol_scores.localised(case, "CAM", one, 4)[BOX].tolist() == [1] * 6
    assert max(wsol_scores.localised(case, "IG", one, 4)[BOX].tolist()) < 0.5


def test_stored_maps_are_channel_sums(case, panel):
    made = wsol_scores.localisation_maps(case, methods={"IG": panel["IG"]})["IG"]
    whole = METHODS.bind("integrated_gradients", steps=2, seed=case.seed)(case.model, case.inputs, case.targets)
    torch.testing.assert_close(made, maps.reduce(whole)[:, None])
    torch.testing.assert_close(maps.reduce(wsol_scores.spread(case, made))[:, None], made)


def test_the_random_control_marks_as_many_pixels_as_the_map(case, scores):
    one = wsol_scores.made_maps(case, {"IG": ("integrated_gradients", {"steps": 2})})["IG"]
    a = one.abs().flatten(1).double()
    kept = (a >= 0.5 * a.std(dim=1, correction=0, keepdim=True)).sum(1)
    assert (wsol_scores.as_dense(case, one) > 0).flatten(1).sum(1).tolist() == kept.tolist()
    for label in MATCHED:
        assert len(scores[f"random, as dense as {label} | {iou_name(0.5)}"]) == 6


def test_scores_know_confidence_and_area(case, scores):
    likely = torch.softmax(compute.logits(case.model, case.inputs), 1).amax(1)
    torch.testing.assert_close(scores["image | confidence"], likely)
    assert scores["image | area"].tolist() == pytest.approx([(6 + k % 3) * 6 / SIDE**2 for k in range(6)])


def test_thresholds_are_chosen_on_the_other_half():
    """Even images are found at threshold 0 alone, odd ones at threshold 1 alone: each half asks for the wrong one."""
    even, odd = [0.9, 0.1], [0.1, 0.9]
    overlaps = np.array([even, odd, even, odd])
    assert wsol_rows.other_half(overlaps, (0.5,)).tolist() == [0, 0, 0, 0]
    same = np.array([even, even, odd, even])
    assert wsol_rows.other_half(same, (0.5,)).tolist() == [1, 1, 0, 1]
    assert wsol_rows.other_half(same, (0.5, 0.95)).tolist() == [0.5, 0.5, 0, 0.5]
    undefined = np.array([[np.nan, np.nan], even, even, even])
    assert np.isnan(wsol_rows.other_half(undefined, (0.5,))).tolist() == [True, False, False, False]


def test_each_overlap_has_thresholds_of_its_own():
    """Threshold 0 is best for 0.3, threshold 1 for 0.7."""
    overlaps = np.array([[0.4, 0.0], [0.4, 0.0], [0.4, 0.8], [0.4, 0.8]])
    assert wsol_rows.other_half(overlaps, (0.3, 0.7)).tolist() == [0.5, 0.5, 1.0, 1.0]


def test_rows_hold_every_number_once(case, scores):
    frame = checked(wsol_rows.score_rows(case, scores))
    assert of(frame, BOX, "centre box").tolist() == pytest.approx(scores[f"centre box | {BOX}"].tolist())
    assert not frame.metric.str.contains("by threshold").any()
    assert not frame.duplicated(["method", "metric", "sample"]).any()
    few = {name: values[:2] if name.startswith("IG |") else values for name, values in scores.items()}
    assert wsol_rows.score_rows(case, few).query("method == 'IG'")["sample"].unique().tolist() == ["a", "b"]


def test_correlations_over_images(case, scores):
    frame = wsol_rows.confidence_rows(case, scores)
    expected = spearmanr(scores[f"IG | {iou_name(0.5)}"], scores["image | confidence"]).statistic
    assert of(frame, wsol_rows.WITH, "IG").mean() == pytest.approx(expected)
    expected = spearmanr(scores[f"IG | {BOX}"], scores["image | area"]).statistic
    assert of(frame, f"{wsol_rows.WITH_AREA}, box IoU", "IG").mean() == pytest.approx(expected)
    games = rows(case, "IG", GAME, [0.1, 0.5, 0.2, 0.9, 0.3, 0.4])
    found = of(wsol_rows.game_rows(case, scores, games), "goes with insertion minus deletion", "IG")
    assert found.mean() == pytest.approx(spearmanr(scores[f"IG | {BOX}"], games.value).statistic)


def test_the_order_of_the_four_methods(case):
    made = {
        f"{m} | {iou_name(k, w)}": torch.full((6,), float(i if k < 1 else -i))
        for i, m in enumerate(MATCHED)
        for k in KS
        for w in (False, True)
    }
    frame = wsol_rows.order_rows(case, made)
    assert of(frame, wsol_rows.ORDER, "k = 0.25 | k = 0.5") == pytest.approx(np.ones(6))
    assert of(frame, wsol_rows.ORDER, "k = 0.5 | k = 1") == pytest.approx(-np.ones(6))
    assert of(frame, f"{wsol_rows.ORDER}, weighted", "k = 1 | k = 2") == pytest.approx(np.ones(6))


def test_crops_are_cut_at_the_share_that_is_best_for_the_others(case):
    name = wsol_checks.SALIENCY
    low = rows(case, "CAM", f"{name} at 0.1", [1.0, 5, 1, 5, 1, 5])
    high = rows(case, "CAM", f"{name} at 0.5", [2.0, 3, 2, 3, 2, 3])
    fixed = rows(case, "whole image", name, [0.0] * 6)
    frame = wsol_rows.crop_rows(pd.concat([fixed, low, high]), ["CAM"])
    assert of(frame, name, "CAM").tolist() == [2, 5, 2, 5, 2, 5]  # even images take 0.5 from the odd ones, odd ones 0.1
    assert of(frame, name, "whole image").tolist() == [0] * 6


def test_crop_scores_of_boxes_agree_with_their_metric(case, panel):
    frame = wsol_checks.crop_scores(case, methods=panel, labels=["CAM"], shares=[0.2, 0.5])
    whole = -torch.log_softmax(compute.logits(case.model, case.inputs), 1).gather(1, case.targets[:, None])[:, 0]
    assert of(frame, wsol_checks.SALIENCY, "whole image") == pytest.approx(whole.numpy(), abs=1e-5)
    assert set(frame.metric) == {wsol_checks.SALIENCY, f"{wsol_checks.SALIENCY} at 0.2", f"{wsol_checks.SALIENCY} at 0.5"}
    two = np.array([[0, 0, 2, 2], [1, 1, 5, 4], [0, 0, 3, 3.0]])
    assert wsol_checks.largest(two, (9, 9)).tolist() == [1, 1, 5, 4]
    assert wsol_checks.largest(np.empty((0, 4)), (9, 8)).tolist() == [0, 0, 8, 9]


def test_superpixels_count_once():
    labels = torch.tensor([[[0, 0, 1], [0, 2, 2]]])
    one = torch.tensor([[[[6.0, 6, -2], [6, 4, 4]]]])
    assert wsol_checks.counted_once(one, labels).sum().item() == pytest.approx(6 - 2 + 4)
    assert wsol_checks.top_values(one[0, 0], 2) == {0, 4}


def test_completeness_is_measured_against_each_methods_own_baseline(case):
    methods = {
        "IG": ("integrated_gradients", {"baseline": "black", "steps": 64}),
        "DeepLIFT": ("deeplift", {"baseline": "black"}),
        "GradientSHAP": ("gradient_shap", {"n_samples": 400}),
        "KernelSHAP": (
            "kernel_shap",
            {"segments": {"grid": {"rows": 2, "columns": 2}}, "baseline": "average", "n_samples": 14},
        ),
    }
    frame = wsol_checks.additivity_rows(case, methods=methods)
    worst = frame.groupby("method").value.max()
    assert worst["IG"] < 1e-3
    assert worst["DeepLIFT"] < 1e-4
    assert worst["KernelSHAP"] < 1e-4
    assert frame.groupby("method").value.median()["GradientSHAP"] < 0.2


def test_total_variation_of_stripes():
    """Columns of 1 and 3: neighbours across differ by 2, down by 0; the mean is 2."""
    stripes = torch.tensor([1.0, 3.0]).repeat(14).expand(1, 1, 28, 28)
    assert wsol_checks.total_variation(stripes).item() == pytest.approx((2 + 0) / 2 / 2)
    assert wsol_checks.total_variation(-5 * stripes).item() == pytest.approx(0.5)
    coarse = torch.kron(stripes, torch.ones(8, 8))
    assert wsol_checks.total_variation(coarse).item() == pytest.approx(0.5)


@pytest.mark.parametrize("side", [28, 32, 112, 224])
def test_total_variation_of_white_noise_is_the_same_at_any_resolution(side):
    noise = torch.randn(60, 1, side, side, generator=torch.Generator().manual_seed(side))
    assert wsol_checks.total_variation(noise).mean().item() == pytest.approx(wsol_checks.WHITE_NOISE, abs=0.01)


def test_controls_of_the_slow_methods_images_are_in_the_figure(case, scores, monkeypatch):
    shown = {}
    monkeypatch.setattr(
        wsol_figures, "forest", lambda frame, metric, methods, **own: shown.update(frame=frame, methods=methods, **own)
    )
    frame = wsol_rows.score_rows(case, scores)
    wsol_figures.box_forest(frame, ["CAM", "random"], case.first(4))
    assert shown["methods"] == ["CAM", "random", "centre box, those 4 images", "random, those 4 images"]
    assert of(shown["frame"], BOX, "random, those 4 images").tolist() == of(frame, BOX, "random")[:4].tolist()
    assert "4 images" in shown["caption"]
    wsol_figures.box_forest(frame, ["CAM", "random"], case)
    assert shown["methods"] == ["CAM", "random"]


def test_spread_over_seeds_beside_that_over_images(case):
    values = np.array([[0.1, 0.3], [0.5, 0.7], [0.2, 0.2]])
    few = case.first(3)
    frame = pd.concat([rows(replace(few, seed=s), "LIME", wsol_checks.OF_SEED, values[:, s]) for s in (0, 1)])
    found = checked(wsol_rows.spread_rows(frame))
    expected = values.std(axis=1, ddof=1) / values.mean(axis=1).std(ddof=1)
    assert found.value.to_numpy() == pytest.approx(expected)
    assert found.metric.unique().tolist() == [wsol_checks.REPEATS]


def test_repeats_of_lime_have_a_seed_each(case):
    spec = ["lime_image", {"segments": {"grid": {"rows": 3, "columns": 3}}, "n_samples": 12}]
    frame = wsol_checks.repeat_rows(case.first(2), lime=spec, n_repeats=3)
    assert sorted(frame[frame.metric == wsol_checks.OF_SEED].seed.unique()) == [0, 1, 2]
    agree = of(frame, f"{wsol_checks.MAPS_AGREE} of two seeds", "LIME")
    assert ((agree < 1) & (agree > -1)).all()


def test_overlaps_and_agreement(case, panel):
    frame = wsol_checks.alike_rows(case, methods={**panel, **dict.fromkeys(wsol_checks.SIMILAR, panel["IG"])})
    same = of(frame, wsol_checks.OVERLAP, "gradient | occlusion")
    assert same == pytest.approx(np.ones(6))
    assert len(of(frame, wsol_checks.MAPS_AGREE, "DeepLIFT | IG")) == 6
    assert frame[frame.metric == wsol_checks.NOISE].method.unique().tolist() == ["gradient, net"]


def test_ratios(case):
    passes = [rows(case, m, metric, [float(v)] * 6) for m, v in {"DeepLIFT": 2, "LIME": 40} .items() for metric in
              ("rows_forward", "rows_gradient")]  # fmt: skip
    found = wsol_rows.cost_ratios(pd.concat(passes))
    assert of(found, wsol_rows.RATIO, "LIME").tolist() == [20] * 6
    noise = wsol_checks.NOISE
    small = rows(replace(case, prefix="small: "), "gradient, net", noise, [1.0, 3] * 3)
    large = rows(case, "gradient, other", noise, [4.0] * 6)
    assert of(wsol_rows.noise_rows(large, small, "net"), wsol_rows.NOISIER, "gradient, large net").tolist() == [2] * 6
    key = f"DeepLIFT | {iou_name(KS[1])}"
    deep = wsol_rows.deeper_rows(case, {key: torch.tensor([0.2, 0.4])}, {key: torch.full((6,), 0.15)})
    assert deep.value.to_numpy() == pytest.approx(np.full(6, 0.5))


def test_every_claim_reads_rows_that_the_study_makes():
    """Metrics and methods of the rules are spelled as the rows are."""
    loaded = study.load("wsol")
    p = {k: v.default for k, v in loaded.parameters.items()}
    labels = {*wsol.fast_panel(p), *wsol.slow_panel(p), *wsol.CONTROLS}
    assert set(wsol.DEEP) | set(wsol.CROPPED) <= labels
    assert set(wsol_scores.SIGNED) | set(MATCHED) | set(wsol_checks.SIMILAR) | set(wsol_checks.COMPLETE_BY) <= labels
    assert set(wsol_figures.SHOWN) <= labels
    known = {BOX, iou_name(0.5), iou_name(1, True), GAIN, GAME, wsol_checks.SALIENCY, wsol_checks.MAPS_AGREE}
    known |= {wsol_checks.MAPS_DIFFER, wsol_checks.OVERLAP, wsol_checks.COMPLETE, wsol_checks.REPEATS, wsol_rows.NOISIER}
    known |= {
        f"{wsol_rows.ORDER}, weighted",
        wsol_rows.ORDER,
        wsol_rows.GIVEN,
        wsol_rows.DEEPER,
        wsol_rows.RATIO,
        "rows_gradient",
    }
    for claim in loaded.claims:
        for rule in rules.parts(claim.rule):
            assert rule.metric in known, claim.id
    assert set(wsol_tables.claimed(loaded)) == {iou_name(0.5), iou_name(1, True)}


def test_the_plan_is_what_the_notebook_asks_for():
    """Works of the smoke profile: every stored task of the notebook, each once."""
    loaded = study.load("wsol")
    stages = wsol.works({k: v.default for k, v in loaded.parameters.items()})
    tasks = [work.task for stage in stages for work in stage]
    assert sorted(set(tasks)) == sorted(
        {"localisation_maps", "train_net", "localisation_scores", "small_net_rows", "alike_rows", "played_rows"}
        | {"additivity_rows", "crop_scores", "repeat_rows", "localisation_costs"}
    )


def test_tables_need_no_pictures(case, scores):
    light = without_pictures(case)
    assert light.inputs.numel() == len(case.samples)
    pd.testing.assert_frame_equal(wsol_rows.score_rows(light, scores), wsol_rows.score_rows(case, scores))
    assert light.first(2).samples.ids == case.first(2).samples.ids


def test_the_net_of_drawn_shapes_is_recorded_by_its_weights(monkeypatch):
    net = toys.TinyNet()
    monkeypatch.setattr(wsol, "trained", lambda case, seed: net)
    made = wsol.shapes_case({"n_shapes": 4, "n_shapes_train": 8, "shapes_size": 16, "shapes_epochs": 1, "seed": 0})
    assert made.model.weights_sha256 == models.state_sha256(net)
    assert made.model.name == "small_resnet"
    assert made.targets.tolist() == made.samples.targets.tolist()


def test_rows_of_other_networks_have_labels_of_their_own_and_stand_beside_the_main_one(case, monkeypatch):
    """A rule reads one network by its label alone, whatever the profile's networks are."""
    shown = []
    monkeypatch.setattr(plotting, "table", lambda table, **_: shown.append(table))
    other = replace(case, prefix=OTHER, model=toys.TinyNet())
    other.model.name = "deeper"
    values = torch.linspace(0, 0.5, 6)
    frames = [rows(case, "CAM", BOX, values), rows(other, "CAM", BOX, values + 0.25)]
    assert pd.concat(frames).method.unique().tolist() == ["CAM", "other: CAM"]
    wsol_tables.others(frames, ["CAM"])
    assert shown[0].classifier.tolist() == ["net", "deeper"]
    assert [cell.split(" ")[0] for cell in shown[0].CAM] == ["0.250", "0.500"]
    gains = [
        rows(one, label, GAME, values + k)
        for one in (case, other)
        for k, label in enumerate(("IG, black", "credible, reading A"))
    ]
    path_tables.by_model(pd.concat(gains), ["IG, black", "credible, reading A"], prefix=OTHER, name="table-2")
    assert shown[1].network.tolist() == ["net", "deeper"]
    assert shown[1].n.tolist() == [6, 6]
