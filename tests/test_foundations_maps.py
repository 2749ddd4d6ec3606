"""Lesson `foundations_maps` as a whole: its rows, figures and page."""

import nbformat
import pandas as pd
import pytest
import torch
from torch import Tensor

from xai_lib import compute, plotting
from xai_lib.activation_maximisation import Maximised
from xai_lib.compendium.book_tokens import fill
from xai_lib.compendium.results import checked
from xai_lib.compendium.study import load
from xai_lib.studies import foundations_maps as lesson
from xai_lib.studies import foundations_maps_figures as figures
from xai_lib.studies import foundations_maps_tables as tables
from xai_lib.studies import foundations_maps_units as units

P = {"n_photos": 2, "n_train": 60, "epochs": 1, "n_test": 30, "seed": 0}
LAYERS = ["network.block4", "network.head_act"]


@pytest.fixture(scope="module")
def seen() -> lesson.Lesson:
    return lesson.open_lesson(P)


@pytest.fixture(scope="module")
def explained(seen: lesson.Lesson) -> dict[str, Tensor]:
    return lesson.explained(seen)


@pytest.fixture(scope="module")
def coarse(seen: lesson.Lesson) -> dict[str, Tensor]:
    return lesson.layer_maps(seen, LAYERS)


@pytest.fixture(scope="module")
def cam_rows(seen: lesson.Lesson, explained: dict[str, Tensor], coarse: dict[str, Tensor]) -> pd.DataFrame:
    return lesson.cam_rows(seen, explained, coarse)


@pytest.fixture(scope="module")
def last_random(seen: lesson.Lesson, explained: dict[str, Tensor]) -> pd.DataFrame:
    return lesson.last_layer_rows(seen, explained, seed=0, absolute=False)


@pytest.fixture(scope="module")
def dissected(seen: lesson.Lesson) -> units.Dissected:
    return units.dissected(seen, tail=0.01, seed=0)


def test_lenet_has_no_cam(seen: lesson.Lesson) -> None:
    assert tables.lenet_answer(seen) == "no CAM: refused"


def test_cam_rows_agree_at_the_last_layer_and_part_elsewhere(cam_rows: pd.DataFrame) -> None:
    rows = cam_rows
    part = rows[rows.metric == lesson.DIFFERENCE].groupby(["model", "method"]).value.max()
    assert part["efficientnet_lite0", lesson.LAST] < 1e-5
    assert part["shapes_net", lesson.LAST] < 1e-5
    for method in (lesson.PROBABILITY, lesson.GUIDED, "block4"):
        assert part["efficientnet_lite0", method] > 0.05
    assert rows[rows.metric == lesson.FACTOR].value.tolist() == pytest.approx([49.0, 49.0], rel=1e-4)


@pytest.mark.slow
def test_the_rules_do_not_notice_a_random_last_layer(
    seen: lesson.Lesson, explained: dict[str, Tensor], last_random: pd.DataFrame
) -> None:
    mean = last_random.groupby("method").value.mean()
    assert mean["Guided Backprop"] > 0.98
    assert mean["DeconvNet"] > 0.98
    alike = lesson.rule_rows(seen, lesson.rule_maps(explained)).groupby("method").value.mean()
    assert alike["DeconvNet"] > 0.98 > 0.5 > alike["Guided Backprop"]
    assert mean["Guided Grad-CAM"] < 0.95
    assert mean[["gradient", "Grad-CAM"]].max() < 0.7
    again = compute.logits(seen.photo_model, seen.photos.inputs).argmax(dim=1)
    assert torch.equal(again, seen.classes)  # the model was put back


def test_dissection_of_the_small_net_uses_both_nets_and_both_masks(seen: lesson.Lesson, dissected: units.Dissected) -> None:
    assert list(dissected.found) == ["trained", "trained" + units.OTHERS, "untrained", "untrained" + units.OTHERS]
    own = dissected.own("untrained")
    assert not torch.equal(own.iou, dissected.own("trained").iou)
    assert not torch.equal(own.iou, dissected.own("untrained" + units.OTHERS).iou)
    assert torch.equal(own.coverage, dissected.own("untrained" + units.OTHERS).coverage)
    table = units.detector_table(dissected, threshold=0.02)
    assert (table["best IoU"] <= table["largest IoU possible"] + 1e-9).all()
    assert table["untrained"].sum() == own.detectors(0.02).sum()
    widest = dissected.found["untrained"][0.1].detectors(0.04).float().mean()
    assert widest > 0.9 > dissected.found["untrained"][0.005].detectors(0.04).float().mean()


def test_units_are_shown_where_they_fire(seen: lesson.Lesson, dissected: units.Dissected) -> None:
    found = units.unit_pictures(seen, dissected, steps=2, seed=0, units=2, pictures=3)
    concepts = [unit.concept for unit in found]
    assert len(set(concepts)) == len(concepts) == 2
    best = dissected.own("trained").best[0]
    assert found[0].iou == pytest.approx(best.max().item())
    for unit in found:
        tops = dissected.maps["trained"][:, unit.unit].flatten(1).amax(dim=1)
        assert tops[unit.rows].tolist() == sorted(tops.tolist(), reverse=True)[:3]
        assert unit.masks.shape == (3, 32, 32)
        assert unit.masks[0].any()


@pytest.fixture(scope="module")
def made(seen: lesson.Lesson) -> dict[str, Maximised]:
    return units.maximised(seen, steps=1, seed=0)


@pytest.fixture(scope="module")
def everything(
    seen: lesson.Lesson,
    explained: dict[str, Tensor],
    cam_rows: pd.DataFrame,
    dissected: units.Dissected,
    last_random: pd.DataFrame,
    coarse: dict[str, Tensor],
    made: dict[str, Maximised],
) -> pd.DataFrame:
    frames = [
        lesson.accuracy_rows(seen),
        cam_rows,
        lesson.layer_rows(seen, coarse),
        lesson.rule_rows(seen, lesson.rule_maps(explained)),
        last_random,
        lesson.cascade_rows(seen, n=3, seed=0, absolute=True),
        units.maximised_rows(seen, made),
        units.dissection_rows(seen, dissected, threshold=0.04),
    ]
    return pd.concat(frames, ignore_index=True)


@pytest.mark.slow
def test_all_rows_are_results_and_fill_every_number_of_the_page(everything: pd.DataFrame) -> None:
    table = checked(everything)
    study = load("foundations_maps")
    notebook = nbformat.read(study.notebook, as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    filled = fill(text, table, {"parameters": study.profile_values("smoke"), "verdicts": []})
    assert "⟦" not in filled
    assert text.count("⟦") > 20


@pytest.mark.slow
def test_stages_go_from_the_logits_to_the_first_convolution(everything: pd.DataFrame) -> None:
    assert lesson.stage_names(everything) == ["head", "conv4", "conv3", "conv2", "conv1"]
    layers = everything[everything.metric == lesson.CELL].set_index("method").value
    assert layers.to_dict() == {"block4": 8.0, "head_act": 32.0}


@pytest.mark.slow
def test_figures_and_tables_can_be_shown(
    seen: lesson.Lesson,
    dissected: units.Dissected,
    everything: pd.DataFrame,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    coarse: dict[str, Tensor],
    made: dict[str, Maximised],
) -> None:
    monkeypatch.setattr(plotting.output, "png", lambda figure: b"")  # captions and alternative texts are what can fail
    figures.cams(seen, coarse, everything)
    figures.last_layer(everything)
    figures.cascade(everything)
    figures.tails(everything, dissected, threshold=0.04)
    figures.made_pictures(seen, made)
    figures.unit_grid(seen, units.unit_pictures(seen, dissected, steps=1, seed=0))
    tables.differences(seen, everything)
    tables.resolution(everything, coarse)
    tables.maximised(everything)
    tables.detectors(dissected, seen, threshold=0.04)
    tables.accuracies(everything)
    tables.closing()
    shown = capsys.readouterr().out
    assert shown.count("image/png") == 6
    assert shown.count(":::{table}") >= 6


def test_the_study_file_and_its_notebook_agree() -> None:
    study = load("foundations_maps")
    study.check_notebook()
    assert study.document is None
    assert [one.level for one in study.exercises] == ["predict", "change", "extend"]
    assert study.publishable == ["book"]
