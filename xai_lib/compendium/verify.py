"""What a run must show before it counts: the executed notebook is complete, silent on stderr, and its results cover the claims.

Papermill's own statuses are not enough: after a dead kernel or a timeout every cell says "completed".
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from xai_lib.compendium import rules
from xai_lib.compendium.notebooks import NotebookNode
from xai_lib.compendium.study import Resolved, Study

ALLOWED_STDERR: tuple[re.Pattern[str], ...] = (re.compile(r"\s*"),)
"""Texts on stderr that are no sign of trouble; each must match the whole text of an output."""


def problems(
    executed: NotebookNode,
    source: NotebookNode,
    events: Sequence[Mapping[str, Any]],
    table: pd.DataFrame,
    study: Study,
    resolved: Resolved,
) -> list[str]:
    """Everything that is wrong with a run; an empty list when it counts.

    Args:
        executed: the notebook as Papermill left it.
        source: the notebook as it stands in the repository.
        events: what the executor wrote down.
        table: results.csv.
        study, resolved: what was asked.
    """
    return [
        *_unfinished(events),
        *_cells(executed, source),
        *(_uncovered(study, table) if resolved.profile and study.profiles[resolved.profile].verdicts else ()),
    ]


def _unfinished(events: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not events or events[-1].get("event") != "end" or events[-1].get("status") != "finished":
        yield "the executor did not record an end"


def _cells(executed: NotebookNode, source: NotebookNode) -> Iterator[str]:
    code = code_cells(executed)
    expected = len(code_cells(source)) + 1
    if len(code) != expected:
        yield f"{len(code)} code cells were executed, expected {expected}: those of the source and the injected parameters"
    for index, cell in code:
        if not cell.get("execution_count"):
            yield f"cell {index} was not executed"
        status = cell.metadata.get("papermill", {}).get("status")
        if status != "completed":
            yield f"cell {index} has status {status!r}"
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                yield f"cell {index} raised {output.get('ename')}"
            if output.output_type == "stream" and output.name == "stderr" and not _allowed(output.text):
                yield f"cell {index} wrote to stderr: {' '.join(output.text.split())[:200]}"


def _allowed(text: str) -> bool:
    return any(pattern.fullmatch(text) for pattern in ALLOWED_STDERR)


def _uncovered(study: Study, table: pd.DataFrame) -> Iterator[str]:
    """Conditions that a claim's rule names and the results lack."""
    for claim in study.claims:
        for rule in rules.parts(claim.rule):
            for method in dict.fromkeys((rule.method, getattr(rule, "versus", rule.method))):
                rows = table[(table["metric"] == rule.metric) & (table["method"] == method)]
                rows = rows if rule.model is None else rows[rows["model"] == rule.model]
                rows = rows if rule.dataset is None else rows[rows["dataset"] == rule.dataset]
                if rows.empty:
                    yield f"claim {claim.id}: results.csv has no row of {rule.metric} for {method!r}"


def code_cells(notebook: NotebookNode) -> list[tuple[int, NotebookNode]]:
    """Index and cell of every code cell with content (the others are never executed)."""
    return [(k, cell) for k, cell in enumerate(notebook.cells) if cell.cell_type == "code" and cell.source.strip()]


def scrub(notebook: NotebookNode, names: Mapping[Path, str]) -> NotebookNode:
    """The notebook without paths of this machine or names of its user, and for the kernel `python3` that everybody has.

    Args:
        notebook: changed in place.
        names: what stands for each folder, for instance {root: ".", home: "~"}; longer folders are replaced first.
    """
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata.get("papermill", {}).update({"input_path": "", "output_path": "", "environment_variables": {}})
    ordered = sorted(((str(path), name) for path, name in names.items() if len(path.parts) > 1), key=lambda p: -len(p[0]))

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            for path, name in ordered:
                value = value.replace(path, name)
            return re.sub(r"/(?:home|Users)/[^/\s'\"\\]+", "~", value)
        if isinstance(value, list):
            return [clean(item) for item in value]
        if isinstance(value, dict):
            for key, item in value.items():
                if not key.startswith(("image/", "audio/", "video/")):
                    value[key] = clean(item)
        return value

    return clean(notebook)
