"""Faults of pictures, data sets, weights and GPU memory (RELIABILITY F7 F11 F16 F17 F19): told, and nothing else is lost."""

import io
import json
import math
import os
import socket
import struct
import zlib

import numpy as np
import pytest
import tiny_study
import torch
from PIL import Image
from torch import nn

from xai_lib import data, models, toys
from xai_lib.compendium import benchmark, cli, experiments, grid, job, ledger, planning, results, runner
from xai_lib.compendium.engine import Serial
from xai_lib.compendium.store import Store, tree
from xai_lib.data import places
from xai_lib.errors import DataError, EngineError, ModelError, StoreError
from xai_lib.models.wrapper import PixelModel
from xai_lib.registry import MODELS, Entry
from xai_lib.studies.case import open_case, readable, rows

SIDE = 16
SET = {"imagenet": {"size": SIDE}}


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    for name in ("XAI_DATA", "XAI_WEIGHTS", "XAI_ALLOW_DOWNLOAD", "XAI_RUN_DIR"):
        monkeypatch.delenv(name, raising=False)
    ledger.clear()
    yield
    ledger.clear()


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def register(monkeypatch):
    """register(net) enters a net of 16 px colour pictures as the model `toy`."""

    def enter(net, classes="abcd"):
        def toy(*, weights=None, precision="float32"):
            return PixelModel(net, name="toy", input_shape=(3, SIDE, SIDE), class_names=classes)

        assert "mnist_cnn" in MODELS  # the registry is filled
        monkeypatch.setitem(MODELS._entries, "toy", Entry("toy", toy, "Toy", "none"))
        experiments._model.cache_clear()

    yield enter
    experiments._model.cache_clear()


def noise(number, mode="RGB"):
    shape = (20, 24, len(mode)) if len(mode) > 1 else (20, 24)
    return Image.fromarray(np.random.default_rng(number).integers(0, 255, shape, dtype=np.uint8), mode=mode)


def encoded(image, form="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


class Folder:
    """A folder like ImageNet's with these pictures, name -> bytes; None for a picture that is listed and not there."""

    def __init__(self, root, pictures):
        self.root = root / "imagenet"
        for name in ("val", "metadata"):
            (self.root / name).mkdir(parents=True)
        names = list(pictures)
        self.table("image_ids", [f"val/{name}.JPEG" for name in names])
        self.table("class_labels", [f"val/{name}.JPEG,{k}" for k, name in enumerate(names)])
        self.table("image_sizes", [f"val/{name}.JPEG,24,20" for name in names])
        self.boxes(0, 0, 11, 9)
        for name, content in pictures.items():
            if content is not None:
                self.put(name, content)

    def table(self, name, lines):
        (self.root / "metadata" / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))

    def boxes(self, *corners):
        names = (self.root / "metadata" / "image_ids.txt").read_text().splitlines()
        self.table("localization", [",".join(map(str, [name, *corners])) for name in names])

    def path(self, name):
        return self.root / "val" / f"{name}.JPEG"

    def put(self, name, content):
        self.path(name).write_bytes(content)


def folder_of(monkeypatch, tmp_path, pictures):
    monkeypatch.setenv("XAI_DATA", str(tmp_path / "data"))
    return Folder(tmp_path / "data", pictures)


def run(store, methods=("gradient",), metrics=("sparseness",), **own):
    given = {"shard": 2, "progress": None, **own}
    return grid.run(SET, ["toy"], list(methods), list(metrics), store=store, **given)


def values(table, metric="sparseness"):
    chosen = table[table.metric == metric]
    return dict(zip(chosen["sample"], chosen["value"], strict=True))


# --- F7 pictures --------------------------------------------------------------------------------------------------------------


def claiming(width, height):
    """A sound PNG header that claims this size, and a single pixel."""
    content = encoded(Image.new("L", (1, 1)), "PNG")
    header = b"IHDR" + struct.pack(">2I", width, height) + content[24:29]
    return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(noise(6), exif=exif)


ODD = {
    "plain": encoded(noise(0)),
    "cmyk": encoded(noise(1, "CMYK")),
    "grey": encoded(noise(2, "L")),
    "rgba": encoded(noise(3, "RGBA"), "PNG"),
    "deep": encoded(Image.fromarray((np.arange(480).reshape(20, 24) * 136).astype(np.uint16)), "PNG"),
    "turned": turned(),
    "two": encoded(noise(7).resize((2, 1))),
}
DAMAGED = {
    "truncated": (encoded(noise(8))[:300], "cannot be read"),
    "empty": (b"", r"is empty \(0 bytes\)"),
    "text": (b"a text, whatever its name says", "is no JPEG or PNG file"),
    "bomb": (claiming(60_000, 60_000), "too large .* exceeds limit"),
    "large": (claiming(8_000, 8_000), r"too large \(8000 x 8000 pixels\); at most 50,000,000"),
    "absent": (None, "cannot be read .* missing"),
}
MIXED = {**ODD, **{name: content for name, (content, _) in DAMAGED.items()}}


@pytest.fixture
def mixed(monkeypatch, tmp_path, register):
    register(toys.TinyNet())
    return folder_of(monkeypatch, tmp_path, MIXED)


def test_f7_bad_pictures_are_left_out_with_their_reason_and_the_others_are_right(mixed, store):
    table = run(store)
    assert set(values(table)) == set(ODD)
    assert np.isfinite(table["value"]).all()
    left = table.attrs["quarantined"]
    assert left == ledger.left_out
    assert list(left) == list(DAMAGED)
    for name, (_, why) in DAMAGED.items():
        with pytest.raises(DataError, match=why) as caught:
            data.load("imagenet", ids=[name], size=SIDE)
        assert left[name] == str(caught.value)
        assert f"{name}.JPEG" in left[name]
    alone = Store(store.root.parent / "alone")
    again = grid.run(
        grid.Images(SET, ids=list(ODD)), ["toy"], ["gradient"], ["sparseness"], store=alone, shard=2, progress=None
    )
    assert values(again) == values(table)
    assert tree(alone.root) == tree(store.root)


def test_f7_a_case_leaves_bad_pictures_out_and_its_record_says_so(mixed, tmp_path, monkeypatch):
    samples = readable("imagenet", size=SIDE)
    assert samples.ids == tuple(ODD)
    case = open_case("toy", SET, n=len(MIXED))
    assert sorted(case.samples.ids) == sorted(ODD)
    monkeypatch.setenv("XAI_RUN_DIR", str(tmp_path))
    results.save_results(rows(case, "a", "m", case.targets), samples=[samples], models=[case.model])
    record = json.loads((tmp_path / "provenance.json").read_text())
    assert [one["item"] for one in record["extra"]["quarantined"]] == sorted(DAMAGED)
    assert all(one["reason"].startswith("picture ") for one in record["extra"]["quarantined"])


def test_f7_nothing_but_bad_pictures_is_an_error(monkeypatch, tmp_path, register, store):
    register(toys.TinyNet())
    folder_of(monkeypatch, tmp_path, {name: content for name, (content, _) in DAMAGED.items()})
    with pytest.raises(DataError, match=r"none of 6 images can be read; the first: picture .*truncated\.JPEG") as caught:
        run(store)
    assert caught.value.exit_code == 4
    with pytest.raises(DataError, match=r"absent\.JPEG"):
        readable("imagenet", size=SIDE)
    assert list(store.listing()) == []


def four(monkeypatch, tmp_path, register):
    register(toys.TinyNet())
    return folder_of(monkeypatch, tmp_path, {name: encoded(noise(k)) for k, name in enumerate("abcd")})


def works(images=SET):
    items, bad = grid.Images(images).items("predicted")
    assert not bad
    cells = grid.cells(
        grid.Images(images), items, ["toy"], ["gradient"], ["sparseness"], score="logit", seed=0, shard=2, max_batch=None
    )
    return grid.stages(list(cells))


def test_f7_a_picture_that_breaks_while_the_run_goes_on_is_left_out_alone(monkeypatch, tmp_path, register, store):
    folder = four(monkeypatch, tmp_path, register)
    stages = works()
    folder.put("b", encoded(noise(1))[:300])
    summary = benchmark.fill(stages, store, Serial())
    assert list(summary.left_out) == ["b"]
    assert summary.left_out["b"].startswith("DataError: picture ")
    found = benchmark.gather(stages[1][0], store)
    assert np.isfinite(found.arrays["value"]).tolist() == [True, False, True, True]
    assert list(found.left_out) == list(ledger.left_out) == ["b"]


def test_f7_a_picture_that_is_whole_again_is_computed(monkeypatch, tmp_path, register, store):
    folder = four(monkeypatch, tmp_path, register)
    stages, whole = works(), folder.path("b").read_bytes()
    folder.put("b", whole[:300])
    benchmark.fill(stages, store, Serial())
    folder.put("b", whole)
    table = run(store)
    assert np.isfinite(table["value"]).all()


RUN = """
from xai_lib.compendium import study
from xai_lib.studies.case import open_case, rows
import pandas as pd
pictures = open_case("efficientnet_lite0", "imagenet", n=n_images)
table = pd.concat([rows(pictures, name, "score", pictures.targets) for name in "ab"])
study.save_results(table, samples=[pictures.samples], models=[pictures.model]);
"""


@pytest.mark.slow
def test_f7_a_run_with_a_bad_picture_ends_with_3_and_names_it(monkeypatch, tmp_path):
    folder_of(monkeypatch, tmp_path, {"good": encoded(noise(0)), "torn": encoded(noise(1))[:300], "fine": encoded(noise(2))})
    root = tiny_study.write(tmp_path / "root", RUN)
    result = runner.run("tiny", root=root, progress=None)
    assert (result.exit_code, result.message.partition("; ")[2]) == (3, "1 items quarantined")
    (left,) = result.record["extra"]["quarantined"]
    assert left["item"] == "torn"
    assert "torn.JPEG cannot be read" in left["reason"]
    assert result.record["data"][0]["n"] == 2


@experiments.study_task(label="Brightness of a faulty set")
def fault_brightness(case):
    return {"value": case.inputs.flatten(1).mean(1)}


def works_opened_now(*_):
    return [[experiments.work_of(open_case("toy", SET, n=len(MIXED)), fault_brightness)]]


def test_f7_computing_ahead_with_a_bad_picture_ends_with_3(monkeypatch, tmp_path, mixed):
    monkeypatch.setenv("XAI_ROOT", str(tiny_study.write(tmp_path / "root")))
    monkeypatch.setenv("XAI_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(planning, "works_of", works_opened_now)
    assert cli.main(["run", "tiny", "--shard", "1/1"]) == 3


# --- F19 a gradient that is not finite ----------------------------------------------------------------------------------------

DARK = 0.2


class Root(nn.Module):
    """f_0 = sqrt(mean - DARK), 0 below: the gradient of the mean is 1 / (2 f_0), and NaN for a dark picture."""

    def forward(self, x):
        over = x.flatten(1).mean(1) - DARK
        root = (over * (over > 0)).sqrt()
        return torch.stack([root, -root - 1], dim=1)


GREYS = {"bright": 200, "dark": 30, "middle": 120, "night": 10}


@pytest.fixture
def greys(monkeypatch, tmp_path, register):
    register(Root(), "ab")
    pictures = {name: encoded(Image.new("L", (20, 24), grey), "PNG") for name, grey in GREYS.items()}
    return folder_of(monkeypatch, tmp_path, pictures)


def test_f19_a_map_that_is_not_finite_is_left_out_and_its_neighbours_are_right(greys, store):
    table = run(store, metrics=["complexity"])
    found = values(table, "complexity")
    assert found["bright"] == pytest.approx(math.log(SIDE * SIDE), rel=1e-5)  # a constant map
    assert found["middle"] == pytest.approx(math.log(SIDE * SIDE), rel=1e-5)
    left = table.attrs["quarantined"]
    assert set(left) == {"dark", "night"}
    assert all(why.startswith("InputError: nonfinite: the map of ") for why in left.values())
    flags = dict(zip(table["sample"], table["flag"], strict=True))
    assert flags == {"bright": "", "middle": "", **left}
    assert set(ledger.left_out) == set(left)
    shards = [store.read(one.request) for one in store.listing() if one.request["task"] == "attribute"]
    slopes = {name: 0.5 / math.sqrt(grey / 255 - DARK) / (3 * SIDE**2) for name, grey in GREYS.items() if grey / 255 > DARK}
    means = sorted(float(a.mean()) for one in shards for a in one.arrays["attributions"] if np.isfinite(a).all())
    assert means == pytest.approx(sorted(slopes.values()), rel=1e-4)


@pytest.mark.parametrize("shard", [1, 4])
def test_f19_the_same_is_left_out_however_the_pictures_are_cut(greys, store, shard):
    table = run(store, shard=shard)
    assert set(table[table["value"].isna()]["sample"]) == {"dark", "night"}
    assert set(table.attrs["quarantined"]) == {"dark", "night"}


def test_f19_what_was_left_out_is_told_again_when_all_is_known(greys, store):
    first = run(store)
    ledger.clear()
    again = run(store)
    assert again.attrs["summary"].done == 0
    assert again.equals(first)
    assert again.attrs["quarantined"] == first.attrs["quarantined"]
    assert set(ledger.left_out) == {"dark", "night"}


# --- F11 memory of the GPU ----------------------------------------------------------------------------------------------------


class Hungry(nn.Module):
    """Raises what CUDA raises for more than `most` rows, or for one certain picture."""

    def __init__(self, most):
        super().__init__()
        self.net, self.most, self.calls = toys.TinyNet(), most, []

    def forward(self, x):
        self.calls.append(len(x))
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return self.net(x)


IG = [{"integrated_gradients": {"steps": 6}}]


def test_f11_the_batch_is_halved_and_the_maps_are_those_of_the_small_batch(monkeypatch, tmp_path, register, store):
    four(monkeypatch, tmp_path, register)
    hungry, modest = Hungry(4), Hungry(1000)
    register(hungry)
    table = run(store, IG, shard=4)
    assert table.attrs["quarantined"] == {}
    assert max(hungry.calls) == 24  # 4 pictures x 6 steps at once
    assert {24, 16, 8, 4} == set(hungry.calls)
    register(modest)
    other = Store(tmp_path / "other")
    run(other, IG, shard=4, max_batch=4)
    assert max(modest.calls) == 4
    assert tree(other.root) == tree(store.root)


def test_f11_what_does_not_fit_row_by_row_is_left_out_with_its_reason(monkeypatch, tmp_path, register, store):
    four(monkeypatch, tmp_path, register)
    hungry = Hungry(0)
    register(hungry)
    table = run(store, IG)
    assert table["value"].isna().all()
    assert hungry.calls[-1] == 1
    assert set(table.attrs["quarantined"]) == set("abcd")
    assert all("out of memory with max_batch=1" in flag for flag in table["flag"])


def test_f11_what_did_not_fit_is_not_stored_but_tried_again(monkeypatch, tmp_path, register, store):
    four(monkeypatch, tmp_path, register)
    hungry = Hungry(0)
    register(hungry)
    run(store, IG)
    assert list(store.listing()) == []
    hungry.most = 4
    again = run(store, IG)
    assert np.isfinite(again["value"]).all()
    assert again.attrs["quarantined"] == {}


# --- F16 what is not there ----------------------------------------------------------------------------------------------------


@pytest.fixture
def nothing(monkeypatch, tmp_path):
    """No data, no weights, and no way out."""
    monkeypatch.setenv("XAI_DATA", str(tmp_path / "empty"))
    monkeypatch.setattr(places, "REPOSITORY", tmp_path / "none")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, lambda *_: pytest.fail("a download was tried"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("a download was tried"))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "get", "instead"), [("mnist", "xai data get mnist", "mnist_5k"), ("imagenet", "image-net.org", "photos")]
)
def test_f16_a_missing_set_says_where_it_looked_how_to_get_it_and_what_works(nothing, store, name, get, instead):
    asked = [
        lambda: data.load(name, n=1),
        lambda: next(iter(data.batches(name, size=1))),
        lambda: data.check(name),
        lambda: readable(name, n=1),
        lambda: grid.run(name, ["mnist_cnn"], ["gradient"], ["sparseness"], store=store, progress=None),
    ]
    for ask in asked:
        with pytest.raises(DataError, match="not found: looked for") as caught:
            ask()
        assert caught.value.exit_code == 4
        for words in (str(nothing / "empty"), str(nothing / "none"), "(no such folder)", get, f"{instead!r} works now"):
            assert words in str(caught.value)
    assert list(store.listing()) == []
    assert sorted(path.name for path in nothing.iterdir()) == ["store"]


@pytest.mark.slow
def test_f16_missing_weights_say_the_same_and_end_a_grid_before_it_starts(nothing, store):
    for ask in (
        lambda: models.load("resnet18"),
        lambda: grid.run("photos", ["mnist_cnn", "resnet18"], ["gradient"], ["sparseness"], n=1, store=store, progress=None),
    ):
        with pytest.raises(
            ModelError, match=r"weights of 'resnet18' not found: looked for resnet18-f37072fd\.pth in"
        ) as caught:
            ask()
        assert caught.value.exit_code == 4
        for words in (str(nothing / "torch"), "$XAI_WEIGHTS is not set", "allow_download=True", "Works now without download: "):
            assert words in str(caught.value)
    assert list(store.listing()) == []
    assert sorted(path.name for path in nothing.iterdir()) == ["store"]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("DataError", 4),
        ("ModelError", 4),
        ("UnsupportedModelError", 4),
        ("StoreError", 5),
        ("ConfigError", 1),
        ("KeyError", 1),
        ("unknown", 1),  # a function among the errors
    ],
)
def test_f16_an_error_in_a_notebook_keeps_its_exit_code(tmp_path, name, code):
    (tmp_path / ".work").mkdir()
    event = {"event": "error", "index": 3, "name": name, "value": "gone"}
    (tmp_path / ".work" / "events.jsonl").write_text(json.dumps(event) + "\n")
    own = job.Job(*[None] * 2, tmp_path, "id", False, None, {})
    with pytest.raises(EngineError, match=f"cell 4 raised {name}: gone") as caught:
        own._judge_end(1)
    assert caught.value.exit_code == code


# --- F17 data or weights that change ------------------------------------------------------------------------------------------


def test_f17_a_picture_that_changed_between_two_runs_has_a_key_of_its_own(monkeypatch, tmp_path, register, store):
    folder = four(monkeypatch, tmp_path, register)
    before = run(store)
    assert before.attrs["summary"].done == 4
    os.utime(folder.path("a"), (0, 0))
    assert run(store).attrs["summary"].done == 0
    folder.put("c", encoded(noise(9)))
    changed = run(store)
    assert (changed.attrs["summary"].done, changed.attrs["summary"].known) == (2, 2)  # the shard of c and d
    fresh = Store(tmp_path / "fresh")
    expected = run(fresh)
    assert values(changed) == values(expected)
    assert {name for name in "abcd" if values(changed)[name] != values(before)[name]} == {"c"}
    assert tree(fresh.root).items() <= tree(store.root).items()
    folder.put("c", encoded(noise(2)))
    assert values(run(store)) == values(before)


def test_f17_weights_that_changed_between_two_runs_have_keys_of_their_own(monkeypatch, tmp_path, register, store):
    four(monkeypatch, tmp_path, register)
    before = run(store)
    register(toys.TinyNet(seed=1))
    changed = run(store)
    assert changed.attrs["summary"].known == 0
    assert all(values(changed)[name] != values(before)[name] for name in "abcd")


@pytest.mark.parametrize("what", ["a picture", "the weights"])
def test_f17_what_changes_while_the_run_goes_on_ends_it_with_5(monkeypatch, tmp_path, register, store, what):
    folder = four(monkeypatch, tmp_path, register)
    stages = works()
    if what == "a picture":
        folder.put("c", encoded(noise(9)))
    else:
        register(toys.TinyNet(seed=1))
    with pytest.raises(StoreError, match="changed since the run began; start again") as caught:
        benchmark.fill(stages, store, Serial())
    assert caught.value.exit_code == 5
    stored = [str(item[0]) for one in store.listing() for item in one.request["items"]]
    assert stored == (["a", "b"] if what == "a picture" else [])  # nothing of the shard with the change


def test_f17_boxes_that_changed_between_two_runs_are_not_judged_by_the_old_ones(monkeypatch, tmp_path, register, store):
    folder = four(monkeypatch, tmp_path, register)
    before = run(store, metrics=["energy_in_box"])
    folder.boxes(12, 10, 23, 19)
    expected = run(Store(tmp_path / "fresh"), metrics=["energy_in_box"])
    assert values(expected, "energy_in_box") != values(before, "energy_in_box")
    assert values(run(store, metrics=["energy_in_box"]), "energy_in_box") == values(expected, "energy_in_box")
