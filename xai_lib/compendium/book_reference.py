"""Reference pages: every parameter of every study, every published run in figures, every method at a glance."""

from collections.abc import Mapping, Sequence
from typing import Any

from xai_lib.compendium.book_cells import Study, yaml_value
from xai_lib.compendium.book_registry import entries, literal
from xai_lib.compendium.book_runs import Run
from xai_lib.compendium.book_words import code, duration, table
from xai_lib.compendium.parameters import Parameter

WHERE = {True: "✔", False: "–"}


def parameters(studies: Mapping[str, Study]) -> str:
    """A table for each study: name, what is accepted, the value under each profile, and what it means."""
    parts = []
    for name, study in studies.items():
        profiles = list(study["profiles"])
        rows = []
        for key, known in study["parameters"].items():
            declared = Parameter.model_validate(known)
            values = [(study["profiles"][p].get("values") or {}).get(key, declared.default) for p in profiles]
            rows.append([code(key), literal(declared.expected), *(code(yaml_value(v)) for v in values), literal(declared.help)])
        head = ["Parameter", "Accepted", *profiles, "Meaning"]
        parts.append(f"## {{doc}}`{study['title']} </notebooks/{name}>`\n\n```bash\nxai run {name}\n```\n\n{table(head, rows)}")
    return "\n\n".join(parts)


def execution(studies: Mapping[str, Study], ledger: Sequence[Run]) -> str:
    """One row per published run: whether every cell ran, how long it took, and how long what it read from the store took."""
    rows = []
    for run in ledger:
        record = run.record
        cells, shards = record.get("cells") or [], record.get("shards") or {}
        slowest = max(cells, key=lambda one: one["seconds"], default=None)
        rows.append(
            [
                f"{{doc}}`{studies[run.study]['title']} </notebooks/{run.study}>`",
                run.profile,
                f"{len(cells)} of {_code_cells(run)}",
                duration(record["seconds"]),
                "–" if slowest is None else f"{slowest['index']}, {duration(slowest['seconds'])}",
                f"{shards['n']}, {duration(shards['seconds'])}" if shards.get("n") else "–",
                "yes" if record.get("dirty") else "no",
                ", ".join(f"{name} {version}" for name, version in record["versions"].items() if name in ("python", "torch")),
            ]
        )
    head = [
        "Study",
        "Profile",
        "Cells run",
        "Notebook",
        "Slowest cell",
        "Shards read, made in",
        "Uncommitted changes",
        "Versions",
    ]
    return table(head, rows) if rows else "No published run yet."


def _code_cells(run: Run) -> int:
    return sum(cell.cell_type == "code" and bool(cell.source.strip()) for cell in run.notebook().cells)


def methods() -> str:
    """One row per method: what it asks of the model, for which inputs, and what can be relied on."""
    rows = []
    for entry in entries("methods"):
        traits = entry.traits
        rows.append(
            [
                f"{entry.label}<br>{code(entry.name)}",
                access(traits),
                "tables" if traits.get("table") else "images" if traits.get("image") else "any",
                WHERE[bool(traits.get("linear"))],
                "≥ 0" if traits.get("positive") else "signed",
                "seed" if traits.get("random") else "–",
            ]
        )
    head = ["Method", "Asks the model for", "Inputs", "Linear in the model", "Sign", "Draws"]
    return table(head, rows)


def access(traits: Mapping[str, Any]) -> str:
    """What a method needs of a model.

    >>> access({"gradient": True, "rectifier": True}), access({"layer": True})
    ('gradients, with other rules at rectifiers', 'a convolutional layer')
    >>> access({"image": True}), access({"control": True})
    ('answers', 'nothing: a control')
    """
    if traits.get("control"):
        return "nothing: a control"
    if traits.get("layer"):
        return "a convolutional layer" + (", and gradients" if traits.get("rectifier") else "")
    if traits.get("gradient"):
        return "gradients, with other rules at rectifiers" if traits.get("rectifier") else "gradients"
    return "answers"
