"""Localisation metrics: FIDELITY TV-32, TV-42, TV-43, TV-45, closed forms, slow twins, oracles and controls."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch.nn.functional import interpolate

from xai_lib import METRICS, boxes, metrics, toys
from xai_lib.errors import ConfigError, InputError
from xai_lib.metrics import localisation_sets
from xai_lib.metrics.localisation_boxes import map_boxes, unit_map
from xai_lib.metrics.localisation_pixels import pooled_area
from xai_lib.metrics.localisation_sets import BoxAccuracy, threshold_ious

TV32 = torch.zeros(1, 1, 8, 8)
TV32[0, 0, 2:5, 3:7], TV32[0, 0, 3, 4], TV32[0, 0, 0, 0], TV32[0, 0, 7, 7] = 1, 2, 0.5, 0.3
TRUTH = (np.array([[3, 2, 7, 6]]),)
BOXED = ["cam_box", "tightest_box", "pixel_iou", "weighted_iou", "attribution_mass", "energy_in_box"]
BOXED += ["box_pixel_average_precision"]
RULES = ["cam_box", "tightest_box"]


def ask(name, *words, **parameters):
    return METRICS.bind(name, **parameters)(*words)


def scene(n=5, size=12, seed=0):
    """Random maps of three channels and one or two boxes each."""
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.integers(0, size, (n, 2, 2, 2)), axis=2).reshape(n, 2, 4)
    corners[..., 2:] += 1
    truth = tuple(own[: 1 + i % 2].astype(float) for i, own in enumerate(corners))
    return torch.from_numpy(rng.standard_normal((n, 3, size, size))), truth


# --- boxes of one image -------------------------------------------------------------------------------------------------------


def test_cam_rule_by_hand():
    """TV-32: 20 % of the maximum is 0.4, the box 3 2 7 5; 0.75 exclusive, 0.8 read as inclusive."""
    assert map_boxes(TV32).tolist() == [[3, 2, 7, 5]]
    assert ask("cam_box", TV32, TRUTH).item() == 1
    assert ask("cam_box", TV32, TRUTH, value="iou").item() == 0.75
    assert ask("cam_box", TV32, TRUTH, value="iou", convention="wsol").item() == pytest.approx(0.8)
    assert ask("cam_box", TV32, TRUTH, value="iou", fraction=0.6).item() == 1 / 16  # TV-43: one pixel is left
    assert ask("cam_box", TV32, TRUTH, fraction=0.6).item() == 0


def test_the_tightest_box_holds_every_part():
    """The stray pixel at the corner stretches the box to 0 0 7 5: 12 of 39 pixels."""
    assert map_boxes(TV32, rule="tightest").tolist() == [[0, 0, 7, 5]]
    assert ask("tightest_box", TV32, TRUTH, value="iou").item() == pytest.approx(12 / 39)
    assert ask("tightest_box", TV32, TRUTH).item() == 0
    assert ask("tightest_box", TV32, TRUTH, fraction=0.3, value="iou").item() == 0.75
    assert map_boxes(TV32, rule="tightest", convention="wsol", fraction=0).tolist() == [[0, 0, 7, 7]]  # cut at 7


def test_a_perforated_map_is_punished_by_the_component_alone():
    dots = torch.zeros(1, 1, 9, 9)
    dots[0, 0, 1:8:2, 1:8:2] = 1
    truth = (np.array([[1, 1, 8, 8]]),)
    assert ask("tightest_box", dots, truth, value="iou").item() == 1
    assert ask("cam_box", dots, truth, value="iou").item() == pytest.approx(1 / 49)


def test_exactly_half_splits_above_from_at_least():
    half = (np.array([[0, 0, 4, 8]]),)
    for name in RULES:
        whole = ask(name, torch.ones(1, 3, 8, 8), half, value="iou")
        assert whole.item() == boxes.iou([boxes.whole_box((8, 8))], half[0]).item() == 0.5  # control of 8.17
        assert ask(name, torch.ones(1, 3, 8, 8), half).item() == 0
        assert ask(name, torch.ones(1, 3, 8, 8), half, strict=False).item() == 1
        assert ask(name, torch.ones(1, 3, 8, 8), half, level=0.49).item() == 1


def test_thresholds_are_of_the_maximum_and_strict():
    """Not the quantile: the 0.2 quantile of TV-32 is 0. A pixel at exactly the threshold is out."""
    assert torch.quantile(TV32, 0.2) == 0
    steps = torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]])
    found = [map_boxes(steps, fraction=f)[0, 0].item() for f in (0, 0.24, 0.25, 0.5, 0.75, 0.99)]
    assert found == [0, 0, 1, 2, 3, 3]


@pytest.mark.parametrize("convention", boxes.CONVENTIONS)
@pytest.mark.parametrize("name", RULES)
def test_rules_against_a_loop(name, convention):
    attributions, truth = scene(12)
    for fraction in (0.0, 0.2, 0.6):
        expected = []
        for row, own in zip(attributions, truth, strict=True):
            one_map = row.sum(0).numpy()
            if convention == "wsol":
                scores = np.floor(255 * (one_map - one_map.min()) / np.ptp(one_map))
                mask = scores > math.floor(fraction * scores.max())
            else:
                mask = one_map > fraction * one_map.max()
            box = boxes.largest_component_box(mask, convention=convention)
            if name == "tightest_box":
                y, x = np.nonzero(mask)
                last = [11, 11] if convention == "wsol" else [12, 12]
                box = [x.min(), y.min(), *np.minimum([x.max() + 1, y.max() + 1], last)]
            expected.append(max(boxes.iou([box], [one], convention=convention).item() for one in own))
        made = ask(name, attributions, truth, fraction=fraction, value="iou", convention=convention)
        torch.testing.assert_close(made, torch.tensor(expected).double())
        correct = ask(name, attributions, truth, fraction=fraction, level=0.3, convention=convention)
        assert correct.tolist() == [float(v > 0.3) for v in expected]


@pytest.mark.parametrize("name", BOXED)
def test_each_image_alone_scale_dtype_and_undefined(name):
    attributions, truth = scene(5)
    made = ask(name, attributions, truth)
    assert (made.shape, made.dtype) == ((5,), attributions.dtype)
    assert torch.isfinite(made).all()
    alone = [ask(name, attributions[i : i + 1], truth[i : i + 1]).item() for i in (3, 1)]
    assert alone == made[[3, 1]].tolist()
    torch.testing.assert_close(ask(name, attributions.float() * 64, truth), made.float())
    for value in (torch.nan, torch.inf, -torch.inf):
        bad = attributions.clone()
        bad[1, 0, 2, 2] = value
        assert ask(name, bad, truth).isnan().tolist() == [False, True, False, False, False]
    none = (*truth[:2], np.zeros((0, 4)), *truth[3:])
    assert ask(name, attributions, none).isnan().tolist() == [False, False, True, False, False]
    for wrong in (None, (), truth[:2]):
        with pytest.raises(InputError, match="boxes: expected"):
            ask(name, attributions, wrong)
    with pytest.raises(InputError, match="attributions"):
        ask(name, attributions.long(), truth)


def test_maps_without_anything_positive_have_no_box_but_in_the_benchmark():
    for attributions in (torch.zeros(1, 1, 8, 8), -TV32 - 1):
        for name in RULES:
            assert ask(name, attributions, TRUTH).isnan().all()
    corner = (np.array([[0, 0, 0, 1]]),)
    assert ask("cam_box", torch.zeros(1, 1, 8, 8), corner, value="iou", convention="wsol").item() == 0.5  # box 0 0 0 0
    assert ask("cam_box", torch.full((1, 1, 8, 8), torch.nan), corner, value="iou", convention="wsol").item() == 0.5


def test_parameters_out_of_range_are_refused():
    wrong = {"fraction": (-0.1, 1.0, math.nan), "level": (-0.1, 1.1), "value": ("hit",), "convention": ("inclusive",)}
    for name in RULES:
        for key, values in wrong.items():
            for value in values:
                with pytest.raises(ConfigError, match=key):
                    ask(name, TV32, TRUTH, **{key: value})
    with pytest.raises(InputError, match="images"):
        ask("cam_box", torch.ones(2, 5), TRUTH * 2)
    infinite = torch.where(TV32 > 1, torch.inf, TV32)
    assert map_boxes(torch.cat([infinite, TV32, -infinite]), fraction=0).isnan().any(1).tolist() == [True, False, True]
    with pytest.raises(ConfigError, match="convention"):
        map_boxes(TV32, rule="tightest", convention="inclusive")
    with pytest.raises(ConfigError, match="rule"):
        map_boxes(TV32, rule="contour")


# --- the saliency metric ------------------------------------------------------------------------------------------------------


def believes(p):
    """A model that gives its class 0 the probability p, whatever it sees."""
    return toys.constant(math.log(p / (1 - p)))


ZERO = torch.zeros(1, dtype=torch.int64)


def test_saliency_metric_by_hand():
    """TV-42: (a, p) = (.04, .9), where a is raised to .05; (.25, .5); (1, .8)."""
    x = torch.rand(1, 3, 10, 10, generator=torch.Generator().manual_seed(0))
    for side, p, expected in ((2, 0.9, -2.8904), (5, 0.5, -0.6931), (10, 0.8, 0.2231)):
        attributions = torch.zeros(1, 3, 10, 10)
        attributions[:, :, :side, :side] = 1
        made = ask("saliency_metric", believes(p), x, ZERO, attributions)
        assert made.item() == pytest.approx(expected, abs=1e-4)
    assert ask("saliency_metric", believes(0.8), x, ZERO, attributions, floor=1.0).item() == pytest.approx(0.2231, abs=1e-4)
    attributions[0, :, 9, 9] = 5  # 20 % of 15 is 3, which leaves one pixel; none of 15 leaves all
    assert ask("saliency_metric", believes(0.5), x, ZERO, attributions, fraction=0.2).item() == pytest.approx(math.log(0.1))
    assert ask("saliency_metric", believes(0.5), x, ZERO, attributions, fraction=0.1).item() == pytest.approx(math.log(2))


def test_the_model_sees_the_crop_enlarged(images):
    """Against a loop over images; boxes of different sizes, maps of a few pixels."""
    net, targets = toys.TinyNet(), torch.tensor([0, 1, 2, 3, 0])
    generator = torch.Generator().manual_seed(1)
    attributions = torch.rand(images.shape, generator=generator) ** 30
    made = ask("saliency_metric", net, images, targets, attributions, fraction=0.3, max_batch=2)
    expected = []
    for x, t, a in zip(images, targets, attributions, strict=True):
        rows, columns = (a.sum(0) > 0.3 * a.sum(0).max()).nonzero().T
        crop = x[None, :, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        share = crop[0, 0].numel() / 100
        likely = net(interpolate(crop, size=(10, 10), mode="bilinear"))[0].log_softmax(0)[t].item()
        expected.append(math.log(max(share, 0.05)) - likely)
    assert made.tolist() == pytest.approx(expected, abs=1e-5)
    assert len({round(v, 3) for v in expected}) == 5
    torch.testing.assert_close(made, ask("saliency_metric", net, images, targets, attributions, fraction=0.3))


def test_given_boxes_and_controls(images, zeros):
    net = toys.TinyNet()
    whole = np.stack([boxes.whole_box((10, 10))] * 5)
    made = metrics.saliency_metric_of_boxes(net, images, zeros, whole)
    torch.testing.assert_close(made, -net(images).log_softmax(1)[:, 0])
    centre = metrics.saliency_metric_of_boxes(net, images, zeros, np.stack([boxes.centre_box((10, 10))] * 5))
    crop = interpolate(images[:, :, 1:9, 1:9], size=(10, 10), mode="bilinear")  # 1.46 .. 8.54: pixels 1 to 8
    torch.testing.assert_close(centre, math.log(0.64) - net(crop).log_softmax(1)[:, 0])
    for wrong in (whole[:2], np.tile([3.0, 3.0, 3.2, 3.2], (5, 1)), np.tile([20.0, 3.0, 30.0, 9.0], (5, 1))):
        with pytest.raises(InputError, match="boxes"):
            metrics.saliency_metric_of_boxes(net, images, zeros, wrong)


def test_saliency_metric_rows_and_undefined(images, zeros, spy):
    net = spy(toys.TinyNet())
    attributions = images.clone()
    attributions[1], attributions[2, 0, 0, 0], attributions[3] = 0, torch.nan, -1
    made = ask("saliency_metric", net, images, zeros, attributions, max_batch=2)
    assert made.isnan().tolist() == [False, True, True, True, False]
    assert net.calls == [2, 2, 1]
    for floor in (0, 1.5):
        with pytest.raises(ConfigError, match="floor"):
            ask("saliency_metric", net, images, zeros, attributions, floor=floor)
    with pytest.raises(InputError, match="attributions"):
        ask("saliency_metric", net, images, zeros, attributions[:, :1])


# --- pixels -------------------------------------------------------------------------------------------------------------------


def test_pixel_iou_by_hand():
    """TV-45: the deviation is .4146; k = .5 keeps both pixels, k = 2 only the first."""
    attributions, left = torch.tensor([[[[1.0, 0.5], [0.0, 0.0]]]]), (np.array([[0, 0, 1, 2]]),)
    for name in ("pixel_iou", "weighted_iou"):
        assert ask(name, attributions, left, k=0.5).item() == pytest.approx(1 / 3)
        assert ask(name, -3 * attributions, left, k=0.5).item() == pytest.approx(1 / 3)
        assert ask(name, attributions, left, k=1.2).item() == pytest.approx(1 / 3)
        assert ask(name, attributions, left, k=1.21).item() == 0.5
    right = (np.array([[1, 0, 2, 2]]),)
    assert ask("pixel_iou", attributions, right).item() == pytest.approx(1 / 3)
    assert ask("weighted_iou", attributions, right).item() == pytest.approx(0.5 / 3)  # k = 1 by default keeps it too
    assert metrics.selected_share(attributions).item() == 0.5
    assert metrics.selected_share(attributions, k=2).item() == 0.25


def test_pixel_iou_against_a_loop_and_ordered():
    attributions, truth = scene(6)
    for k in (0, 0.5, 1, 2):
        plain, weighted = (ask(name, attributions, truth, k=k) for name in ("pixel_iou", "weighted_iou"))
        for i, own in enumerate(truth):
            a = attributions[i].sum(0).abs().numpy()
            a = a / a.max()
            a[a < k * np.sqrt(((a - a.mean()) ** 2).mean())] = 0
            mask = np.zeros((12, 12), dtype=bool)
            for x0, y0, x1, y1 in own.astype(int):
                mask[y0:y1, x0:x1] = True
            union = ((a > 0) | mask).sum()
            assert plain[i].item() == pytest.approx(((a > 0) & mask).sum() / union)
            assert weighted[i].item() == pytest.approx(a[mask].sum() / union)
        assert (weighted <= plain).all()


def test_what_rewards_area_says_so():
    """The map of ones scores the boxes' share of the area; attribution mass takes that share off."""
    ones, truth = torch.ones(2, 3, 8, 8), (np.array([[0, 0, 4, 4]]), np.array([[0, 0, 8, 6], [2, 2, 8, 8]]))
    shares = [16 / 64, 60 / 64]
    for name in ("pixel_iou", "weighted_iou", "box_pixel_average_precision", "energy_in_box"):
        assert ask(name, ones, truth).tolist() == pytest.approx(shares)
    assert ask("attribution_mass", ones, truth).tolist() == pytest.approx([0, 0], abs=1e-7)
    assert metrics.selected_share(ones).tolist() == [1, 1]
    with pytest.raises(ConfigError, match="k="):
        ask("pixel_iou", ones, truth, k=-0.5)
    assert ask("pixel_iou", 0 * ones, truth).isnan().all()
    assert metrics.selected_share(0 * ones).isnan().all()


def test_attribution_mass_of_a_perfect_and_a_wrong_map():
    inside = torch.zeros(1, 1, 8, 8)
    inside[0, 0, 2:4, 3:5] = 1
    assert ask("attribution_mass", inside, TRUTH).item() == 0.75
    assert ask("attribution_mass", inside.flip(2), (np.array([[3, 2, 5, 4]]),)).item() == -4 / 64


def test_average_precision_is_that_of_scikit_learn():
    attributions, truth = scene(6)
    attributions = attributions.mul(2).round()  # ties
    masks = metrics.localisation.box_masks(truth, attributions.sum(1))
    made = ask("pixel_average_precision", attributions, masks)
    expected = [
        average_precision_score(m.flatten().numpy(), a.sum(0).flatten().numpy())
        for m, a in zip(masks, attributions, strict=True)
    ]
    assert made.tolist() == pytest.approx(expected)
    torch.testing.assert_close(ask("box_pixel_average_precision", attributions, truth), made)


def test_average_precision_of_perfect_and_worst_maps():
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, 1:3, 1:3] = True
    perfect = mask[:, None].double()
    assert ask("pixel_average_precision", perfect, mask).item() == 1
    assert ask("pixel_average_precision", -perfect, mask).item() == 4 / 16
    assert ask("pixel_average_precision", perfect, mask & False).isnan().all()
    assert ask("pixel_average_precision", perfect * torch.nan, mask).isnan().all()
    for wrong in (mask.int(), mask[:, :3], None, mask.numpy()):
        with pytest.raises(InputError, match="masks: expected bool"):
            ask("pixel_average_precision", perfect, wrong)


def test_pooled_average_precision():
    """Of one perfect image 1; of all pixels of all images with the values rounded down to the grid; pixels may be left out."""
    attributions, truth = scene(4)
    masks = metrics.localisation.box_masks(truth, attributions.sum(1))
    values = np.stack([unit_map(a.sum(0).numpy()) for a in attributions])
    value, counts = metrics.pooled_average_precision(attributions, masks, thresholds=8)
    floors = np.floor(values * 8)
    assert value == pytest.approx(average_precision_score(masks.flatten().numpy(), floors.ravel()))
    assert counts.shape == (4, 2, 9)
    assert counts[2, 0].tolist() == [int((floors[2] == k)[masks[2].numpy()].sum()) for k in range(9)]
    chosen = metrics.pooled_average_precision(attributions[[0, 2, 2]], masks[[0, 2, 2]], thresholds=8)[0]
    assert pooled_area(counts[[0, 2, 2]].sum(0)) == pytest.approx(chosen)
    ignored = ~masks & (attributions.sum(1) > 0)
    kept = ~ignored.flatten().numpy()
    value, _ = metrics.pooled_average_precision(attributions, masks, ignored=ignored)
    expected = average_precision_score(masks.flatten().numpy()[kept], np.floor(values * 1000).ravel()[kept])
    assert value == pytest.approx(expected)
    assert metrics.pooled_average_precision(masks[:, None].double(), masks)[0] == 1
    ones = torch.ones(4, 1, 12, 12)
    assert metrics.pooled_average_precision(ones, masks)[0] == pytest.approx(masks.double().mean().item())
    assert math.isnan(metrics.pooled_average_precision(ones, masks & False)[0])
    with pytest.raises(InputError, match="ignored"):
        metrics.pooled_average_precision(ones, masks, ignored=masks[:2])
    with pytest.raises(ConfigError, match="thresholds"):
        metrics.pooled_average_precision(ones, masks, thresholds=0)


# --- data sets ----------------------------------------------------------------------------------------------------------------


def test_max_box_accuracy_by_hand():
    """TV-43: at thresholds .2 and .4 (here of the maximum 2) the box has IoU .75, from .5 on one pixel is left, 1/16."""
    found = metrics.max_box_accuracy(TV32, TRUTH, thresholds=10)
    assert found.ious.tolist() == [[0.75] * 5 + [1 / 16] * 5]
    assert (found.value, found.best.tolist()) == (1, [0])
    second = metrics.max_box_accuracy_v2(TV32, TRUTH, thresholds=10, levels=(0.3, 0.5, 0.7))
    assert (second.value, second.curves.tolist()) == (1, [[1.0] * 5 + [0.0] * 5] * 3)
    inclusive = metrics.max_box_accuracy(TV32, TRUTH, thresholds=10, convention="wsol")
    assert inclusive.ious[0, :4].tolist() == pytest.approx([0.8] * 4)
    assert inclusive.ious[0, 5:].tolist() == pytest.approx([4 / 25] * 5)


def test_any_component_counts_in_version_2():
    two = torch.zeros(1, 1, 8, 8)
    two[0, 0, :3, :3], two[0, 0, 5:7, 5:7] = 1, 1
    truth = (np.array([[5, 5, 7, 7]]),)
    assert metrics.max_box_accuracy(two, truth).value == 0
    assert metrics.max_box_accuracy_v2(two, truth).value == 1
    several = (np.array([[5, 5, 7, 7], [0, 0, 3, 3]]),)
    assert metrics.max_box_accuracy(two, several).value == 1


def test_one_threshold_for_all_images_and_one_for_each_sample():
    """The first image needs a low threshold, the other two a high one."""
    ious = np.array([[0.8, 0.6, 0.1], [0.2, 0.4, 0.5], [np.nan] * 3, [0.1, 0.4, 0.9]])
    found = BoxAccuracy(ious, np.array([0.0, 0.1, 0.2]), (0.5,))
    assert found.defined.tolist() == [True, True, False, True]
    assert (found.value, found.best.tolist()) == (pytest.approx(2 / 3), [0.2])
    np.testing.assert_allclose(found.curves, [[1 / 3, 1 / 3, 2 / 3]])
    counts = [[1, 1, 1, 1], [3, 0, 1, 1], [1, 0, 0, 0], [0, 0, 4, 0]]
    np.testing.assert_allclose(found.resampled(np.array(counts)), [2 / 3, 3 / 4, 1, np.nan])
    levels = BoxAccuracy(ious, found.thresholds, (0.3, 0.5, 0.85))
    assert levels.value == pytest.approx((1 + 2 / 3 + 1 / 3) / 3)
    assert levels.best.tolist() == [0.1, 0.2, 0.2]
    nothing = BoxAccuracy(ious[2:3], found.thresholds, (0.5,))
    assert math.isnan(nothing.value)
    assert np.isnan(nothing.best).all()
    with pytest.raises(InputError, match="counts"):
        found.resampled(np.ones((2, 3)))


@pytest.mark.parametrize("convention", boxes.CONVENTIONS)
def test_sweeps_against_a_loop_over_thresholds(convention):
    attributions, truth = scene(6, seed=3)
    found = metrics.max_box_accuracy(attributions, truth, thresholds=40, convention=convention)
    any_box = metrics.max_box_accuracy_v2(attributions, truth, thresholds=40, convention=convention)
    for i, own in enumerate(truth):
        one_map = unit_map(attributions[i].sum(0).numpy())
        for k in range(40):
            share = k * (1 / 40)
            mask = np.floor(one_map * 255) > int(share * 255) if convention == "wsol" else one_map > share
            box = boxes.largest_component_box(mask, convention=convention)
            expected = boxes.iou([box], own, convention=convention).max()
            assert found.ious[i, k] == pytest.approx(expected)
            assert any_box.ious[i, k] >= found.ious[i, k]
    assert (any_box.ious > found.ious).any()
    assert found.value == max((found.ious >= 0.5).mean(axis=0))
    assert any_box.value == pytest.approx(np.mean([max((any_box.ious >= level).mean(axis=0)) for level in (0.3, 0.5, 0.7)]))


def test_maps_that_rank_nothing_and_images_without_boxes():
    attributions, truth = scene(4)
    attributions[1], attributions[2, 0, 0, 0] = 3, torch.nan
    truth = (*truth[:3], np.zeros((0, 4)))
    for function in (metrics.max_box_accuracy, metrics.max_box_accuracy_v2):
        assert function(attributions, truth, thresholds=5).defined.tolist() == [True, False, False, False]
        benchmark = function(attributions, truth, thresholds=5, convention="wsol")
        assert benchmark.defined.tolist() == [True, True, True, False]
        zero = boxes.best_iou([[0, 0, 0, 0]], truth[1], convention="wsol").item()
        assert benchmark.ious[1].tolist() == [zero] * 5


def test_data_set_functions_refuse_what_they_cannot_read():
    attributions, truth = scene(2)
    for parameters in ({"thresholds": 0}, {"thresholds": 1.5}, {"level": 2.0}, {"convention": "inclusive"}):
        with pytest.raises(ConfigError, match=next(iter(parameters))):
            metrics.max_box_accuracy(attributions, truth, **parameters)
    with pytest.raises(ConfigError, match="levels"):
        metrics.max_box_accuracy_v2(attributions, truth, levels=())
    with pytest.raises(InputError, match="boxes"):
        metrics.max_box_accuracy(attributions, truth[:1])
    with pytest.raises(InputError, match="images"):
        metrics.max_box_accuracy(attributions[:, 0, 0], truth)


def test_a_perfect_map_is_right_and_the_benchmarks_one_pixel_shows():
    """A map that is the box itself: IoU 1, and in the benchmark's reading 36 of 36 only where the true box is as large."""
    perfect = torch.zeros(1, 1, 12, 12)
    perfect[0, 0, 3:8, 2:7] = 1
    asked = np.array([0.0, 0.5])
    one_map = unit_map(perfect[0, 0].numpy())
    assert threshold_ious(one_map, np.array([[2, 3, 7, 8]]), asked).tolist() == [1, 1]
    assert threshold_ious(one_map, np.array([[2, 3, 6, 7]]), asked, convention="wsol").tolist() == pytest.approx([25 / 36] * 2)


@pytest.mark.parametrize("convention", ["exclusive", "wsol"])
def test_both_accuracies_at_once_are_those_of_each(convention):
    made = torch.rand(3, 1, 9, 9, generator=torch.Generator().manual_seed(1))
    truth = (np.array([[1, 1, 5, 6]]), np.array([[0, 0, 4, 4], [2, 3, 8, 8]]), np.array([[3, 2, 7, 6]]))
    own = {"thresholds": 13, "convention": convention}
    first, second = localisation_sets.max_box_accuracies(made, truth, level=0.4, levels=(0.2, 0.6), **own)
    for found, expected in (
        (first, localisation_sets.max_box_accuracy(made, truth, level=0.4, **own)),
        (second, localisation_sets.max_box_accuracy_v2(made, truth, levels=(0.2, 0.6), **own)),
    ):
        np.testing.assert_array_equal(found.ious, expected.ious)
        assert found.levels == expected.levels
    assert (second.ious > first.ious).any()
