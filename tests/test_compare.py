"""`xai compare`: pairing, estimates and tests against numbers worked out by hand, what is refused, and what is written."""

import argparse
import hashlib
import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny_study

from xai_lib import stats
from xai_lib.compendium import compare, compare_page, compare_tables, results
from xai_lib.errors import ConfigError, StoreError, XaiError

pytestmark = pytest.mark.slow


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XAI_ROOT", str(tiny_study.write(tmp_path)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(values: dict[str, list[float]], **same: Any) -> pd.DataFrame:
    return tiny_study.table(values, **same)


def folder(root: Path, name: str, *tables: pd.DataFrame, **changes: Any) -> Path:
    """A finished run, written by hand."""
    path = root / "runs" / "tiny" / name
    path.mkdir(parents=True)
    results.checked(pd.concat(tables)).to_csv(path / "results.csv", index=False)
    record = {
        "study": "tiny",
        "run_id": name,
        "profile": "smoke",
        "finished": f"2026-01-01T00:00:00+00:00 {name}",
        "seconds": 1.0,
        "parameters": {"n_images": 3, "shift": 0.5, "counts": [1, 5]},
        "versions": {"numpy": "2.0", "torch": "2.10"},
        "verdicts": [],
        "data": [{"name": "photos", "fingerprint": "f" * 64, "n": 3}],
        "models": [{"name": "net", "weights_sha256": "a" * 64}],
        "command": "xai run tiny",
        "results_sha256": hashlib.sha256((path / "results.csv").read_bytes()).hexdigest(),
    }
    (path / "run.json").write_text(json.dumps({**record, **changes}))
    return path


def only(root: Path, *tables: pd.DataFrame) -> compare.Row:
    """The second row of a comparison that has one key: run 2, with its difference to run 1."""
    for name, table in zip("12", tables, strict=True):
        folder(root, name, table)
    first, second = compare.compare(["runs/tiny/1", "runs/tiny/2"]).rows
    assert (first.run, second.run, first.difference) == (1, 2, None)
    return second


def run(*arguments: object) -> tuple[int, str]:
    """Exit code and output of `xai compare`."""
    parser, said = argparse.ArgumentParser(), []
    compare.add_arguments(parser)
    return compare.command(parser.parse_args([str(argument) for argument in arguments]), said.append), "\n".join(said)


def test_differences_are_paired_by_image_wherever_its_row_stands(root: Path) -> None:
    first = rows({"a": [1.0, 2.0, 3.0, 4.0]})
    own = rows({"a": [2.0, 4.0, 3.0, 5.0]}).iloc[[3, 0, 2, 1]]  # by image: 1, 2, 0, 1 more
    row = only(root, first, own)
    assert (row.mean.value, row.mean.n, row.mean.dropped) == (3.5, 4, 0)
    assert row.mean == stats.bootstrap_interval([2.0, 3.0, 4.0, 5.0])
    assert row.difference == stats.bootstrap_interval([0.0, 1.0, 1.0, 2.0])
    assert row.difference.value == 1.0
    assert row.p == 0.25  # three non-zero differences of one sign: 2 / 2 ** 3
    assert row.p_holm == 0.25


@pytest.mark.parametrize(("shift", "marked"), [(1.0, True), (-1.0, True), (0.0, False)])
def test_a_difference_is_the_run_minus_the_first_and_marked_off_zero(root: Path, shift: float, marked: bool) -> None:
    first = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    wobble = [0.1, -0.1, 0.2, -0.2, 0.3, -0.3]
    row = only(root, rows({"a": first}), rows({"a": [v + shift + w for v, w in zip(first, wobble, strict=True)]}))
    assert row.difference is not None
    assert row.difference.value == pytest.approx(shift)
    assert row.difference.low < shift < row.difference.high
    assert row.marked is marked
    if shift:
        assert row.p == 2 / 2**6
        assert min(row.difference.low * shift, row.difference.high * shift) > 0


def test_p_is_corrected_over_all_differences_of_the_table(root: Path) -> None:
    zeros, ones = [0.0] * 6, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    folder(root, "1", rows({"a": zeros}), rows({"a": zeros[:3], "b": zeros[:3]}, metric="other"))
    folder(root, "2", rows({"a": ones}), rows({"a": ones[:3], "b": zeros[:3]}, metric="other"))
    comparison = compare.compare(["runs/tiny/1", "runs/tiny/2"])
    assert comparison.tests == 3
    found = {row.key[2:]: (row.p, row.p_holm) for row in comparison.rows if row.run == 2}
    assert found == {("score", "a"): (0.03125, 0.09375), ("other", "a"): (0.25, 0.5), ("other", "b"): (1.0, 1.0)}
    assert "Holm over the 3 differences" in compare.markdown(comparison)


def test_seeds_of_one_image_are_averaged_so_that_n_counts_images(root: Path) -> None:
    first = pd.concat([rows({"a": [1.0, 10.0]}, seed=0), rows({"a": [3.0, 20.0]}, seed=1)])
    own = pd.concat([rows({"a": [5.0, 11.0]}, seed=0), rows({"a": [7.0, 21.0]}, seed=1)])
    row = only(root, first, own)
    assert (row.mean.value, row.mean.n) == (11.0, 2)  # images 6 and 16
    assert row.difference is not None
    assert (row.difference.value, row.difference.n, row.difference.low, row.difference.high) == (2.5, 2, 1.0, 4.0)


def test_one_seed_in_common_pairs_by_image_and_seed(root: Path) -> None:
    first = pd.concat([rows({"a": [1.0, 10.0]}, seed=0), rows({"a": [3.0, 20.0]}, seed=1)])
    own = pd.concat([rows({"a": [4.0, 22.0]}, seed=1), rows({"a": [100.0, 100.0]}, seed=2)])
    difference = only(root, first, own).difference
    assert difference is not None
    assert (difference.value, difference.n, difference.low, difference.high) == (1.5, 2, 1.0, 2.0)


def test_no_seed_in_common_pairs_by_image(root: Path) -> None:
    own = rows({"a": [2.0, 4.0, 6.0, 99.0]}, seed=1).iloc[[3, 2, 0, 1]]
    row = only(root, rows({"a": [1.0, 2.0, 3.0]}, seed=0), own)
    assert row.difference == stats.bootstrap_interval([1.0, 2.0, 3.0])


def test_values_of_no_image_pair_by_seed(root: Path) -> None:
    def seeds(values: list[float], first: int) -> pd.DataFrame:
        return pd.concat([rows({"a": [value]}, sample="", seed=first + k) for k, value in enumerate(values)])

    row = only(root, seeds([1.0, 2.0, 3.0], 0), seeds([3.0, 5.0, 7.0], 1))  # seeds 1 and 2 are in both
    assert (row.mean.n, row.difference.n if row.difference else 0) == (3, 2)
    assert row.difference is not None
    assert (row.difference.value, row.difference.low, row.difference.high) == (1.5, 1.0, 2.0)


def test_only_images_of_both_runs_pair(root: Path) -> None:
    row = only(root, rows({"a": [1.0, 2.0, 3.0, 4.0]}).iloc[:3], rows({"a": [9.0, 4.0, 6.0, 8.0]}).iloc[1:])
    assert row.difference is not None
    assert (row.mean.n, row.difference.n, row.difference.value) == (3, 2, 2.5)
    assert "fewer than 6 pairs" in run("runs/tiny/1", "runs/tiny/2")[1]


def test_no_common_image_gives_no_difference_and_no_test(root: Path) -> None:
    row = only(root, rows({"a": [1.0, 2.0]}).iloc[:1], rows({"a": [1.0, 2.0]}).iloc[1:])
    assert row.difference is None
    assert math.isnan(row.p)
    assert math.isnan(row.p_holm)
    assert not row.marked
    text = run("runs/tiny/1", "runs/tiny/2")[1]
    assert "no pairs" in text
    assert "1 no interval" in text  # n = 1
    assert "fewer than" not in text


def test_undefined_values_are_left_out_and_counted(root: Path) -> None:
    flags = {1: "constant map", 3: "overflow"}
    own = rows({"a": [2.0, float("nan"), 5.0, float("inf")]}, flags=flags)
    row = only(root, rows({"a": [1.0, 2.0, 3.0, 4.0]}), own)
    assert (row.mean.value, row.mean.n, row.mean.dropped) == (3.5, 2, 2)
    assert row.difference is not None
    assert (row.difference.value, row.difference.n) == (1.5, 2)


def test_a_group_without_a_defined_value_says_so(root: Path) -> None:
    nothing = rows({"a": [float("nan")] * 2}, flags={0: "x", 1: "x"})
    row = only(root, rows({"a": [1.0, 2.0]}), nothing)
    assert (row.mean.n, row.mean.dropped, row.difference) == (0, 2, None)
    assert "| 0 | 2 | no values |" in run("runs/tiny/1", "runs/tiny/2")[1]


def test_only_what_two_runs_have_is_compared(root: Path) -> None:
    folder(root, "1", rows({"alone": [1.0, 2.0], "a": [1.0, 2.0]}))
    folder(root, "2", rows({"a": [1.0, 2.0], "b": [1.0, 2.0]}), rows({"a": [1.0, 2.0]}, model="other"))
    folder(root, "3", rows({"b": [3.0, 2.0]}), rows({"a": [1.0, 2.0]}, dataset="e"))
    comparison = compare.compare([f"runs/tiny/{k}" for k in "123"])
    assert [(row.key[3], row.run, row.difference is None) for row in comparison.rows] == [
        ("a", 1, True),
        ("a", 2, False),
        ("b", 2, True),  # the first run has no b: estimates, but no difference
        ("b", 3, True),
    ]


def test_the_first_run_is_the_one_named_first(root: Path) -> None:
    folder(root, "1", rows({"a": [1.0, 2.0]}))
    folder(root, "2", rows({"a": [2.0, 4.0]}))
    forth, back = (compare.compare([f"runs/tiny/{k}" for k in order]).rows[1].difference for order in ("12", "21"))
    assert forth is not None
    assert back is not None
    assert (forth.value, back.value) == (1.5, -1.5)


def test_the_runs_table_shows_what_differs_and_nothing_else(root: Path) -> None:
    same = rows({"a": [1.0, 2.0]})
    folder(root, "1", same)
    other = {"n_images": 3, "shift": 2.0, "counts": [1, 9], "label": "new"}
    weights = [{"name": "net", "weights_sha256": "b" * 64}, {"name": "toy", "weights_sha256": None}]
    versions = {"numpy": "2.1", "torch": "2.10"}
    data = [{"name": "photos", "fingerprint": "e" * 64, "n": 5}]
    changes = {"parameters": other, "models": weights, "versions": versions, "data": data, "profile": None}
    folder(root, "2", same, **changes, commit="c" * 40, dirty=True)
    table = compare.tables(compare.compare(["runs/tiny/1", "runs/tiny/2"]), str)[0]
    first, second = (dict(zip(table.head, row, strict=True)) for row in table.rows)
    assert list(first) == [
        "Run", "Folder", "Profile", "shift", "counts", "weights net", "data photos", "version numpy", "code commit", "label",
        "weights toy",
    ]  # fmt: skip
    assert list(first.values()) == [
        "1", "runs/tiny/1", "smoke", "0.5", "[1, 5]", "a" * 12, f"{'f' * 12} (n = 3)", "2.0", "unknown", "none", "none",
    ]  # fmt: skip
    assert list(second.values()) == [
        "2", "runs/tiny/2", "exploratory", "2.0", "[1, 9]", "b" * 12, f"{'e' * 12} (n = 5)", "2.1", "c" * 12 + " with changes",
        "new", "untrained",
    ]  # fmt: skip


def verdict(claim: str, word: str, effect: float | None = 0.5, reason: str = "") -> dict[str, Any]:
    ends = {"low": None, "high": None} if effect is None else {"low": effect - 0.125, "high": effect + 0.125}
    return {"id": claim, "verdict": word, "reason": reason, "effect": effect, **ends, "n": 0 if effect is None else 12}


def test_verdicts_that_differ_are_listed_with_their_numbers(root: Path) -> None:
    same = rows({"a": [1.0, 2.0]})
    folder(root, "1", same, verdicts=[verdict("A1", "reproduced"), verdict("A2", "reproduced")])
    folder(root, "2", same, verdicts=[verdict("A1", "reproduced", 9.0), verdict("A2", "not tested", None, "scale")])
    folder(root, "3", same)  # exploratory: has none
    text = run("runs/tiny/1", "runs/tiny/2", "runs/tiny/3")[1]
    assert "## Verdicts that differ" in text
    assert "| `A2` | 1 | reproduced | 0.5 [0.375, 0.625] | 12 |\n| `A2` | 2 | not tested (scale) | none | 0 |" in text
    assert "`A1`" not in text
    assert "Verdicts" not in run("runs/tiny/1", "runs/tiny/3")[1]


def test_no_mean_is_shown_without_n_and_interval(root: Path) -> None:
    folder(root, "1", rows({"a": [1.0, 2.0, 4.0]}))
    folder(root, "2", rows({"a": [1.5, 2.5, 4.5]}))
    text = run("runs/tiny/1", "runs/tiny/2")[1]
    mean, difference = (stats.bootstrap_interval(own) for own in ([1.5, 2.5, 4.5], [0.5, 0.5, 0.5]))
    line = next(line for line in text.splitlines() if "| 2 | 3 |" in line)
    assert line == (
        f"| `d` | `m` | `score` | `a` | 2 | 3 | 0 | {mean.value:.4g} [{mean.low:.4g}, {mean.high:.4g}]"
        f" | 3 | {difference.value:.4g} [0.5, 0.5] | 0.25 | yes |"
    )


def test_a_sweep_folder_stands_for_its_finished_runs(root: Path) -> None:
    for k in "123":
        folder(root, k, rows({"a": [1.0, float(k)]}))
    place = root / "runs" / "tiny" / "sweeps" / "abc"
    place.mkdir(parents=True)
    known = [("3", 0), ("1", 3), ("2", 1), ("gone", 0), (None, None)]
    entries = [
        {"combination": str(k), "parameters": {}, "run": name, "exit_code": code} for k, (name, code) in enumerate(known)
    ]
    (place / "sweep.json").write_text(json.dumps({"combinations": entries}))
    comparison = compare.compare(["runs/tiny/sweeps/abc"])
    assert [side.shown for side in comparison.sides] == ["runs/tiny/3", "runs/tiny/1"]
    assert comparison.notes == ("Sweep abc: 2 of 5 combinations are finished.",)
    assert "2 of 5" in compare.markdown(comparison)
    again = compare.compare(["runs/tiny/1", place, "tiny"])  # a run that is named twice counts once; tiny is its latest, 3
    assert [side.shown for side in again.sides] == ["runs/tiny/1", "runs/tiny/3"]
    (place / "sweep.json").write_text(json.dumps({"combinations": entries[2:]}))
    with pytest.raises(ConfigError, match="none of its 3 combinations is finished; go on with `xai sweep`"):
        compare.compare([place])


def test_folders_are_found_from_elsewhere_too(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for k in "12":
        folder(root, k, rows({"a": [1.0, 2.0]}))
    monkeypatch.chdir("/")
    assert len(compare.compare(["runs/tiny/1", str(root / "runs" / "tiny" / "2")]).sides) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["runs/tiny/1"], 2, "1 run to compare, at least two are needed"),
        (["runs/tiny/1", "runs/tiny/1/", "./runs/tiny/1"], 2, "1 run to compare"),
        (["runs/tiny/1", "runs/other"], 2, "the runs are of different studies (tiny, else); compare runs of one study"),
        (["runs/tiny/1", "tyni"], 2, "did you mean 'tiny'"),
        (["runs/tiny/1", "notebooks"], 2, "holds no run.json"),
        (["runs/tiny/1", "runs/tiny/changed"], 5, "is not the file that run.json records; run the study again"),
        (["runs/tiny/1", "runs/tiny/poor"], 5, "run.json lacks profile, parameters, finished"),
        (["runs/tiny/1", "runs/tiny/2", "--metric", "scroe"], 2, "did you mean 'score'"),
        (["runs/tiny/1", "runs/tiny/2", "--figure", "x.jpg"], 2, "found suffix '.jpg', expected .png, .svg, .pdf"),
        (["runs/tiny/1", "runs/tiny/2", "--csv", "a", "--html", "./a"], 2, "name the same file"),
        (["runs/tiny/1", "runs/tiny/2", "--csv", "no/where.csv"], 2, "its folder does not exist"),
        (["runs/tiny/1", "runs/tiny/2", "--csv", "runs"], 2, "is a folder"),
        (["runs/tiny/1", "runs/tiny/2", "--csv", "mine.csv"], 2, "exists, and xai compare did not write it"),
        (["runs/tiny/1", "runs/tiny/3", "--figure", "x.png"], 2, "nothing to draw"),
        (["runs/tiny/1", "runs/tiny/3", "--metric", "score"], 2, "unknown metric"),
    ],
)
def test_refusals_print_nothing_and_write_nothing(root: Path, arguments: list[str], code: int, message: str) -> None:
    same = rows({"a": [1.0, 2.0]})
    for name in ("1", "2", "changed"):
        folder(root, name, same)
    folder(root, "3", rows({"b": [1.0, 2.0]}))
    folder(root, "../other", same, study="else")
    folder(root, "poor", same)
    (root / "runs" / "tiny" / "poor" / "run.json").write_text('{"run_id": "poor", "study": "tiny"}')
    with (root / "runs" / "tiny" / "changed" / "results.csv").open("a") as file:
        file.write("d,m,a,{},score,{},image9,0,1.0,0.0,\n")
    (root / "mine.csv").write_text("mine\n")
    before = sorted(root.rglob("*"))
    said: list[str] = []
    parser = argparse.ArgumentParser()
    compare.add_arguments(parser)
    with pytest.raises(XaiError) as caught:
        compare.command(parser.parse_args(arguments), said.append)
    assert message in str(caught.value)
    assert caught.value.exit_code == code
    assert said == []
    assert sorted(root.rglob("*")) == before
    assert (root / "mine.csv").read_text() == "mine\n"


@pytest.fixture
def two(root: Path) -> Path:
    """Two runs with two metrics and names that need care in every format."""
    odd = "a|b <i>$x_1$</i> `c`"
    folder(root, "1", rows({odd: [0.0, 1.0, 2.0], "plain": [0.0, 1.0, 2.0]}), rows({odd: [1.0]}, metric="second", sample="x"))
    folder(root, "2", rows({odd: [1.0, 2.0, 4.0], "plain": [0.0, 1.0, 2.0]}), rows({odd: [0.0]}, metric="second", sample="x"))
    return root


def test_csv_is_the_long_table_to_the_last_digit(two: Path) -> None:
    assert run("runs/tiny/1", "runs/tiny/2", "--csv", "out.csv")[0] == 0
    table = pd.read_csv(two / "out.csv")
    assert tuple(table.columns) == compare_tables.COLUMNS
    assert table["run_id"].tolist() == [1, 2] * 3
    row = table.iloc[1]
    difference = stats.bootstrap_interval([1.0, 1.0, 2.0])
    assert (row["difference"], row["difference_low"], row["difference_high"]) == (
        difference.value, difference.low, difference.high,
    )  # fmt: skip
    assert (row["n"], row["pairs"], row["p"], row["p_holm"], row["excludes_0"]) == (3, 3, 0.25, 0.75, True)
    assert pd.isna(table.iloc[0]["difference"])
    assert (table.iloc[0]["pairs"], table.iloc[0]["mean"]) == (0, 1.0)


def test_own_files_are_overwritten_and_others_only_by_force(two: Path) -> None:
    targets = ["--csv", "o.csv", "--html", "o.html", "--figure", "o.svg"]
    assert run("runs/tiny/1", "runs/tiny/2", *targets)[0] == 0
    first = {name: (two / name).read_bytes() for name in ("o.csv", "o.html", "o.svg")}
    assert run("runs/tiny/1", "runs/tiny/2", *targets)[0] == 0
    assert {name: (two / name).read_bytes() for name in first} == first  # and the same comparison gives the same bytes
    (two / "o.html").write_text("<p>mine</p>")
    with pytest.raises(ConfigError, match="overwrite it with --force"):
        run("runs/tiny/1", "runs/tiny/2", *targets)
    assert run("runs/tiny/1", "runs/tiny/2", *targets, "--force")[0] == 0
    assert (two / "o.html").read_bytes() == first["o.html"]
    assert [path.name for path in two.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("suffix", [".png", ".pdf"])
def test_figures_of_every_format_are_known_again(two: Path, suffix: str) -> None:
    for _ in range(2):
        assert run("runs/tiny/1", "runs/tiny/2", "--figure", f"o{suffix}")[0] == 0


def test_a_place_that_cannot_be_written_is_said(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreError, match=r"out.csv: cannot be written: No space left on device"):
        run("runs/tiny/1", "runs/tiny/2", "--csv", "out.csv")
    assert sorted(path.name for path in two.iterdir()) == ["notebooks", "runs"]


class Page(HTMLParser):
    """What is needed of a page: elements with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_the_page_stands_alone_and_has_the_same_tables(two: Path) -> None:
    assert run("runs/tiny/1", "runs/tiny/2", "--html", "out.html")[0] == 0
    text = (two / "out.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("title")) == len(page.all("h1")) == len(page.all("img")) == 1
    assert page.all("script") == page.all("a") == page.all("i") == []
    assert all(
        source.startswith("data:")
        for tag in ("img", "link")
        for e in page.all(tag)
        if (source := str(e.get("src") or e.get("href")))
    )
    assert "http" not in text
    assert str(two) not in text
    assert len(page.all("table")) == len(page.all("caption")) == 2
    assert {heading["scope"] for heading in page.all("th")} == {"col", "row"}
    assert 15 <= len(str(page.all("img")[0]["alt"])) <= 250
    assert len(page.all("tr")) == 1 + 2 + 1 + 6
    assert page.text.count("a|b <i>$x_1$</i> `c`") == 4
    assert "−1.000 no interval" in page.text  # the second metric: one pair
    assert "prefers-color-scheme: dark" in text


def test_the_metric_of_the_figure(two: Path) -> None:
    comparison = compare.compare(["runs/tiny/1", "runs/tiny/2"])
    assert comparison.metric() == "score"
    assert comparison.metric("second") == "second"
    marked = [
        replace(row, difference=stats.Estimate(1.0, 0.5, 2.0, 3)) if row.metric == "second" else row for row in comparison.rows
    ]
    unmarked = [row if row.metric == "second" else replace(row, difference=None) for row in marked]
    assert replace(comparison, rows=tuple(unmarked)).metric() == "second"
    text = Page(compare_page.page(comparison, "second")).text
    assert "Mean and 95 % interval of second by method and run, 2 rows." in text


def test_a_figure_has_one_line_with_n_per_method_and_run(two: Path) -> None:
    ax = compare_page.figure(compare.compare(["runs/tiny/1", "runs/tiny/2"]), "score").axes[0]
    labels = [label.get_text().replace("\n", " ") for label in ax.get_yticklabels()]
    assert labels == [r"a|b <i>\$x_1\$</i> `c`, run 1", r"a|b <i>\$x_1\$</i> `c`, run 2", "plain, run 1", "plain, run 2"]
    assert [text.get_text() for text in ax.texts] == ["n = 3"] * 4


def test_a_large_comparison_draws_its_first_rows_and_says_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_page, "MOST", 3)
    for k in range(9):
        folder(root, str(k), rows({"a": [1.0, float(k)]}))
    comparison = compare.compare([f"runs/tiny/{k}" for k in range(9)])
    assert "the first 3 of 9 rows" in Page(compare_page.page(comparison, "score")).text
    assert len(compare_page.figure(comparison, "score").axes[0].texts) == 3


def test_page_without_anything_in_common(root: Path) -> None:
    folder(root, "1", rows({"a": [1.0, 2.0]}))
    folder(root, "2", rows({"b": [1.0, 2.0]}))
    code, text = run("runs/tiny/1", "runs/tiny/2", "--html", "out.html", "--csv", "out.csv")
    assert code == 0
    assert "Nothing to compare" in text
    page = Page((root / "out.html").read_text())
    assert (len(page.all("table")), page.all("img")) == (1, [])
    assert (root / "out.csv").read_text() == ",".join(compare_tables.COLUMNS) + "\n"


def test_the_page_of_the_book_is_myst_with_captions(two: Path) -> None:
    text = compare_tables.page_markdown(compare.compare(["runs/tiny/1", "runs/tiny/2"], two))
    assert text.startswith("# Comparison of 2 runs of `tiny`\n\n:::{table} Runs, and")
    assert text.count(":::{table}") == text.count("\n:::\n") == 2
    assert r"| `` a\|b <i>$x_1$</i> `c` `` |" in text
    assert "−1.000 no interval" in text
    assert str(two) not in text
    assert text.endswith("\n")


def test_importing_loads_nothing_heavy() -> None:
    code = "import sys, xai_lib.compendium.compare, xai_lib.compendium.sweep"
    code += "; print({'torch', 'matplotlib', 'papermill'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.browser
def test_the_page_is_accessible_in_both_colour_schemes(two: Path) -> None:
    checks = pytest.importorskip("browser_checks", reason="Playwright and axe are not installed (pip install -e .[dev])")
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium is installed")
    place = two / "site"
    place.mkdir()
    run("runs/tiny/1", "runs/tiny/2", "--html", place / "out.html")
    with sync_playwright() as playwright, checks.served(place) as base:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(checks.ARGUMENTS))
        with checks.visit(browser, base, "out.html") as seen:
            problems = [
                problem for check in (checks.opens, checks.console, checks.requests, checks.images) for problem in check(seen)
            ]
            for scheme in ("light", "dark"):
                seen.page.emulate_media(color_scheme=scheme)
                problems += [f"{scheme}: {found['id']}" for found in Axe().run(seen.page).response["violations"]]
            problems += checks.narrow(seen)
        browser.close()
    assert problems == []
