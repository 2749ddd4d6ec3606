"""Study files: what a study asks, its parameters, its profiles, and its claims with rules fixed before the run.

study = load("baseline_study")
resolved = study.resolve("book", {"n_images": "20"})     # values, profile, exploratory
"""

import json
import os
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from xai_lib.compendium.parameters import Parameter, inside
from xai_lib.compendium.results import COLUMNS, read_results, save_results
from xai_lib.compendium.sources import notebook_defaults, read_yaml
from xai_lib.compendium.study_parts import Claim, Control, Deviation, Document, Exercise, Frozen, Profile
from xai_lib.errors import ConfigError, unknown

__all__ = ["COLUMNS", "Claim", "Exercise", "Profile", "Resolved", "Study", "load", "names", "notebook_defaults", "read_results"]
__all__ += ["read_yaml", "root", "save_results"]

NAME = re.compile(r"[a-z][a-z0-9_]{0,60}")
SMOKE = "smoke"


@dataclass(frozen=True)
class Resolved:
    """A complete set of parameters.

    values       every parameter, in the order of the study file
    profile      the registered profile these values are, or None
    exploratory  True when they are no registered profile: such a run gives no verdict
    base         the profile that was started from (its minutes bound the run)
    """

    values: dict[str, Any]
    profile: str | None
    exploratory: bool
    base: str


class Study(Frozen):
    """A study file, checked. `name` is the file's stem; its notebook lies beside it.

    One without `document` is a lesson: it explains or shows something, and tests no claim. `highlights` are the claims that
    the first page of the book names.
    """

    name: str
    path: Path
    title: str
    document: Document | None = None
    question: str
    why: str
    minutes: dict[str, float] = Field(default_factory=dict)
    prerequisites: tuple[str, ...] = ()
    goals: tuple[str, ...] = ()
    parameters: dict[str, Parameter]
    profiles: dict[str, Profile]
    claims: tuple[Claim, ...] = ()
    highlights: tuple[str, ...] = ()
    deviations: tuple[Deviation, ...] = ()
    controls: tuple[Control, ...] = ()
    limits: tuple[str, ...] = ()
    questions: tuple[Any, ...] = ()
    exercises: tuple[Exercise, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _minutes_once(cls, value: Any) -> Any:
        """Minutes may stand in `minutes` or in the profiles; both places must agree."""
        if not isinstance(value, dict) or not isinstance(value.get("profiles"), dict):
            return value
        minutes = value.get("minutes") or {}
        profiles = {k: dict(p) if isinstance(p, dict) else p for k, p in value["profiles"].items()}
        for name, given in minutes.items() if isinstance(minutes, dict) else ():
            if name not in profiles:
                raise unknown("profile in minutes", name, profiles)
            if isinstance(profiles[name], dict) and profiles[name].setdefault("minutes", given) != given:
                raise ConfigError(
                    f"minutes.{name}: found {given!r}, but profiles.{name}.minutes is {profiles[name]['minutes']!r}"
                )
        return {**value, "profiles": profiles}

    @model_validator(mode="after")
    def _consistent(self) -> "Study":
        if SMOKE not in self.profiles:
            raise ConfigError(f"profiles: found {', '.join(self.profiles) or 'none'}, expected a profile {SMOKE!r}")
        if self.document is None and (self.claims or self.deviations):
            raise ConfigError("document: missing, and required where there are claims or deviations; a lesson has neither")
        ids = [claim.id for claim in self.claims]
        if len(set(ids)) != len(ids):
            raise ConfigError(f"claims: ids repeat in {', '.join(ids)}; each claim needs its own")
        for name in self.highlights:
            if name not in ids:
                raise unknown("claim in highlights", name, ids)
        for name in self.profiles:
            self.profile_values(name)
        return self

    @property
    def root(self) -> Path:
        """The repository that the study belongs to; paths in its parameters stay under it."""
        return self.path.parents[1]

    @property
    def notebook(self) -> Path:
        """The study's notebook, beside its study file."""
        return self.path.with_suffix(".ipynb")

    @property
    def publishable(self) -> list[str]:
        """The profiles whose runs the book shows: those with verdicts; of a lesson, all but smoke."""
        lesson = self.document is None
        return [name for name, own in self.profiles.items() if own.verdicts or (lesson and name != SMOKE)]

    def profile_values(self, profile: str) -> dict[str, Any]:
        """Every parameter's value under a profile, converted; registered names are not looked up yet.

        Raises:
            ConfigError: unknown profile, or a value that does not fit its parameter.
        """
        if profile not in self.profiles:
            raise unknown(f"profile of {self.name}", profile, self.profiles)
        own = self.profiles[profile].values
        for name in own:
            if name not in self.parameters:
                raise unknown(f"parameter in profiles.{profile}.values", name, self.parameters)
        return self._converted({name: own.get(name, p.default) for name, p in self.parameters.items()})

    def resolve(self, profile: str | None = None, overrides: Mapping[str, Any] | None = None) -> Resolved:
        """The full set of parameters for a run, checked to the last name before anything starts.

        Args:
            profile: where to start from; "smoke" when None.
            overrides: single parameters, as typed values or as text from the command line.

        Raises:
            ConfigError: unknown profile, parameter, method, model...; wrong type; out of range.
        """
        base = profile or SMOKE
        values = self.profile_values(base)
        for name in overrides or {}:
            if name not in self.parameters:
                raise unknown(f"parameter of {self.name}", name, self.parameters)
        values |= self._converted(dict(overrides or {}))
        for name, value in values.items():
            self.parameters[name].check_registered(name, value)
        order = [base, *(other for other in self.profiles if other != base)]
        matching = next((name for name in order if _same(values, self.profile_values(name))), None)
        return Resolved(values, matching, matching is None, base)

    def _converted(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self.parameters[name].convert(name, value, root=self.root) for name, value in values.items()}

    def check_notebook(self) -> None:
        """The notebook's `parameters` cell must hold exactly the study's parameters, at their smoke values.

        Raises:
            ConfigError: it does not; names each difference.
        """
        found = notebook_defaults(self.notebook)
        expected = self.profile_values(SMOKE)
        missing, extra = expected.keys() - found.keys(), found.keys() - expected.keys()
        different = [name for name in expected.keys() & found.keys() if not _same(expected[name], found[name])]
        wrong = [f"{name} is missing" for name in sorted(missing)] + [
            f"{name} is not in the study file" for name in sorted(extra)
        ]
        wrong += [f"{name} = {found[name]!r}, study file {expected[name]!r}" for name in sorted(different)]
        if wrong:
            raise ConfigError(f"{self.notebook.name}: the parameters cell and {self.path.name} disagree: {'; '.join(wrong)}")


def _same(a: Any, b: Any) -> bool:
    """Equal as JSON, so that 1, 1.0 and True are three things."""
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


def root() -> Path:
    """The repository's root: the parent of the package, or $XAI_ROOT."""
    return Path(os.environ.get("XAI_ROOT") or Path(__file__).parents[2]).resolve()


def names(*, place: Path | None = None) -> list[str]:
    """The studies of this repository (or of the one at `place`): every notebooks/<study>.yml."""
    return sorted(path.stem for path in ((place or root()) / "notebooks").glob("*.yml") if NAME.fullmatch(path.stem))


def load(name_or_path: str | Path, *, place: Path | None = None) -> Study:
    """A study file by its study's name, or by a path under the repository.

    Args:
        name_or_path: "baseline_study", or notebooks/baseline_study.yml.
        place: the repository; `root()` when None.

    Raises:
        ConfigError: unknown study, unreadable YAML, or a value that does not fit: names file, key path, found, expected.
    """
    repository, text = (place or root()).resolve(), str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(".yml"):
        path = inside(repository, text)
    elif text not in names(place=repository):
        raise unknown("study", name_or_path, names(place=repository))
    else:
        path = repository / "notebooks" / f"{text}.yml"
    if not NAME.fullmatch(path.stem):
        raise ConfigError(f"study file {path.name!r}: a study is named by lower-case letters, digits and _")
    content = read_yaml(path)
    for reserved in content.keys() & {"name", "path"}:
        raise ConfigError(f"{path.name}: {reserved}: unknown key; the study is named by its file")
    try:
        return Study.model_validate({**content, "name": path.stem, "path": path})
    except ValidationError as error:
        raise ConfigError(f"{path.name}: " + "; ".join(_describe(item) for item in error.errors()[:5])) from None
    except ConfigError as error:
        raise ConfigError(f"{path.name}: {error}") from None


def _describe(item: Any) -> str:
    """One pydantic error as key path, found, expected."""
    place = ".".join(map(str, item["loc"]))
    if item["type"] == "extra_forbidden":
        return f"{place}: unknown key"
    if item["type"] == "missing":
        return f"{place}: missing, and required"
    found = reprlib.repr(item["input"])
    expected = re.sub(r"^(Input|Value) should ", "", item["msg"])
    return f"{place}: found {found if len(found) <= 60 else found[:57] + '...'}, expected it to {expected}"
