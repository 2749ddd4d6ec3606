"""Lessons `library_defects` and `document_errata`: scripts of a catalogue run, as a table, as text to read, and as rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import display

from xai_lib.compendium.catalogue import Catalogue, Entry, Shown
from xai_lib.compendium.results import COLUMNS
from xai_lib.errors import unknown
from xai_lib.plotting import table

AGREES = "what is there is right"
Found = dict[str, tuple[Entry, Shown]]


def run(catalogue: Catalogue, sources: Sequence[str]) -> Found:
    """Run the scripts of some sources.

    Raises:
        ConfigError: a source without an entry.
    """
    known = {one.source: one.source for one in catalogue.values()}
    for name in sources:
        if name not in known:
            raise unknown("source of this catalogue", name, known)
    return {number: (one, one.run()) for number, one in catalogue.items() if one.source in sources}


def answer(value: Any) -> str:
    """An answer as a reader reads it.

    >>> answer([5.3999996, 2.7]), answer(True), answer(float("inf")), answer("an error"), answer([])
    ('[5.4, 2.7]', 'true', 'infinite', 'an error', 'none')
    """
    if isinstance(value, list):
        return f"[{', '.join(map(answer, value))}]" if value else "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4g}" if np.isfinite(value) else "infinite" if np.isinf(value) else "undefined"
    return str(value)


def overview(found: Found, *, name: str, there: str) -> None:
    """Display every entry: what is wrong, the right answer, and what is there.

    Args:
        name: label of the table.
        there: heading of what is there, such as "found" or "printed".
    """
    rows = [
        {
            "": number,
            "where": one.place or f"{one.source} {one.version}",
            "what": one.what,
            "right": answer(shown.right),
            there: answer(shown.found),
        }
        for number, (one, shown) in found.items()
    ]
    table(pd.DataFrame(rows), caption=f"{len(rows)} scripts, run for this page; the answers are computed.", name=name)


def scripts(found: Found, source: str, *, there: str) -> None:
    """Display the scripts of one source, folded."""
    parts = [
        f":::{{dropdown}} {number}: {one.what}\n```python\n{one.code}\n```\n"
        f"Right: {answer(shown.right)}. {there.capitalize()}: {answer(shown.found)}. *Here:* {one.here}\n:::"
        for number, (one, shown) in found.items()
        if one.source == source
    ]
    text = "\n\n".join(parts) or "Not asked for in this run."
    display({"text/markdown": text, "text/plain": text}, raw=True)


def rows(found: Found) -> pd.DataFrame:
    """One row per script: 1 where what is there is right, 0 where it is not."""
    made = [
        {"method": number, "method_parameters": {"source": one.source, "place": one.place}, "value": float(shown.agree)}
        for number, (one, shown) in found.items()
    ]
    same = {"dataset": "none", "model": "toy", "metric": AGREES, "metric_parameters": {}, "sample": "", "seed": 0, "flag": ""}
    return pd.DataFrame([{**row, **same, "seconds": float("nan")} for row in made])[list(COLUMNS)]
