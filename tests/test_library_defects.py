"""Where the libraries underneath are silently wrong: each script gives the right answer beside theirs, and they differ today.

`strict=True`: when a release repairs one of them its test passes, this suite turns red, and the workaround and the entry of the
page about it can go.
"""

import inspect

import numpy as np
import pytest
import torch

from xai_lib.compendium import defects
from xai_lib.compendium.catalogue import Shown
from xai_lib.compendium.defects import DEFECTS, of_quantus
from xai_lib.errors import ConfigError


def cases():
    for number, one in DEFECTS.items():
        reason = f"{number}, {one.source} {one.version}: {one.what}"
        yield pytest.param(one, id=number, marks=pytest.mark.xfail(strict=True, raises=AssertionError, reason=reason))


@pytest.mark.parametrize("one", list(cases()))
def test_the_library_is_right(one):
    shown = one.run()
    assert shown.agree, shown


def test_every_defect_is_described_and_its_script_can_be_read():
    numbers = list(DEFECTS)
    assert len(numbers) >= 27
    for one in DEFECTS.values():
        assert len(one.what) > 30, one.number
        assert (one.what[-1], one.here[-1]) == (".", "."), one.number
        assert "Shown(" in one.code.splitlines()[-1], one.number
        assert not {"@defect", '"""'} & set(one.code.split()), one.number
        assert len(one.code.splitlines()) <= 16, one.number


def test_a_script_leaves_generators_warnings_and_output_alone(capsys, recwarn):
    torch_state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    for number in ("D7", "D13", "D20"):
        DEFECTS[number].run()
    assert torch.equal(torch_state, torch.random.get_rng_state())
    assert np.array_equal(numpy_state, np.random.get_state()[1])  # noqa: NPY002
    assert capsys.readouterr() == ("", "")
    assert not recwarn.list


@pytest.mark.parametrize(
    ("right", "found", "agree"),
    [
        (1.0, 1.0005, True), (1.0, 1.002, False), (0.0, 0.0, True), ([1.0, 2.0], [1.0, 2.0], True), ([1.0], [1.0, 2.0], False),
        ([1.0, 2.0], [1.0, 2.1], False), (True, 1.0, False), ([True], [True], True), ("an error", "an error", True),
        ("1.0", 1.0, False), (1.0, float("nan"), False), (2, 2, True), (6.0, float("inf"), False),
    ],
)  # fmt: skip
def test_answers_are_compared_as_numbers_lists_or_texts(right, found, agree):
    assert Shown(right, found).agree is agree


def test_a_number_is_entered_once():
    with pytest.raises(ValueError, match="D9 is entered twice: trapezoid and again"):

        @defects.DEFECTS.enter("D9", "captum", here="Nothing.")
        def again():
            """Nothing."""


# --- what is not silently wrong, but said otherwise than done -----------------------------------------------------------------


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="D19: Quantus's text promises Spearman, its code is Pearson")
def test_quantus_faithfulness_estimate_does_what_its_text_says():
    import quantus

    assert "default=correlation_spearman" in (inspect.getdoc(quantus.FaithfulnessEstimate.__init__) or "")
    made = of_quantus.metric("FaithfulnessEstimate")
    assert made.similarity_func is quantus.similarity_func.correlation_spearman


def test_d19_is_right_with_the_value_zero():
    """The way round that the library of this project is checked against."""
    own = of_quantus.metric("FaithfulnessEstimate", perturb_baseline=0.0, normalise=False)
    x, w = of_quantus.X, of_quantus.W
    found = own(of_quantus.linear(4, 3, 2, 1), x, np.array([0]), a_batch=w * x, softmax=False)
    assert found == pytest.approx([1.0])


# --- the page -----------------------------------------------------------------------------------------------------------------


def test_the_page_has_every_script_of_the_libraries_that_were_asked_for(monkeypatch):
    from xai_lib.studies import catalogue_pages as page

    displayed = []
    monkeypatch.setattr(page, "display", lambda data, raw: displayed.append(data["text/markdown"]))
    found = page.run(DEFECTS, ["lime"])
    assert list(found) == ["D15", "D21"]
    page.scripts(found, "lime", there="found")
    page.scripts(found, "captum", there="found")
    assert displayed[0].count(":::{dropdown}") == 2
    assert "explainer = LimeTabularExplainer(" in displayed[0]
    assert "Right: [0]. Found: [1]." in displayed[0]
    assert displayed[1] == "Not asked for in this run."
    rows = page.rows(found)
    assert rows[["method", "value"]].to_numpy().tolist() == [["D15", 0.0], ["D21", 0.0]]
    with pytest.raises(ConfigError, match="unknown source of this catalogue 'capitum': did you mean 'captum'"):
        page.run(DEFECTS, ["capitum"])
