"""Study `case_studies`, part rotation: rows from known angles, green borders, and the tasks on a toy."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from xai_lib import compute, toys
from xai_lib.compendium.results import checked
from xai_lib.counterfactuals import minimal_perturbation, overshoot, random_bounds
from xai_lib.studies import case_rotation as rotation
from xai_lib.studies import case_rotation_figures as figures
from xai_lib.studies import case_rotation_rows as tidy
from xai_lib.studies import case_rotation_tables as tables
from xai_lib.studies.case import Case
from xai_lib.types import Samples

CLASSES = ("cat", "dog", "frog", "ship", "truck")
TARGETS = torch.tensor([0, 1, 1, 1, 2, 2, 3, 3, 3, 3])
ANGLES = torch.tensor([20.0, 2.0, 3.0, 30.0, torch.nan, 24.16, 1.0, 2.0, 4.0, 50.0], dtype=torch.float64)
TO = torch.tensor([1, 0, 0, 4, -1, 1, 2, 2, 4, 0])
INSIDE = torch.tensor([0.0, 4.0, 6.0, 60.0, torch.nan, 40.0, 2.0, 4.0, 8.0, 0.0], dtype=torch.float64)
AUGMENTED = torch.tensor([40.0, 8.0, torch.nan], dtype=torch.float64)
GREEN = np.array([0.0, 0.1, 0.2, 0.3, 0.9, 0.8, 1.0, 0.7, 0.0, 0.1])


def made_case(targets=TARGETS, names=None) -> Case:
    model = toys.TinyNet(classes=len(CLASSES))
    model.name, model.class_names = "net", CLASSES
    inputs = torch.rand(len(targets), 3, 12, 12, generator=torch.Generator().manual_seed(3))
    ids = tuple(names or "abcdefghij"[: len(targets)])
    return Case(model, Samples(inputs, targets, ids, CLASSES, "toy", "CC0", True), targets)


@pytest.fixture(scope="module")
def known() -> rotation.Rotations:
    case = made_case()
    augmented = replace(case, samples=case.samples.subset([0, 2, 4]), targets=TARGETS[[0, 2, 4]], prefix="augmented: ")
    bounds = torch.stack([ANGLES[:6] + 1, ANGLES[:6] + 3], dim=1)
    return rotation.Rotations(
        rotation.Cases(case, case.first(6), augmented),
        {"amounts": ANGLES, "flips_to": TO},
        {"amounts": INSIDE},
        {"amounts": AUGMENTED},
        {"bounds": bounds},
        GREEN,
        90.0,
    )


@pytest.fixture(scope="module")
def frame(known):
    return checked(tidy.all_rows(known))


def of(frame, metric, method):
    return frame[(frame.metric == metric) & (frame.method == method)].value.to_numpy()


def test_angles_by_class_and_censored_at_the_maximum(frame):
    assert of(frame, tidy.ANGLE, "dog").tolist() == [2, 3, 30]
    assert of(frame, tidy.ANGLE, "frog").tolist() == [90, 24.16]
    assert of(frame, tidy.NONE, "frog").tolist() == [1, 0]
    assert len(of(frame, tidy.ANGLE, tidy.EVERY)) == 10
    assert not len(of(frame, tidy.ANGLE, "truck"))


def test_a_net_may_see_no_ship_dog_or_frog(known):
    """As a net for photographs that is shown a few drawn shapes."""
    case = known.cases.plain
    trucks = replace(case, targets=torch.full_like(case.targets, CLASSES.index("truck")))
    frame = checked(tidy.all_rows(replace(known, cases=replace(known.cases, plain=trucks))))
    assert tidy.FLIPS not in set(frame.metric)
    assert len(of(frame, tidy.ANGLE, "truck")) == len(case.targets)


def test_shares_of_other_classes_count_ties_half(frame):
    assert of(frame, tidy.LATER, "dog").tolist() == pytest.approx([1.5 / 7, 2 / 7, 5 / 7])
    assert of(frame, tidy.LATER, "frog").tolist() == pytest.approx([1, 6 / 8])


def test_published_angles_in_their_class(frame):
    assert of(frame, tidy.BELOW, "frog 24.16").tolist() == [0, 0.5]
    assert of(frame, tidy.BELOW, "frog 82.15").tolist() == [0, 1]
    assert of(frame, tidy.BELOW, "dog 2.47").tolist() == [1, 0, 0]
    assert of(frame, tidy.BELOW, "ship 3.65").tolist() == [1, 1, 0, 0]
    assert of(frame, tidy.BOUND_BELOW, "dog 3.85").tolist() == [0.5, 0, 0]
    assert not len(of(frame, tidy.BOUND_BELOW, "ship 3.65")), "no ship among those that are drawn"


def test_overshoot_of_the_random_bound(frame):
    over = of(frame, tidy.OVER, tidy.EVERY)
    assert over[:4].tolist() == pytest.approx([2] * 4)
    assert np.isnan(over[4])
    assert of(frame, tidy.SPREAD, tidy.EVERY)[0] == pytest.approx(2**0.5)
    assert of(frame, tidy.EXPECTED, tidy.EVERY)[0] == pytest.approx(overshoot(20.0, 0.01))


def test_flips_and_the_most_frequent_other_class(frame):
    assert of(frame, tidy.FLIPS, "ship -> frog").tolist() == [1, 1, 0, 0]
    assert of(frame, tidy.FLIPS, "dog -> cat").tolist() == [1, 1, 0]
    assert of(frame, tidy.FLIPS, f"dog -> {tidy.NEXT}").tolist() == [0, 0, 1]
    assert of(frame, tidy.FLIPS, "frog -> dog").tolist() == [1], "a frog that nothing changes does not count"


def test_controls(frame):
    assert of(frame, tidy.MASKED, tidy.EVERY).tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    assert of(frame, tidy.ANGLE, tidy.DISC).tolist() == [4, 6, 60, 90, 40, 2, 4, 8]
    assert of(frame, tidy.RATIO, "augmented: all classes").tolist() == pytest.approx([2, 8 / 3, 1])
    ships = of(frame, tidy.WITH_GREEN, "ship")
    assert ships.mean() == pytest.approx(np.corrcoef([4, 3, 1, 2], [1, 1, 0, 0])[0, 1])
    assert len(of(frame, tidy.WITH_GREEN, "all but frogs")) == 8


def test_green_border_is_hue_and_place():
    grey, green, red, dark = (
        torch.tensor(c).reshape(3, 1, 1) for c in ([0.5] * 3, [0.2, 0.7, 0.2], [0.7, 0.2, 0.2], [0.0] * 3)
    )
    images = torch.stack([c.expand(3, 12, 12).clone() for c in (grey, green, red, dark, red)])
    images[4, :, 4:8, 4:8] = green
    assert rotation.green_border(images).tolist() == [0, 1, 0, 0, 0]
    images[4, :, :4] = green
    assert rotation.green_border(images)[4].item() == pytest.approx(48 / 128)
    yellow_green, cyan = torch.tensor([0.5, 0.51, 0.0]), torch.tensor([0.0, 0.5, 0.45])
    pair = torch.stack([c.reshape(3, 1, 1).expand(3, 12, 12) for c in (yellow_green, cyan)])
    assert rotation.green_border(pair).tolist() == [1, 0], "hues of 61 and 174 degrees"


def test_only_images_that_are_classified_correctly_are_kept():
    case = made_case()
    case = replace(case, targets=torch.tensor([0, 1, 0, 1, 2, 2, 0, 3, 3, 3]))
    assert rotation.part(case).samples.ids == tuple("abdefhij")
    assert rotation.part(case, n=3).samples.ids == tuple("abd")
    assert rotation.part(case, ids=("b", "c", "j")).samples.ids == ("b", "j")
    case.model.class_names = ("other",)
    assert len(rotation.part(case).samples) == 10, "a net that knows other classes cannot be right"


def test_tasks_are_the_searches(known):
    case = known.cases.plain
    case = replace(case, targets=compute.logits(case.model, case.inputs).argmax(1))
    asked = {"maximum": 30.0, "step": 5.0, "precision": 2.5}
    for inside in (False, True):
        made = rotation.smallest_rotations(case, inside=inside, **asked)
        expected = minimal_perturbation(
            case.model, case.inputs, case.targets, perturbation={"rotation": {"inside": inside}}, **asked
        )
        for name, values in made.items():
            assert torch.equal(values.nan_to_num(-1), getattr(expected, name).nan_to_num(-1))
    drawn = rotation.random_rotations(case, maximum=3.0, repeats=2, resolution=1.0)
    bounds = random_bounds(case.model, case.inputs, case.targets, maximum=3.0, step=0.01, repeats=2, resolution=1.0)
    assert torch.equal(drawn["bounds"].nan_to_num(-1), bounds.bounds.nan_to_num(-1))


def test_figures_and_tables_are_drawn(known, frame, monkeypatch):
    shown = {}
    monkeypatch.setattr(
        "xai_lib.plotting.output.display",
        lambda data, raw, metadata: shown.setdefault(metadata["xai"]["name"], data["text/plain"]),
    )
    figures.angles(known, frame)
    figures.percentiles(frame)
    figures.flips(known)
    figures.remaining(known)
    for table in (tables.protocol, tables.published, tables.controls):
        table(frame)
    tables.by_class(known, frame)
    assert len(shown) == 8
    assert "dog to cat" in shown["rotation-flips"] and "ship to frog" in shown["rotation-flips"]  # noqa: PT018
    assert "from 3.00 (dog) to 57.1 degrees (frog)" in shown["rotation-angles"]
    assert "for 9 published angles" in shown["rotation-percentiles"]
