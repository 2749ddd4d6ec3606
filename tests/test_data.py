"""Choosing, loading and checking data sets: the packaged ones, and the real ones where `XAI_DATA` has them."""

import os
import tracemalloc

import numpy as np
import pytest
import torch
from sklearn import datasets

from xai_lib import DATASETS, data
from xai_lib.data import inventory, places, source
from xai_lib.data.tabular import held_out
from xai_lib.errors import ConfigError, DataError

PACKAGED = ("iris", "wine", "breast_cancer", "mnist_5k", "photos", "shapes")
real = pytest.mark.skipif(not os.environ.get("XAI_DATA"), reason="XAI_DATA is not set: the real data sets are not here")


@pytest.fixture
def nothing(monkeypatch, tmp_path):
    """No data folder anywhere."""
    monkeypatch.delenv("XAI_DATA", raising=False)
    monkeypatch.setattr(places, "REPOSITORY", tmp_path / "none")
    return tmp_path


def test_all_data_sets_are_registered_with_their_traits():
    assert set(DATASETS) == {*PACKAGED, "mnist", "imagenet", "cifar10", "food101", "cifar_on_food"}
    for entry in DATASETS.values():
        assert set(entry.traits) == {"packaged", "licence", "redistributable", "kind", "classes"}
        assert {"split", "n", "seed", "ids"} <= set(entry.parameters)
        assert entry.words == ()
    assert {name for name, entry in DATASETS.items() if entry.traits["packaged"]} == set(PACKAGED)


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_sets_keep_the_contract(nothing, name):
    few, more = data.load(name, n=3, seed=1), data.load(name, n=7, seed=1)
    assert few.ids == more.ids[:3]
    assert torch.equal(few.inputs, more.inputs[:3])
    assert few.inputs.dtype == torch.float32
    assert few.targets.dtype == torch.int64
    assert bool(((few.targets >= 0) & (few.targets < len(few.class_names))).all())
    assert few.redistributable
    assert few.name == name
    if few.inputs.ndim == 4:
        assert 0 <= float(few.inputs.min()) < float(few.inputs.max()) <= 1
    assert data.load(name, n=3, seed=1).fingerprint == few.fingerprint
    assert data.load(name, n=3, seed=2).fingerprint != few.fingerprint
    again = data.load(name, ids=[few.ids[2], few.ids[0]], seed=1)
    assert torch.equal(again.inputs, few.inputs[[2, 0]])
    assert again.ids == (few.ids[2], few.ids[0])


def test_choice_does_not_depend_on_what_else_is_in_the_set():
    whole = source.Source("toy", [f"t{i}" for i in range(100)], read=lambda rows: None)
    part = source.Source("toy", [f"t{i}" for i in range(0, 100, 2)], read=lambda rows: None)
    order = [whole.ids[i] for i in source.choose(whole, 100, 3, None)]
    assert [part.ids[i] for i in source.choose(part, 50, 3, None)] == [i for i in order if int(i[1:]) % 2 == 0]
    assert source.choose(whole, None, 3, None) == list(range(100))
    assert order != sorted(order, key=lambda i: int(i[1:]))


def test_mapping_names_the_set_and_its_parameters():
    samples = data.load({"shapes": {"size": 16}}, n=2)
    assert samples.inputs.shape == (2, 3, 16, 16)
    with pytest.raises(ConfigError, match="give n as arguments of load"):
        data.load({"shapes": {"n": 3}})


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"name": "iriss"}, "did you mean 'iris'"),
        ({"name": "../../etc"}, "unknown data set"),
        ({"name": "iris", "n": 0}, "n=0, expected a whole number from 1 to 150"),
        ({"name": "iris", "n": 151}, "from 1 to 150"),
        ({"name": "iris", "n": 2.0}, "n=2.0"),
        ({"name": "iris", "n": True}, "n=True"),
        ({"name": "iris", "seed": "a"}, "seed='a'"),
        ({"name": "iris", "split": "vall"}, "unknown split of data set 'iris'"),
        ({"name": "iris", "size": 3}, "unknown parameter of data set 'iris' 'size'"),
        ({"name": "iris", "raw": 1}, "raw=1"),
        ({"name": "shapes", "size": 4}, "8 to 1024"),
        ({"name": "shapes", "objects": 0}, "objects=0, expected true or false"),
        ({"name": "iris", "n": 1, "ids": ["iris-000"]}, "not both"),
        ({"name": "iris", "ids": ["../iris-000"]}, "is a path"),
        ({"name": "iris", "ids": ["/etc/passwd"]}, "is a path"),
        ({"name": "iris", "ids": ["a\0b"]}, "is a path"),
        ({"name": "iris", "ids": ["x" * 300]}, "is a path"),
        ({"name": "iris", "ids": "iris-000"}, "expected a list"),
        ({"name": "iris", "ids": []}, "expected a list"),
        ({"name": "iris", "ids": ["iris-000", "iris-000"]}, "asked for twice"),
        ({"name": "imagenet", "classes": [1000]}, "0 to 999"),
        ({"name": "imagenet", "classes": "920"}, "0 to 999"),
    ],
)
def test_bad_requests_are_refused(request_, words):
    with pytest.raises(ConfigError) as caught:
        data.load(**request_)
    assert words in str(caught.value)


def test_unknown_id_lists_the_closest():
    with pytest.raises(DataError, match="closest: iris-144, iris-"):
        data.load("iris", ids=["iris-0144"])


@pytest.mark.parametrize(("name", "instead"), [("mnist", "mnist_5k"), ("imagenet", "photos")])
def test_missing_set_says_where_how_and_what_instead(nothing, monkeypatch, name, instead):
    with pytest.raises(DataError) as caught:
        data.load(name, n=1)
    message = str(caught.value)
    assert str(nothing / "none") in message
    assert "$XAI_DATA is not set" in message
    assert f"'{instead}' works now" in message
    assert ("xai data get mnist" if name == "mnist" else "image-net.org") in message
    assert list(nothing.iterdir()) == []
    monkeypatch.setenv("XAI_DATA", str(nothing / "elsewhere"))
    with pytest.raises(DataError, match="elsewhere"):
        data.load(name, n=1)


def test_tables_are_standardised_by_their_training_rows():
    train, raw = data.load("wine", split="train"), data.load("wine", raw=True)
    torch.testing.assert_close(train.inputs.mean(0), torch.zeros(13), atol=1e-5, rtol=0)
    torch.testing.assert_close(train.inputs.std(0, correction=0), torch.ones(13), atol=1e-5, rtol=0)
    assert np.array_equal(raw.inputs.numpy(), datasets.load_wine().data.astype(np.float32))
    test = data.load("wine", split="test")
    assert set(train.ids) | set(test.ids) == set(raw.ids)
    assert not set(train.ids) & set(test.ids)
    everything = data.load("wine")
    at = [everything.ids.index(i) for i in test.ids]
    assert torch.equal(everything.inputs[at], test.inputs)
    assert len(data.columns("wine")) == 13


def test_held_out_is_a_fifth_of_each_class():
    labels = [0] * 10 + [1] * 5
    held = held_out("toy", labels, [str(i) for i in range(15)])
    assert (held[:10].sum(), held[10:].sum()) == (2, 1)
    counts = torch.bincount(data.load("mnist_5k", split="test").targets)
    assert counts.tolist() == [100] * 10


def test_batches_give_what_load_gives_in_constant_memory():
    pieces = list(data.batches("shapes", size=4, n=10, seed=5, own={"size": 16}))
    whole = data.load("shapes", n=10, seed=5, size=16)
    assert [len(piece) for piece in pieces] == [4, 4, 2]
    assert torch.equal(torch.cat([piece.inputs for piece in pieces]), whole.inputs)
    with pytest.raises(ConfigError, match="size=0"):
        data.batches("shapes", size=0)
    with pytest.raises(ConfigError, match="unknown parameter"):
        data.batches("shapes", own={"sice": 3})


def test_batches_read_no_row_before_it_is_needed(monkeypatch):
    asked = []
    toy = source.Source("toy", [str(i) for i in range(1000)], read=lambda rows: asked.append(len(rows)))
    iterator = source.stream(toy, source.choose(toy, 100, 0, None), 8)
    assert asked == []
    next(iterator)
    assert asked == [8]
    tracemalloc.start()
    for batch in data.batches("shapes", size=2, n=40, own={"size": 64}):
        assert len(batch) == 2
    assert tracemalloc.get_traced_memory()[1] < 4e6
    tracemalloc.stop()


def test_photos_have_boxes_classes_authors_and_licences(nothing):
    samples = data.load("photos", size=64)
    assert len(samples) >= 12
    assert samples.class_names[920] == "traffic light"
    assert {samples.class_names[int(t)] for t in samples.targets} >= {"tabby", "espresso", "tripod"}
    for boxes in samples.boxes:
        assert len(boxes) >= 1
        assert boxes.dtype == np.float32
        assert bool((boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= 64).all() and (boxes[:, :2] < boxes[:, 2:]).all())
    assert all(samples.extra["author"])
    assert set(samples.extra["licence"]) <= {
        "CC0",
        "CC BY 2.0",
        "public domain",
        "public domain (no known copyright restrictions)",
    }
    at = samples.ids.index("rocket")
    scale = 64 / 427
    assert np.allclose(samples.boxes[at], [[(309 - 107) * scale, 126 * scale, (336 - 107) * scale, 407 * scale]], atol=1e-4)


def test_listing_and_check(nothing):
    records = {record.name: record for record in data.listing()}
    assert [records[name].n for name in ("iris", "mnist_5k", "shapes", "imagenet")] == [150, 5000, 20000, None]
    assert records["mnist"].found_at is None
    assert not records["imagenet"].redistributable
    assert data.check("photos").n == {"all": 16}
    assert data.check("iris").remarks == ()
    with pytest.raises(ConfigError, match="unknown data set"):
        data.check("iri")
    with pytest.raises(DataError, match="not found"):
        data.check("mnist")


def test_check_names_impossible_rows(monkeypatch):
    good = data.load("iris", n=2)
    bad = good.inputs.clone()
    bad[1, 0] = float("nan")
    broken = source.Source("iris", good.ids, read=lambda rows: type(good)(**{**vars(good), "inputs": bad}).subset(rows))
    assert inventory._broken(broken) == [f"{good.ids[1]}: impossible values"]


@real
@pytest.mark.slow
def test_real_imagenet_is_whole():
    report = data.check("imagenet")
    assert report.n == {"val": 1000}
    light = data.load("imagenet", classes=[920])
    assert len(light) == 1
    assert light.ids == data.load("imagenet", ids=list(light.ids)).ids
    assert len(light.boxes[0]) >= 1
    assert not light.redistributable


@real
def test_real_mnist_is_whole():
    report = data.check("mnist")
    assert report.n == {"test": 10_000, "train": 60_000}
    train = data.load("mnist", split="train")
    assert abs(float(train.inputs.mean()) - 0.1307) < 5e-4
    assert abs(float(train.inputs.std()) - 0.3081) < 5e-4
