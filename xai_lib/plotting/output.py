"""What a notebook cell displays: one figure with its caption and alt text, or one table."""

import base64
import io
import math
import re
from typing import Any

import pandas as pd
from IPython.display import display
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from xai_lib.errors import ConfigError
from xai_lib.plotting import style
from xai_lib.stats import Estimate
from xai_lib.wording import estimate_text, number

ALT_LENGTH = (15, 250)
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_RESIDUE = re.compile(r"\b(nan|inf)\b|np\.|tensor\(", re.IGNORECASE)


def png(figure: Figure) -> bytes:
    """The figure as an opaque PNG, the same bytes for the same figure."""
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=style.DPI, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def show(figure: Figure, *, name: str, caption: str, alt: str) -> None:
    """Display a figure as one PNG that carries what the book needs: label, caption and alternative text.

    Args:
        figure: drawn by this package or by hand; it is cleared afterwards.
        name: label for references, lower case words joined by hyphens, unique on the page.
        caption: one or more sentences, MyST allowed.
        alt: what the figure shows, for readers who do not see it, with numbers of this run; 15 to 250 characters, one line.

    Raises:
        ConfigError: empty caption, a name that cannot be a label, an alt text that is too short, too long, equal to the
            caption, or holds residue such as "nan" or "np.float64".
    """
    _check_words(name, caption)
    alt = " ".join(alt.split())
    low, high = ALT_LENGTH
    if not low <= len(alt) <= high:
        raise ConfigError(f"figure {name!r}: alt text has {len(alt)} characters, allowed are {low} to {high}: {alt!r}")
    residue = _RESIDUE.search(alt)
    if residue:
        raise ConfigError(f"figure {name!r}: alt text holds {residue.group()!r}; write numbers with plotting.number: {alt!r}")
    if alt == " ".join(caption.split()):
        raise ConfigError(f"figure {name!r}: alt text repeats the caption; say what is to be seen instead")
    data = {"image/png": base64.b64encode(png(figure)).decode("ascii"), "text/plain": alt}
    figure.clear()
    display(data, raw=True, metadata={"xai": {"name": name, "caption": caption, "alt": alt}})


def table(frame: pd.DataFrame, *, caption: str, name: str, digits: int = 3, undefined: str = "undefined") -> None:
    """Display a table as MyST markdown: numbers right-aligned and rounded by `number`, estimates with interval and n.

    Args:
        frame: columns are the header; the index is not shown (use `reset_index`).
        caption: one line.
        name: label for references, as in `show`.
        digits: significant digits of floats.
        undefined: what a dash means here; printed under the caption's table when a dash occurs.

    Raises:
        ConfigError: empty caption, a name that cannot be a label, or no rows.
    """
    _check_words(name, caption)
    text = markdown(frame, caption=caption, name=name, digits=digits, undefined=undefined)
    display({"text/markdown": text, "text/plain": text}, raw=True, metadata={"xai": {"name": name, "caption": caption}})


def markdown(frame: pd.DataFrame, *, caption: str, name: str, digits: int = 3, undefined: str = "undefined") -> str:
    """The text that `table` displays."""
    if len(frame) == 0:
        raise ConfigError(f"table {name!r}: no rows to show; select something that the run has measured")
    columns = [frame.iloc[:, i].tolist() for i in range(frame.shape[1])]
    right = ["---:" if all(_is_number(v) for v in values) else ":---" for values in columns]
    lines = [_row([str(column) for column in frame.columns]), "| " + " | ".join(right) + " |"]
    lines += [_row([_cell(value, digits) for value in row]) for row in zip(*columns, strict=True)]
    text = "\n".join([f":::{{table}} {' '.join(caption.split())}", f":name: {name}", "", *lines, ":::"])
    missing = any(_is_missing(value) for values in columns for value in values)
    return f"{text}\n\n– : {undefined}\n" if missing else f"{text}\n"


def _check_words(name: str, caption: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"name {name!r}: a label is lower case words joined by hyphens, for instance 'fig-convergence'")
    if not caption.strip():
        raise ConfigError(f"{name!r}: the caption is empty; say what is shown and for what data")


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(re.sub(r"(?<!\\)\|", r"\\|", " ".join(cell.split())) or " " for cell in cells) + " |"


def _cell(value: Any, digits: int) -> str:
    return estimate_text(value, digits) if isinstance(value, Estimate) else number(value, digits)


def _is_missing(value: Any) -> bool:
    if isinstance(value, Estimate):
        return value.n == 0
    return value is None or (isinstance(value, float) and math.isnan(value))


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
