"""Errors of the documents: every script shows a difference, and the right answers are those of the definitions."""

import math

import numpy as np
import pytest

from xai_lib.compendium.errata import ERRATA


@pytest.mark.parametrize("number", ERRATA)
def test_what_is_printed_differs_from_what_follows(number):
    one = ERRATA[number]
    assert not one.run().agree
    assert one.run() == one.run() or number == "E1.7"  # NaN differs from itself
    assert one.what[-1] in ".:"
    assert one.here.endswith(".")
    assert one.place
    assert len(one.code.splitlines()) <= 16


RIGHT = {
    "E0.5": [],
    "E0.6": "17 of 32 cells, 19 by the text's directions",
    "E0.7": "3 of 4",
    "E1.1": [3.0, 4.5, 13.0, 7.0],
    "E1.2": 8.0,
    "E1.3": [[4.0, 1.0], [8.0, 2.0]],
    "E1.7": [1.0, 0.0, -0.25, 0.0],
    "E1.8": -0.5,
    "E1.11": 0.1,
    "E1.13": [0.061, 0.059, 0.013],
    "E2.6": 11.35,
    "E2.6 b": 1,
    "E2.7": 72.71,
    "E2.8": 4,
    "E3.2": 0.4,
}


@pytest.mark.parametrize("number", RIGHT)
def test_the_right_answers_are_those_of_the_cards(number):
    made, expected = ERRATA[number].run().right, RIGHT[number]
    if isinstance(expected, str):
        assert made == expected
    else:
        assert np.asarray(made) == pytest.approx(np.asarray(expected), rel=1e-5)


def test_what_is_there():
    found = {number: ERRATA[number].run().found for number in ("E0.5", "E1.7", "E1.8", "E1.11", "E2.4", "E3.2", "E4.1", "E4.2")}
    assert found["E0.5"] == [20, 50]
    assert all(math.isnan(value) for value in found["E1.7"])
    assert found["E1.8"] == pytest.approx(0.75)
    assert found["E1.11"] == pytest.approx(0.02, rel=1e-4)
    assert found["E2.4"] == 1.0
    assert found["E3.2"] == 0.0
    assert found["E4.1"] == "sepal length (cm)"
    assert found["E4.2"] - 20 == pytest.approx(math.sqrt(math.pi / 2 * 0.01 * 20), abs=0.05)  # Rayleigh
