"""Sections of methods and metrics, and the chapters that use them."""

import json
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from xai_lib import METHODS, METRICS
from xai_lib.compendium import book_bibliography, book_reference, book_sheets, book_uses
from xai_lib.compendium.results import COLUMNS
from xai_lib.compendium.sources import read_yaml

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
KEYS = book_bibliography.keys(ROOT / "book" / "references.bib")
STUDIES = {path.stem: read_yaml(path) for path in sorted((ROOT / "notebooks").glob("*.yml"))}


@pytest.fixture(scope="module")
def methods():
    return book_sheets.methods(ROOT, KEYS, STUDIES)


def section(text, name):
    return text.partition(f"(sheet-{name.replace('_', '-')})=")[2].partition("\n(sheet-")[0]


def test_every_method_and_metric_has_a_section_and_a_row_that_leads_to_it(methods):
    metrics = book_sheets.metrics(ROOT, KEYS, STUDIES, {})
    for table, sections, page, known in (
        (book_reference.methods(), methods, "methods", METHODS),
        (book_reference.metrics(), metrics, "metrics", METRICS),
    ):
        assert sections.count("\n## ") == len(known)
        for name in known:
            anchor = f"sheet-{name.replace('_', '-')}"
            assert f"({anchor})=" in sections
            assert f'href="{page}.html#{anchor}"' in table


def test_a_section_holds_the_definition_the_cost_and_the_rest_folded(methods):
    text = section(methods, "integrated_gradients")
    definition, _, rest = text.partition("::::{dropdown}")
    assert "A\\_i = (x\\_i - x'\\_i)" in definition
    assert "| Rows | 50&nbsp;⇄ |" in definition
    assert "null player: holds" in definition
    assert "Args:" not in definition
    assert "Args:" in rest
    assert ">>>" in rest
    assert "{cite:t}`sundararajan2017`" in definition
    assert "`steps=50`" in definition


def test_a_definition_without_arguments_ends_before_its_result(methods):
    definition = section(methods, "all_ones").partition("::::{dropdown}")[0]
    assert "S = 1 at every pixel" in definition
    assert "Returns" not in definition


def test_every_entry_has_a_family_that_the_page_explains(methods):
    made, known = book_reference.methods(), book_reference.METHOD_FAMILIES
    own = [entry for entry in METHODS.values() if entry.function.__module__.startswith("xai_lib.")]  # tests register others
    assert {entry.traits.get("family") for entry in own} == set(known)
    assert all(f"- *{name}*: {meaning}" in made for name, meaning in known.items())
    assert '">Grad-CAM</a> | class activation map | a convolutional layer' in made
    assert "| Family | Shapley value |" in section(methods, "kernel_shap")
    assert all(entry.traits["family"] == "control" for entry in METHODS.values() if entry.traits.get("control"))
    assert {entry.traits.get("family") for entry in METRICS.values()} == set(book_reference.METRIC_FAMILIES)
    assert '">Pointing game</a> | localisation | ' in book_reference.metrics()
    assert "| Family | robustness |" in section(book_sheets.metrics(ROOT, KEYS, STUDIES, {}), "max_sensitivity")


def test_families_are_named_by_what_becomes_of_them(methods):
    text = section(methods, "guided_backprop")
    assert "repaired: “shared ReLU6, residual”" in text
    assert "refused: “SiLU”, “sigmoid”" in text


def test_chapters_are_those_that_name_it(methods):
    assert "</notebooks/path_attribution>`" in section(methods, "credible_path_attribution")
    assert "</notebooks/wsol>`" not in section(methods, "credible_path_attribution")
    assert "| Named in | no chapter |" in section(methods, "deep_taylor")


def run_of(values):
    frame = pd.DataFrame(
        [
            {
                "dataset": "d",
                "model": "m",
                "method": method,
                "metric": "sparseness",
                "sample": str(i),
                "seed": 0,
                "value": value,
            }
            for method, found in values.items()
            for i, value in enumerate(found)
        ]
    ).reindex(columns=list(COLUMNS))
    return SimpleNamespace(results=lambda: frame)


def test_a_metric_says_how_controls_do():
    entry = {"title": "Sparse", "metric": "Sparseness", "better": "larger", "controls": ["blind"], "methods": ["own"]}
    studies = {"baseline_study": {**STUDIES["baseline_study"], "controls": [{**entry, "metric": "sparseness"}]}}
    chapters = {"baseline_study": run_of({"blind": [0.9, 0.8, 0.85], "own": [0.1, 0.2, 0.12]})}
    text = book_sheets.metrics(ROOT, KEYS, studies, chapters)
    told = section(text, "sparseness")
    assert "| Won by controls | Sparse: best control blind: 0.850" in told
    assert "best method own: 0.140" in told
    assert ", n = 3; 0 of 1 methods above the control |" in told
    assert "Won by controls" not in section(text, "complexity")


@pytest.mark.parametrize(
    ("metric", "same"),
    [("sparseness", True), ("Sparseness", True), ("sparseness, absolute", True), ("sparse", False), ("complexity", False)],
)
def test_a_score_belongs_to_a_metric_by_name_or_label(metric, same):
    assert book_sheets._same({"metric": metric}, METRICS["sparseness"]) == same
    assert book_sheets._same({"metric": metric, "of": "sparseness"}, METRICS["sparseness"])
    assert not book_sheets._same({"metric": metric, "of": "complexity"}, METRICS["sparseness"])


def notebook(path, source):
    cell = {"cell_type": "code", "source": source, "metadata": {}, "outputs": [], "execution_count": None}
    prose = {"cell_type": "markdown", "source": "`vargrad` is not used", "metadata": {}}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"cells": [cell, prose], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))


def test_words_come_from_the_study_file_the_notebook_and_its_modules(tmp_path):
    notebook(tmp_path / "notebooks" / "roar.ipynb", "from xai_lib.studies import roar, case\nx = {'rise': 1}\nsaliency(2)\n")
    words = book_uses.named(tmp_path, "roar", {"parameters": [{"method": {"lrp": None}}, "insertion minus"]})
    used = {name for name in METHODS if book_uses.uses(METHODS[name], words)}
    assert {"rise", "saliency", "lrp", "permuted_map", "integrated_gradients"} <= used
    assert not used & {"vargrad_", "deep_taylor", "credible_path_attribution", "contrastive_gradient"}
    assert "insertion_minus" in words


def test_a_function_of_the_same_module_counts_where_the_module_holds_one_metric(tmp_path):
    notebook(
        tmp_path / "notebooks" / "one.ipynb", "from xai_lib import metrics\nmetrics.randomisation_tables(1)\nmetrics.x(2)\n"
    )
    words = book_uses.named(tmp_path, "one", {})
    assert book_uses.uses(METRICS["model_parameter_randomisation"], words)
    assert not book_uses.uses(METRICS["region_perturbation"], words)
    notebook(tmp_path / "notebooks" / "one.ipynb", "from xai_lib import metrics\nmetrics.certificates(1)\n")
    assert not book_uses.uses(METRICS["certificate_soundness"], book_uses.named(tmp_path, "one", {}))


def test_the_table_of_axioms_leads_to_the_lesson_where_there_is_one():
    with_lesson = book_reference.axioms({"foundations_gradients": {"title": "Axiom by axiom"}})
    assert with_lesson.startswith(
        "{doc}`Axiom by axiom </notebooks/foundations_gradients>` explains each axiom.\n\n| Method | Complete |"
    )
    alone = book_reference.axioms({})
    assert alone == with_lesson.partition("\n\n")[2]
    row = next(line for line in alone.splitlines() if "#sheet-deeplift" in line)
    assert [cell.count(">✔<") for cell in row.split("|")[2:-1]] == [1, 0, 0, 1, 0]
