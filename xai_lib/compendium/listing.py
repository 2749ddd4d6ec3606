"""What the command line shows: studies, registries, data sets, and the verdicts of a run; plain text in columns."""

import importlib
import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xai_lib.compendium.claims import EXPLORATORY, Verdict, judge
from xai_lib.compendium.job import RUN
from xai_lib.compendium.parameters import REGISTRIES
from xai_lib.compendium.results import RESULTS, read_results
from xai_lib.compendium.study import load, names, root
from xai_lib.errors import ConfigError, StoreError, unknown

WIDTH = 110


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows as aligned text, the first one as the heading.

    >>> print(columns([("name", "n"), ("iris", "150")]))
    name  n
    iris  150
    """
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def studies() -> str:
    """Studies with their profiles, minutes, and number of claims."""
    rows = [("study", "title", "profile", "minutes", "verdicts", "needs")]
    for name in names():
        study = load(name)
        for place, (profile, own) in enumerate(study.profiles.items()):
            first = ("", "") if place else (name, study.title)
            rows.append((*first, profile, f"{own.minutes:g}", "yes" if own.verdicts else "no", ", ".join(own.needs)))
    return columns(rows) if len(rows) > 1 else f"no studies in {root() / 'notebooks'}"


def registered(table: str) -> str:
    """Name, label and first line of every entry of a registry."""
    room, entries = REGISTRIES[table]
    importlib.import_module(room)
    return columns([("name", "label", "what"), *((e.name, e.label, e.summary) for e in entries.values())])


def data_sets() -> str:
    """Data sets: where each was found, how many rows, and its licence."""
    from xai_lib import data  # late: opens every set

    rows = [("name", "found", "n", "classes", "licence")]
    for entry in data.listing():
        size = "" if entry.n is None else str(entry.n)
        rows.append((entry.name, entry.found_at or "not found", size, str(entry.classes), entry.licence))
    return columns(rows)


def find_run(text: str) -> Path:
    """A run folder by its path, or the latest finished run of a study.

    Raises:
        ConfigError: neither a run folder nor a study, or a study without a run.
    """
    folder = Path(text)
    if (folder / RUN).is_file():
        return folder
    if text not in names():
        if folder.is_dir():
            raise ConfigError(f"{text}: holds no {RUN}; it is no finished run")
        raise unknown("run folder or study", text, names())
    found = [path.parent for place in ("runs", "book/runs") for path in (root() / place / text).glob(f"*/{RUN}")]
    if not found:
        raise ConfigError(f"study {text!r} has no finished run; make one with: xai run {text}")
    return max(found, key=lambda path: str(read_record(path)["finished"]))


def read_record(folder: Path) -> dict[str, Any]:
    """run.json of a run folder.

    Raises:
        StoreError: it cannot be read, or lacks what every record has.
    """
    try:
        record = json.loads((folder / RUN).read_text(encoding="utf-8"))
        if not {"study", "run_id", "finished", "profile"} <= record.keys():
            raise ValueError("fields are missing")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise StoreError(f"{folder / RUN}: cannot be read: {error}") from None
    return dict(record)


def verdicts(folder: Path) -> str:
    """The verdicts of a run, computed anew from its results by the rules of the study file.

    Raises:
        StoreError: the folder's record or results are damaged.
    """
    record = read_record(folder)
    study = load(str(record["study"]))
    profile = record["profile"]
    judged = judge(study, read_results(folder / RESULTS), profile=profile, exploratory=profile is None)
    head = f"{study.name}, {profile or 'exploratory'}, run {record['run_id']}, {record['finished']}"
    return "\n".join([head, *(_lines(verdict) for verdict in judged)])


def _lines(verdict: Verdict) -> str:
    word = "exploratory - not a verdict" if verdict.verdict == EXPLORATORY else verdict.verdict
    reason = f" ({verdict.reason})" if verdict.reason else ""
    wrapped = textwrap.fill(verdict.detail, WIDTH, initial_indent="    ", subsequent_indent="    ")
    return f"\n{verdict.id}  {word}{reason}\n    {verdict.statement}\n{wrapped}"
