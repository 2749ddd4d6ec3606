"""Rows, axioms and families of nets, measured for the pages of methods and metrics."""

import math
import warnings

import pytest
import torch

from xai_lib import METHODS, METRICS, toys
from xai_lib.compendium import book_measured as measured
from xai_lib.errors import InputError
from xai_lib.registry import Registry
from xai_lib.studies import foundations_gradients_axioms as lesson

pytestmark = pytest.mark.slow

WINDOWS = math.ceil((measured.SIDE - 6) / 3) + 1
"""Occlusion at 96 pixels: a patch of 15 * 96 / 224 = 6 pixels every 3."""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gradient", (0, 1)),
        ("integrated_gradients", (0, 50)),
        ("smoothgrad", (0, 25)),
        ("vargrad", (0, 25)),
        ("random_attribution", (0, 0)),
        ("cam", (1, 0)),
        ("deeplift", (1, 1)),
        ("expected_gradients", (0, 150)),
        ("rise", (4000, 0)),
        ("shapley_values", (2**9, 0)),
        ("kernel_shap", (1002, 0)),
        ("occlusion", (WINDOWS**2 + 1, 0)),
        ("lime_tabular", (5000, 0)),
        ("sparseness", (0, 0)),
        ("completeness_gap", (2, 0)),
        ("insertion", (29, 0)),
        ("insertion_deletion", (57, 0)),
        ("sensitivity_n", (1001, 0)),
    ],
)
def test_rows_are_those_of_the_formula(name, expected):
    assert measured.rows(name) == expected


def test_rows_of_every_entry_are_known():
    told = {name: measured.rows(name) for name in [*METHODS, *METRICS] if isinstance(measured.rows(name), str)}
    assert told == {}


def test_controls_cost_nothing_and_others_something():
    for name, entry in METHODS.items():
        assert (sum(measured.rows(name)) == 0) == bool(entry.traits.get("control")), name


def test_a_request_that_cannot_be_met_is_told_in_words(monkeypatch):
    broken = Registry("method")

    @broken.register(label="Refuses", cite="none")
    def refuses(model, inputs, targets):
        raise InputError("takes no pictures\nat all")

    monkeypatch.setattr(measured, "METHODS", broken)
    assert measured.rows("refuses") == "takes no pictures"


@pytest.mark.parametrize("which", measured.AXIOMS)
@pytest.mark.parametrize("name", ["integrated_gradients", "shapley_values"])
def test_axiomatic_methods_violate_nothing(name, which):
    assert measured.axiom(name, which) in ("holds", "in the limit")


@pytest.mark.parametrize(
    ("name", "which"),
    [
        ("gradient", "Complete"),
        ("input_x_gradient", "Complete"),
        ("credible_path_attribution", "Complete"),
        ("lime_image", "Complete"),
        ("deeplift", "Implementation invariant"),
        ("deeplift", "Null player"),
        ("guided_backprop", "Implementation invariant"),
        ("deconvnet", "Implementation invariant"),
        ("saliency", "Linear"),
        ("contrastive_gradient", "Linear"),
        ("guided_integrated_gradients", "Linear"),
        ("random_attribution", "Symmetric"),
        ("centre_gaussian", "Null player"),
        ("rise", "Null player"),
    ],
)
def test_known_violations_are_found(name, which):
    assert measured.axiom(name, which) == "violated"


def test_sums_of_samples_hold_in_the_limit():
    assert measured.axiom("guided_integrated_gradients", "Complete") == "in the limit"
    assert measured.axiom("smoothgrad", "Symmetric") == "in the limit"
    assert measured.axiom("blur_integrated_gradients", "Complete") == "in the limit"  # its own start


def test_no_trait_is_contradicted():
    """What the registry says of a method and tests check on pictures is not violated on functions of two features."""
    for name, entry in METHODS.items():
        for trait, which in (("complete", "Complete"), ("linear", "Linear")):
            if entry.traits.get(trait):
                assert measured.axiom(name, which) != "violated", (name, which)


def test_a_table_method_and_a_silent_method_are_not_judged():
    assert measured.axiom("lime_tabular", "Complete") == "–"
    assert measured.axiom("cam", "Null player") == "–"
    with pytest.raises(InputError, match="the map is zero"):
        measured.explained("gradient", toys.constant(), measured._pictures(measured.SMALL))


SAME = {"completeness": "Complete", "sensitivity (b)": "Null player", "linearity": "Linear"}
NAMES = {"gradient": "gradient", "DeepLIFT": "deeplift", "Integrated Gradients": "integrated_gradients"}


@pytest.mark.parametrize("label", NAMES)
@pytest.mark.parametrize("axiom", SAME)
def test_agrees_with_the_lesson(label, axiom):
    few, many = (lesson.AXIOMS[axiom](label, count, 0) for count in (16, 1024))
    found, expected = measured.axiom(NAMES[label], SAME[axiom]), lesson.verdict(few, many)
    assert (found == "violated") == (expected == "violated")


def test_broken_methods_are_caught(monkeypatch):
    """Half of a complete map is not complete; a map with something on every pixel breaks the null player; one of squares is
    not linear; the left half twice is not symmetric."""
    broken = Registry("method")
    own = METHODS.bind("integrated_gradients", steps=300)

    @broken.register(label="a", cite="none")
    def half(model, inputs, targets):
        return own(model, inputs, targets) / 2

    @broken.register(label="b", cite="none")
    def lifted(model, inputs, targets):
        return own(model, inputs, targets) + 0.01

    @broken.register(label="c", cite="none")
    def squared(model, inputs, targets):
        return own(model, inputs, targets) ** 2

    @broken.register(label="d", cite="none")
    def lopsided(model, inputs, targets):
        made = own(model, inputs, targets)
        return torch.cat([2 * made[..., : measured.SMALL // 2], made[..., measured.SMALL // 2 :]], dim=3)

    monkeypatch.setattr(measured, "METHODS", broken)
    assert measured.axiom("half", "Complete") == "violated"
    assert measured.axiom("lifted", "Null player") == "violated"
    assert measured.axiom("squared", "Linear") == "violated"
    assert measured.axiom("lopsided", "Symmetric") == "violated"
    assert measured.axiom("half", "Linear") == "holds"


def test_families_say_what_the_library_does():
    found = measured.families()
    assert set(found) == {name for name, entry in METHODS.items() if not entry.traits.get("table")}
    assert found["cam"]["any function"] == "refused"
    assert found["guided_backprop"]["shared ReLU6, residual"] == "repaired"
    assert found["deeplift"]["SiLU"] == "repaired"
    assert set(found["rise"].values()) == {"accepted"}
    assert not any("failed" in row.values() for row in found.values())


def test_threads_are_given_back():
    before = torch.get_num_threads()
    with warnings.catch_warnings():
        measured.axiom("gradient", "Symmetric")
    assert torch.get_num_threads() == before
