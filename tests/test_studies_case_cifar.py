"""Study `case_studies`, part `cifar`: accuracies counted by hand, the gap between two samples, and the table."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from xai_lib import data, toys
from xai_lib.errors import ConfigError
from xai_lib.studies import case as case_module
from xai_lib.studies import case_cifar
from xai_lib.studies.case import Case
from xai_lib.studies.case_cifar import ACCURACY, BETWEEN, CONFIDENCE, GAP, SEEN, UNSEEN

P = {"cifar_nets": ["cifar_conv8"], "photo_dataset": "shapes", "cifar_images": 6, "seed": 0, "max_batch": 0}


def by_hand(predicted, targets):
    """A case whose net answers `predicted`, with a margin of log 3 between its two classes."""
    samples = data.load("shapes", n=len(predicted), size=8)
    samples = replace(samples, targets=torch.tensor(targets), class_names=("a", "b", "c"))

    def logits(x):
        known = [int((samples.inputs - image).abs().sum((1, 2, 3)).argmin()) for image in x]
        return np.log(3) * torch.nn.functional.one_hot(torch.tensor([predicted[k] for k in known]), 3).to(x)

    return Case(toys.Formula(logits), samples, torch.tensor(targets))


def two():
    return case_cifar.Cases({"net": {SEEN: by_hand([0, 1, 0, 1], [0, 1, 0, 0]), UNSEEN: by_hand([0, 1, 0, 1], [0, 0, 1, 1])}})


def values(frame, metric, method):
    return frame[(frame.metric == metric) & (frame.method == method)].value.tolist()


def test_counted_by_hand():
    made = case_cifar.all_rows(two(), {})
    assert values(made, ACCURACY, SEEN) == [1, 1, 1, 0]
    assert values(made, ACCURACY, UNSEEN) == [1, 0, 0, 1]
    assert values(made, ACCURACY, "a") == [1, 0]
    assert values(made, ACCURACY, "b") == [0, 1]
    assert values(made, ACCURACY, "c") == []
    assert values(made, GAP, BETWEEN) == [0, 1, 1, -1]
    for label in (SEEN, UNSEEN):
        assert values(made, CONFIDENCE, label) == pytest.approx([3 / 5] * 4, abs=1e-6)
    per_class = made[(made.metric == ACCURACY) & (made.method == "b")]
    assert per_class["sample"].tolist() == ["test-00002", "test-00003"]


def test_sets_of_two_sizes_are_paired_as_far_as_they_go():
    cases = two()
    seen = cases.nets["net"][SEEN]
    made = case_cifar.all_rows(case_cifar.Cases({"net": {SEEN: seen.first(3), UNSEEN: cases.nets["net"][UNSEEN]}}), {})
    assert values(made, GAP, BETWEEN) == [0, 1, 1]


def test_the_table_says_what_the_rows_say(capsys):
    frame = case_cifar.all_rows(two(), {})
    (line,) = case_cifar.table(frame).to_dict("records")
    assert {label: line[label].value for label in (UNSEEN, SEEN, BETWEEN)} == {UNSEEN: 0.5, SEEN: 0.75, BETWEEN: 0.25}
    assert {line[label].n for label in (UNSEEN, SEEN, BETWEEN)} == {4}
    assert line[BETWEEN].low < line[BETWEEN].value < line[BETWEEN].high
    assert (line["best class"], line["worst class"]) == ("b 0.500", "a 0.500"), "of equal classes the first is the worst"
    uneven = case_cifar.Cases({"net": {SEEN: by_hand([0, 1], [0, 1]), UNSEEN: by_hand([0, 1, 2, 1], [0, 1, 1, 2])}})
    (line,) = case_cifar.table(case_cifar.all_rows(uneven, {})).to_dict("records")
    assert (line["best class"], line["worst class"]) == ("a 1.00", "c 0")
    case_cifar.accuracies(frame)
    assert "n = 4 pictures" in capsys.readouterr().out


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("XAI_STORE", str(tmp_path))


def test_opened_by_name_it_takes_as_many_of_each_set(store):
    cases = case_cifar.open_cases(P)
    own = cases.nets["cifar_conv8"]
    assert [case.samples.ids[0] for case in own.values()] == ["train-00000", "test-00000"]
    assert [case.inputs.shape for case in own.values()] == [(6, 3, 32, 32)] * 2
    assert len(case_cifar.works(P)[0]) == len(case_cifar.used(cases)) == 2
    made = case_cifar.all_rows(cases, P)
    right = (own[UNSEEN].model(own[UNSEEN].inputs).argmax(1) == own[UNSEEN].samples.targets).double()
    assert values(made, ACCURACY, UNSEEN) == right.tolist()
    assert set(made.model) == {"cifar_conv8"}


def test_labels_are_explained_without_asking_the_network(monkeypatch):
    asked = []
    logits = case_module.compute.logits
    monkeypatch.setattr(case_module.compute, "logits", lambda *a, **k: asked.append(1) or logits(*a, **k))
    own = {"n": 6, "seed": 0}
    labelled = case_module.open_case("mnist_cnn", {"mnist_5k": {"split": "test"}}, target="label", **own)
    assert labelled.targets.tolist() == labelled.samples.targets.tolist()
    assert not asked
    predicted = case_module.open_case("mnist_cnn", {"mnist_5k": {"split": "test"}}, **own)
    assert predicted.targets.tolist() == logits(predicted.model, predicted.inputs).argmax(1).tolist()
    with pytest.raises(ConfigError, match="expected 'predicted' or 'label'"):
        case_module.open_case("mnist_cnn", "mnist_5k", target="lable", **own)
