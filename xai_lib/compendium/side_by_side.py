"""The same profile of several studies, some of them side by side: what `xai book --fresh` does before it builds."""

import os
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from threading import Event
from time import monotonic

from xai_lib.compendium.engine import cores
from xai_lib.compendium.sweep_work import RUNNER
from xai_lib.errors import ConfigError

Say = Callable[[str], None]


def run_studies(names: Sequence[str], *, profile: str, jobs: int, say: Say, complain: Say) -> int:
    """Run a profile of each study in a process of its own, `jobs` at a time, each with its share of the cores.

    What a run prints is passed on when it ends, the progress of failed ones included. After a failure no other run starts;
    those that have started end.

    Args:
        names: studies.
        profile: one that all of them have.
        jobs: how many at a time; 0: as many as there are cores.
        say, complain: where lines for stdout and stderr go.

    Returns:
        The exit code of the first run that failed, else 0.

    Raises:
        ConfigError: jobs below 0.
    """
    if jobs < 0:
        raise ConfigError(f"jobs={jobs}: expected at least 0, which means one for each core")
    jobs = min(jobs or cores(), max(1, len(names)))
    threads = {"OMP_NUM_THREADS": str(max(1, cores() // jobs))} if jobs > 1 else {}
    environment, failed, code = {**os.environ, **threads}, Event(), 0

    def run(name: str) -> subprocess.CompletedProcess[str] | None:
        if failed.is_set():
            return None
        began = monotonic()
        asked = [*RUNNER, "run", name, "--profile", profile]
        done = subprocess.run(asked, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        done.stdout = f"{done.stdout.strip()}  ({monotonic() - began:.0f} s)"
        return done

    with ThreadPoolExecutor(jobs) as pool:
        running = [pool.submit(run, name) for name in names]
        try:
            for future in as_completed(running):
                done = future.result()
                if done is None:
                    continue
                if done.returncode == 0:
                    say(done.stdout)
                else:
                    failed.set()
                    complain(done.stderr.strip())
                    code = code or (done.returncode if done.returncode > 0 else 128 - done.returncode)
        finally:
            failed.set()
    return code
