"""Verdicts of a published run computed again: from its results, by the rules of its study file as they are now.

A rule is fixed before the run. Where it turns out not to test what its claim says, it is corrected in the study file, the
verdicts are computed again from the same results, and the record keeps which of them changed; the page says so.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from xai_lib.compendium.claims import judge
from xai_lib.compendium.job import RUN
from xai_lib.compendium.listing import read_record
from xai_lib.compendium.record import commit_of, text_of
from xai_lib.compendium.results import RESULTS, read_results, write
from xai_lib.compendium.study import load, root
from xai_lib.errors import ConfigError

REJUDGED = "judged_again"


def rejudge(folder: Path) -> list[dict[str, Any]]:
    """Write the verdicts of a run's results by today's rules into its run.json.

    Args:
        folder: of a run that counts.

    Returns:
        {"id", "before", "after"} of every claim whose verdict, number or sentence changed; "before" is None for a new claim.
        Where nothing changed the record stays as it is; otherwise it gets an entry in `judged_again`: when, at which commit,
        what.

    Raises:
        ConfigError: an exploratory run. StoreError: damaged record or results.
    """
    record = read_record(folder)
    if record["profile"] is None or record.get("exploratory"):
        raise ConfigError(f"{folder}: an exploratory run has no verdicts")
    study = load(str(record["study"]))
    found = [one.record() for one in judge(study, read_results(folder / RESULTS), profile=record["profile"], exploratory=False)]
    known: Mapping[str, Any] = {str(one["id"]): one for one in record["verdicts"]}
    changed = [
        {"id": one["id"], "before": known.get(one["id"], {}).get("verdict"), "after": one["verdict"]}
        for one in found
        if one != known.get(one["id"])
    ]
    if changed or len(found) != len(known):
        entry = {"when": datetime.now(UTC).isoformat(timespec="seconds"), **commit_of(root()), "changed": changed}
        record |= {"verdicts": found, REJUDGED: [*record.get(REJUDGED, []), entry]}
        write(folder / RUN, text_of(record))
    return changed
