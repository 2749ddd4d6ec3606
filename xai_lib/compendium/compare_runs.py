"""Runs of one study read side by side, with paired differences to the first of them.

Every mean has its n and its interval. The unit is the image: several seeds of one image are averaged first (where no value is
of one image, the unit is the seed). Values pair by image and seed; by image alone where two runs share no seed.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from xai_lib import stats
from xai_lib.compendium import listing, study, sweep
from xai_lib.compendium.book_runs import read_run
from xai_lib.compendium.job import RUN
from xai_lib.compendium.results import RESULTS, read_results
from xai_lib.errors import ConfigError, StoreError, unknown
from xai_lib.stats import Estimate

GROUP = ("dataset", "model", "metric", "method")
Key: TypeAlias = tuple[str, str, str, str]
Values: TypeAlias = dict[tuple[str, int], float]
"""Values by image and seed."""


@dataclass(frozen=True)
class Side:
    """One run of a comparison: where it is, its record and its results."""

    shown: str
    record: Mapping[str, Any]
    table: pd.DataFrame


@dataclass(frozen=True)
class Row:
    """What one run says about one data set, model, metric and method.

    run         place of the run, from 1
    mean        over images; `dropped` counts undefined rows
    difference  this run minus the first, over the images of both; None where there is no pair
    p, p_holm   Wilcoxon's signed-rank test of that difference, as it is and corrected over all differences of the table
    """

    key: Key
    run: int
    mean: Estimate
    difference: Estimate | None = None
    p: float = math.nan
    p_holm: float = math.nan

    @property
    def metric(self) -> str:
        """What was measured."""
        return self.key[GROUP.index("metric")]

    @property
    def marked(self) -> bool:
        """Whether the interval of the difference excludes 0."""
        return self.difference is not None and (self.difference.low > 0 or self.difference.high < 0)


@dataclass(frozen=True)
class Comparison:
    """Runs of one study with what they have in common; `notes` are sentences on what was left out."""

    study: str
    sides: tuple[Side, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The heading of the comparison."""
        return f"Comparison of {len(self.sides)} runs of {self.study}"

    @property
    def tests(self) -> int:
        """How many differences were tested."""
        return sum(row.difference is not None for row in self.rows)

    def metric(self, asked: str | None = None) -> str:
        """The metric of the figure: as asked, or the one with most differences off 0, or the first.

        Raises:
            ConfigError: no such metric in two of the runs.
        """
        marks = {row.metric: 0 for row in self.rows}
        for row in self.rows:
            marks[row.metric] += row.marked
        if asked is not None and asked not in marks:
            raise unknown("metric (in at least two of the runs)", asked, marks)
        if not marks:
            raise ConfigError("nothing to draw: no data set, model, method and metric is in two of the runs")
        return asked or max(marks, key=lambda name: marks[name])


def compare(asked: Sequence[str | Path], root: Path | None = None) -> Comparison:
    """Read runs and compare each with the first.

    Args:
        asked: run folders, sweep folders (all their finished runs) and names of studies (their latest run); a run that is
            named twice counts once.
        root: the repository, against which folders are looked up too; `study.root()` when None.

    Raises:
        ConfigError: unknown run, runs of different studies, or fewer than two runs.
        StoreError: a record or a results table is damaged.
    """
    place = (root or study.root()).resolve()
    notes: list[str] = []
    found = [folder for text in asked for folder in _folders(str(text), place, notes)]
    sides = [_side(folder, place) for folder in dict.fromkeys(folder.resolve() for folder in found)]
    if len(sides) < 2:
        raise ConfigError(f"{len(sides)} run{'s' * (len(sides) != 1)} to compare, at least two are needed")
    names = list(dict.fromkeys(str(side.record["study"]) for side in sides))
    if len(names) > 1:
        raise ConfigError(f"the runs are of different studies ({', '.join(names)}); compare runs of one study")
    return Comparison(names[0], tuple(sides), tuple(_corrected(_rows([side.table for side in sides]))), tuple(notes))


def _folders(text: str, root: Path, notes: list[str]) -> list[Path]:
    for path in (Path(text), root / text):
        if (path / RUN).is_file():
            return [path]
        if (path / sweep.SWEEP).is_file():
            found, entries = sweep.finished_runs(path.resolve()), sweep.read(path)
            if not found:
                raise ConfigError(f"{text}: none of its {len(entries)} combinations is finished; go on with `xai sweep`")
            if len(found) < len(entries):
                notes.append(f"Sweep {path.name}: {len(found)} of {len(entries)} combinations are finished.")
            return found
    return [listing.find_run(text)]


def _side(folder: Path, root: Path) -> Side:
    run = read_run(folder, published=False)
    path = folder / RESULTS
    table = read_results(path)
    expected = run.record.get("results_sha256")
    if expected and hashlib.sha256(path.read_bytes()).hexdigest() != expected:
        raise StoreError(f"{path}: is not the file that {RUN} records; run the study again")
    shown = folder.relative_to(root).as_posix() if folder.is_relative_to(root) else folder.name
    return Side(shown, run.record, table)


def _rows(tables: Sequence[pd.DataFrame]) -> list[Row]:
    """Estimates of what at least two tables have, metric by metric, in the order in which they first appear."""
    groups = [_values(table) for table in tables]
    keys = [key for key in dict.fromkeys(key for own in groups for key in own) if sum(key in own for own in groups) > 1]
    blocks = {block: place for place, block in enumerate(dict.fromkeys(key[:3] for key in keys))}
    found = []
    for key in sorted(keys, key=lambda key: blocks[key[:3]]):
        first = groups[0].get(key)
        for place, own in enumerate(groups, start=1):
            if key in own:
                row = Row(key, place, _mean(own[key]))
                found.append(row if first is None or place == 1 else _against(row, first, own[key]))
    return found


def _values(table: pd.DataFrame) -> dict[Key, Values]:
    found: dict[Key, Values] = {}
    columns = (table[column].tolist() for column in (*GROUP, "sample", "seed", "value"))
    for dataset, model, metric, method, sample, seed, value in zip(*columns, strict=True):
        found.setdefault((dataset, model, metric, method), {})[sample, seed] = value
    return found


def _mean(values: Values) -> Estimate:
    undefined = sum(not math.isfinite(value) for value in values.values())
    return replace(stats.bootstrap_interval(list(_by_image(values).values())), dropped=undefined)


def _by_image(values: Values) -> dict[Any, float]:
    """The defined values, averaged by image, or by seed where no value is of one image."""
    part = 0 if any(sample for sample, _ in values) else 1
    units: dict[Any, list[float]] = {}
    for where, value in values.items():
        if math.isfinite(value):
            units.setdefault(where[part], []).append(value)
    return {unit: math.fsum(own) / len(own) for unit, own in units.items()}


def _against(row: Row, first: Values, own: Values) -> Row:
    """The row with its difference to the first run."""
    seeds, others = ({seed for _, seed in values} for values in (first, own))
    if seeds & others or not all(sample for sample, _ in (*first, *own)):
        shared = [where for where in first if math.isfinite(first[where]) and math.isfinite(own.get(where, math.nan))]
        first, own = ({where: values[where] for where in shared} for values in (first, own))
    reference, ours = _by_image(first), _by_image(own)
    pairs = np.array([(ours[unit], reference[unit]) for unit in reference if unit in ours])
    if not len(pairs):
        return row
    a, b = pairs.T
    return replace(row, difference=stats.paired_difference(a, b), p=stats.paired_test(a, b))


def _corrected(rows: Sequence[Row]) -> list[Row]:
    tested = [row.p for row in rows if row.difference is not None]
    adjusted = iter(stats.holm(tested).tolist()) if tested else iter(())
    return [row if row.difference is None else replace(row, p_holm=next(adjusted)) for row in rows]
