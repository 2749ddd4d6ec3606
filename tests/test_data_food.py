"""Food-101: torchvision's folder and reader, central squares in closed form, damaged lists and pictures, the download."""

import hashlib
import io
import json
import os
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from PIL import Image

from xai_lib import DATASETS, data
from xai_lib.data import download, food, places
from xai_lib.errors import ConfigError, DataError

CLASSES = ("pie", "apple_cake", "soup")
"""Not in the order of the alphabet, so that the order of classes.txt can be told from others."""
N = {"train": 3, "test": 2}


def levels(name: str) -> np.ndarray:
    """(12, 12, 3) bytes that belong to one picture."""
    start = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)
    return np.random.default_rng(start).integers(0, 256, (12, 12, 3), dtype=np.uint8)


def save(path, content: np.ndarray) -> None:
    """Lossless whatever the name says: the reader looks at the bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(content).save(path, "PNG")


def listed(split: str) -> dict[str, list[str]]:
    first = 0 if split == "train" else N["train"]
    return {name: [f"{name}/{100 + 7 * (first + i)}" for i in range(N[split])] for name in CLASSES}


def make(root, *, here=CLASSES, form=("json", "txt")):
    folder = root / "food-101"
    (folder / "meta").mkdir(parents=True)
    (folder / "meta" / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    (folder / "meta" / "labels.txt").write_text("Pie\nApple cake\nSoup\n")
    for split in N:
        lists = listed(split)
        if "json" in form:
            (folder / "meta" / f"{split}.json").write_text(json.dumps(lists))
        if "txt" in form:
            (folder / "meta" / f"{split}.txt").write_text("\n".join(f for own in lists.values() for f in own) + "\n")
        for own in here:
            for file in lists[own]:
                save(folder / "images" / f"{file}.jpg", levels(file))
    return folder


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty XAI_DATA, and no other folder."""
    made = tmp_path / "root"
    made.mkdir()
    monkeypatch.setenv("XAI_DATA", str(made))
    monkeypatch.delenv("XAI_MIRROR", raising=False)
    monkeypatch.setattr(places, "REPOSITORY", tmp_path / "repository")
    return made


def test_pixels_labels_and_order_are_those_of_the_layout(root):
    make(root)
    for split, n in N.items():
        samples = data.load("food101", split=split, size=12)
        files = [file for own in listed(split).values() for file in own]
        assert samples.ids == tuple(file.replace("/", "-") for file in files)
        assert samples.class_names == CLASSES
        assert samples.targets.tolist() == [0] * n + [1] * n + [2] * n
        expected = np.stack([levels(file).transpose(2, 0, 1) for file in files]).astype(np.float32) / np.float32(255)
        assert np.array_equal(samples.inputs.numpy(), expected)
        assert not samples.redistributable
        assert samples.licence == DATASETS["food101"].traits["licence"]
    assert data.load("food101").ids == data.load("food101", split="test").ids


@pytest.mark.parametrize("split", list(N))
def test_as_torchvision_reads_the_folder(root, split):
    from torchvision.datasets import Food101

    make(root)
    theirs = Food101(root, split=split)
    mine = data.load("food101", split=split, size=12)
    pairs = {
        tuple((image * 255).round().to(torch.uint8).flatten().tolist()): CLASSES[label]
        for image, label in zip(mine.inputs, mine.targets.tolist(), strict=True)
    }
    for image, label in theirs:
        assert pairs.pop(tuple(np.asarray(image).transpose(2, 0, 1).ravel().tolist())) == theirs.classes[label]
    assert not pairs


@pytest.mark.parametrize(("height", "width"), [(12, 30), (30, 12), (12, 13), (13, 12), (12, 12)])
def test_the_central_square_is_cut(root, height, width):
    folder = make(root)
    whole = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    save(folder / "images" / "soup" / "121.jpg", whole)
    (image,) = data.load("food101", ids=["soup-121"], size=12).inputs
    top, left = (height - 12) // 2, (width - 12) // 2
    square = whole[top : top + 12, left : left + 12].transpose(2, 0, 1)
    assert np.array_equal((image * 255).round().numpy(), square)


@pytest.mark.parametrize(("size", "whole_size"), [(20, (30, 20)), (8, (12, 8)), (80, (120, 80))])
def test_resizing_the_square_equals_resizing_the_whole_and_cutting(root, size, whole_size):
    folder = make(root)
    noise = np.random.default_rng(2).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    save(folder / "images" / "soup" / "121.jpg", noise)
    (image,) = data.load("food101", ids=["soup-121"], size=size).inputs
    whole = np.asarray(Image.fromarray(noise).resize(whole_size, Image.Resampling.BICUBIC)).astype(int)
    left = (whole_size[0] - size) // 2
    difference = (image * 255).round().numpy() - whole[:, left : left + size].transpose(2, 0, 1)
    assert abs(difference).max() <= 1


def test_a_subset_is_accepted_and_classes_can_be_chosen(root):
    make(root, here=("soup", "pie"))
    samples = data.load("food101", split="train")
    assert samples.class_names == ("pie", "soup")
    assert samples.targets.tolist() == [0, 0, 0, 1, 1, 1]
    assert samples.inputs.shape == (6, 3, 64, 64)
    only = data.load("food101", split="train", classes=["soup"])
    assert (only.class_names, only.targets.tolist()) == (("soup",), [0, 0, 0])
    assert torch.equal(only.inputs, samples.inputs[3:])
    both = data.load("food101", split="train", classes=["soup", "pie"], n=6, seed=3)
    assert both.class_names == ("pie", "soup")
    assert data.load("food101", split="train", classes=["pie"], n=3, seed=3).ids == tuple(
        name for name in both.ids if food.class_of(name) == "pie"
    )
    with pytest.raises(DataError, match=r"has no folder 'apple_cake'; here are pie, soup"):
        data.load("food101", classes=["apple_cake"])


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"classes": ["soap"]}, "did you mean 'soup'"),
        ({"classes": "soup"}, "expected a list of names such as 'pie'"),
        ({"classes": []}, "expected a list"),
        ({"classes": [0]}, "expected a list"),
        ({"size": 7}, "8 to 1024"),
        ({"size": 64.0}, "8 to 1024"),
        ({"split": "val"}, "unknown split"),
        ({"ids": ["soup/121"]}, "is a path"),
        ({"n": 7}, "from 1 to 6"),
    ],
)
def test_bad_requests_are_refused(root, own, words):
    make(root)
    with pytest.raises(ConfigError, match=words):
        data.load("food101", **own)


def test_lists_may_be_text_and_json_goes_first(root):
    folder = make(root, form=("txt",))
    assert len(data.load("food101", split="train", size=8)) == 9
    (folder / "meta" / "train.json").write_text(json.dumps({"pie": ["pie/107"]}))
    assert data.load("food101", split="train", size=8).ids == ("pie-107",)
    assert len(data.load("food101", split="test", size=8)) == 6


def test_no_picture_is_opened_before_it_is_asked_for(root, monkeypatch):
    make(root)
    asked = []
    own = food.picture
    monkeypatch.setattr(food, "picture", lambda path: asked.append(path.name) or own(path))
    iterator = data.batches("food101", split="train", size=2, own={"size": 8})
    assert asked == []
    assert next(iterator).inputs.shape == (2, 3, 8, 8)
    assert asked == ["100.jpg", "107.jpg"]


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "missing", "link"])
def test_damaged_pictures_are_named(root, tmp_path, damage):
    folder = make(root)
    path = folder / "images" / "apple_cake" / "121.jpg"
    content = path.read_bytes()
    path.unlink()
    if damage == "link":
        (tmp_path / "secret.jpg").write_bytes(content)
        path.symlink_to(tmp_path / "secret.jpg")
    elif damage != "missing":
        path.write_bytes({"empty": b"", "text": b"just text", "cut": content[:100]}[damage])
    assert len(data.load("food101", ids=["pie-121"])) == 1
    with pytest.raises(DataError, match=r"lies outside its folder.*121\.jpg" if damage == "link" else r"apple_cake/121\.jpg"):
        data.load("food101")
    with pytest.raises(DataError, match=r"1 damaged: .*121\.jpg"):
        data.check("food101")


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("test.json", '{"pie": ["../secret"]}', r"names '\.\./secret'"),
        ("test.json", '{"pie": ["pie/../../secret"]}', r"names 'pie/\.\./"),
        ("test.json", '{"pie": ["pie/a/b"]}', "names 'pie/a/b'"),
        ("test.json", '{"pie": ["pie"]}', "names 'pie'"),
        ("test.json", '{"pie": ["tart/100"]}', "names 'tart/100'"),
        ("test.json", '{"pie": [["pie/100"]]}', "names"),
        ("test.json", '{"pie": ["pie/100", "pie/100"]}', "listed twice"),
        ("test.json", '{"pie": 3}', "expected a list of pictures"),
        ("test.json", '["pie/100"]', "expected a list of pictures"),
        ("test.json", '{"pie": ["pie/1', "expected a list of pictures"),
        ("test.json", "{}", "lists no test picture of pie, apple_cake, soup"),
        ("test.json", b"\xff\xfe", "cannot be read"),
        ("classes.txt", "", "0 names, expected"),
        ("classes.txt", "pie\npie\n", "2 names, expected"),
        ("classes.txt", "pie\n../secret\n", r"such as '\.\./secret'"),
        ("classes.txt", b"\xff\xfe", "cannot be read"),
    ],
)
def test_damaged_lists_are_refused(root, file, content, words):
    folder = make(root)
    (folder / "meta" / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=words) as caught:
        data.load("food101", size=8)
    assert str(folder / "meta") in str(caught.value)


def test_no_folder_of_any_class(root):
    make(root, here=())
    with pytest.raises(DataError, match="holds no folder of 'pie'"):
        data.load("food101")


def test_missing_set_says_where_how_and_what_instead(root, tmp_path):
    with pytest.raises(DataError) as caught:
        data.load("food101", split="train")
    message = str(caught.value)
    for words in (
        str(root),
        str(tmp_path / "repository"),
        "classes.txt",
        "train.json",
        "xai data get food101",
        "'photos' works",
    ):
        assert words in message
    assert list(root.iterdir()) == []
    folder = make(root)
    (folder / "meta" / "train.json").unlink()
    (folder / "meta" / "train.txt").unlink()
    with pytest.raises(DataError, match="not found"):
        data.load("food101", split="train")
    assert len(data.load("food101", size=8)) == 6


def test_check_and_listing_tell_what_is_here(root, tmp_path, monkeypatch):
    make(tmp_path / "repository")
    (entry,) = [entry for entry in data.listing() if entry.name == "food101"]
    assert (entry.n, entry.found_at, entry.redistributable) == (15, str(tmp_path / "repository"), False)
    make(root, here=("soup",))
    assert data.found_at("food101") == str(root)
    report = data.check("food101")
    assert report.n == {"test": 2, "train": 3}
    assert report.remarks[0] == "not the whole set: 1 of 101 classes, 2 of 25,250 test pictures"
    monkeypatch.setattr(food, "CLASSES", 1)
    monkeypatch.setattr(food, "PER_CLASS", N)
    assert data.check("food101").remarks == ()


# --- fetched ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def server(root, tmp_path, monkeypatch):
    """Serves the folder `served`; `asked` lists what was asked for."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            self.server.asked.append(self.path)

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as running:
        running.asked, running.folder = [], folder
        monkeypatch.setenv("XAI_MIRROR", f"http://127.0.0.1:{running.server_port}")
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def serve(server, monkeypatch, tmp_path, *, evil: str = "") -> None:
    """A small archive in the published layout, and its checksum in place of the published one."""
    path = server.folder / "food-101.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(make(tmp_path / "made"), "food-101")
        if evil:
            member = tarfile.TarInfo(evil)
            member.size = 3
            tar.addfile(member, io.BytesIO(b"abc"))
    content = path.read_bytes()
    _, (archive,) = download.REMOTES["food101"]
    small = {**vars(archive), "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    monkeypatch.setitem(download.REMOTES, "food101", ("http://127.0.0.1:1", (download.Remote(**small),)))


def test_it_is_fetched_only_when_allowed(server, root, tmp_path, monkeypatch):
    serve(server, monkeypatch, tmp_path)
    with pytest.raises(DataError, match="not found"):
        data.load("food101")
    assert server.asked == []
    assert list(root.iterdir()) == []
    samples = data.load("food101", allow_download=True, size=12)
    assert np.array_equal((samples.inputs[0] * 255).round().numpy(), levels("pie/121").transpose(2, 0, 1))
    assert len(data.load("food101", split="train", allow_download=True)) == 9
    assert server.asked == ["/food-101.tar.gz"]
    assert data.found_at("food101") == str(root)
    monkeypatch.setenv("XAI_DATA", str(tmp_path / "mine"))
    assert data.get("food101") == [tmp_path / "mine" / "food-101-archive"]
    assert len(data.load("food101")) == 6


@pytest.mark.parametrize("evil", ["../out.jpg", "food-101/images/../../../out.jpg", "/tmp/xai-food-out.jpg"])
def test_an_archive_that_leaves_its_folder_is_refused(server, root, tmp_path, monkeypatch, evil):
    serve(server, monkeypatch, tmp_path, evil=evil)
    with pytest.raises(DataError, match="refused"):
        data.load("food101", allow_download=True)
    assert list(root.rglob("*")) == []
    assert not list(tmp_path.glob("out.jpg"))


def test_the_published_archive_is_that_of_torchvision():
    from torchvision.datasets import Food101

    base, (archive,) = download.REMOTES["food101"]
    assert f"{base}/{archive.path}" == Food101._URL


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("XAI_DATA"), reason="XAI_DATA is not set: the real data sets are not here")
def test_real_food101_is_whole_or_the_known_subset():
    train, test = data.load("food101", split="train"), data.load("food101")
    assert (len(train), len(test)) in ((3_750, 1_250), (75_750, 25_250))
    assert not set(train.ids) & set(test.ids)
    assert len(set(torch.bincount(train.targets).tolist())) == 1
    assert torch.allclose(train.inputs.mean((0, 2, 3)), torch.tensor([0.55, 0.44, 0.35]), atol=0.02)
