"""Faults of a run (RELIABILITY F8 F9 F16 F27 F32): each ends within its time, leaves no process and nothing half-written."""

import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic

import nbformat
import psutil
import pytest
import tiny_study

from xai_lib.compendium import folders, job, runner

pytestmark = pytest.mark.slow

FAMILY = """
import json, os, pathlib, signal, subprocess, sys, time
child = subprocess.Popen(["sleep", "300"], start_new_session=True)
pathlib.Path(os.environ["XAI_ROOT"], "pids.json").write_text(json.dumps([os.getpid(), os.getppid(), child.pid]))
"""
STUBBORN = "signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"
RESULTS = """
import csv, hashlib, json, os, pathlib
folder = pathlib.Path(os.environ["XAI_RUN_DIR"])
head = "dataset,model,method,method_parameters,metric,metric_parameters,sample,seed,value,seconds,flag"
lines = [head, *(f"d,m,{m},{{}},score,{{}},image{i},0,{float(i)},0.0," for m in "ab" for i in range(n_images))]
(folder / "results.csv").write_text("\\n".join(lines) + "\\n")
record = {"data": [], "models": [], "device": "cpu", "threads": 1, "extra": {"quarantined": ["image0"]}}
record["results_sha256"] = hashlib.sha256((folder / "results.csv").read_bytes()).hexdigest()
(folder / "provenance.json").write_text(json.dumps(record))
"""


class Trigger(io.StringIO):
    """A progress stream that acts once, when a line shows that `cells` are done."""

    def __init__(self, cells: int, act: Callable[[], None]) -> None:
        super().__init__()
        self.mark, self.act = f"cell {cells}/", act

    def write(self, text: str) -> int:
        if self.mark in text:
            self.mark = "\0"
            self.act()
        return super().write(text)


def living(root: Path) -> list[int]:
    """Those of the kernel, the executor and the kernel's child that still run."""
    pids = json.loads((root / "pids.json").read_text())
    assert len(pids) == 3
    return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


def only_failed(root: Path) -> Path:
    (folder,) = (root / "runs" / "tiny").iterdir()
    assert folder.name.endswith(".failed")
    assert sorted(path.name for path in folder.iterdir()) == ["error.txt", "notebook.ipynb"]
    return folder


def test_f8_a_dead_kernel_is_noticed(tmp_path: Path) -> None:
    root = tiny_study.write(tmp_path, FAMILY, "os.kill(os.getpid(), 9)", "never = 1")
    result = runner.run("tiny", root=root, timeout=60, progress=None)
    assert (result.exit_code, result.record) == (1, {})
    assert result.message.startswith("the kernel died in cell 5: killed, crashed, or out of memory; see runs/tiny/")
    assert only_failed(root) == result.path
    assert living(root) == []
    events = nbformat.read(result.path / "notebook.ipynb", as_version=4).metadata.papermill
    assert events["duration"] < 60


def test_f9_a_cell_that_hangs_and_ignores_sigint_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tiny_study.write(tmp_path, FAMILY, STUBBORN)
    late = Trigger(4, lambda: monkeypatch.setattr(job, "monotonic", lambda: monotonic() + 3600))
    result = runner.run("tiny", root=root, timeout=3600, progress=late)
    assert result.exit_code == 1
    assert result.message.startswith("stopped after 60:00 in cell 5 of 5: the time limit; --timeout SECONDS sets another")
    only_failed(root)
    assert living(root) == []


def test_f16_an_error_of_the_data_has_its_own_exit_code(tmp_path: Path) -> None:
    raising = "class DataError(Exception): pass\nraise DataError('data set mnist not found')"
    root = tiny_study.write(tmp_path, raising, "never = 1")
    result = runner.run("tiny", root=root, progress=None)
    assert result.exit_code == 4
    assert result.message.startswith("cell 4 raised DataError: data set mnist not found (profiles of tiny that need no further")
    text = (only_failed(root) / "error.txt").read_text()
    assert "data set mnist not found" in text


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, None), (signal.SIGTERM, 143)])
def test_f32_a_signal_ends_everything_and_leaves_nothing(tmp_path: Path, number: signal.Signals, code: int | None) -> None:
    root = tiny_study.write(tmp_path, FAMILY, "while True: pass")
    with pytest.raises(KeyboardInterrupt if code is None else SystemExit) as caught:
        runner.run("tiny", root=root, timeout=60, progress=Trigger(4, lambda: signal.raise_signal(number)))
    assert getattr(caught.value, "code", None) == code
    assert living(root) == []
    assert list((root / "runs" / "tiny").iterdir()) == []


def test_f1_kill_9_of_the_runner_leaves_no_process_and_the_next_run_sweeps(tmp_path: Path) -> None:
    root = tiny_study.write(tmp_path, FAMILY, "while True: pass")
    code = "import pathlib, sys; from xai_lib.compendium import runner; runner.run('tiny', root=pathlib.Path(sys.argv[1]))"
    with subprocess.Popen([sys.executable, "-c", code, str(root)], stderr=subprocess.PIPE, text=True) as started:
        assert started.stderr is not None
        assert any("cell 4/5" in line for line in started.stderr)
        family = [psutil.Process(pid) for pid in living(root)]
        started.kill()
    assert len(family) == 3
    assert psutil.wait_procs(family, timeout=20)[1] == []
    (left,) = (root / "runs" / "tiny").iterdir()
    assert left.name.endswith(".partial")
    folders.sweep(left.parent)
    assert not left.exists()


def test_f27_two_runs_at_once_do_not_meet(tmp_path: Path) -> None:
    root = tiny_study.write(tmp_path, RESULTS)
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(runner.run, "tiny", root=root, progress=None) for _ in range(2)]
        first, second = (run.result() for run in runs)
    assert first.exit_code == second.exit_code == 3  # one quarantined item
    assert first.message.endswith("; 1 items quarantined")
    assert first.path != second.path
    assert {path.name for path in (root / "runs" / "tiny").iterdir()} == {first.run_id, second.run_id}
    assert (first.path / "results.csv").read_bytes() == (second.path / "results.csv").read_bytes()
