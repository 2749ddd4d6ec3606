"""A comparison as a figure and as one self-contained page: no script, nothing loaded from elsewhere."""

import base64
import html
import io
import math
from collections.abc import Sequence
from functools import partial

from matplotlib import rc_context
from matplotlib.figure import Figure

from xai_lib import wording
from xai_lib.compendium.compare import WRITTEN
from xai_lib.compendium.compare_runs import Comparison, Row
from xai_lib.compendium.compare_tables import Name, Table, how, tables
from xai_lib.plotting import style

MOST = 120
"""Rows in one figure; more would not be read."""
METADATA = {
    ".png": {"Software": WRITTEN},
    ".svg": {"Creator": WRITTEN, "Date": None},
    ".pdf": {"Creator": WRITTEN, "Producer": None, "CreationDate": None},
}
STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --ground: #ffffff; --line: #767676; --tint: #f1f1f1; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --ground: #17191c; --line: #8c8c8c; --tint: #262a2f; } }
body { margin: 0 auto; max-width: 75rem; padding: 1rem; font: 1rem/1.5 Georgia, "Times New Roman", serif;
  color: var(--ink); background: var(--ground); }
h1 { font-size: 1.6rem; overflow-wrap: anywhere; }
code { font: 0.9em ui-monospace, Menlo, Consolas, monospace; }
.wide { overflow-x: auto; margin: 1.5rem 0; }
.wide:focus-visible { outline: 3px solid var(--ink); }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: bold; padding: 0.4rem 0; }
th, td { border-bottom: 1px solid var(--line); padding: 0.25rem 0.6rem; text-align: left; vertical-align: top; }
thead th { background: var(--tint); }
tbody th { font-weight: normal; }
td { white-space: nowrap; }
tr.marked td { font-weight: bold; }
figure { margin: 1.5rem 0; }
figure img { max-width: 100%; height: auto; background: #ffffff; }
"""


def figure(comparison: Comparison, metric: str) -> Figure:
    """Mean and 95 % interval of one metric, one line per method and run, n at the right; without interval the mark is hollow.

    Args:
        comparison: from `compare`.
        metric: one of its metrics.
    """
    rows = _drawn(comparison, metric)
    places = len({row.key[:2] for row in rows})
    labels = style.wrapped([_label(row, places > 1) for row in rows], 44)
    fig = style.figure(0.8 + sum(0.1 + 0.15 * (text.count("\n") + 1) for text in labels))
    ax = fig.subplots()
    style.dress(ax, f"{_plain(metric)}: mean and 95 % interval over images", grid="x")
    colours = style.line_styles(len(comparison.sides)) if len(comparison.sides) <= len(style.COLOURS) else None
    for y, row in enumerate(rows):
        colour, marker = colours[row.run - 1] if colours else (style.COLOURS[0], style.MARKERS[0])
        ax.hlines(y, row.mean.low, row.mean.high, color=colour, linewidth=2)
        face = "white" if math.isnan(row.mean.low) else colour
        ax.plot([row.mean.value], [y], marker, color=colour, markerfacecolor=face, markersize=5)
        ax.text(
            1.01, y, f"n = {row.mean.n}", transform=ax.get_yaxis_transform(), va="center", fontsize=style.SMALL, color=style.INK
        )
        if y and rows[y - 1].key != row.key:
            ax.axhline(y - 0.5, color="#e5e5e5", linewidth=0.8)
    ax.set_yticks(range(len(rows)), labels)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    return fig


def _drawn(comparison: Comparison, metric: str) -> list[Row]:
    return [row for row in comparison.rows if row.metric == metric][:MOST]


def _label(row: Row, placed: bool) -> str:
    dataset, model, _, method = row.key
    return _plain(f"{method}{f' ({dataset}, {model})' if placed else ''}, run {row.run}")


def _plain(text: str) -> str:
    """Text in which matplotlib sees no formula."""
    return text.replace("$", r"\$")


def picture(comparison: Comparison, metric: str, suffix: str) -> bytes:
    """The figure as a file; the same comparison gives the same bytes.

    Args:
        comparison, metric: as for `figure`.
        suffix: ".png", ".svg" or ".pdf".
    """
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "xai"}):
        figure(comparison, metric).savefig(buffer, format=suffix.removeprefix("."), metadata=METADATA[suffix])
    return buffer.getvalue()


def page(comparison: Comparison, metric: str | None) -> str:
    """One HTML page with the tables of `xai compare` and, where there is a metric, its figure."""
    title = html.escape(comparison.title)
    made = tables(comparison, partial(wording.number, digits=4))
    parts = [_table(table, place) for place, table in enumerate(made)]
    if metric is not None:
        parts.insert(1, _figure(comparison, metric))
    parts += [f"<p>{html.escape(sentence)}</p>" for sentence in how(comparison)]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    head += f'<meta name="generator" content="{WRITTEN}"><link rel="icon" href="data:,"><style>{STYLE}</style>'
    body = "\n".join([f"<h1>{title}</h1>", *parts])
    return f'<!doctype html>\n<html lang="en">\n<head>{head}</head>\n<body><main>\n{body}\n</main></body>\n</html>\n'


def described(comparison: Comparison, metric: str) -> tuple[str, str]:
    """Alternative text and caption of the figure, as plain text."""
    drawn, every = len(_drawn(comparison, metric)), sum(row.metric == metric for row in comparison.rows)
    shown = f"the first {drawn} of {every} rows" if drawn < every else f"{every} rows"
    said = f"Mean and 95 % interval of {metric[:80]} by method and run, {shown}"
    return f"{said}; the numbers are in the table of results.", f"{said}."


def _figure(comparison: Comparison, metric: str) -> str:
    alt, caption = map(html.escape, described(comparison, metric))
    data = base64.b64encode(picture(comparison, metric, ".png")).decode()
    return f'<figure><img src="data:image/png;base64,{data}" alt="{alt}"><figcaption>{caption}</figcaption></figure>'


def _table(table: Table, place: int) -> str:
    """A table with caption and scopes, in a region of its own that scrolls sideways, also by keyboard."""
    head = "".join(f'<th scope="col">{_cell(text)}</th>' for text in table.head)
    rows = "\n".join(_row(row, table) for row in table.rows)
    return (
        f'<div class="wide" role="region" tabindex="0" aria-labelledby="table-{place}"><table>'
        f'<caption id="table-{place}">{html.escape(table.caption)}</caption>'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>"
    )


def _row(row: Sequence[str], table: Table) -> str:
    first = "".join(f'<th scope="row">{_cell(text)}</th>' for text in row[: table.keys])
    others = "".join(f"<td>{_cell(text)}</td>" for text in row[table.keys :])
    marked = ' class="marked"' if table.head[-1] == "Interval excludes 0" and row[-1] == "yes" else ""
    return f"<tr{marked}>{first}{others}</tr>"


def _cell(text: str) -> str:
    escaped = html.escape(text)
    return f"<code>{escaped}</code>" if isinstance(text, Name) else escaped
