"""Where tasks are done: in this process, in workers beside it, or on a cluster. Results go to the store, so an engine can go.

    serial             here, one after the other (the default: no daemon, no port)
    local:N            N processes on this machine, loopback only; a GPU each where there are any
    dask:ADDRESS       workers of a running Dask scheduler (tcp://...), which must see the same store
    dask-file:PATH     the same, its address in a scheduler file

Tasks are sent as text (a name and JSON, see `tasks`); the function that runs them is always `tasks.perform`.
"""

import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from xai_lib.allocator import FOR_THREADS
from xai_lib.compendium.store import Store
from xai_lib.compendium.tasks import Outcome, Task, known, perform
from xai_lib.errors import ConfigError, EngineError, XaiError

KINDS = ("serial", "local:N", "dask:ADDRESS", "dask-file:PATH")
MOST_WORKERS = 512
DEATHS = 2
IN_FLIGHT = 8
WAIT = 30.0


class Engine(Protocol):
    """Does tasks, in any order."""

    workers: int

    def run(self, tasks: Iterable[Task], store: Store, *, timeout: float | None = None) -> Iterator[Outcome]:
        """One outcome a task, as they come; `tasks` is read only as far as there is somebody to do them.

        Args:
            timeout: seconds one task may take before its worker is ended; None for no limit. The serial engine has none.

        Raises:
            ConfigError, StoreError, EngineError: the request, the store or the task itself is wrong; what is finished stays.
        """


class Serial:
    """Here, one after the other."""

    workers = 1

    def run(self, tasks: Iterable[Task], store: Store, *, timeout: float | None = None) -> Iterator[Outcome]:
        """See `Engine.run`."""
        for task in tasks:
            yield Outcome(**perform(task.text(), str(store.root)))


@dataclass
class Distributed:
    """Workers of a Dask client; futures only."""

    client: Any
    workers: int

    def run(self, tasks: Iterable[Task], store: Store, *, timeout: float | None = None) -> Iterator[Outcome]:
        """See `Engine.run`."""
        from distributed import as_completed

        asked: dict[str, Task] = {}
        waiting, finished = iter(tasks), as_completed(loop=self.client.loop)
        try:
            while True:
                while len(asked) < IN_FLIGHT * self.workers and (task := next(waiting, None)) is not None:
                    future = self.client.submit(work, task.text(), str(store.root), timeout, pure=False)
                    asked[future.key] = task
                    finished.add(future)
                if not asked:
                    return
                future = next(finished)
                task = asked.pop(future.key)
                if future.status in ("cancelled", "lost") and self._answers():
                    again = self.client.submit(work, task.text(), str(store.root), timeout, pure=False)
                    asked[again.key] = task  # its result went with its worker before it was fetched; the store has it
                    finished.add(again)
                    continue
                yield self._outcome(future, task, timeout)
                future.release()
        finally:
            with contextlib.suppress(Exception):
                self.client.cancel(list(finished.futures), force=True)

    def _answers(self) -> bool:
        """Whether the scheduler is still there."""
        if self.client.status != "running":
            return False
        try:
            return bool(self.client.sync(self.client.scheduler.identity, callback_timeout=WAIT))
        except Exception:
            return False

    def _outcome(self, future: Any, task: Task, timeout: float | None) -> Outcome:
        from distributed import KilledWorker

        if future.status == "finished":
            return Outcome(**future.result())
        if future.status in ("cancelled", "lost"):
            raise EngineError("the scheduler is gone; finished shards are kept, run again to go on")
        error = future.exception()
        if isinstance(error, KilledWorker):
            limit = f", or took longer than {timeout:g} s" if timeout else ""
            why = f"its worker died {error.allowed_failures + 1} times (killed, out of memory{limit})"
            return Outcome(task.key, "lost", len(task.items), why=why)
        if isinstance(error, XaiError):
            raise error
        raise EngineError(f"task {task.name!r}: {type(error).__name__}: {error}")


def work(text: str, root: str, timeout: float | None) -> dict[str, Any]:
    """`perform` inside a worker, which is ended when it takes too long (only a process can be stopped for sure)."""
    import threading

    known(text)  # a new worker imports for seconds, which are not the task's
    if not timeout:
        return perform(text, root, expendable=True)
    watch = threading.Timer(timeout, os._exit, args=(71,))
    watch.daemon = True
    watch.start()
    try:
        return perform(text, root, expendable=True)
    finally:
        watch.cancel()


@contextlib.contextmanager
def open_engine(spec: str = "serial") -> Iterator[Engine]:
    """The engine of a text such as "local:2"; its workers are gone when the block is left.

    Raises:
        ConfigError: unknown kind, or a number of workers that is none.
        EngineError: no such scheduler, or it has no worker.
    """
    kind, _, rest = spec.partition(":")
    if spec == "serial":
        yield Serial()
    elif kind == "local":
        if not rest.isdigit() or not 1 <= int(rest) <= MOST_WORKERS:
            raise ConfigError(f"engine {spec!r}: expected local:N with N from 1 to {MOST_WORKERS}")
        with _local(int(rest)) as client:
            yield Distributed(client, int(rest))
    elif kind in ("dask", "dask-file") and rest:
        with _remote(kind, rest) as client:
            yield Distributed(client, max(1, sum(client.nthreads().values())))
    else:
        raise ConfigError(f"engine {spec!r}: expected one of {', '.join(KINDS)}")


def workers_of(spec: str) -> int:
    """How many workers an engine of this machine would have; 1 where only the cluster knows."""
    kind, _, rest = spec.partition(":")
    return int(rest) if kind == "local" and rest.isdigit() and int(rest) else 1


def _settings(threads: int = 1) -> dict[str, Any]:
    per_worker = {name: os.environ.get(name, value) for name, value in FOR_THREADS.items()}
    per_worker |= {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    return {
        "distributed.scheduler.allowed-failures": DEATHS - 1,
        "distributed.scheduler.worker-saturation": 1.0,  # a task waits at the scheduler, not where another kills its worker
        "distributed.deploy.lost-worker-timeout": "3650 days",  # a slow replacement is not given up
        "distributed.worker.profile.enabled": False,
        "distributed.admin.tick.interval": "1s",  # looked at 50 times a second, idle event loops take 7 % of a core
        "distributed.admin.system-monitor.interval": "10s",
        "distributed.nanny.pre-spawn-environ": per_worker,
        "distributed.comm.timeouts.connect": "10s",
        "distributed.admin.log-format": "%(message)s",
    }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    names = ["distributed", *(name for name in logging.root.manager.loggerDict if name.startswith("distributed."))]
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextlib.contextmanager
def _local(n: int) -> Iterator[Any]:
    import dask.config
    from distributed import Client, Nanny, Scheduler, SpecCluster

    gpus = _gpus()
    threads = max(1, cores() // n)
    with _quiet(), dask.config.set(_settings(threads)), tempfile.TemporaryDirectory(prefix="xai-") as scratch:
        loopback = {"host": "127.0.0.1", "dashboard": False, "dashboard_address": "127.0.0.1:0"}
        own = {**loopback, "nthreads": 1, "memory_limit": 0, "local_directory": scratch}
        workers = {}
        for index in range(n):
            environment = {"CUDA_VISIBLE_DEVICES": gpus[index % len(gpus)]} if gpus else {}
            workers[index] = {"cls": Nanny, "options": {**own, "env": environment, "silence_logs": logging.CRITICAL}}
        scheduler = {"cls": Scheduler, "options": {**loopback, "port": 0}}
        with (
            SpecCluster(scheduler=scheduler, workers=workers, silence_logs=logging.CRITICAL) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            yield client


@contextlib.contextmanager
def _remote(kind: str, rest: str) -> Iterator[Any]:
    import dask.config
    from distributed import Client

    where: dict[str, Any] = {"address": rest}
    if kind == "dask-file":
        where = {"address": _address(Path(rest))}
    with _quiet(), dask.config.set(_settings()):
        try:
            client = Client(**where, timeout=WAIT, set_as_default=False)
        except (OSError, ValueError) as error:
            raise EngineError(f"engine {kind}:{rest}: no scheduler answers ({error})") from None
        with client:
            try:
                client.wait_for_workers(1, timeout=WAIT)
            except TimeoutError:
                raise EngineError(f"engine {kind}:{rest}: the scheduler has no worker; start some with `dask worker`") from None
            yield client


def _address(path: Path) -> str:
    """The address in a scheduler file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        address = content["address"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        why = f"{type(error).__name__}: {error}"
        raise EngineError(
            f"engine dask-file:{path}: no scheduler file ({why}); `dask scheduler --scheduler-file` writes it"
        ) from None
    if not isinstance(address, str):
        raise EngineError(f"engine dask-file:{path}: its address is {address!r}, expected text such as tcp://10.0.0.1:8786")
    return address


def _gpus() -> list[str]:
    """The GPUs that may be used, as CUDA names them; asked without starting CUDA in this process."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name for name in given.split(",") if name and name != "-1"]
    if not Path("/dev/nvidiactl").exists():
        return []
    import torch  # late: only where there is something to ask about

    return [str(index) for index in range(torch.cuda.device_count())]


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
