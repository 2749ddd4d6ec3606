"""Glossary: its terms, and where the first use of one is linked."""

import re
from pathlib import Path

import book_fixture as fixture
import nbformat
import pytest

from xai_lib.compendium import book, book_glossary
from xai_lib.compendium.book_glossary import link

TERMS = ["Baseline", "Logit", "Integrated Gradients", "Gradient", "Control"]


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("The baseline.", "The {term}`baseline <Baseline>`."),
        ("Baselines, baseline", "{term}`Baselines <Baseline>`, baseline"),
        ("Integrated Gradients", "{term}`Integrated Gradients <Integrated Gradients>`"),
        ("gradients", "{term}`gradients <Gradient>`"),
        ("uncontrolled, controlled, control-like", "uncontrolled, controlled, control-like"),
        ("# Baseline\n\nbaseline", "# Baseline\n\n{term}`baseline <Baseline>`"),
        ("```python\nbaseline = 1\n```\nbaseline", "```python\nbaseline = 1\n```\n{term}`baseline <Baseline>`"),
        (":::{note} A logit\n:name: logit\nlogit\n:::", ":::{note} A logit\n:name: logit\n{term}`logit <Logit>`\n:::"),
        ("$$\nbaseline\n$$ (eq)\nlogit", "$$\nbaseline\n$$ (eq)\n{term}`logit <Logit>`"),
        ("$baseline$ `logit` {doc}`control` [gradient](x) <a id='baseline'>", None),
        ("⟦mean metric=gradient⟧", None),
        ("{control}`x`", None),
        ("(baseline)=\n", None),
        ("", None),
    ],
)  # fmt: skip
def test_the_first_use_outside_code_mathematics_headings_and_links(text, made):
    assert link([text], TERMS) == [text if made is None else made]


def test_a_term_is_linked_once_on_a_page():
    made = link(["a control", "a control, a logit", "logit"], TERMS)
    assert made == ["a {term}`control <Control>`", "a control, a {term}`logit <Logit>`", "logit"]


def test_the_glossary_is_in_order_and_every_entry_says_something():
    page = (fixture.ROOT / book_glossary.PAGE).read_text()
    terms = book_glossary.terms(page)
    assert len(terms) > 25
    assert terms == sorted(terms, key=str.lower)
    assert len({term.lower() for term in terms}) == len(terms)
    for entry in re.split(r"\n\n", page.split("```{glossary}\n")[1].split("\n```")[0]):
        assert len(entry.partition("\n")[2]) > 40, entry


@pytest.mark.slow
def test_pages_and_chapters_are_linked_and_downloads_are_not(tmp_path: Path):
    root = fixture.repository(tmp_path / "repo", local=False)
    stage = book.stage(root, tmp_path / "stage")
    chapter = nbformat.read(stage / "notebooks" / f"{fixture.STUDY}.ipynb", as_version=4)
    text = "\n".join(cell.source for cell in chapter.cells if cell.cell_type == "markdown")
    assert "{term}`Integrated Gradients <Integrated Gradients>`" in text
    assert "# Baselines of Integrated Gradients" in text
    assert text.count("<Integrated Gradients>`") == 1
    assert "{term}" not in (stage / "downloads" / "published" / f"{fixture.STUDY}-book.ipynb").read_text()
    assert "{term}" not in (stage / "book" / "glossary.md").read_text()
    assert "{term}`attribution" in (stage / "book" / "index.md").read_text().lower()
