"""Figures and tables: what is drawn, what is hidden, and what a cell displays."""

import base64
import io
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import colormaps, rcParams
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from xai_lib import contours, plotting
from xai_lib.errors import ConfigError, InputError
from xai_lib.plotting import output, style
from xai_lib.stats import Estimate
from xai_lib.types import Samples

NAN = float("nan")
COLOUR = torch.tensor([1.0, 0.0, 1.0])
"""Pure magenta, which occurs in no colour map and no style: a picture of it can be found in a rendered figure."""


@pytest.fixture
def samples() -> Samples:
    images = COLOUR[None, :, None, None].expand(3, 3, 12, 12).clone()
    return Samples(images, torch.tensor([0, 1, 5]), ("a", "b", "c"), ("tench, fish", "cup"), "magenta", "none", False)


def pixels(figure: Figure) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(output.png(figure))))


def shows_picture(figure: Figure) -> bool:
    image = pixels(figure)[..., :3]
    return bool((image == np.array([255, 0, 255])).all(axis=-1).sum() > 50)


def maps_of(*labels: str) -> dict[str, torch.Tensor]:
    return {label: torch.randn(3, 12, 12, generator=torch.Generator().manual_seed(i)) for i, label in enumerate(labels)}


def picture_figures(samples: Samples) -> dict[str, Figure]:
    record = contours.pipeline(torch.rand(12, 12, generator=torch.Generator().manual_seed(0)))
    return {
        "attribution_grid": plotting.attribution_grid(samples, maps_of("gradient")),
        "interpolation_strip": plotting.interpolation_strip(samples.inputs, [0, 0.5, 1], samples),
        "picture_rows": plotting.picture_rows({"a": samples.inputs}, ["1", "2", "3"], samples),
        "contour_pipeline": plotting.contour_pipeline(record, samples.inputs[0], samples),
    }


@pytest.mark.parametrize(
    ("published", "redistributable", "drawn"), [("0", False, True), ("1", True, True), ("1", False, False)]
)
def test_pictures_of_a_published_run_are_drawn_only_where_they_may_be(samples, monkeypatch, published, redistributable, drawn):
    monkeypatch.setenv("XAI_PUBLISH", published)
    for name, figure in picture_figures(replace(samples, redistributable=redistributable)).items():
        assert shows_picture(figure) is drawn, name
        texts = [text.get_text() for text in figure.findobj(Text)]
        assert any("picture not" in text for text in texts) is not drawn


@pytest.mark.parametrize(("columns", "said"), [(1, True), (10, False)])
def test_a_panel_too_small_for_the_note_stays_empty(samples, monkeypatch, columns, said):
    monkeypatch.setenv("XAI_PUBLISH", "1")
    figure = style.figure(2.0, layout="compressed")
    for ax in figure.subplots(1, columns, squeeze=False).flat:
        plotting.picture(ax, samples.inputs[0], replace(samples, redistributable=False))
    assert not shows_picture(figure)
    assert bool(figure.findobj(lambda one: isinstance(one, Text) and "not\nredis" in one.get_text())) is said


def chart_figures() -> dict[str, Figure]:
    points = [Estimate(v, v - 0.1, v + 0.1, 9) for v in (0.2, 0.5, 0.4)]
    return {
        "estimates": plotting.estimates([("black", points[0]), ("white", points[1])], xlabel="x", published={"white": 0.6}),
        "curve": plotting.curve([1, 5, 10], {"uniform": points}, xlabel="x", ylabel="y", log=True),
        "matrix": plotting.matrix([[1.0, -0.2], [NAN, 1.0]], ["a", "b"], xlabel="rho"),
        "top_values": plotting.top_values({"one": torch.arange(20.0), "ten": torch.arange(20.0)}),
        "scatter_regression": plotting.scatter_regression([1.0, 2.0, 3.0, 5.0], [1.0, 2.5, 2.0, 5.0], xlabel="x", ylabel="y"),
    }


def test_every_figure_is_opaque_wide_readable_and_inside_its_frame(samples):
    for name, figure in (picture_figures(samples) | chart_figures()).items():
        image = pixels(figure)
        assert image.shape[1] == 1050, name
        assert image.shape[2] == 3 or bool((image[..., 3] == 255).all()), name
        frame = figure.bbox
        for text in figure.findobj(Text):
            if text.get_text().strip() and text.get_visible():
                assert text.get_fontsize() >= 7.5, (name, text.get_text())
                box = text.get_window_extent()
                inside = frame.x0 - 1 <= box.x0 and box.x1 <= frame.x1 + 1 and frame.y0 - 1 <= box.y0 and box.y1 <= frame.y1 + 1
                # ticks beyond the limits of an axis exist but are not drawn
                assert inside or text.axes is None or text in _ticks(figure), (name, text.get_text(), box)


def _ticks(figure: Figure) -> list[Text]:
    return [label for ax in figure.axes for label in (*ax.get_xticklabels(which="both"), *ax.get_yticklabels(which="both"))]


def test_global_settings_are_left_alone(samples):
    before = dict(rcParams)
    picture_figures(samples)
    chart_figures()
    assert dict(rcParams) == before


def test_signed_maps_are_symmetric_and_positive_maps_start_at_zero(samples):
    signed = torch.full((3, 12, 12), 0.5)
    signed[:, 0] = -2.0
    figure = plotting.attribution_grid(samples, {"signed": signed, "positive": signed.abs()}, rows=[1], clip=1.0)
    _, first, second = (ax.images[0] for ax in figure.axes[:3])
    assert (first.get_clim(), first.get_cmap().name) == ((-1, 1), "RdBu_r")
    assert (second.get_clim(), second.get_cmap().name) == ((0, 1), "viridis")
    assert first.get_array().min() == -1.0
    assert first.get_array().max() == 0.25
    assert len(figure.axes) == 3 + 2


def test_grid_breaks_many_maps_into_lines_and_names_the_class(samples):
    figure = plotting.attribution_grid(samples, maps_of(*(f"map {i}" for i in range(8))), rows=[0, 2])
    titles = [ax.get_title() for ax in figure.axes]
    assert [titles.count(f"map {i}") for i in range(8)] == [2] * 8
    names = [ax.get_xlabel() for ax in figure.axes if ax.get_xlabel()]
    assert names[:2] == ["tench", "5"]
    undefined = maps_of("broken")
    undefined["broken"][0, 0, 0] = NAN
    texts = [t.get_text() for t in plotting.attribution_grid(samples, undefined, rows=[0]).findobj(Text)]
    assert "undefined" in texts
    with pytest.raises(InputError, match=r"expected \(3, h, w\)"):
        plotting.attribution_grid(samples, {"short": torch.zeros(2, 12, 12)})


def test_contour_figure_reports_the_area_and_the_fallback(samples):
    scattered = torch.zeros(12, 12)
    scattered[1, 1], scattered[10, 10] = 1.0, 1.0
    record = contours.pipeline(scattered, fraction=2 / 144, dilate_iterations=0)
    titles = [ax.get_title() for ax in plotting.contour_pipeline(record, samples.inputs[0], samples).axes]
    assert "skipped" in titles[2]
    assert titles[5] == f"6  Hull patch, {100 * record.patch.mean():.0f} % of image"


def test_published_values_are_hollow_and_lie_on_their_row():
    figure = chart_figures()["estimates"]
    diamond = next(line for line in figure.axes[0].get_lines() if line.get_marker() == "D")
    assert diamond.get_xydata().tolist() == [[0.6, 1.0]]
    assert diamond.get_markerfacecolor() == "none"
    texts = [text.get_text() for text in figure.findobj(Text)]
    assert texts.count("n = 9") == 2
    assert "published" in texts
    with pytest.raises(InputError, match="grey"):
        plotting.estimates([("black", Estimate(1.0, 0.0, 2.0, 3))], xlabel="x", published={"grey": 1.0})


def test_estimates_from_a_frame_are_those_from_pairs():
    frame = pd.DataFrame({"label": ["a"], "value": [0.5], "low": [0.25], "high": [0.75], "n": [4]})
    one = plotting.estimates(frame, xlabel="x").axes[0].collections[0].get_segments()
    other = plotting.estimates([("a", Estimate(0.5, 0.25, 0.75, 4))], xlabel="x").axes[0].collections[0].get_segments()
    assert one[0].tolist() == other[0].tolist() == [[0.25, 0.0], [0.75, 0.0]]
    with pytest.raises(InputError, match="lacks columns"):
        plotting.estimates(frame.drop(columns="low"), xlabel="x")


def test_curve_draws_a_band_and_marks_points_without_interval_hollow():
    points = [Estimate(0.2, 0.1, 0.3, 9), Estimate(0.5, NAN, NAN, 1)]
    axes = plotting.curve([1, 50], {"a": points}, xlabel="x", ylabel="y", log=True).axes[0]
    band = axes.collections[0].get_paths()[0].vertices
    assert {(1.0, 0.1), (1.0, 0.3)} <= {tuple(vertex) for vertex in band.round(6)}
    hollow = axes.get_lines()[1]
    assert (hollow.get_xdata().tolist(), hollow.get_markerfacecolor()) == ([50], "white")
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "50"]
    with pytest.raises(InputError, match="2 positions"):
        plotting.curve([1, 2], {"a": points[:1]}, xlabel="x", ylabel="y")


def test_curve_draws_every_run_behind_an_estimate():
    points = [Estimate(0.2, 0.1, 0.3, 2), Estimate(0.5, 0.4, 0.6, 2)]
    runs = np.array([[0.1, 0.4], [0.3, 0.6]])
    axes = plotting.curve([1, 2], {"a": points}, xlabel="x", ylabel="y", each={"a": runs}).axes[0]
    dots = [line.get_ydata().tolist() for line in axes.get_lines() if line.get_marker() == "."]
    assert dots == runs.tolist()


def test_picture_rows_have_a_label_each_and_titles_above_the_first(samples):
    rows = {"one": samples.inputs[:2], "another": samples.inputs[:2]}
    figure = plotting.picture_rows(rows, ["10 %", "90 %"], samples)
    assert [ax.get_title() for ax in figure.axes] == ["10 %", "90 %", "", ""]
    assert [ax.get_ylabel() for ax in figure.axes] == ["one", "", "another", ""]
    with pytest.raises(InputError, match="1 titles"):
        plotting.picture_rows(rows, ["10 %"], samples)


@pytest.mark.parametrize("n", [1, 3, 6])
def test_numbers_in_neighbouring_cells_do_not_touch(n):
    """The longest text that occurs: a negative estimate with a negative interval."""
    cell = Estimate(-0.11, -0.16, -0.06, 200)
    figure = plotting.matrix(
        [[cell] * n] * 2, ["SmoothGrad squared", "b"], columns=[str(k) for k in range(n)], xlabel="similarity"
    )
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts[:n]]
    assert len(boxes) == n
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_matrix_writes_intervals_dashes_and_readable_text():
    cells = [[Estimate(0.5, 0.4, 0.6, 9), Estimate(NAN, NAN, NAN, 0)], [Estimate(1.0, 1.0, 1.0, 9), Estimate(0.0, 0.0, 0.0, 9)]]
    figure = plotting.matrix(cells, ["a", "b"], xlabel="overlap")
    written = {text.get_text(): text.get_color() for text in figure.axes[0].texts}
    assert set(written) == {"0.50\n[0.40, 0.60]", "–", "1.00\n[1.00, 1.00]", "0.00\n[0.00, 0.00]"}
    assert (written["1.00\n[1.00, 1.00]"], written["0.00\n[0.00, 0.00]"]) == ("white", "black")
    assert figure.axes[0].images[0].get_clim() == (0, 1)
    assert chart_figures()["matrix"].axes[0].images[0].get_clim() == (-1, 1)
    with pytest.raises(InputError, match="do not fit"):
        plotting.matrix([[1.0]], ["a", "b"], xlabel="x")


def test_top_values_are_the_largest_in_order():
    axes = plotting.top_values({"one": torch.tensor([[3.0, -1.0], [7.0, 5.0]])}, k=3).axes[0]
    assert [bar.get_height() for bar in axes.patches] == [7.0, 5.0, 3.0]


def test_regression_line_goes_through_the_means_and_states_its_interval():
    figure = plotting.scatter_regression([0.0, 1.0, 2.0, NAN], [1.0, 3.0, 5.0, 1.0], xlabel="x", ylabel="y")
    line = figure.axes[0].get_lines()[1]
    assert line.get_xydata().tolist() == [[0.0, 1.0], [2.0, 5.0]]
    assert figure.axes[0].get_title(loc="left") == "slope 2.00 [2.00, 2.00], n = 3"


def test_colour_maps_exist_and_line_styles_differ():
    assert {style.SIGNED, style.POSITIVE, style.CELLS} <= set(colormaps)
    assert len(set(style.line_styles(7))) == 7


@pytest.fixture
def displayed(monkeypatch) -> list:
    shown: list = []
    monkeypatch.setattr(output, "display", lambda data, **rest: shown.append((data, rest)))
    return shown


WORDS = {"name": "fig-dots", "caption": "Two dots.", "alt": "Two dots, the right one 0.500 higher."}


def test_show_displays_one_png_with_its_words(displayed):
    figure = Figure()
    figure.subplots().plot([1, 2], "o")
    assert plotting.show(figure, **WORDS) is None
    ((data, rest),) = displayed
    assert rest == {"raw": True, "metadata": {"xai": WORDS}}
    assert set(data) == {"image/png", "text/plain"}
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert not figure.axes


def test_equal_figures_give_equal_bytes():
    assert output.png(chart_figures()["curve"]) == output.png(chart_figures()["curve"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alt": "short"}, "5 characters"),
        ({"alt": "x" * 251}, "251 characters"),
        ({"alt": "The mean is nan for all methods."}, "'nan'"),
        ({"alt": "The mean is np.float64(0.5) here."}, "'np.'"),
        ({"alt": WORDS["caption"] * 3, "caption": WORDS["caption"] * 3}, "repeats the caption"),
        ({"caption": " "}, "caption is empty"),
        ({"name": "Fig 1"}, "lower case"),
    ],
)
def test_show_refuses_words_that_would_fail_in_the_book(displayed, change, message):
    with pytest.raises(ConfigError, match=message):
        plotting.show(Figure(), **(WORDS | change))
    assert displayed == []


def test_table_is_myst_with_rounded_numbers_and_a_note_on_dashes(displayed):
    frame = pd.DataFrame(
        {
            "method": ["IG | black", "uniform"],
            "mean": [np.float64(0.123456), NAN],
            "n": np.array([20, 0]),
            "estimate": [Estimate(0.5, 0.4, 0.6, 20), Estimate(NAN, NAN, NAN, 0)],
        }
    )
    plotting.table(frame, caption="Gap per method", name="tab-gap", undefined="no image had a gap")
    text = displayed[0][0]["text/markdown"]
    assert text == (
        ":::{table} Gap per method\n:name: tab-gap\n\n"
        "| method | mean | n | estimate |\n| :--- | ---: | ---: | :--- |\n"
        "| IG \\| black | 0.123 | 20 | 0.500 [0.400, 0.600], n = 20 |\n"
        "| uniform | – | 0 | – (no values) |\n:::\n\n– : no image had a gap\n"
    )
    with pytest.raises(ConfigError, match="no rows"):
        plotting.table(frame[:0], caption="Gap", name="tab-gap")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.float64(0.5), "0.500"),
        (np.float32(-0.25), "−0.250"),
        (torch.tensor(2.0), "2.00"),
        (np.int64(-7), "−7"),
        (np.bool_(True), "yes"),
        (123.4, "123"),
        (99999.0, "1.00 × 10⁵"),
        (3e-12, "3.00 × 10⁻¹²"),
        (math.inf, "∞"),
        (None, "–"),
        ("black", "black"),
    ],
)
def test_number(value, text):
    assert plotting.number(value) == text


def test_estimate_text_never_shows_a_value_without_its_uncertainty():
    assert plotting.estimate_text(Estimate(-0.5, -0.6, 0.1, 3)) == "−0.500 [−0.600, 0.100], n = 3"
    assert plotting.estimate_text(Estimate(NAN, NAN, NAN, 0, 4)) == "– (no values, 4 undefined)"
