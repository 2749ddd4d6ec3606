"""Studies run side by side in processes of their own: how many, with which threads, and what a failure does."""

import json
import sys
from pathlib import Path

import pytest
import tiny_study

from xai_lib.compendium import cli, side_by_side, study
from xai_lib.compendium.side_by_side import run_studies
from xai_lib.errors import ConfigError

pytestmark = pytest.mark.slow

CHILD = """
import json, os, sys, time
name = sys.argv[sys.argv.index("run") + 1]
began = time.time()
time.sleep(0.4)
with open(os.path.join(os.environ["LOG"], name), "w") as file:
    json.dump({"began": began, "ended": time.time(), "threads": os.environ.get("OMP_NUM_THREADS"), "asked": sys.argv[1:]}, file)
print(f"runs/{name}/made")
print(f"progress of {name}", file=sys.stderr)
sys.exit(4 if name.startswith("bad") else 0)
"""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "child.py").write_text(CHILD)
    monkeypatch.setattr(side_by_side, "RUNNER", (sys.executable, str(tmp_path / "child.py")))
    monkeypatch.setattr(side_by_side, "cores", lambda: 4)
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    (tmp_path / "log").mkdir()
    return tmp_path / "log"


def run(names, jobs):
    said, complained = [], []
    code = run_studies(names, profile="smoke", jobs=jobs, say=said.append, complain=complained.append)
    return code, said, complained


def most_at_once(log: Path) -> int:
    found = [json.loads(path.read_text()) for path in log.iterdir()]
    return max(sum(other["began"] <= one["began"] < other["ended"] for other in found) for one in found)


@pytest.mark.parametrize(("jobs", "at_once", "threads"), [(1, 1, None), (2, 2, "2"), (0, 4, "1"), (9, 5, "1")])
def test_all_run_so_many_at_a_time_with_their_share_of_the_cores(log, jobs, at_once, threads):
    names = ["a", "b", "c", "d", "e"]
    code, said, complained = run(names, jobs)
    assert (code, complained) == (0, [])
    assert sorted(line.split("  (")[0] for line in said) == [f"runs/{name}/made" for name in names]
    records = {path.name: json.loads(path.read_text()) for path in log.iterdir()}
    assert set(records) == set(names)
    assert all(record["threads"] == threads for record in records.values())
    assert records["a"]["asked"] == ["run", "a", "--profile", "smoke"]
    assert 1 <= most_at_once(log) <= at_once
    assert (most_at_once(log) == 1) == (at_once == 1)


def test_a_failure_gives_its_code_and_its_words_and_nothing_else_starts(log):
    code, said, complained = run(["a", "bad", "c", "d", "e", "f", "g"], 2)
    assert code == 4
    assert complained == ["progress of bad"]
    assert len(list(log.iterdir())) < 7
    assert len(said) == len(list(log.iterdir())) - 1


def test_a_child_that_is_killed_is_a_failure(log, tmp_path):
    (tmp_path / "child.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    assert run(["a"], 1)[0] == 137


def test_nothing_to_run_and_bad_numbers(log):
    assert run([], 2) == (0, [], [])
    with pytest.raises(ConfigError, match="jobs=-1: expected at least 0"):
        run(["a"], -1)


def test_book_fresh_runs_the_smoke_profiles_first_and_stops_where_they_fail(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XAI_ROOT", str(tiny_study.write(tmp_path)))
    asked, built = [], []

    def runs(names, *, profile, jobs, **_):
        asked.append((list(names), profile, jobs))
        return codes.pop(0)

    class Book:
        @staticmethod
        def build(place: Path, output: Path, *, local: bool) -> Path:
            built.append(output)
            return output

    monkeypatch.setattr(side_by_side, "run_studies", runs)
    monkeypatch.setitem(sys.modules, "xai_lib.compendium.book", Book)
    monkeypatch.setattr("xai_lib.compendium.book", Book, raising=False)
    codes = [0, 3]
    assert cli.main(["book", "--fresh", "--jobs", "2"]) == 0
    assert cli.main(["book", "--fresh"]) == 3
    assert asked == [(["tiny"], study.SMOKE, 2), (["tiny"], study.SMOKE, 0)]
    assert len(built) == 1
    assert capsys.readouterr().err == ""


def test_time_is_told(log):
    (line,) = run(["a"], 1)[1]
    assert line.startswith("runs/a/made  (")
    assert line.endswith(" s)")
