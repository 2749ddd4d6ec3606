"""Faults of engines (RELIABILITY F10 F12-F15 F26 F32 F35 F36): a task is lost alone, nobody stays behind, every way gives
the same bytes."""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import toy_tasks  # noqa: F401  registers the toys

from xai_lib.allocator import FOR_THREADS
from xai_lib.compendium import benchmark, engine, ledger
from xai_lib.compendium.benchmark import Work
from xai_lib.compendium.engine import IN_FLIGHT, Serial, open_engine, workers_of
from xai_lib.compendium.store import Store, tree
from xai_lib.compendium.tasks import Task
from xai_lib.errors import ConfigError, EngineError, StoreError

pytestmark = pytest.mark.slow

NOISE = Work("noise", {"any": 1}, tuple(range(22)), {"seed": 5}, 3)
DRIVER = """
from xai_lib.compendium import processes
from xai_lib.compendium.engine import open_engine
from xai_lib.compendium.store import Store
from xai_lib.compendium.tasks import Task
from xai_lib.errors import XaiError

def main(spec, root, texts):
    with processes.signals_raise(), open_engine(spec) as workers:
        for outcome in workers.run([Task.read(text) for text in texts], Store(root)):
            print(outcome.status, flush=True)

try:
    main(*given)
except XaiError as error:
    sys.exit(f"{type(error).__name__} {error.exit_code} {error}")
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture(scope="module")
def environment(toys):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in toys.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def local(environment):
    with open_engine("local:2") as opened:
        yield opened


@pytest.fixture(autouse=True)
def clean_ledger(monkeypatch):
    monkeypatch.setattr(ledger, "shards", {})
    monkeypatch.setattr(ledger, "left_out", {})


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The tree of the noise, computed here and in order; its values are those of the generators."""
    store = Store(tmp_path_factory.mktemp("reference"))
    values = benchmark.gather(NOISE, store).arrays["value"]
    assert np.array_equal(values, np.stack([np.random.default_rng([5, item]).random(64) for item in range(22)]))
    return tree(store.root)


def powers(n, **settings):
    """Shards of two items each."""
    return [Task("powers", (2 * k, 2 * k + 1), {}, settings) for k in range(n)]


def finish(tasks, root):
    """Do what is missing, here and without pauses; returns the summary and the tree."""
    summary = benchmark.calculate([Task(task.name, task.items, task.parameters) for task in tasks], Store(root), Serial())
    return summary, tree(root)


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


def until(what, seconds=60):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def temporaries(root):
    return list((Path(root) / "tmp").iterdir())


# --- F36: the same bytes, whoever computes


def test_f36_two_workers(local, tmp_path, reference):
    summary = benchmark.fill([[NOISE]], Store(tmp_path), local)
    assert (summary.done, summary.known) == (8, 0)
    assert tree(tmp_path) == reference
    assert temporaries(tmp_path) == []


def test_f36_in_another_order(local, tmp_path, reference):
    shuffled = random.Random(1).sample(NOISE.tasks(), 8)
    for name, opened in (("serial", Serial()), ("local", local)):
        benchmark.calculate(shuffled, Store(tmp_path / name), opened)
        assert tree(tmp_path / name) == reference


def test_f36_in_parts(local, tmp_path, reference):
    store = Store(tmp_path)
    first = benchmark.fill([[NOISE]], store, local, part=(2, 2))
    assert {found.request["items"][0] for found in store.listing()} == {3, 9, 15, 21}
    second = benchmark.fill([[NOISE]], store, Serial(), part=(1, 2))
    assert (first.done, second.done, second.known) == (4, 4, 0)
    assert tree(tmp_path) == reference


def test_f36_broken_off_and_resumed(local, tmp_path, reference):
    log, store = tmp_path / "log", Store(tmp_path)
    outcomes = local.run([*NOISE.tasks(), *powers(12, pause=0.1, log=str(log))], store)
    assert next(outcomes).status == "done"
    until(lambda: len(lines(log)) >= 1)
    outcomes.close()
    until(lambda: not any(local.client.processing().values()))
    assert len(lines(log)) < 12
    for task in powers(12):
        store.delete(task.key)
    summary = benchmark.fill([[NOISE]], store, local)
    assert summary.known >= 1
    assert tree(tmp_path) == reference
    assert benchmark.fill([[NOISE]], store, local).known == 8


# --- F10, F12, F13, F14: a worker or a task is lost


def test_f13_a_killed_worker_costs_one_attempt(local, tmp_path):
    log = tmp_path / "log"
    tasks = powers(12, pause=0.3, log=str(log))
    outcomes = local.run(tasks, Store(tmp_path / "store"))
    found = [next(outcomes), next(outcomes)]
    until(lambda: len(lines(log)) > 3)
    victim, pid = lines(log)[-1].split()
    psutil.Process(int(pid)).kill()
    found += outcomes
    assert len(found) == 12
    assert {outcome.status for outcome in found} <= {"done", "known"}  # known: done by the worker that could not report it
    attempts = [line.split() for line in lines(log)]
    assert len(attempts) == 13
    (retried,) = {own for own, _ in attempts if [row[0] for row in attempts].count(own) > 1}
    assert retried == victim
    assert len({own for _, own in attempts}) == 3
    assert tree(tmp_path / "store") == finish(tasks, tmp_path / "reference")[1]


def test_f13_a_worker_that_is_slow_to_be_replaced(start, tmp_path):
    tasks = [Task("deadly", (k,), {}, {"item": 1, "once": str(tmp_path / "once")}) for k in range(4)]
    slow = {"DASK_DISTRIBUTED__DEPLOY__LOST_WORKER_TIMEOUT": "0.05s", "TMPDIR": str(tmp_path)}
    driver = start(DRIVER, "local:1", str(tmp_path / "store"), [task.text() for task in tasks], env=slow)
    try:
        out = driver.communicate(timeout=25)[0]
    finally:
        for process in psutil.Process(driver.pid).children(recursive=True) if driver.returncode is None else ():
            process.kill()
    assert len(out.split()) == 4
    assert set(out.split()) <= {"done", "known"}


def test_f13_results_that_die_with_their_workers_before_they_are_fetched(local, tmp_path):
    log, store = tmp_path / "log", Store(tmp_path / "store")
    tasks = powers(12, pause=0.01, log=str(log))
    outcomes = local.run(tasks, store)
    assert next(outcomes).status == "done"
    until(lambda: len(list(store.listing())) == 12 and not any(local.client.processing().values()))
    before = set(local.client.nthreads())
    for pid in {int(line.split()[1]) for line in lines(log)}:
        psutil.Process(pid).kill()
    until(lambda: not before & set(local.client.nthreads()))
    time.sleep(0.2)
    assert {outcome.status for outcome in outcomes} <= {"done", "known"}
    assert len(lines(log)) == 12


def test_f14_a_task_that_kills_its_worker_is_lost_alone(local, tmp_path):
    tasks = [Task("deadly", (2 * k, 2 * k + 1), {}, {"item": 7, "pause": 0.3}) for k in range(16)]
    summary = benchmark.calculate(tasks, Store(tmp_path), local)
    assert summary.done + summary.known == 15
    why = "its worker died 2 times (killed, out of memory)"
    assert summary.lost == {"6": why, "7": why}
    assert [task.items for task in tasks if not Store(tmp_path).has(task.request)] == [(6, 7)]


def test_f14_nothing_waits_where_another_task_may_kill_its_worker(local, tmp_path):
    waiting = [
        len(keys) for _ in local.run(powers(8, pause=0.1), Store(tmp_path)) for keys in local.client.processing().values()
    ]
    assert max(waiting) == 1


def test_f10_out_of_memory_in_a_worker(local, tmp_path):
    tasks = [Task("hungry", (0, 1), {"most": 0}), Task("hungry", (2, 3), {"most": 1}), *powers(4)]
    summary = benchmark.calculate(tasks, Store(tmp_path), local)
    assert summary.done == 5
    assert summary.lost == dict.fromkeys("01", "MemoryError: too much at once")


@pytest.mark.parametrize("always", [False, True])
def test_f12_a_poisoned_cuda_context_ends_its_worker(always, local, tmp_path):
    log, once = tmp_path / "log", "" if always else str(tmp_path / "once")
    tasks = [Task("poisoned", (k,), {}, {"item": 5, "once": once, "pause": 0.3, "log": str(log)}) for k in range(12)]
    summary = benchmark.calculate(tasks, Store(tmp_path / "store"), local)
    lost = [tasks[5].key] * always
    pids = [int(line) for line in lines(log)]
    assert len(set(pids)) == len(pids) == 2
    until(lambda: not psutil.pid_exists(pids[0]), 10)
    assert summary.done + summary.known == 12 - always
    assert list(summary.lost) == ["5"] * always
    values = [Store(tmp_path / "store").read(task.request).arrays["value"].item() for task in tasks if task.key not in lost]
    assert values == [k for k in range(12) if not (always and k == 5)]


def test_f12_in_this_very_process_it_is_an_error(tmp_path):
    tasks = [Task("poisoned", (k,), {}, {"item": 5, "log": str(tmp_path / "log")}) for k in range(12)]
    with pytest.raises(EngineError, match=r"RuntimeError at toy_tasks\.py:\d+: CUDA error: device-side assert triggered"):
        benchmark.calculate(tasks, Store(tmp_path / "store"), Serial())
    assert len(list(Store(tmp_path / "store").listing())) == 5


def test_f14_a_task_that_takes_too_long_is_lost_alone(local, tmp_path):
    tasks = [Task("sleeper", (k,), {}, {"seconds": 100 if k == 3 else 0.01, "item": 3}) for k in range(8)]
    summary = benchmark.calculate(tasks, Store(tmp_path), local, timeout=1.5)
    assert summary.done + summary.known == 7
    assert summary.lost == {"3": "its worker died 2 times (killed, out of memory, or took longer than 1.5 s)"}


def test_f14_a_time_limit_counts_for_each_task(local, tmp_path):
    log = tmp_path / "log"
    summary = benchmark.calculate(powers(12, pause=0.3, log=str(log)), Store(tmp_path), local, timeout=1.5)
    assert (summary.done, summary.lost) == (12, {})
    assert len({line.split()[1] for line in lines(log)}) == 2  # nobody was ended


@pytest.mark.parametrize(
    ("task", "error", "why"),
    [
        (Task("os.system", (1,)), ConfigError, "unknown task 'os.system'"),
        (Task("powers", (1,), {"exponant": 1}), ConfigError, "did you mean 'exponent'"),
        (Task("wrong", (1,)), EngineError, r"task 'wrong' failed: KeyError at toy_tasks\.py:\d+"),
    ],
)
def test_f35_an_error_that_is_no_items_fault_ends_the_run(task, error, why, local, tmp_path):
    store = Store(tmp_path)
    with pytest.raises(error, match=why):
        list(local.run([*powers(2), task], store))
    assert len(list(store.listing())) <= 2
    assert benchmark.calculate(powers(4), store, local).lost == {}
    assert len(list(store.listing())) == 4


def test_f28_a_store_that_a_worker_cannot_write_ends_the_run(local, tmp_path):
    store = Store(tmp_path / "store")
    for folder in store.root.iterdir():
        folder.rmdir()
    store.root.rmdir()
    store.root.write_text("no folder")
    with pytest.raises(StoreError, match="cannot be written: Not a directory") as caught:
        list(local.run(powers(4), store))
    assert caught.value.exit_code == 5


# --- many tasks, open doors


def test_a_thousand_tasks(local, tmp_path):
    store = Store(tmp_path)
    summary = benchmark.calculate((Task("noop", (k,)) for k in range(1000)), store, local)
    assert (summary.done, summary.known, summary.lost) == (1000, 0, {})
    assert len({found.key for found in store.listing() if found.state == "sound"}) == 1000


def test_tasks_are_read_only_as_far_as_there_is_somebody_to_do_them(local, tmp_path):
    read = []

    def tasks():
        for k in range(100):
            read.append(k)
            yield Task("noop", (k,))

    for done, _ in enumerate(local.run(tasks(), Store(tmp_path)), start=1):
        assert done <= len(read) < done + 2 * IN_FLIGHT
    assert done == 100


def test_only_this_machine_is_listened_to(local):
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    listening = {
        process.pid: {c.laddr.ip for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN}
        for process in family
        if process.status() != psutil.STATUS_ZOMBIE
    }
    assert listening[os.getpid()] == {"127.0.0.1"}
    assert set().union(*listening.values()) == {"127.0.0.1"}
    assert sum(bool(places) for places in listening.values()) >= 3  # the driver with its nannies, and two workers


def test_workers_have_their_threads_and_one_memory_for_all(local):
    (seen,) = {tuple(sorted(found.items())) for found in local.client.run(lambda: dict(os.environ)).values()}
    seen = dict(seen)
    assert seen["OMP_NUM_THREADS"] == str(max(1, engine.cores() // 2))
    assert {name: seen[name] for name in FOR_THREADS} == {"MALLOC_ARENA_MAX": "1"}


# --- F26: engines that are none


@pytest.mark.parametrize(
    "spec", ["", "local", "local:", "local:0", "local:-1", "local:x", "local:513", "dask:", "dask-file:", "gpu"]
)
def test_f26_an_unknown_engine(spec):
    with pytest.raises(ConfigError, match=r"expected (one of serial, local:N, dask:ADDRESS|local:N with N from 1 to 512)"):
        open_engine(spec).__enter__()


def test_f26_how_many_workers():
    assert [workers_of(spec) for spec in ("serial", "local:3", "local:x", "dask:tcp://host:1")] == [1, 3, 1, 1]


@pytest.mark.parametrize("spec", ["dask:tcp://127.0.0.1:1", "dask:what://127.0.0.1:1", "dask:127.0.0.1:port"])
def test_f26_no_scheduler_there(spec, monkeypatch):
    monkeypatch.setattr(engine, "WAIT", 1.0)
    with pytest.raises(EngineError, match="no scheduler answers"):
        open_engine(spec).__enter__()


@pytest.mark.parametrize("content", [None, "", "[1]", "{}", '{"address": 3}'])
def test_f26_a_scheduler_file_that_is_none(content, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "WAIT", 1.0)
    path = tmp_path / "scheduler.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(EngineError, match=r"scheduler\.json"):
        open_engine(f"dask-file:{path}").__enter__()


# --- a scheduler of its own


RECIPE = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1", "DASK_DISTRIBUTED__SCHEDULER__WORKER_SATURATION": "1.0"}


class Cluster:
    """`dask scheduler` with some `dask worker` processes on this machine, started as book/large_runs.md says."""

    def __init__(self, folder, start):
        self.folder, self.file, self.start = folder, folder / "scheduler.json", start
        self.scheduler = self.dask("scheduler", "--port", "0", "--no-show")
        until(lambda: self.file.exists() and self.file.read_text().endswith("}"))
        self.workers = []

    def dask(self, kind, *more):
        argv = [sys.executable, "-m", "dask", kind, "--scheduler-file", str(self.file), "--host", "127.0.0.1", "--no-dashboard"]
        code = "import os\nos.execvp(given[0], given)"
        with (self.folder / f"{kind}.log").open("a") as log:
            return self.start(code, *argv, *more, stdout=log, stderr=log, env=RECIPE)

    def add_worker(self):
        self.workers.append(self.dask("worker", "--nthreads", "1", "--local-directory", str(self.folder)))

    def pids(self):
        """The processes that work (a worker's child)."""
        return {child.pid for worker in self.workers for child in psutil.Process(worker.pid).children(recursive=True)}


@pytest.fixture
def cluster(tmp_path, start, environment):
    made = Cluster(tmp_path, start)
    yield made
    for process in [*made.workers, made.scheduler]:
        for one in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
            one.kill()


def test_a_running_scheduler(cluster, tmp_path, reference, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(engine, "WAIT", 1.0)
        with pytest.raises(EngineError, match="the scheduler has no worker; start some with `dask worker`"):
            open_engine(f"dask-file:{cluster.file}").__enter__()
    cluster.add_worker()
    cluster.add_worker()
    address = json.loads(cluster.file.read_text())["address"]
    assert address.startswith("tcp://127.0.0.1:")
    with open_engine(f"dask:{address}") as opened:
        until(lambda: len(opened.client.nthreads()) == 2)
    with open_engine(f"dask:{address}") as opened:
        assert opened.workers == 2
        assert benchmark.fill([[NOISE]], Store(tmp_path / "address"), opened).done == 8
    assert tree(tmp_path / "address") == reference
    with open_engine(f"dask-file:{cluster.file}") as opened:
        log = tmp_path / "log"
        tasks = powers(12, pause=0.1, log=str(log))
        assert benchmark.calculate(tasks, Store(tmp_path / "file"), opened).done == 12
    assert tree(tmp_path / "file") == finish(tasks, tmp_path / "reference")[1]
    assert {int(line.split()[1]) for line in lines(log)} <= cluster.pids()
    assert cluster.scheduler.poll() is None


def test_f14_on_a_running_scheduler(cluster, tmp_path):
    cluster.add_worker()
    cluster.add_worker()
    tasks = [Task("deadly", (2 * k, 2 * k + 1), {}, {"item": 7, "pause": 0.3}) for k in range(16)]
    with open_engine(f"dask-file:{cluster.file}") as opened:
        summary = benchmark.calculate(tasks, Store(tmp_path / "store"), opened)
    assert summary.done + summary.known == 15
    assert list(summary.lost) == ["6", "7"]


def test_f15_the_scheduler_is_lost(cluster, start, tmp_path):
    cluster.add_worker()
    tasks = powers(6, pause=0.5)
    driver = start(DRIVER, f"dask-file:{cluster.file}", str(tmp_path / "store"), [task.text() for task in tasks])
    assert driver.stdout.readline() == "done\n"
    cluster.scheduler.kill()
    message = driver.communicate(timeout=60)[1]
    assert driver.returncode == 1
    assert message.endswith("EngineError 1 the scheduler is gone; finished shards are kept, run again to go on\n")
    summary, found = finish(tasks, tmp_path / "store")
    assert summary.known >= 1
    assert found == finish(tasks, tmp_path / "reference")[1]


# --- F15, F32: the driver is lost, or asked to end


def driven(start, tmp_path, **popen):
    """A driver with two workers in the middle of its work, and everything it started."""
    tasks = powers(12, pause=0.4)
    driver = start(DRIVER, "local:2", str(tmp_path / "store"), [task.text() for task in tasks], **popen)
    assert driver.stdout.readline() == "done\n"
    return driver, tasks, psutil.Process(driver.pid).children(recursive=True)


def test_f15_workers_of_a_killed_driver_end(start, tmp_path):
    driver, tasks, family = driven(start, tmp_path, env={"TMPDIR": str(tmp_path)})
    assert len(family) >= 2
    driver.kill()
    assert psutil.wait_procs(family, timeout=15)[1] == []
    summary, found = finish(tasks, tmp_path / "store")
    assert 1 <= summary.known < 12
    assert found == finish(tasks, tmp_path / "reference")[1]
    assert temporaries(tmp_path / "store") == []


@pytest.mark.parametrize(
    ("number", "group", "code"), [(signal.SIGINT, False, 130), (signal.SIGINT, True, 130), (signal.SIGTERM, False, 143)]
)
def test_f32_a_signal_ends_the_driver_and_its_workers(number, group, code, start, tmp_path):
    driver, tasks, family = driven(start, tmp_path, start_new_session=True, env={"TMPDIR": str(tmp_path)})
    (os.killpg if group else os.kill)(driver.pid, number)
    assert driver.wait(10) == code
    assert group or driver.stderr.read() == ""  # at a terminal the workers are interrupted too, and print where they were
    assert psutil.wait_procs(family, timeout=10)[1] == []
    before = tree(tmp_path / "store")
    summary, found = finish(tasks, tmp_path / "store")
    assert 1 <= summary.known < 12
    assert before.items() < found.items()
    assert found == finish(tasks, tmp_path / "reference")[1]
    assert temporaries(tmp_path / "store") == []
    assert not list(tmp_path.glob("xai-*"))  # the scratch folder of the workers
