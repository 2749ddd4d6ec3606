"""Rules of claims, as a study file states them before the run. Numbers are in `claims`.

Each rule reads rows of results.csv by exact `metric` and `method` (and `model`, `dataset` where given).
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Reason = Literal["scale", "data not available", "underspecified", "budget", "bug found"]
LEAST_UNITS = 10


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Measured(_Frozen):
    """Which rows, and how many images are needed for a verdict."""

    metric: str
    method: str
    model: str | None = None
    dataset: str | None = None
    min_n: int = Field(default=LEAST_UNITS, ge=2)
    statistic: Literal["mean", "median"] = "mean"


class Paired(_Measured):
    """A difference method - versus, paired by image (rows of several seeds are averaged first).

    published  the document's difference (method - versus); taken from `published.values` when both labels are there
    tolerance  how far outside our interval the published difference may lie
    """

    versus: str
    published: float | None = None
    tolerance: float = Field(default=0.0, ge=0)


class Greater(Paired):
    """`method` has the larger value than `versus`."""

    kind: Literal["greater"]


class Less(Paired):
    """`method` has the smaller value than `versus`."""

    kind: Literal["less"]


class Number(_Measured):
    """The value is `published` within `tolerance` (absolute): our whole interval must lie inside."""

    kind: Literal["number"]
    published: float | None = None
    tolerance: float = Field(ge=0)


class Above(_Measured):
    """The value exceeds `threshold`."""

    kind: Literal["above"]
    threshold: float


class Below(_Measured):
    """The value stays under `threshold`."""

    kind: Literal["below"]
    threshold: float


class Equivalent(_Measured):
    """`method` and `versus` differ by less than `bound`: our whole interval must lie inside."""

    kind: Literal["equivalent"]
    versus: str
    bound: float = Field(gt=0)


class NotTested(_Frozen):
    """The claim is not tested, for a reason out of the closed list."""

    kind: Literal["not_tested"]
    reason: Reason
    note: str = Field(min_length=3)


Directional = Annotated[Greater | Less | Above | Below, Field(discriminator="kind")]
Simple = Annotated[Greater | Less | Number | Above | Below | Equivalent, Field(discriminator="kind")]


class AtLeast(_Frozen):
    """At least `k` of the sub-rules hold, each by its interval and by a Wilcoxon p below 0.05 after Holm's correction."""

    kind: Literal["at_least"]
    k: int = Field(ge=1)
    of: tuple[Directional, ...] = Field(min_length=2)


class All(_Frozen):
    """Every sub-rule is reproduced."""

    kind: Literal["all"]
    of: tuple[Simple, ...] = Field(min_length=1)


Measured = Greater | Less | Number | Above | Below | Equivalent
Rule = Annotated[Greater | Less | Number | Above | Below | Equivalent | AtLeast | All | NotTested, Field(discriminator="kind")]


def parts(rule: Any) -> tuple[Measured, ...]:
    """The simple rules that a rule consists of; none for `not_tested`."""
    if isinstance(rule, NotTested):
        return ()
    return tuple(rule.of) if isinstance(rule, AtLeast | All) else (rule,)
