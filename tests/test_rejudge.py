"""Verdicts of a run computed again by corrected rules: what is kept, what is told."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_study
import yaml

from xai_lib.compendium import book_verdicts, cli, results
from xai_lib.compendium.claims import judge
from xai_lib.compendium.rejudge import rejudge
from xai_lib.compendium.study import load
from xai_lib.errors import ConfigError, StoreError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A published run of the tiny study with the verdicts of its rules."""
    root = tiny_study.write(tmp_path)
    monkeypatch.setenv("XAI_ROOT", str(root))
    monkeypatch.chdir(tmp_path)
    made = root / "book" / "runs" / "tiny" / "book"
    made.mkdir(parents=True)
    values = [float(i) for i in range(12)]
    table = results.checked(tiny_study.table({"a": values, "b": [value + 0.5 for value in values]}))
    table.to_csv(made / "results.csv", index=False)
    verdicts = [one.record() for one in judge(load("tiny"), table, profile="book", exploratory=False)]
    record = {
        "study": "tiny",
        "run_id": "one",
        "finished": "2026-01-02T00:00:00+00:00",
        "profile": "book",
        "verdicts": verdicts,
    }
    (made / "run.json").write_text(json.dumps({**record, "note": "kept"}))
    return made


def change(tmp_path: Path, **rule: object) -> dict:
    path = tmp_path / "notebooks" / "tiny.yml"
    study = yaml.safe_load(path.read_text())
    study["claims"][0]["rule"] = rule
    path.write_text(yaml.safe_dump(study))
    return study["claims"][0]


def test_nothing_is_written_where_no_rule_changed(folder):
    before = (folder / "run.json").read_bytes()
    assert rejudge(folder) == []
    assert (folder / "run.json").read_bytes() == before


def test_a_corrected_rule_changes_its_verdict_and_the_record_says_so(folder, tmp_path):
    before = json.loads((folder / "run.json").read_text())
    opposite = "less" if before["verdicts"][0]["verdict"] == "reproduced" else "greater"
    claim = change(
        tmp_path, kind=opposite, metric=results.read_results(folder / "results.csv").metric.iloc[0], method="b", versus="a"
    )
    changed = rejudge(folder)
    after = json.loads((folder / "run.json").read_text())
    assert [one["id"] for one in changed] == [claim["id"]]
    assert changed[0]["before"] == before["verdicts"][0]["verdict"] != changed[0]["after"] == after["verdicts"][0]["verdict"]
    assert after["verdicts"][1:] == before["verdicts"][1:]
    assert after["note"] == "kept"
    (entry,) = after["judged_again"]
    assert entry["changed"] == changed
    assert entry["when"][:3] == "202"
    assert {"commit", "dirty"} <= set(entry)
    assert rejudge(folder) == []
    change(tmp_path, kind="not_tested", reason="scale", note="for the test")
    rejudge(folder)
    first, second = json.loads((folder / "run.json").read_text())["judged_again"]
    assert first == entry
    assert second["changed"][0]["after"] == "not tested"
    told = book_verdicts.judged_again(SimpleNamespace(record=after))
    assert f"{claim['id']} went from {changed[0]['before']} to {changed[0]['after']}." in told
    assert book_verdicts.judged_again(SimpleNamespace(record=before)) == ""


def test_a_changed_statement_alone_keeps_the_verdict(folder, tmp_path):
    path = tmp_path / "notebooks" / "tiny.yml"
    study = yaml.safe_load(path.read_text())
    study["claims"][0]["statement"] = "The same in other words."
    path.write_text(yaml.safe_dump(study))
    (one,) = rejudge(folder)
    assert one["before"] == one["after"]
    after = json.loads((folder / "run.json").read_text())
    assert after["verdicts"][0]["statement"] == "The same in other words."
    assert f"the verdict of {one['id']} stayed" in book_verdicts.judged_again(SimpleNamespace(record=after))


def test_a_new_claim_is_told_as_new(folder, tmp_path):
    path = tmp_path / "notebooks" / "tiny.yml"
    study = yaml.safe_load(path.read_text())
    study["claims"].append({**study["claims"][0], "id": "Z9"})
    path.write_text(yaml.safe_dump(study))
    (one,) = rejudge(folder)
    assert (one["id"], one["before"]) == ("Z9", None)
    after = json.loads((folder / "run.json").read_text())
    assert f"Z9 is new, {one['after']}." in book_verdicts.judged_again(SimpleNamespace(record=after))
    assert len(after["verdicts"]) == len(study["claims"])


def test_the_command(folder, tmp_path, capsys):
    assert cli.main(["judge", str(folder)]) == 0
    assert "no changed" in capsys.readouterr().out
    claim = change(tmp_path, kind="not_tested", reason="scale", note="for the test")
    assert cli.main(["judge", "tiny"]) == 0
    out = capsys.readouterr().out
    assert "1 changed" in out
    assert f"{claim['id']}: " in out
    assert "-> not tested" in out


def test_exploratory_and_damaged_runs_are_refused(folder):
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "profile": None}))
    with pytest.raises(ConfigError, match="exploratory run has no verdicts"):
        rejudge(folder)
    (folder / "run.json").write_text("{")
    with pytest.raises(StoreError, match="cannot be read"):
        rejudge(folder)
