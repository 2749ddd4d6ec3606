"""Fetching, against a server on this machine; and archives that must be refused."""

import gzip
import hashlib
import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from xai_lib import data
from xai_lib.data import download, inventory, places
from xai_lib.data.download import Remote, extract, fetch
from xai_lib.errors import ConfigError, DataError, StoreError

BODY = bytes(range(256)) * 40


@pytest.fixture
def server(monkeypatch):
    """Serves `files`; `claimed` overrides the length that is announced; `asked` counts requests."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked.append(self.path)
            body = self.server.files.get(self.path)
            if body is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(self.server.claimed or len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.files, running.claimed, running.asked = {}, None, []
        running.address = f"http://127.0.0.1:{running.server_port}/d"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def remote(body, target="set/file", **changes):
    return Remote("file", hashlib.sha256(body).hexdigest(), len(body), target, **changes)


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_good_file_is_fetched_once(server, tmp_path):
    server.files["/d/file"] = BODY
    (path,) = fetch(server.address, (remote(BODY),), tmp_path)
    assert path.read_bytes() == BODY
    assert everything(tmp_path) == ["set/file"]
    fetch(server.address, (remote(BODY),), tmp_path)
    assert server.asked == ["/d/file"]
    path.write_bytes(BODY[:10])
    fetch(server.address, (remote(BODY),), tmp_path)
    assert path.read_bytes() == BODY


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("wrong", "sha256"),
        ("short", "cut short"),
        ("long", "more than"),
        ("missing", "HTTP 404"),
        ("broken", "cut short|broke"),
    ],
)
def test_failed_fetch_leaves_nothing(server, tmp_path, case, words):
    served = {"wrong": BODY[::-1], "short": BODY[:100], "long": BODY + b"1", "broken": BODY[:5000]}
    if case in served:
        server.files["/d/file"] = served[case]
    server.claimed = len(BODY) if case == "broken" else None
    with pytest.raises(DataError, match=words):
        fetch(server.address, (remote(BODY),), tmp_path)
    assert everything(tmp_path) == []
    assert not list(tmp_path.rglob(".part-*"))


def test_unreachable_server_is_an_error_with_advice(server, tmp_path):
    with pytest.raises(DataError, match="XAI_MIRROR"):
        fetch("http://127.0.0.1:1/d", (remote(BODY),), tmp_path)


@pytest.mark.parametrize("base", ["file:///etc", "ftp://example.org/x", "example.org", "", "http://"])
def test_only_web_addresses(tmp_path, base):
    with pytest.raises(ConfigError, match="mirror"):
        fetch(base, (remote(BODY),), tmp_path)


def test_target_stays_inside(tmp_path):
    with pytest.raises(ConfigError, match="leaves"):
        fetch("http://127.0.0.1:1", (remote(BODY, "../out"),), tmp_path)


def test_gzip_is_unpacked_and_bounded(server, tmp_path):
    server.files["/d/file"] = packed = gzip.compress(BODY)
    fetch(server.address, (remote(packed, unpack="gz", unpacked=len(BODY)),), tmp_path / "a")
    assert (tmp_path / "a" / "set" / "file").read_bytes() == BODY
    for size, words in ((len(BODY) - 1, "more than"), (len(BODY) + 1, "expected")):
        with pytest.raises(DataError, match=words):
            fetch(server.address, (remote(packed, unpack="gz", unpacked=size),), tmp_path / "b")
    server.files["/d/file"] = packed[:-20]
    with pytest.raises(DataError, match="no complete gzip"):
        fetch(server.address, (remote(packed[:-20], unpack="gz", unpacked=len(BODY)),), tmp_path / "b")
    assert everything(tmp_path) == ["a/set/file"]


def test_get_mnist_from_a_mirror(server, tmp_path, monkeypatch):
    packed = gzip.compress(BODY)
    server.files["/d/file"] = packed
    monkeypatch.setitem(download.REMOTES, "mnist", ("http://127.0.0.1:1", (remote(packed, unpack="gz", unpacked=len(BODY)),)))
    monkeypatch.setenv("XAI_MIRROR", server.address)
    monkeypatch.delenv("XAI_DATA", raising=False)
    monkeypatch.setattr(places, "REPOSITORY", tmp_path / "repository")
    assert data.get("mnist") == [tmp_path / "repository" / "set" / "file"]
    monkeypatch.setenv("XAI_DATA", str(tmp_path / "mine"))
    assert data.get("mnist") == [tmp_path / "mine" / "set" / "file"]
    monkeypatch.setenv("XAI_MIRROR", "http://127.0.0.1:1")
    assert data.get("mnist", root=tmp_path / "other", mirror=server.address)[0].read_bytes() == BODY


def test_get_refuses_what_may_not_be_fetched():
    assert data.get("iris") == []
    with pytest.raises(DataError, match=r"image-net\.org"):
        data.get("imagenet")
    with pytest.raises(ConfigError, match="did you mean 'mnist'"):
        data.get("mnits")
    assert set(inventory.REMOTES) == {"mnist", "cifar10", "food101"}
    assert [r.unpacked for r in download.MNIST] == [16 + 60_000 * 784, 8 + 60_000, 16 + 10_000 * 784, 8 + 10_000]


def test_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "set").write_text("a file where a folder should be")
    with pytest.raises(StoreError, match="cannot be written"):
        fetch(server.address, (remote(BODY),), tmp_path)


def archive(path, *members):
    """A tar with (name, type, link or bytes, claimed size or None)."""
    with tarfile.open(path, "w") as tar:
        for name, kind, content, size in members:
            member = tarfile.TarInfo(name)
            member.type, member.mode = kind, 0o6755
            if kind == tarfile.REGTYPE:
                member.size = len(content) if size is None else size
                tar.fileobj.write(member.tobuf(tar.format)) if size else tar.addfile(member, io.BytesIO(content))
            else:
                member.linkname = content
                tar.addfile(member)
    return path


FILE = tarfile.REGTYPE


@pytest.mark.parametrize(
    "members",
    [
        [("../out", FILE, b"x", None)],
        [("/tmp/xai-absolute", FILE, b"x", None)],
        [("ok/../../out", FILE, b"x", None)],
        [("link", tarfile.SYMTYPE, "..", None), ("link/out", FILE, b"x", None)],
        [("inner", tarfile.SYMTYPE, "first", None)],
        [("hard", tarfile.LNKTYPE, "/etc/passwd", None)],
        [("device", tarfile.CHRTYPE, "", None)],
        [("pipe", tarfile.FIFOTYPE, "", None)],
        [("huge", FILE, b"x", 10 * 2**30)],
        [("a", FILE, bytes(600), None), ("b", FILE, bytes(600), None)],
    ],
    ids=["parent", "absolute", "middle", "symlink", "inner symlink", "hard link", "device", "pipe", "huge claim", "sum"],
)
def test_malicious_archives_are_refused_before_any_write(tmp_path, members):
    path = archive(tmp_path / "bad.tar", ("first", FILE, b"good", None), *members)
    with pytest.raises(DataError):
        extract(path, tmp_path / "sub" / "set", 1000)
    assert everything(tmp_path) == ["bad.tar"]
    assert not (tmp_path / "sub" / "set").exists()


def test_good_archive_is_unpacked_without_special_bits(tmp_path):
    path = archive(
        tmp_path / "good.tar", ("d", tarfile.DIRTYPE, "", None), ("d/a", FILE, b"abc", None), ("./b", FILE, b"de", None)
    )
    extract(path, tmp_path / "set", 5)
    assert everything(tmp_path / "set") == ["b", "d/a"]
    assert (tmp_path / "set" / "d" / "a").stat().st_mode & 0o6000 == 0


def test_archive_comes_through_the_server(server, tmp_path):
    for target, members in (("good", [("a", FILE, b"abc", None)]), ("bad", [("../a", FILE, b"abc", None)])):
        body = archive(tmp_path / "x.tar", *members).read_bytes()
        server.files["/d/file"] = body
        request = remote(body, target, unpack="tar", unpacked=3)
        if target == "good":
            assert (fetch(server.address, (request,), tmp_path / "root")[0] / "a").read_bytes() == b"abc"
        else:
            with pytest.raises(DataError, match="refused"):
                fetch(server.address, (request,), tmp_path / "root")
    assert everything(tmp_path / "root") == ["good/a"]


def test_no_archive_at_all(tmp_path):
    (tmp_path / "x").write_bytes(b"text")
    with pytest.raises(DataError, match="refused"):
        extract(tmp_path / "x", tmp_path / "set", 10)
