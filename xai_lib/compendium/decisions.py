"""How a rule is decided: rows are paired, estimated, and the interval is compared with what the rule says.

Rows are paired by data set, model, image and seed, wherever they stand in the table; several seeds or models of one image are
averaged first, so that n counts images (or seeds, where no value is of one image).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from xai_lib import stats
from xai_lib.compendium import rules
from xai_lib.compendium.study import Claim
from xai_lib.errors import ConfigError

REPRODUCED = "reproduced"
DIRECTION = "reproduced in direction only"
NOT_REPRODUCED = "not reproduced"
CONTRADICTED = "contradicted"
NOT_TESTED = "not tested"
VERDICTS = (REPRODUCED, DIRECTION, NOT_REPRODUCED, CONTRADICTED, NOT_TESTED)
REASONS = ("scale", "data not available", "underspecified", "budget", "bug found")
LEVEL = 0.05


@dataclass(frozen=True)
class Outcome:
    """What one rule gives. `sign` is the direction shown by the interval: 1 as claimed, -1 opposite, 0 undecided."""

    verdict: str
    detail: str
    reason: str = ""
    n: int = 0
    effect: float = math.nan
    low: float = math.nan
    high: float = math.nan
    difference: float = math.nan
    sign: int = 0
    p: float = math.nan


def decide(claim: Claim, frame: pd.DataFrame) -> Outcome:
    """What the claim's rule says about these results."""
    rule = claim.rule
    match rule:
        case rules.NotTested():
            return Outcome(NOT_TESTED, rule.note, reason=rule.reason)
        case rules.AtLeast():
            return _at_least(rule, [_measured(claim, sub, frame) for sub in rule.of])
        case rules.All():
            return _all([_measured(claim, sub, frame) for sub in rule.of])
    return _measured(claim, rule, frame)


def _rows(rule: rules.Measured, method: str, frame: pd.DataFrame) -> pd.DataFrame:
    chosen = (frame["metric"] == rule.metric) & (frame["method"] == method)
    for column, wanted in (("model", rule.model), ("dataset", rule.dataset)):
        if wanted is not None:
            chosen &= frame[column] == wanted
    return frame[chosen]


def _per_unit(rule: rules.Measured, frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, int]:
    """Values of `method` and (where the rule compares) of `versus`, one per image, and the number of rows left out."""
    keys = ["dataset", "model", "sample", "seed"]
    joined = _rows(rule, rule.method, frame)[[*keys, "value"]].rename(columns={"value": "a"})
    if isinstance(rule, rules.Paired | rules.Equivalent):
        other = _rows(rule, rule.versus, frame)[[*keys, "value"]].rename(columns={"value": "b"})
        joined = joined.merge(other, on=keys)
    else:
        joined = joined.assign(b=0.0)
    usable = joined[np.isfinite(joined["a"]) & np.isfinite(joined["b"])]
    unit = ["dataset", "sample"] if (usable["sample"] != "").any() else ["dataset", "model", "seed"]
    means = usable.groupby(unit, sort=True)[["a", "b"]].mean()
    return means["a"].to_numpy(float), means["b"].to_numpy(float), len(joined) - len(usable)


def _measured(claim: Claim, rule: rules.Measured, frame: pd.DataFrame) -> Outcome:
    """A simple rule: estimate, then the verdict by its kind."""
    for method in (rule.method, getattr(rule, "versus", rule.method)):
        if _rows(rule, method, frame).empty:
            place = "".join(f", {w}" for w in (rule.model, rule.dataset) if w)
            return Outcome(NOT_TESTED, f"No row of {rule.metric} for {method!r}{place}.", reason="data not available")
    a, b, dropped = _per_unit(rule, frame)
    if not len(a):
        return Outcome(NOT_TESTED, f"No defined pair of {rule.metric} ({_condition(rule)}).", reason="data not available")
    estimate = stats.bootstrap_interval(a - b, statistic=rule.statistic)
    goal = _published(claim, rule)
    verdict, words, sign = _by_kind(rule, estimate, goal)
    left_out = f", {dropped} undefined rows left out" if dropped else ""
    shown = f"{rule.statistic} {number(estimate.value)}, 95 % interval {_interval(estimate)}, n = {len(a)}{left_out}"
    outcome = Outcome(
        verdict,
        f"{rule.metric}: {_condition(rule)}: {shown}; {words}.",
        n=len(a),
        effect=estimate.value,
        low=estimate.low,
        high=estimate.high,
        difference=estimate.value - goal if goal is not None else math.nan,
        sign=sign,
        p=_p(rule, a, b),
    )
    if len(a) < rule.min_n:
        detail = f"{outcome.detail[:-1]}, but n is below the {rule.min_n} that the rule asks."
        return replace(outcome, verdict=NOT_TESTED, reason="scale", detail=detail, sign=0, p=math.nan)
    return outcome


def _by_kind(rule: rules.Measured, estimate: stats.Estimate, goal: float | None) -> tuple[str, str, int]:
    """Verdict, its reason in words, and the direction that the interval shows."""
    low, high = estimate.low, estimate.high
    match rule:
        case rules.Greater() | rules.Less():
            sign = _side(low, high, 0.0) * (1 if isinstance(rule, rules.Greater) else -1)
            if sign == 1 and goal is not None and not low - rule.tolerance <= goal <= high + rule.tolerance:
                return DIRECTION, f"the sign is as claimed, but the published {number(goal)} lies outside", sign
            agrees = "" if goal is None else f", and the published {number(goal)} lies inside"
            words = {1: f"the interval is off 0 as claimed{agrees}", 0: "the interval contains 0"}
            return _three(sign), words.get(sign, "the interval is off 0 on the other side"), sign
        case rules.Above() | rules.Below():
            sign = _side(low, high, rule.threshold) * (1 if isinstance(rule, rules.Above) else -1)
            words = {1: "the interval lies on the claimed side", 0: "the interval contains the threshold"}
            return _three(sign), f"{words.get(sign, 'the interval lies on the other side')} ({number(rule.threshold)})", sign
        case rules.Equivalent():
            band, centre = rule.bound, 0.0
        case rules.Number():
            if goal is None:
                raise ConfigError(f"rule number on {rule.metric!r}: no `published` number, and none for {rule.method!r}")
            band, centre = rule.tolerance, goal
    sign = _within(low, high, centre - band, centre + band)
    words = {1: "the interval lies inside", 0: "the interval reaches out of"}
    return _three(sign), f"{words.get(sign, 'the interval lies outside')} {number(centre)} +- {number(band)}", sign


def _three(sign: int) -> str:
    return {1: REPRODUCED, 0: NOT_REPRODUCED, -1: CONTRADICTED}[sign]


def _side(low: float, high: float, threshold: float) -> int:
    """1 when the interval lies above the threshold, -1 below, 0 when it touches it (or is undefined)."""
    return int(low > threshold) - int(high < threshold)


def _within(low: float, high: float, start: float, end: float) -> int:
    """1 when the interval lies inside [start, end], -1 when they are disjoint, 0 otherwise."""
    if low >= start and high <= end:
        return 1
    return -1 if high < start or low > end else 0


def _published(claim: Claim, rule: rules.Measured) -> float | None:
    """The document's number for what the rule estimates."""
    values = claim.published.values
    if isinstance(rule, rules.Paired):
        both = rule.method in values and rule.versus in values
        return rule.published if rule.published is not None or not both else values[rule.method] - values[rule.versus]
    if isinstance(rule, rules.Number):
        return rule.published if rule.published is not None else values.get(rule.method)
    return None


def _p(rule: rules.Measured, a: np.ndarray, b: np.ndarray) -> float:
    """Wilcoxon's p that the values are symmetric about the other condition, or about the threshold."""
    if isinstance(rule, rules.Above | rules.Below):
        b = np.full(len(a), rule.threshold)
    return stats.paired_test(a, b) if isinstance(rule, rules.Paired | rules.Above | rules.Below) else math.nan


def _at_least(rule: rules.AtLeast, outcomes: Sequence[Outcome]) -> Outcome:
    """Count the sub-rules that hold after Holm's correction; missing ones may still decide nothing."""
    adjusted = stats.holm([outcome.p for outcome in outcomes])
    signs = [outcome.sign if p < LEVEL else 0 for outcome, p in zip(outcomes, adjusted, strict=True)]
    held, opposite = signs.count(1), signs.count(-1)
    missing = sum(outcome.verdict == NOT_TESTED for outcome in outcomes)
    total = len(outcomes)
    n = min((outcome.n for outcome in outcomes if outcome.verdict != NOT_TESTED), default=0)
    tally = (
        f"{held} of {total} hold, {opposite} go the other way, {missing} not tested; {rule.k} are needed (Holm, p < {LEVEL})"
    )
    detail = f"{tally}. " + " ".join(
        f"[{'+-'[sign < 0] if sign else '0'}{'' if math.isnan(p) else f' p = {p:.3g}'}] {outcome.detail}"
        for sign, p, outcome in zip(signs, adjusted, outcomes, strict=True)
    )
    verdict, reason = NOT_REPRODUCED, ""
    if held >= rule.k:
        verdict = REPRODUCED
    elif opposite > total - rule.k:
        verdict = CONTRADICTED
    elif held + missing >= rule.k:
        verdict, reason = NOT_TESTED, next(outcome.reason for outcome in outcomes if outcome.verdict == NOT_TESTED)
    return Outcome(verdict, detail, reason=reason, n=n, effect=float(held))


def _all(outcomes: Sequence[Outcome]) -> Outcome:
    """The weakest of the sub-verdicts; numbers are those of the sub-rule that decided (the first, when all agree)."""
    for verdict in (CONTRADICTED, NOT_TESTED, NOT_REPRODUCED, DIRECTION, REPRODUCED):
        decisive = next((outcome for outcome in outcomes if outcome.verdict == verdict), None)
        if decisive is not None:
            break
    else:
        raise ConfigError("rule all: no sub-rule given")
    held = sum(outcome.verdict in (REPRODUCED, DIRECTION) for outcome in outcomes)
    detail = f"{held} of {len(outcomes)} parts hold, all are needed. " + " ".join(outcome.detail for outcome in outcomes)
    return replace(decisive, detail=detail)


def _condition(rule: rules.Measured) -> str:
    match rule:
        case rules.Greater():
            text = f"{rule.method} > {rule.versus}"
        case rules.Less():
            text = f"{rule.method} < {rule.versus}"
        case rules.Equivalent():
            text = f"{rule.method} = {rule.versus} within {number(rule.bound)}"
        case rules.Above():
            text = f"{rule.method} above {number(rule.threshold)}"
        case rules.Below():
            text = f"{rule.method} below {number(rule.threshold)}"
        case _:
            text = rule.method
    place = ", ".join(word for word in (rule.model, rule.dataset) if word)
    return f"{text} ({place})" if place else text


def number(value: float) -> str:
    """Four significant digits, or "undefined"."""
    return "undefined" if math.isnan(value) else f"{value:.4g}"


def _interval(estimate: stats.Estimate) -> str:
    return f"[{number(estimate.low)}, {number(estimate.high)}]"
