"""`xai sweep`: the grid, what is refused, going on where it stopped, failures, interrupts. Two tests run real notebooks."""

import argparse
import fcntl
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import psutil
import pytest
import tiny_study

from xai_lib.compendium import listing, sweep, sweep_plan, sweep_work
from xai_lib.errors import ConfigError, DataError, EngineError, StoreError, XaiError

pytestmark = pytest.mark.slow

# stands in for `xai run`: no kernel, and what happens is said by the parameter `label`
FAKE = """
import json, os, pathlib, signal, subprocess, sys, time, yaml
root = pathlib.Path(os.environ["XAI_ROOT"])
own = yaml.safe_load(pathlib.Path(sys.argv[sys.argv.index("-f") + 1]).read_text())
kind = own["label"].partition("-")[0]
with (root / "started").open("a") as log:
    said = {"argv": sys.argv[1:], "pid": os.getpid(), "threads": os.environ.get("OMP_NUM_THREADS")}
    log.write(json.dumps({**own, **said}) + "\\n")
if kind in ("wait", "edit"):
    while len((root / "started").read_text().splitlines()) < 2:
        time.sleep(0.02)
if kind in ("hang", "stubborn"):
    if kind == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    run = {**os.environ, "XAI_RUN_DIR": "x"}
    child = subprocess.Popen(["sleep", "300"], start_new_session=True, env=run)
    (root / "pids.json").write_text(json.dumps([os.getpid(), child.pid]))
    time.sleep(300)
if kind == "edit":
    (root / "notebooks" / "tiny.ipynb").open("a").write("\\n")
if kind == "killed":
    os.kill(os.getpid(), 9)
if kind == "fail":
    sys.exit(print("progress\\nxai: cell 3 raised ValueError; see", root / "runs", file=sys.stderr) or 4)
run = root / "runs" / "tiny" / f"run-{len(list((root / 'runs' / 'tiny').iterdir()))}-{os.getpid()}"
run.mkdir(parents=True)
(run / "run.json").write_text(json.dumps({"parameters": {**own, "n_images": 99} if kind == "lies" else own}))
print("something else\\n" + ("" if kind == "silent" else f"runs/tiny/{run.name}" + "; 2 items quarantined" * (kind == "some")))
sys.exit(3 if kind == "some" else 0)
"""
# a notebook without pandas, that says when it starts; `label` "hang" never ends
NOTEBOOK = """
import csv, hashlib, json, os, pathlib, time
with pathlib.Path(os.environ["XAI_ROOT"], "started").open("a") as log:
    log.write(json.dumps([n_images, os.getpid(), os.getppid()]) + "\\n")
while label == "hang":
    time.sleep(0.1)
folder = pathlib.Path(os.environ["XAI_RUN_DIR"])
head = "dataset,model,method,method_parameters,metric,metric_parameters,sample,seed,value,seconds,flag"
lines = [head, *(f"d,m,{m},{{}},score,{{}},image{i},0,{float(i)},0.0," for m in "ab" for i in range(n_images))]
(folder / "results.csv").write_text("\\n".join(lines) + "\\n")
record = {"data": [], "models": [], "device": "cpu", "threads": 1, "extra": {}}
record["results_sha256"] = hashlib.sha256((folder / "results.csv").read_bytes()).hexdigest()
(folder / "provenance.json").write_text(json.dumps(record))
"""
DRIVER = "import sys; from xai_lib.compendium import sweep; sweep.run(sweep.plan('tiny', sys.argv[1:]))"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XAI_ROOT", str(tiny_study.write(tmp_path, NOTEBOOK)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def fake(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The repository, where runs are not real."""
    (root / "fake.py").write_text(FAKE)
    monkeypatch.setattr(sweep_work, "RUNNER", (sys.executable, str(root / "fake.py")))
    monkeypatch.setattr(sweep_work, "TICK", 0.01)
    return root


def command(*arguments: str) -> tuple[int, list[str]]:
    """Exit code and lines of `xai sweep tiny`."""
    parser, said = argparse.ArgumentParser(), []
    sweep.add_arguments(parser)
    code = sweep.command(parser.parse_args(["tiny", *arguments]), said.append)
    return code, "\n".join(said).splitlines()


def started(root: Path) -> list[Any]:
    path = root / "started"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def labels(root: Path) -> list[str]:
    return [own["label"] for own in started(root)]


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


def ledger(root: Path) -> list[dict[str, Any]]:
    (path,) = (root / "runs" / "tiny" / "sweeps").glob("*/sweep.json")
    return list(json.loads(path.read_text())["combinations"])


def test_the_grid_is_the_product_with_the_first_parameter_slowest(root: Path) -> None:
    made = sweep.plan("tiny", ["counts=1,2,4; 1,8", "n_images=5, 2"], fixed={"shift": 2})
    assert [(c.resolved.values["counts"], c.resolved.values["n_images"]) for c in made.combinations] == [
        ([1, 2, 4], 5), ([1, 2, 4], 2), ([1, 8], 5), ([1, 8], 2),
    ]  # fmt: skip
    assert {c.resolved.values["shift"] for c in made.combinations} == {2.0}
    assert made.combinations[2].text == "counts=1,8, n_images=5"
    assert sweep.plan("tiny", []).combinations[0].resolved.profile == "smoke"


@pytest.mark.parametrize(
    ("text", "separator", "expected"),
    [
        ("1,5,20", ",", ["1", "5", "20"]),
        ("1,2;3,4", ";", ["1,2", "3,4"]),
        ("[1,2];[3]", ";", ["[1,2]", "[3]"]),
        ("black,{blur: {sigma: 2, size: 3}},[a, b]", ",", ["black", "{blur: {sigma: 2, size: 3}}", "[a, b]"]),
        ("a=b", ",", ["a=b"]),
        ("", ",", [""]),
    ],
)
def test_values_are_separated_outside_of_brackets(text: str, separator: str, expected: list[str]) -> None:
    assert sweep_plan.alternatives("p", text, separator=separator) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["-p", "n_images=1,x,3"],
            "combination 2 of 3 (n_images=x): parameter 'n_images': found 'x', expected int in [1, 100]",
        ),
        (["-p", "shift=0,1", "-p", "n_images=5,1000"], "combination 2 of 4 (shift=0, n_images=1000): parameter 'n_images'"),
        (["-p", "n_image=1,2"], "did you mean 'n_images'"),
        (["-p", "n_images"], "expected NAME=VALUE,VALUE"),
        (["-p", "=1"], "expected NAME=VALUE,VALUE"),
        (["-p", "n_images=1", "-p", "n_images=2"], "-p n_images: given twice; give all its values at once"),
        (["-p", "n_images=1,,2"], "an empty value; separate the values by single ','"),
        (["-p", "counts=1,2;"], "an empty value; separate the values by single ';'"),
        (["-p", "label={a,b"], "brackets do not match"),
        (["-p", "label=a},{b"], "brackets do not match"),
        (["-p", "shift=1,2,1.0"], "combinations 1 and 3 of 3 (shift=1.0) are the same"),
        (["-p", "n_images=1,2", "-p", "counts=1;[1]"], "combinations 1 and 2 of 4"),
        (["-p", "counts=1,2;51"], "combination 2 of 2 (counts=51)"),
        (
            ["-p", f"n_images={','.join(map(str, range(1, 101)))}", "-p", "shift=0,1,2,3,4,5,6,7,8,9,10"],
            "1100 combinations, at most 1000",
        ),
        (["--profile", "bok"], "did you mean 'book'"),
        (["-f", "absent.yml"], "absent.yml: cannot be read"),
        (["--jobs", "0"], "jobs 0: expected at least 1"),
        (["--timeout", "nan"], "expected seconds above 0"),
        (["--timeout", "0"], "expected seconds above 0"),
    ],
)
def test_refusals_have_exit_code_2_and_start_nothing(fake: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        command(*arguments)
    assert message in str(caught.value)
    assert caught.value.exit_code == 2
    assert sorted(path.name for path in fake.iterdir()) == ["fake.py", "notebooks"]


def test_an_unknown_study_and_a_notebook_that_disagrees_are_refused(root: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'tiny'"):
        sweep.plan("tyni", [])
    tiny_study.write(root, parameters="n_images = 3")
    with pytest.raises(ConfigError, match=r"the parameters cell and tiny\.yml disagree"):
        sweep.plan("tiny", ["n_images=1,2"])


def test_missing_data_is_said_before_anything_starts(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profiles = {
        "smoke": {"minutes": 1, "verdicts": False},
        "book": {"minutes": 1, "verdicts": True, "needs": ["imagenet"], "values": {"n_images": 9}},
    }
    tiny_study.write(fake, profiles=profiles)
    monkeypatch.setenv("XAI_DATA", str(fake / "empty"))
    with pytest.raises(DataError, match="data set 'imagenet' not found"):
        command("-p", "n_images=3,9")
    assert labels(fake) == []


def test_dry_run_prints_the_combinations_and_starts_nothing(fake: Path) -> None:
    arguments = ["-p", "label=ok,fail", "-p", "n_images=1,2", "--dry-run"]
    code, lines = command(*arguments)
    assert code == 0
    assert lines[0].startswith("4 combinations, runs/tiny/sweeps/")
    assert [line.split() for line in lines[1:]] == [
        ["combination", "state"],
        ["label=ok,", "n_images=1", "to", "run"],
        ["label=ok,", "n_images=2", "to", "run"],
        ["label=fail,", "n_images=1", "to", "run"],
        ["label=fail,", "n_images=2", "to", "run"],
    ]
    assert not (fake / "runs").exists()
    command(*arguments[:-1])
    assert [line.split()[-1] for line in command(*arguments)[1][2:]] == ["known", "known", "run", "run"]
    assert len(started(fake)) == 4


def test_the_id_stands_for_files_and_combinations(root: Path) -> None:
    asked = ["n_images=1,2"]
    first = sweep.plan("tiny", asked).id
    assert len(first) == 12
    assert set(first) <= set("0123456789abcdef")
    assert sweep.plan("tiny", ["n_images= 1 ,2"]).id == first
    others = {sweep.plan("tiny", ["n_images=2,1"]).id, sweep.plan("tiny", asked, fixed={"shift": 1}).id}
    append(root / "notebooks" / "tiny.ipynb", "\n")
    others.add(sweep.plan("tiny", asked).id)
    append(root / "notebooks" / "tiny.yml", "# changed\n")
    others.add(sweep.plan("tiny", asked).id)
    assert len(others - {first}) == 4


def test_runs_of_all_combinations_are_written_down(fake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (fake / "own.yml").write_text("shift: 1e-3\nverbose: true\n")
    code, lines = command("-f", "own.yml", "-p", "label=ok,some-ä", "-p", "counts=1;2,3", "--profile", "book", "--timeout", "7")
    assert code == 3  # two of them have quarantined items
    (folder,) = (fake / "runs" / "tiny" / "sweeps").iterdir()
    assert lines == [f"runs/tiny/sweeps/{folder.name}", f"xai compare runs/tiny/sweeps/{folder.name}"]
    assert sorted(path.name for path in folder.iterdir()) == ["lock", "sweep.json"]
    asked = {"n_images": 12, "shift": 0.001, "verbose": True}
    assert [(own["label"], own["counts"]) for own in started(fake)] == [
        ("ok", [1]),
        ("ok", [2, 3]),
        ("some-ä", [1]),
        ("some-ä", [2, 3]),
    ]
    assert all(asked.items() <= own.items() for own in started(fake))
    assert started(fake)[0]["argv"][:2] == ["run", "notebooks/tiny.yml"]
    assert started(fake)[0]["argv"][4:] == ["--profile", "book", "--timeout", "7.0"]
    entries = ledger(fake)
    assert [entry["exit_code"] for entry in entries] == [0, 0, 3, 3]
    assert entries[2]["message"].endswith("; 2 items quarantined")
    for entry, own in zip(entries, started(fake), strict=True):
        record = json.loads((fake / "runs" / "tiny" / entry["run"] / "run.json").read_text())
        assert record["parameters"] == entry["parameters"] == {key: own[key] for key in entry["parameters"]}
        assert entry["seconds"] > 0
    assert str(fake) not in (folder / "sweep.json").read_text()
    assert sweep.finished_runs(folder) == [fake / "runs" / "tiny" / entry["run"] for entry in entries]
    progress = capsys.readouterr().err.splitlines()
    assert progress[0] == "4 combinations, 0 known, 4 to run, 1 side by side"
    assert progress[1].startswith("1/4 label=ok, counts=1: done in 0:0")
    assert progress[3].startswith("3/4 label=some-?, counts=1: done, with quarantined items in 0:0")
    assert progress[4].endswith(" elapsed, about 0:00 left")


def test_the_expected_time_is_the_mean_so_far_for_what_is_left(fake: Path) -> None:
    stream = io.StringIO()
    made = sweep_work.Sweep(sweep.plan("tiny", ["n_images=1,2,3,4,5,6"]), jobs=2, timeout=None, progress=stream)
    for place, seconds in ((0, 100.0), (1, 200.0)):
        made.entries[place].exit_code, made.entries[place].seconds = 0, seconds
        made._report(made.entries[place])
    # 5 left at 100 s, then 4 left at 150 s, two side by side
    assert [line.rpartition("about ")[2] for line in stream.getvalue().splitlines()] == ["4:10 left", "5:00 left"]


@pytest.mark.parametrize("stream", [None, io.StringIO()])
def test_a_closed_stream_is_no_error(fake: Path, stream: io.StringIO | None) -> None:
    if stream is not None:
        stream.close()
    assert sweep.exit_code(sweep.run(sweep.plan("tiny", ["label=ok"]), progress=stream)) == 0


def test_a_failed_combination_does_not_stop_the_others(fake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = command("-p", "label=fail,ok,killed,some,lies,silent")
    assert code == 1
    assert labels(fake) == ["fail", "ok", "killed", "some", "lies", "silent"]
    found = {entry["parameters"]["label"]: entry for entry in ledger(fake)}
    assert {label: entry["exit_code"] for label, entry in found.items()} == {
        "fail": 4, "ok": 0, "killed": 137, "some": 3, "lies": 1, "silent": 1,
    }  # fmt: skip
    assert {label for label, entry in found.items() if entry["run"]} == {"ok", "some"}
    complaints = [line for line in capsys.readouterr().err.splitlines() if line.startswith("xai: ")]
    assert complaints[:2] == [
        "xai: label=fail: exit code 4: cell 3 raised ValueError; see ./runs",
        "xai: label=killed: exit code 137: ended by SIGKILL",
    ]
    assert [line.partition("'")[0] for line in complaints[2:]] == [
        f"xai: label={label}: exit code 1: the run named no run folder with these parameters: " for label in ("lies", "silent")
    ]
    assert len(lines) == 2


def test_one_run_is_nothing_to_compare(fake: Path) -> None:
    code, lines = command("-p", "label=fail,ok")
    assert (code, len(lines)) == (1, 1)


@pytest.mark.parametrize(("codes", "expected"), [([0, 0], 0), ([0, 3], 3), ([3, 1], 1), ([0, 137], 1), ([0, None], 1)])
def test_exit_codes(codes: list[int | None], expected: int) -> None:
    assert sweep.exit_code([sweep.Entry("", {}, exit_code=code) for code in codes]) == expected


def test_only_what_is_missing_is_run_again(fake: Path) -> None:
    arguments = ["-p", "label=ok,some,fail,ok-2,ok-3,ok-4"]
    assert command(*arguments)[0] == 1
    entries = ledger(fake)
    gone, damaged = (fake / "runs" / "tiny" / entries[k]["run"] for k in (3, 4))
    (gone / "run.json").unlink()
    gone.rmdir()
    (damaged / "run.json").unlink()
    (path,) = (fake / "runs" / "tiny" / "sweeps").glob("*/sweep.json")
    content = json.loads(path.read_text())
    content["combinations"][5]["exit_code"] = 1  # a failure, although its folder is there
    path.write_text(json.dumps(content))
    assert command(*arguments)[0] == 1
    assert labels(fake)[6:] == ["fail", "ok-2", "ok-3", "ok-4"]
    again = ledger(fake)
    assert again[:2] == entries[:2]
    assert all((fake / "runs" / "tiny" / entry["run"] / "run.json").is_file() for entry in again if entry["exit_code"] != 4)


def test_when_all_is_known_nothing_is_run(fake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = command("-p", "label=ok,some")
    entries = ledger(fake)
    capsys.readouterr()
    assert command("-p", "label=ok,some") == first
    assert capsys.readouterr().err == "2 combinations, 2 known, 0 to run, 1 side by side\n"
    assert len(started(fake)) == 2
    assert ledger(fake) == entries


def test_a_damaged_state_is_said(fake: Path) -> None:
    command("-p", "label=ok")
    (path,) = (fake / "runs" / "tiny" / "sweeps").glob("*/sweep.json")
    for content in ("{", "{}", '{"combinations": [{"what": 1}]}', "[]"):
        path.write_text(content)
        with pytest.raises(StoreError, match="remove it to run all combinations again"):
            command("-p", "label=ok")
    path.unlink()
    assert command("-p", "label=ok")[0] == 0


def test_a_place_that_cannot_be_written_is_said(fake: Path) -> None:
    (fake / "runs").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match="cannot be written"):
        command("-p", "label=ok")


def test_runs_side_by_side_share_the_cores(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_work, "cores", lambda: 7)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert command("-p", "label=wait,wait-2,ok", "--jobs", "2")[0] == 0  # each of the first two waits for the other
    assert {own["threads"] for own in started(fake)} == {"3"}
    assert command("-p", "label=ok,ok-2", "--jobs", "8")[0] == 0
    assert started(fake)[-1]["threads"] == "1"
    assert command("-p", "label=ok-3")[0] == 0
    assert started(fake)[-1]["threads"] == "5"  # alone it keeps what the caller set


def test_the_same_sweep_twice_at_once_is_refused(fake: Path) -> None:
    made = sweep.plan("tiny", ["label=ok"])
    made.folder.mkdir(parents=True)
    with (made.folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(sweep.Busy, match=f"sweep {made.id} is at work in another process; wait for it") as caught:
            command("-p", "label=ok")
        assert caught.value.exit_code == 75
        assert isinstance(caught.value, XaiError)
        assert command("-p", "label=ok", "--dry-run")[0] == 0
        assert command("-p", "label=ok-2")[0] == 0  # another sweep is another folder
    assert command("-p", "label=ok")[0] == 0


def test_a_study_that_changes_meanwhile_ends_the_sweep(fake: Path) -> None:
    with pytest.raises(EngineError, match="changed while the sweep ran"):
        command("-p", "label=hang,edit,ok", "--jobs", "2")
    assert sorted(labels(fake)) == ["edit", "hang"]
    assert alive([own["pid"] for own in started(fake)]) == []
    assert [entry["exit_code"] for entry in ledger(fake)] == [None, None, None]


class Trigger(io.StringIO):
    """A progress stream that acts once a line shows that one combination is done and another has begun to hang."""

    def __init__(self, root: Path, act: Callable[[], None]) -> None:
        super().__init__()
        self.root, self.act = root, act

    def write(self, text: str) -> int:
        if text.startswith("1/"):
            wait_for(self.root / "pids.json")
            self.act()
        return super().write(text)


def wait_for(path: Path, seconds: float = 60) -> None:
    end = monotonic() + seconds
    while not (path.exists() and path.read_text()):
        assert monotonic() < end, f"{path.name} does not appear"
        sleep(0.02)


@pytest.mark.parametrize("kind", ["hang", "stubborn"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, None), (signal.SIGTERM, 143)])
def test_a_signal_ends_all_processes_and_keeps_what_is_done(
    fake: Path, monkeypatch: pytest.MonkeyPatch, kind: str, number: signal.Signals, code: int | None
) -> None:
    monkeypatch.setattr(sweep_work, "GRACE", 0.3)
    made = sweep.plan("tiny", [f"label={kind},wait,ok"])
    with pytest.raises(KeyboardInterrupt if code is None else SystemExit) as caught:
        sweep.run(made, jobs=2, progress=Trigger(fake, lambda: signal.raise_signal(number)))
    assert getattr(caught.value, "code", None) == code
    assert alive(json.loads((fake / "pids.json").read_text())) == []
    assert [entry["exit_code"] for entry in ledger(fake)] == [None, 0, None]
    assert sorted(path.name for path in made.folder.iterdir()) == ["lock", "sweep.json"]


def test_leftovers_of_a_killed_sweep_are_ended_first(fake: Path) -> None:
    made = sweep.plan("tiny", ["label=ok"])
    mark = {**os.environ, sweep_work.MARK: str(made.folder)}
    kinds = [mark, {**mark, "XAI_RUN_DIR": "x"}, {**mark, sweep_work.MARK: "another"}]
    left = [subprocess.Popen(["sleep", "300"], env=kind, start_new_session=True) for kind in kinds]
    try:
        assert command("-p", "label=ok")[0] == 0
        assert [each.poll() for each in left] == [-signal.SIGTERM, -signal.SIGKILL, None]  # a runner, its kernel, not ours
    finally:
        for each in left:
            each.kill()
            each.wait()


@pytest.fixture
def family() -> Iterator[Callable[[Path, int], list[int]]]:
    """Kernels and executors of real notebooks that were started so far, from the `nth` on."""
    seen: list[int] = []

    def found(root: Path, nth: int) -> list[int]:
        seen.extend(pid for _, *pids in started(root)[nth:] for pid in pids)
        return seen

    yield found
    assert alive(seen) == []


@pytest.mark.slow
def test_kill_9_after_the_first_run_and_the_rest_is_run_by_the_next_call(root: Path, family: Callable[..., list[int]]) -> None:
    asked = ["n_images=1,2,3", "counts=1,5"]
    with subprocess.Popen([sys.executable, "-c", DRIVER, *asked], stderr=subprocess.PIPE, text=True) as killed:
        assert killed.stderr is not None
        assert any(line.startswith("1/3 n_images=1, counts=1,5: done in") for line in killed.stderr)
        first = ledger(root)
        end = monotonic() + 60
        while len(started(root)) < 2 and monotonic() < end:
            sleep(0.05)
        killed.kill()
    assert [entry["exit_code"] for entry in first] == [0, None, None]
    family(root, 1)
    made = sweep.plan("tiny", asked)
    entries = sweep.run(made, jobs=2, progress=None)
    assert [entry.exit_code for entry in entries] == [0, 0, 0]
    assert ledger(root)[0] == first[0]
    assert sorted(n for n, *_ in started(root)) == [1, 2, 2, 3]  # the second one had begun when the sweep was killed
    runs = [path for path in (root / "runs" / "tiny").iterdir() if path.name != "sweeps"]
    assert sorted(path.name for path in runs) == sorted(str(entry.run) for entry in entries)
    assert listing.find_run("tiny").name in {entry.run for entry in entries}


@pytest.mark.slow
def test_sigterm_ends_real_kernels_and_leaves_no_partial_folder(root: Path, family: Callable[..., list[int]]) -> None:
    asked = ["label=hang,hang-2"]
    with subprocess.Popen([sys.executable, "-c", DRIVER, *asked], stderr=subprocess.DEVNULL) as ended:
        wait_for(root / "started")
        family(root, 0)
        ended.terminate()
        assert ended.wait(timeout=30) == 143
    assert [path.name for path in (root / "runs" / "tiny").iterdir()] == ["sweeps"]
    assert [entry["exit_code"] for entry in ledger(root)] == [None, None]
