"""Reference pages from the registries: what is registered is listed, and nothing else."""

import importlib
import importlib.util
import inspect
import re
from collections.abc import Container, Iterator

from xai_lib import registry
from xai_lib.compendium.book_words import code, number, table
from xai_lib.errors import ConfigError
from xai_lib.registry import Entry

MODULES = {
    "methods": ("xai_lib.methods", registry.METHODS),
    "metrics": ("xai_lib.metrics", registry.METRICS),
    "baselines": ("xai_lib.baselines", registry.BASELINES),
    "scores": ("xai_lib.scores", registry.SCORES),
    "data_sets": ("xai_lib.data", registry.DATASETS),
    "models": ("xai_lib.models", registry.MODELS),
}


def entries(kind: str) -> list[Entry]:
    """All entries of a registry, by label; its module is imported first."""
    module, found = MODULES[kind]
    if importlib.util.find_spec(module) is not None:
        importlib.import_module(module)
    return sorted(found.values(), key=lambda entry: entry.label.lower())


def source(kind: str, entry: Entry, keys: Container[str]) -> str:
    """The citation of an entry.

    Raises:
        ConfigError: the entry cites what the bibliography lacks.
    """
    if entry.cite == "none":
        return "this project"
    if entry.cite not in keys:
        raise ConfigError(f"{kind}: {entry.name!r} cites {entry.cite!r}, which book/references.bib lacks; add the entry")
    return f"{{cite:t}}`{entry.cite}`"


def functions(kind: str, keys: Container[str]) -> str:
    """Label, name, source, first line of the docstring and own parameters of each function."""
    parts = []
    for entry in entries(kind):
        given = ", ".join(code(text) for text in defaults(entry)) or "none"
        head = f"**{entry.label}** {code(entry.name)}, {source(kind, entry, keys)}"
        parts.append(f"{head}\n: {literal(entry.summary)}\n: Parameters: {given}")
    return "\n\n".join(parts) or "None is registered."


def data_sets(keys: Container[str]) -> str:
    """The data sets with their terms."""
    rows = []
    for entry in entries("data_sets"):
        where = "packaged" if entry.traits.get("packaged") else "your own copy"
        shown = "yes" if entry.traits.get("redistributable") else "no"
        licence = literal(str(entry.traits.get("licence", "–")))
        rows.append((_name("data set", entry, keys), literal(entry.summary), licence, shown, where))
    return table(["Data set", "What it is", "Licence", "Shown here", "From"], rows)


def models(keys: Container[str]) -> str:
    """The models with what they expect and what their authors report."""
    rows = []
    for entry in entries("models"):
        traits = entry.traits
        size = " × ".join(map(str, traits.get("input", ()))) or "–"
        weights = "a file, or an allowed download" if traits.get("needs_weights") else "installed with the project"
        top = traits.get("top1_published")
        share = "–" if top is None else f"{100 * top:.1f} %"
        rows.append((_name("model", entry, keys), size, number(float(traits.get("parameters", 0))), share, weights))
    return table(["Model", "Input", "Parameters", "Top-1 (published)", "Weights"], rows)


def _name(kind: str, entry: Entry, keys: Container[str]) -> str:
    return f"{entry.label}<br>{code(entry.name)}<br>{source(kind, entry, keys)}"


def literal(text: str) -> str:
    """Plain text as MyST that shows every sign; inline code stays code.

    >>> literal("a_i * |x| in `code_here`")
    'a\\\\_i \\\\* |x| in `code_here`'
    """
    pieces = re.split(r"(`+[^`]+`+)", text)
    return "".join(piece if piece.startswith("`") else re.sub(r"([\\*_\[\]<>$#{}])", r"\\\1", piece) for piece in pieces)


def defaults(entry: Entry) -> Iterator[str]:
    """The function's own parameters with their defaults."""
    for name, parameter in entry.parameters.items():
        default = parameter.default
        yield name if default is inspect.Parameter.empty else f"{name}={getattr(default, '__name__', repr(default))}"
