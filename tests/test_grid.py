"""The grid: the numbers of the plain calls, whoever computes them, however often they are interrupted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from xai_lib import METHODS, METRICS, compute, data, models
from xai_lib.compendium import benchmark, experiments, grid, ledger, results, tasks
from xai_lib.compendium.engine import Serial, open_engine
from xai_lib.compendium.store import Store, tree
from xai_lib.errors import ConfigError, DataError, EngineError, StoreError
from xai_lib.studies.case import open_case

TESTS = Path(__file__).parent
THREE = ["integrated_gradients", "smoothgrad", "lime_like"]
ASKED = {
    "model_names": ["mnist_cnn"],
    "methods": [{"integrated_gradients": {"steps": 4}}, {"smoothgrad": {"n_samples": 3}}, "lime_like"],
    "metrics": ["sparseness"],
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    import grid_tasks

    grid_tasks.register()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    del METHODS._entries["lime_like"]


@pytest.fixture
def store(tmp_path):
    ledger.clear()
    return Store(tmp_path / "store")


def run(store, **own):
    given = {"n": 6, "shard": 2, "progress": None, **ASKED, **own}
    return grid.run("mnist_5k", given.pop("model_names"), given.pop("methods"), given.pop("metrics"), store=store, **given)


def test_the_table_holds_what_the_plain_calls_give(store):
    table = run(store, methods=["gradient", {"integrated_gradients": {"steps": 4}}], metrics=["sparseness", "completeness_gap"])
    samples, net = data.load("mnist_5k", n=6, seed=0), models.load("mnist_cnn")
    targets = compute.logits(net, samples.inputs).argmax(1)
    for method, own in (("gradient", {}), ("integrated_gradients", {"steps": 4})):
        maps = METHODS.bind(method, **own)(net, samples.inputs, targets)
        for metric in ("sparseness", "completeness_gap"):
            words = {"model": net, "inputs": samples.inputs, "targets": targets, "attributions": maps}
            expected = METRICS.ask(METRICS.bind(metric), words)
            found = table[(table.method == method) & (table.metric == metric)]
            assert found["sample"].tolist() == list(samples.ids)
            np.testing.assert_allclose(found["value"], expected, rtol=1e-4, atol=1e-5)
    assert len(table) == 2 * 2 * 6
    assert table.seconds.gt(0).all()
    assert results.checked(table).flag.eq("").all()


def test_nothing_is_computed_twice_and_a_new_metric_keeps_the_maps(store):
    assert run(store).attrs["summary"].done == 3 * 3 * 2
    again = run(store).attrs["summary"]
    assert (again.done, again.known) == (0, 18)
    more = run(store, metrics=["sparseness", "complexity"]).attrs["summary"]
    assert (more.done, more.known) == (9, 18)


def test_max_batch_is_no_part_of_the_key_but_seed_and_parameters_are(store):
    run(store)
    assert run(store, max_batch=1).attrs["summary"].done == 0
    assert run(store, seed=1).attrs["summary"].done == 18
    assert run(store, methods=[{"integrated_gradients": {"steps": 5}}]).attrs["summary"].done == 6


def test_the_label_can_be_explained(store):
    table = run(store, target="label", methods=["gradient"])
    shards = [store.read(found.request) for found in store.listing() if found.request["task"] == "attribute"]
    labels = data.load("mnist_5k", n=6, seed=0).targets.tolist()
    assert sorted(int(t) for shard in shards for t in shard.arrays["targets"]) == sorted(labels)
    assert len(table) == 6
    case = open_case("mnist_cnn", "mnist_5k", n=2)  # these are predicted rightly, so ask for a class that nobody predicts
    asked = [[name, content, (target + 1) % 10] for name, content, target in experiments.items_of(case)]
    assert experiments.reopened(case.spec, asked).targets.tolist() == [item[2] for item in asked]
    with pytest.raises(ConfigError, match="target='true'"):
        run(store, target="true")


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"methods": ["gradeint"]}, "did you mean 'gradient'"),
        ({"methods": "gradient"}, r"expected a list such as \['gradient'\]"),
        ({"methods": ["gradient", "gradient"]}, "asked for twice"),
        ({"methods": [lambda *a: a[1]]}, "register it first"),
        ({"metrics": [{"sparseness": {"reduc": "sum"}}]}, "did you mean 'reduce'"),
        ({"model_names": ["mnist_cn"]}, "did you mean 'mnist_cnn'"),
        ({"part": (3, 2)}, "shard 3/2"),
        ({"engine": "locl:2"}, "expected one of serial, local:N"),
        ({"engine": "local:0"}, "N from 1 to"),
        ({"n": 0}, "n=0"),
    ],
)
def test_a_bad_request_is_refused_before_anything_is_computed(store, own, message):
    with pytest.raises(ConfigError, match=message):
        run(store, **own)
    assert list(store.listing()) == []


def test_a_map_that_is_not_finite_is_left_out_alone(store, monkeypatch):
    bad = data.load("mnist_5k", n=6, seed=0)
    digest = tasks.item_name(bad.ids[3])
    own = METHODS["gradient"].function

    def broken(model, inputs, targets, **asked):
        maps = own(model, inputs, targets, **asked)
        hit = (inputs.flatten(1) == bad.inputs[3].flatten()).all(1)
        return torch.where(hit.view(-1, 1, 1, 1), torch.full_like(maps, float("nan")), maps)

    broken.__signature__ = __import__("inspect").signature(own)
    monkeypatch.setitem(METHODS._entries, "gradient", type(METHODS["gradient"])("gradient", broken, "Gradient", "none"))
    table = run(store, methods=["gradient"])
    wrong = table[table["value"].isna()]
    assert wrong["sample"].tolist() == [digest]
    assert "nonfinite" in wrong.flag.iloc[0]
    assert list(table.attrs["quarantined"]) == [digest]
    results.checked(table)


def test_changed_images_or_weights_are_never_mixed_with_old_results(store, monkeypatch):
    case = open_case("mnist_cnn", "mnist_5k", n=2)
    items = experiments.items_of(case)
    assert experiments.reopened(case.spec, items).samples.ids == case.samples.ids
    with pytest.raises(StoreError, match=r"image .* changed since"):
        experiments.reopened(case.spec, [[items[0][0], "0" * 16, 0]])
    with pytest.raises(StoreError, match="weights changed since"):
        experiments.reopened({**case.spec, "weights": "0" * 64}, items)


@experiments.study_task(label="Brightness of a test")
def brightness(case, *, scale: float = 1.0):
    return {"value": scale * case.inputs.flatten(1).mean(1)}


def test_a_study_task_gives_the_same_from_the_store_as_directly(store, monkeypatch):
    monkeypatch.setenv("XAI_STORE", str(store.root))
    case = open_case("mnist_cnn", "mnist_5k", n=5, shard=2)
    direct = brightness(case, scale=3.0)["value"]
    for _ in range(2):
        torch.testing.assert_close(experiments.stored(case, brightness, scale=3.0)["value"], direct)
    assert sum(f.request["task"] == "brightness" for f in store.listing()) == 3
    assert len(ledger.shards) == 3
    by_hand = type(case)(case.model, case.samples, case.targets)
    torch.testing.assert_close(experiments.stored(by_hand, brightness, scale=3.0)["value"], direct)
    with pytest.raises(ConfigError, match="made by hand"):
        experiments.work_of(by_hand, brightness)


def test_a_table_survives_the_store_with_flags_parameters_and_order(store, monkeypatch):
    from xai_lib.studies.case import rows

    @experiments.study_task(label="Rows of a test")
    def some_rows(case):
        import pandas as pd

        values = case.targets.double()
        holes = torch.where(case.targets == case.targets[0], torch.nan, values)
        first = rows(case, "b", "m", values, method_parameters={"k": [1, 2]}, seconds=4.0)
        return pd.concat([first, rows(case, "a", "m", holes, flag="because")])

    monkeypatch.setenv("XAI_STORE", str(store.root))
    case = open_case("mnist_cnn", "mnist_5k", n=5, shard=5)
    columns = ["method", "metric", "sample", "seed", "value", "flag", "method_parameters"]
    found, direct = experiments.stored(case, some_rows), some_rows(case)
    assert found[columns].reset_index(drop=True).equals(direct[columns].reset_index(drop=True))
    np.testing.assert_allclose(found.seconds[:5], 4 / 5)
    tasks.TASKS._entries.pop("some_rows")


def test_a_damaged_shard_is_computed_again_once(store, monkeypatch):
    monkeypatch.setenv("XAI_STORE", str(store.root))
    case = open_case("mnist_cnn", "mnist_5k", n=2, shard=2)
    before = experiments.stored(case, brightness)["value"]
    (payload,) = (store.root / "shards").glob("*/*.safetensors")
    payload.write_bytes(payload.read_bytes()[:-1] + b"\xff")
    torch.testing.assert_close(experiments.stored(case, brightness)["value"], before)
    assert len(list((store.root / "corrupt").iterdir())) == 2
    monkeypatch.setattr(Store, "read", lambda *_: None)
    with pytest.raises(StoreError, match="damaged again") as caught:
        experiments.stored(case, brightness)
    assert caught.value.exit_code == 5


def test_unreadable_pictures_are_left_out_of_a_case(monkeypatch):
    from xai_lib.data import mnist as _mnist  # noqa: F401
    from xai_lib.studies import case as cases

    ledger.clear()
    good = data.load("mnist_5k", n=4, seed=0)
    real = cases.open_source

    def opened(*args, **own):
        source = real(*args, **own)

        def read(rows):
            if any(source.ids[row] == good.ids[1] for row in rows):
                raise DataError(f"{good.ids[1]}: truncated")
            return source.read(rows)

        return type(source)(source.name, source.ids, read, source.verify, source.seeded)

    monkeypatch.setattr(cases, "open_source", opened)
    monkeypatch.setattr(cases.data, "load", lambda *a, **k: (_ for _ in ()).throw(DataError("truncated")))
    found = cases.readable("mnist_5k", n=4, seed=0)
    assert found.ids == (good.ids[0], *good.ids[2:])
    assert list(ledger.left_out) == [good.ids[1]]
    ledger.clear()


SCRIPT = """
import os, random, signal, sys, time
import torch
torch.set_num_threads(1)
import grid_tasks
if "lime_like" not in grid_tasks.METHODS:
    grid_tasks.register()
from xai_lib import models
from xai_lib.compendium import grid
from xai_lib.compendium.store import Store
methods = [{"integrated_gradients": {"steps": 4}}, {"smoothgrad": {"n_samples": 3}}, "lime_like"]
models.load("mnist_cnn")
draw, deaths = random.Random(0), 0
while True:
    child = os.fork()
    if child == 0:
        own = {"n": 6, "shard": 2, "progress": None, "store": Store(sys.argv[1])}
        grid.run("mnist_5k", ["mnist_cnn"], methods, ["sparseness"], **own)
        os._exit(0)
    if deaths < 20:
        time.sleep(draw.uniform(0, 0.25))
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if status == 0:
        break
    assert status == signal.SIGKILL, status
    deaths += 1
print(deaths)
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_same_bytes_for_every_engine_and_any_interruption(tmp_path, monkeypatch):
    for name, value in {"XAI_TESTING": "1", "XAI_TASKS": "grid_tasks", "PYTHONPATH": str(TESTS)}.items():
        monkeypatch.setenv(name, value)
    reference = Store(tmp_path / "serial")
    expected = run(reference)
    assert set(expected.method) == set(THREE)
    trees = {}
    with open_engine("local:2") as two:
        other = Store(tmp_path / "local")
        items, _ = grid.Images("mnist_5k", n=6).items("predicted")
        cells = grid.cells(
            grid.Images("mnist_5k", n=6), items, ASKED["model_names"], ASKED["methods"], ASKED["metrics"], score="logit",
            seed=0, shard=2, max_batch=None,
        )  # fmt: skip
        benchmark.fill(grid.stages(list(cells)), other, two)
        trees["local:2"] = tree(other.root)
    halves = Store(tmp_path / "halves")
    assert run(halves, part=(2, 2)).attrs["summary"].done < 18
    run(halves, part=(1, 2))
    trees["two parts"] = tree(halves.root)
    killed = tmp_path / "killed"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, str(killed)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=TESTS, timeout=200, check=True)
    assert int(done.stdout) >= 5
    trees["killed"] = tree(killed)
    for name, found in trees.items():
        assert found == tree(reference.root), name


def test_json_of_a_task_is_all_a_worker_gets(store):
    table = run(store, methods=["gradient"], metrics=["sparseness"], n=2)
    assert len(table) == 2
    (found,) = [f for f in store.listing() if f.request["task"] == "attribute"]
    task = tasks.Task(found.request["task"], tuple(found.request["items"]), found.request["parameters"])
    assert task.key == found.key
    assert tasks.Task.read(task.text()) == tasks.Task.read(json.dumps(json.loads(task.text())))
    other = Store(store.root.parent / "other")
    assert [o.status for o in Serial().run([task], other)] == ["done"]
    assert tree(other.root).items() <= tree(store.root).items()


@pytest.mark.slow
def test_each_worker_has_a_gpu_of_its_own_and_its_share_of_the_cores(monkeypatch):
    from xai_lib.compendium import engine

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.setattr(engine, "cores", lambda: 8)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)  # the user's own number would win
    with open_engine("local:2") as two:
        found = two.client.run(lambda: (os.environ["CUDA_VISIBLE_DEVICES"], os.environ["OMP_NUM_THREADS"]))
    assert sorted(found.values()) == [("3", "4"), ("5", "4")]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert engine._gpus() == []


def test_a_worker_with_other_sources_is_refused_by_name(tmp_path):
    class Elsewhere(Serial):
        def run(self, asked, store, *, timeout=None):
            yield from (tasks.Outcome("0" * 64, "done", len(task.items)) for task in asked)

    with pytest.raises(EngineError, match="was the source changed after the start"):
        benchmark.calculate([tasks.Task("attribute", (1,))], Store(tmp_path), Elsewhere())


def test_arrays_come_back_in_the_order_in_which_they_were_written(store):
    """The payload's own order is arbitrary, and differs between processes; tables that follow it would differ, too."""
    names = [f"{k * 7 % 23} x" for k in range(23)]
    store.write({"a": 1}, {name: np.zeros(3, np.float32 if k % 2 else np.float64) for k, name in enumerate(names)})
    for _ in range(5):
        assert list(store.read({"a": 1}).arrays) == names
