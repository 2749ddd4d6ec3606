"""The stage of the book, without Sphinx: what a page contains, and what is refused. One real build at the end."""

import hashlib
import json
import re
from pathlib import Path

import book_fixture as fixture
import nbformat
import pandas as pd
import pytest
import yaml

from xai_lib.compendium import (
    book,
    book_assets,
    book_bibliography,
    book_notebook,
    book_pages,
    book_runs,
    book_sphinx,
    book_words,
)
from xai_lib.compendium.book_tokens import fill
from xai_lib.compendium.study import load
from xai_lib.errors import ConfigError, EngineError, StoreError

pytestmark = pytest.mark.slow

ROOT = fixture.ROOT
ELEMENTS = ["card", "question", "claims", "deviations", "parameters", "data", "results", "limits", "questions", "provenance"]
ELEMENTS += ["references"]
CONFIG_KEYS = {
    "title": str, "author": str, "copyright": str, "only_build_toc_files": bool, "bibtex_bibfiles": list,
    "execute": {"execute_notebooks": str, "stderr_output": str},
    "parse": {"myst_enable_extensions": list},
    "html": {
        "favicon": str, "home_page_in_navbar": bool, "use_multitoc_numbering": bool, "use_repository_button": bool,
        "use_edit_page_button": bool, "use_issues_button": bool,
    },
    "sphinx": {
        "recursive_update": bool,
        "config": {
            "language": str, "html_static_path": list, "html_css_files": list, "html_js_files": list, "html_search_scorer": str,
            "html_copy_source": bool,
            "html_show_sourcelink": bool, "nb_render_markdown_format": str, "mathjax_path": str,
            "mathjax3_config": {"options": {"enableMenu": bool}}, "bibtex_default_style": str, "bibtex_reference_style": str,
            "html_context": {"default_mode": str},
            "html_theme_options": {
                "use_download_button": bool, "use_fullscreen_button": bool, "show_toc_level": int,
                "navigation_with_keys": bool, "navbar_persistent": list,
            },
        },
    },
}  # fmt: skip


def unlike(given: dict, expected: dict, place: str = "") -> list[str]:
    wrong = [f"{place}{key}: unknown" for key in given if key not in expected]
    for key, kind in expected.items():
        if key not in given:
            wrong.append(f"{place}{key}: missing")
        elif isinstance(kind, dict):
            wrong += unlike(given[key], kind, f"{place}{key}.")
        elif not isinstance(given[key], kind):
            wrong.append(f"{place}{key}: {type(given[key]).__name__}")
    return wrong


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("book")
    return book.stage(fixture.repository(base / "repo"), base / "build" / "stage")


def page(stage: Path, name: str = f"notebooks/{fixture.STUDY}") -> nbformat.NotebookNode:
    return nbformat.read(stage / f"{name}.ipynb", as_version=4)


def text(stage: Path, name: str = f"notebooks/{fixture.STUDY}") -> str:
    return "\n\n".join(cell.source for cell in page(stage, name).cells if cell.cell_type == "markdown")


def staged(tmp_path: Path, **changes: object) -> Path:
    root = fixture.repository(tmp_path / "repo", published=False, local=False)
    fixture.write_run(root / "book" / "runs" / fixture.STUDY / "book", **changes)
    return book.stage(root, tmp_path / "stage")


# --- configuration, contents, bibliography --------------------------------------------------------------------------


def test_config_has_exactly_the_keys_that_jupyter_book_reads():
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    assert unlike(config, CONFIG_KEYS) == []
    assert unlike({**config, "only_build_toc_file": True}, CONFIG_KEYS) == ["only_build_toc_file: unknown"]
    assert config["execute"]["execute_notebooks"] == "off"
    assert config["sphinx"]["config"]["mathjax_path"].startswith("mathjax/")
    for name in config["sphinx"]["config"]["html_css_files"] + config["sphinx"]["config"]["html_js_files"]:
        assert (ROOT / "book" / "assets" / name).is_file()


def test_every_page_is_in_the_contents_and_every_entry_is_a_page():
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    listed = book.toc_files(toc)
    assert len(set(listed)) == len(listed)
    assert {f"book/{path.stem}" for path in (ROOT / "book").glob("*.md")} == {e for e in listed if e.startswith("book/")}
    assert all(part["numbered"] is True for part in toc["parts"])


def test_bibliography_has_unique_keys_and_complete_entries():
    path = ROOT / "book" / "references.bib"
    keys = book_bibliography.keys(path)
    entries = re.split(r"^@", path.read_text(), flags=re.M)[1:]
    assert len(keys) == len(entries) > 25
    for entry in entries:
        assert {"author", "title", "year"} <= set(re.findall(r"^\s+(\w+) =", entry, flags=re.M)), entry.splitlines()[0]
        assert entry.count("{") == entry.count("}"), entry.splitlines()[0]


@pytest.mark.parametrize(
    ("entries", "said"),
    [("@misc{a2020, x}\n@book{a2020, y}", "a2020 appear twice"), ("@misc{Smith:2020, x}", "Smith:2020 are not lower-case")],
)
def test_bibliography_refuses(tmp_path: Path, entries: str, said: str):
    (tmp_path / "r.bib").write_text(entries)
    with pytest.raises(ConfigError, match=said):
        book_bibliography.keys(tmp_path / "r.bib")


# --- the chapter ----------------------------------------------------------------------------------------------------


def test_chapter_has_its_elements_in_order(stage: Path):
    ids = [cell.id for cell in page(stage).cells]
    generated = [name.removeprefix("xai-") for name in ids if name.startswith("xai-")]
    assert generated == ELEMENTS
    assert ids[0] == "cell-0"
    assert ids.index("xai-parameters") == ids.index("cell-3") + 1  # cell 3 carries the tag after-method
    assert ids.index("xai-results") == ids.index("cell-9") + 1  # no cell carries after-results
    assert text(stage).count("\n# ") == 0
    for element in (name for name in ELEMENTS if name not in ("card", "questions")):
        assert f"({fixture.STUDY}-{element})=\n## " in text(stage)


def test_a_lesson_has_no_elements_about_claims_and_is_on_no_board(tmp_path: Path):
    root = fixture.repository(tmp_path / "repo", published=False, local=False)
    path = root / "notebooks" / f"{fixture.STUDY}.yml"
    path.write_text(yaml.safe_dump({**fixture.study(), "document": None, "claims": [], "deviations": []}))
    notebook = fixture.notebook()
    notebook.cells.pop()
    nbformat.write(notebook, path.with_suffix(".ipynb"))
    fixture.write_run(root / "book" / "runs" / fixture.STUDY / "book", book=notebook, verdicts=[])
    stage = book.stage(root, tmp_path / "stage")
    generated = [cell.id for cell in page(stage).cells if cell.id.startswith("xai-")]
    missing = {"xai-claims", "xai-deviations", "xai-results"}
    assert generated == [f"xai-{name}" for name in ELEMENTS if f"xai-{name}" not in missing]
    source = text(stage)
    assert "Every number and figure of this page comes from this run" in source
    for word in ("*source:*", "this chapter tests", "verdict"):
        assert word not in source.lower()
    assert fixture.study()["title"] not in (stage / "book" / "verdict_board.md").read_text()


def test_results_go_after_the_tagged_cell(tmp_path: Path):
    notebook = fixture.notebook()
    notebook.cells[7].metadata["tags"] = ["after-results"]
    ids = [cell.id for cell in page(staged(tmp_path, book=notebook)).cells]
    assert ids.index("cell-7") < ids.index("xai-results") < ids.index("cell-8")


def test_results_table_says_what_the_record_says(stage: Path):
    source = text(stage)
    row = next(line for line in source.splitlines() if line.startswith("| <a") and ">A3<" in line)
    for part in ("0.956 (one), 0.973 (five)", "0.0210 [0.00800, 0.0340]", "| 12 |", "0.00400", "xai-reproduced"):
        assert part in row
    assert "1 of 5 claims reproduced, 1 more in direction only" in source
    assert "not tested (scale)" in source
    assert r"median \| as printed" in source
    assert "Paired difference over 12 images; the interval decides." in source


def test_card_parameters_and_provenance(stage: Path):
    source = text(stage)
    for part in (
        "14 min 30 s",
        "cpu, 2 threads",
        "xai run baseline_study --profile book",
        "`[black, uniform]`",
        "`0123456789ab`",
    ):
        assert part in source
    assert "| `n_images` | `12` | number of images | profile book |" in source
    assert "| `steps` | `24` | steps of the path integral | default |" in source
    assert hashlib.sha256("\n".join([fixture.HEAD, *fixture.RESULTS, ""]).encode()).hexdigest() in source
    assert "Stale" not in source


def test_changed_code_makes_the_run_stale(tmp_path: Path):
    root = fixture.repository(tmp_path / "repo", local=False)
    path = root / "notebooks" / f"{fixture.STUDY}.ipynb"
    path.write_text(path.read_text().replace("plotting.show(fig)", "plotting.show(figure)"))
    assert "**Stale" in text(book.stage(root, tmp_path / "stage")).replace("<strong>", "**")


def test_sentences_come_from_the_source_while_its_code_is_that_of_the_run(tmp_path: Path):
    root = fixture.repository(tmp_path / "repo", local=False)
    path = root / "notebooks" / f"{fixture.STUDY}.ipynb"
    notebook = json.loads(path.read_text())
    last = [cell for cell in notebook["cells"] if cell["cell_type"] == "markdown"][-1]
    last["source"] = ["A corrected sentence.\n"]
    new = {"cell_type": "markdown", "id": "new", "metadata": {}, "source": ["One more, right after the title.\n"]}
    notebook["cells"].insert(1, new)
    path.write_text(json.dumps(notebook))
    staged = text(book.stage(root, tmp_path / "stage"))
    assert "A corrected sentence." in staged
    assert "One more, right after the title." in staged
    assert staged.index("One more") < staged.index("A corrected")
    assert "Stale" not in staged
    path.write_text(path.read_text().replace("plotting.show(fig)", "plotting.show(figure)"))
    changed = text(book.stage(root, tmp_path / "other"))
    assert "A corrected sentence." not in changed, "the text of a run whose code has changed is that of the run"


def test_local_run_is_marked_and_has_labels_of_its_own(stage: Path):
    local = text(stage, f"runs/{fixture.STUDY}/smoke")
    assert local.startswith("# Baselines of Integrated Gradients (local run, smoke)")
    assert "Local run." in local
    assert "too small to decide a claim" in local
    assert "local-baseline_study-smoke-eq-ig" in local
    labels = [set(re.findall(r"^\(([\w-]+)\)=", text(stage, name), flags=re.M)) for name in
              (f"notebooks/{fixture.STUDY}", f"runs/{fixture.STUDY}/smoke")]  # fmt: skip
    assert labels[0]
    assert not labels[0] & labels[1]
    toc = yaml.safe_load((stage / "_toc.yml").read_text())
    assert toc["parts"][-1]["chapters"] == [{"file": "runs/index"}, {"file": f"runs/{fixture.STUDY}/smoke"}]


def test_study_without_run_gets_a_page_with_the_command(tmp_path: Path):
    root = fixture.repository(tmp_path / "repo", published=False, local=False)
    staged = book.stage(root, tmp_path / "stage")
    source = (staged / "notebooks" / f"{fixture.STUDY}.md").read_text()
    assert "xai run baseline_study --profile book --publish" in source
    assert source.count("xai-not-tested") == 5
    assert "0 of 5 claims reproduced" in (staged / "book" / "index.md").read_text()


# --- the notebook ---------------------------------------------------------------------------------------------------


def test_figure_facts_are_lifted_and_labels_prefixed(stage: Path):
    cell = next(cell for cell in page(stage).cells if cell.id == "cell-7")
    figure = cell.metadata["mystnb"]["figure"]
    assert figure["name"] == "baseline_study-fig-sparseness"
    assert figure["caption"] == "Sparseness by number of baselines; mean 0.655."
    assert cell.metadata["mystnb"]["image"]["alt"].startswith("Bars of sparseness")
    source = text(stage)
    for part in ("{numref}`baseline_study-fig-sparseness`", "[below](#baseline_study-fig-sparseness)",
                 "$$ (baseline_study-eq-ig)", "{eq}`baseline_study-eq-ig`", "{numref}`baseline_study-tab-gap`"):  # fmt: skip
        assert part in source
    output = next(cell for cell in page(stage).cells if cell.id == "cell-5").outputs[0]
    assert ":name: baseline_study-tab-gap" in output.data["text/markdown"]


def test_code_is_folded_and_parameters_are_shown_once(stage: Path):
    tags = {cell.id: cell.metadata.get("tags", []) for cell in page(stage).cells if cell.cell_type == "code"}
    assert "remove-cell" in tags["cell-1"]
    assert "hide-input" in tags["cell-2"]
    notebook = fixture.notebook()
    notebook.cells[7].metadata["tags"] = ["show-input"]
    notebook.cells[9].metadata["tags"] = ["solution"]
    book_notebook.fold(notebook)
    assert notebook.cells[7].metadata["tags"] == ["show-input"]
    assert "cell-9" not in [cell.id for cell in notebook.cells]


def test_no_path_of_this_machine_and_no_stderr(tmp_path: Path):
    root = (tmp_path / "repo").resolve()
    stage = staged(tmp_path, book=fixture.notebook(here=str(root)), command=f"{root}/bin/xai run baseline_study")
    shown = [stage / f"notebooks/{fixture.STUDY}.ipynb", *sorted((stage / "downloads" / "published").iterdir())]
    assert len(shown) == 4
    for path in shown:
        assert str(tmp_path) not in path.read_text(), path.name
    assert "10%" not in shown[0].read_text()
    assert book_notebook.scrub("/home/ann/x and /Users/bob", tmp_path) == "~/x and ~"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"alt": "short"}, "alt text has 5 characters"),
        ({"alt": ""}, "picture without alt"),
        ({"caption": ""}, "picture without caption"),
        ({"name": ""}, "picture without name"),
    ],
)
def test_figure_without_its_words_is_refused(change: dict, said: str):
    facts = dict(fixture.notebook().cells[7].outputs[0].metadata["xai"]) | change
    with pytest.raises(StoreError, match=said):
        book_notebook.lift_figures(fixture.notebook(figure=facts))


def test_two_pictures_in_a_cell_or_one_alt_twice_are_refused():
    notebook = fixture.notebook()
    notebook.cells[7].outputs *= 2
    with pytest.raises(StoreError, match="2 pictures in one cell"):
        book_notebook.lift_figures(notebook)
    notebook = fixture.notebook()
    notebook.cells[8].outputs = notebook.cells[7].outputs
    with pytest.raises(StoreError, match="is used twice"):
        book_notebook.lift_figures(notebook)


# --- tokens ---------------------------------------------------------------------------------------------------------

FRAME = pd.DataFrame(
    {"metric": ["gap"] * 3, "method": ["a", "a", "b"], "model": "m", "dataset": "d", "value": [1.0, 2.0, -4.0]}
)
RECORD = {
    "parameters": {"steps": 24},
    "verdicts": [{"id": "A3", "verdict": "reproduced", "effect": 0.5, "low": 0.4, "high": 0.6, "n": 9}],
}


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("mean metric=gap; method=a", "1.50"),
        ("mean metric=gap; method=b; format=.1f", "−4.0"),
        ("max metric=gap", "2.00"),
        ("n metric=gap; model=m; dataset=d", "3"),
        ("parameter steps", "24"),
        ("claim A3 effect", "0.500 [0.400, 0.600]"),
        ("claim A3 n", "9"),
    ],
)
def test_token_is_filled(token: str, expected: str):
    assert fill(f"x ⟦{token}⟧ y", FRAME, RECORD) == f"x {expected} y"


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("mean metric=gaps", "selects no value"),
        ("mean method=a", "selects no value"),
        ("men metric=gap", "did you mean 'mean'"),
        ("mean metric=gap; methd=a", "did you mean 'method'"),
        ("mean metric=gap; format=.3q", "does not fit"),
        ("parameter stepz", "did you mean 'steps'"),
        ("claim A4 effect", "unknown claim"),
        ("claim A3 size", "unknown word"),
        ("claim A3", "write ⟦claim ID effect⟧"),
    ],
)
def test_token_that_names_nothing_is_an_error(token: str, said: str):
    with pytest.raises(ConfigError, match=re.escape(said)):
        fill(f"x ⟦{token}⟧", FRAME, RECORD)


def test_unbalanced_token_is_an_error():
    with pytest.raises(ConfigError, match="unbalanced"):
        fill("x ⟦mean metric=gap", FRAME, RECORD)


# --- the gate -------------------------------------------------------------------------------------------------------


def error_output(notebook: nbformat.NotebookNode) -> None:
    notebook.cells[8].outputs = [nbformat.v4.new_output("error", ename="ValueError", evalue="x", traceback=[])]


def not_executed(notebook: nbformat.NotebookNode) -> None:
    notebook.cells[8].execution_count = None


def second_title(notebook: nbformat.NotebookNode) -> None:
    notebook.cells[4].source = "# Another title"


def pending(notebook: nbformat.NotebookNode) -> None:
    notebook.cells[8].metadata["papermill"]["status"] = "pending"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (error_output, "ended in ValueError"),
        (not_executed, "was not executed"),
        (second_title, "2 top headings"),
        (pending, "'pending'"),
    ],
)
def test_gate_refuses_a_notebook_that_failed(tmp_path: Path, spoil, said: str):
    notebook = fixture.notebook()
    spoil(notebook)
    with pytest.raises(StoreError, match=said):
        staged(tmp_path, book=notebook)


def test_gate_refuses_verdicts_unlike_the_study(tmp_path: Path):
    good = json.loads((fixture.write_run(tmp_path / "x") / "run.json").read_text())["verdicts"]
    for number, (verdicts, said) in enumerate(
        [(good[:-1], "the study file has claims A3, A5"), ([], "without verdicts"),
         ([{**good[0], "verdict": "almost"}, *good[1:]], "'almost' is no verdict")]
    ):  # fmt: skip
        with pytest.raises(StoreError, match=said):
            staged(tmp_path / str(number), verdicts=verdicts)


def test_gate_refuses_a_changed_file_an_unfinished_run_and_smoke(tmp_path: Path):
    with pytest.raises(StoreError, match=r"results.csv has sha256"):
        staged(tmp_path / "a", results_sha256="0" * 64)
    with pytest.raises(StoreError, match="status 'failed'"):
        staged(tmp_path / "b", status="failed")
    with pytest.raises(StoreError, match="smoke run cannot be published"):
        staged(tmp_path / "c", profile="smoke")


def test_broken_local_run_is_left_out_and_said(tmp_path: Path):
    root = fixture.repository(tmp_path / "repo", local=False)
    broken = fixture.notebook()
    error_output(broken)
    fixture.write_run(root / "runs" / fixture.STUDY / "r1", profile="smoke", book=broken)
    fixture.write_run(root / "runs" / fixture.STUDY / "r2.failed", profile="smoke")
    (root / "runs" / fixture.STUDY / "r3").mkdir()
    (root / "runs" / fixture.STUDY / "r3" / "run.json").write_text("{")
    staged = book.stage(root, tmp_path / "stage")
    said = (staged / "runs" / "index.md").read_text()
    assert "ended in ValueError" in said
    assert "run.json cannot be read" in said
    assert str(root) not in said
    assert not (staged / "runs" / fixture.STUDY).exists()


def test_newest_local_run_of_a_profile_is_shown(tmp_path: Path):
    for place, day in enumerate((3, 9, 5)):
        fixture.write_run(
            tmp_path / "runs" / fixture.STUDY / f"r{place}", profile="smoke", finished=f"2026-11-{day:02d}T00:00:00"
        )
    found, unread = book_runs.local_runs(tmp_path, [fixture.STUDY])
    assert [run.folder.name for run in found] == ["r1"]
    assert unread == []


def sweep(root: Path, name: str, codes: dict[str, int]) -> Path:
    """A sweep over runs of the local folder, each with its own exit code."""
    folder = root / "runs" / fixture.STUDY / "sweeps" / name
    folder.mkdir(parents=True)
    entries = [
        {"combination": f"steps={k}", "parameters": {"steps": k}, "run": run, "exit_code": code}
        for k, (run, code) in enumerate(codes.items())
    ]
    (folder / "sweep.json").write_text(json.dumps({"combinations": entries}))
    return folder


def test_a_sweep_of_this_machine_has_a_page_with_its_comparison(tmp_path: Path):
    root = fixture.repository(tmp_path / "repo", local=False)
    for name, steps in (("one", 24), ("two", 48)):
        parameters = {**fixture.PARAMETERS, "steps": steps}
        fixture.write_run(root / "runs" / fixture.STUDY / name, profile=None, run_id=name, parameters=parameters)
    sweep(root, "abc", {"one": 0, "two": 0, "three": 1})
    sweep(root, "single", {"one": 0, "three": 1})
    (sweep(root, "broken", {}) / "sweep.json").write_text("{")
    staged = book.stage(root, tmp_path / "stage")
    place = staged / "runs" / fixture.STUDY
    source = (place / "sweep-abc.md").read_text()
    assert source.startswith("# Comparison of 2 runs of `baseline_study`\n")
    assert "| 1 | `runs/baseline_study/one` | exploratory | `24` |" in source
    assert "2 of 3 combinations are finished" in source
    assert (place / "sweep-abc.png").read_bytes().startswith(b"\x89PNG")
    assert ":::{figure} sweep-abc.png\n:alt: Mean and 95 % interval of " in source
    table = (staged / "downloads" / "local" / "baseline_study-sweep-abc.csv").read_text()
    assert table.startswith("dataset,model,metric,method,run,")
    toc = yaml.safe_load((staged / "_toc.yml").read_text())
    assert toc["parts"][-1]["chapters"][-1] == {"file": "runs/baseline_study/sweep-abc"}
    index = (staged / "runs" / "index.md").read_text()
    assert "</runs/baseline_study/sweep-abc>` | `abc` | 2 |" in index
    assert "- baseline_study, sweep broken:" in index
    assert "single" not in index
    assert str(root) not in source + index
    assert not (book.stage(root, tmp_path / "again", local=False) / "runs").exists()


def test_exploratory_run_has_no_verdict(tmp_path: Path):
    root = fixture.repository(tmp_path / "repo", local=False)
    fixture.write_run(root / "runs" / fixture.STUDY / "own", profile=None)
    source = text(book.stage(root, tmp_path / "stage"), f"runs/{fixture.STUDY}/exploratory")
    assert "Exploratory run: not a verdict" in source
    assert "claims reproduced" not in source.split("Published runs of this study")[0]


# --- pages, words, assets -------------------------------------------------------------------------------------------


def test_generated_blocks_are_filled(stage: Path):
    pages = {path.stem: path.read_text() for path in (stage / "book").glob("*.md")}
    assert not [name for name, content in pages.items() if "<!-- generated" in content]
    assert "{doc}`Baselines of Integrated Gradients </notebooks/baseline_study>`" in pages["index"]
    assert '<a href="../notebooks/baseline_study.html#baseline-study-claim-a3">A3</a>' in pages["verdict_board"]
    assert '<span id="baseline-study-claim-a3"></span>' in text(stage)
    assert "| Name | `integrated_gradients` |" in pages["methods"]
    assert "| Name | `sensitivity_n` |" in pages["metrics"]
    assert "First study." in pages["changelog"]
    assert "| `steps` | int in \\[1, 500\\] | `24` | `24` | steps of the path integral |" in pages["parameters"]
    assert "| `n_images` | int in \\[1, 1000\\] | `4` | `12` | number of images |" in pages["parameters"]
    assert "| book | 2 of 5 | 14 min 30 s | 2, 12.2 s | – | no | python 3.11.2, torch 2.10.0 |" in pages["execution"]
    cells = "class activation map | a convolutional layer | images | 1&nbsp;⇄ | 5 of 6 | ≥ 0 | –"
    row = f'| <a href="methods.html#sheet-grad-cam">Grad-CAM</a> | {cells} |'
    assert row in pages["methods_and_metrics"]
    sheet = '<a href="methods.html#sheet-integrated-gradients">Integrated Gradients</a>'
    assert f"| {sheet} | path integral | gradients | any | 50&nbsp;⇄ | 6 of 6 | signed | – |" in pages["methods_and_metrics"]
    assert "foundations_gradients" not in pages["methods_and_metrics"]
    assert pages["how_to_read_a_verdict"].count('<span class="xai-verdict') == 5


def test_highlights_are_one_line_each_with_verdict_and_number(tmp_path: Path):
    root = fixture.repository(tmp_path / "repo")
    path = root / "notebooks" / f"{fixture.STUDY}.yml"
    path.write_text(yaml.safe_dump({**fixture.study(), "highlights": ["A6", "A3"]}))
    home = (book.stage(root, tmp_path / "stage") / "book" / "index.md").read_text()
    lines = [line for line in home.splitlines() if line.startswith('| <a href="../notebooks/')]
    assert [re.findall(r">(A\d)</a>", line) for line in lines] == [["A6"], ["A3"]]
    found = {verdict[0]: verdict[1] for verdict in fixture.VERDICTS}
    assert all(f"{found[key]}" in line for key, line in zip(("A6", "A3"), lines, strict=True))
    assert "No study has a claim yet." in book_pages.highlights(book_pages.Book(ROOT, {}, {}))


def test_selections_of_one_data_set_share_a_row(tmp_path: Path):
    root = fixture.repository(tmp_path / "repo")
    record = root / "book" / "runs" / fixture.STUDY / "book" / "run.json"
    found = json.loads(record.read_text())
    one = {"name": "mnist", "licence": "CC", "redistributable": False}
    found["data"] = [{**one, "n": 7, "fingerprint": "a" * 64}, {**one, "n": 900, "fingerprint": "b" * 64}]
    record.write_text(json.dumps(found))
    source = text(book.stage(root, tmp_path / "stage"))
    assert "| mnist | 2 selections of 7 to 900 | CC | no: drawn on a neutral ground | of each: below |" in source
    assert f"| mnist | 7 | `{'a' * 16}` |\n| mnist | 900 | `{'b' * 16}` |" in source
    joint = hashlib.sha256(f"{'a' * 64}\n{'b' * 64}".encode()).hexdigest()
    assert f"| Data mnist | 2 selections; `{joint}` over their fingerprints |" in source


def test_highlights_must_be_claims(tmp_path: Path):
    root = fixture.repository(tmp_path / "repo")
    (root / "notebooks" / f"{fixture.STUDY}.yml").write_text(yaml.safe_dump({**fixture.study(), "highlights": ["A99"]}))
    with pytest.raises(ConfigError, match="unknown claim in highlights 'A99'"):
        load(fixture.STUDY, place=root)


def test_the_board_has_a_box_for_every_verdict_and_study(stage: Path):
    page = (stage / "book" / "verdict_board.md").read_text()
    boxes = re.findall(r'id="xai-show-([\w-]+)" checked> ([^<]+)</label>', page)
    kinds = [style for style, _ in book_words.VERDICTS.values()]
    assert [name for name, _ in boxes] == [*kinds, fixture.STUDY]
    counted = sum(int(re.search(r"\((\d+)\)$", text).group(1)) for _, text in boxes[:-1])
    assert counted == len(fixture.study()["claims"])
    assert f"section:has(> .xai-of-{fixture.STUDY})" in page
    assert f"::::{{div}} xai-claims xai-of-{fixture.STUDY}\n| Claim |" in page


def test_lessons_are_listed_with_their_question(tmp_path: Path):
    lesson = {"title": "A first step", "question": "What is a gradient?"}
    made = book_pages.lessons(book_pages.Book(ROOT, {"foundations_first": lesson, "roar": lesson}, {}))
    assert made == "- {doc}`A first step </notebooks/foundations_first>`: What is a gradient?"


def test_unknown_block_is_an_error():
    empty = book_pages.Book(ROOT, {}, {})
    with pytest.raises(ConfigError, match="did you mean 'verdict_board'"):
        book_pages.fill_blocks("<!-- generated: verdict_bord -->", empty, "index.md")
    with pytest.raises(ConfigError, match="a line of its own"):
        book_pages.fill_blocks("x <!-- generated: verdict_board -->", empty, "index.md")


def test_contents_and_study_files_must_agree(tmp_path: Path):
    root = fixture.repository(tmp_path / "repo")
    (root / "notebooks" / "second.yml").write_text((root / "notebooks" / f"{fixture.STUDY}.yml").read_text())
    with pytest.raises(ConfigError, match="make them equal"):
        book.stage(root, tmp_path / "stage")


def test_badge_carries_words_and_a_hidden_symbol():
    for verdict in book_words.VERDICTS:
        badge = book_words.badge(verdict)
        assert f"</span> {verdict}</span>" in badge
        assert 'aria-hidden="true"' in badge
    assert "&lt;b&gt;" in book_words.badge("not tested", "<b>")


@pytest.mark.parametrize("kind", ["at_least", "all"])
def test_rule_sentence_of_several_rules(kind: str):
    rule = {"kind": kind, "k": 1, "of": [{"kind": "below", "metric": "m", "method": "a", "threshold": 0.5}] * 2}
    assert book_words.rule_sentence(rule).count("must lie below 0.500") == 2


def test_table_escapes_pipes_and_keeps_one_line_per_row():
    assert book_words.table(["a"], [["x | y\nz"], [None]]).splitlines()[2:] == [r"| x \| y z |", "| – |"]


def test_mathjax_is_copied_whole_and_not_into_static(tmp_path: Path):
    copied = book_assets.copy_mathjax(tmp_path)
    assert copied.stat().st_size > 10**6
    assert "_static" not in copied.relative_to(tmp_path).parts


def test_failed_build_lists_the_warnings_and_keeps_the_old_book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    stage = tmp_path / "stage"
    stage.mkdir()
    said = f"import sys; print('{stage}/a.md:1: WARNING: no such label'); sys.exit(1)"
    monkeypatch.setattr(book_sphinx, "_START", said)
    (tmp_path / "_config.yml").write_text("")
    (tmp_path / "html").mkdir()
    (tmp_path / "html" / "index.html").write_text("old")
    with pytest.raises(EngineError, match=r"\na\.md:1: WARNING: no such label"):
        book_sphinx.run(stage, tmp_path / "_config.yml", tmp_path, strict=True)
    assert (tmp_path / "html" / "index.html").read_text() == "old"


@pytest.mark.slow
def test_real_build_is_free_of_warnings(tmp_path: Path):
    html = book.build(fixture.repository(tmp_path / "repo"), tmp_path / "build")
    chapter = (html / "notebooks" / f"{fixture.STUDY}.html").read_text()
    assert "5. </span>Baselines of Integrated Gradients" in chapter
    assert 'src="../_static/mathjax/tex-svg-full.js' in chapter
    assert 'src="http' not in chapter
    assert "unpkg.com" not in chapter
    assert (html / "index.html").is_file()
