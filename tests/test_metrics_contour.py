"""Contour patch prediction: FIDELITY TV-31, controls, slow twin, company."""

import pytest
import torch

from xai_lib import METRICS, contours, toys
from xai_lib.errors import ConfigError, InputError
from xai_lib.metrics.contour import contour_patch_area, contour_patch_prediction

NET = toys.TinyNet()
OWN = {"fraction": 0.1}


@pytest.fixture
def scene():
    """Three white pictures of 20 px with a bump at another place each, and their maps."""
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(20.0), indexing="ij")
    bumps = torch.stack([torch.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 20) for cy, cx in ((5, 5), (10, 14), (15, 6))])
    return torch.ones(3, 3, 20, 20), torch.zeros(3, dtype=torch.int64), bumps[:, None].expand(-1, 3, -1, -1) / 3


def test_score_of_the_mean_pixel_is_the_area(scene):
    """TV-31."""
    x, t, maps = scene
    area = contour_patch_area(maps, **OWN)
    assert ((area >= 0.1) & (area < 0.9)).all()
    for control in ("none", "centre", "random"):
        score = contour_patch_prediction(toys.mean_pixel(), x, t, maps, **OWN, control=control, score="logit")
        torch.testing.assert_close(score, area)


@pytest.mark.parametrize("variant", contours.VARIANTS)
def test_slow_twin(variant, scene):
    x, t, maps = scene
    x = torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
    found = contour_patch_prediction(NET, x, t, maps, **OWN, variant=variant)
    expected = []
    for i in range(3):
        mask = contours.patch_masks(maps[i].sum(0)[None], fraction=0.1, variant=variant)
        expected.append(NET((x[i] * mask[0])[None]).softmax(1)[0, 0].item())
    assert found.tolist() == pytest.approx(expected, abs=1e-6)


def test_the_patch_of_the_object_beats_its_controls(scene):
    x, t, maps = scene
    for i in range(3):
        model = toys.planted(maps[i].sum(0) > 0.5)
        one = slice(i, i + 1)
        patch, centre, random = (
            contour_patch_prediction(model, x[one], t[one], maps[one], **OWN, control=c, score="logit").item()
            for c in ("none", "centre", "random")
        )
        assert patch == pytest.approx(3)  # the sum over three white channels
        assert centre < 3
        assert random < 3


def test_fill_reaches_the_model(scene):
    x, t, maps = scene
    model = toys.mean_pixel()
    full = contour_patch_prediction(model, x, t, maps, **OWN, fill="mean", score="logit")
    torch.testing.assert_close(full, torch.ones(3))
    with pytest.raises(ConfigError, match="fill"):
        contour_patch_prediction(model, x, t, maps, fill="grey")


def test_order_company_batch_size_and_scale_change_nothing(scene):
    _, t, maps = scene
    x = torch.rand(3, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    maps = maps + 0.01 * x  # no ties: those are ordered by the values themselves
    for control in ("none", "random"):
        metric = METRICS.bind("contour_patch_prediction", control=control, fill="blur")
        expected = metric(NET, x, t, maps)
        torch.testing.assert_close(metric(NET, x[[2, 0]], t[:2], maps[[2, 0]]), expected[[2, 0]], atol=1e-5, rtol=0)
        torch.testing.assert_close(metric(NET, x, t, 8 * maps), expected, atol=1e-5, rtol=0)
        for size in (1, 32):
            torch.testing.assert_close(metric(NET, x, t, maps, max_batch=size), expected, atol=1e-5, rtol=0)


def test_undefined_and_refused(scene):
    x, t, maps = scene
    maps = maps.clone()
    maps[0], maps[1, 0, 0, 0] = 0, float("nan")
    assert contour_patch_prediction(NET, x, t, maps).isnan().tolist() == [True, True, False]
    assert contour_patch_area(maps).isnan().tolist() == [True, True, False]
    with pytest.raises(ConfigError, match="control"):
        contour_patch_prediction(NET, x, t, maps, control="full")
    with pytest.raises(InputError, match="images"):
        contour_patch_area(torch.rand(2, 7))
