"""The page of cross-study questions: what several published runs say together, computed when the book is built.

`book/cross_study.yml` names the scores; a study without a published run is left out of the tables and named under them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field, ValidationError

from xai_lib import stats
from xai_lib.compendium.book_controls import HEAD as CONTROL_HEAD
from xai_lib.compendium.book_controls import by_label, modelless
from xai_lib.compendium.book_controls import row as control_row
from xai_lib.compendium.book_runs import Run
from xai_lib.compendium.book_words import code, interval, number, table
from xai_lib.compendium.sources import read_yaml
from xai_lib.compendium.study_parts import Frozen
from xai_lib.concordance import kendall_w
from xai_lib.errors import ConfigError

FILE = Path("book") / "cross_study.yml"
Chapters = Mapping[str, Run]


class Score(Frozen):
    """Where a score stands: the study, its metric, and the data set and model where the results hold more than one."""

    study: str
    title: str
    metric: str
    dataset: str | None = None
    model: str | None = None
    better: Literal["larger", "smaller"] = "larger"


class Against(Score):
    """A method and the control it is compared with; without one the metric is a difference already."""

    method: str
    control: str | None = None


class Group(Frozen):
    """Labels that differ in one choice only."""

    name: str
    labels: tuple[str, ...] = Field(min_length=2)


class Spread(Score):
    """Two groups of labels whose spreads are compared."""

    first: Group
    second: Group


class Removal(Score):
    """A table of baselines (label of each) by removal values; a result's label is "LABEL | VALUE"."""

    baselines: dict[str, str]
    values: tuple[str, ...]


class Concordance(Frozen):
    """Methods that several metrics order."""

    study: str
    title: str
    dataset: str | None = None
    model: str | None = None
    methods: tuple[str, ...] = Field(min_length=3)
    metrics: dict[str, Literal["larger", "smaller"]] = Field(min_length=2)


class CrossStudy(Frozen):
    """book/cross_study.yml."""

    against_random: tuple[Against, ...]
    baseline_or_path: tuple[Spread, ...]
    removal: tuple[Removal, ...]
    concordance: tuple[Concordance, ...]


def read(root: Path) -> CrossStudy:
    """The questions of a repository.

    Raises:
        ConfigError: the file is missing, or a value that does not fit.
    """
    path = root / FILE
    if not path.is_file():
        raise ConfigError(f"{FILE} is missing; the page of cross-study questions is made from it")
    try:
        return CrossStudy.model_validate(read_yaml(path))
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:5])
        raise ConfigError(f"{FILE}: {found}") from None


def wide(run: Run, score: Any, metric: str, labels: Sequence[str]) -> pd.DataFrame:
    """Values of one metric: images (those that every label has; seeds and models averaged) by label.

    Raises:
        ConfigError: the published run has not measured it.
    """
    place = f"{FILE}: {score.study}"
    return by_label(run.results(), metric, labels, dataset=score.dataset, model=score.model, place=place)


def against_random(questions: CrossStudy, chapters: Chapters) -> str:
    """X1: paired difference of Integrated Gradients from a random order, score by score."""
    rows, above, below = [], 0, 0
    for score in _present(questions.against_random, chapters):
        labels = [score.method] if score.control is None else [score.method, score.control]
        found = wide(chapters[score.study], score, score.metric, labels)
        sign = 1.0 if score.better == "larger" else -1.0
        other = 0.0 * found[score.method] if score.control is None else found[score.control]
        difference = stats.paired_difference(sign * found[score.method], sign * other)
        above, below = above + (difference.low > 0), below + (difference.high < 0)
        control = "–" if score.control is None else _shown(found[score.control])
        rows.append([_link(score), _shown(found[score.method]), control, _shown(difference), difference.n])
    head = ["Score", "Integrated Gradients", "Random", "Difference, paired, larger is better", "n"]
    said = f"Better than random in {above} of {len(rows)} scores, worse in {below}, undecided in {len(rows) - above - below}."
    return _with_missing(f"**{said}**\n\n{table(head, rows)}", questions.against_random, chapters)


def spread(questions: CrossStudy, chapters: Chapters) -> str:
    """X2: the range of the score over each group of labels, image by image."""
    rows = []
    for score in _present(questions.baseline_or_path, chapters):
        groups = (score.first, score.second)
        labels = list(dict.fromkeys(label for group in groups for label in group.labels))
        found = wide(chapters[score.study], score, score.metric, labels)
        ranges = [np.ptp(found[list(group.labels)].to_numpy(), axis=1) for group in groups]
        difference = stats.paired_difference(*ranges)
        names = [f"{group.name}: {'; '.join(group.labels)}" for group in groups]
        rows.append([_link(score), *names, *map(_shown, ranges), _shown(difference), difference.n])
    head = [
        "Score",
        "First choice",
        "Second choice",
        "Range over the first",
        "Range over the second",
        "First − second, paired",
        "n",
    ]
    return _with_missing(table(head, rows), questions.baseline_or_path, chapters)


def removal(questions: CrossStudy, chapters: Chapters) -> str:
    """X3: each baseline under each removal value, and what it gains where both are the same.

    The gain is the mean over equal pairs minus the mean over unequal ones. Every baseline and every value is in the first mean
    once and in the second equally often, so that what a baseline or a value adds by itself cancels.
    """
    parts = []
    for score in _present(questions.removal, chapters):
        labels = {(b, v): f"{label} | {v}" for b, label in score.baselines.items() for v in score.values}
        found = wide(chapters[score.study], score, score.metric, list(labels.values()))
        rows = [
            [f"{baseline} baseline", *(_shown(found[labels[baseline, value]]) for value in score.values)]
            for baseline in score.baselines
        ]
        gain = stats.bootstrap_interval(matched_gain(found, labels))
        said = f"Gain where the removal value is the method's own baseline: {_shown(gain)} (n = {gain.n} images)."
        parts.append(f"{_link(score)}\n\n{table(['', *(f'removed to {value}' for value in score.values)], rows)}\n\n**{said}**")
    return _with_missing("\n\n".join(parts), questions.removal, chapters)


def matched_gain(found: pd.DataFrame, labels: Mapping[tuple[str, str], str]) -> np.ndarray:
    """Mean over labels (a, a) minus mean over labels (a, b), image by image.

    Raises:
        ConfigError: baselines and values are not the same words.
    """
    if {a for a, _ in labels} != {b for _, b in labels}:
        raise ConfigError(f"{FILE}: removal: baselines and values must be the same words to be matched")
    same = [name for (a, b), name in labels.items() if a == b]
    other = [name for (a, b), name in labels.items() if a != b]
    return (found[same].mean(axis=1) - found[other].mean(axis=1)).to_numpy()


def controls(studies: Mapping[str, Mapping[str, Any]], chapters: Chapters) -> str:
    """X4: in how many scores the best method does not beat the best map that knows no model."""
    place, rows = CONTROL_HEAD.index("Methods above the control"), []
    for name, study in studies.items():
        if name in chapters:
            results = chapters[name].results()
            plain = [entry for entry in study.get("controls") or [] if modelless(entry)]
            rows += [control_row(results, entry, name) for entry in plain]
    if not rows:
        return "No published run has a control yet."
    won = [row for row in rows if row[place].startswith("0 of")]
    few = [row for row in rows if row not in won and int(row[place].split()[0]) * 2 <= int(row[place].split()[-1])]
    listed = "".join(f"\n- {row[0]}" for row in won)
    return (
        f"**In {len(won)} of {len(rows)} scores no method is above the best control, "
        f"in {len(few)} more at most half of them are.**" + (f" No method is above it in:\n{listed}" if won else "")
    )


def concordance(questions: CrossStudy, chapters: Chapters) -> str:
    """X5: Kendall's W over metrics, of single images and of the means."""
    rows = []
    for panel in _present(questions.concordance, chapters):
        run, methods = chapters[panel.study], list(panel.methods)
        frames = [
            wide(run, panel, metric, methods) * (1.0 if better == "larger" else -1.0)
            for metric, better in panel.metrics.items()
        ]
        images = frames[0].index
        for frame in frames[1:]:
            images = images.intersection(frame.index)
        scores = np.stack([frame.loc[images].to_numpy() for frame in frames], axis=1)
        of_means = kendall_w(scores.mean(axis=0))[0]
        rows.append(
            [
                _link(panel),
                len(methods),
                "; ".join(panel.metrics),
                _shown(kendall_w(scores)),
                number(float(of_means)),
                number(1 / len(frames)),
                len(images),
            ]
        )
    head = ["Panel", "Methods", "Metrics", "W of one image", "W of the means", "W of random orders", "Images"]
    return _with_missing(table(head, rows), questions.concordance, chapters)


def _present(parts: Sequence[Any], chapters: Chapters) -> list[Any]:
    return [part for part in parts if part.study in chapters]


def _with_missing(text: str, parts: Sequence[Any], chapters: Chapters) -> str:
    """The text, or a note in its place, and the studies that could not be asked."""
    if not _present(parts, chapters):
        return "No published run answers this question yet."
    waiting = sorted({part.study for part in parts} - set(chapters))
    return text + (f"\n\nWithout a published run, and so not asked: {', '.join(map(code, waiting))}." if waiting else "")


def _shown(values: Any) -> str:
    estimate = values if isinstance(values, stats.Estimate) else stats.bootstrap_interval(values)
    return interval(estimate.value, estimate.low, estimate.high)


def _link(score: Any) -> str:
    return f"{{doc}}`{score.title} </notebooks/{score.study}>`"
