"""Reference pages: every parameter of every study, every published run in figures, every method at a glance."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from xai_lib.compendium import book_measured as measured
from xai_lib.compendium.book_cells import Study, yaml_value
from xai_lib.compendium.book_registry import entries, literal
from xai_lib.compendium.book_runs import Run
from xai_lib.compendium.book_words import code, duration, number, table
from xai_lib.compendium.parameters import Parameter
from xai_lib.registry import Entry

MARKS = {
    "holds": '<span title="holds">✔</span>',
    "in the limit": '<span title="in the limit">≈</span>',
    "violated": '<span title="violated">✖</span>',
    "–": "–",
}
METHOD_FAMILIES = {
    "gradient": "the derivative of the score at the input, alone or over noisy copies of it",
    "path integral": "derivatives summed along a path from one baseline, or from several, to the input",
    "modified backpropagation": "one pass back with other rules than the derivative's",
    "class activation map": "one convolutional layer's values, weighted for a class",
    "perturbation": "what the answer does when parts of the input are hidden or changed",
    "Shapley value": "what a part contributes on average over the orders in which parts can be added",
    "surrogate": "a linear model or a rule that answers as the model does near the input",
    "averaged map": "another method's map, averaged over parts of the picture",
    "control": "no explanation: what others are compared with",
}
METRIC_FAMILIES = {
    "faithfulness": "the model's answer follows the map",
    "localisation": "the map lies on the object that a person marked",
    "robustness": "close inputs have close maps",
    "randomisation": "the map changes when the model does",
    "complexity": "the map is concentrated on little",
    "axiomatic": "an equation that the map should obey",
}
"""What each family holds, or asks for; the names are those of the field."""
AXIOM_LESSON = "foundations_gradients"
METHOD_SHEETS, METRIC_SHEETS = "methods", "metrics"
"""Pages with a section for each method, and for each metric."""


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
    """Families, and one row per method: what it asks of the model, what a map costs, which nets it takes."""
    rows = []
    for entry in entries("methods"):
        taken = measured.families().get(entry.name)
        rows.append(
            [
                sheet_link(entry, METHOD_SHEETS),
                family(entry),
                access(entry.traits),
                inputs(entry.traits),
                cost(entry),
                "–" if taken is None else f"{sum(v in ('accepted', 'repaired') for v in taken.values())} of {len(taken)}",
                "≥ 0" if entry.traits.get("positive") else "signed",
                "seed" if entry.traits.get("random") else "–",
            ]
        )
    made = table(["Method", "Family", "Asks the model for", "Inputs", "Rows", "Nets", "Sign", "Draws"], rows)
    return f"{_legend(METHOD_FAMILIES)}\n\n{made}"


def axioms(studies: Mapping[str, Study]) -> str:
    """One row per method, one column per axiom, and where the axioms are explained."""
    lesson = studies.get(AXIOM_LESSON)
    more = "" if lesson is None else f"{{doc}}`{lesson['title']} </notebooks/{AXIOM_LESSON}>` explains each axiom.\n\n"
    rows = [
        [sheet_link(entry, METHOD_SHEETS), *(MARKS[measured.axiom(entry.name, which)] for which in measured.AXIOMS)]
        for entry in entries("methods")
    ]
    return more + table(["Method", *measured.AXIOMS], rows)


def metrics() -> str:
    """Families, and one row per metric: what it is given, and what it costs beyond the map."""
    rows = [
        [sheet_link(entry, METRIC_SHEETS), family(entry), ", ".join(map(code, entry.words)), cost(entry)]
        for entry in entries("metrics")
    ]
    return f"{_legend(METRIC_FAMILIES)}\n\n{table(['Metric', 'Family', 'Is given', 'Rows'], rows)}"


def family(entry: Entry) -> str:
    """The family that an entry was registered with; a dash without one.

    >>> from xai_lib import METHODS
    >>> family(METHODS["occlusion"])
    'perturbation'
    """
    return str(entry.traits.get("family", "–"))


def _legend(families: Mapping[str, str]) -> str:
    return "\n".join(f"- *{name}*: {meaning}" for name, meaning in families.items())


def sheet_link(entry: Entry, page: str) -> str:
    """The label, leading to the entry's own section."""
    return f'<a href="{page}.html#{target(entry)}">{html.escape(entry.label)}</a>'


def target(entry: Entry) -> str:
    """Where the section of an entry is on its page."""
    return f"sheet-{entry.name.replace('_', '-')}"


def cost(entry: Entry) -> str:
    """Rows forward, and rows forward and back, in words.

    >>> from xai_lib import METHODS
    >>> cost(METHODS["gradient"]), cost(METHODS["all_ones"])
    ('1&nbsp;⇄', '0')
    """
    found = measured.rows(entry.name)
    if isinstance(found, str):
        return found
    forward, back = found
    parts = ([f"{number(forward)}&nbsp;→"] if forward else []) + ([f"{number(back)}&nbsp;⇄"] if back else [])
    return " + ".join(parts) or "0"


def inputs(traits: Mapping[str, Any]) -> str:
    """Kinds of inputs a method takes."""
    return "tables" if traits.get("table") else "images" if traits.get("image") else "any"


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
