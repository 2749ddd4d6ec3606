"""Words, numbers and tables as the book writes them: one function each, used by every page and by the tests.

>>> number(0.0123456), number(-2.0), number(float("nan")), number(1234567.0)
('0.0123', '−2.00', '–', '1.23 × 10⁶')
>>> interval(0.5, 0.4, 0.612)
'0.500 [0.400, 0.612]'
"""

import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

VERDICTS: dict[str, tuple[str, str]] = {
    "reproduced": ("reproduced", "✔"),
    "reproduced in direction only": ("direction", "↗"),
    "not reproduced": ("not-reproduced", "○"),
    "contradicted": ("contradicted", "✖"),
    "not tested": ("not-tested", "–"),
}
"""The closed vocabulary: style class and symbol of each verdict, best first."""

_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def number(value: Any, digits: int = 3) -> str:
    """A number with `digits` significant digits and a true minus sign; a dash for None and NaN."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, float) and math.isnan(value):
        return "–"
    if isinstance(value, int) and abs(value) < 10**6:
        return str(value).replace("-", "−")
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{float(value):#.{digits}g}"
    if "e" in text:
        mantissa, _, power = text.partition("e")
        text = f"{mantissa} × 10{str(int(power)).translate(_SUPERSCRIPT)}"
    return text.rstrip(".").replace("-", "−")


def interval(value: Any, low: Any, high: Any) -> str:
    """An estimate with its interval; the interval is left out when either end is unknown."""
    ends = (number(low), number(high))
    return number(value) if "–" in ends else f"{number(value)} [{ends[0]}, {ends[1]}]"


def duration(seconds: Any) -> str:
    """Seconds as people say them.

    >>> duration(4.2), duration(75), duration(4000), duration(None)
    ('4.2 s', '1 min 15 s', '1 h 06 min', '–')
    """
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def badge(verdict: str, reason: str | None = "", *, count: int | None = None) -> str:
    """A verdict as an HTML span: symbol and words, so that colour is never the only carrier."""
    style, symbol = VERDICTS[verdict]
    because = f" ({html.escape(reason)})" if reason else ""
    times = "" if count is None else f"{count} "
    return f'<span class="xai-verdict xai-{style}"><span aria-hidden="true">{symbol}</span> {times}{verdict}{because}</span>'


def code(value: Any) -> str:
    """Inline code that survives backticks and table cells."""
    text = str(value).replace("\n", " ")
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") or not text else ""
    return f"{fence}{pad}{text or ' '}{pad}{fence}"


def cell(text: Any) -> str:
    """Text for one cell of a pipe table: pipes escaped, line breaks made spaces, a dash when there is nothing."""
    flat = " ".join(str("" if text is None else text).split())
    return re.sub(r"(?<!\\)\|", r"\\|", flat) or "–"


def table(header: Sequence[str], rows: Iterable[Sequence[Any]], *, caption: str = "", name: str = "") -> str:
    """A MyST table; with a caption it is numbered and can be referred to by `name`."""
    lines = ["| " + " | ".join(map(cell, header)) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(map(cell, row)) + " |" for row in rows]
    if not caption:
        return "\n".join(lines)
    options = [":class: xai-table", *([f":name: {name}"] if name else [])]
    return "\n".join([f":::{{table}} {caption}", *options, "", *lines, ":::"])


def tally(verdicts: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many of each verdict, in the order of the vocabulary, zeros included."""
    return {name: sum(1 for v in verdicts if v["verdict"] == name) for name in VERDICTS}


def headline(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """The answer first.

    >>> headline([{"verdict": "reproduced"}, {"verdict": "contradicted"}])
    '1 of 2 claims reproduced'
    """
    counts = tally(verdicts)
    claims = "claim" if len(verdicts) == 1 else "claims"
    extra = counts["reproduced in direction only"]
    also = f", {extra} more in direction only" if extra else ""
    return f"{counts['reproduced']} of {len(verdicts)} {claims} reproduced{also}"


def rule_sentence(rule: Mapping[str, Any]) -> str:
    """How a claim is decided, said in words from the rule of the study file.

    >>> rule_sentence({"kind": "greater", "metric": "sparseness", "method": "a", "versus": "b"})
    'paired difference of `sparseness`, “a” minus “b”: the interval must lie above 0'
    """
    kind, metric = rule.get("kind"), code(rule.get("metric", ""))
    method, versus = f"“{rule.get('method', '')}”", f"“{rule.get('versus', '')}”"
    where = "".join(f", {word} {code(rule[word])}" for word in ("model", "dataset") if rule.get(word))
    least = f", with at least {rule['min_n']} pairs" if rule.get("min_n") else ""
    if kind in ("greater", "less"):
        side = "above" if kind == "greater" else "below"
        return f"paired difference of {metric}, {method} minus {versus}{where}: the interval must lie {side} 0{least}"
    if kind in ("above", "below"):
        return f"{metric} of {method}{where}: the interval must lie {kind} {number(rule.get('threshold'))}{least}"
    if kind == "number":
        target = f"{number(rule.get('published'))} ± {number(rule.get('tolerance'))}"
        return f"{metric} of {method}{where}: the interval must lie inside {target}{least}"
    if kind == "equivalent":
        bound = number(rule.get("bound"))
        return f"difference of {metric}, {method} minus {versus}{where}: the interval must lie within ± {bound}{least}"
    if kind in ("at_least", "all"):
        parts = rule.get("of") or []
        wanted = f"at least {rule.get('k')} of these {len(parts)} must hold (Holm-corrected)"
        return f"{wanted if kind == 'at_least' else 'all of these must hold'}: " + "; ".join(map(rule_sentence, parts))
    return "not tested: " + " ".join(str(rule[word]) for word in ("reason", "note") if rule.get(word))
