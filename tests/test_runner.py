"""A run: folder, record, verdicts, scrubbing, publication, progress. One real kernel is shared by the read-only tests."""

import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import tiny_study

from xai_lib.compendium import folders, record, runner, verify
from xai_lib.compendium.progress import Progress
from xai_lib.compendium.study import load
from xai_lib.errors import ConfigError, StoreError

pytestmark = pytest.mark.slow

FIELDS = (
    "run_id study profile exploratory published parameters started finished seconds status commit dirty versions device threads"
    " cpu seeds data models verdicts cells results_sha256 notebook_sha256 command"
)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, runner.RunResult, str]:
    """One successful published run, in a folder whose name papermill would format."""
    where = "import os, sys, pathlib\nprint(os.getcwd(), sys.executable, pathlib.Path.home() / 'x', os.environ['XAI_RUN_DIR'])"
    root = tiny_study.write(tmp_path_factory.mktemp("re{p}o äß") / "{shift}", where, tiny_study.RESULTS)
    former = root / "book" / "runs" / "tiny" / "book"
    former.mkdir(parents=True)
    (former / "old.txt").write_text("the run before")
    stream = io.StringIO()
    result = runner.run("tiny", profile="book", publish=True, root=root, progress=stream)
    return root, result, stream.getvalue()


def test_folder_is_whole_and_replaces_the_former_one(published: tuple[Path, runner.RunResult, str]) -> None:
    root, result, _ = published
    assert (result.exit_code, result.message) == (0, "book/runs/tiny/book")
    assert sorted(path.name for path in result.path.iterdir()) == ["notebook.ipynb", "results.csv", "run.json"]
    assert [path.name for path in (root / "book" / "runs" / "tiny").iterdir()] == ["book"]
    assert not (root / "runs").exists()


def test_record_has_every_field_and_its_hashes_hold(published: tuple[Path, runner.RunResult, str]) -> None:
    _, result, _ = published
    record = json.loads((result.path / "run.json").read_text())
    assert set(FIELDS.split()) <= set(record)
    assert record["parameters"] == {"n_images": 12, "shift": 0.5, "label": "plain", "counts": [1, 5], "verbose": False}
    assert (record["study"], record["profile"], record["exploratory"], record["published"]) == ("tiny", "book", False, True)
    assert (record["commit"], record["seeds"], record["status"]) == (None, [0], "finished")
    assert record["command"] == "xai run tiny --profile book"
    for name, file in (("results", "results.csv"), ("notebook", "notebook.ipynb")):
        assert record[f"{name}_sha256"] == hashlib.sha256((result.path / file).read_bytes()).hexdigest()
    assert [cell["index"] for cell in record["cells"]] == [1, 2, 3, 4]


def test_verdicts_are_computed(published: tuple[Path, runner.RunResult, str]) -> None:
    first, second = published[1].record["verdicts"]
    assert (first["id"], first["verdict"], first["n"]) == ("A1", "reproduced", 12)
    assert first["effect"] == pytest.approx(0.55)  # 0.5 * (1 + 0.1 * mean of 0, 1, 2)
    assert first["difference"] == pytest.approx(0.05)
    assert (second["verdict"], second["reason"], second["effect"]) == ("not tested", "budget", None)


def test_notebook_describes_itself_without_this_machine(published: tuple[Path, runner.RunResult, str]) -> None:
    root, result, _ = published
    text = (result.path / "notebook.ipynb").read_text(encoding="utf-8")
    for private in (str(root), str(Path.home()) + "/", sys.prefix, ".partial"):
        assert private not in text
    notebook = nbformat.reads(text, as_version=4)
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.cells[2].metadata.tags == ["injected-parameters"]
    assert "n_images = 12" in notebook.cells[2].source
    printed = notebook.cells[3].outputs[0].text.split()
    assert printed[0] == "./notebooks"
    assert printed[1].startswith("<python>")
    assert printed[3] == "book/runs/tiny/book"


def test_progress_is_plain_lines_without_a_terminal(published: tuple[Path, runner.RunResult, str]) -> None:
    lines = published[2].splitlines()
    assert lines[0].startswith("tiny book: cell 0/? (  0 %) 0:0")
    assert lines[-1].startswith("tiny book: cell 5/5 (100 %)")
    assert "\r" not in published[2]


def test_verification_sees_what_papermill_calls_completed(published: tuple[Path, runner.RunResult, str]) -> None:
    root, result, _ = published
    study = load("tiny", place=root)
    source = nbformat.read(study.notebook, as_version=4)
    resolved, table = study.resolve("book"), pd.read_csv(result.path / "results.csv", keep_default_na=False)
    end = [{"event": "end", "status": "finished"}]

    def problems(change, events=end, table=table) -> list[str]:
        notebook = nbformat.read(result.path / "notebook.ipynb", as_version=4)
        change(notebook.cells)
        return verify.problems(notebook, source, events, table, study, resolved)

    def silent(cells) -> None:
        return None

    warning = nbformat.v4.new_output("stream", name="stderr", text="UserWarning: look")
    error = nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])
    assert problems(silent) == []
    assert problems(silent, events=[]) == ["the executor did not record an end"]
    assert problems(lambda cells: cells[3].update(execution_count=None)) == ["cell 3 was not executed"]
    assert problems(lambda cells: cells[3].outputs.append(warning)) == ["cell 3 wrote to stderr: UserWarning: look"]
    assert problems(lambda cells: cells[3].outputs.append(error)) == ["cell 3 raised ValueError"]
    assert problems(lambda cells: cells.pop()) == [
        "3 code cells were executed, expected 4: those of the source and the injected parameters"
    ]
    assert problems(silent, table=table[table["method"] != "a"]) == ["claim A1: results.csv has no row of score for 'a'"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"publish": True}, "smoke cannot be published; profiles that can be: book"),
        ({"profile": "book", "overrides": {"shift": "2"}, "publish": True}, "exploratory run cannot be published"),
        ({"profile": "bok"}, "did you mean 'book'"),
        ({"overrides": {"n_image": "2"}}, "did you mean 'n_images'"),
        ({"timeout": 0}, "expected seconds above 0"),
        ({"timeout": float("nan")}, "expected seconds above 0"),
    ],
)
def test_requests_are_refused_before_anything_is_written(tmp_path: Path, options: dict, message: str) -> None:
    root = tiny_study.write(tmp_path)
    with pytest.raises(ConfigError, match=message):
        runner.run("tiny", root=root, progress=None, **options)
    assert [path.name for path in root.iterdir()] == ["notebooks"]


def test_f28_a_place_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    root = tiny_study.write(tmp_path)
    (root / "runs").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match="cannot be written"):
        runner.run("tiny", root=root, progress=None)


def test_a_notebook_that_disagrees_with_its_study_is_refused(tmp_path: Path) -> None:
    root = tiny_study.write(tmp_path, parameters="n_images = 4\nshift = 0.5\ncounts = [1, 5]\nverbose = False\nseed = 0")
    with pytest.raises(ConfigError, match=r"label is missing; seed is not in the study file; n_images = 4, study file 3"):
        runner.run("tiny", root=root, progress=None)


def test_settle_keeps_the_former_folder_when_the_new_one_cannot_come(tmp_path: Path) -> None:
    target = tmp_path / "book"
    target.mkdir()
    (target / "old.txt").write_text("old")
    with pytest.raises(StoreError, match="cannot be written"):
        folders.settle(tmp_path / "absent", target, replace=True)
    assert [path.name for path in target.iterdir()] == ["old.txt"]


def test_partial_folders_of_dead_owners_are_swept(tmp_path: Path) -> None:
    dead = tmp_path / ".dead.partial"
    (dead / folders.WORK).mkdir(parents=True)
    (dead / folders.WORK / "lock").touch()
    with folders.partial(tmp_path, "first") as first, folders.partial(tmp_path, "second") as second:
        assert first.is_dir()
        assert second.is_dir()
        assert not dead.exists()
    assert list(tmp_path.iterdir()) == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_updates_one_line_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    meter = Progress(stream, "tiny ü", 2.0)
    meter.show(1, 4, changed=True)
    meter.show(2, 4, changed=False)
    meter.close("done")
    assert (
        stream.getvalue()
        == "\rtiny ?: cell 1/4 ( 25 %) 0:00 of about 2:00\rtiny ?: cell 2/4 ( 50 %) 0:00 of about 2:00\ndone\n"
    )


def test_progress_on_a_dumb_terminal_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    Progress(stream, "tiny", 2.0).show(1, 4, changed=True)
    assert stream.getvalue() == "tiny: cell 1/4 ( 25 %) 0:00 of about 2:00\n"


def test_progress_survives_a_closed_stream() -> None:
    closed = io.StringIO()
    closed.close()
    for stream in (closed, None):
        meter = Progress(stream, "tiny", 1.0)
        meter.show(1, 2, changed=True)
        meter.close("done")


def test_the_commit_is_that_of_the_repository_and_edits_show(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        own = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-C", str(tmp_path))
        return subprocess.run(["git", *own, *arguments], capture_output=True, text=True, check=True).stdout.strip()

    git("init", "-q")
    (tmp_path / "kept").write_text("1")
    published = tmp_path / "book" / "runs" / "study" / "run.json"
    published.parent.mkdir(parents=True)
    published.write_text("1")
    git("add", "kept", "book")
    git("commit", "-qm", "first")
    head = git("rev-parse", "HEAD")
    (tmp_path / "untracked").write_text("1")
    assert record.commit_of(tmp_path) == {"commit": head, "dirty": False}
    published.write_text("2")
    assert record.commit_of(tmp_path) == {"commit": head, "dirty": False}, "another study was published just before"
    (tmp_path / "kept").write_text("2")
    assert record.commit_of(tmp_path) == {"commit": head, "dirty": True}
    assert record.commit_of(tmp_path / "nowhere") == {"commit": None, "dirty": None}
