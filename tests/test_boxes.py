"""Boxes and their sweep over thresholds: known answers, and a threshold-by-threshold loop of OpenCV as slow twin."""

import cv2
import numpy as np
import pytest

from xai_lib import boxes, contour_tree
from xai_lib.component_tree import components
from xai_lib.contour_tree import contour_boxes
from xai_lib.errors import ConfigError, InputError

PICTURE = np.zeros((8, 8))  # FIDELITY TV-32
PICTURE[2:5, 3:7], PICTURE[3, 4], PICTURE[0, 0], PICTURE[7, 7] = 1, 2, 0.5, 0.3


def drawn(count, seed=0):
    """Small maps of every kind that has tripped somebody: ties, plateaus, checkerboards, constants, rings, lines, one pixel."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        h, w = rng.integers(1, 12, 2)
        rows, columns = np.indices((h, w))
        yield from (
            rng.random((h, w)),
            rng.integers(0, 4, (h, w)) / 3.0,
            (rows + columns) % 2 * 1.0,
            np.full((h, w), 0.5),
            rng.integers(0, 2, (h, w)) * rng.integers(0, 3, (h, w)) / 2.0,
            np.minimum(np.minimum(rows, h - 1 - rows), np.minimum(columns, w - 1 - columns)) % 2 * rng.random(),
            cv2.GaussianBlur(rng.random((h, w)), (0, 0), 1.5),
        )
    yield np.array([[0.7]])


def listed(one_map, threshold, connectivity):
    """First pixel, area and box of every component above one threshold."""
    pixels = (one_map > threshold).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(pixels, connectivity=connectivity)
    rows = []
    for number in range(1, count):
        x, y, w, h, area = (int(value) for value in stats[number])
        rows.append((int((labels.ravel() == number).argmax()), area, x, y, x + w, y + h))
    return sorted(rows)


def biggest(rows):
    return list(max(rows, key=lambda row: (row[1], -row[0]))[2:]) if rows else [0, 0, 0, 0]


def benchmark_boxes(one_map, thresholds, every=False):
    """What the WSOL benchmark defines, step by step: 8 bits, strictly above, all contours, polygon area, boxes cut."""
    image = (one_map * 255).astype(np.uint8)
    h, w = image.shape
    found = []
    for threshold in thresholds:
        binary = 255 * (image > int(threshold * image.max())).astype(np.uint8)
        contours, _ = cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
        made = []
        for contour in contours if every else sorted(contours, key=cv2.contourArea, reverse=True)[:1]:
            x, y, across, down = cv2.boundingRect(contour)
            made.append([x, y, min(x + across, w - 1), min(y + down, h - 1)])
        found.append(sorted(made) or [[0, 0, 0, 0]])
    return found


# --- geometry -----------------------------------------------------------------------------------------------------------------


def test_iou_by_hand():
    a, b = [[0, 0, 4, 4], [0, 0, 2, 8], [4, 4, 4, 4]], [[2, 2, 6, 6], [0, 0, 4, 4], [4, 0, 8, 4], [4, 4, 4, 4]]
    expected = [[4 / 28, 1, 0, 0], [0, 8 / 24, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(boxes.iou(a, b), expected)
    np.testing.assert_allclose(boxes.iou(b, a), np.transpose(expected))


def test_the_same_numbers_read_as_exclusive_and_as_the_benchmark_reads_them():
    """TV-32, and the value of the benchmark's own unit test."""
    made, truth = [[3, 2, 7, 5]], [[3, 2, 7, 6]]
    assert boxes.iou(made, truth).item() == 0.75
    assert boxes.iou(made, truth, convention="wsol").item() == 0.8
    assert boxes.iou([[1, 2, 5, 6]], [[3, 1, 4, 5]], convention="wsol").item() == pytest.approx(8 / 27)
    assert boxes.iou([[0, 0, 0, 0]], [[0, 0, 0, 0]], convention="wsol").item() == 1
    np.testing.assert_array_equal(
        boxes.iou([[1, 1, 3, 3], [4, 4, 5, 5]], [[1, 1, 3, 3], [4, 4, 5, 5]], convention="wsol"), np.eye(2)
    )


def test_iou_is_the_ratio_of_pixels():
    rng = np.random.default_rng(3)
    corners = np.sort(rng.integers(0, 9, (60, 2, 2)), axis=1).reshape(60, 4)
    for a, b in zip(corners[:30], corners[30:], strict=True):
        one, two = (np.zeros((9, 9), dtype=bool) for _ in range(2))
        one[a[1] : a[3], a[0] : a[2]], two[b[1] : b[3], b[0] : b[2]] = True, True
        union = (one | two).sum()
        assert boxes.iou([a], [b]).item() == pytest.approx((one & two).sum() / union if union else 0)
        one[a[1] : a[3] + 1, a[0] : a[2] + 1], two[b[1] : b[3] + 1, b[0] : b[2] + 1] = True, True
        assert boxes.iou([a], [b], convention="wsol").item() == pytest.approx((one & two).sum() / (one | two).sum())


def test_the_best_of_several_true_boxes_counts():
    truth = [[0, 0, 4, 4], [2, 2, 6, 6]]
    assert boxes.best_iou([[0, 0, 4, 4], [2, 2, 6, 5], [7, 7, 8, 8]], truth).tolist() == [1, 0.75, 0]
    assert np.isnan(boxes.best_iou([[0, 0, 1, 1]], np.zeros((0, 4)))).all()


def test_odd_boxes_are_refused():
    for wrong in ([[0, 0, 1]], [0, 0, 1, 1], [[0, 0, -1, 1]], [[0, 3, 1, 2]], [[0, 0, np.nan, 1]], [[0, 0, np.inf, 1]]):
        with pytest.raises(InputError, match="boxes: expected"):
            boxes.iou(wrong, [[0, 0, 1, 1]])
    with pytest.raises(ConfigError, match="convention"):
        boxes.iou([], [], convention="inclusive")
    assert boxes.iou([], [[0, 0, 1, 1]]).shape == (0, 1)


def test_boxes_of_a_mask():
    """TV-32 at 20 % of the maximum: components of 12 pixels and of 1."""
    mask = PICTURE > 0.4
    assert boxes.largest_component_box(mask).tolist() == [3, 2, 7, 5]
    assert boxes.mask_box(mask).tolist() == [0, 0, 7, 5]
    assert boxes.mask_box(PICTURE > 9).tolist() == boxes.largest_component_box(PICTURE > 9).tolist() == [0, 0, 0, 0]
    assert boxes.largest_component_box(PICTURE > 9, convention="wsol").tolist() == [0, 0, 0, 0]
    for wrong in (PICTURE, mask[0], mask.astype(int)):
        with pytest.raises(InputError, match="expected bool"):
            boxes.mask_box(wrong)


def test_corners_touch():
    assert boxes.largest_component_box(np.eye(3, dtype=bool)).tolist() == [0, 0, 3, 3]


def test_controls():
    whole, centre = boxes.whole_box((6, 8)), boxes.centre_box((6, 8))
    truth = [[0, 0, 4, 6], [1, 1, 3, 4]]
    assert boxes.iou([whole], truth).tolist() == [[0.5, 6 / 48]]  # the share of the area, exactly
    assert boxes.iou([centre], [whole]).item() == pytest.approx(0.5)
    assert (centre[:2] + centre[2:]).tolist() == pytest.approx([8, 6])
    assert boxes.centre_box((6, 8), share=1).tolist() == whole.tolist()
    for share in (0, 1.1, np.nan):
        with pytest.raises(ConfigError, match="share"):
            boxes.centre_box((6, 8), share=share)


def test_pixels_of_a_box_are_those_whose_centres_it_covers():
    assert boxes.pixel_box([0.5, 0.51, 1.5, 1.51], (4, 4)) == (0, 1, 1, 2)
    assert boxes.pixel_box([-3, -3, 99, 99], (4, 5)) == (0, 0, 5, 4)


# --- the sweep ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("connectivity", [8, 4])
def test_every_component_at_every_threshold_is_that_of_a_loop(connectivity):
    rng = np.random.default_rng(5)
    for one_map in drawn(25):
        offered = np.concatenate([one_map.ravel(), [-1, 0, 0.25, 0.5, 1, 2]])
        thresholds = np.sort(rng.choice(offered, rng.integers(1, 9)))
        found = components(one_map, thresholds, connectivity=connectivity)
        for number, threshold in enumerate(thresholds):
            alive = found.at(number)
            made = [(int(found.firsts[i]), int(found.areas[i]), *found.boxes[i].tolist()) for i in alive]
            expected = listed(one_map, threshold, connectivity)
            assert made == expected
            assert found.largest_boxes[number].tolist() == biggest(expected)
            if connectivity == 8:
                assert boxes.largest_component_box(one_map > threshold).tolist() == biggest(expected)
            together = np.zeros(one_map.shape, dtype=int)
            for i in alive:
                together += found.mask(i)
            np.testing.assert_array_equal(together, one_map > threshold)


@pytest.mark.parametrize("kind", ["blurred", "enlarged", "noisy"])
def test_a_thousand_thresholds_are_those_of_a_loop(kind):
    rng = np.random.default_rng(7)
    one_map = {
        "blurred": cv2.GaussianBlur(rng.standard_normal((56, 64)), (0, 0), 4),
        "enlarged": cv2.resize(rng.standard_normal((7, 7)), (64, 56)).clip(min=0),
        "noisy": np.abs(rng.standard_normal((56, 64))),
    }[kind]
    one_map = (one_map - one_map.min()) / np.ptp(one_map)
    thresholds = np.arange(1000) / 1000
    found = components(one_map, thresholds)
    numbers = range(0, 1000, 37)
    expected = [listed(one_map, thresholds[number], 8) for number in numbers]
    assert [found.largest_boxes[number].tolist() for number in numbers] == [biggest(rows) for rows in expected]
    assert [sorted(found.boxes[found.at(number)].tolist()) for number in numbers] == [
        sorted(list(row[2:]) for row in rows) for rows in expected
    ]


def test_the_best_of_all_components_at_each_threshold():
    rng = np.random.default_rng(9)
    for one_map in drawn(8, seed=2):
        thresholds = np.sort(rng.random(7))
        found = components(one_map, thresholds)
        values = 0.1 + rng.random(len(found))
        assert found.best(values).tolist() == [max(values[found.at(k)], default=0) for k in range(7)]


def test_by_hand():
    """TV-32 from 20 % of the maximum to all of it; what is not above any threshold has no box."""
    thresholds = np.array([0.0, 0.2, 0.4, 0.6, 1.0, 1.0, 1.2, 2.0])
    found = components(PICTURE, thresholds)
    peak = [4, 3, 5, 4]
    assert found.largest_boxes.tolist() == [[3, 2, 7, 5]] * 4 + [peak] * 3 + [[0, 0, 0, 0]]
    assert [len(found.at(k)) for k in range(8)] == [3, 3, 2, 1, 1, 1, 1, 0]
    assert found.largest.tolist().count(-1) == 1


def test_equal_components_are_told_apart_by_reading_order():
    picture = np.array([[0, 0, 0, 1, 1], [2, 2, 0, 0, 0]])
    assert components(picture, [0, 1]).largest_boxes.tolist() == [[3, 0, 5, 1], [0, 1, 2, 2]]
    assert boxes.largest_component_box(picture > 0).tolist() == [3, 0, 5, 1]
    assert boxes.largest_component_box(picture > 0, convention="wsol").tolist() == [0, 1, 2, 1]


def test_a_map_that_nothing_passes_has_no_component():
    found = components(np.zeros((3, 4)), [0.0, 1.0])
    assert len(found) == 0
    assert found.largest_boxes.tolist() == [[0, 0, 0, 0]] * 2
    assert found.best(np.zeros(0)).tolist() == [0, 0]


@pytest.mark.parametrize("sweep", [components, contour_boxes])
def test_odd_maps_and_thresholds_are_refused(sweep):
    good = np.array([[0.0, 1.0]])
    for value in (np.nan, np.inf, -np.inf):
        for wrong in (np.full((2, 2), value), np.where(good, value, 0.0)):
            with pytest.raises(InputError, match="one_map"):
                sweep(wrong, [0.5])
    for wrong in (good[0], good[None], good[:, :0]):
        with pytest.raises(InputError, match="one_map"):
            sweep(wrong, [0.5])
    for wrong in ([], 0.5, [0.5, 0.4], [np.nan], [[0.1]]):
        with pytest.raises(ConfigError, match="thresholds"):
            sweep(good, wrong)
    with pytest.raises(ConfigError, match="connectivity"):
        components(good, [0.5], connectivity=6)
    for wrong in (good - 0.1, good + 0.1):
        with pytest.raises(InputError, match=r"\[0, 1\]"):
            contour_boxes(wrong, [0.5])


# --- the benchmark's boxes ----------------------------------------------------------------------------------------------------


BY_STEP_AND_BY_TREE = pytest.mark.parametrize("few_peaks", [10**9, 0])


@BY_STEP_AND_BY_TREE
@pytest.mark.parametrize("every", [False, True])
def test_the_boxes_of_the_benchmark_are_those_of_its_definition(every, few_peaks, monkeypatch):
    monkeypatch.setattr(contour_tree, "FEW_PEAKS", few_peaks)
    thresholds = np.arange(0, 1, 0.09)
    for one_map in drawn(20, seed=4):
        found = contour_boxes(one_map, thresholds)
        if every:
            made, lows, highs = found.every_box
            got = [sorted(made[(lows <= k) & (k <= highs)].tolist()) for k in found.inverse]
        else:
            got = [[box] for box in found.largest_boxes.tolist()]
        assert got == benchmark_boxes(one_map, thresholds, every)


@BY_STEP_AND_BY_TREE
def test_the_benchmark_at_a_thousand_thresholds(few_peaks, monkeypatch):
    monkeypatch.setattr(contour_tree, "FEW_PEAKS", few_peaks)
    rng = np.random.default_rng(11)
    thresholds = np.arange(0, 1, 0.001)
    for one_map in (rng.random((40, 48)), cv2.GaussianBlur(rng.random((40, 48)), (0, 0), 3)):
        scaled = (one_map - one_map.min()) / np.ptp(one_map)
        expected = [rows[0] for rows in benchmark_boxes(scaled, thresholds)]
        assert contour_boxes(scaled, thresholds).largest_boxes.tolist() == expected


UNIMODAL = [[0, 0, 0, 0, 0], [0, 0.4, 0.4, 0.4, 0.6], [0, 0.4, 1, 0.8, 0.6], [0, 0.4, 0.4, 0.4, 0.6]]
MULTIMODAL = [[0.4, 0, 0.2, 0.2, 0.2], [0.4, 0.4, 0, 0.4, 0], [0, 0, 0, 0.4, 0], [1, 0.6, 0.8, 0.2, 0.2]]


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (np.zeros((3, 3)), [[0, 0, 0, 0]] * 5),
        (UNIMODAL, [[1, 1, 4, 3], [1, 1, 4, 3], [2, 1, 4, 3], [2, 2, 4, 3], [2, 2, 3, 3]]),
        (MULTIMODAL, [[0, 0, 4, 3], [0, 0, 2, 2], [0, 3, 3, 3], [2, 3, 3, 3], [0, 3, 1, 3]]),
    ],
    ids=["zero", "unimodal", "multimodal"],
)
@BY_STEP_AND_BY_TREE
def test_values_of_the_benchmarks_own_unit_tests(picture, expected, few_peaks, monkeypatch):
    monkeypatch.setattr(contour_tree, "FEW_PEAKS", few_peaks)
    assert contour_boxes(np.array(picture), np.arange(0, 1, 0.2)).largest_boxes.tolist() == expected


@BY_STEP_AND_BY_TREE
def test_holes_count_as_filled_and_their_contours_count_in_version_2(few_peaks, monkeypatch):
    """A ring of 5 x 5 around nothing beats a solid 4 x 4, though it has as many pixels; its hole has a contour of its own."""
    monkeypatch.setattr(contour_tree, "FEW_PEAKS", few_peaks)
    picture = np.zeros((9, 12))
    picture[1:6, 1:6], picture[2:5, 2:5] = 1, 0
    picture[1:5, 7:11] = 1
    assert boxes.largest_component_box(picture > 0).tolist() == [1, 1, 6, 6]  # 16 pixels each, the ring comes first
    assert boxes.largest_component_box(picture > 0, convention="wsol").tolist() == [1, 1, 6, 6]
    assert boxes.largest_component_box(picture[:, ::-1] > 0).tolist() == [1, 1, 5, 5]
    assert boxes.largest_component_box(picture[:, ::-1] > 0, convention="wsol").tolist() == [6, 1, 11, 6]
    found = contour_boxes(picture, np.array([0.0]))
    assert found.largest_boxes.tolist() == [[1, 1, 6, 6]]
    assert sorted(found.every_box[0].tolist()) == [[1, 1, 6, 6], [1, 1, 6, 6], [7, 1, 11, 5]]
