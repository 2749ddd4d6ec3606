"""Every method and every metric on its own: definition, cost, axioms, nets it takes, chapters that use it, controls."""

import inspect
import re
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from xai_lib.compendium import book_measured as measured
from xai_lib.compendium import book_uses
from xai_lib.compendium.book_controls import HEAD, row
from xai_lib.compendium.book_reference import access, cost, family, inputs, target
from xai_lib.compendium.book_registry import defaults, entries, literal, source
from xai_lib.compendium.book_runs import Run
from xai_lib.compendium.book_words import code, table
from xai_lib.registry import Entry

HEADING = re.compile(r"^(Args|Returns|Raises|>>>)", flags=re.M)
"""What ends the definition in a docstring."""
Studies = Mapping[str, Mapping[str, Any]]


def methods(root: Path, keys: Container[str], studies: Studies) -> str:
    """A section for each method.

    Raises:
        ConfigError: a citation that the bibliography lacks.
    """

    def facts(entry: Entry) -> dict[str, str]:
        return {
            "Family": family(entry),
            "Asks the model for": access(entry.traits),
            "Inputs": inputs(entry.traits),
            "Rows": cost(entry),
            "Axioms": "; ".join(f"{which.lower()}: {measured.axiom(entry.name, which)}" for which in measured.AXIOMS),
            "Nets": _nets(measured.families().get(entry.name, {})),
        }

    return _sections("methods", facts, root, keys, studies)


def metrics(root: Path, keys: Container[str], studies: Studies, chapters: Mapping[str, Run]) -> str:
    """A section for each metric, with the controls that its published scores are held against.

    Raises:
        ConfigError: a citation that the bibliography lacks, or a study file that names what its run has not measured.
    """

    def facts(entry: Entry) -> dict[str, str]:
        given = ", ".join(map(code, entry.words))
        return {"Family": family(entry), "Is given": given, "Rows": cost(entry), **_controls(entry, studies, chapters)}

    return _sections("metrics", facts, root, keys, studies)


def _sections(
    kind: str, facts: Callable[[Entry], Mapping[str, str]], root: Path, keys: Container[str], studies: Studies
) -> str:
    words = {name: book_uses.named(root, name, study) for name, study in studies.items()}
    parts = []
    for entry in entries(kind):
        used = [
            f"{{doc}}`{study['title']} </notebooks/{name}>`"
            for name, study in studies.items()
            if book_uses.uses(entry, words[name])
        ]
        lines = {
            "Name": code(entry.name),
            "Source": source(kind, entry, keys),
            **facts(entry),
            "Parameters": ", ".join(map(code, defaults(entry))) or "none",
            "Named in": "; ".join(used) or "no chapter",
        }
        parts.append(
            f"({target(entry)})=\n## {literal(entry.label)}\n\n{definition(_opening(entry))}\n\n"
            f"{table(['What', 'Value'], list(lines.items()))}\n\n{_whole(entry)}"
        )
    return "\n\n".join(parts)


def _opening(entry: Entry) -> str:
    """The definition: the docstring up to its first heading or example."""
    text = inspect.getdoc(entry.function) or ""
    return text[: _cut(text)].strip()


def _cut(text: str) -> int:
    found = HEADING.search(text)
    return found.start() if found else len(text)


def definition(text: str) -> str:
    """Paragraphs as prose that shows every sign; lines set off in the docstring stay as they are.

    >>> print(definition("A_i is\\nthis.\\n\\n    a   1"))
    A\\_i is this.
    <BLANKLINE>
    ```text
        a   1
    ```
    """
    parts = []
    for part in text.split("\n\n"):
        lines = part.splitlines()
        set_off = any(line.startswith("  ") for line in lines)
        parts.append(_fenced(part) if set_off else literal(" ".join(lines)))
    return "\n\n".join(parts)


def _fenced(text: str) -> str:
    return f"```text\n{text}\n```"


def _whole(entry: Entry) -> str:
    text = inspect.getdoc(entry.function) or ""
    rest = text[_cut(text) :].strip()
    return f"::::{{dropdown}} Arguments, errors and what differs from the source\n{_fenced(rest)}\n::::" if rest else ""


def _nets(found: Mapping[str, str]) -> str:
    """Families by what becomes of them, best first.

    >>> _nets({"ReLU, residual": "refused", "SiLU": "accepted"})
    'accepted: “SiLU”; refused: “ReLU, residual”'
    >>> _nets({"ReLU, residual": "accepted", "SiLU": "accepted"})
    'accepted: all 2 families'
    """
    if len(set(found.values())) == 1:
        return f"{next(iter(found.values()))}: all {len(found)} families"
    order = ("accepted", "repaired", "refused", "failed")
    by = {verdict: [f"“{family}”" for family, one in found.items() if one == verdict] for verdict in order}
    return "; ".join(f"{verdict}: {', '.join(names)}" for verdict, names in by.items() if names) or "–"


def _controls(entry: Entry, studies: Studies, chapters: Mapping[str, Run]) -> dict[str, str]:
    """For each published score by this metric, how the best control does against the best method."""
    found: list[str] = []
    for name, study in studies.items():
        for listed in study.get("controls") or []:
            if name in chapters and _same(listed, entry):
                found.append(_sentence(row(chapters[name].results(), listed, name)))
    return {"Won by controls": "<br>".join(found)} if found else {}


def _same(listed: Mapping[str, Any], entry: Entry) -> bool:
    """Whether a score of a run is this metric: named so, or by its name or label, also with a setting behind a comma."""
    if listed.get("of"):
        return bool(listed["of"] == entry.name)
    plain = str(listed["metric"]).partition(",")[0].strip().lower()
    return plain in (entry.name, entry.name.replace("_", " "), entry.label.lower())


def _sentence(cells: Sequence[Any]) -> str:
    title, control, method, difference, n, above = cells
    assert len(cells) == len(HEAD)
    return (
        f"{title}: best control {control}, best method {method}; method − control {difference}, n = {n}; {above} "
        "methods above the control"
    )
