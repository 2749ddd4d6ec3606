"""What a sweep is to run: the grid, checked, and what is known of it from earlier calls."""

import hashlib
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xai_lib.compendium import runner, study
from xai_lib.compendium.canonical import canonical
from xai_lib.compendium.job import QUARANTINED, RUN
from xai_lib.compendium.study import Resolved, Study
from xai_lib.errors import ConfigError, StoreError, unknown

SWEEP = "sweep.json"
DONE = (0, QUARANTINED)
MOST = 1000


@dataclass(frozen=True)
class Combination:
    """One point of the grid: the words that set it apart, and all its parameters."""

    text: str
    resolved: Resolved


@dataclass(frozen=True)
class Plan:
    """A checked request.

    profile  where the parameters start from
    digests  sha256 of the notebook and of the study file
    """

    study: Study
    profile: str | None
    combinations: tuple[Combination, ...]
    digests: Mapping[str, str]

    @property
    def id(self) -> str:
        """Twelve hex digits that stand for the study's files and the combinations."""
        content = {
            "study": self.study.name,
            **self.digests,
            "combinations": [combination.resolved.values for combination in self.combinations],
        }
        return hashlib.sha256(canonical(content)).hexdigest()[:12]

    @property
    def runs(self) -> Path:
        """Where the runs of the study are."""
        return self.study.root / "runs" / self.study.name

    @property
    def folder(self) -> Path:
        """Where the sweep keeps its state."""
        return self.runs / "sweeps" / self.id


@dataclass
class Entry:
    """What became of one combination; `exit_code` is None until its run has ended."""

    combination: str
    parameters: dict[str, Any]
    run: str | None = None
    exit_code: int | None = None
    seconds: float | None = None
    message: str = ""


def alternatives(name: str, text: str, *, separator: str) -> list[str]:
    """The values in the text of one -p; a separator inside of {} or [] separates nothing.

    Raises:
        ConfigError: brackets that do not match, or an empty value between separators.

    >>> alternatives("baseline", "black, {blur: {sigma: 2, size: 3}}", separator=",")
    ['black', '{blur: {sigma: 2, size: 3}}']
    """
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if depth < 0:
            break
        if letter == separator and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    if depth:
        raise ConfigError(f"-p {name}={text}: brackets do not match; write {{name: {{parameter: value}}}} or [1, 2]")
    parts = [part.strip() for part in parts]
    if len(parts) > 1 and not all(parts):
        raise ConfigError(f"-p {name}={text}: an empty value; separate the values by single {separator!r}")
    return parts


def grid(studied: Study, texts: Sequence[str]) -> dict[str, list[str]]:
    """The values of each varied parameter, from NAME=VALUE,VALUE (lists: NAME=1,2;3,4).

    Raises:
        ConfigError: no NAME=VALUE, an unknown parameter, or one that is given twice.
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not name:
            raise ConfigError(f"-p {text!r}: expected NAME=VALUE,VALUE")
        if name not in studied.parameters:
            raise unknown(f"parameter of {studied.name}", name, studied.parameters)
        if name in found:
            raise ConfigError(f"-p {name}: given twice; give all its values at once")
        separator = ";" if studied.parameters[name].type.startswith("list[") else ","
        found[name] = alternatives(name, values, separator=separator)
    return found


def plan(
    asked: str | Path,
    varied: Sequence[str],
    *,
    profile: str | None = None,
    fixed: Mapping[str, Any] | None = None,
    root: Path | None = None,
) -> Plan:
    """Every combination, checked before anything starts.

    Args:
        asked: name or path of the study.
        varied: texts NAME=VALUE,VALUE; the first one varies slowest.
        profile: where the parameters start from; "smoke" when None.
        fixed: further parameters, the same in every combination.
        root: the repository; `study.root()` when None.

    Raises:
        ConfigError: a value that does not fit, named with its combination; two equal combinations; or more than 1,000.
    """
    loaded = study.load(asked, place=root)
    runner.prepare(loaded, profile=profile, overrides=fixed)
    values = grid(loaded, varied)
    total = math.prod(map(len, values.values()))
    if total > MOST:
        raise ConfigError(f"{total} combinations, at most {MOST} in one sweep; give fewer values")
    made: list[Combination] = []
    places: dict[bytes, int] = {}
    for place, point in enumerate(itertools.product(*values.values()), start=1):
        own = dict(zip(values, point, strict=True))
        words = ", ".join(f"{name}={text}" for name, text in own.items()) or "as given"
        try:
            _, resolved = runner.prepare(loaded, profile=profile, overrides={**(fixed or {}), **own})
        except ConfigError as error:
            raise ConfigError(f"combination {place} of {total} ({words}): {error}") from None
        former = places.setdefault(canonical(resolved.values), place)
        if former != place:
            raise ConfigError(f"combinations {former} and {place} of {total} ({words}) are the same; give each value once")
        made.append(Combination(words, resolved))
    return Plan(loaded, profile, tuple(made), digests(loaded))


def digests(studied: Study) -> dict[str, str]:
    """sha256 of the notebook and of the study file.

    Raises:
        ConfigError: one cannot be read.
    """
    paths = {"notebook_sha256": studied.notebook, "study_sha256": studied.path}
    try:
        return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in paths.items()}
    except OSError as error:
        raise ConfigError(f"{studied.name}: its files cannot be read: {error.strerror}") from None


def read(folder: Path) -> list[Entry]:
    """The entries of a sweep folder, in the order of its combinations.

    Raises:
        StoreError: sweep.json cannot be read.
    """
    path = folder / SWEEP
    try:
        return [Entry(**item) for item in json.loads(path.read_text(encoding="utf-8"))["combinations"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); remove it to run all combinations again") from None


def finished_runs(folder: Path) -> list[Path]:
    """The run folders of a sweep's finished combinations, in the order of the combinations.

    Raises:
        StoreError: sweep.json cannot be read.
    """
    return [folder.parents[1] / str(entry.run) for entry in read(folder) if is_known(folder.parents[1], entry)]


def is_known(runs: Path, entry: Entry) -> bool:
    """Whether the combination has a finished run that is still there."""
    return entry.exit_code in DONE and bool(entry.run) and (runs / str(entry.run) / RUN).is_file()


def entries_of(plan: Plan) -> list[Entry]:
    """The state of each combination: as an earlier call left it where that still holds, otherwise to be run."""
    earlier = read(plan.folder) if (plan.folder / SWEEP).exists() else []
    kept = {canonical(entry.parameters): entry for entry in earlier if is_known(plan.runs, entry)}
    fresh = [Entry(combination.text, combination.resolved.values) for combination in plan.combinations]
    return [kept.get(canonical(entry.parameters), entry) for entry in fresh]
