"""Pasted pictures: plans in closed form, pixels against a loop, both label sets, any picture alone, missing sets."""

import math
import os
from itertools import product

import numpy as np
import pytest
import torch

from xai_lib import DATASETS, data
from xai_lib.data import cifar10, food, pasted, places
from xai_lib.data.source import Source, open_source
from xai_lib.errors import ConfigError, DataError
from xai_lib.types import Samples

N_OBJECTS, N_SCENES = 60, 40


def toy(name, ids, label, picture) -> Source:
    """Row -> (label, picture)."""

    def read(rows):
        return Samples(
            inputs=torch.stack([picture(row) for row in rows]),
            targets=torch.tensor([label(row) for row in rows]),
            ids=tuple(ids[row] for row in rows),
            class_names=tuple("0123456789"),
            name=name,
            licence="",
            redistributable=False,
        )

    return Source(name, ids, read)


def constant(channel: int, row: int, size: int) -> torch.Tensor:
    """Black but for one channel, whose grey level tells the row: resizing changes nothing."""
    image = torch.zeros(3, size, size)
    image[channel] = (row + 1) / 255
    return image


@pytest.fixture
def parts(monkeypatch):
    """Objects in channel 0 and scenes in channel 1; the label of an object is row % 10, the scene's class row // 4."""
    opened = []

    def objects(split, seed):
        opened.append(split)
        ids = [f"{split}-object-{row}" for row in range(N_OBJECTS)]
        return toy("cifar10", ids, lambda row: row % 10, lambda row: constant(0, row, 32))

    def scenes(split, seed, *, size):
        ids = [f"{pasted.SCENES[row // 4]}-{split}{row}" for row in range(N_SCENES)]
        return toy("food101", ids, lambda row: row // 4, lambda row: constant(1, row, size))

    monkeypatch.setattr(cifar10, "open_cifar10", objects)
    monkeypatch.setattr(food, "open_food101", scenes)
    return opened


@pytest.mark.parametrize("split", ["train", "test"])
def test_pictures_equal_a_loop_over_pixels(parts, split):
    size = 24
    samples = data.load("cifar_on_food", split=split, n=30, size=size, seed=2)
    assert parts == [split]
    for at in range(30):
        own = int(samples.extra["object_id"][at].rpartition("-")[2])
        scene = int(samples.extra["scene_id"][at].rpartition(split)[2])
        assert samples.extra["object_id"][at].startswith(f"{split}-object-")
        assert int(samples.targets[at]) == own % 10
        assert int(samples.extra["scene"][at]) == scene // 4
        (x0, y0, x1, y1) = samples.boxes[at][0].astype(int)
        for row, column in product(range(size), range(size)):
            inside = y0 <= row < y1 and x0 <= column < x1
            expected = [(own + 1) / 255, 0, 0] if inside else [0, (scene + 1) / 255, 0]
            assert samples.inputs[at, :, row, column].tolist() == pytest.approx(expected, abs=1e-7)
            assert bool(samples.masks[at, row, column]) == inside
    assert samples.class_names == cifar10.CLASSES
    assert samples.boxes[0].dtype == np.float32
    assert not samples.redistributable


@pytest.mark.parametrize("size", [8, 9, 10, 11, 33, 64, 100, 224])
def test_the_object_covers_a_third_to_a_half_of_the_scene_and_is_never_cut(size):
    areas = []
    for index in range(300):
        x0, y0, x1, y1 = pasted.plan(5, "test", index, size).box
        assert x1 - x0 == y1 - y0
        assert 0 <= x0 < x1 <= size
        assert 0 <= y0 < y1 <= size
        areas.append((x1 - x0) ** 2 / size**2)
    assert min(areas) >= 1 / 3
    assert max(areas) <= 1 / 2
    if size == 224:
        sides = np.sqrt(areas)
        assert sides.min() < 1 / math.sqrt(3) + 0.01
        assert sides.max() > 1 / math.sqrt(2) - 0.01
        assert sides.mean() == pytest.approx((1 / math.sqrt(3) + 1 / math.sqrt(2)) / 2, abs=0.01)


def test_places_are_uniform_up_to_both_borders_and_along_each_axis_on_its_own():
    counts = np.zeros((9, 9))
    for index in range(4000):
        x0, y0, x1, _ = pasted.plan(1, "train", index, 13).box
        assert x1 - x0 in (8, 9)
        if x1 - x0 == 9:
            counts[y0, x0] += 1
    expected = counts.sum() / 25
    assert expected > 50
    assert counts[:5, :5].sum() == counts.sum()
    assert ((counts[:5, :5] - expected) ** 2 / expected).sum() < 51.2  # chi-squared, 24 degrees of freedom, p = 0.001


def test_every_hundred_pictures_hold_every_pair_once_in_an_order_of_their_own():
    blocks = [
        [(one.object, one.scene) for one in (pasted.plan(0, "test", 100 * k + i, 64) for i in range(100))] for k in (0, 1)
    ]
    everything = sorted(product(range(10), range(10)))
    assert [sorted(block) for block in blocks] == [everything, everything]
    assert blocks[0] != blocks[1]
    assert blocks[0] != everything
    others = [pasted.plan(seed, split, 0, 64) for seed, split in ((0, "train"), (1, "test"))]
    first = pasted.plan(0, "test", 0, 64)
    assert all((one.object, one.scene, one.box) != (first.object, first.scene, first.box) for one in others)


def test_any_picture_can_be_made_alone(parts):
    whole = data.load("cifar_on_food", n=60, seed=9, size=16)
    assert whole.ids[:2] == ("test-00000", "test-00001")
    for at in (0, 17, 59):
        alone = data.load("cifar_on_food", ids=[whole.ids[at]], seed=9, size=16)
        assert torch.equal(alone.inputs[0], whole.inputs[at])
        assert torch.equal(alone.masks[0], whole.masks[at])
        assert alone.extra["object_id"] == [whole.extra["object_id"][at]]
        assert alone.extra["scene_id"] == [whole.extra["scene_id"][at]]
    assert not torch.equal(data.load("cifar_on_food", n=60, seed=10, size=16).inputs, whole.inputs)
    pieces = list(data.batches("cifar_on_food", size=25, n=60, seed=9, own={"size": 16}))
    assert torch.equal(torch.cat([piece.inputs for piece in pieces]), whole.inputs)


def test_every_picture_of_a_class_can_be_chosen(parts):
    samples = data.load("cifar_on_food", n=3000, size=8)
    objects, scenes = samples.extra["object_id"], samples.extra["scene_id"]
    for chosen, total in ((objects, N_OBJECTS), (scenes, N_SCENES)):
        counts = np.array([chosen.count(name) for name in set(chosen)])
        assert len(counts) == total
        expected = 3000 / total
        assert ((counts - expected) ** 2 / expected).sum() < 110  # chi-squared, below 60 degrees of freedom, p < 0.0001


def test_the_scene_alone(parts):
    both, alone = data.load("cifar_on_food", n=20, size=16), data.load("cifar_on_food", n=20, size=16, objects=False)
    differs = (both.inputs != alone.inputs).any(1)
    assert torch.equal(differs, both.masks)
    assert torch.equal(alone.masks, both.masks)
    assert alone.ids == both.ids
    assert torch.equal(alone.targets, both.targets)
    assert alone.extra["scene_id"] == both.extra["scene_id"]
    assert bool((alone.inputs[:, 0] == 0).all())
    assert alone.fingerprint != both.fingerprint


def test_size_changes_resolution_not_content(parts):
    small, large = data.load("cifar_on_food", n=40, size=32), data.load("cifar_on_food", n=40, size=128)
    for key in ("object_id", "scene_id"):
        assert small.extra[key] == large.extra[key]
    scaled = np.concatenate(large.boxes) / 4
    assert np.abs(scaled - np.concatenate(small.boxes)).max() <= 2


def test_objects_are_resized_without_a_shift():
    """A ramp stays a ramp: the centre of output pixel i lies at 32 (i + 1/2) / side - 1/2."""
    ramp = (torch.arange(32.0) * 8 / 255).expand(3, 32, 32)
    for side in (19, 40):
        expected = 8 * (32 * (torch.arange(side) + 0.5) / side - 0.5)
        made = pasted.resized(ramp, side) * 255
        assert made.shape == (3, side, side)
        assert float((made[:, :, 3:-3] - expected[3:-3]).abs().max()) <= 1
    noise = (torch.randint(0, 256, (3, 32, 32), generator=torch.Generator().manual_seed(0)) / 255).float()
    assert torch.equal(pasted.resized(noise, 32), noise)


def test_a_class_that_is_missing_is_named(parts, monkeypatch):
    ids = [f"object-{row}" for row in range(N_OBJECTS)]
    few = toy("cifar10", ids, lambda row: row % 3, lambda row: constant(0, row, 32))
    monkeypatch.setattr(cifar10, "open_cifar10", lambda split, seed: few)
    with pytest.raises(DataError, match=r"no '\w+' among 1,024 pictures of 'cifar10'.*lacks that class"):
        data.load("cifar_on_food", n=100, size=8)
    scenes = toy("food101", ["beignets-1", "waffles-2"], lambda row: row, lambda row: constant(1, row, 8))
    monkeypatch.setattr(food, "open_food101", lambda split, seed, size: scenes)
    with pytest.raises(DataError, match=r"has no picture of apple_pie, baby_back_ribs.*all ten scenes") as caught:
        data.load("cifar_on_food", n=1, size=8)
    assert "beignets" not in str(caught.value)


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"size": 7}, "8 to 1024"),
        ({"objects": "yes"}, "objects='yes'"),
        ({"objects": 1}, "objects=1"),
        ({"split": "all"}, "unknown split"),
        ({"n": 10_001}, "from 1 to 10000"),
    ],
)
def test_bad_requests_are_refused(parts, own, words):
    with pytest.raises(ConfigError, match=words):
        data.load("cifar_on_food", **own)


@pytest.fixture
def nothing(tmp_path, monkeypatch):
    """Two empty folders to search."""
    (tmp_path / "root").mkdir()
    monkeypatch.setenv("XAI_DATA", str(tmp_path / "root"))
    monkeypatch.setattr(places, "REPOSITORY", tmp_path / "repository")
    return tmp_path / "root"


def test_missing_sets_are_both_named(nothing, parts, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("XAI_DATA", str(nothing))
    monkeypatch.setattr(places, "REPOSITORY", nothing)
    with pytest.raises(DataError) as caught:
        data.load("cifar_on_food", n=1)
    for words in ("'cifar10' not found", "'food101' not found", "xai data get cifar10", "xai data get food101", "'shapes'"):
        assert words in str(caught.value)
    assert list(nothing.iterdir()) == []


def test_one_missing_set_is_enough(nothing, parts, monkeypatch):
    monkeypatch.setattr(food, "open_food101", lambda *_, **__: open_source("mnist", split="test", seed=0))
    with pytest.raises(DataError, match="made of 'cifar10' and 'food101': data set 'mnist' not found"):
        data.load("cifar_on_food", n=1)


def test_it_is_here_when_both_parts_are(nothing, monkeypatch):
    entry = {entry.name: entry for entry in data.listing()}["cifar_on_food"]
    assert (entry.n, entry.found_at, entry.redistributable, entry.packaged) == (None, None, False, False)
    (nothing / "food-101" / "meta").mkdir(parents=True)
    (nothing / "food-101" / "meta" / "classes.txt").write_text("pie\n")
    assert data.found_at("food101") == str(nothing)
    assert data.found_at("cifar_on_food") is None
    (nothing / "cifar10").mkdir()
    (nothing / "cifar10" / "test-00000-of-00001.parquet").write_bytes(b"")
    assert data.found_at("cifar_on_food") == str(nothing)
    with pytest.raises(DataError, match="made of cifar10 and food101; get those"):
        data.get("cifar_on_food")


def test_check_draws_some_pictures_of_each_split(nothing, parts, monkeypatch):
    report = data.check("cifar_on_food")
    assert report.n == {"test": 10_000, "train": 10_000}
    assert DATASETS["cifar_on_food"].traits["classes"] == 10


@pytest.mark.skipif(not os.environ.get("XAI_DATA"), reason="XAI_DATA is not set: the real data sets are not here")
def test_real_parts():
    both, alone = data.load("cifar_on_food", n=100), data.load("cifar_on_food", n=100, objects=False)
    assert torch.equal(torch.bincount(both.targets), torch.full((10,), 10))
    assert torch.equal(torch.bincount(both.extra["scene"]), torch.full((10,), 10))
    differs = (both.inputs != alone.inputs).any(1)
    assert not bool((differs & ~both.masks).any())
    assert float(differs[both.masks].float().mean()) > 0.95
    scenes = data.load("food101", ids=sorted(set(both.extra["scene_id"])))
    at = [scenes.ids.index(name) for name in both.extra["scene_id"]]
    assert torch.equal(scenes.inputs[at], alone.inputs)
    assert [scenes.class_names[int(scenes.targets[i])] for i in at] == [pasted.SCENES[int(i)] for i in both.extra["scene"]]
    objects = data.load("cifar10", ids=sorted(set(both.extra["object_id"])))
    labels = dict(zip(objects.ids, objects.targets.tolist(), strict=True))
    assert [labels[name] for name in both.extra["object_id"]] == both.targets.tolist()
