"""Plans, the store in words, and the commands around them."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from xai_lib import data, studies
from xai_lib.compendium import benchmark, cli, experiments, ledger, planning, storage, tasks
from xai_lib.compendium.engine import Serial
from xai_lib.compendium.experiments import given
from xai_lib.compendium.store import Store, tree
from xai_lib.compendium.study import Resolved, load
from xai_lib.errors import ConfigError, XaiError
from xai_lib.studies.case import open_case


@experiments.study_task(label="Three forward passes and a gradient")
def counted(case):
    from xai_lib import compute

    for _ in range(3):
        compute.logits(case.model, case.inputs)
    return {"maps": compute.input_gradient(case.model, case.inputs, case.targets)}


@experiments.study_task(label="Never works")
def never(case):
    from xai_lib.errors import DataError

    raise DataError("no such thing")


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("XAI_STORE", str(tmp_path / "store"))
    ledger.clear()
    return Store(tmp_path / "store")


@pytest.fixture
def stages():
    case = open_case("mnist_cnn", "mnist_5k", n=5, shard=2)
    return [[experiments.work_of(case, counted)]]


def test_a_plan_counts_rows_bytes_and_what_is_missing(store, stages):
    (line,) = planning.plan(stages, store)
    assert (line.images, line.shards, line.missing) == (5, 3, 3)
    assert (line.forward, line.backward) == (3 * 5, 5)
    assert line.bytes == 5 * 28 * 28 * 4
    assert line.seconds > 0
    assert list(store.listing()) == []  # a plan computes nothing that is kept
    benchmark.fill(stages, store, Serial(), part=(1, 3))
    (line,) = planning.plan(stages, store)
    assert (line.missing, line.forward, line.backward) == (2, 9, 3)
    benchmark.fill(stages, store, Serial())
    (line,) = planning.plan(stages, store)
    assert (line.shards, line.missing, line.forward, line.seconds) == (3, 0, 0, 0.0)


def test_the_table_of_a_plan_has_its_sums_and_shares_the_minutes_out(store, stages):
    line = planning.Line("a", 5, 3, 2, 1200, 34, 2_500_000, 90.0)
    text = planning.table([line, planning.Line("b", 1, 1, 0, 0, 0, 0, 30.0)], workers=2)
    last = next(row for row in text.splitlines() if row.startswith("all")).split()
    assert last == ["all", "4", "2", "1,200", "34", "2.5", "2.0"]
    assert "about 2.0 minutes in one process" in text
    assert "about 1.0 with 2 workers" in text


def test_a_plan_of_what_cannot_be_computed_says_why(store):
    case = open_case("mnist_cnn", "mnist_5k", n=2)
    with pytest.raises(XaiError, match="first image, mnist5k-3414, cannot be computed: DataError: no such thing"):
        planning.plan([[experiments.work_of(case, never)]], store)


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2", "1/2/3", ""])
def test_a_bad_shard_is_refused(text):
    if text:
        with pytest.raises(ConfigError, match="expected i/n"):
            planning.read_part(text)
    else:
        assert planning.read_part(text) == (1, 1)


def test_parts_cover_everything_once_and_keep_images_together(stages):
    case = open_case("mnist_cnn", "mnist_5k", n=5, shard=2)
    two = [*stages[0], experiments.work_of(case.first(4), counted)]
    parts = [benchmark.part_of(two, (i, 2)) for i in (1, 2)]
    keys = [task.key for part in parts for task in part]
    assert sorted(keys) == sorted(task.key for work in two for task in work.tasks())
    first = {tasks.item_name(item) for task in parts[0] for item in task.items}
    second = {tasks.item_name(item) for task in parts[1] for item in task.items}
    assert not first & second


@pytest.mark.parametrize("name", ["no_such_study", "catalogue_pages"])  # no module; a module without works
def test_a_study_without_a_plan_says_so(name):
    loaded = load("baseline_study")
    other = loaded.model_copy(update={"name": name})
    with pytest.raises(ConfigError, match=f"'{name}' has no plan"):
        planning.works_of(other, Resolved({}, None, True, "smoke"))


def test_compute_fills_a_part_and_reports_what_is_left_out(store, stages, monkeypatch):
    monkeypatch.setattr(planning, "works_of", lambda *_: stages)
    summary = planning.compute(None, None, engine="serial", shard="1/2", progress=None)
    assert (summary.done, summary.known) == (2, 0)
    summary = planning.compute(None, None, engine="serial", progress=None)
    assert (summary.done, summary.known) == (1, 2)
    summary.left_out = {f"i{k}": "broken" for k in range(30)}
    text = planning.report(summary)
    assert "quarantined: i0: broken" in text
    assert "and 10 more" in text


def test_status_and_verify_in_words(store, stages, capsys):
    benchmark.fill(stages, store, Serial())
    old = {"task": "counted", "made_with": {**tasks.made_with(), "torch": "1.0"}}
    store.write(old, {"value": torch.zeros(3).numpy()})
    assert cli.main(["status"]) == 0
    out = capsys.readouterr().out
    assert "4 shards" in out
    assert "stale because these changed: torch (kept" in out
    assert cli.main(["verify"]) == 0
    assert "4 shards, all sound" in capsys.readouterr().out
    before = tree(store.root)
    assert cli.main(["status", "--delete-stale"]) == 0
    capsys.readouterr()
    assert len(tree(store.root)) == len(before) - 2
    payload = next((store.root / "shards").glob("*/*.safetensors"))
    payload.write_bytes(b"\0" + payload.read_bytes()[1:])
    assert cli.main(["verify"]) == 5
    assert "1 of 3 shards are damaged and were set aside" in capsys.readouterr().out
    assert storage.verify(store) == (f"{store.root}: 2 shards, all sound", 0)
    assert "1 damaged shards were set aside" in storage.status(store)


def test_run_with_an_engine_computes_first_and_a_shard_leaves_the_notebook_alone(store, stages, monkeypatch, capsys):
    monkeypatch.setattr(planning, "works_of", lambda *_: stages)
    started = []
    monkeypatch.setattr(cli.runner, "run", lambda *a, **k: started.append(a) or (_ for _ in ()).throw(ConfigError("stop")))
    assert cli.main(["run", "baseline_study", "--shard", "1/2"]) == 0
    assert started == []
    assert "2 shards computed" in capsys.readouterr().out
    assert cli.main(["run", "baseline_study", "--engine", "local:x"]) == 2
    assert "expected local:N" in capsys.readouterr().err
    stages[0].append(experiments.work_of(open_case("mnist_cnn", "mnist_5k", n=1), never))
    assert cli.main(["run", "baseline_study", "--shard", "1/1"]) == 3
    assert "quarantined: mnist5k-3414: DataError: no such thing" in capsys.readouterr().out
    assert started == []


def test_parameters_are_taken_from_the_notebook(monkeypatch):
    values = load("baseline_study").profile_values("smoke")
    assert given("baseline_study", {**values, "other": 1}) == values
    values.pop("steps")
    with pytest.raises(ConfigError, match="no variable steps"):
        given("baseline_study", values)


def test_a_run_records_the_shards_it_used(store, stages, tmp_path, monkeypatch):
    from xai_lib.compendium import results
    from xai_lib.studies.case import rows

    monkeypatch.setenv("XAI_RUN_DIR", str(tmp_path))
    case = open_case("mnist_cnn", "mnist_5k", n=5, shard=2)
    experiments.stored(case, counted)
    ledger.left_out["x"] = "unreadable"
    frame = rows(case, "a", "m", case.targets.double())
    results.save_results(frame, samples=[data.load("mnist_5k", n=1)], models=[case.model])
    record = json.loads((tmp_path / results.PROVENANCE).read_text())
    assert record["shards"]["keys"] == sorted(task.key for task in stages[0][0].tasks())
    assert record["extra"]["quarantined"] == [{"item": "x", "reason": "unreadable"}]
    assert record["made_with"] == tasks.made_with()
    ledger.clear()


@pytest.mark.slow
def test_a_worker_knows_every_task_of_every_study():
    """A fresh process that imports the task list alone, against every function under `@study_task` in the source."""
    folder = Path(studies.__file__).parent
    written = {
        name
        for path in folder.glob("*.py")
        for name in re.findall(r"^@study_task\([^\n]*\)\ndef (\w+)", path.read_text(), flags=re.MULTILINE)
    }
    assert {"panel_rows", "localisation_maps", "nested_maps"} <= written
    code = "from xai_lib.compendium import task_list, tasks; print(' '.join(tasks.TASKS))"
    known = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert written | {"train_net", "order_pixels"} <= set(known)
