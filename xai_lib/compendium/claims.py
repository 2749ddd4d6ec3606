"""Verdicts: computed from the results of a run by the rule in the study file, never typed.

The interval decides, not the point: 95 % bootstrap over images. How each rule is decided is in `decisions`.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd

from xai_lib.compendium import rules
from xai_lib.compendium.decisions import (
    CONTRADICTED,
    DIRECTION,
    NOT_REPRODUCED,
    NOT_TESTED,
    REASONS,
    REPRODUCED,
    VERDICTS,
    Outcome,
    decide,
    number,
)
from xai_lib.compendium.study import Claim, Study
from xai_lib.errors import ConfigError, unknown

EXPLORATORY = "exploratory"
__all__ = ["CONTRADICTED", "DIRECTION", "EXPLORATORY", "NOT_REPRODUCED", "NOT_TESTED", "REASONS", "REPRODUCED", "VERDICTS"]
__all__ += ["Verdict", "context", "judge", "verdict_table"]


@dataclass(frozen=True)
class Verdict:
    """One claim's verdict with what it rests on.

    verdict     one of VERDICTS, or "exploratory" (not a verdict) where the parameters are no registered profile
    reason      why a claim is not tested, out of REASONS; '' otherwise
    n           images (or seeds) that carried the decision
    effect, low, high   the difference or value with its 95 % interval; NaN where there is none
    difference  effect minus the document's number; NaN where it gives none
    detail      how it was decided, in one sentence with its numbers
    """

    id: str
    statement: str
    where: str
    published: str
    verdict: str
    reason: str
    n: int
    effect: float
    low: float
    high: float
    difference: float
    detail: str

    def record(self) -> dict[str, Any]:
        """The verdict as plain JSON (NaN becomes null)."""
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(self).items()}


def context() -> tuple[str | None, bool]:
    """Profile and exploratory flag of the run that this process belongs to; outside a run, the smoke profile."""
    profile = os.environ.get("XAI_PROFILE")
    return ("smoke", False) if profile is None else (profile or None, not profile)


def judge(study: Study, frame: pd.DataFrame, *, profile: str | None = None, exploratory: bool | None = None) -> list[Verdict]:
    """The verdict on every claim of a study.

    Args:
        study: the study file; its rules were fixed before the run.
        frame: the results table.
        profile: name of the registered profile that made it; None = as the environment of the run says.
        exploratory: True when the parameters are no registered profile; None = as the environment says.

    Returns:
        One verdict per claim, in order. Effects are computed even where there is no verdict.

    Raises:
        ConfigError: unknown profile, or neither a profile nor an exploratory run.
    """
    if profile is None and exploratory is None:
        profile, exploratory = context()
    if not exploratory and profile is None:
        raise ConfigError("judge: no profile given; pass a registered profile or exploratory=True")
    verdicts = [_verdict(claim, decide(claim, frame)) for claim in study.claims]
    if exploratory:
        return [_withheld(v, EXPLORATORY, "", "Exploratory run, not a verdict.") for v in verdicts]
    if profile not in study.profiles:
        raise unknown(f"profile of {study.name}", profile, study.profiles)
    if study.profiles[profile].verdicts:
        return verdicts
    never = {claim.id for claim in study.claims if isinstance(claim.rule, rules.NotTested)}
    why = f"The {profile} profile is too small for verdicts."
    return [v if v.id in never else _withheld(v, NOT_TESTED, "scale", why) for v in verdicts]


def _withheld(verdict: Verdict, instead: str, reason: str, why: str) -> Verdict:
    return replace(verdict, verdict=instead, reason=reason, detail=f"{why} {verdict.detail}")


def _verdict(claim: Claim, outcome: Outcome) -> Verdict:
    fields = {k: v for k, v in asdict(outcome).items() if k not in ("sign", "p")}
    return Verdict(id=claim.id, statement=claim.statement, where=claim.where, published=claim.published.text, **fields)


def verdict_table(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """The verdicts as the table that notebooks and pages show; texts only, one row per claim."""
    rows = [
        {
            "claim": v.id,
            "statement": v.statement,
            "verdict": "exploratory - not a verdict" if v.verdict == EXPLORATORY else v.verdict,
            "reason": v.reason,
            "n": str(v.n) if v.n else "",
            "effect": "" if math.isnan(v.effect) else number(v.effect),
            "95 % interval": "" if math.isnan(v.low) else f"{number(v.low)} to {number(v.high)}",
            "published": v.published,
            "difference": "" if math.isnan(v.difference) else number(v.difference),
            "decided by": v.detail,
        }
        for v in verdicts
    ]
    columns = [
        "claim",
        "statement",
        "verdict",
        "reason",
        "n",
        "effect",
        "95 % interval",
        "published",
        "difference",
        "decided by",
    ]
    return pd.DataFrame(rows, columns=columns)
