"""Exercises of study files: every level, commands that can be typed, solutions that run."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import tiny_study
from pydantic import ValidationError

from xai_lib.compendium import book_verdicts, cli, study
from xai_lib.compendium.study_parts import Exercise
from xai_lib.errors import ConfigError

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[1]
STUDIES = study.names(place=REPOSITORY)
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"`(xai run [^`]+)`")


@pytest.fixture(params=STUDIES)
def chapter(request: pytest.FixtureRequest) -> study.Study:
    return study.load(request.param, place=REPOSITORY)


def test_every_chapter_has_every_level(chapter: study.Study) -> None:
    assert {one.level for one in chapter.exercises} == {"predict", "change", "extend"}


def test_commands_name_the_chapter_and_pass_a_dry_run(chapter: study.Study, capsys: pytest.CaptureFixture[str]) -> None:
    commands = [line for one in chapter.exercises for line in COMMAND.findall(one.task + one.solution)]
    assert commands, "an exercise that changes a parameter says by which command"
    for line in commands:
        assert line.split()[2] == chapter.name
        assert cli.main([*shlex.split(line)[1:], "--dry-run"]) == 0, line
    capsys.readouterr()


def test_solutions_in_code_run_and_check_something(chapter: study.Study) -> None:
    blocks = {place: BLOCK.findall(one.solution) for place, one in enumerate(chapter.exercises) if one.level == "extend"}
    assert blocks
    for place, parts in blocks.items():
        source = "\n".join(parts)
        assert "assert " in source, f"the solution of exercise {place + 1} checks nothing"
        exec(compile(source, f"<exercise {place + 1} of {chapter.name}>", "exec"), {"__name__": "exercise"})


ONE: dict[str, Any] = {"level": "change", "minutes": 5, "task": "Do `this`.", "solution": "It was $x$."}


@pytest.mark.parametrize(
    "wrong", [{"level": "hard"}, {"minutes": 0}, {"minutes": 300}, {"task": ""}, {"solution": ""}, {"hint": "h"}]
)
def test_what_is_no_exercise_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Exercise(**{**ONE, **wrong})


def test_an_exercise_without_a_solution_is_named_with_its_place(tmp_path: Path) -> None:
    root = tiny_study.write(tmp_path)
    path = root / "notebooks" / "tiny.yml"
    path.write_text(path.read_text() + "exercises:\n  - {level: predict, minutes: 3, task: Guess.}\n")
    with pytest.raises(ConfigError, match=r"exercises\.0\.solution: missing"):
        study.load("tiny", place=root)


def test_the_page_shows_the_task_and_folds_the_solution() -> None:
    text = book_verdicts.exercise(2, {**ONE, "solution": "Text.\n```python\nassert True\n```\n"})
    shown, folded = text.split("::::{dropdown} Solution of exercise 2\n")
    assert shown.startswith("**Exercise 2** (change a parameter, 5 minutes). Do `this`.")
    assert folded == "Text.\n```python\nassert True\n```\n::::"
