"""The parts of a study file: document, profiles, claims, deviations, controls, exercises."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from xai_lib.compendium.rules import Rule


class Frozen(BaseModel):
    """A part of a study file: checked, and nothing unknown in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Document(Frozen):
    """The source document of a study; `cite` is its key in book/references.bib."""

    id: str
    title: str
    authors: str | tuple[str, ...]
    year: int
    cite: str


class Profile(Frozen):
    """A registered set of parameters.

    minutes   expected on the machine the profile is meant for; three times this is the run's limit
    verdicts  whether its results are large enough to judge the claims
    needs     data sets that are not packaged
    values    parameters that differ from their defaults
    """

    minutes: float = Field(gt=0)
    verdicts: bool
    needs: tuple[str, ...] = ()
    values: dict[str, Any] = {}


class Published(Frozen):
    """What the document reports: in words, and as numbers by the label of the condition."""

    text: str
    values: dict[str, float] = {}


class Claim(Frozen):
    """One claim, where it stands in the document, and the rule that decides it."""

    id: str
    where: str
    statement: str
    metric: str
    published: Published
    rule: Rule


class Deviation(Frozen):
    """Where the study differs from the document, why, and what that is expected to change."""

    what: str
    document: str
    here: str
    reason: str
    effect: str


class Control(Frozen):
    """A score that the page of controls shows: what maps that know no model get, beside what methods get.

    title     what the score is, for readers
    metric    its name in the results
    of        the registered metric, where the results call it otherwise
    better    whether larger or smaller values are
    controls  labels of maps that know no model
    controls_metric  the controls' own name of the score in the results, where it is another
    methods   labels that they are compared with
    dataset, model  where results hold more than one
    """

    title: str
    metric: str
    controls_metric: str | None = None
    of: str | None = None
    better: Literal["larger", "smaller"] = "larger"
    controls: tuple[str, ...] = Field(min_length=1)
    methods: tuple[str, ...] = Field(min_length=1)
    dataset: str | None = None
    model: str | None = None


class Exercise(Frozen):
    """Something to do with a chapter, and how it comes out.

    level     predict (think before looking), change (another parameter of the run), extend (write code)
    minutes   for someone who meets the goals of the chapter
    task      what to do; commands in backticks are `xai run ...` as they can be typed
    solution  folded on the page; Python blocks in it are run by a test, in order, on packaged data
    """

    level: Literal["predict", "change", "extend"]
    minutes: int = Field(gt=0, le=240)
    task: str = Field(min_length=1)
    solution: str = Field(min_length=1)
