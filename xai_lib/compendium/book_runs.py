"""Runs as the book sees them: found in the repository, and refused when they cannot be shown honestly."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from xai_lib.compendium import study
from xai_lib.compendium.book_words import VERDICTS
from xai_lib.compendium.notebooks import nbformat
from xai_lib.errors import StoreError

REQUIRED = (
    "run_id", "study", "profile", "parameters", "finished", "seconds", "versions", "verdicts", "data", "models", "command",
)  # fmt: skip
PREFERRED = ("paper", "full", "book")
"""Profiles in the order in which a published run becomes the chapter; any other follows, by name."""


@dataclass(frozen=True)
class Run:
    """One executed run: its folder, its record (run.json) and whether it is in the published ledger."""

    folder: Path
    record: Mapping[str, Any]
    published: bool

    @property
    def study(self) -> str:
        """Name of the study."""
        return str(self.record["study"])

    @property
    def profile(self) -> str:
        """Name of the profile, or "exploratory" for a run with parameters of its own."""
        return str(self.record.get("profile") or "exploratory")

    @property
    def exploratory(self) -> bool:
        """Whether the parameters are not a registered set, so that there is no verdict."""
        return bool(self.record.get("exploratory", False))

    @property
    def verdicts(self) -> list[dict[str, Any]]:
        """The verdict records, in the order of the study file."""
        return list(self.record["verdicts"])

    @property
    def page(self) -> str:
        """Where the page lies in the stage, without suffix."""
        return f"notebooks/{self.study}" if self.published else f"runs/{self.study}/{self.profile}"

    @property
    def prefix(self) -> str:
        """What every label of the page begins with."""
        return self.study if self.published else f"local-{self.study}-{self.profile}"

    def notebook(self) -> nbformat.NotebookNode:
        """The executed notebook.

        Raises:
            StoreError: the file is missing or is no notebook.
        """
        path = self.folder / "notebook.ipynb"
        try:
            return nbformat.read(path, as_version=4)
        except (OSError, ValueError, nbformat.ValidationError) as error:
            raise StoreError(f"run {self.folder}: notebook.ipynb cannot be read ({error}); run the study again") from error

    def results(self) -> pd.DataFrame:
        """The results table (empty when the run measured nothing)."""
        path = self.folder / "results.csv"
        if not path.is_file():
            return pd.DataFrame(columns=["dataset", "model", "method", "metric", "sample", "value"])
        return pd.read_csv(path, keep_default_na=False, na_values={"value": ["", "nan", "NaN"]}, dtype={"sample": str})


def read_run(folder: Path, *, published: bool) -> Run:
    """The run in a folder.

    Raises:
        StoreError: run.json is missing, is not JSON, or lacks a field.
    """
    path = folder / "run.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"run {folder}: run.json cannot be read ({error}); remove the folder or run again") from error
    missing = [key for key in REQUIRED if key not in record] if isinstance(record, dict) else list(REQUIRED)
    if missing:
        raise StoreError(f"run {folder}: run.json lacks {', '.join(missing)}; run the study again")
    return Run(folder, record, published)


def read_study(root: Path, name: str) -> dict[str, Any]:
    """The checked study file notebooks/<name>.yml as a mapping (errors as for `study.load`)."""
    return study.load(name, place=root).model_dump(mode="python")


def decides(studied: Mapping[str, Any], run: Run) -> bool:
    """Whether the run's profile is large enough to judge claims."""
    profile = (studied.get("profiles") or {}).get(run.profile) or {}
    return not run.exploratory and bool(run.verdicts) and bool(profile.get("verdicts"))


def to_json(record: Mapping[str, Any]) -> str:
    """run.json as it is written for readers."""
    return json.dumps(record, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def published_runs(root: Path, name: str) -> list[Run]:
    """The published runs of a study, the one that becomes the chapter first; smoke runs are never published."""
    folders = sorted(path.parent for path in (root / "book" / "runs" / name).glob("[!.]*/run.json"))
    runs = [read_run(folder, published=True) for folder in folders]
    for run in runs:
        if run.profile == "smoke":
            raise StoreError(f"run {run.folder}: a smoke run cannot be published; remove it from the ledger")
        if run.study != name or run.folder.name != run.profile:
            raise StoreError(f"run {run.folder}: run.json names {run.study}/{run.profile}; a folder must hold its own run")
    order = {name: place for place, name in enumerate(PREFERRED)}
    return sorted(runs, key=lambda run: (order.get(run.profile, len(order)), run.profile))


def local_runs(root: Path, names: list[str]) -> tuple[list[Run], list[str]]:
    """The newest local run per study and profile, and what could not be read (one line each)."""
    newest: dict[tuple[str, str], Run] = {}
    unread: list[str] = []
    for name in names:
        for path in sorted((root / "runs" / name).glob("[!.]*/run.json")):
            if path.parent.suffix == ".failed":
                continue
            try:
                run = read_run(path.parent, published=False)
            except StoreError as error:
                unread.append(str(error))
                continue
            key = (run.study, run.profile)
            if key not in newest or str(run.record["finished"]) > str(newest[key].record["finished"]):
                newest[key] = run
    return [newest[key] for key in sorted(newest)], unread


def check_run(run: Run, notebook: nbformat.NotebookNode, claim_ids: list[str]) -> list[str]:
    """Why this run cannot be shown: an empty list when it can. Nothing is repaired here."""
    problems = [*_cell_problems(notebook), *_verdict_problems(run, claim_ids), *_file_problems(run)]
    if str(run.record.get("status", "done")) in ("failed", "running", "interrupted", "timeout"):
        problems.append(f"run.json says status {run.record['status']!r}")
    return problems


def _cell_problems(notebook: nbformat.NotebookNode) -> Iterator[str]:
    titles = 0
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            titles += len(re.findall(r"^# \S", re.sub(r"^(```|~~~).*?^\1", "", cell.source, flags=re.M | re.S), flags=re.M))
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        if cell.get("execution_count") is None:
            yield f"cell {index} was not executed"
        state = cell.metadata.get("papermill", {}).get("status", "completed")
        if state != "completed":
            yield f"cell {index} has status {state!r}"
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                yield f"cell {index} ended in {output.get('ename', 'an error')}"
    if titles != 1 or not notebook.cells or not notebook.cells[0].source.lstrip().startswith("# "):
        yield f"the notebook has {titles} top headings; the first cell must hold its only '# title'"


def _verdict_problems(run: Run, claim_ids: list[str]) -> Iterator[str]:
    found = [str(verdict.get("id")) for verdict in run.verdicts]
    if run.exploratory and found:
        yield "an exploratory run carries verdicts"
    if found and found != claim_ids:
        yield f"verdicts are for {', '.join(found)}, the study file has claims {', '.join(claim_ids) or '(none)'}"
    if run.published and not found and claim_ids:
        yield "a published run without verdicts"
    for verdict in run.verdicts:
        if verdict.get("verdict") not in VERDICTS:
            yield f"claim {verdict.get('id')}: {verdict.get('verdict')!r} is no verdict; known: {', '.join(VERDICTS)}"


def _file_problems(run: Run) -> Iterator[str]:
    for key, name in (("results_sha256", "results.csv"), ("notebook_sha256", "notebook.ipynb")):
        expected, path = run.record.get(key), run.folder / name
        if expected and path.is_file():
            found = hashlib.sha256(path.read_bytes()).hexdigest()
            if found != expected:
                yield f"{name} has sha256 {found[:12]}…, run.json says {str(expected)[:12]}…"
        elif expected:
            yield f"{name} is missing"
