"""Part digits of the study `case_studies`: known densities, flips and covers on models with closed-form answers."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from xai_lib import compute, toys
from xai_lib.compendium.results import checked
from xai_lib.digit_regions import frame, ink_of, lower_left_gap, ring, upper_gap
from xai_lib.studies import case_digits, case_digits_figures, case_digits_rows, case_digits_tables
from xai_lib.studies.case import Case
from xai_lib.studies.case_digits import (
    BY_CONTRAST,
    BY_GRADIENT,
    BY_SIGN,
    FILLED,
    OPEN,
    ORDERS,
    OTHERS,
    RANDOM,
    SALIENCY,
    SPACE,
    UNTRAINED,
    Digits,
)
from xai_lib.studies.case_digits_rows import DENSITY, MODAL, SHARE, Covers
from xai_lib.types import Samples

P = {"ink_threshold": 0.1, "ring_width": 1, "n_untrained": 2, "ink_counts": [1, 3, 5]}
FOUR = torch.zeros(12, 12)
FOUR[2:7, 3] = FOUR[6, 3:8] = FOUR[2:10, 7] = 1
FIVE = torch.zeros(12, 12)
FIVE[2, 3:8] = FIVE[2:6, 3] = FIVE[5, 3:8] = FIVE[5:9, 7] = FIVE[9, 3:8] = 1


def case_of(model, inputs: torch.Tensor, labels: list[int], prefix: str = "") -> Case:
    model.name = "net"
    ids = tuple(f"{prefix}{k}" for k in range(len(inputs)))
    names = tuple(str(k) for k in range(10))
    samples = Samples(inputs, torch.tensor(labels), ids, names, "drawn", "CC0", True)
    return Case(model, samples, compute.logits(model, inputs).argmax(1), prefix=prefix)


def linear_net(weights: torch.Tensor, bias: torch.Tensor | None = None) -> nn.Module:
    made = nn.Sequential(nn.Flatten(), nn.Linear(144, 10)).requires_grad_(False).eval()
    made[1].weight.copy_(weights)
    made[1].bias.copy_(torch.zeros(10) if bias is None else bias)
    return made


def net(seed: int = 0) -> toys.TinyNet:
    return toys.TinyNet(channels=1, classes=10, seed=seed)


def shifted(one: torch.Tensor, n: int) -> torch.Tensor:
    return torch.stack([one.roll(k % 3, dims=1) for k in range(n)])[:, None] * torch.linspace(0.6, 1, n).reshape(-1, 1, 1, 1)


@pytest.fixture(scope="module")
def digits() -> Digits:
    """Fours and fives under nets of random weights; every image's label is what the net reads."""
    mixed = torch.cat([shifted(FOUR, 3), shifted(FIVE, 3)])

    def right(model, inputs, prefix=""):
        return case_of(model, inputs, compute.logits(model, inputs).argmax(1).tolist(), prefix)

    fours, fives = (fixed(one, digit) for one, digit in ((FOUR, 4), (FIVE, 5)))
    training, mlp, relu = (right(net(k), mixed, f"{name}: ") for k, name in enumerate(("training images", "MLP", "ReLU CNN")))
    return Digits(right(net(), mixed), training, mlp, relu, fours, fives, covered=fours)


def fixed(one: torch.Tensor, digit: int, n: int = 3) -> Case:
    """A linear net that reads these pictures as their digit, and anything with ink at the right spot as the named one."""
    named, _ = case_digits.FLIPS[digit]
    weights = torch.zeros(10, 144)
    open_space = (upper_gap if digit == 4 else lower_left_gap)(one[None] > 0)[0]
    weights[named] = 2.0 * open_space.flatten()
    weights[digit] = 0.01
    bias = torch.zeros(10)
    bias[digit] = 3.0
    inputs = one.expand(n, 1, 12, 12) * torch.linspace(0.6, 1, n).reshape(-1, 1, 1, 1)
    return case_of(linear_net(weights, bias), inputs, [digit] * n)


def of(rows: pd.DataFrame, metric: str, method: str) -> np.ndarray:
    return rows[(rows.metric == metric) & (rows.method == method)].value.to_numpy()


def densities(case: Case, n_untrained: int = 1) -> dict[str, torch.Tensor]:
    return case_digits.region_densities(case, threshold=0.1, width=1, n_untrained=n_untrained)


def test_densities_of_a_linear_net_are_those_of_its_weights():
    """Weights 1 everywhere, for class 0 five in the frame of 4 pixels; a net with drawn weights has no preference."""
    edge = frame(torch.zeros(1, 12, 12, dtype=torch.bool))[0]
    weights = torch.ones(10, 144)
    weights[0] = torch.where(edge, -5.0, 1.0).flatten()
    case = case_of(linear_net(weights, torch.eye(10)[0] * 500), shifted(FOUR, 2), [0, 1])
    found = densities(case, 30)
    assert found[f"{SALIENCY} | frame"].tolist() == pytest.approx([5 / (5 * 128 + 16) * 144] * 2)
    assert found[f"{OTHERS} | frame"].tolist() == pytest.approx([1, 1])
    assert found[f"{UNTRAINED} | ink"].tolist() == pytest.approx([1, 1], abs=0.1)
    assert found["area | frame"].tolist() == pytest.approx([128 / 144] * 2)
    near = ring(ink_of(case.inputs), width=1)
    assert found["area | ring"].tolist() == pytest.approx(near.double().mean((1, 2)).tolist())
    assert torch.equal(found[f"map of {SALIENCY}"], weights[0].abs().reshape(1, 12, 12).expand(2, 12, 12))
    assert found["read"].tolist() == [0, 0]
    assert case_digits_rows.read_right(case, found).tolist() == [True, False]


def test_untrained_nets_are_drawn_anew_and_put_back():
    model = net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    case = case_of(model, shifted(FOUR, 2), [4, 4])
    one, two = densities(case), densities(case, 2)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.equal(one[f"{SALIENCY} | ring"], two[f"{SALIENCY} | ring"])
    assert not torch.equal(one[f"{UNTRAINED} | ring"], two[f"{UNTRAINED} | ring"])
    assert not torch.equal(one[f"map of {UNTRAINED}"], one[f"map of {SALIENCY}"])
    assert torch.equal(one[f"map of {UNTRAINED}"], two[f"map of {UNTRAINED}"])


def test_results_belong_to_the_image(digits):
    whole, part = (densities(case) for case in (digits.cnn, case_digits_rows.subset(digits.cnn, torch.arange(6) == 4)))
    for name, values in whole.items():
        torch.testing.assert_close(values[4:5], part[name], equal_nan=True)
    own = case_digits._ink(4, P)
    whole, part = (case_digits.added_ink(case, **own) for case in (digits.fours, digits.fours.first(1)))
    for name, values in whole.items():
        assert torch.equal(values[:1], part[name])


def test_ink_in_the_open_space_makes_the_named_digit(digits):
    """The linear net reads the named digit once two pixels of the open space are full; random ground is not enough."""
    for digit, case in case_digits_rows.both(digits).items():
        named, space = case_digits.FLIPS[digit]
        own = {"towards": named, "space": space, "counts": [0, 1, 2, 5], "threshold": 0.1, "width": 1}
        found = case_digits.added_ink(case, **own)
        for label in (OPEN, BY_CONTRAST):
            assert found[label].tolist() == [[digit, digit, named, named]] * 3, (digit, label)
        assert found[RANDOM][:, :2].eq(digit).all()
        assert found["read"].tolist() == [digit] * 3
        assert set(found) == {"read", FILLED, SPACE, *ORDERS}
        assert found[FILLED].tolist() == [named] * 3
        assert found[SPACE].min() >= 2


def test_orders_follow_size_and_sign():
    """Logit 4 falls most with pixel 0, rises most with pixel 1; each of them alone turns the reading into 7 or 8."""
    weights = torch.zeros(10, 144)
    weights[4, 0], weights[4, 1] = -1.0, 2.0
    weights[7, 1], weights[8, 0] = 9.0, 9.0
    case = case_of(linear_net(weights, 5 * torch.eye(10)[4]), FOUR[None, None], [4])
    found = case_digits.added_ink(case, **{**case_digits._ink(4, P), "counts": [1]})
    assert found[BY_GRADIENT].tolist() == [[7]]
    assert found[BY_SIGN].tolist() == [[8]]


def test_rows_are_covered_from_the_side_that_is_named():
    weights = torch.zeros(10, 144)
    weights[8] = (torch.arange(12) >= 10).repeat_interleave(12).double()
    case = case_of(linear_net(weights, 0.5 * torch.eye(10)[9]), torch.ones(2, 1, 12, 12), [8, 8])
    found = case_digits.covered_rows(case, numbers=[1, 2, 11])
    assert found["bottom"].tolist() == [[8, 9, 9]] * 2
    assert found["top"].tolist() == [[8, 8, 8]] * 2
    assert found["read"].tolist() == [8, 8]


def test_the_named_class_against_the_next_wrong_one():
    """Two 8s covered at the bottom: 9 in three of four covers of the first, in one of the second, which is 3 in two."""
    case = case_of(net(), torch.zeros(3, 1, 12, 12), [8, 8, 3])
    read = {"bottom": np.array([[9, 9, 9, 8], [9, 3, 3, 8], [5, 5, 3, 2]]), "top": np.full((3, 4), 3)}
    covered = Covers(case, read)
    assert covered.wrong(8, ["bottom"])[:, [3, 8, 9]].tolist() == [[0, 0, 0.75], [0.5, 0, 0.25]]
    assert covered.wrong(8, ["top", "bottom"])[0, [3, 9]].tolist() == [0.5, 0.375]
    rows = checked(case_digits_rows.cover_rows(covered))
    assert of(rows, MODAL, "bottom of 8: 9").tolist() == [0.75, -0.25]
    assert of(rows, MODAL, "top of 3: 5").tolist() == [0]
    assert of(rows, case_digits_rows.CHANGES, "bottom of 8").tolist() == [0.75, 0.75]
    assert of(rows, case_digits_rows.CHANGES, "bottom of 3").tolist() == [0.75]
    assert rows[rows.method == "bottom of 8: 9"]["sample"].tolist() == ["0", "1"]


def test_rows_hold_what_was_found(digits):
    rows = checked(pd.concat([case_digits_rows.density_rows(digits, P), case_digits_rows.place_rows(digits, P)]))
    found = case_digits.found_regions(digits.mlp, P)
    assert of(rows, DENSITY, f"MLP: {SALIENCY} | ring").tolist() == pytest.approx(found[f"{SALIENCY} | ring"].tolist())
    parts = sum(of(rows, SHARE, f"{SALIENCY} | {name}") for name in ("ink", "ring", "far"))
    assert parts == pytest.approx(np.ones(6))
    gap = densities(digits.fours)[f"{SALIENCY} | upper gap"]
    assert of(rows, DENSITY, f"{SALIENCY} | upper gap of 4").tolist() == pytest.approx(gap.tolist())
    denser = of(rows, case_digits_rows.DENSER, f"{SALIENCY} | upper gap of 4")
    assert denser.tolist() == (gap > 1).double().tolist()
    flips = checked(case_digits_rows.flip_rows(digits, P))
    assert of(flips, "4 becomes 9", OPEN).tolist() == pytest.approx([2 / 3] * 3)
    assert of(flips, "5 changes", OPEN).tolist() == pytest.approx([2 / 3] * 3)
    assert of(flips, "5 becomes 6, most pixels", OPEN).tolist() == [1, 1, 1]
    assert of(flips, "5 becomes 6, space filled", FILLED).tolist() == [1, 1, 1]


def test_the_open_space_is_filled_as_a_whole_and_nothing_else():
    """The net reads a 9 once every pixel of the gap has ink, and a 7 if any other ground has; a bar has no gap to be filled."""
    gap = upper_gap(FOUR[None] > 0)[0]
    weights, bias = torch.zeros(10, 144), torch.zeros(10)
    weights[9], weights[7] = 10.0 * gap.flatten(), 1000.0 * (~gap & (FOUR == 0)).flatten()
    bias[4] = 10.0 * int(gap.sum()) - 5
    bar = torch.zeros(12, 12)
    bar[2:10, 3] = 1
    case = case_of(linear_net(weights, bias), torch.stack([FOUR, bar * (FOUR > 0)])[:, None], [4, 4])
    own = {"towards": 9, "space": "upper gap", "counts": [int(gap.sum()) - 1], "threshold": 0.1, "width": 1}
    found = case_digits.added_ink(case, **own)
    assert found["read"].tolist() == [4, 4]
    assert found[SPACE].tolist() == [int(gap.sum()), 0]
    assert found[FILLED].tolist() == [9, 4]
    assert found[OPEN][0].tolist() == [4]
    digits = SimpleNamespace(fours=case, fives=replace(case, targets=torch.tensor([5, 5])))
    flips = case_digits_rows.flip_rows(digits, {**P, "ink_counts": [1]})
    assert of(flips, "4 becomes 9, space filled", FILLED).tolist() == pytest.approx([1, np.nan], nan_ok=True)


def test_misread_images_are_left_out(digits):
    case = case_of(digits.fours.model, digits.fours.inputs, [4, 9, 4])
    few, found = case_digits_rows.flips(case, 4, P)
    assert few.samples.ids == ("0", "2")
    assert len(found[OPEN]) == 2
    read = torch.tensor([4, 4, 7], dtype=torch.int16)
    rows = case_digits_rows._places(case, 4, {**densities(case), "read": read})
    assert sorted(set(rows["sample"])) == ["0"]


@pytest.mark.slow
def test_figures_and_tables_are_drawn(digits, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        "xai_lib.plotting.output.display", lambda data, raw, metadata: seen.update({metadata["xai"]["name"]: data})
    )
    figures, tables = case_digits_figures, case_digits_tables
    dense, placed, flipped = (make(digits, P) for make in (case_digits_rows.density_rows, case_digits_rows.place_rows,
                                                           case_digits_rows.flip_rows))  # fmt: skip
    read = {side: np.repeat([[9, 4, 4]], 3, axis=0) for side in case_digits.SIDES}
    covered = Covers(case_of(net(), torch.zeros(3, 1, 12, 12), [8, 8, 9]), read)
    figures.class_means(digits, P)
    figures.densities(dense)
    figures.contrast(digits, P)
    figures.added_ink(digits, 5, P)
    figures.transitions(covered)
    tables.rings(dense)
    tables.places(placed)
    tables.added_ink(digits, flipped, P)
    tables.covered(covered, case_digits_rows.cover_rows(covered))
    assert len(seen) == 9
    assert "| 5 | random, open space | 0.667 [0.667, 0.667] |" in seen["added-ink"]["text/markdown"]
    assert "| bottom of 8 | 9 | 2 | 1.00 | 0.333 | 4 (0.67), 9 (0.33) |" in seen["covered-rows"]["text/markdown"]
    assert "8 covered at the top read as 4, 0.67 of" in seen["covered-rows-read-as"]["text/plain"]


def test_the_plan_is_what_the_rows_ask_for():
    nets = {"digit_cnn": "mnist_cnn", "digit_mlp": "mnist_mlp", "digit_relu": "mnist_cnn", "digits": "mnist_5k"}
    p = {**P, **nets, "n_digits": 4, "n_flipped": 2, "n_covered": 5, "seed": 0, "max_batch": 0}
    (stage,) = case_digits.works(p)
    assert [work.task for work in stage] == ["region_densities"] * 5 + ["added_ink"] * 2 + ["covered_rows"]
    assert [len(work.items) for work in stage] == [4, 4, 4, 4, 2, 2, 2, 5]
    digits = case_digits.open_cases(p)
    assert digits.fives.samples.targets.tolist() == digits.fives.targets.tolist() == [5, 5]
    assert set(digits.training.samples.ids).isdisjoint(digits.covered.samples.ids)
    assert len({work.parameters["towards"] for work in stage if work.task == "added_ink"}) == 2


def test_a_published_figure_of_class_means_has_no_row_of_pictures(digits, monkeypatch):
    hidden = replace(digits, cnn=replace(digits.cnn, samples=replace(digits.cnn.samples, redistributable=False)))
    drawn: dict[str, int] = {}
    monkeypatch.setattr(case_digits_figures.plotting, "show", lambda fig, **own: drawn.update({own["caption"]: len(fig.axes)}))
    for published in ("0", "1"):
        monkeypatch.setenv("XAI_PUBLISH", published)
        case_digits_figures.class_means(hidden, P)
    (local, rows), (public, fewer) = drawn.items()
    assert local.startswith("Mean picture and mean absolute gradient")
    assert public.startswith("Mean absolute gradient")
    assert rows * 3 == fewer * 4
