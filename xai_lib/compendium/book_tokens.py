"""Numbers in prose: tokens in markdown cells are replaced by values from results.csv and run.json.

    ⟦mean metric=sparseness; method=uniform x5 mean; format=.3f⟧
    ⟦claim A6b effect⟧   ⟦claim A6b verdict⟧   ⟦parameter n_images⟧

The first word is a statistic (mean, median, sd, min, max, n, interval); the conditions select rows of results.csv by
`metric`, `method` and, where needed, `model` and `dataset` (exact strings). `interval` is the mean with its 95 % bootstrap
interval. A token that names nothing is an error: a page never shows a hole.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from xai_lib.compendium.book_words import badge, interval, number
from xai_lib.errors import ConfigError, unknown

TOKEN = re.compile(r"⟦([^⟦⟧]*)⟧")
COLUMNS = ("metric", "method", "model", "dataset")


def _interval(values: pd.Series) -> str:
    from xai_lib import stats

    estimate = stats.bootstrap_interval(values.to_numpy())
    return interval(float(estimate.value), float(estimate.low), float(estimate.high))


STATISTICS: dict[str, Callable[[pd.Series], Any]] = {
    "mean": lambda v: float(v.mean()),
    "median": lambda v: float(v.median()),
    "sd": lambda v: float(v.std()),
    "min": lambda v: float(v.min()),
    "max": lambda v: float(v.max()),
    "n": lambda v: int(v.notna().sum()),
    "interval": _interval,
}


def fill(text: str, results: pd.DataFrame, record: Mapping[str, Any]) -> str:
    """The text with every token replaced.

    Args:
        text: markdown.
        results: the results table of the run.
        record: run.json.

    Raises:
        ConfigError: a token that cannot be read, or that selects no value.
    """
    filled = TOKEN.sub(lambda match: _value(match.group(1).strip(), results, record), text)
    if "⟦" in filled or "⟧" in filled:
        at = max(filled.find("⟦"), filled.find("⟧"))
        raise ConfigError(f"unbalanced number token near {filled[max(0, at - 20) : at + 40]!r}; write ⟦statistic key=value; …⟧")
    return filled


def _value(token: str, results: pd.DataFrame, record: Mapping[str, Any]) -> str:
    word, _, rest = token.partition(" ")
    if word == "claim":
        return _claim(token, rest.split(), record)
    if word == "parameter":
        parameters = record["parameters"]
        if rest.strip() not in parameters:
            raise unknown("parameter in a number token", rest.strip(), parameters)
        return str(parameters[rest.strip()])
    if word not in STATISTICS:
        raise unknown("statistic in a number token", word, [*STATISTICS, "claim", "parameter"])
    pairs = dict(part.split("=", 1) for part in rest.split(";") if "=" in part)
    conditions = {key.strip(): value.strip() for key, value in pairs.items()}
    style = conditions.pop("format", None)
    for key in conditions:
        if key not in COLUMNS:
            raise unknown("condition in a number token", key, [*COLUMNS, "format"])
    rows = results
    for key, wanted in conditions.items():
        rows = rows[rows[key] == wanted]
    if "metric" not in conditions or rows["value"].dropna().empty:
        known = ", ".join(sorted({f"{m}/{k}" for m, k in zip(results["metric"], results["method"], strict=True)})[:12])
        raise ConfigError(f"number token ⟦{token}⟧ selects no value; results.csv has (metric/method): {known or '(no rows)'}")
    return _formatted(STATISTICS[word](rows["value"].dropna()), style, token)


def _formatted(value: Any, style: str | None, token: str) -> str:
    if style is None or isinstance(value, str):
        return number(value)
    try:
        return format(value, style).replace("-", "−")
    except ValueError as error:
        raise ConfigError(f"number token ⟦{token}⟧: format {style!r} does not fit ({error}); write for example .3f") from error


def _claim(token: str, words: list[str], record: Mapping[str, Any]) -> str:
    verdicts = {str(verdict["id"]): verdict for verdict in record["verdicts"]}
    if len(words) != 2:
        raise ConfigError(f"number token ⟦{token}⟧: write ⟦claim ID effect⟧, ⟦claim ID n⟧ or ⟦claim ID verdict⟧")
    name, what = words
    if name not in verdicts:
        if not verdicts:
            return "(no verdict in this run)"
        raise unknown("claim in a number token", name, verdicts)
    verdict = verdicts[name]
    if what == "effect":
        return interval(verdict.get("effect"), verdict.get("low"), verdict.get("high"))
    if what == "verdict":
        return badge(verdict["verdict"], verdict.get("reason"))
    if what == "n":
        return number(verdict.get("n"))
    raise unknown("word in a claim token", what, ["effect", "n", "verdict"])
