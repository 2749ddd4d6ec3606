"""An executed notebook becomes a page: the copy in the stage is changed, the run folder never.

In this order: absolute paths scrubbed; code folded (tag `show-input` keeps a cell open, `solution` removes it), the
default parameters cell removed and the injected one folded; the figure's alt text, caption and name lifted from the output
(metadata `xai`) to the cell (metadata `mystnb`), where MyST-NB looks for them; labels prefixed, because one notebook may
appear twice in a book (published and local); number tokens filled.
"""

import json
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from xai_lib.compendium.book_glossary import link
from xai_lib.compendium.book_tokens import fill
from xai_lib.compendium.notebooks import nbformat
from xai_lib.errors import StoreError

ALT_LENGTH = (15, 250)
_KEPT = {"parameters", "start_time", "end_time", "duration", "version", "exception", "status"}
_DEFINITIONS = (
    r"^\((?P<a>[\w.:-]+)\)=\s*$",
    r"^\$\$\s*\((?P<b>[\w.:-]+)\)\s*$",
    r"^\s*:(?:name|label):\s*(?P<c>[\w.:-]+)\s*$",
)


def scrub(value: Any, root: Path) -> Any:
    """A copy of a JSON-like value in which no string names a folder of this machine; images are left alone.

    >>> scrub({"path": "/srv/book/runs/a", "image/png": "/srv/book"}, Path("/srv/book"))
    {'path': './runs/a', 'image/png': '/srv/book'}
    """
    if isinstance(value, str):
        places = {root: ".", Path(sys.prefix): "<python>", Path.home(): "~", Path(tempfile.gettempdir()): "<tmp>"}
        for place in sorted(places, key=lambda path: -len(str(path))):
            if place != Path(place.anchor):
                value = re.sub(rf"(?<![\w.]){re.escape(str(place))}(?![\w-])", places[place], value)
        return re.sub(r"/(?:home|Users)/[\w.-]+", "~", value)
    if isinstance(value, Mapping):
        kept = {k: (v if k.startswith("image/") and k != "image/svg+xml" else scrub(v, root)) for k, v in value.items()}
        return kept
    return [scrub(item, root) for item in value] if isinstance(value, list | tuple) else value


def clean(notebook: nbformat.NotebookNode, root: Path) -> nbformat.NotebookNode:
    """The notebook as readers download it: executed, without paths of this machine and without stderr."""
    page = nbformat.reads(json.dumps(scrub(json.loads(nbformat.writes(notebook)), root)), as_version=4)
    for holder in (page, *page.cells):
        timing = holder.metadata.get("papermill")
        if timing is not None:
            holder.metadata["papermill"] = {key: timing[key] for key in timing if key in _KEPT}
    for cell in page.cells:
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if not (out.output_type == "stream" and out.name == "stderr")]
    return page


def fold(notebook: nbformat.NotebookNode) -> None:
    """Readers see results first: code is folded, parameters are shown once (in the generated table)."""
    kept = []
    for cell in notebook.cells:
        tags = list(cell.metadata.get("tags", []))
        if "solution" in tags:
            continue
        if cell.cell_type == "code":
            if "parameters" in tags:
                tags.append("remove-cell")
            elif "show-input" not in tags and "hide-input" not in tags:
                tags.append("hide-input")
            cell.metadata["tags"] = tags
        kept.append(cell)
    notebook.cells = kept


def lift_figures(notebook: nbformat.NotebookNode) -> None:
    """Alt text, caption and name of each figure, from the output to the cell.

    Raises:
        StoreError: a picture without alt text, two pictures in one cell, an alt text that is too short, too long or
            used twice, or a name used twice.
    """
    problems, seen = [], {"alt": set[str](), "name": set[str]()}
    for index, cell in enumerate(notebook.cells):
        pictures = [out for out in cell.get("outputs", []) if any(k.startswith("image/") for k in out.get("data", {}))]
        if not pictures:
            continue
        facts = pictures[0].get("metadata", {}).get("xai", {})
        problems += [f"cell {index}: {text}" for text in _figure_problems(len(pictures), facts, seen)]
        cell.metadata["mystnb"] = {
            "image": {"alt": facts.get("alt", ""), "classes": "xai-figure"},
            "figure": {"caption": facts.get("caption", ""), "name": facts.get("name", "")},
        }
    if problems:
        raise StoreError("figures cannot be shown: " + "; ".join(problems) + ". Use plotting.show(fig, name=, caption=, alt=)")


def _figure_problems(pictures: int, facts: Mapping[str, str], seen: Mapping[str, set[str]]) -> Iterator[str]:
    if pictures > 1:
        yield f"{pictures} pictures in one cell, one is allowed"
    for key in ("alt", "caption", "name"):
        if not facts.get(key):
            yield f"picture without {key}"
    low, high = ALT_LENGTH
    if facts.get("alt") and not low <= len(facts["alt"]) <= high:
        yield f"alt text has {len(facts['alt'])} characters, allowed are {low} to {high}"
    for key, values in seen.items():
        if facts.get(key) in values:
            yield f"{key} {facts[key]!r} is used twice"
        values.add(facts.get(key, ""))


def prefix_labels(notebook: nbformat.NotebookNode, prefix: str) -> None:
    """Every label the notebook defines, and every reference to it, gets the page's prefix."""
    labels = {cell.metadata["mystnb"]["figure"]["name"] for cell in notebook.cells if "mystnb" in cell.metadata}
    for text in _markdown(notebook):
        for pattern in _DEFINITIONS:
            labels |= {next(filter(None, found.groups())) for found in re.finditer(pattern, text, flags=re.M)}
    new = {label: label if label.startswith(f"{prefix}-") else f"{prefix}-{label}" for label in labels if label}
    for cell in notebook.cells:
        if "mystnb" in cell.metadata:
            figure = cell.metadata["mystnb"]["figure"]
            figure["name"] = new.get(figure["name"], "")
            figure["caption"] = _renamed(figure["caption"], new)
        if cell.cell_type == "markdown":
            cell.source = _renamed(cell.source, new)
        for output in cell.get("outputs", []):
            if "text/markdown" in output.get("data", {}):
                output["data"]["text/markdown"] = _renamed("".join(output["data"]["text/markdown"]), new)


def _markdown(notebook: nbformat.NotebookNode) -> Iterator[str]:
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            yield cell.source
        for output in cell.get("outputs", []):
            yield "".join(output.get("data", {}).get("text/markdown", ""))


def _renamed(text: str, new: Mapping[str, str]) -> str:
    for old, label in new.items():
        name = re.escape(old)
        text = re.sub(rf"^\({name}\)=", f"({label})=", text, flags=re.M)
        text = re.sub(rf"^(\$\$\s*)\({name}\)", rf"\1({label})", text, flags=re.M)
        text = re.sub(rf"^(\s*:(?:name|label):\s*){name}\s*$", rf"\1{label}", text, flags=re.M)
        text = re.sub(rf"\]\(#{name}\)", f"](#{label})", text)
        text = re.sub(rf"(\{{(?:numref|ref|eq)\}}`(?:[^`]*<)?){name}(>?`)", rf"\1{label}\2", text)
    return text


def link_terms(notebook: nbformat.NotebookNode, terms: Sequence[str]) -> None:
    """The first use of each term of the glossary in the notebook's text becomes a link."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
    for cell, text in zip(cells, link([cell.source for cell in cells], terms), strict=True):
        cell.source = text


def fill_tokens(notebook: nbformat.NotebookNode, results: pd.DataFrame, record: Mapping[str, Any]) -> None:
    """Numbers in prose and captions, from results.csv and run.json (see book_tokens)."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = fill(cell.source, results, record)
        if "mystnb" in cell.metadata:
            figure = cell.metadata["mystnb"]["figure"]
            figure["caption"] = fill(figure["caption"], results, record)


def with_prose(executed: nbformat.NotebookNode, source: Path) -> nbformat.NotebookNode:
    """The executed notebook with the text between its code cells as the source has it now, if the code is the same.

    Code and outputs belong to the run; sentences belong to the book, and are corrected without a new run.
    """
    if not source.is_file() or stale(executed, source):
        return executed
    page = nbformat.from_dict(executed)
    texts: list[list[nbformat.NotebookNode]] = [[]]
    for cell in nbformat.read(source, as_version=4).cells:
        if cell.cell_type != "code":
            texts[-1].append(cell)
        elif not _injected(cell):
            texts.append([])
    cells, place = [*texts[0]], 0
    for cell in executed.cells:
        if cell.cell_type == "code":
            cells.append(cell)
            if not _injected(cell):
                place += 1
                cells += texts[place]
    page.cells = cells
    return page


def _injected(cell: nbformat.NotebookNode) -> bool:
    return "injected-parameters" in cell.metadata.get("tags", [])


def stale(executed: nbformat.NotebookNode, source: Path) -> str:
    """Why a run is older than its notebook: one sentence, or "" when the code that ran is the code that is there."""
    if not source.is_file():
        return ""
    now = nbformat.read(source, as_version=4)
    code = [
        [
            cell.source.strip()
            for cell in book.cells
            if cell.cell_type == "code" and not {"injected-parameters", "parameters"} & set(cell.metadata.get("tags", []))
        ]
        for book in (executed, now)
    ]
    return "" if code[0] == code[1] else "The code of this study has changed since this run; the numbers are those of the run."
