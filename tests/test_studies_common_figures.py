"""Figures that several studies share: what their alternative text says."""

import pandas as pd
import pytest

from xai_lib.plotting import output
from xai_lib.studies import common_figures


@pytest.mark.parametrize(
    ("sizes", "said"), [((4, 4), "n = 4 images each."), ((4, 7), "n = 4 to 7 images."), ((7, 4), "n = 4 to 7 images.")]
)
def test_a_forest_says_of_how_many_images_its_conditions_are(monkeypatch, sizes, said):
    shown = []
    monkeypatch.setattr(output, "display", lambda data, **own: shown.append(own["metadata"]["xai"]["alt"]))
    rows = [{"metric": "score", "method": m, "value": k + n} for n, m in zip(sizes, "ab", strict=True) for k in range(n)]
    common_figures.forest(pd.DataFrame(rows), "score", ["a", "b"], words=("score", "Scores of two conditions."), name="scores")
    (alt,) = shown
    assert alt.endswith(f"2 conditions with 95 % intervals, {said}")
