"""The `xai` command: output, exit codes, one line per refusal. Nothing here starts a kernel."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_study
import yaml

from xai_lib.compendium import cli, doctor, results, runner, study
from xai_lib.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XAI_ROOT", str(tiny_study.write(tmp_path)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def folder(root: Path, place: str, finished: str, profile: str | None = "book", shift: float = 0.5) -> Path:
    """A finished run, written by hand."""
    path = root / place
    path.mkdir(parents=True)
    values = [float(i) for i in range(12)]
    table = results.checked(tiny_study.table({"a": values, "b": [value + shift for value in values]}))
    table.to_csv(path / "results.csv", index=False)
    record = {"study": "tiny", "run_id": path.name, "finished": finished, "profile": profile}
    (path / "run.json").write_text(json.dumps(record))
    return path


def test_dry_run_prints_parameters_that_are_a_parameter_file(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "own.yml").write_text("shift: 1e-3\nn_images: 5\n")
    assert cli.main(["run", "tiny", "-f", "own.yml", "-p", "n_images=20", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("# tiny, exploratory: gives no verdict\n")
    values = yaml.safe_load(out)
    assert values == {"n_images": 20, "shift": 0.001, "label": "plain", "counts": [1, 5], "verbose": False}
    (root / "own.yml").write_text(out)
    assert cli.main(["run", "tiny", "-f", "own.yml", "--dry-run"]) == 0
    assert capsys.readouterr().out == out
    assert not (root / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "tyni"], "xai: unknown study 'tyni': did you mean 'tiny'? Known: tiny"),
        (["run", "tiny", "--profile", "bok"], "did you mean 'book'"),
        (["run", "tiny", "-p", "n_image=3"], "did you mean 'n_images'"),
        (["run", "tiny", "-p", "n_images=abc"], "parameter 'n_images': found 'abc', expected int in [1, 100]"),
        (["run", "tiny", "-p", "n_images=1000000000"], "out of range"),
        (["run", "tiny", "-p", "shift=nan"], "not a finite number"),
        (["run", "tiny", "-p", "verbose=1"], "expected bool"),
        (["run", "tiny", "-p", "n_images"], "expected NAME=VALUE"),
        (["run", "tiny", "-f", "absent.yml"], "absent.yml: cannot be read"),
        (["run", "tiny", "--publish"], "cannot be published"),
        (["run", "../../etc/x.yml"], "leaves"),
        (["show", "nothing"], "unknown run folder or study 'nothing'"),
        (["show", "tiny"], "has no finished run; make one with: xai run tiny"),
        (["show", "notebooks"], "holds no run.json"),
        (["data", "get"], "name at least one data set"),
        (["data", "check", "mnits"], "did you mean 'mnist'"),
    ],
)
def test_refusals_are_one_line_and_exit_2(
    root: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert "Traceback" not in err


@pytest.mark.parametrize("value", ["{pm.__class__}", "__import__('os').system('touch canary')", "x" * 200])
def test_f29_f31_texts_are_never_evaluated(root: Path, capsys: pytest.CaptureFixture[str], value: str) -> None:
    assert cli.main(["run", "tiny", "-p", f"label={value}", "--dry-run"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["label"] == value
    assert not (root / "canary").exists()


def test_debug_shows_the_error_itself(root: Path) -> None:
    with pytest.raises(ConfigError):
        cli.main(["run", "tyni", "--debug"])


@pytest.mark.parametrize("arguments", [[], ["fly"], ["run"], ["list", "--methods", "--models"], ["data", "erase"]])
def test_wrong_usage_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "usage: xai" in capsys.readouterr().err


@pytest.mark.parametrize(("record", "code"), [({"run_id": "r"}, 0), ({"run_id": "r"}, 3), ({}, 1), ({}, 4)])
def test_exit_code_and_message_of_a_run_are_passed_on(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], record: dict, code: int
) -> None:
    asked: dict[str, Any] = {}

    def run(study: str, **options: Any) -> runner.RunResult:
        asked.update(options, study=study)
        return runner.RunResult(root, code, "r", "what became of it", record)

    monkeypatch.setattr(runner, "run", run)
    assert cli.main(["run", "tiny", "--profile", "book", "-p", "shift=2", "--publish", "--timeout", "600"]) == code
    assert asked == {"study": "tiny", "profile": "book", "overrides": {"shift": "2"}, "publish": True, "timeout": 600.0}
    out, err = capsys.readouterr()
    assert (out, err) == (("what became of it\n", "") if record else ("", "xai: what became of it\n"))


def test_ctrl_c_exits_130(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "run", interrupted)
    assert cli.main(["run", "tiny"]) == 130
    assert capsys.readouterr().err == "xai: interrupted; nothing half-written is left\n"


def test_list_shows_studies_and_registries(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["study", "title", "profile", "minutes", "verdicts", "needs"],
        ["tiny", "A", "tiny", "study", "smoke", "0.1", "no"],
        ["book", "0.2", "yes"],
    ]
    assert cli.main(["list", "--baselines"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[0] == "black"


def test_show_takes_the_latest_run_and_computes_its_verdicts(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder(root, "runs/tiny/old", "2026-01-01T00:00:00+00:00", shift=-0.5)
    folder(root, "book/runs/tiny/book", "2026-01-02T00:00:00+00:00")
    free = folder(root, "runs/tiny/free", "2025-01-02T00:00:00+00:00", profile=None)
    assert cli.main(["show", "tiny"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("tiny, book, run book, 2026-01-02")
    assert "A1  reproduced\n    b exceeds a\n" in out
    assert "A2  not tested (budget)" in out
    assert cli.main(["show", "runs/tiny/old"]) == 0
    assert "A1  contradicted" in capsys.readouterr().out
    assert cli.main(["show", str(free)]) == 0
    assert "A1  exploratory - not a verdict" in capsys.readouterr().out


def test_a_damaged_run_exits_5(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder(root, "runs/tiny/one", "2026-01-01T00:00:00+00:00")
    (path / "results.csv").write_text("damaged")
    assert cli.main(["show", "tiny"]) == 5
    (path / "run.json").write_text("{}")
    assert cli.main(["show", "tiny"]) == 5
    assert "run.json: cannot be read" in capsys.readouterr().err


def test_f16_missing_data_of_a_profile_exits_4_before_anything_starts(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    profiles = {
        "smoke": {"minutes": 1, "verdicts": False},
        "book": {"minutes": 1, "verdicts": True, "needs": ["imagenet"], "values": {"n_images": 9}},
    }
    tiny_study.write(root, profiles=profiles)
    monkeypatch.setenv("XAI_DATA", str(root / "empty"))
    assert cli.main(["run", "tiny", "--profile", "book"]) == 4
    err = capsys.readouterr().err
    assert err.startswith("xai: data set 'imagenet' not found")
    assert "(profiles of tiny that need no further data: smoke)" in err
    assert not (root / "runs").exists()


def test_book_is_built_where_asked(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    calls = []

    class Book:
        @staticmethod
        def build(place: Path, output: Path, *, local: bool) -> Path:
            calls.append((place, output, local))
            return output / "html"

    monkeypatch.setitem(sys.modules, "xai_lib.compendium.book", Book)
    monkeypatch.setattr("xai_lib.compendium.book", Book, raising=False)
    assert cli.main(["book"]) == cli.main(["book", "--output", "else", "--no-local"]) == 0
    assert calls == [(root, root / "build", True), (root, root / "else", False)]
    assert capsys.readouterr().out.splitlines() == [str(root / "build" / "html"), str(root / "else" / "html")]


def test_doctor_fails_on_what_is_required_only(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    good = [doctor.Finding("a", True, "fine"), doctor.Finding("b", False, "absent", optional=True)]
    monkeypatch.setattr(doctor, "examine", lambda: iter(good))
    assert cli.main(["doctor"]) == 0
    monkeypatch.setattr(doctor, "examine", lambda: iter([*good, doctor.Finding("c", False, "broken")]))
    assert cli.main(["doctor"]) == 1
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["ok", "note", "ok", "note", "WRONG"]


def test_doctor_wants_exactly_one_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    for installed, fine in (({"opencv-python"}, True), (set(), False), (set(doctor.OPENCV[:2]), False)):
        monkeypatch.setattr(doctor, "_version", lambda name, installed=installed: "5.0" if name in installed else None)
        assert doctor.opencv().ok is fine


@pytest.mark.slow
def test_f37_closed_output_in_a_plain_locale_is_no_error(root: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**os.environ, "LC_ALL": "C", "TERM": "dumb", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    tiny_study.write(root, title="Äpfel")
    command = [sys.executable, "-m", "xai_lib.compendium", "list"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, env=environment, timeout=100, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def documented() -> list[str]:
    """The `xai` commands of the README and of the book's pages, as they are typed."""
    pages = [ROOT / "README.md", *sorted((ROOT / "book").glob("*.md"))]
    lines = [line.split("  #")[0].strip() for page in pages for line in page.read_text(encoding="utf-8").splitlines()]
    known = [re.match(r"(?:XAI_DATA=\S+ )?(?:\.venv/bin/)?xai (?=[a-z])(.+)", line) for line in lines]
    return [match[1] for match in known if match]


def test_documented_commands_are_understood() -> None:
    commands = documented()
    every = {"run", "plan", "sweep", "compare", "status", "verify", "book", "list", "data", "show"}
    assert every <= {command.split()[0] for command in commands}
    for command in commands:
        asked = cli._parser().parse_args(shlex.split(command))
        if not hasattr(asked, "study"):
            continue
        loaded = study.load(asked.study, place=ROOT)
        assert asked.profile is None or asked.profile in loaded.profiles, command
        for given in asked.parameter:
            assert given.partition("=")[0] in loaded.parameters, command
