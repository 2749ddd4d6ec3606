"""Lesson `foundations_gradients`: one function in two spellings, the axioms, and what a reader sees."""

import pandas as pd
import pytest
import torch

from xai_lib import plotting, toys
from xai_lib.compendium.results import checked
from xai_lib.studies import foundations_gradients as lesson
from xai_lib.studies import foundations_gradients_axioms as axioms
from xai_lib.studies import foundations_gradients_figures as figures
from xai_lib.studies import foundations_gradients_noise as noise
from xai_lib.studies import foundations_gradients_tables as tables
from xai_lib.studies import foundations_gradients_twins as twins
from xai_lib.studies.case import open_case


@pytest.fixture(scope="module")
def digits():
    return open_case("mnist_cnn", {"mnist_5k": {"split": "test"}}, n=4, seed=0)


def one(frame, metric, method):
    (value,) = frame[(frame.metric == metric) & (frame.method == method)].value
    return value


# --- two spellings ----------------------------------------------------------------------------------------------------


def test_twins_are_one_function():
    x = torch.rand(400, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 8 - 3
    for first, second in twins.TWINS.values():
        assert torch.allclose(first(x), second(x))
    assert torch.allclose(twins.CANCELLING(x)[:, 0], x[:, 0])
    assert torch.allclose(twins.EVEN(x)[:, 0], twins.EVEN(x.flip(1))[:, 0])
    assert float(twins.late(x).max()) > 0
    assert float(twins.EVEN(x)[:, 0].max()) > 0


def test_maps_of_twins_at_one_point():
    made = twins.twin_maps()
    late, mirrored = made["late and early bias"], made["mirrored rectifier"]
    known = {"Integrated Gradients": ([1.5, -0.5], [1.5, -0.5]), "DeepLIFT": ([1.5, -0.5], [2.0, -1.0])}
    for method, pair in known.items():
        assert [m.tolist() for m in late[method]] == [pytest.approx(values) for values in pair]
    assert [m.tolist() for m in mirrored["Guided Backpropagation"]] == [[0.0, -1.0], [-1.0, -1.0]]
    for pair in made.values():
        for method in ("gradient", "gradient x input", "Integrated Gradients", "LRP (z+)"):
            assert torch.allclose(*pair[method], atol=1e-6), method


def test_the_other_spelling_of_the_digit_net_has_its_logits_and_gradients_and_not_every_map(digits):
    twin = twins.Rewired(digits.model)
    noisy = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    for x in (digits.inputs, noisy):
        assert torch.allclose(twin(x), digits.model(x), atol=1e-4)
    frame = twins.spelled_rows(digits, twins.spelled_maps(digits, 8))
    mean = frame[frame.metric == lesson.RANK].groupby("method").value.mean()
    for same in ("gradient", "gradient x input", "Integrated Gradients"):
        assert mean[f"{same} vs {same} of the twin"] > 0.9999
    assert mean["DeepLIFT vs DeepLIFT of the twin"] < 0.98
    assert mean["Guided Backpropagation vs Guided Backpropagation of the twin"] < 0.8
    assert one(frame[frame["sample"] == digits.samples.ids[0]], "largest difference of the logits", "twin") < 1e-4


# --- axioms -----------------------------------------------------------------------------------------------------------

VIOLATED = {
    "completeness": {"gradient", "gradient x input", "SmoothGrad"},
    "sensitivity (a)": {"gradient", "gradient x input", "SmoothGrad"},
    "sensitivity (b)": {"DeepLIFT"},
    "dummy player": {"gradient", "gradient x input", "SmoothGrad", "DeepLIFT"},
    "implementation invariance": {"DeepLIFT"},
    "linearity": set(),
    "symmetry preservation": {"DeepLIFT"},
}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_what_the_page_says_about_axioms(seed):
    frame = axioms.axiom_rows(4, seed)
    table = frame.pivot_table(index="method", columns="metric", values="value")
    for axiom, failing in VIOLATED.items():
        for method in axioms.CHECKED:
            few, many = table.loc[f"{method} | {axiom}", [axioms.METRIC, axioms.LATER]]
            assert (axioms.verdict(few, many) == "violated") == (method in failing), (axiom, method, few, many)
    assert len(checked(frame)) == 2 * len(axioms.AXIOMS) * len(axioms.CHECKED)


def test_violations_have_the_size_that_follows_from_the_functions():
    """Slow twins of single checks, from the formulas alone."""
    x = axioms.points(2, 3)
    f = (3 * torch.relu(2 * x[:, 0] - x[:, 1]) - 2 * torch.relu(-x[:, 0] + x[:, 1] - 1)) - 0
    slope = torch.tensor([[6.0, -3.0]]) * (2 * x[:, :1] > x[:, 1:]) + torch.tensor([[2.0, -2.0]]) * (x[:, 1:] - x[:, :1] > 1)
    own = [float((slope.sum(1) - f).abs().max()), float((x.sum(1) - x.prod(1)).abs().max())]
    own += [float((2 * x.sum(1) - (x**2).sum(1)).abs().max())]
    y = axioms.points(1, 3)
    own += [float(((y < 1).double() - 1 + torch.relu(1 - y)).abs().max())]
    assert axioms.completeness("gradient", 4, 3) == pytest.approx(max(own))
    assert axioms.sensitivity("gradient", 4, 3) == pytest.approx(1)  # all of the rise from 0 to 1 is left out
    assert axioms.sensitivity("Integrated Gradients", 4, 3) == 0
    made = []
    for a, b in axioms.active(3).tolist():  # late: 1.5 shares in general, early: exact; the difference in closed form
        out = a - 1 - b
        ratio = out / (out + 1)  # delta of the outer rectifier: from -1 to out, of which the part above 0 counts
        made.append(max(abs(ratio * a - (a - 1)), abs(-ratio * b + b)))
    assert axioms.invariance("DeepLIFT", 4, 3) == pytest.approx(max(made))
    assert axioms.null_player("DeepLIFT", 4, 3) == pytest.approx(max(made))
    assert axioms.dummy_player("DeepLIFT", 4, 3) == pytest.approx(max(made))  # exact for the other functions
    z = axioms.active(3).flip(1)
    dummy = [abs(2 * v - v**2) for v in z.flatten().tolist()]
    assert axioms.dummy_player("gradient", 4, 3) >= max(dummy) - 1e-12


def test_references_of_expected_gradients_are_those_the_method_drew():
    x = axioms.points(2, 0)
    made = axioms.explained("Expected Gradients", toys.linear([[2.0, -3.0]]), x, 3, 5)
    mean = torch.stack(axioms.references("Expected Gradients", x, 5)).mean(0)
    assert torch.allclose(made, torch.tensor([2.0, -3.0]) * (x - mean))
    assert len(mean.unique()) > 1  # they differ from point to point


@pytest.mark.parametrize(
    ("few", "many", "word"),
    [
        (0, 1e-12, "holds"),
        (1e-12, 0.1, "violated"),
        (0.2, 0.1, "in the limit"),
        (0.2, 0.11, "violated"),
        (0.5, 0, "in the limit"),
    ],
)
def test_verdicts(few, many, word):
    assert axioms.verdict(few, many) == word


# --- what a reader sees -----------------------------------------------------------------------------------------------


@pytest.fixture
def shown(monkeypatch):
    seen = {}
    monkeypatch.setattr(plotting, "show", lambda figure, *, name, caption, alt: seen.update({name: (figure, caption, alt)}))
    monkeypatch.setattr(plotting, "table", lambda frame, *, caption, name, digits=3: seen.update({name: (frame, caption, "")}))
    return seen


def test_tables_say_what_was_computed(shown):
    row = {"metric": axioms.METRIC, "method": "gradient | completeness"}
    frame = pd.DataFrame([{**row, "value": 2.0}, {**row, "metric": axioms.LATER, "value": 2.0}])
    others = [
        {"metric": metric, "method": f"{method} | {axiom}", "value": value}
        for axiom in axioms.AXIOMS
        for method in axioms.CHECKED
        for metric, value in ((axioms.METRIC, 0.4), (axioms.LATER, 0.01))
        if (method, axiom) != ("gradient", "completeness")
    ]
    tables.axioms(pd.concat([frame, pd.DataFrame(others)]))
    cells = shown["axioms"][0].set_index("axiom")
    assert cells.loc["completeness", "gradient"] == "**violated** 2.0"
    assert cells.loc["linearity", "DeepLIFT"] == "**in the limit** 0.40 → 0.010"
    tables.twins(twins.twin_maps())
    unequal = shown["toy-twins"][0].query("not equal")
    assert unequal[["pair", "method"]].to_numpy().tolist() == [
        ["late and early bias", "DeepLIFT"], ["mirrored rectifier", "Guided Backpropagation"],
    ]  # fmt: skip
    assert unequal.iloc[0]["second net"] == "(2.00, −1.00)"


def test_the_figure_of_saturation_tells_the_numbers_of_the_library(shown):
    figures.saturation()
    assert "the gradient is 0 and gradient times input 0" in shown["saturation"][2]
    assert shown["saturation"][2].endswith("Integrated Gradients, is 1.00.")


@pytest.mark.slow
def test_the_whole_page_in_small(digits, shown):
    p = {"n_digits": 2, "n_photos": 2, "photo_size": 64, "seed": 0, "max_batch": 0}
    cases = lesson.open_cases(p)
    assert [c.samples.name for c in cases] == ["mnist_5k", "photos"]
    assert cases[1].samples.ids == lesson.PHOTOS[:2]
    lines = [lesson.line(c, [*lesson.POSITIONS, *lesson.EARLY]) for c in cases]
    local = pd.concat([lesson.local_rows(c, made) for c, made in zip(cases, lines, strict=True)])
    gaps = lesson.gap_rows(cases[1], [1, 2], lines[1])
    starts = [lesson.baseline_maps(c, 1) for c in cases]
    ways = [lesson.path_maps(c, 2) for c in cases]
    of_ways = pd.concat([lesson.path_rows(c, made) for c, made in zip(cases, ways, strict=True)])
    dark = lesson.dark_rows(cases[1], starts[1])
    smooth = noise.noise_maps(cases[1].first(2), 2, 0.15)
    shares = noise.share_rows(cases[1], smooth)
    figures.cuts(cases, lines)
    figures.gaps(cases[1], gaps, [1, 2])
    figures.start_pictures(cases, starts)
    figures.paths(cases[1], ways[1], of_ways, range(2))
    figures.ensembles(cases[1], smooth, shares)
    tables.noise(local)
    tables.dark(dark)
    tables.paths(of_ways)
    empty = float((starts[0]["black"][0] == 0).double().mean())
    assert f"exactly zero on {plotting.number(empty, 2)} of the digit's" in shown["baselines"][2]
    assert len(shown["baselines"][0].axes) == 2 * 2 * 7 + 1
    assert shown["path-agreement"][0].shape == (6, 4)
    assert all(15 <= len(alt) <= 250 for _, _, alt in shown.values() if alt)
    checked(pd.concat([local, gaps, of_ways, dark, shares]))
