"""CIFAR-10: both layouts against pictures made here, torchvision's own reader, damaged files, the download."""

import hashlib
import io
import json
import os
import pickle
import tarfile
import threading
import warnings
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import parquet

from xai_lib import DATASETS, data
from xai_lib.data import cifar10, cifar10_files, download, places
from xai_lib.data.cifar10_files import decoded, open_parquet, parse_batch
from xai_lib.errors import ConfigError, DataError

PER_BATCH, N_TEST = 4, 6
PIXELS = np.random.default_rng(0).integers(0, 256, (5 * PER_BATCH + N_TEST, 3, 32, 32), dtype=np.uint8)
LABELS = [(3 * row + 1) % 10 for row in range(len(PIXELS))]
TEST = slice(5 * PER_BATCH, None)


def short(text: bytes) -> bytes:
    return b"U" + bytes([len(text)]) + text


def batch(pixels: np.ndarray, labels: list[int], *, extra: bytes = b"") -> bytes:
    """A batch as Python 2 pickled the published ones: protocol 2, pixels as one string of bytes."""
    numbers, raw = b"".join(b"K" + bytes([label]) for label in labels), pixels.tobytes()
    names = b"".join(short(b"picture_%d.png" % row) for row in range(len(labels)))
    return b"".join(
        [
            b"\x80\x02}q\x01(" + short(b"batch_label") + b"q\x02" + short(b"batch 1 of 5") + b"q\x03",
            short(b"labels") + b"q\x04]q\x05(" + numbers + b"e" + short(b"data") + b"q\x06",
            b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85" + short(b"b") + b"\x87Rq\x09(K\x01",
            b"M" + len(labels).to_bytes(2, "little") + b"M\x00\x0c\x86cnumpy\ndtype\nq\x0a" + short(b"u1"),
            b"K\x00K\x01\x87Rq\x0b(K\x03" + short(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89",
            b"T"
            + len(raw).to_bytes(4, "little")
            + raw
            + b"tb"
            + short(b"filenames")
            + b"q\x0c]q\x0d("
            + names
            + b"e"
            + extra
            + b"u.",
        ]
    )


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """An empty XAI_DATA, no other folder, and the counts of the small sets made here."""
    made = tmp_path / "root"
    made.mkdir()
    monkeypatch.setenv("XAI_DATA", str(made))
    monkeypatch.delenv("XAI_MIRROR", raising=False)
    monkeypatch.setattr(places, "REPOSITORY", tmp_path / "repository")
    monkeypatch.setattr(cifar10, "COUNTS", {"test": N_TEST, "train": 5 * PER_BATCH})
    monkeypatch.setattr(cifar10, "PARTIAL", {"test": N_TEST - 1})
    return made


@pytest.fixture
def published(monkeypatch):
    """Writes torchvision's folder below a root, and takes its MD5 for the published ones."""

    def write(folder):
        place = folder / "cifar-10-batches-py"
        place.mkdir(parents=True)
        made: dict[str, dict[str, str]] = {"train": {}, "test": {}}
        for split, names in cifar10.MD5.items():
            for at, name in enumerate(names):
                rows = TEST if split == "test" else slice(at * PER_BATCH, (at + 1) * PER_BATCH)
                content = batch(PIXELS[rows], LABELS[rows])
                (place / name).write_bytes(content)
                made[split][name] = md5(content)
        monkeypatch.setattr(cifar10, "MD5", made)
        return place

    return write


def coded(row: int, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS[row].transpose(1, 2, 0)).save(buffer, form)
    return buffer.getvalue()


def table(n: int, *, img=None, label=None, names=None, **options) -> pa.Table:
    rows = range(5 * PER_BATCH, 5 * PER_BATCH + n)
    image = [{"bytes": coded(row, **options), "path": f"{row}.png"} for row in rows] if img is None else img
    made = pa.table({"img": image, "label": [LABELS[row] for row in rows] if label is None else label})
    if names is not None:
        told = {"info": {"features": {"label": {"names": names}}}}
        made = made.replace_schema_metadata({"huggingface": json.dumps(told)})
    return made


def put(folder, made: pa.Table, split: str = "test"):
    path = folder / "cifar10" / f"{split}-00000-of-00001.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(made, path)
    return path


# --- the published batches ----------------------------------------------------------------------------------------------------


def test_parsed_batch_in_closed_form():
    content = batch(PIXELS[:3], [9, 0, 255])
    offset, labels = parse_batch(content, "b")
    assert labels.tolist() == [9, 0, 255]
    assert content[offset - 5 : offset] == b"T" + (3 * 3072).to_bytes(4, "little")
    assert content[offset : offset + 3 * 3072] == PIXELS[:3].tobytes()


@pytest.mark.parametrize("split", ["test", "train"])
def test_batches_are_read_as_torchvision_reads_them(root, published, monkeypatch, split):
    from torchvision.datasets import CIFAR10

    place = published(root)
    meta = pickle.dumps({"label_names": list(cifar10_files.CLASSES)}, protocol=2)
    (place / "batches.meta").write_bytes(meta)
    for name in ("train", "test"):
        monkeypatch.setattr(CIFAR10, f"{name}_list", [[file, digest] for file, digest in cifar10.MD5[name].items()])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5(meta)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy 2.4.0 to 2.4.4 warn about pickles as old as the published ones
        expected = CIFAR10(root, train=split == "train", download=False)
    samples = data.load("cifar10", split=split)
    assert np.array_equal((samples.inputs * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy(), expected.data)
    assert samples.targets.tolist() == expected.targets
    assert samples.class_names == tuple(expected.classes)
    rows = slice(5 * PER_BATCH) if split == "train" else TEST
    assert np.array_equal(samples.inputs.numpy(), PIXELS[rows].astype(np.float32) / np.float32(255))


def test_chosen_rows_over_several_batches(root, published):
    published(root)
    few = data.load("cifar10", split="train", ids=["train-00013", "train-00002", "train-00012", "train-00019"])
    assert np.array_equal((few.inputs * 255).round().numpy(), PIXELS[[13, 2, 12, 19]])
    assert few.targets.tolist() == [LABELS[row] for row in (13, 2, 12, 19)]


def test_what_was_read_is_told(root, published):
    put(root, table(N_TEST, form="JPEG"))
    copied = data.load("cifar10")
    published(root)
    original = data.load("cifar10")
    assert (original.ids[0], copied.ids[0]) == ("test-00000", "parquet-test-00000")
    assert (original.extra["encoding"][0], copied.extra["encoding"][0]) == ("raw", "JPEG")
    assert original.licence == DATASETS["cifar10"].traits["licence"]
    assert copied.licence == f"{original.licence}; JPEG re-encodings"
    assert original.fingerprint != copied.fingerprint
    assert not original.redistributable
    assert not copied.redistributable
    assert not torch.equal(original.inputs, copied.inputs)
    assert (original.inputs - copied.inputs).abs().mean() < 0.25


def test_a_batch_is_never_executed(root, published, tmp_path, monkeypatch):
    place, canary = published(root), tmp_path / "canary"
    evil = short(b"evil") + b"cposix\nsystem\n(" + short(b"touch %s" % str(canary).encode()) + b"tR"
    content = batch(PIXELS[TEST], LABELS[TEST], extra=evil)
    (place / "test_batch").write_bytes(content)
    monkeypatch.setitem(cifar10.MD5["test"], "test_batch", md5(content))
    assert len(data.load("cifar10")) == N_TEST
    assert not canary.exists()
    pickle.loads(content, encoding="latin1")
    assert canary.exists(), "unpickling would have run it"


GOOD = batch(PIXELS[:2], [1, 2])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no pickled batch"),
        (b"just text", "no pickled batch"),
        (GOOD[:-9000], "no pickled batch"),
        (batch(PIXELS[:3], [1, 2]), "9,216 bytes for 2 labels"),
        (batch(PIXELS[:2], []), "for 0 labels"),
        (batch(PIXELS[:2], [1, 2], extra=short(b"more") + b"T" + (300).to_bytes(4, "little") + bytes(300)), "300 bytes"),
        (pickle.dumps({"labels": [1], "data": "x"}, protocol=4), "no pixels"),
    ],
    ids=["empty", "text", "truncated", "too few labels", "no labels", "two long strings", "another pickle"],
)
def test_damaged_batches_are_refused(content, words):
    with pytest.raises(DataError, match=words) as caught:
        parse_batch(content, "folder/test_batch")
    assert "folder/test_batch" in str(caught.value)


def test_other_bytes_and_missing_batches_are_refused(root, published):
    place = published(root)
    content = bytearray((place / "data_batch_3").read_bytes())
    content[-1000] ^= 1
    (place / "data_batch_3").write_bytes(content)
    with pytest.raises(DataError, match="data_batch_3: md5"):
        data.load("cifar10", split="train")
    (place / "data_batch_3").unlink()
    with pytest.raises(DataError, match=r"data_batch_3 cannot be read"):
        data.load("cifar10", split="train")
    assert len(data.load("cifar10")) == N_TEST


def test_published_md5_are_those_of_torchvision():
    from torchvision.datasets import CIFAR10

    assert [[name, digest] for name, digest in cifar10.MD5["train"].items()] == CIFAR10.train_list
    assert [[name, digest] for name, digest in cifar10.MD5["test"].items()] == CIFAR10.test_list
    ((address, (archive,)), given) = (download.REMOTES["cifar10"], CIFAR10.url)
    assert f"{address}/{archive.path}" == given


# --- parquet files ------------------------------------------------------------------------------------------------------------


def test_parquet_pictures_without_loss(root):
    put(root, table(N_TEST, names=list(cifar10_files.CLASSES)))
    samples = data.load("cifar10")
    assert np.array_equal(samples.inputs.numpy(), PIXELS[TEST].astype(np.float32) / np.float32(255))
    assert samples.targets.tolist() == LABELS[TEST]
    assert samples.targets.dtype == torch.int64
    assert samples.extra["encoding"] == ["PNG"] * N_TEST
    assert samples.licence == cifar10.LICENCE
    assert samples.class_names[6] == "frog"


def test_jpeg_pictures_are_what_pillow_decodes(root):
    put(root, table(N_TEST, form="JPEG"))
    samples = data.load("cifar10", ids=["parquet-test-00004", "parquet-test-00001"])
    assert samples.targets.tolist() == [LABELS[TEST][4], LABELS[TEST][1]]
    for image, row in zip(samples.inputs, (4, 1), strict=True):
        expected = np.asarray(Image.open(io.BytesIO(coded(5 * PER_BATCH + row, "JPEG"))))
        assert np.array_equal((image * 255).round().permute(1, 2, 0).numpy(), expected)


def test_selection_keeps_the_contract(root):
    put(root, table(N_TEST))
    few, more = data.load("cifar10", n=2, seed=3), data.load("cifar10", n=5, seed=3)
    assert few.ids == more.ids[:2]
    assert torch.equal(few.inputs, more.inputs[:2])
    assert data.load("cifar10", n=5, seed=4).ids != more.ids
    pieces = list(data.batches("cifar10", size=4, n=5, seed=3))
    assert [len(piece) for piece in pieces] == [4, 1]
    assert torch.equal(torch.cat([piece.inputs for piece in pieces]), more.inputs)
    with pytest.raises(ConfigError, match="from 1 to 6"):
        data.load("cifar10", n=7)
    with pytest.raises(DataError, match="closest: parquet-test"):
        data.load("cifar10", ids=["parquet-test-99999"])
    with pytest.raises(ConfigError, match="unknown split"):
        data.load("cifar10", split="val")


def test_nothing_is_decoded_before_it_is_asked_for(root, monkeypatch):
    asked = []
    own = cifar10_files.decoded
    monkeypatch.setattr(cifar10_files, "decoded", lambda content, name: asked.append(name) or own(content, name))
    put(root, table(N_TEST))
    iterator = data.batches("cifar10", size=2)
    assert asked == []
    next(iterator)
    assert len(asked) == 2


IMAGES = [{"bytes": coded(0), "path": "a"}, {"bytes": coded(1), "path": "b"}]


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (pa.table({"label": [1, 2]}), r"column img \{bytes, path\}, found \['label'\]"),
        (pa.table({"img": ["a", "b"], "label": [1, 2]}), "column img"),
        (pa.table({"img": [{"path": "a"}] * 2, "label": [1, 2]}), "column img"),
        (pa.table({"img": [{"bytes": "text"}] * 2, "label": [1, 2]}), "column img"),
        (pa.table({"img": IMAGES, "labels": [1, 2]}), "column label"),
        (pa.table({"img": IMAGES, "label": ["cat", "dog"]}), "column label"),
        (pa.table({"img": IMAGES, "label": [1.0, 2.0]}), "column label"),
        (table(2, names=["apple", "bear"]), "another data set"),
        (table(2, names=sorted(cifar10_files.CLASSES, reverse=True)), "another data set"),
    ],
    ids=[
        "no img",
        "img is text",
        "no bytes",
        "bytes are text",
        "no label",
        "label is text",
        "label is float",
        "classes",
        "order",
    ],
)
def test_missing_columns_are_refused(tmp_path, made, words):
    with pytest.raises(DataError, match=words) as caught:
        open_parquet(put(tmp_path, made))
    assert "test-00000-of-00001.parquet" in str(caught.value)


def test_class_names_are_optional(tmp_path):
    for metadata in ({"huggingface": "no json"}, {"huggingface": "[]"}, {"other": "x"}):
        assert open_parquet(put(tmp_path, table(2).replace_schema_metadata(metadata)))[0] == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"label": [1, None, 3, 4, 5, 6]}, "1 rows have no label"),
        ({"label": [1, 10, 3, 4, 5, 6]}, "outside 0 to 9 at parquet-test-00001"),
        ({"label": [1, 2, -1, 4, 5, 6]}, "outside 0 to 9 at parquet-test-00002"),
        ({"img": [None, *IMAGES, *IMAGES, IMAGES[0]]}, "parquet-test-00000: the picture is empty"),
        ({"img": [{"bytes": b"", "path": "a"}, *IMAGES, *IMAGES, IMAGES[0]]}, "parquet-test-00000: the picture is empty"),
        (
            {"img": [*IMAGES, {"bytes": coded(0)[:400], "path": "a"}, *IMAGES, IMAGES[0]]},
            "parquet-test-00002: .* cannot be read",
        ),
    ],
)
def test_damaged_rows_are_named(root, change, words):
    put(root, table(N_TEST, **change))
    with pytest.raises(DataError, match=words):
        data.load("cifar10")


def bomb() -> bytes:
    """A PNG of nothing but a header that claims 60,000 x 60,000 pixels."""
    content = bytearray(coded(0))
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    return bytes(content)


def picture(size: tuple[int, int], form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b"text", "cannot be read"),
        (coded(0, "JPEG")[:500], "cannot be read"),
        (picture((32, 32), "GIF"), "cannot be read"),
        (picture((31, 32)), "31 x 32 pixels, expected 32 x 32"),
        (bomb(), "cannot be read|60000 x 60000"),
    ],
    ids=["null", "empty", "text", "truncated", "gif", "size", "bomb"],
)
def test_damaged_pictures_are_refused(content, words):
    with pytest.raises(DataError, match=words) as caught:
        decoded(content, "row 7")
    assert "row 7" in str(caught.value)


def test_grey_pictures_become_colour():
    buffer = io.BytesIO()
    Image.new("L", (32, 32), 77).save(buffer, "PNG")
    planes, form = decoded(buffer.getvalue(), "grey")
    assert (planes.shape, form) == ((3, 32, 32), "PNG")
    assert (planes == 77).all()


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "footer", "page"])
def test_damaged_files_are_refused(root, damage):
    path = put(root, table(N_TEST))
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(
        {
            "empty": b"",
            "text": b"PAR1 just text",
            "cut": content[:middle],
            "footer": content[:-8] + b"\xff\xff\xff\x7f" + content[-4:],
            "page": content[:4] + bytes(middle - 4) + content[middle:],
        }[damage]
    )
    with pytest.raises(DataError, match=r"test-00000-of-00001\.parquet"):
        data.load("cifar10")


def test_wrong_counts_are_refused(root, published, monkeypatch):
    for n in (1, N_TEST - 2, N_TEST - 1, N_TEST):
        put(root, table(n))
        if n < N_TEST - 1:
            with pytest.raises(DataError, match=f"{n} test pictures in .*, expected 5 or 6"):
                data.load("cifar10", n=1)
        else:
            assert len(data.load("cifar10")) == n
    put(root, table(N_TEST - 1), "train")
    with pytest.raises(DataError, match=r"5 train pictures in .*, expected 20"):
        data.load("cifar10", split="train", n=1)
    published(root)
    monkeypatch.setattr(cifar10, "COUNTS", {"test": 10_000, "train": 50_000})
    monkeypatch.setattr(cifar10, "PARTIAL", {"test": 8_000})
    with pytest.raises(DataError, match=r"6 test pictures in .*, expected 8,000 or 10,000"):
        data.load("cifar10")


# --- where it is looked for, and fetched from ---------------------------------------------------------------------------------


def test_the_first_folder_wins_and_the_original_before_the_copy(root, published, tmp_path, monkeypatch):
    put(tmp_path / "repository", table(N_TEST))
    assert data.load("cifar10", n=1).extra["encoding"] == ["PNG"]
    put(root, table(N_TEST, form="JPEG"))
    assert data.load("cifar10", n=1).extra["encoding"] == ["JPEG"]
    published(root / "cifar-10-python")
    assert data.load("cifar10", n=1).extra["encoding"] == ["raw"]
    monkeypatch.delenv("XAI_DATA")
    assert data.load("cifar10", n=1).extra["encoding"] == ["PNG"]


def test_missing_set_says_where_how_and_what_instead(root, tmp_path):
    with pytest.raises(DataError) as caught:
        data.load("cifar10", split="train", n=1)
    for words in (
        str(root),
        str(tmp_path / "repository"),
        "data_batch_1",
        "train-00000-of-00001.parquet",
        "xai data get cifar10",
    ):
        assert words in str(caught.value)
    assert "'photos' works now" in str(caught.value)
    assert list(root.iterdir()) == []
    put(root, table(N_TEST))
    with pytest.raises(DataError, match="not found"):
        data.load("cifar10", split="train")


def test_check_reads_everything_and_remarks_on_the_copy(root, published):
    put(root, table(N_TEST - 1))
    put(root, table(5 * PER_BATCH, img=[IMAGES[0]] * 20, label=[0] * 20), "train")
    report = data.check("cifar10")
    assert report.n == {"test": N_TEST - 1, "train": 5 * PER_BATCH}
    assert report.remarks[0] == (
        "test-00000-of-00001.parquet: not the published files; 5 of 6 pictures, encoded and ordered anew"
    )
    published(root)
    assert data.check("cifar10").remarks == ()
    assert data.check("cifar10").n == {"test": N_TEST, "train": 5 * PER_BATCH}


@pytest.mark.parametrize("layout", ["parquet", "torchvision", "unpacked"])
def test_listed_with_its_rows(root, published, layout):
    if layout == "parquet":
        put(root, table(N_TEST))
        put(root, table(5 * PER_BATCH, img=[IMAGES[0]] * 20, label=[0] * 20), "train")
    else:
        published(root / "cifar-10-python" if layout == "unpacked" else root)
    (entry,) = [entry for entry in data.listing() if entry.name == "cifar10"]
    assert (entry.n, entry.classes, entry.found_at, entry.redistributable) == (N_TEST + 5 * PER_BATCH, 10, str(root), False)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves the folder `served`; `asked` lists what was asked for."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            self.server.asked.append(self.path)

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as running:
        running.asked, running.folder = [], folder
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_it_is_fetched_only_when_allowed(server, root, published, tmp_path, monkeypatch):
    place = published(tmp_path / "made")
    with tarfile.open(server.folder / "cifar-10-python.tar.gz", "w:gz") as tar:
        tar.add(place, "cifar-10-batches-py")
    content = (server.folder / "cifar-10-python.tar.gz").read_bytes()
    _, (archive,) = cifar10.REMOTES["cifar10"]
    small = {**vars(archive), "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    monkeypatch.setitem(cifar10.REMOTES, "cifar10", ("http://127.0.0.1:1", (download.Remote(**small),)))
    monkeypatch.setenv("XAI_MIRROR", f"http://127.0.0.1:{server.server_port}")
    with pytest.raises(DataError, match="not found"):
        data.load("cifar10")
    assert server.asked == []
    assert list(root.iterdir()) == []
    samples = data.load("cifar10", allow_download=True)
    assert samples.extra["encoding"] == ["raw"] * N_TEST
    assert server.asked == ["/cifar-10-python.tar.gz"]
    assert len(data.load("cifar10", split="train", allow_download=True)) == 5 * PER_BATCH
    assert len(server.asked) == 1
    monkeypatch.setenv("XAI_DATA", str(tmp_path / "mine"))
    assert data.get("cifar10") == [tmp_path / "mine" / "cifar-10-python"]
    assert len(data.load("cifar10")) == N_TEST
    monkeypatch.setenv("XAI_MIRROR", "http://127.0.0.1:1")
    monkeypatch.setenv("XAI_DATA", str(tmp_path / "other"))
    with pytest.raises(DataError, match="cannot be fetched"):
        data.load("cifar10", allow_download=True)
    assert not list((tmp_path / "other").rglob("*batch*"))


REAL = os.environ.get("XAI_DATA", "")


@pytest.mark.slow
@pytest.mark.skipif(not REAL, reason="XAI_DATA is not set: the real data sets are not here")
def test_real_cifar10_is_whole(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("XAI_DATA", REAL)
    report = data.check("cifar10")
    assert report.n in ({"test": 8_000, "train": 50_000}, {"test": 10_000, "train": 50_000})
    train = data.load("cifar10", split="train")
    assert torch.bincount(train.targets).tolist() == [5_000] * 10
    assert torch.allclose(train.inputs.mean((0, 2, 3)), torch.tensor([0.4914, 0.4822, 0.4465]), atol=1e-3)
