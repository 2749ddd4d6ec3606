"""A sweep at work: one process per run, several side by side, and an end to everything they started."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import TextIO

import psutil
import yaml

from xai_lib.compendium import folders, processes, runner
from xai_lib.compendium.canonical import canonical
from xai_lib.compendium.engine import cores
from xai_lib.compendium.job import QUARANTINED, RUN
from xai_lib.compendium.progress import clock
from xai_lib.compendium.results import write
from xai_lib.compendium.sweep_plan import DONE, SWEEP, Entry, Plan, digests, entries_of
from xai_lib.errors import EngineError, StoreError

MARK = "XAI_SWEEP_DIR"
"""Environment variable by which the processes of a sweep are known, also after the sweep itself was killed."""
RUNNER = (sys.executable, "-P", "-m", "xai_lib.compendium")
GRACE = 10.0
TICK = 0.1


@dataclass
class _Child:
    """The process of one combination, with its request and its output in a folder."""

    place: int
    process: subprocess.Popen[bytes]
    folder: Path
    started: float = field(default_factory=monotonic)


class Sweep:
    """A sweep at work in its folder, which it holds a lock on."""

    def __init__(self, plan: Plan, *, jobs: int, timeout: float | None, progress: TextIO | None) -> None:
        self.plan, self.jobs, self.timeout = plan, jobs, timeout
        self.entries = entries_of(plan)
        self._pending = [place for place, entry in enumerate(self.entries) if entry.exit_code is None]
        self._running: list[_Child] = []
        self._progress, self._start, self._spent = progress, monotonic(), list[float]()

    def work(self) -> None:
        """Run what is missing, `jobs` processes side by side.

        Raises:
            DataError: a data set that a combination needs is missing; nothing was started.
            EngineError: the study's files changed meanwhile.
            KeyboardInterrupt, SystemExit: Ctrl-C, SIGTERM; everything that was started is ended.
        """
        for resolved in {own.profile: own for own in (self.plan.combinations[k].resolved for k in self._pending)}.values():
            runner.require_data(self.plan.study, resolved)
        total, left = len(self.entries), len(self._pending)
        tell(self._progress, f"{total} combinations, {total - left} known, {left} to run, {self.jobs} side by side")
        self._save()
        try:
            end_processes(self.plan.folder)
            shutil.rmtree(self._scratch, ignore_errors=True)
            while self._pending or self._running:
                self._step()
        except BaseException:
            end_processes(self.plan.folder)
            raise
        finally:
            with processes.uninterrupted():
                for child in self._running:
                    child.process.wait()
                shutil.rmtree(self._scratch, ignore_errors=True)

    def _step(self) -> None:
        """Begin what may begin, settle what has ended, or wait a moment."""
        while self._pending and len(self._running) < self.jobs:
            self._running.append(self._begin(self._pending.pop(0)))
        ended = [child for child in self._running if child.process.poll() is not None]
        for child in ended:
            self._running.remove(child)
            self._settle(child)
        if not ended:
            sleep(TICK)

    @property
    def _scratch(self) -> Path:
        return self.plan.folder / folders.WORK

    def _begin(self, place: int) -> _Child:
        folder = self._scratch / str(place)
        named = self.plan.study.path.relative_to(self.plan.study.root).as_posix()
        asked = [*RUNNER, "run", named, "-f", str(folder / "parameters.yml")]
        asked += ["--profile", self.plan.profile] if self.plan.profile else []
        asked += ["--timeout", repr(self.timeout)] if self.timeout is not None else []
        environment = {name: value for name, value in os.environ.items() if name != "XAI_RUN_DIR"}
        environment |= {MARK: str(self.plan.folder), "XAI_ROOT": str(self.plan.study.root)}
        if self.jobs > 1:
            environment["OMP_NUM_THREADS"] = str(max(1, cores() // self.jobs))
        try:
            folder.mkdir(parents=True)
            parameters = yaml.safe_dump(self.entries[place].parameters, sort_keys=False, allow_unicode=True)
            write(folder / "parameters.yml", parameters)
            with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
                process = subprocess.Popen(
                    asked, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment, start_new_session=True
                )
        except OSError as error:
            raise StoreError(f"{folder}: cannot start a run there: {error.strerror}; check space and permissions") from None
        return _Child(place, process, folder)

    def _settle(self, child: _Child) -> None:
        """Write down what became of a combination."""
        if digests(self.plan.study) != self.plan.digests:
            raise EngineError(
                f"{self.plan.study.name}: its notebook or study file changed while the sweep ran, so that its runs no longer"
                " compare; start it again, which makes a new sweep"
            )
        entry = self.entries[child.place]
        status = child.process.returncode
        entry.exit_code = status if status >= 0 else 128 - status
        entry.seconds = round(monotonic() - child.started, 3)
        entry.run, entry.message = None, _last_line(child.folder / "stdout")
        if entry.exit_code in DONE:
            entry.run = self._run_folder(entry)
            if entry.run is None:
                entry.exit_code, entry.message = 1, f"the run named no run folder with these parameters: {entry.message!r}"
        else:
            said = _last_line(child.folder / "stderr").removeprefix("xai: ")
            why = f"ended by {signal.Signals(-status).name}" if status < 0 else said
            entry.message = (why or "it said nothing").replace(str(self.plan.study.root), ".")
        shutil.rmtree(child.folder, ignore_errors=True)
        self._save()
        self._report(entry)

    def _run_folder(self, entry: Entry) -> str | None:
        """Name of the folder that the last line of the run names (`job.finish`), if that is a run of these parameters."""
        found = re.fullmatch(rf"runs/{self.plan.study.name}/([\w.-]+)(; \d+ items quarantined)?", entry.message)
        if found is None:
            return None
        try:
            record = json.loads((self.plan.runs / found[1] / RUN).read_text(encoding="utf-8"))
            return found[1] if canonical(record["parameters"]) == canonical(entry.parameters) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _save(self) -> None:
        content = {
            "study": self.plan.study.name,
            "id": self.plan.id,
            "profile": self.plan.profile,
            **self.plan.digests,
            "combinations": [asdict(entry) for entry in self.entries],
        }
        write(self.plan.folder / SWEEP, json.dumps(content, indent=1) + "\n")

    def _report(self, entry: Entry) -> None:
        self._spent.append(entry.seconds or 0.0)
        total, left = len(self.entries), sum(other.exit_code is None for other in self.entries)
        expected = sum(self._spent) / len(self._spent) * left / max(1, min(self.jobs, left))
        words = {0: "done", QUARANTINED: "done, with quarantined items"}.get(entry.exit_code or 0, "failed")
        tell(
            self._progress,
            f"{total - left}/{total} {entry.combination}: {words} in {clock(self._spent[-1])};"
            f" {clock(monotonic() - self._start)} elapsed, about {clock(expected)} left",
        )


def tell(stream: TextIO | None, text: str) -> None:
    """One line in ASCII; a stream that is closed or None is no error."""
    with contextlib.suppress(AttributeError, ValueError, OSError):
        if stream is not None:
            stream.write(text.encode("ascii", "replace").decode() + "\n")
            stream.flush()


def end_processes(folder: Path) -> None:
    """End all processes of the sweep in `folder`: SIGTERM to its runners, which end their kernels; SIGKILL after 10 s."""
    with processes.uninterrupted():
        for each in _marked(folder, runners=True):
            with contextlib.suppress(psutil.Error):
                each.terminate()
        end = monotonic() + GRACE
        while _marked(folder, runners=True) and monotonic() < end:
            sleep(TICK)
        for _ in range(50):
            left = _marked(folder)
            if not left:
                return
            for each in left:
                with contextlib.suppress(psutil.Error):
                    each.kill()
            sleep(TICK)


def _marked(folder: Path, *, runners: bool = False) -> list[psutil.Process]:
    """The living processes of a sweep, or only those that belong to no run folder, which are its runners."""
    found = []
    for each in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            own = each.environ() if each.pid != os.getpid() else {}
            if own.get(MARK) == str(folder) and not (runners and "XAI_RUN_DIR" in own):
                found += [each] if each.status() != psutil.STATUS_ZOMBIE else []
    return found


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
