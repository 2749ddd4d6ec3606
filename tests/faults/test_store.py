"""Faults of the store (RELIABILITY F1-F5 F10 F27-F29 F32-F35): a shard is there whole or not at all, and a rerun ends alike."""

import errno
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import toy_tasks  # noqa: F401  registers the toys

from xai_lib.compendium import benchmark, faultpoints, ledger, storage, tasks
from xai_lib.compendium.engine import Serial
from xai_lib.compendium.store import Store, canonical, key_of, tree
from xai_lib.compendium.tasks import LEFT_OUT, Task
from xai_lib.errors import ConfigError, EngineError, StoreError

pytestmark = pytest.mark.slow

N = 5
WORK = """
from xai_lib.compendium.engine import Serial
from xai_lib.compendium.store import Store
from xai_lib.compendium.tasks import Task
def work(root, texts):
    return list(Serial().run([Task.read(text) for text in texts], Store(root)))
"""


def shards(exponent=3, n=N, **settings):
    """Shards of two items each."""
    return [Task("powers", (2 * k, 2 * k + 1), {"exponent": exponent}, settings) for k in range(n)]


def texts(wanted):
    return [task.text() for task in wanted]


def lines(log):
    return log.read_text().splitlines() if log.exists() else []


def do(wanted, root):
    return benchmark.calculate(wanted, Store(root), Serial())


def left(store, *folders):
    """Names of the files in some folders of a store."""
    return sorted(path.name for folder in folders for path in (Path(store) / folder).rglob("*") if path.is_file())


def endings(root):
    return Counter(Path(name).suffix for name in left(root, "shards"))


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The tree of an uninterrupted run, and what is known about it: two files a shard, cubes of the items."""
    root = tmp_path_factory.mktemp("reference")
    summary = do(shards(), root)
    assert (summary.done, summary.known, summary.lost, summary.left_out) == (N, 0, {}, {})
    assert endings(root) == {".json": N, ".safetensors": N}
    for task in shards():
        values = Store(root).read(task.request).arrays["value"]
        assert values.tolist() == [item**3 for item in task.items]
    return tree(root)


# --- F1, F2, F3: ended at any instant -----------------------------------------------------------------------------------------

EARLY = ("before_task",)
MIDDLE = ("mid_payload", "fsync_payload", "rename_payload", "mid_facts", "rename_facts")
LATE = ("mid_manifest", "fsync_manifest", "rename_manifest")
POINTS = (*EARLY, "before_tmp", *MIDDLE, "between", *LATE, "after_manifest")


@pytest.mark.parametrize("nth", [1, N])
@pytest.mark.parametrize("where", POINTS)
def test_f1_killed_at_a_point_of_writing(where, nth, start, tmp_path, reference):
    log, root = tmp_path / "log", tmp_path / "store"
    wanted = shards(log=str(log))
    child = start(f"{WORK}\nwork(*given)", str(root), texts(wanted), fault=f"{where}:{nth}:kill")
    assert child.wait(60) == -signal.SIGKILL
    computed = nth - (where in EARLY)
    stored = nth - (where != "after_manifest")
    assert len(lines(log)) == computed
    assert endings(root)[".json"] == stored
    assert endings(root)[".safetensors"] == stored + (where in (*LATE, "mid_facts", "rename_facts", "between"))
    assert len(left(root, "tmp")) == (where in (*MIDDLE, *LATE))
    summary = do(wanted, root)
    assert (summary.known, summary.done) == (stored, N - stored)
    assert len(lines(log)) == computed + N - stored <= N + 1
    assert tree(root) == reference
    assert left(root, "tmp", "corrupt") == []


@pytest.mark.slow
def test_f1_killed_while_results_are_put_together(start, tmp_path):
    case, log, root = {"any": 1}, tmp_path / "log", tmp_path / "store"
    code = "from xai_lib.compendium.benchmark import Work, gather\nfrom xai_lib.compendium.store import Store\n"
    code += "gather(Work('powers', *given[1:], 2), Store(given[0]))"
    own = {"exponent": 3, "log": str(log)}
    child = start(code, str(root), case, list(range(8)), own, fault="aggregate:3:kill")
    assert child.wait(100) == -signal.SIGKILL
    before = tree(root)
    assert (len(lines(log)), len(before)) == (4, 8)
    found = benchmark.gather(benchmark.Work("powers", case, tuple(range(8)), own, 2), Store(root))
    assert found.arrays["value"].tolist() == [item**3 for item in range(8)]
    assert found.arrays["index"].tolist() == [0, 1] * 4
    assert (len(lines(log)), tree(root)) == (4, before)


@pytest.mark.slow
def test_f2_killed_at_random_times(start, tmp_path, reference):
    code = f"{WORK}\nprint('ready', flush=True)\nwork(*given)\nprint('done', flush=True)"

    def run(root, log, seconds=None):
        """Start a run and kill it after some seconds; returns how long it took if it came to its end, else None."""
        child = start(code, str(root), texts(shards(log=str(log), pause=0.03)))
        assert child.stdout.readline() == "ready\n"
        began = time.monotonic()
        if seconds is not None:
            time.sleep(seconds)
            child.kill()
        return time.monotonic() - began if child.communicate(timeout=60)[0] == "done\n" else None

    draw, longest = random.Random(2), run(tmp_path / "first", tmp_path / "first.log")
    assert tree(tmp_path / "first") == reference
    kills, inside, campaigns = 0, 0, 0
    while kills < 20:
        root, log, here = tmp_path / str(campaigns), tmp_path / f"{campaigns}.log", 0
        while kills < 20 and run(root, log, draw.uniform(0, longest)) is None:
            kills, here = kills + 1, here + 1
            inside += 0 < endings(root)[".json"] < N
            assert set(tree(root)) <= set(reference)
        do(shards(log=str(log)), root)
        assert tree(root) == reference
        assert left(root, "tmp", "corrupt") == []
        assert N <= len(lines(log)) <= N + here
        campaigns += 1
    assert inside >= 1


def zeros(path):
    path.write_bytes(bytes(path.stat().st_size))


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("end", [".safetensors", ".json"])
@pytest.mark.parametrize("damage", [cut, zeros, empty, Path.unlink])
def test_f3_content_lost_in_a_power_cut(damage, end, tmp_path, reference):
    root = tmp_path / "store"
    do(shards(), root)
    task = shards()[2]
    damage(next((root / "shards").glob(f"*/{task.key}{end}")))
    assert Store(root).read(task.request) is None
    summary = do(shards(), root)
    assert (summary.known, summary.done) == (N - 1, 1)
    assert tree(root) == reference


@pytest.mark.parametrize("damage", [cut, zeros, empty, Path.unlink])
def test_f3_lost_facts_cost_no_number(damage, tmp_path, reference):
    root = tmp_path / "store"
    do(shards(), root)
    task = shards()[2]
    assert Store(root).read(task.request).facts["seconds"] >= 0
    damage(next((root / "facts").glob(f"*/{task.key}.json")))
    shard = Store(root).read(task.request)
    assert (dict(shard.facts), shard.arrays["value"].tolist()) == ({}, [64.0, 125.0])
    assert tree(root) == reference


def test_f3_content_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    store, seen = Store(tmp_path), []
    fsync, rename = os.fsync, Path.rename

    def recorded_fsync(handle):
        seen.append(("on disk", Path(f"/proc/self/fd/{handle}").readlink()))
        fsync(handle)

    def recorded_rename(path, target):
        seen.append(("named", path, target))
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(Path, "rename", recorded_rename)
    key = store.write({"task": "any"}, {"value": np.zeros(3)})
    folder = tmp_path / "shards" / key[:2]
    targets = [folder / f"{key}.safetensors", tmp_path / "facts" / key[:2] / f"{key}.json", folder / f"{key}.json"]
    payload, facts, manifest = [event[1] for event in seen if event[0] == "named"]
    assert seen == [
        ("on disk", payload),
        ("named", payload, targets[0]),
        ("named", facts, targets[1]),
        ("on disk", manifest),
        ("named", manifest, targets[2]),
        ("on disk", folder),
    ]
    assert {path.parent for path in (payload, facts, manifest)} == {tmp_path / "tmp"}


# --- F4: no space -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", [*MIDDLE, "fsync_facts", *LATE])
def test_f4_a_full_disk_leaves_nothing_half_written(where, tmp_path, monkeypatch, reference):
    root = tmp_path / "store"
    do(shards(n=2), root)
    before = tree(root)
    monkeypatch.setenv("XAI_TESTING", "1")
    monkeypatch.setenv("XAI_FAULT", f"{where}:2:enospc")
    monkeypatch.setattr(faultpoints, "_passed", Counter())
    with pytest.raises(
        StoreError, match=r"cannot write \d+ bytes: No space left on device; finished shards are kept"
    ) as caught:
        do(shards(), root)
    assert caught.value.exit_code == 5
    assert left(root, "tmp", "corrupt") == []
    assert endings(root)[".json"] == 3
    assert before.items() < tree(root).items()
    monkeypatch.delenv("XAI_FAULT")
    summary = do(shards(), root)
    assert (summary.known, summary.done) == (3, 2)
    assert tree(root) == reference


FULL = """
from xai_lib.errors import StoreError
if given[2] == "limit":
    import resource, signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    work(*given[:2])
except StoreError as error:
    sys.exit(f"{error.exit_code} {error}")
"""


def large(kilobytes, last):
    return [Task("large", (k,), {"kilobytes": kilobytes if k < 3 else last}) for k in range(4)]


def test_f4_a_file_size_limit(start, tmp_path):
    root = tmp_path / "store"
    child = start(WORK + FULL, str(root), texts(large(1, 300)), "limit")
    message = child.communicate(timeout=60)[1]
    assert child.returncode == 1
    assert message.startswith(f"5 store {root}: cannot write 307")
    assert "File too large; finished shards are kept" in message
    assert left(root, "tmp") == []
    assert do(large(1, 300), root).known == 3
    do(large(1, 300), tmp_path / "reference")
    assert tree(root) == tree(tmp_path / "reference")


def test_f4_a_full_file_system(start, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    if not shutil.which("unshare"):
        pytest.skip("no `unshare`: a small file system cannot be mounted for this test alone")
    root, keep = small / "store", tmp_path / "kept"
    script = tmp_path / "child.py"
    top = f"import json, sys\ngiven = {[str(root), texts(large(200, 600)), 'mount']!r}\n"
    script.write_text(top + WORK + FULL)
    mount = 'mount -t tmpfs -o size=1m tmpfs "$0" || exit 77; "$1" "$2"; code=$?; cp -r "$0/store" "$3"; exit $code'
    argv = ["unshare", "--mount", "sh", "-c", mount, str(small), sys.executable, str(script), str(keep)]
    child = start("import os\nos.execvp(given[0], given)", *argv)
    message = child.communicate(timeout=60)[1]
    if child.returncode == 77 or "unshare" in message:
        pytest.skip(f"no small file system can be mounted here: {message.strip()}")
    assert child.returncode == 1
    assert message.startswith(f"5 store {root}: cannot write 614")
    assert "No space left on device" in message
    assert left(keep, "tmp") == []
    assert endings(keep) == {".json": 3, ".safetensors": 3}
    assert do(large(200, 600), keep).known == 3
    do(large(200, 600), tmp_path / "reference")
    assert tree(keep) == tree(tmp_path / "reference")


# --- F5: damaged files --------------------------------------------------------------------------------------------------------


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def rewrite(path, **changes):
    path.write_bytes(canonical({**json.loads(path.read_bytes()), **changes}))


def another(path):
    """The other shard's file of this kind."""
    return next(other for other in sorted(path.parent.parent.glob(f"*/*{path.suffix}")) if other.name != path.name)


def forged(path):
    """A manifest with the right checksum of a payload that is none."""
    path.with_suffix(".safetensors").write_bytes(b"\xff" * 100)
    rewrite(path, sha256=hashlib.sha256(b"\xff" * 100).hexdigest(), bytes=100)


PAYLOADS = {
    "flipped byte": flip,
    "truncated": cut,
    "empty": empty,
    "another shard's": lambda path: shutil.copyfile(another(path), path),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}
MANIFESTS = {
    "truncated": cut,
    "empty": empty,
    "no JSON": lambda path: path.write_text("{'key': 1}"),
    "no text": lambda path: path.write_bytes(b"\xff\xfe{}"),
    "deep": lambda path: path.write_text("[" * 100_000 + "]" * 100_000),
    "deep request": lambda path: path.write_text(
        path.read_text().replace('"items":', '"a":' + "[" * 500 + "]" * 500 + ',"items":')
    ),
    "a list": lambda path: path.write_text("[1, 2]"),
    "a number": lambda path: path.write_text("3"),
    "nothing": lambda path: path.write_text("null"),
    "a text": lambda path: path.write_text('"request"'),
    "huge number": lambda path: path.write_text("9" * 5000),
    "NaN": lambda path: path.write_text(path.read_text().replace('"exponent":3', '"exponent":NaN')),
    "another shard's": lambda path: shutil.copyfile(another(path), path),
    "wrong key": lambda path: rewrite(path, key="0" * 64),
    "wrong request": lambda path: path.write_text(path.read_text().replace('"exponent":3', '"exponent":4')),
    "no checksum": lambda path: rewrite(path, sha256=None),
    "no size": lambda path: rewrite(path, bytes="many"),
    "no keys": lambda path: path.write_text("{}"),
    "forged": forged,
}
DAMAGES = [(".safetensors", name) for name in PAYLOADS] + [(".json", name) for name in MANIFESTS]


def hurt(root, task, end, name):
    (path,) = (root / "shards").glob(f"*/{task.key}{end}")
    (PAYLOADS if end == ".safetensors" else MANIFESTS)[name](path)
    return path


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """A store with all shards of a work, and that work."""
    monkeypatch.setattr(ledger, "shards", {})
    monkeypatch.setattr(ledger, "left_out", {})
    work = benchmark.Work("powers", {"any": 1}, tuple(range(6)), {"exponent": 3}, 2)
    root = tmp_path / "store"
    benchmark.gather(work, Store(root))
    return root, work


@pytest.mark.parametrize(("end", "name"), DAMAGES)
def test_f5_a_damaged_shard_is_set_aside_and_computed_again(end, name, stored):
    root, work = stored
    before, task = tree(root), work.tasks()[1]
    path = hurt(root, task, end, name)
    assert path.is_dir() or tree(root) != before
    found = benchmark.gather(work, Store(root))
    assert found.arrays["value"].tolist() == [0, 1, 8, 27, 64, 125]
    assert tree(root) == before
    aside = [entry.name for entry in (root / "corrupt").iterdir()]
    assert sorted(entry.split(".")[0] for entry in aside) == [task.key] * 2
    assert sorted(Path(entry).suffix for entry in aside) == [".json", ".safetensors"]


@pytest.mark.parametrize(("end", "name"), DAMAGES)
def test_f5_verify_finds_it(end, name, stored):
    root, work = stored
    store = Store(root)
    text, code = storage.verify(store)
    assert (text.endswith(": 3 shards, all sound"), code) == (True, 0)
    task = work.tasks()[1]
    hurt(root, task, end, name)
    text, code = storage.verify(store)
    assert code == StoreError.exit_code == 5
    assert "1 of 3 shards are damaged and were set aside" in text
    assert task.key[:12] in text
    assert not store.has(task.request)
    assert storage.verify(store)[1] == 0
    assert "1 damaged shards were set aside in corrupt/" in storage.status(store)


def test_f5_two_swapped_payloads(stored):
    root, work = stored
    before = tree(root)
    first, second = (next((root / "shards").glob(f"*/{task.key}.safetensors")) for task in work.tasks()[:2])
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)
    assert storage.verify(Store(root))[1] == 5
    assert len(left(root, "corrupt")) == 4
    benchmark.gather(work, Store(root))
    assert tree(root) == before


def test_f5_damaged_again_right_after_it_was_computed(stored, monkeypatch):
    root, work = stored
    task, write = work.tasks()[1], Store.write

    def broken_disk(self, request, arrays, facts):
        key = write(self, request, arrays, facts)
        hurt(root, task, ".safetensors", "flipped byte")
        return key

    hurt(root, task, ".safetensors", "flipped byte")
    monkeypatch.setattr(Store, "write", broken_disk)
    with pytest.raises(StoreError, match=f"shard {task.key[:12]} is damaged again right after it was recomputed") as caught:
        benchmark.gather(work, Store(root))
    assert caught.value.exit_code == 5
    assert len(left(root, "corrupt")) == 4


def test_f5_a_manifest_that_cannot_be_read_is_damaged(stored, monkeypatch):
    root, work = stored
    key, read_bytes = work.tasks()[1].key, Path.read_bytes

    def bad_sector(self):
        if self.name == f"{key}.json":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read_bytes(self)

    monkeypatch.setattr(Path, "read_bytes", bad_sector)
    text, code = storage.verify(Store(root))
    assert (code, key[:12] in text) == (5, True)
    assert len(left(root, "corrupt")) == 2


def test_f5_a_listing_goes_on_while_others_delete(stored):
    root, work = stored
    store = Store(root)
    listing = store.listing()
    first = next(listing)
    gone = next(task.key for task in work.tasks() if task.key != first.key)
    store.delete(gone)
    assert [found.state for found in listing] == ["sound"]


# --- F7, F10: bad items, and memory, in one process ---------------------------------------------------------------------------


def test_f7_a_bad_item_is_left_out_and_the_others_go_on(tmp_path):
    wanted = [Task("bad_items", items, {"bad": [1, 4, 5]}) for items in ((0, 1, 2), (3,), (4, 5))]
    summary = do(wanted, tmp_path)
    assert (summary.done, summary.lost) == (3, {})
    assert summary.left_out == {str(k): f"DataError: item {k} cannot be read" for k in (1, 4, 5)}
    first, whole, none = (dict(Store(tmp_path).read(task.request).arrays) for task in wanted)
    assert first["index"].tolist() == [0, -1, 2]
    assert np.array_equal(first["value"], [0, np.nan, 2], equal_nan=True)
    assert json.loads(first[LEFT_OUT].tobytes()) == {"1": "DataError: item 1 cannot be read"}
    assert sorted(whole) == ["index", "value"]
    assert list(none) == [LEFT_OUT]


def test_f7_items_left_out_before_are_named_again(tmp_path):
    wanted = [Task("bad_items", items, {"bad": [1]}) for items in ((0, 1, 2), (3,))]
    first, again = do(wanted, tmp_path), do(wanted, tmp_path)
    assert (first.done, again.done, again.known) == (2, 1, 1)  # what could not be read may be whole again
    assert again.left_out == first.left_out == {"1": "DataError: item 1 cannot be read"}


def test_f10_items_that_fit_alone_are_computed_alone(tmp_path):
    wanted = [Task("hungry", (0, 1, 2), {"most": 1}), Task("hungry", (3,), {"most": 1})]
    summary = do(wanted, tmp_path)
    assert (summary.done, summary.lost) == (2, {})
    assert Store(tmp_path).read(wanted[0].request).arrays["value"].tolist() == [0, 1, 2]


def test_f10_a_task_too_large_for_memory_is_lost_alone(tmp_path):
    wanted = [Task("hungry", (0, 1), {"most": 0}), Task("noop", (2,)), Task("hungry", (3, 4), {"most": 1})]
    summary = do(wanted, tmp_path)
    assert summary.lost == dict.fromkeys("01", "MemoryError: too much at once")
    assert summary.done == 2
    assert not Store(tmp_path).has(wanted[0].request)


def test_f10_what_was_lost_is_missing_with_its_reason(stored):
    root, _ = stored
    work = benchmark.Work("hungry", {"any": 1}, (0, 1, 100, 3, 4), {"most": 2}, 2)
    found = benchmark.gather(work, Store(root))
    assert np.array_equal(found.arrays["value"], [0, 1, np.nan, np.nan, 4], equal_nan=True)
    assert found.left_out == ledger.left_out == dict.fromkeys(("100", "3"), "lost: MemoryError: too much at once")
    nothing = benchmark.Work("hungry", {"any": 1}, (100, 101), {"most": 2}, 2)
    with pytest.raises(EngineError, match="none of 2 items has a result; 100: lost: MemoryError: too much at once"):
        benchmark.gather(nothing, Store(root))


LIMITED = """
import resource
from xai_lib.compendium import tasks
tasks.load_testing_tasks()
resource.setrlimit(resource.RLIMIT_AS, (given[2], given[2]))
print([[o.status, o.why.partition(":")[0]] for o in work(*given[:2])])
"""


def test_f10_an_address_space_limit(start, tmp_path):
    wanted = [Task("greedy", (k, k + 1), {"megabytes": m}) for k, m in ((0, 1), (2, 4096), (4, 700), (6, 1))]
    child = start(WORK + LIMITED, str(tmp_path), texts(wanted), 2**30 + 2**28)
    out, message = child.communicate(timeout=60)
    assert message == ""
    assert out == "[['done', ''], ['lost', 'MemoryError'], ['done', ''], ['done', '']]\n"  # the third item by item
    assert Store(tmp_path).read(wanted[2].request).arrays["value"].tolist() == [4, 5]
    assert left(tmp_path, "tmp") == []


def test_f10_nothing_is_stored_when_a_task_is_wrong(tmp_path):
    with pytest.raises(
        EngineError, match=r"task 'wrong' failed: KeyError at toy_tasks\.py:\d+: 'a mistake in the task itself'"
    ):
        do([Task("noop", (1,)), Task("wrong", (1,))], tmp_path)
    assert endings(tmp_path) == {".json": 1, ".safetensors": 1}


EXPENDABLE = "from xai_lib.compendium import tasks\ntasks.perform(*given, expendable=True)"


def test_f12_a_poisoned_cuda_context_ends_an_expendable_process(start, tmp_path):
    task = Task("poisoned", (1,), {}, {"item": 1, "log": str(tmp_path / "log")})
    child = start(EXPENDABLE, task.text(), str(tmp_path / "store"))
    assert child.wait(60) == 70
    assert child.stderr.read() == ""
    wrong = start(EXPENDABLE, Task("wrong", (1,)).text(), str(tmp_path / "store"))
    assert "EngineError: task 'wrong' failed" in wrong.communicate(timeout=60)[1]
    assert wrong.returncode == 1


def test_f12_the_fault_point_acts_like_cuda(start, tmp_path):
    child = start(EXPENDABLE, Task("noop", (1,)).text(), str(tmp_path / "store"), fault="before_task:1:cuda")
    assert child.wait(60) == 70


# --- F27, F28, F29: shared, read-only, elsewhere ------------------------------------------------------------------------------

ROUNDS = """
import time
from pathlib import Path
top, own, other, rounds, texts = given
for number in range(rounds):
    Path(top, f"{number}.{own}").touch()
    end = time.monotonic() + 60
    while not Path(top, f"{number}.{other}").exists():
        assert time.monotonic() < end
    outcomes = work(Path(top, str(number)), texts)
    assert {outcome.status for outcome in outcomes} <= {"done", "known"}
"""


def meet(start, top, first, second, rounds):
    children = [
        start(WORK + ROUNDS, str(top), own, other, rounds, texts(wanted))
        for own, other, wanted in (("a", "b", first), ("b", "a", second))
    ]
    for child in children:
        assert child.communicate(timeout=60)[1] == ""
        assert child.returncode == 0


def test_f27_two_runs_of_one_work_in_one_store(start, tmp_path, reference):
    log = tmp_path / "log"
    both = shards(log=str(log), pause=0.005)
    meet(start, tmp_path, both, both, 10)
    for number in range(10):
        assert tree(tmp_path / str(number)) == reference
        assert left(tmp_path / str(number), "tmp", "corrupt") == []
    assert len({line.split()[1] for line in lines(log)}) == 2
    assert len(lines(log)) > 10 * N  # they did meet: some shard was computed by both


def test_f27_two_works_in_one_store(start, tmp_path, reference):
    meet(start, tmp_path, shards(3), shards(4), 10)
    do(shards(4), tmp_path / "other")
    for number in range(10):
        assert tree(tmp_path / str(number)) == reference | tree(tmp_path / "other")
        assert left(tmp_path / str(number), "tmp", "corrupt") == []


def test_f27_both_find_the_same_damaged_shard(stored, monkeypatch):
    root, work = stored
    before, task = tree(root), work.tasks()[1]
    hurt(root, task, ".json", "empty")
    rename = Path.rename

    def other_first(self, target):
        if self.name.startswith(task.key) and "corrupt" in str(target):
            rename(self, f"{target}.other")
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", other_first)
        assert Store(root).read(task.request) is None
    benchmark.gather(work, Store(root))
    assert tree(root) == before


def test_f27_files_being_written_by_others_are_left_alone(start, tmp_path):
    store = Store(tmp_path)
    code = "from xai_lib.compendium.store import Store\n"
    code += "Store(given[0])._temporary('x').touch()\nprint(flush=True)\nsys.stdin.read()"
    alive, dead = (start(code, str(tmp_path), stdin=-1) for _ in range(2))
    assert alive.stdout.readline() == dead.stdout.readline() == "\n"
    dead.communicate("", timeout=60)
    (tmp_path / "tmp" / f"another-host+{dead.pid}+0+x").touch()
    assert len(left(tmp_path, "tmp")) == 3
    assert store.sweep() == 1
    assert sorted(name.split("+")[1] for name in left(tmp_path, "tmp")) == sorted([str(alive.pid), str(dead.pid)])


UNPRIVILEGED = """
import os
from xai_lib.compendium.store import Store
from xai_lib.errors import StoreError
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    Store(given[0])
except StoreError as error:
    sys.exit(f"{error.exit_code} {error}")
"""
FOLDERS = ("shards", "facts", "corrupt", "tmp")


@pytest.mark.parametrize("exists", [True, False])
def test_f28_a_read_only_store_is_refused_at_the_start(exists, start):
    with tempfile.TemporaryDirectory() as place:
        top = Path(place)
        root = top / "store" if exists else top / "below" / "store"
        folders = [root, *(root / name for name in FOLDERS)] if exists else [top / "below"]
        for folder in folders:
            folder.mkdir()
        for folder in [top, *folders]:
            folder.chmod(0o777)
        fine = start(UNPRIVILEGED, str(root))
        assert (fine.communicate(timeout=60)[1], fine.returncode) == ("", 0)
        if not exists:
            shutil.rmtree(root)
        for folder in [*folders, top]:
            folder.chmod(0o555)
        child = start(UNPRIVILEGED, str(root))
        message = child.communicate(timeout=60)[1]
        top.chmod(0o755)
        for folder in folders:
            folder.chmod(0o755)
    assert child.returncode == 1
    assert message == f"5 store {root}: cannot be written: Permission denied; check space and permissions\n"


@pytest.mark.parametrize("key", ["", "../../x", "/etc/passwd", "a" * 63, "A" * 64, "a" * 63 + "\0", "а" * 64])
def test_f29_what_is_no_key_is_no_path(key, tmp_path):
    with pytest.raises(ConfigError, match="is no key"):
        Store(tmp_path).delete(key)


# --- F32: asked to end --------------------------------------------------------------------------------------------------------

STOPPED = """
from xai_lib.compendium import processes
print("ready", flush=True)
with processes.signals_raise():
    try:
        work(*given)
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_f32_a_signal_ends_a_serial_run(number, code, start, tmp_path, reference):
    root, log = tmp_path / "store", tmp_path / "log"
    wanted = shards(log=str(log), pause=0.2)
    child = start(WORK + STOPPED, str(root), texts(wanted))
    end = time.monotonic() + 60
    while len(lines(log)) < 3 and time.monotonic() < end:
        time.sleep(0.01)
    child.send_signal(number)
    assert child.wait(10) == code
    assert left(root, "tmp") == []
    assert endings(root) == {".json": 2, ".safetensors": 2}
    summary = do(wanted, root)
    assert (summary.known, summary.done) == (2, 3)
    assert tree(root) == reference


@pytest.mark.parametrize("where", [*MIDDLE, "between", *LATE])
def test_f32_an_interrupt_while_a_shard_is_written(where, tmp_path, monkeypatch, reference):
    monkeypatch.setenv("XAI_TESTING", "1")
    monkeypatch.setenv("XAI_FAULT", f"{where}:3:stop")
    monkeypatch.setattr(faultpoints, "_passed", Counter())
    with pytest.raises(KeyboardInterrupt):
        do(shards(), tmp_path)
    assert left(tmp_path, "tmp") == []
    assert endings(tmp_path)[".json"] == 2
    monkeypatch.delenv("XAI_FAULT")
    do(shards(), tmp_path)
    assert tree(tmp_path) == reference


# --- F33, F34, F35: clocks, versions, requests --------------------------------------------------------------------------------


@pytest.mark.parametrize("year", [1970, 2100])
def test_f33_times_of_files_mean_nothing(year, start, tmp_path, reference):
    log, root = tmp_path / "log", tmp_path / "store"
    wanted = shards(log=str(log))
    child = start(f"{WORK}\nwork(*given)", str(root), texts(wanted), fault="mid_payload:4:kill")
    assert child.wait(60) == -signal.SIGKILL
    (tmp_path / "store" / "tmp" / f"another-host+{child.pid}+0+x").touch()
    moment = (year - 1970) * 365.25 * 86_400
    for path in root.rglob("*"):
        os.utime(path, (moment, moment))
    summary = do(wanted, root)
    assert (summary.known, summary.done, len(lines(log))) == (3, 2, N + 1)
    assert left(root, "tmp") == [f"another-host+{child.pid}+0+x"]
    for path in root.rglob("*"):
        os.utime(path, (moment, moment))
    store = Store(root)
    assert {found.state for found in store.listing(made_with=lambda _: tasks.made_with(), check=True)} == {"sound"}
    assert do(wanted, root).known == N
    assert tree(root) == reference


def test_f34_other_versions_make_other_shards(tmp_path, monkeypatch, reference):
    real = tasks.made_with()
    store, old = Store(tmp_path), shards()[0].key
    do(shards(), tmp_path)
    assert "stale" not in storage.status(store)
    changed = {**real, "numpy": "0.0", "code": "0" * 64}
    monkeypatch.setattr(tasks, "made_with", lambda: changed)
    assert shards()[0].key != old
    assert {found.state for found in store.listing(made_with=lambda _: changed)} == {"stale"}
    summary = do(shards(n=2), tmp_path)
    assert (summary.known, summary.done) == (0, 2)
    assert reference.items() < tree(tmp_path).items()
    text = storage.status(store)
    assert f"{N + 2} shards" in text
    assert "stale because these changed: code, numpy (kept, not used; --delete-stale deletes them)" in text
    assert [line.split()[:3] for line in text.splitlines()[1:3]] == [["sound", "powers", "2"], ["stale", "powers", str(N)]]
    assert "stale because these changed: code, numpy (deleted)" in storage.status(store, delete_stale=True)
    assert {found.key for found in store.listing()} == {task.key for task in shards(n=2)}
    assert len(left(tmp_path, "shards", "facts")) == 6
    assert "stale" not in storage.status(store)


def test_f34_without_its_versions_a_shard_is_stale(tmp_path):
    store = Store(tmp_path)
    store.write({"task": "old"}, {"value": np.zeros(1)})
    assert [found.state for found in store.listing(made_with=lambda _: tasks.made_with())] == ["stale"]
    assert "python" in storage.status(store)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (lambda: 0, "function is no JSON"),
        (np.zeros(2), "ndarray is no JSON"),
        (np.int64(1), "int64 is no JSON"),
        (float("nan"), "nan is no JSON number"),
        (float("-inf"), "-inf is no JSON number"),
        ({1: 2}, "key 1 is no text"),
        ({None: 2}, "key None is no text"),
        ({1, 2}, "set is no JSON"),
        (b"text", "bytes is no JSON"),
        (Path("x"), "PosixPath is no JSON"),
        (object, "type is no JSON"),
    ],
)
@pytest.mark.parametrize("where", ["items", "parameters", "settings"])
def test_f35_a_task_is_plain_json(value, why, where):
    given = {"items": (1,), "parameters": {}, "settings": {}}
    Task("powers", **given)
    for wrapped in (value, [1, [value]]):
        wrong = (wrapped,) if where == "items" else {"f": wrapped}
        with pytest.raises(TypeError, match=why):
            Task("powers", **{**given, where: wrong})


def test_f35_a_task_that_holds_itself_is_refused():
    endless = []
    endless.append(endless)
    with pytest.raises(TypeError, match="nested deeper than 20"):
        Task("powers", (1,), {"f": endless})


def test_f35_only_registered_tasks_and_their_own_parameters_are_done(tmp_path):
    for name in ("os.system", "__import__", "power", "json.dumps"):
        with pytest.raises(ConfigError, match=f"unknown task '{name}'"):
            tasks.perform(Task(name, (1,)).text(), str(tmp_path))
    with pytest.raises(ConfigError, match="unknown parameter of task 'powers' 'exponant': did you mean 'exponent'"):
        tasks.perform(Task("powers", (1,), {"exponant": 1}).text(), str(tmp_path))
    with pytest.raises(ConfigError, match="no items"):
        Task("powers", ())
    assert left(tmp_path, "shards", "tmp") == []


def test_f35_the_text_of_a_task_is_the_whole_task():
    task = Task("powers", (1, "a", [0.5, None]), {"b": True, "a": {"c": "é"}}, {"max_batch": 3})
    assert Task.read(task.text()).request == task.request
    assert Task.read(task.text()).settings == task.settings
    assert task.text().isascii()
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1}) != key_of({"a": 1, "b": 2.5})
