"""Study files, parameters and results tables: what is accepted, and that everything else is refused with its place."""

import math
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
import tiny_study
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xai_lib.compendium import results, study
from xai_lib.compendium.parameters import Parameter, inside
from xai_lib.errors import ConfigError, InputError, StoreError


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> study.Study:
    monkeypatch.setenv("XAI_ROOT", str(tiny_study.write(tmp_path)))
    return study.load("tiny")


def convert(kind: str, value: Any, **own: Any) -> Any:
    return Parameter(type=kind, default=None, help="help", **own).convert("p", value, root=Path("/"))


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("int", "12", 12),
        ("int", -3, -3),
        ("float", "1e-3", 0.001),
        ("float", 2, 2.0),
        ("bool", "true", True),
        ("bool", False, False),
        ("str", "5", "5"),
        ("list[int]", "1,5,10", [1, 5, 10]),
        ("list[int]", "[1, 5]", [1, 5]),
        ("list[int]", (1, 5), [1, 5]),
        ("list[float]", "1e-3,2", [0.001, 2.0]),
        ("list[str]", "a, b", ["a", "b"]),
        ("int_or_auto", "auto", "auto"),
        ("int_or_auto", "20", 20),
        ("path", "data/x.csv", "data/x.csv"),
    ],
)
def test_values_are_converted_by_their_declared_type(kind: str, value: Any, expected: Any) -> None:
    found = convert(kind, value)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("int", "abc"),
        ("int", "5.0"),
        ("int", 5.0),
        ("int", "1e9"),
        ("int", True),
        ("int", "true"),
        ("int", None),
        ("float", "nan"),
        ("float", math.inf),
        ("float", "-inf"),
        ("float", True),
        ("float", [1.0]),
        ("bool", "True"),
        ("bool", "yes"),
        ("bool", 1),
        ("str", 5),
        ("str", ["a"]),
        ("str", "a\0b"),
        ("str", "a\nb"),
        ("str", "x" * 201),
        ("list[int]", "1,x"),
        ("list[int]", 5),
        ("list[int]", "[]"),
        ("list[int]", "[1"),
        ("list[str]", [["a"]]),
        ("int_or_auto", "automatic"),
    ],
)
def test_f25_wrong_types_are_refused_with_what_was_expected(kind: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^parameter 'p': found .* expected "):
        convert(kind, value)


@pytest.mark.parametrize("value", ["0", 0, 101, 10**9])
def test_f25_range_is_inclusive_and_checked(value: Any) -> None:
    assert [convert("int", end, range=(1, 100)) for end in ("1", 100)] == [1, 100]
    with pytest.raises(ConfigError, match=r"expected int in \[1, 100\] \(.* is out of range\)"):
        convert("int", value, range=(1, 100))


def test_range_holds_for_each_element_and_may_be_open() -> None:
    assert convert("list[int]", "1,900", range=(1, None)) == [1, 900]
    with pytest.raises(ConfigError, match=r"in \[1, \.\.\.\]"):
        convert("list[int]", "5,0", range=(1, None))


def test_f26_choices_and_registered_names_show_the_closest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'median'"):
        convert("str", "medain", choices=("mean", "median"))
    parameter = Parameter(type="list[str]", default=[], registry="baselines", help="help")
    good = parameter.convert("p", ["black", {"blur": {}}], root=Path("/"))
    parameter.check_registered("p", good)
    assert parameter.convert("p", "[{blur: {}}, white]", root=Path("/")) == [{"blur": {}}, "white"]
    with pytest.raises(ConfigError, match=r"parameter 'p': unknown baseline 'blck': did you mean 'black'"):
        parameter.check_registered("p", ["blck"])
    with pytest.raises(
        ConfigError, match=r"parameter 'p': unknown parameter of baseline 'blur': 'sigmaa'|unknown parameter of"
    ):
        parameter.check_registered("p", [{"blur": {"sigmaa": 1}}])
    with pytest.raises(ConfigError, match=r"one \{name"):
        parameter.convert("p", [{"a": {}, "b": {}}], root=Path("/"))


@pytest.mark.parametrize("path", ["../../x", "/etc/passwd", "a/../../x", "link/x", "a\0b", "x" * 300, "..\\x", "a\u2028b"])
def test_f29_paths_stay_under_the_root(tmp_path: Path, path: str) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="path"):
        inside(tmp_path / "root", path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.sampled_from("./\\~{}ab:\0 \u2215é"), max_size=25))
def test_f29_whatever_is_accepted_lies_under_the_root(tmp_path: Path, text: str) -> None:
    try:
        path = inside(tmp_path, text)
    except ConfigError:
        return
    assert path.is_relative_to(tmp_path.resolve())


def test_resolve_is_complete_ordered_and_names_its_profile(tiny: study.Study) -> None:
    smoke, book = tiny.resolve(), tiny.resolve("book")
    assert list(smoke.values) == list(tiny.parameters)
    assert (smoke.profile, smoke.exploratory, smoke.values["n_images"]) == ("smoke", False, 3)
    assert (book.profile, book.values["n_images"]) == ("book", 12)


@pytest.mark.parametrize(
    ("profile", "overrides", "found"),
    [
        ("smoke", {"n_images": "12"}, "book"),
        ("book", {"n_images": 3}, "smoke"),
        ("book", {"shift": "0.5"}, "book"),
        ("book", {"shift": "0.6"}, None),
        (None, {"counts": "1,5"}, "smoke"),
        (None, {"counts": "5,1"}, None),
    ],
)
def test_overrides_that_leave_a_registered_profile_are_exploratory(
    tiny: study.Study, profile: str | None, overrides: dict, found: str | None
) -> None:
    resolved = tiny.resolve(profile, overrides)
    assert (resolved.profile, resolved.exploratory) == (found, found is None)


def test_f24_unknown_parameter_and_profile(tiny: study.Study) -> None:
    with pytest.raises(ConfigError, match="unknown parameter of tiny 'n_image': did you mean 'n_images'"):
        tiny.resolve("book", {"n_image": "3"})
    with pytest.raises(ConfigError, match="unknown profile of tiny 'paper'"):
        tiny.resolve("paper")


CHANGES = [
    ({"titel": "x"}, r"tiny.yml: titel: unknown key"),
    ({"title": 5}, r"tiny.yml: title: found 5, expected it to be a valid string"),
    ({"name": "x"}, r"tiny.yml: name: unknown key"),
    ({"profiles": {"book": {"minutes": 1, "verdicts": True}}}, "profiles: found book, expected a profile 'smoke'"),
    (
        {"profiles": {"smoke": {"minutes": -1, "verdicts": False}}},
        r"profiles.smoke.minutes: found -1, expected it to be greater",
    ),
    (
        {"profiles": {"smoke": {"minutes": 1, "verdicts": False, "values": {"n": 1}}}},
        "unknown parameter in profiles.smoke.values",
    ),
    (
        {"profiles": {"smoke": {"minutes": 1, "verdicts": False, "values": {"shift": "x"}}}},
        "'shift': found 'x', expected float in",
    ),
    ({"minutes": {"smoke": 3}}, r"minutes.smoke: found 3, but profiles.smoke.minutes is 0.1"),
    ({"minutes": {"smok": 3}}, "did you mean 'smoke'"),
    ({"claims": tiny_study.CONTENT["claims"][:1] * 2}, "ids repeat in A1, A1"),
    ({"document": None}, "document: missing, and required where there are claims or deviations"),
    ({"document": 5}, "document: found 5"),
]


def test_a_study_file_without_document_is_a_lesson(tmp_path: Path) -> None:
    lesson = study.load("tiny", place=tiny_study.write(tmp_path, document=None, claims=[]))
    assert lesson.document is None
    assert lesson.publishable == ["book"]
    other = {**tiny_study.CONTENT["profiles"], "book": {**tiny_study.CONTENT["profiles"]["book"], "verdicts": False}}
    assert study.load("tiny", place=tiny_study.write(tmp_path / "none", profiles=other)).publishable == []
    lesson = study.load("tiny", place=tiny_study.write(tmp_path / "all", document=None, claims=[], profiles=other))
    assert lesson.publishable == ["book"]
    assert study.load("tiny", place=tiny_study.write(tmp_path / "other")).document is not None


@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_study_files_are_refused_with_file_key_found_and_expected(tmp_path: Path, change: dict, message: str) -> None:
    root = tiny_study.write(tmp_path, **{key: value for key, value in change.items() if key != "name"})
    if "name" in change:
        path = root / "notebooks" / "tiny.yml"
        path.write_text(path.read_text() + "name: x\n")
    with pytest.raises(ConfigError, match=message):
        study.load("tiny", place=root)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"kind": "greater", "metric": "m", "method": "a"}, r"claims.0.rule.greater.versus: missing"),
        ({"kind": "larger", "metric": "m", "method": "a"}, r"claims.0.rule: found"),
        ({"kind": "not_tested", "reason": "tired", "note": "later"}, r"claims.0.rule.not_tested.reason: found 'tired'"),
        ({"kind": "equivalent", "metric": "m", "method": "a", "versus": "b", "bound": 0}, "bound: found 0"),
    ],
)
def test_rules_are_checked(tmp_path: Path, rule: dict, message: str) -> None:
    claim = {**tiny_study.CONTENT["claims"][0], "rule": rule}
    with pytest.raises(ConfigError, match=message):
        study.load("tiny", place=tiny_study.write(tmp_path, claims=[claim]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title: [", "no valid YAML"),
        ("- a", "found list, expected a mapping"),
        ("title: a\ntitle: b", "line 1: key 'title' is given twice"),
        ("title: !!python/object/apply:os.system ['touch canary']", "no valid YAML"),
    ],
)
def test_f31_yaml_is_data_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = tiny_study.write(tmp_path) / "notebooks" / "tiny.yml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        study.load("tiny", place=tmp_path)
    assert not (tmp_path / "canary").exists()


def test_unknown_studies_and_outside_paths(tiny: study.Study) -> None:
    assert study.names() == ["tiny"]
    assert study.load("notebooks/tiny.yml") == tiny == study.load(tiny.path)
    with pytest.raises(ConfigError, match="unknown study 'tyni': did you mean 'tiny'"):
        study.load("tyni")
    with pytest.raises(ConfigError, match="unknown study"):
        study.load("../tiny")
    with pytest.raises(ConfigError, match="leaves"):
        study.load("../../tiny.yml")


def test_studies_are_frozen(tiny: study.Study) -> None:
    with pytest.raises(ValueError, match="frozen"):
        tiny.title = "x"


def test_notebook_defaults_are_read_not_run(tmp_path: Path) -> None:
    root = tiny_study.write(tmp_path, parameters='a = 1\nb: list = ["x"]  # = help\nc = {"blur": {"sigma": 2.0}}')
    assert study.notebook_defaults(root / "notebooks" / "tiny.ipynb") == {"a": 1, "b": ["x"], "c": {"blur": {"sigma": 2.0}}}


@pytest.mark.parametrize("source", ["a = open('canary', 'w')", "import os", "a, b = 1, 2", "a = 1 +", "a: int"])
def test_f31_parameters_cells_hold_literals_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    monkeypatch.chdir(tmp_path)
    root = tiny_study.write(tmp_path, parameters=source)
    with pytest.raises(ConfigError, match="more than `name = literal`"):
        study.notebook_defaults(root / "notebooks" / "tiny.ipynb")
    assert not (tmp_path / "canary").exists()


def test_notebook_needs_exactly_one_parameters_cell(tmp_path: Path) -> None:
    path = tiny_study.write(tmp_path) / "notebooks" / "tiny.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].metadata["tags"] = []
    nbformat.write(notebook, path)
    with pytest.raises(ConfigError, match="found 0 cells tagged 'parameters'"):
        study.notebook_defaults(path)
    path.write_text("no notebook")
    with pytest.raises(ConfigError, match="no readable notebook"):
        study.notebook_defaults(path)


@pytest.mark.parametrize("path", sorted(study.root().glob("notebooks/*.yml")), ids=lambda path: path.stem)
def test_this_repository_s_studies_agree_with_their_notebooks(path: Path) -> None:
    loaded = study.load(path)
    loaded.check_notebook()
    for profile in loaded.profiles:
        assert loaded.resolve(profile).profile is not None


def test_results_round_trip_to_the_last_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = tiny_study.table({"b": [0.1 + 0.2, 1e-300, math.nan], "a": [1 / 3, -0.0, 5e15]}, flags={2: "constant"})
    frame["sample"] = ["NA", "null", "007"] * 2
    frame["method_parameters"] = [{"steps": 5, "baseline": "black"}] * 6
    monkeypatch.setenv("XAI_RUN_DIR", str(tmp_path))
    saved = study.save_results(frame[frame.columns[::-1]], samples=[], models=[])
    again = study.read_results(tmp_path / "results.csv")
    pd.testing.assert_frame_equal(saved, again, check_exact=True)
    assert tuple(again.columns) == study.COLUMNS
    assert again["method_parameters"][0] == '{"baseline": "black", "steps": 5}'
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["provenance.json", "results.csv"]
    assert yaml.safe_load((tmp_path / "provenance.json").read_text())["data"] == []


def test_outside_a_run_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XAI_RUN_DIR", raising=False)
    study.save_results(tiny_study.table({"a": [1.0]}), samples=[], models=[])
    assert "nothing is written outside `xai run`" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.drop(columns="flag"), r"missing columns \['flag'\], unknown columns none"),
        (lambda frame: frame.assign(more=1), r"unknown columns \['more'\]"),
        (lambda frame: frame.iloc[:0], "the table is empty"),
        (lambda frame: frame.assign(sample="x"), "2 rows repeat a key"),
        (lambda frame: frame.assign(value=math.nan), "2 values are not finite and have no flag"),
        (lambda frame: frame.assign(value=math.inf), "are not finite"),
        (lambda frame: frame.assign(value="high"), "must hold numbers"),
        (lambda frame: frame.assign(sample=7), "column 'sample' holds 7"),
        (lambda frame: frame.assign(flag=None), "column 'flag' holds"),
        (lambda frame: frame.assign(method=""), "column 'method' is empty in row 0"),
        (lambda frame: frame.assign(metric_parameters="[1]"), "must hold JSON objects"),
        (lambda frame: frame.assign(metric_parameters="{'a': 1}"), "must hold JSON objects"),
        (lambda frame: frame.assign(seed=None), "seed must be whole"),
    ],
)
def test_results_are_refused(change: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        results.checked(change(tiny_study.table({"a": [1.0, 2.0]})))


def test_results_that_cannot_be_written_or_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XAI_RUN_DIR", str(tmp_path / "absent"))
    with pytest.raises(StoreError, match="cannot be written: No such file"):
        study.save_results(tiny_study.table({"a": [1.0]}), samples=[], models=[])
    (tmp_path / "results.csv").write_text("a,b\n1,2\n")
    with pytest.raises(StoreError, match="no results table"):
        study.read_results(tmp_path / "results.csv")
