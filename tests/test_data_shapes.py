"""The generator: exact masks, independent labels, any picture alone."""

import math

import numpy as np
import pytest
import torch

from xai_lib import data
from xai_lib.data import shapes as room


def slow_inside(shape, u, v):
    """One point at a time, by other means than the library's: angles and half-planes."""
    r, angle = math.hypot(u, v), math.atan2(v, u)
    if shape == "circle":
        return r <= 0.9
    if shape == "ring":
        return 0.5 <= r <= 1
    if shape == "square":
        return -0.75 <= u <= 0.75 and -0.75 <= v <= 0.75
    if shape == "cross":
        return (-0.3 <= u <= 0.3 and -0.95 <= v <= 0.95) or (-0.3 <= v <= 0.3 and -0.95 <= u <= 0.95)
    if shape == "triangle":
        return all(u * math.cos(a) + v * math.sin(a) <= 0.5 for a in (math.pi / 2, -math.pi / 6, math.pi + math.pi / 6))
    folded = abs((angle + math.pi / 2 + math.pi / 5) % (2 * math.pi / 5) - math.pi / 5)
    tip, notch = (1.0, 0.0), (0.45 * math.cos(math.pi / 5), 0.45 * math.sin(math.pi / 5))
    x, y = r * math.cos(folded), r * math.sin(folded)
    return (notch[0] - tip[0]) * (y - tip[1]) - (notch[1] - tip[1]) * (x - tip[0]) >= 0


@pytest.mark.parametrize("shape", room.OBJECTS)
def test_masks_equal_the_slow_twin(shape):
    size, centre, radius, turn = 48, np.array([0.45, 0.55]), 0.31, 0.7
    x, y = (np.stack(np.meshgrid(np.arange(size), np.arange(size))) + 0.5) / size
    mask = room.inside(shape, *room.turned(x, y, centre, radius, turn))
    slow = np.zeros((size, size), dtype=bool)
    for row in range(size):
        for column in range(size):
            dx, dy = ((column + 0.5) / size - 0.45) / 0.31, ((row + 0.5) / size - 0.55) / 0.31
            u, v = math.cos(0.7) * dx + math.sin(0.7) * dy, math.cos(0.7) * dy - math.sin(0.7) * dx
            slow[row, column] = slow_inside(shape, u, v)
    assert np.array_equal(mask, slow)
    assert 0.05 < mask.mean() < 0.3


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        ("circle", math.pi * 0.81),
        ("ring", math.pi * 0.75),
        ("square", 2.25),
        ("cross", 2 * 1.9 * 0.6 - 0.36),
        ("triangle", 3 * math.sqrt(3) / 4),
        ("star", 5 * 0.45 * math.sin(math.pi / 5)),
    ],
)
def test_areas_in_closed_form(shape, area):
    u, v = np.meshgrid(*[(np.arange(400) + 0.5) / 200 - 1] * 2)
    assert room.inside(shape, u, v).sum() / 200**2 == pytest.approx(area, rel=0.01)


def test_only_the_masked_pixels_differ_from_the_scene(monkeypatch):
    image, mask, _, _ = room.draw(3, "test", 5, 40)
    monkeypatch.setattr(room, "inside", lambda shape, u, v: np.zeros(u.shape, dtype=bool))
    scene, nothing, _, _ = room.draw(3, "test", 5, 40)
    assert not nothing.any()
    assert np.array_equal((image != scene).any(axis=0), mask)


def test_the_scene_alone_equals_the_picture_outside_its_mask():
    both, alone = (data.load("shapes", n=40, seed=3, size=48, **own) for own in ({}, {"objects": False}))
    assert torch.equal((both.inputs != alone.inputs).any(1), both.masks)
    assert torch.equal(alone.masks, both.masks)
    assert (alone.ids, alone.targets.tolist()) == (both.ids, both.targets.tolist())
    assert alone.extra["scene"].tolist() == both.extra["scene"].tolist()
    assert all(np.array_equal(one, other) for one, other in zip(alone.boxes, both.boxes, strict=True))
    x, y = (np.stack(np.meshgrid(np.arange(48), np.arange(48))) + 0.5) / 48
    for at in range(40):
        random = np.random.Generator(np.random.PCG64(room.key("shapes", 3, "test", at)))
        _, scene = random.integers(0, (6, 6)).tolist()
        image, _ = room.texture(room.SCENES[scene], x, y, random)
        assert np.array_equal(alone.inputs[at].numpy(), image.astype(np.float32))


def test_boxes_are_tight_around_masks():
    samples = data.load("shapes", n=12, size=40)
    for mask, boxes in zip(samples.masks, samples.boxes, strict=True):
        (x0, y0, x1, y1) = boxes[0].astype(int)
        inner = mask[y0:y1, x0:x1]
        assert int(inner.sum()) == int(mask.sum()) > 0
        assert bool(inner[0].any() and inner[-1].any() and inner[:, 0].any() and inner[:, -1].any())
    assert room.tight_box(np.zeros((3, 3), dtype=bool)).shape == (0, 4)


def test_any_picture_can_be_made_alone():
    whole = data.load("shapes", n=6, seed=9, size=24)
    alone = data.load("shapes", ids=["test-00004"], seed=9, size=24)
    assert torch.equal(alone.inputs[0], whole.inputs[4])
    assert torch.equal(alone.masks[0], whole.masks[4])
    assert int(alone.extra["scene"][0]) == int(whole.extra["scene"][4])
    for other in ({"seed": 10}, {"seed": 9, "split": "train"}):
        assert not torch.equal(data.load("shapes", n=6, size=24, **other).inputs, whole.inputs)


def test_size_changes_resolution_not_content():
    small, large = data.load("shapes", n=20, size=32), data.load("shapes", n=20, size=96)
    assert torch.equal(small.targets, large.targets)
    coarse = torch.nn.functional.avg_pool2d(large.masks.float()[:, None], 3)[:, 0]
    assert float(((coarse > 0.5) == small.masks).float().mean()) > 0.98


def test_labels_are_balanced_and_independent():
    drawn = [
        np.random.Generator(np.random.PCG64(room.key("shapes", 0, "test", i))).integers(0, (6, 6)).tolist() for i in range(3600)
    ]
    table = np.zeros((6, 6))
    for shape, scene in drawn:
        table[shape, scene] += 1
    assert ((table - 100) ** 2 / 100).sum() < 66.6  # chi-squared, 35 degrees of freedom, p = 0.001
    samples = data.load("shapes", n=8, size=8)
    assert samples.targets.tolist() == [shape for shape, _ in drawn[:8]]
    assert samples.extra["scene"].tolist() == [scene for _, scene in drawn[:8]]


@pytest.mark.parametrize("scene", room.SCENES)
def test_scenes_are_textured_and_in_range(scene):
    x, y = (np.stack(np.meshgrid(np.arange(32), np.arange(32))) + 0.5) / 32
    image, mean = room.texture(scene, x, y, np.random.default_rng(1))
    assert image.shape == (3, 32, 32)
    assert 0 <= image.min() <= mean.min() <= mean.max() <= image.max() <= 1
    assert image.std(axis=(1, 2)).max() > 0.02
