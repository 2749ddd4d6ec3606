"""HOG and LBP of document 004 against known answers and plain loops, and their figures."""

import itertools
import math

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from xai_lib import data, features
from xai_lib.errors import ConfigError, InputError
from xai_lib.plotting import features as drawn
from xai_lib.plotting.output import png
from xai_lib.types import Samples

ROW, COLUMN = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")


def one(picture):
    return picture.float().reshape(1, 1, *picture.shape)


def some_digits(n=4):
    return data.load("mnist_5k", split="test", n=n)


# --- HOG: known answers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("picture", "bin_", "stroke"),
    [
        (COLUMN / 27, 0, 100.0),  # gets brighter rightwards: standing edges
        (1 - COLUMN / 27, 0, 100.0),  # and leftwards: the same
        (ROW / 27, 4, 0.0),  # downwards: lying edges
        ((ROW + COLUMN) / 54, 2, 140.0),  # towards the lower right: edges like "/"
        ((27 - ROW + COLUMN) / 54, 6, 40.0),  # towards the upper right: edges like a backslash
    ],
)
def test_direction_of_an_edge(picture, bin_, stroke):
    places, values = features.hog_geometry(), features.hog(one(picture))[0]
    # the outermost rows and columns have no gradient across the border, so a slope is bent there: most, not all, is in one bin
    mass = {k: values[torch.as_tensor(places.orientation == k)].sum().item() for k in range(9)}
    assert max(mass, key=mass.get) == bin_
    assert mass[bin_] > 0.9
    assert {float(s) for s in places.stroke[places.orientation == bin_]} == {stroke}


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("column", [0, 1])
def test_cell_of_a_blob(row, column):
    picture = torch.zeros(28, 28)
    picture[14 * row + 5 : 14 * row + 9, 14 * column + 5 : 14 * column + 9] = 1
    places, values = features.hog_geometry(), features.hog(one(picture))[0].numpy()
    inside = (places.row == row) & (places.column == column)
    assert values[inside].sum() == pytest.approx(1, abs=1e-4)
    assert not values[~inside].any()


def slow_hog(picture, orientations, cell, block):
    height, width = picture.shape
    rows, columns = height // cell, width // cell
    sums = np.zeros((rows, columns, orientations))
    for i, j in itertools.product(range(rows * cell), range(columns * cell)):
        down = picture[i + 1, j] - picture[i - 1, j] if 0 < i < height - 1 else 0.0
        right = picture[i, j + 1] - picture[i, j - 1] if 0 < j < width - 1 else 0.0
        angle = math.degrees(math.atan2(down, right)) % 180
        sums[i // cell, j // cell, int(angle * orientations / 180) % orientations] += math.hypot(down, right) / cell**2
    found = []
    for top, left in itertools.product(range(rows - block + 1), range(columns - block + 1)):
        part = sums[top : top + block, left : left + block].reshape(-1)
        found += list(part / (part.sum() + 1e-5))
    return found


@pytest.mark.parametrize(("orientations", "cell", "block"), [(9, 14, 2), (4, 7, 3), (6, 9, 1)])
def test_hog_is_its_formula(orientations, cell, block):
    inputs = some_digits(3).inputs
    got = features.hog(inputs, orientations=orientations, cell=cell, block=block)
    expected = [slow_hog(picture[0].double().numpy(), orientations, cell, block) for picture in inputs]
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert got.shape[1] == len(features.hog_geometry(orientations=orientations, cell=cell, block=block))


def test_hog_of_a_digit_sums_to_one_and_knows_no_contrast():
    inputs = some_digits().inputs
    found = features.hog(inputs)
    torch.testing.assert_close(found.sum(1), torch.ones(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(features.hog(0.2 + 0.5 * inputs), found, atol=1e-4, rtol=0)
    assert not features.hog(torch.full((1, 1, 28, 28), 0.3)).any()


def test_geometry_of_overlapping_blocks():
    places = features.hog_geometry((28, 21), orientations=2, cell=7, block=2)
    assert (len(places), places.shape, places.cell) == (3 * 2 * 4 * 2, (4, 3), 7)
    # the second block lies one cell further to the right; its third cell is below its first
    assert places.column[8:16].tolist() == [1, 1, 2, 2, 1, 1, 2, 2]
    assert places.row[8:16].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert places.gradient[:2].tolist() == [45, 135]


def test_published_drawing_is_upside_down_at_twice_the_angle():
    right, wrong = features.hog_geometry(), features.as_published(features.hog_geometry())
    assert (wrong.row == 1 - right.row).all()
    assert (wrong.column == right.column).all()
    # seen upside down, bin k stands at 40 k + 90 degrees in place of 20 k + 10 + 90
    again = (180 - wrong.stroke) % 180
    np.testing.assert_allclose(again[:9], [(40 * k + 90) % 180 for k in range(9)])
    apart = np.abs((again[:9] - right.stroke[:9] + 90) % 180 - 90)
    assert (apart <= 10).sum() == 2  # bins 0 and 1 only


# --- LBP: known answers -------------------------------------------------------------------------------------------------------


def test_flat_pictures_have_one_code_and_no_pattern():
    flat = torch.stack([torch.zeros(1, 28, 28), torch.full((1, 28, 28), 0.4)])
    codes = features.lbp_codes(flat)
    assert (codes[0] == 24).all()
    assert (codes[1, 3:-3, 3:-3] == 24).all()  # nearer to the border, black lies within reach
    assert not features.lbp(flat)[0].any()
    assert not features.present(flat, "lbp")[0].any()


def test_spot_hole_and_edge():
    spot = torch.zeros(28, 28)
    spot[9, 17] = 1
    codes = features.lbp_codes(one(spot))[0]
    assert codes[9, 17] == 0
    assert (codes == 24).sum() == 28 * 28 - 1
    assert features.lbp(one(spot))[0, 0, 9, 17] == 0
    assert features.lbp(one(spot)).sum() == 28 * 28 - 1
    assert features.present(one(spot), "lbp").nonzero().tolist() == [[0, 0, 9, 17]]
    assert features.lbp_codes(one(1 - spot))[0, 9, 17] == 24
    half = (COLUMN >= 14).float()
    codes = features.lbp_codes(one(half))[0, 10:18]
    assert codes[:, 14].unique().tolist() == [13]  # the points from straight up over right to straight down
    assert codes[:, 17:25].unique().tolist() == [24]
    assert codes[:, :14].unique().tolist() == [24]
    scaled = features.lbp(one(half))
    assert features.lbp_codes(one(half)).min() > 0
    assert (scaled.min(), scaled.max()) == (0, 1)


def test_a_chequered_neighbourhood_is_mixed():
    stripe = torch.zeros(28, 28)
    stripe[:, 14] = 0.5
    codes = features.lbp_codes(one(stripe))[0]
    assert codes[14, 14] == 25  # bright above and below, dark on both sides
    assert features.lbp_meaning(25).startswith("mixed")


def slow_lbp(levels, points, radius):
    height, width = levels.shape

    def at(i, j):
        return float(levels[i, j]) if 0 <= i < height and 0 <= j < width else 0.0

    codes = np.zeros((height, width), int)
    for i, j in itertools.product(range(height), range(width)):
        marks = []
        for k in range(points):
            y = i + round(-radius * math.sin(2 * math.pi * k / points), 5)
            x = j + round(radius * math.cos(2 * math.pi * k / points), 5)
            top, left = math.floor(y), math.floor(x)
            bottom, right = math.ceil(y), math.ceil(x)
            upper = (1 - (x - left)) * at(top, left) + (x - left) * at(top, right)
            lower = (1 - (x - left)) * at(bottom, left) + (x - left) * at(bottom, right)
            marks.append((1 - (y - top)) * upper + (y - top) * lower >= levels[i, j])
        changes = sum(marks[k] != marks[k - 1] for k in range(1, points))
        codes[i, j] = sum(marks) if changes <= 2 else points + 1
    return codes


@pytest.mark.parametrize(("points", "radius"), [(24, 3.0), (8, 1.0)])
def test_lbp_codes_are_their_definition(points, radius):
    inputs = some_digits(2).inputs
    got = features.lbp_codes(inputs, points=points, radius=radius)
    levels = (inputs[:, 0] * 255).round().byte().numpy()
    for found, picture in zip(got.numpy(), levels, strict=True):
        expected = slow_lbp(picture, points, radius)
        assert (found != expected).mean() < 0.002  # equal levels may differ by rounding of the interpolation
    low, high = got.amin((1, 2), keepdim=True), got.amax((1, 2), keepdim=True)
    scaled = features.lbp(inputs, points=points, radius=radius)[:, 0]
    torch.testing.assert_close(scaled, (got - low) / (high - low), check_dtype=False)


def test_lbp_is_present_on_ink_alone():
    inputs = some_digits(8).inputs
    there = features.present(inputs, "lbp")
    assert there.flatten(1).any(1).all()
    assert (inputs[there] > 0).all()


def test_every_code_has_a_meaning():
    words = [features.lbp_meaning(code).partition(":")[0] for code in range(26)]
    assert words == ["spot", *["edge"] * 23, "flat or hole", "mixed"]
    for code in (-1, 26):
        with pytest.raises(ConfigError, match="0 to 25"):
            features.lbp_meaning(code)


# --- both ---------------------------------------------------------------------------------------------------------------------


def test_present_hog_features_hold_more_than_their_part():
    standing = one((COLUMN < 7).float())
    there = features.present(standing, "hog")
    assert there.nonzero()[:, 1].tolist() == [0, 18]
    inputs = some_digits(6).inputs
    values = features.hog(inputs)
    assert torch.equal(features.present(inputs, "hog"), values > 1 / 36)
    assert torch.equal(features.present(inputs, "hog", share=0.0), values > 0)
    assert not features.present(inputs, "hog", share=36.0).any()


def test_a_picture_knows_no_company():
    inputs = some_digits(5).inputs
    for make in features.FEATURES.values():
        together = make(inputs)
        assert torch.equal(torch.cat([make(inputs[i : i + 1]) for i in (4, 0)]), together[[4, 0]])


def test_samples_with_features_keep_their_names():
    samples = some_digits()
    made = features.of_samples(samples, "hog")
    assert (made.ids, made.name, made.inputs.shape) == (samples.ids, samples.name, (4, 36))
    assert torch.equal(made.inputs, features.hog(samples.inputs))
    assert torch.equal(made.targets, samples.targets)
    with pytest.raises(ConfigError, match=r"'sift'.*hog, lbp"):
        features.of_samples(samples, "sift")


@pytest.mark.parametrize(
    "bad",
    [
        torch.zeros(1, 3, 28, 28),
        torch.zeros(28, 28),
        torch.zeros(1, 1, 28, 28, dtype=torch.uint8),
        torch.full((1, 1, 28, 28), float("nan")),
        torch.zeros(0, 1, 28, 28),
        np.zeros((1, 1, 28, 28)),
    ],
)
@pytest.mark.parametrize("make", [features.hog, features.lbp])
def test_what_is_no_grey_picture_is_refused(make, bad):
    with pytest.raises(InputError, match="features: expected"):
        make(bad)


def test_numbers_out_of_range_are_refused():
    picture = torch.zeros(1, 1, 28, 28)
    with pytest.raises(ConfigError, match="do not fit into 28 x 28"):
        features.hog(picture, cell=15)
    with pytest.raises(ConfigError, match="at least 1"):
        features.hog(picture, orientations=0)
    for own in ({"points": 1}, {"points": 33}, {"radius": 0.0}, {"radius": float("inf")}):
        with pytest.raises(ConfigError, match="2 to 32 points"):
            features.lbp(picture, **own)
    with pytest.raises(InputError, match=r"0 to 2"):
        features.lbp(2 * one((COLUMN < 7).float()))
    with pytest.raises(ConfigError, match="at least 0"):
        features.present(picture, "hog", share=-1)
    with pytest.raises(ConfigError, match="unknown features"):
        features.present(picture, "sift")


# --- figures ------------------------------------------------------------------------------------------------------------------


def strokes_of(values, **own):
    ax = Figure().subplots()
    drawn.hog_strokes(ax, values, features.hog_geometry(), **own)
    return ax, [c for c in ax.collections if isinstance(c, LineCollection)]


def test_stroke_lies_along_its_edge():
    ends = drawn.stroke_ends(features.hog_geometry())
    # feature 4 counts lying edges in the upper left cell, feature 31 in the lower right
    np.testing.assert_allclose(ends[4], [[0.7, 7], [13.3, 7]], atol=1e-9)
    np.testing.assert_allclose(ends[31], [[14.7, 21], [27.3, 21]], atol=1e-9)
    across, down = ends[2, 1] - ends[2, 0]
    assert across < 0 < down  # "/", drawn from its upper end


def test_darkest_stroke_is_the_largest_and_absent_ones_are_dotted():
    values = torch.linspace(0, 1, 36)
    absent = torch.arange(36) < 10
    ax, (dotted, solid) = strokes_of(values, absent=absent)
    assert (len(dotted.get_segments()), len(solid.get_segments())) == (10, 26)
    assert solid.get_array()[-1] == 1.0  # drawn last, over the others
    np.testing.assert_allclose(solid.get_segments()[-1], drawn.stroke_ends(features.hog_geometry())[35])
    assert solid.get_clim() == dotted.get_clim() == (0, 1)
    assert ax.get_ylim() == (28, 0)  # rows run downwards


def test_strokes_refuse_what_they_cannot_draw():
    ax = Figure().subplots()
    for bad in (torch.zeros(35), -torch.ones(36), torch.full((36,), float("nan"))):
        with pytest.raises(InputError, match="expected 36 numbers from 0"):
            drawn.hog_strokes(ax, bad, features.hog_geometry())
    places = features.hog_geometry(cell=7)
    with pytest.raises(InputError, match="overlapping blocks"):
        drawn.hog_strokes(ax, torch.zeros(len(places)), places)


def hidden_samples():
    shown = some_digits(2)
    return Samples(shown.inputs, shown.targets, shown.ids, shown.class_names, "hidden", "none", redistributable=False)


def test_panels_hide_pictures_and_their_lbp_images(monkeypatch):
    samples = hidden_samples()
    codes, there = features.lbp(samples.inputs), features.present(samples.inputs, "lbp")
    monkeypatch.setenv("XAI_PUBLISH", "1")
    fig = drawn.lbp_panels(samples, codes, [("map", torch.rand(2, 1, 28, 28))], there)
    notes = [sum("redistributed" in text.get_text() for text in ax.texts) for ax in fig.axes[:6]]
    assert notes == [1, 1, 0, 1, 1, 0]
    monkeypatch.delenv("XAI_PUBLISH")
    fig = drawn.lbp_panels(samples, codes, [("map", torch.rand(2, 1, 28, 28))], there)
    assert not any(ax.texts for ax in fig.axes[:6])
    np.testing.assert_allclose(fig.axes[4].images[0].get_array(), codes[1, 0])
    assert len(png(fig)) > 1000


def test_hog_panels_have_a_row_per_picture_and_dot_no_features_of_the_picture_itself():
    samples, places = some_digits(2), features.hog_geometry()
    values = features.hog(samples.inputs)
    fig = drawn.hog_panels(samples, [("HOG", values, places), ("S", values, places)], absent=values == 0)
    dotted = [len(ax.collections[0].get_segments()) if ax.collections else -1 for ax in fig.axes[:6]]
    gone = (values == 0).sum(1).tolist()
    assert dotted == [-1, 0, gone[0], -1, 0, gone[1]]
    with pytest.raises(InputError, match="2 pictures"):
        drawn.hog_panels(samples, [("HOG", values[:1], places)])
    with pytest.raises(InputError, match="2 pictures"):
        drawn.hog_panels(samples, [])
