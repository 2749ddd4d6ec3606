"""ImageNet's folder: boxes, fingerprints, damaged pictures and metadata, links, read-only folders."""

import os
import tempfile
from pathlib import Path

import pytest
from PIL import Image

from xai_lib import data
from xai_lib.data import places
from xai_lib.errors import ConfigError, DataError

NAMES = ("a_1", "b_2", "c_3")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    root = tmp_path / "imagenet"
    (root / "val").mkdir(parents=True)
    (root / "metadata").mkdir()
    for i, name in enumerate(NAMES):
        Image.new("RGB", (20, 20), (i * 100, 0, 0)).save(root / "val" / f"{name}.JPEG", "JPEG")
    table(root, "image_ids", *[f"val/{name}.JPEG" for name in NAMES])
    table(root, "class_labels", "val/a_1.JPEG,5", "val/b_2.JPEG,920", "val/c_3.JPEG,5")
    table(root, "image_sizes", *[f"val/{name}.JPEG,500,250" for name in NAMES])
    table(root, "localization", "val/a_1.JPEG,0,0,499,249", "val/a_1.JPEG,100,50,199,99", "val/b_2.JPEG,250,0,499,124")
    monkeypatch.setenv("XAI_DATA", str(tmp_path))
    return root


def table(root, name, *lines):
    (root / "metadata" / f"{name}.txt").write_text("\n".join(lines) + "\n")


def test_imagenet_boxes_follow_each_axis(folder):
    samples = data.load("imagenet", size=100)
    assert samples.ids == NAMES
    assert samples.targets.tolist() == [5, 920, 5]
    assert [boxes.tolist() for boxes in samples.boxes] == [[[0, 0, 100, 100], [20, 20, 40, 40]], [[50, 0, 100, 50]], []]
    assert data.load("imagenet", classes=[920]).ids == ("b_2",)
    assert data.load("imagenet", classes=[5], n=2, seed=4).ids == tuple(
        i for i in data.load("imagenet", n=3, seed=4).ids if i != "b_2"
    )
    with pytest.raises(DataError, match=r"no picture of classes \[7\]"):
        data.load("imagenet", classes=[7])


def test_fingerprint_changes_with_one_picture(folder):
    before = data.load("imagenet", size=16).fingerprint
    os.utime(folder / "val" / "b_2.JPEG", (0, 0))
    assert data.load("imagenet", size=16).fingerprint == before
    Image.new("RGB", (20, 20), (99, 5, 0)).save(folder / "val" / "b_2.JPEG", "JPEG")
    assert data.load("imagenet", size=16).fingerprint != before


def test_damaged_pictures_are_counted_and_the_others_still_load(folder):
    (folder / "val" / "b_2.JPEG").write_bytes(b"")
    assert len(data.load("imagenet", ids=["a_1", "c_3"], size=16)) == 2
    with pytest.raises(DataError, match=r"b_2\.JPEG is empty"):
        data.load("imagenet")
    (folder / "val" / "c_3.JPEG").unlink()
    with pytest.raises(DataError, match=r"2 damaged: .*b_2\.JPEG.*c_3\.JPEG"):
        data.check("imagenet")


@pytest.mark.parametrize(
    ("name", "lines", "words"),
    [
        ("image_ids", ["val/../../secret.JPEG"], "outside the folder"),
        ("image_ids", ["/etc/passwd"], "expected val/NAME"),
        ("image_ids", ["val/a_1.JPEG", "val/a_1.JPEG"], "names repeat"),
        ("class_labels", ["val/a_1.JPEG,5"], "b_2.JPEG has no line"),
        ("class_labels", [f"val/{name}.JPEG,1000" for name in NAMES], "class 1000"),
        ("class_labels", ["val/a_1.JPEG,tench"], "class_labels.txt, line 1"),
        ("localization", ["val/a_1.JPEG,1,2,3"], "localization.txt, line 1"),
    ],
)
def test_damaged_metadata_is_refused(folder, name, lines, words):
    table(folder, name, *lines)
    for line in lines if name == "image_ids" else []:
        for other, tail in (("class_labels", ",5"), ("image_sizes", ",9,9")):
            with (folder / "metadata" / f"{other}.txt").open("a") as file:
                file.write(f"{line}{tail}\n")
    with pytest.raises(DataError) as caught:
        data.load("imagenet", size=16)
    assert words in str(caught.value)


def test_linked_folder_works_and_linked_file_outside_does_not(folder, tmp_path):
    (folder / "val").rename(tmp_path / "elsewhere")
    (folder / "val").symlink_to(tmp_path / "elsewhere")
    assert len(data.load("imagenet", size=16)) == 3
    (tmp_path / "elsewhere" / "a_1.JPEG").rename(tmp_path / "secret.JPEG")
    (tmp_path / "elsewhere" / "a_1.JPEG").symlink_to(tmp_path / "secret.JPEG")
    with pytest.raises(DataError, match="outside the folder"):
        data.load("imagenet", size=16)


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "a//b", "", "a\0b", "a\\b", "x" * 1025])
def test_paths_stay_inside(tmp_path, name):
    with pytest.raises(ConfigError, match="leaves"):
        places.inside(tmp_path, name)


def test_read_only_folder_works_and_is_left_alone(folder):
    data.load("photos", n=1, size=8)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "imagenet"
        folder.rename(root)
        everything = [root.parent, root, *root.rglob("*")]
        before = sorted(str(path) for path in everything)
        for path in everything:
            path.chmod(0o555 if path.is_dir() else 0o444)
        os.environ["XAI_DATA"] = place  # restored by the fixture's monkeypatch
        as_root = os.geteuid() == 0
        try:
            if as_root:
                os.seteuid(65534)
            assert len(data.load("imagenet", size=16)) == 3
        finally:
            if as_root:
                os.seteuid(0)
            for path in everything:
                path.chmod(0o755)
        assert sorted(str(path) for path in [root.parent, root, *root.rglob("*")]) == before
