"""Runs a study: parameters checked, notebook executed in its own processes, result verified, folder renamed into place.

runs/<study>/<run_id>/ holds notebook.ipynb, results.csv and run.json, all or nothing. While it runs the folder is called
`.<run_id>.partial`; after a failure `<run_id>.failed`, with the notebook as far as it came and error.txt.
"""

import datetime
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from xai_lib.compendium import folders, processes, record
from xai_lib.compendium.job import Job, RunResult, without_data
from xai_lib.compendium.progress import Progress
from xai_lib.compendium.study import Resolved, Study, load
from xai_lib.errors import ConfigError, DataError, XaiError

__all__ = ["RunResult", "prepare", "run"]

LIMIT_FACTOR = 3.0
LEAST_LIMIT = 300.0


def prepare(
    study: str | Path | Study,
    *,
    profile: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    publish: bool = False,
    root: Path | None = None,
) -> tuple[Study, Resolved]:
    """Everything that can be refused before a kernel starts.

    Raises:
        ConfigError: unknown study, profile or parameter; a value that does not fit; a notebook that disagrees with its study
            file; or a publication of a run that the book does not show.
    """
    loaded = study if isinstance(study, Study) else load(study, place=root)
    resolved = loaded.resolve(profile, overrides)
    loaded.check_notebook()
    if publish and resolved.profile not in loaded.publishable:
        known = ", ".join(loaded.publishable) or "none"
        raise ConfigError(
            f"--publish: {resolved.profile or 'an exploratory run'} cannot be published; profiles that can be: {known}"
        )
    return loaded, resolved


def require_data(study: Study, resolved: Resolved) -> None:
    """Refuse a registered profile whose data sets are not on this machine (an exploratory run may have replaced them).

    Raises:
        DataError: says where the set was looked for, how to get it, and which profiles need none.
    """
    needs = study.profiles[resolved.profile].needs if resolved.profile else ()
    if not needs:
        return
    from xai_lib import data  # late: runs on packaged data start without it

    for name in needs:
        if data.found_at(name) is None:
            try:
                data.load(name, n=1)
            except DataError as error:
                raise DataError(f"{error}{without_data(study)}") from None


def run(
    study: str | Path | Study,
    *,
    profile: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    publish: bool = False,
    timeout: float | None = None,
    root: Path | None = None,
    progress: TextIO | None = sys.stderr,
) -> RunResult:
    """Run a study and keep its results.

    Args:
        study: name, path of the study file, or a loaded study.
        profile: registered set of parameters; "smoke" when None.
        overrides: single parameters, typed or as text; what is no registered set is exploratory and gives no verdict.
        publish: replace book/runs/<study>/<profile>/ instead of adding to runs/<study>/.
        timeout: wall-clock limit in seconds; three times the profile's minutes (at least five minutes) when None.
        root: the repository; `study.root()` when None.
        progress: stream for progress, or None.

    Returns:
        RunResult; a notebook that fails is a result with an exit code, not an exception.

    Raises:
        ConfigError: the request is refused; nothing was started.
        DataError: a data set that the profile needs is missing; nothing was started.
        StoreError: the run folder cannot be written.
        KeyboardInterrupt, SystemExit: Ctrl-C, SIGTERM; all processes are ended and the partial folder is removed.
    """
    loaded, resolved = prepare(study, profile=profile, overrides=overrides, publish=publish, root=root)
    require_data(loaded, resolved)
    minutes = loaded.profiles[resolved.base].minutes
    limit = timeout if timeout is not None else max(LEAST_LIMIT, 60 * minutes * LIMIT_FACTOR)
    if not 0 < limit < float("inf"):
        raise ConfigError(f"timeout {timeout!r}: expected seconds above 0")
    now = datetime.datetime.now(datetime.UTC)
    run_id = f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
    local = loaded.root / "runs" / loaded.name
    published = loaded.root / "book" / "runs" / loaded.name
    meter = Progress(progress, f"{loaded.name} {resolved.profile or 'exploratory'}", minutes)
    with processes.signals_raise(), folders.partial(published if publish else local, run_id) as place:
        job = Job(loaded, resolved, place, run_id, publish, now, record.commit_of(loaded.root))
        try:
            job.execute(limit, meter)
            result = job.finish(published / str(resolved.profile) if publish else local / run_id)
        except XaiError as error:
            result = job.fail(error, local / f"{run_id}.failed")
        meter.close()
        return result
