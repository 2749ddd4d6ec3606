"""The page of controls: best control, best method, and how many methods lie above it."""

from pathlib import Path

import book_fixture as fixture
import numpy as np
import pandas as pd
import pytest
import yaml

from xai_lib import METRICS
from xai_lib.compendium import book, book_controls
from xai_lib.compendium.sources import read_yaml
from xai_lib.errors import ConfigError

pytestmark = pytest.mark.slow

ENTRY = {"title": "A score", "metric": "score", "better": "larger", "controls": ["blind", "centre"], "methods": ["a", "b", "c"]}


def results(values: dict[str, list[float]], metric: str = "score", model: str = "net", n: int = 40) -> pd.DataFrame:
    """`values` by label repeated over n images, whose own level differs."""
    rows = [
        {"dataset": "photos", "model": model, "method": label, "metric": metric, "sample": f"i{k}",
         "value": own[k % len(own)] + 10 * k}
        for label, own in values.items() for k in range(n)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_the_best_control_and_method_and_their_paired_difference():
    table = results({"blind": [0.0], "centre": [1.0], "a": [0.5], "b": [1.5], "c": [1.25, 1.75]})
    made = book_controls.row(table, ENTRY, "study")
    assert made[0] == "A score"
    assert made[1].startswith("centre: 196")  # 1 + 10 times the mean of 0 to 39
    assert made[2].startswith("b: 19") or made[2].startswith("c: 19")  # equal means
    assert made[3] == "0.500 [0.500, 0.500]" or made[3].startswith("0.500 [0.4")
    assert made[4:] == [40, "2 of 3"]  # a lies below


def test_smaller_is_better():
    table = results({"blind": [3.0], "centre": [2.0], "a": [1.0], "b": [2.5], "c": [2.0]})
    made = book_controls.row(table, {**ENTRY, "better": "smaller"}, "study")
    assert made[1].startswith("centre") and made[2].startswith("a")  # noqa: PT018
    assert made[3] == "−1.00 [−1.00, −1.00]"
    assert made[5] == "1 of 3"


def test_a_difference_whose_interval_holds_zero_does_not_count():
    noisy = (np.random.default_rng(0).permutation(np.linspace(-1, 1, 40)) + 0.01).tolist()  # mean above 0
    table = results({"blind": [0.0], "centre": [0.0], "a": noisy, "b": [0.1], "c": [-0.1]})
    assert book_controls.row(table, ENTRY, "study")[5] == "1 of 3"


def test_images_are_units_whatever_the_number_of_models():
    labels = {"blind": [0.0], "centre": [1.0], "a": [0.5], "b": [1.5], "c": [0.0]}
    both = pd.concat([results(labels, model="one"), results({k: [v[0] + 1] for k, v in labels.items()}, model="two")])
    wide = book_controls.wide(both, ENTRY, "study")
    assert len(wide) == 40
    assert wide["b"].iloc[0] == 2.0
    assert book_controls.wide(both, {**ENTRY, "model": "two"}, "study")["b"].iloc[0] == 2.5


def test_only_images_that_every_label_has_count():
    table = results({"blind": [0.0], "centre": [1.0], "a": [0.5], "b": [1.5], "c": [0.0]})
    table = table[~((table.method == "c") & (table["sample"] == "i3"))]
    table.loc[(table.method == "a") & (table["sample"] == "i5"), "value"] = np.nan
    assert book_controls.row(table, ENTRY, "study")[4] == 38


def test_a_prefix_that_all_labels_share_is_not_shown():
    labels = {"blind": [0.0], "centre": [1.0], "a": [0.5], "b": [1.5], "c": [0.0]}
    own = {**ENTRY, "controls": ["small: blind", "small: centre"], "methods": ["small: a", "small: b"]}
    made = book_controls.row(results({f"small: {k}": v for k, v in labels.items()}), own, "study")
    assert made[1].startswith("centre: ")
    other = {**own, "methods": ["a"]}
    mixed = results({**{f"small: {k}": v for k, v in labels.items()}, "a": [3.0]})
    assert book_controls.row(mixed, other, "study")[1].startswith("small: centre: ")


def test_controls_may_be_scored_under_another_name():
    """As a network that sees the holes of a removal alone: its accuracy is another row than that of the picture."""
    labels = {"blind": [0.2], "centre": [0.4], "a": [0.5], "b": [0.1], "c": [0.6]}
    table = pd.concat([results(labels), results({k: [v[0] + 5] for k, v in labels.items()}, metric="other")])
    made = book_controls.row(table, {**ENTRY, "controls_metric": "other"}, "study")
    assert made[1].startswith("centre: 200")  # 5.4 and 10 times the mean of 0 to 39
    assert made[3] == "−4.80 [−4.80, −4.80]"
    assert made[5] == "0 of 3"
    with pytest.raises(ConfigError, match="study: controls: 'score' has no value of 'blind'"):
        book_controls.row(table, {**ENTRY, "controls_metric": "nothing"}, "study")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"methods": ["a", "z"]}, "study: controls: 'score' has no value of 'z' in the published run"),
        ({"metric": "nothing"}, "study: controls: 'nothing' has no value of 'blind'"),
        ({"model": "other"}, "has no value of"),
    ],
)
def test_labels_and_scores_that_were_not_measured_are_refused(change, said):
    table = results({"blind": [0.0], "centre": [1.0], "a": [0.5], "b": [1.5], "c": [0.0]})
    with pytest.raises(ConfigError, match=said):
        book_controls.row(table, {**ENTRY, **change}, "study")


def test_labels_without_a_common_image_are_refused():
    table = results({"blind": [0.0], "centre": [1.0], "a": [0.5], "b": [1.5], "c": [0.0]})
    table = table[(table.method != "a") | (table["sample"] == "i0")]
    table = table[(table.method != "b") | (table["sample"] == "i1")]
    with pytest.raises(ConfigError, match="no image has a value of every label"):
        book_controls.row(table, ENTRY, "study")


def test_the_page_of_a_book(tmp_path: Path):
    root = fixture.repository(tmp_path / "repo", local=False)
    assert (
        "No published run has a control yet." in (book.stage(root, tmp_path / "without") / "book" / "controls.md").read_text()
    )
    entry = {"title": "Sparse", "metric": "sparseness", "controls": ["uniform x1 mean"], "methods": ["uniform x5 mean"]}
    path = root / "notebooks" / f"{fixture.STUDY}.yml"
    path.write_text(yaml.safe_dump({**fixture.study(), "controls": [entry]}))
    said = (book.stage(root, tmp_path / "stage") / "book" / "controls.md").read_text()
    assert "| Sparse | uniform x1 mean: 0.555 [" in said
    assert "| 0.100 [0.100, 0.100] | 12 | 1 of 1 |" in said
    holes = {**entry, "title": "Holes", "controls_metric": "sparseness"}
    path.write_text(yaml.safe_dump({**fixture.study(), "controls": [entry, holes]}))
    said = (book.stage(root, tmp_path / "both") / "book" / "controls.md").read_text()
    first, _, second = said.partition("| Accuracy after retraining | Sees the holes alone |")
    assert "| Sparse |" in first
    assert "| 0.100 [0.100, 0.100] | 12 |\n" in second
    assert "| Holes |" in second
    assert "1 of 1" not in second
    path.write_text(yaml.safe_dump({**fixture.study(), "controls": [{**entry, "better": "more"}]}))
    with pytest.raises(ConfigError, match=r"controls.0.better: found 'more'"):
        book.stage(root, tmp_path / "bad")


def test_scores_under_other_names_say_which_registered_metric_they_are():
    """`of` names a metric; every score of the study files that is one leads to its section."""
    found = {
        entry["of"]
        for path in sorted((Path(__file__).parents[1] / "notebooks").glob("*.yml"))
        for entry in read_yaml(path).get("controls") or []
        if entry.get("of")
    }
    assert {"cam_box", "pointing_game", "insertion_deletion"} <= found <= set(METRICS)
