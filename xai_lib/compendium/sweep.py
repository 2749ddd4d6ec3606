"""`xai sweep`: a study over a grid of parameters, every combination a run of its own in a process of its own.

runs/<study>/sweeps/<id>/sweep.json lists what became of each combination. The id follows from the notebook, the study file and
the combinations, so that the same request finds its folder again and goes on where it stopped.
"""

import argparse
import contextlib
import fcntl
import math
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from xai_lib.compendium import listing, processes, study
from xai_lib.compendium.job import QUARANTINED
from xai_lib.compendium.sweep_plan import DONE, SWEEP, Entry, Plan, entries_of, finished_runs, plan, read
from xai_lib.compendium.sweep_work import Sweep, tell
from xai_lib.errors import ConfigError, EngineError, StoreError

__all__ = ["SWEEP", "Busy", "Entry", "Plan", "add_arguments", "command", "exit_code", "finished_runs", "plan", "read", "run"]


LOCK = "lock"


class Busy(EngineError):
    """Another process is at work on the same thing; try again later."""

    exit_code = 75


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the sweep's folder.

    Raises:
        Busy: another process holds it.
        StoreError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("a")
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written: {error.strerror}; check space and permissions") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"sweep {folder.name} is at work in another process; wait for it, or stop it first") from None
        yield


def run(plan: Plan, *, jobs: int = 1, timeout: float | None = None, progress: TextIO | None = sys.stderr) -> list[Entry]:
    """Run the combinations that are not known yet; a failed one does not stop the others.

    Args:
        plan: from `plan`.
        jobs: processes side by side; with more than one, each gets its share of the cores.
        timeout: wall-clock limit of each run in seconds; that of `xai run` when None.
        progress: stream for one line per finished combination, or None.

    Returns:
        What became of each combination, in the order of the plan.

    Raises:
        ConfigError: jobs or timeout out of range.
        Busy: the same sweep is at work in another process.
        DataError, StoreError, EngineError: missing data, a folder that cannot be written, a study that changed meanwhile.
        KeyboardInterrupt, SystemExit: Ctrl-C, SIGTERM; all processes are ended, what was finished is kept.
    """
    if jobs < 1:
        raise ConfigError(f"jobs {jobs}: expected at least 1")
    if timeout is not None and not 0 < timeout < math.inf:
        raise ConfigError(f"timeout {timeout!r}: expected seconds above 0")
    with processes.signals_raise(), _locked(plan.folder):
        sweep = Sweep(plan, jobs=jobs, timeout=timeout, progress=progress)
        sweep.work()
    return sweep.entries


def exit_code(entries: Sequence[Entry]) -> int:
    """0 when all are done, 3 when some of them with quarantined items, 1 when one failed."""
    codes = {entry.exit_code for entry in entries}
    if not codes <= set(DONE):
        return 1
    return QUARANTINED if QUARANTINED in codes else 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `xai sweep`."""
    parser.add_argument("study", metavar="STUDY", help="name of a study (see `xai list`)")
    parser.add_argument("--profile", help="registered set of parameters to start from; smoke when not given")
    parser.add_argument(
        "-p",
        "--parameter",
        action="append",
        default=[],
        metavar="NAME=VALUE,VALUE",
        help="the values of one parameter, separated by commas; for a parameter that is a list itself, the lists are separated"
        ' by semicolons: -p "counts=1,2,4;1,2,8". The first -p varies slowest. Separators inside of {} or [] separate nothing',
    )
    parser.add_argument("-f", "--file", type=Path, metavar="FILE", help="YAML file of parameters; -p comes after it")
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="runs side by side (default 1); each gets cores/N threads"
    )
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="wall-clock limit of each run, as for `xai run`")
    parser.add_argument("--dry-run", action="store_true", help="check everything, print the combinations, start nothing")


def command(asked: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Carry out `xai sweep`.

    Args:
        asked: the arguments of `add_arguments`.
        say: prints a line to stdout.

    Returns:
        The exit code: 0, 3 (quarantined items), 1 (a combination failed).

    Raises:
        ConfigError, DataError, StoreError, EngineError, KeyboardInterrupt, SystemExit: as `plan` and `run`.
    """
    fixed = study.read_yaml(asked.file) if asked.file else {}
    made = plan(asked.study, asked.parameter, profile=asked.profile, fixed=fixed)
    shown = made.folder.relative_to(made.study.root).as_posix()
    if asked.dry_run:
        states = [(entry.combination, "to run" if entry.exit_code is None else "known") for entry in entries_of(made)]
        say(f"{len(states)} combinations, {shown}\n{listing.columns([('combination', 'state'), *states])}")
        return 0
    entries = run(made, jobs=asked.jobs, timeout=asked.timeout, progress=sys.stderr)
    for entry in entries:
        if entry.exit_code not in DONE:
            tell(sys.stderr, f"xai: {entry.combination}: exit code {entry.exit_code}: {entry.message}")
    say(shown)
    if len(finished_runs(made.folder)) > 1:
        say(f"xai compare {shlex.quote(shown)}")
    return exit_code(entries)
