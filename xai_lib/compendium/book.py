"""The book: stage pages and executed notebooks, insert the generated cells, let Jupyter Book make HTML of it.

    build(root, output)  ->  output/html

The stage (output/stage) is made afresh each time and mirrors the repository: book/*.md, notebooks/<study>.ipynb (the study
chapter, from book/runs/<study>/<profile>/), runs/<study>/<profile>.ipynb (the newest local run per profile, clearly marked)
and runs/<study>/sweep-<id>.md (the comparison of a sweep's runs). Nothing is executed here. Order of a chapter, where the names
in brackets are elements of BOOK.md:

    title cell of the notebook · [1 card] [2 question] [3 claims] [4 deviations]
    the notebook's own cells up to the last one tagged `after-method`
    [6 parameters, rerun] [7 data and models]
    the notebook's own cells up to the last one tagged `after-results`
    [10 results against the document]
    the notebook's remaining cells
    [13 limits] [14 questions] [16 provenance] [17 references and history]

Without the tag `after-method`, 6 and 7 follow 4; without `after-results`, 10 follows the notebook's last cell.
"""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from xai_lib.compendium import (
    book_assets,
    book_bibliography,
    book_cells,
    book_downloads,
    book_glossary,
    book_notebook,
    book_runs,
    book_sphinx,
    book_sweeps,
    book_verdicts,
)
from xai_lib.compendium.book_cells import Study
from xai_lib.compendium.book_pages import Book, fill_blocks
from xai_lib.compendium.book_runs import Run
from xai_lib.compendium.notebooks import nbformat
from xai_lib.errors import ConfigError, StoreError

LOCAL_PAGE = """# Local runs

These pages were made on this machine. They are **not** part of the published ledger: another machine does not have them, and
their numbers are not quoted anywhere in the book.

<!-- generated: local_runs -->
"""


def build(root: Path, output: Path, *, local: bool = True, strict: bool = True) -> Path:
    """Build the book.

    Args:
        root: the repository.
        output: folder for stage, log and html; its `stage` and `html` are replaced.
        local: also show the newest local run of each study and profile, and the sweeps.
        strict: a warning of Sphinx is an error.

    Returns:
        The folder output/html.

    Raises:
        ConfigError: a page, study file, token or citation that does not fit.
        StoreError: a published run that cannot be shown.
        EngineError: Jupyter Book failed; the message lists its warnings.
    """
    root, output = root.resolve(), output.resolve()
    staged = stage(root, output / "stage", local=local)
    return book_sphinx.run(staged, root / "_config.yml", output, strict=strict)


def stage(root: Path, target: Path, *, local: bool = True) -> Path:
    """Write everything Jupyter Book reads into a fresh folder `target` and return it (errors as for `build`)."""
    if target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)
    book_assets.copy_pages(root, target)
    book_assets.copy_mathjax(target / "book" / "assets")
    toc = _toc(root)
    book = collect(root, toc, local=local)
    for name, study in book.studies.items():
        if name in book.chapters:
            _stage_run(study, book.chapters[name], book, target)
        else:
            page = target / "notebooks" / f"{name}.md"
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(book_cells.not_run(name, study), encoding="utf-8")
    for run in book.local:
        _stage_run(book.studies[run.study], run, book, target)
    if local:
        sweeps, unread = book_sweeps.stage(root, list(book.studies), target)
        book = replace(book, sweeps=sweeps, left_out=[*book.left_out, *unread])
    if book.local or book.sweeps or book.left_out:
        extra = [run.page for run in book.local] + [sweep.page for sweep in book.sweeps]
        (target / "runs").mkdir(exist_ok=True)
        (target / "runs" / "index.md").write_text(LOCAL_PAGE, encoding="utf-8")
        toc["parts"].append(
            {
                "caption": "Local runs",
                "chapters": [{"file": page} for page in ["runs/index", *extra]],
            }
        )
    for page in sorted(target.rglob("*.md")):
        name, text = page.relative_to(target).as_posix(), page.read_text(encoding="utf-8")
        if name.startswith("book/") and name != book_glossary.PAGE:
            (text,) = book_glossary.link([text], book.terms)
        page.write_text(fill_blocks(text, book, name), encoding="utf-8")
    (target / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False), encoding="utf-8")
    return target


def collect(root: Path, toc: dict[str, Any], *, local: bool) -> Book:
    """Study files, published runs and local runs, each checked before anything is shown."""
    keys = book_bibliography.keys(root / "book" / "references.bib")
    listed = [Path(entry).name for entry in toc_files(toc) if entry.startswith("notebooks/")]
    known = sorted(path.stem for path in (root / "notebooks").glob("*.yml"))
    if sorted(listed) != known:
        raise ConfigError(
            f"book/_toc.yml lists the studies {sorted(listed)}, notebooks/ holds study files for {known}; make them equal"
        )
    studies = {name: book_runs.read_study(root, name) for name in listed}
    ledger = [run for name in listed for run in book_runs.published_runs(root, name)]
    for run in ledger:
        problems = book_runs.check_run(run, run.notebook(), _ids(studies[run.study]))
        if problems:
            again = f"xai run {run.study} --profile {run.profile} --publish"
            raise StoreError(f"published run {run.study}/{run.profile} cannot be shown: {'; '.join(problems)}. Run `{again}`")
    chapters: dict[str, Run] = {}
    for run in ledger:
        chapters.setdefault(run.study, run)
    shown: list[Run] = []
    left_out: list[str] = []
    if local:
        found, left_out = book_runs.local_runs(root, listed)
        for run in found:
            try:
                problems = book_runs.check_run(run, run.notebook(), _ids(studies[run.study]))
            except StoreError as error:
                problems = [str(error)]
            left_out += [f"{run.study}, {run.profile}: {'; '.join(problems)}"] if problems else []
            shown += [] if problems else [run]
    left_out = [book_notebook.scrub(line, root) for line in left_out]
    clean = {name: _scrubbed(run, root) for name, run in chapters.items()}
    ledger, shown = [_scrubbed(run, root) for run in ledger], [_scrubbed(run, root) for run in shown]
    glossary = root / book_glossary.PAGE
    terms = book_glossary.terms(glossary.read_text(encoding="utf-8")) if glossary.is_file() else []
    return Book(root, studies, clean, ledger, shown, left_out=left_out, keys=frozenset(keys), terms=tuple(terms))


def chapter(study: Study, run: Run, book: Book, downloads: dict[str, str]) -> nbformat.NotebookNode:
    """The page of one run: its cleaned notebook with the generated cells in place."""
    source = book.root / "notebooks" / f"{run.study}.ipynb"
    page = book_notebook.clean(book_notebook.with_prose(run.notebook(), source), book.root)
    book_notebook.fold(page)
    book_notebook.lift_figures(page)
    book_downloads.lighten(page)
    book_notebook.prefix_labels(page, run.prefix)
    book_notebook.link_terms(page, book.terms)
    book_notebook.fill_tokens(page, run.results(), run.record)
    sources = [f"{{download}}`{text} <{path}>`" for text, path in downloads.items()]
    runs = [other for other in book.ledger if other.study == run.study]
    stale = book_notebook.stale(run.notebook(), source)
    front = {
        "card": book_cells.card(study, run, stale=stale, downloads=dict(list(downloads.items())[:1])),
        "question": book_cells.question(study, run),
        "claims": book_cells.claims(study, run),
        "deviations": book_cells.deviations(study, run),
    }
    middle = {"parameters": book_cells.parameters(study, run), "data": book_cells.data_card(run)}
    results = {"results": book_verdicts.results(study, run)}
    back = {
        "limits": book_verdicts.limits(study, run),
        "questions": book_verdicts.questions(study, run),
        "provenance": book_verdicts.provenance(study, run, sources),
        "references": book_verdicts.history(study, run, runs),
    }
    method, found = _last_tagged(page, "after-method", 0), _last_tagged(page, "after-results", len(page.cells) - 1)
    own = page.cells
    found = max(found, method)
    page.cells = [own[0], *_cells(front), *own[1 : method + 1], *_cells(middle)]
    page.cells += [*own[method + 1 : found + 1], *_cells(results), *own[found + 1 :], *_cells(back)]
    if not run.published:
        page.cells[0].source = own[0].source.replace("\n", f" (local run, {run.profile})\n", 1)
        if "\n" not in own[0].source and "(local run" not in page.cells[0].source:
            page.cells[0].source += f" (local run, {run.profile})"
    return page


def toc_files(toc: dict[str, Any]) -> list[str]:
    """The pages of a table of contents in reading order."""
    found = [toc["root"]]
    for part in toc.get("parts") or []:
        for entry in part["chapters"]:
            found += [entry["file"], *(sub["file"] for sub in entry.get("sections") or [])]
    return found


def _stage_run(study: Study, run: Run, book: Book, target: Path) -> None:
    folder = target / "downloads" / ("published" if run.published else "local")
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{run.study}-{run.profile}"
    executed = book_notebook.clean(run.notebook(), book.root)
    nbformat.write(executed, folder / f"{stem}.ipynb")
    (folder / f"{stem}-run.json").write_text(book_runs.to_json(run.record), encoding="utf-8")
    path = f"/{folder.relative_to(target).as_posix()}/{stem}"
    downloads = {"Download the executed notebook": f"{path}.ipynb", "run.json": f"{path}-run.json"}
    if (run.folder / "results.csv").is_file():
        made = book_downloads.copy_table(run.folder / "results.csv", folder / f"{stem}-results.csv")
        downloads[made.name.removeprefix(f"{stem}-")] = f"/{made.relative_to(target).as_posix()}"
    page = target / f"{run.page}.ipynb"
    page.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(chapter(study, run, book, downloads), page)


def _scrubbed(run: Run, root: Path) -> Run:
    return replace(run, record=book_notebook.scrub(dict(run.record), root))


def _toc(root: Path) -> dict[str, Any]:
    toc = yaml.safe_load((root / "book" / "_toc.yml").read_text(encoding="utf-8"))
    if not isinstance(toc, dict) or "root" not in toc or not isinstance(toc.get("parts"), list):
        raise ConfigError("book/_toc.yml needs `root` and a list `parts`; see the Jupyter Book format jb-book")
    return toc


def _ids(study: Study) -> list[str]:
    return [str(claim["id"]) for claim in study.get("claims") or []]


def _last_tagged(page: nbformat.NotebookNode, tag: str, otherwise: int) -> int:
    return max((i for i, cell in enumerate(page.cells) if tag in cell.metadata.get("tags", [])), default=otherwise)


def _cells(parts: dict[str, str]) -> list[nbformat.NotebookNode]:
    return [
        nbformat.v4.new_markdown_cell(text, id=f"xai-{name}", metadata={"tags": ["generated", f"xai-{name}"]})
        for name, text in parts.items()
        if text
    ]
