"""A study of a few lines in a folder of its own, for tests of the machinery; its notebooks need not import torch."""

import copy
import textwrap
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import yaml

CONTENT: dict[str, Any] = {
    "title": "A tiny study",
    "document": {"id": "000", "title": "Nothing", "authors": "Nobody", "year": 2026, "cite": "nobody"},
    "question": "Does b exceed a?",
    "why": "It tests the machinery.",
    "parameters": {
        "n_images": {"type": "int", "default": 3, "range": [1, 100], "help": "number of images"},
        "shift": {"type": "float", "default": 0.5, "range": [-10, 10], "help": "how much b exceeds a"},
        "label": {"type": "str", "default": "plain", "help": "free text"},
        "counts": {"type": "list[int]", "default": [1, 5], "range": [1, 50], "help": "numbers of baselines"},
        "verbose": {"type": "bool", "default": False, "help": "say more"},
    },
    "profiles": {
        "smoke": {"minutes": 0.1, "verdicts": False},
        "book": {"minutes": 0.2, "verdicts": True, "values": {"n_images": 12}},
    },
    "claims": [
        {
            "id": "A1",
            "where": "Table 1",
            "statement": "b exceeds a",
            "metric": "score",
            "published": {"text": ".5 against 0", "values": {"b": 0.5, "a": 0.0}},
            "rule": {"kind": "greater", "metric": "score", "method": "b", "versus": "a", "tolerance": 0.25},
        },
        {
            "id": "A2",
            "where": "Table 2",
            "statement": "b needs a GPU",
            "metric": "score",
            "published": {"text": "none"},
            "rule": {"kind": "not_tested", "reason": "budget", "note": "No GPU here."},
        },
    ],
}

RESULTS = """
import pandas as pd
from xai_lib.compendium import study
rows = [
    {"dataset": "d", "model": "m", "method": method, "method_parameters": {}, "metric": "score", "metric_parameters": {},
     "sample": f"image{i}", "seed": 0, "value": i + (shift if method == "b" else 0) * (1 + 0.1 * (i % 3)), "seconds": 0.0,
     "flag": ""}
    for method in "ab" for i in range(n_images)
]
study.save_results(pd.DataFrame(rows), samples=[], models=[]);
"""


def content(**changes: Any) -> dict[str, Any]:
    """The study file's content, with top-level keys replaced."""
    return {**copy.deepcopy(CONTENT), **changes}


def write(root: Path, *cells: str, name: str = "tiny", parameters: str | None = None, **changes: Any) -> Path:
    """A repository at `root` with the study `name`, whose notebook runs `cells` after its parameters; returns `root`."""
    folder = root / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    study = content(**changes)
    (folder / f"{name}.yml").write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
    lines = [f"{key} = {own['default']!r}" for key, own in study["parameters"].items()]
    first = nbformat.v4.new_code_cell(parameters if parameters is not None else "\n".join(lines))
    first.metadata["tags"] = ["parameters"]
    others = [nbformat.v4.new_code_cell(textwrap.dedent(cell).strip()) for cell in cells]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A tiny study"), first, *others])
    notebook.metadata["kernelspec"] = {"name": "no_such_kernel", "display_name": "?", "language": "python"}
    nbformat.write(notebook, folder / f"{name}.ipynb")
    return root


def table(
    values: dict[str, list[float]], *, metric: str = "score", flags: dict[int, str] | None = None, **same: Any
) -> pd.DataFrame:
    """Results with one row per method and image; NaN values need a flag by image number."""
    rows = [
        {
            "dataset": "d",
            "model": "m",
            "method": method,
            "method_parameters": "{}",
            "metric": metric,
            "metric_parameters": "{}",
            "sample": f"image{i}",
            "seed": 0,
            "value": value,
            "seconds": 0.0,
            "flag": (flags or {}).get(i, ""),
            **same,
        }
        for method, numbers in values.items()
        for i, value in enumerate(numbers)
    ]
    return pd.DataFrame(rows)
