"""One run in its partial folder: execute, verify, record, settle; or keep what is left and why."""

import contextlib
import datetime
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from xai_lib import errors
from xai_lib.compendium import folders, processes, record, verify
from xai_lib.compendium.notebooks import nbformat
from xai_lib.compendium.progress import WORK_FILE, Progress, clock
from xai_lib.compendium.results import PROVENANCE, RESULTS, read_results, write
from xai_lib.compendium.study import Resolved, Study
from xai_lib.errors import DataError, EngineError, ModelError, StoreError, XaiError

NOTEBOOK, RUN = "notebook.ipynb", "run.json"
QUARANTINED = 3
FOLDERS = ("XAI_DATA", "XAI_WEIGHTS")


@dataclass(frozen=True)
class RunResult:
    """What became of a run.

    path       the finished run folder, or the `.failed` one
    exit_code  0 done, 3 done with quarantined items, 1 failed, 4 data or weights missing, 5 integrity
    message    one line: where the results are, or what went wrong
    record     run.json, empty when the run failed
    """

    path: Path
    exit_code: int
    run_id: str
    message: str
    record: Mapping[str, Any] = field(default_factory=dict)


class _Failure(EngineError):
    """A run that failed with an exit code of its own."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass
class Job:
    """One run in its partial folder."""

    study: Study
    resolved: Resolved
    place: Path
    run_id: str
    publish: bool
    started: datetime.datetime
    commit: Mapping[str, Any]

    @property
    def work(self) -> Path:
        """Request, events and log of the executor; removed at the end."""
        return self.place / folders.WORK

    @property
    def events(self) -> list[dict[str, Any]]:
        """What the executor has written down so far."""
        return processes.events(self.work / "events.jsonl")

    def execute(self, limit: float, meter: Progress) -> None:
        """Run the notebook to its end, to its failure, or to the limit."""
        request = {
            "notebook": str(self.study.notebook),
            "output": str(self.place / NOTEBOOK),
            "parameters": self.resolved.values,
            "cwd": str(self.study.notebook.parent),
            "events": str(self.work / "events.jsonl"),
            "parent": os.getpid(),
        }
        write(self.work / "request.json", json.dumps(request))
        environment = {
            "XAI_RUN_DIR": str(self.place),
            "XAI_PUBLISH": "1" if self.publish else "",
            "XAI_PROFILE": self.resolved.profile or "",
            "XAI_ROOT": str(self.study.root),
        }
        # relative to the caller's folder, while the kernel starts in the notebook's
        environment |= {name: str(Path(os.environ[name]).absolute()) for name in FOLDERS if os.environ.get(name)}
        process = processes.start(
            self.work / "request.json", scratch=self.work, log=self.work / "log.txt", environment=environment
        )
        try:
            self._watch(process, limit, meter)
        finally:
            with processes.uninterrupted():
                processes.end(process, {event["pid"] for event in self.events if event["event"] == "kernel"}, self.place)
        self._judge_end(process.returncode)

    def _watch(self, process: subprocess.Popen[bytes], limit: float, meter: Progress) -> None:
        end, seen, total = monotonic() + limit, -1, 0
        meter.show(0, 0, changed=True)
        while process.poll() is None:
            cells = [event for event in self.events if event["event"] == "cell"]
            if cells:
                total = cells[-1]["of"]
            meter.show(max(0, len(cells) - 1), total, changed=len(cells) != seen, inside=self._inside())
            seen = len(cells)
            left = end - monotonic()
            if left <= 0:
                place = f"in cell {cells[-1]['index'] + 1} of {total}" if cells else "before the first cell"
                raise EngineError(f"stopped after {clock(limit)} {place}: the time limit; --timeout SECONDS sets another")
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=min(0.2, left))
        if total and process.returncode == 0:
            meter.show(total, total, changed=True)

    def _inside(self) -> str:
        """What the cell at work says of itself (see `progress.Meter`)."""
        try:
            return str(json.loads((self.work / WORK_FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return ""

    def _judge_end(self, status: int) -> None:
        """Raise what the executor wrote down, with the exit code of the error in the notebook."""
        events = self.events
        failed = next((event for event in events if event["event"] == "error"), None)
        last = events[-1] if events else {}
        if failed is not None:
            raise _Failure(f"cell {failed['index'] + 1} raised {failed['name']}: {failed['value']}", self._code(failed["name"]))
        if last.get("event") == "end" and last.get("status") == "finished":
            return
        cells = [event["index"] + 1 for event in events if event["event"] == "cell"]
        place = f"in cell {cells[-1]}" if cells else "before the first cell"
        if last.get("name") == "DeadKernelError":
            raise EngineError(f"the kernel died {place}: killed, crashed, or out of memory")
        why = f"{last['name']}: {last['value']}" if "name" in last else f"status {status}"
        raise EngineError(f"the executor ended {place}: {why}")

    def _code(self, name: str) -> int:
        """Exit code for an error raised inside the notebook: its own for data, weights and integrity, otherwise 1."""
        kind = getattr(errors, name, None)
        known = isinstance(kind, type) and issubclass(kind, DataError | ModelError | StoreError)
        return int(kind.exit_code) if known and kind is not None else 1

    def finish(self, target: Path) -> RunResult:
        """Verify, write run.json last, rename into place."""
        for name in (RESULTS, PROVENANCE):
            if not (self.place / name).is_file():
                raise EngineError(f"the notebook wrote no {name}: its last cell must call study.save_results(...)")
        table = read_results(self.place / RESULTS)
        notebook = nbformat.read(self.place / NOTEBOOK, as_version=4)
        source = nbformat.read(self.study.notebook, as_version=4)
        wrong = verify.problems(notebook, source, self.events, table, self.study, self.resolved)
        if wrong:
            raise EngineError("the run does not count: " + "; ".join(wrong))
        write(self.place / NOTEBOOK, nbformat.writes(self._scrubbed(notebook, target)))
        provenance = json.loads((self.place / PROVENANCE).read_text(encoding="utf-8"))
        finished = datetime.datetime.now(datetime.UTC)
        content = record.compose(
            self.study,
            self.resolved,
            run={
                "run_id": self.run_id,
                "published": self.publish,
                "started": self.started.isoformat(timespec="seconds"),
                "finished": finished.isoformat(timespec="seconds"),
                "seconds": round((finished - self.started).total_seconds(), 3),
                **self.commit,
            },
            provenance=provenance,
            table=table,
            notebook=notebook,
            files={"results": self.place / RESULTS, "notebook": self.place / NOTEBOOK},
        )
        if provenance["results_sha256"] != content["results_sha256"]:
            raise StoreError(f"{RESULTS} changed after save_results wrote it; results are written once, by the last cell")
        (self.place / PROVENANCE).unlink()
        write(self.place / RUN, record.text_of(content))
        folders.settle(self.place, target, replace=self.publish)
        left_out = provenance["extra"].get("quarantined") or []
        words = f"; {len(left_out)} items quarantined" if left_out else ""
        return RunResult(
            target, QUARANTINED if left_out else 0, self.run_id, f"{_shown(target, self.study.root)}{words}", content
        )

    def _scrubbed(self, notebook: nbformat.NotebookNode, target: Path) -> nbformat.NotebookNode:
        names = {
            self.place: _shown(target, self.study.root),
            self.study.root: ".",
            Path(sys.prefix): "<python>",
            Path.home(): "~",
        }
        return verify.scrub(notebook, names)

    def fail(self, error: XaiError, target: Path) -> RunResult:
        """Keep the notebook as far as it came, and why it ended."""
        message = str(error)
        if error.exit_code == DataError.exit_code:
            message += without_data(self.study)
        log = self.work / "log.txt"
        tail = log.read_text(encoding="utf-8", errors="replace")[-4000:] if log.is_file() else ""
        write(self.place / "error.txt", f"{type(error).__name__}: {message}\n\n{tail}")
        folders.settle(self.place, target, replace=False)
        return RunResult(target, error.exit_code, self.run_id, f"{message}; see {_shown(target, self.study.root)}")


def without_data(study: Study) -> str:
    """The profiles that work without further data, as the end of a message."""
    packaged = [name for name, own in study.profiles.items() if not own.needs]
    return f" (profiles of {study.name} that need no further data: {', '.join(packaged)})" if packaged else ""


def _shown(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
