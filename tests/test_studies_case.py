"""Study `case_studies` as a whole: what is stored and what a run records. Its parts have tests of their own."""

from dataclasses import dataclass

import pandas as pd
import torch

from xai_lib import data, toys
from xai_lib.compendium import study
from xai_lib.studies import case_studies
from xai_lib.studies.case import Case


def case(n=2):
    samples = data.load("iris", n=n)
    return Case(toys.linear([[1.0, 0.0, 0.0, 0.0]] * 3), samples, torch.zeros(n, dtype=torch.int64))


def test_cases_are_found_in_records_mappings_lists_and_tuples():
    @dataclass
    class Record:
        first: Case
        others: dict
        number: int = 3

    one, two, three, four = (case(n) for n in (1, 2, 3, 4))
    found = list(case_studies.cases_in((Record(one, {"a": two, "b": [three]}), four, "text", None)))
    assert found == [one, two, three, four]


def test_every_part_stores_in_one_stage():
    p = study.load("case_studies").profile_values("smoke")
    (stage,) = case_studies.works(p)
    tasks = {work.task for work in stage}
    for part in case_studies.PARTS:
        assert {work.task for own in part.works(p) for work in own} <= tasks
    assert {"table_listings", "region_densities", "smallest_rotations", "case_answers"} <= tasks
    assert len(stage) == sum(len(own) for part in case_studies.PARTS for own in part.works(p))


def test_a_run_records_the_data_and_nets_of_every_part(monkeypatch):
    p = {**study.load("case_studies").profile_values("smoke"), "tables": ["iris"], "table_epochs": 1}
    given = {}
    monkeypatch.setattr(case_studies.study, "save_results", lambda frame, **own: given.update(frame=frame, **own))
    case_studies.save(p, (case(5),), pd.DataFrame({"value": [1.0]}), pd.DataFrame({"value": [2.0]}))
    assert given["frame"]["value"].tolist() == [1.0, 2.0]
    names = [samples.name for samples in given["samples"]]
    assert names.count("iris") == 3  # the document's fit, ours, and the case
    assert "shapes" in names
    assert len(given["models"]) == len(given["samples"])
