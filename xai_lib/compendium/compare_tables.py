"""A comparison as tables of text, as Markdown, as a page of the book, and as a long table of numbers."""

import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from xai_lib import wording
from xai_lib.compendium import book_words, decisions
from xai_lib.compendium.compare_runs import GROUP, Comparison
from xai_lib.stats import Estimate

COLUMNS = (
    *GROUP, "run", "run_id", "n", "left_out", "mean", "low", "high", "pairs", "difference", "difference_low",
    "difference_high", "p", "p_holm", "excludes_0",
)  # fmt: skip
FEW = 6
"""Pairs below which Wilcoxon's test cannot reach 0.05: its smallest p is 2 ** (1 - n)."""
Number = Callable[[float], str]


class Name(str):
    """A cell that is an identifier or a value, set as code."""


@dataclass(frozen=True)
class Table:
    """Text in rows; the first `keys` cells of a row say what it is about."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    keys: int = 1


def how(comparison: Comparison) -> list[str]:
    """What the numbers of the tables are and what is missing in them, one paragraph each."""
    if not comparison.rows:
        return ["Nothing to compare: no data set, model, method and metric is in two of the runs.", *comparison.notes]
    said = [
        "Mean: over images (several seeds of one image are averaged first); interval: 95 %, expanded percentile bootstrap over"
        " images, seed 0. Undefined values are left out and counted.",
        "Difference: the run minus run 1, paired by image and seed (by image alone where two runs share no seed).",
        "p: Wilcoxon's signed-rank test of the paired values, two-sided, corrected by Holm over the"
        f" {comparison.tests} differences of the table. The intervals are not corrected.",
    ]
    if any(row.difference is not None and row.difference.n < FEW for row in comparison.rows):
        said.append(
            f"With fewer than {FEW} pairs no p can be below 0.05, and an interval that excludes 0 then says little more"
            " than that all differences have one sign."
        )
    return [*said, *comparison.notes]


def tables(comparison: Comparison, number: Number) -> list[Table]:
    """Runs, results, and verdicts that differ, as text; a table without rows is left out.

    Args:
        comparison: from `compare`.
        number: how a number is written.
    """
    made = [_runs_table(comparison), _results_table(comparison, number), _verdicts_table(comparison, number)]
    return [table for table in made if table.rows]


def _runs_table(comparison: Comparison) -> Table:
    facts = [_facts(side.record) for side in comparison.sides]
    every = dict.fromkeys(key for own in facts for key in own)
    differing = [key for key in every if len({own.get(key) for own in facts}) > 1]
    head = ["Run", "Folder", "Profile", *(Name(name) if kind == "parameter" else f"{kind} {name}" for kind, name in differing)]
    rows = [
        [str(place), Name(side.shown), str(side.record["profile"] or "exploratory")]
        + [Name(own[key]) if key in own else "none" for key in differing]
        for place, (side, own) in enumerate(zip(comparison.sides, facts, strict=True), start=1)
    ]
    return Table("Runs, and the parameters, weights, data and versions in which they differ", head, rows)


def _facts(record: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """What made the run, as text by kind and name."""
    found = {("parameter", name): value_text(value) for name, value in record["parameters"].items()}
    for model in record["models"]:
        found["weights", str(model["name"])] = str(model.get("weights_sha256") or "untrained")[:12]
    for data in record["data"]:
        key = ("data", str(data["name"]))
        own = f"{str(data.get('fingerprint'))[:12]} (n = {data.get('n')})"
        found[key] = f"{found[key]}, {own}" if key in found else own
    found |= {("version", name): str(version) for name, version in record["versions"].items()}
    commit = str(record.get("commit") or "unknown")[:12] + (" with changes" if record.get("dirty") else "")
    return found | {("code", "commit"): commit, ("computed on", "device"): str(record.get("device"))}


def value_text(value: Any) -> str:
    """A parameter's value as it is shown."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _results_table(comparison: Comparison, number: Number) -> Table:
    head = ["Dataset", "Model", "Metric", "Method", "Run", "n", "Left out", "Mean [95 % interval]"]
    head += ["Pairs", "Difference to run 1 [95 % interval]", "p (Holm)", "Interval excludes 0"]
    rows = []
    for row in comparison.rows:
        cells = [*map(Name, row.key), str(row.run), str(row.mean.n), str(row.mean.dropped), estimate_text(row.mean, number)]
        if row.difference is None:
            cells += ["", "run 1 itself" if row.run == 1 else "no pairs", "", ""]
        else:
            cells += [str(row.difference.n), estimate_text(row.difference, number), number(row.p_holm)]
            cells += ["yes" if row.marked else "no"]
        rows.append(cells)
    return Table("Results of each run, and differences to run 1", head, rows, keys=5)


def estimate_text(estimate: Estimate, number: Number) -> str:
    """Value and interval; n stands beside it."""
    if not estimate.n:
        return "no values"
    ends = "no interval" if math.isnan(estimate.low) else f"[{number(estimate.low)}, {number(estimate.high)}]"
    return f"{number(estimate.value)} {ends}"


def _verdicts_table(comparison: Comparison, number: Number) -> Table:
    """The claims on which runs with verdicts disagree."""
    said: dict[str, dict[int, Mapping[str, Any]]] = {}
    for place, side in enumerate(comparison.sides, start=1):
        for verdict in side.record["verdicts"]:
            said.setdefault(str(verdict["id"]), {})[place] = verdict
    rows = []
    for claim, by_run in said.items():
        if len({(verdict["verdict"], verdict.get("reason")) for verdict in by_run.values()}) > 1:
            rows += [[Name(claim), str(place), *_verdict(verdict, number)] for place, verdict in by_run.items()]
    return Table("Verdicts that differ", ["Claim", "Run", "Verdict", "Effect [95 % interval]", "n"], rows, keys=2)


def _verdict(verdict: Mapping[str, Any], number: Number) -> list[str]:
    value, low, high = (math.nan if verdict.get(key) is None else float(verdict[key]) for key in ("effect", "low", "high"))
    reason = f" ({verdict['reason']})" if verdict.get("reason") else ""
    n = int(verdict.get("n") or 0)
    effect = "none" if math.isnan(value) else estimate_text(Estimate(value, low, high, n), number)
    return [f"{verdict['verdict']}{reason}", effect, str(n)]


def markdown(comparison: Comparison) -> str:
    """The comparison as Markdown for a terminal: numbers in ASCII."""
    parts = [f"# {comparison.title}"]
    for table in tables(comparison, decisions.number):
        parts += [f"## {table.caption}", book_words.table(_coded(table.head), map(_coded, table.rows))]
    return "\n\n".join([*parts, *how(comparison)])


def _coded(cells: Sequence[str]) -> list[str]:
    return [book_words.code(cell) if isinstance(cell, Name) else cell for cell in cells]


def page_markdown(comparison: Comparison) -> str:
    """The comparison as a page of the book, in MyST Markdown."""
    number = partial(wording.number, digits=4)
    parts = [f"# Comparison of {len(comparison.sides)} runs of {book_words.code(comparison.study)}"]
    for table in tables(comparison, number):
        parts.append(book_words.table(_coded(table.head), map(_coded, table.rows), caption=table.caption))
    return "\n\n".join([*parts, *how(comparison)]) + "\n"


def frame(comparison: Comparison) -> pd.DataFrame:
    """The results as a long table, one row per data set, model, metric, method and run; columns `COLUMNS`."""
    nothing = Estimate(math.nan, math.nan, math.nan, 0)
    rows = []
    for row in comparison.rows:
        run_id = str(comparison.sides[row.run - 1].record["run_id"])
        mean, gap = row.mean, row.difference or nothing
        estimates = (mean.n, mean.dropped, mean.value, mean.low, mean.high, gap.n, gap.value, gap.low, gap.high)
        rows.append((*row.key, row.run, run_id, *estimates, row.p, row.p_holm, row.marked))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def csv(comparison: Comparison) -> str:
    """`frame` as text; floats to the last digit."""
    buffer = io.StringIO()
    frame(comparison).to_csv(buffer, index=False, lineterminator="\n")
    return buffer.getvalue()
