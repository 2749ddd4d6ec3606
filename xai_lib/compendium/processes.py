"""Starting the executor of a notebook, and ending everything it started.

A kernel leads a session of its own (jupyter_client starts it so), hence killing the executor's group would leave it behind.
What is ended are the sessions of the executor and its descendants, and every process that inherited the run's XAI_RUN_DIR
(which also finds the children of a kernel that has died).
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

EXECUTOR = Path(__file__).with_name("execute.py")


def start(request: Path, *, scratch: Path, log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """The executor for `request`, in its own process group, with a kernel of this very interpreter.

    Args:
        request: JSON file as `execute` reads it.
        scratch: private folder for the kernel's specification, connection files and IPython profile.
        log: where the text of executor and kernel goes.
        environment: variables to add.
    """
    spec = scratch / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    content = {"argv": argv, "display_name": "Python 3", "language": "python"}
    (spec / "kernel.json").write_text(json.dumps(content), encoding="utf-8")
    private = {
        "JUPYTER_PATH": str(scratch / "jupyter"),
        "JUPYTER_CONFIG_DIR": str(scratch / "config"),
        "JUPYTER_RUNTIME_DIR": str(scratch / "runtime"),
        "IPYTHONDIR": str(scratch / "ipython"),
        "JUPYTER_PLATFORM_DIRS": "1",
        "PYTHONUTF8": "1",
    }
    inherited = {key: value for key, value in os.environ.items() if key not in ("MPLBACKEND", "JUPYTER_PREFER_ENV_PATH")}
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-P", str(EXECUTOR), str(request)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**inherited, **private, **environment},
            start_new_session=True,
        )


def end(process: subprocess.Popen[bytes], kernels: set[int], folder: Path) -> None:
    """Kill the executor, the kernels and whatever they started, and reap the executor.

    Args:
        process: the executor.
        kernels: process ids of kernels that it reported (each leads a session that may outlive it).
        folder: the run's XAI_RUN_DIR.
    """
    sessions = {process.pid} | kernels
    with contextlib.suppress(psutil.NoSuchProcess):
        sessions |= {_session(child.pid) for child in psutil.Process(process.pid).children(recursive=True)}
    sessions -= {_session(os.getpid()), 0}
    for _ in range(20):
        members = [each for each in psutil.process_iter() if _belongs(each, sessions, str(folder))]
        if not members:
            break
        for each in members:
            with contextlib.suppress(psutil.Error):
                each.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.25)
    process.wait()


def _belongs(each: psutil.Process, sessions: set[int], folder: str) -> bool:
    if each.pid == os.getpid():
        return False
    try:
        if each.status() == psutil.STATUS_ZOMBIE:
            return False
        return _session(each.pid) in sessions or each.environ().get("XAI_RUN_DIR") == folder
    except (psutil.Error, OSError):
        return False


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return 0


def events(path: Path) -> list[dict[str, Any]]:
    """The complete lines that the executor has written so far."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]


@contextlib.contextmanager
def signals_raise() -> Iterator[None]:
    """SIGTERM and SIGHUP raise SystemExit(128 + signal), so that `finally` clauses run; Ctrl-C does so by itself.

    Outside the main thread nothing is changed (Python allows handlers only there).
    """

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    former: dict[signal.Signals, Any] = {}
    try:
        with contextlib.suppress(ValueError):
            for number in (signal.SIGTERM, signal.SIGHUP):
                former[number] = signal.signal(number, leave)
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Clean up without being cut short by a second Ctrl-C."""
    former: dict[signal.Signals, Any] = {}
    try:
        with contextlib.suppress(ValueError):
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                former[number] = signal.signal(number, signal.SIG_IGN)
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
