"""Lesson `library_defects`: each defect's script run, as a table, as text to read, and as rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import display

from xai_lib.compendium.defects import DEFECTS, Defect, Shown
from xai_lib.compendium.results import COLUMNS
from xai_lib.errors import unknown
from xai_lib.plotting import table

LIBRARIES = {one.library: one.library for one in DEFECTS.values()}
AGREES = "the library agrees with the right answer"
Found = dict[str, tuple[Defect, Shown]]


def run(libraries: Sequence[str]) -> Found:
    """Run the scripts of some libraries.

    Raises:
        ConfigError: a library without an entry.
    """
    for name in libraries:
        if name not in LIBRARIES:
            raise unknown("library", name, LIBRARIES)
    return {number: (one, one.run()) for number, one in DEFECTS.items() if one.library in libraries}


def answer(value: Any) -> str:
    """An answer as a reader reads it.

    >>> answer([5.3999996, 2.7]), answer(True), answer(float("inf")), answer("an error"), answer([False])
    ('[5.4, 2.7]', 'true', 'infinite', 'an error', '[false]')
    """
    if isinstance(value, list):
        return f"[{', '.join(map(answer, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4g}" if np.isfinite(value) else "infinite"
    return str(value)


def overview(found: Found) -> None:
    """Display every defect: what it does, the right answer, theirs, and what is done here."""
    rows = [
        {
            "": number,
            "library": f"{one.library} {one.version}",
            "what it does": one.what,
            "right": answer(shown.right),
            "found": answer(shown.found),
            "here": one.here,
        }
        for number, (one, shown) in found.items()
    ]
    caption = f"{len(rows)} scripts, run for this page; the answers are computed."
    table(pd.DataFrame(rows), caption=caption, name="library-defects")


def scripts(found: Found, library: str) -> None:
    """Display the scripts of one library, folded."""
    parts = [
        f":::{{dropdown}} {number}: {one.what}\n```python\n{one.source}\n```\n"
        f"Right: {answer(shown.right)}. Found: {answer(shown.found)}.\n:::"
        for number, (one, shown) in found.items()
        if one.library == library
    ]
    text = "\n\n".join(parts) or "Not asked for in this run."
    display({"text/markdown": text, "text/plain": text}, raw=True)


def rows(found: Found) -> pd.DataFrame:
    """One row per script: 1 where the library agrees with the right answer, 0 where it does not."""
    values = {number: float(shown.agree) for number, (_, shown) in found.items()}
    made = pd.DataFrame({"method": list(values), "value": list(values.values())})
    made = made.assign(dataset="none", model="toy", metric=AGREES, sample="", seed=0, seconds=float("nan"), flag="")
    made["method_parameters"] = [{"library": one.library, "version": one.version} for one, _ in found.values()]
    made["metric_parameters"] = [{}] * len(made)
    return made[list(COLUMNS)]
