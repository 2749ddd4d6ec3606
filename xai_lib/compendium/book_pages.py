"""Generated blocks of the book's own pages.

A line `<!-- generated: NAME -->` in a page is replaced by the block of that name; an unknown name is an error.
"""

import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from xai_lib.compendium import book_across, book_api, book_cards, book_controls, book_reference, book_registry, book_sheets
from xai_lib.compendium.book_cells import Study, claim_target, lesson, reported
from xai_lib.compendium.book_runs import Run
from xai_lib.compendium.book_sweeps import SweepPage
from xai_lib.compendium.book_words import VERDICTS, badge, cell, code, duration, headline, interval, number, table, tally
from xai_lib.errors import ConfigError, unknown

PACKAGE = Path(__file__).parents[1]
PLACE = re.compile(r"^<!-- generated: (.*?) -->[ \t]*$", flags=re.M)


@dataclass(frozen=True)
class Book:
    """Everything a generated block may show.

    studies    the study files by name, in the order of the table of contents
    chapters   the run that became each chapter; a study without published run is missing here
    ledger     all published runs
    local      local runs shown as extra pages
    sweeps     sweeps of this machine with a page
    left_out   why other local runs and sweeps are not shown
    keys       citation keys of references.bib
    terms      entries of the glossary
    """

    root: Path
    studies: Mapping[str, Study]
    chapters: Mapping[str, Run]
    ledger: Sequence[Run] = ()
    local: Sequence[Run] = ()
    sweeps: Sequence[SweepPage] = ()
    left_out: Sequence[str] = ()
    keys: frozenset[str] = field(default_factory=frozenset)
    terms: tuple[str, ...] = ()


def fill_blocks(text: str, book: Book, page: str) -> str:
    """The page with its generated blocks.

    Raises:
        ConfigError: a block that nobody generates.
    """

    def block(match: re.Match[str]) -> str:
        name = match.group(1).strip()
        if name not in BLOCKS:
            raise unknown(f"generated block (in {page})", name, BLOCKS)
        return BLOCKS[name](book)

    filled = PLACE.sub(block, text)
    if "<!-- generated" in filled:
        raise ConfigError(f"{page}: a generated block must be a line of its own, <!-- generated: NAME -->")
    return filled


def verdict_board(book: Book) -> str:
    """One row per study and a total, with the number of claims for each verdict."""
    rows: list[list[Any]] = []
    every: list[Mapping[str, Any]] = []
    for name, study in _tested(book).items():
        run = book.chapters.get(name)
        verdicts = _verdicts(book, name)
        every += verdicts
        profile = f"profile {run.profile}, {str(run.record['finished'])[:10]}" if run else "no published run"
        link = f"{{doc}}`{study['title']} </notebooks/{name}>`"
        rows.append([f"{link}<br>{profile}", len(verdicts), _counts(verdicts)])
    if len(rows) > 1:
        rows.append(["**All studies**", len(every), _counts(every)])
    return f"**{headline(every)}.**\n\n{table(['Study', 'Claims', 'Verdicts'], rows)}"


def _tested(book: Book) -> dict[str, Study]:
    """The studies that test a document; lessons do not."""
    return {name: study for name, study in book.studies.items() if not lesson(study)}


def _counts(verdicts: Sequence[Mapping[str, Any]]) -> str:
    return " ".join(f"{badge(name, count=count)}" for name, count in tally(verdicts).items() if count)


def highlights(book: Book) -> str:
    """The claims that the study files single out, one line each: what is claimed, what we find, where."""
    rows = []
    for name, study in _tested(book).items():
        run = book.chapters.get(name)
        found = {str(v["id"]): v for v in run.verdicts} if run else {}
        claims = {str(claim["id"]): claim for claim in study.get("claims") or []}
        for key in study.get("highlights") or []:
            verdict = found.get(key, {"verdict": "not tested", "reason": "no published run"})
            ours = interval(verdict.get("effect"), verdict.get("low"), verdict.get("high"))
            mark = badge(verdict["verdict"], verdict.get("reason"))
            rows.append([_claim_link(name, claims[key], run), claims[key]["statement"], mark, ours])
    return table(["Claim", "Statement", "Verdict", "Ours [95 % interval]"], rows) if rows else "No study has a claim yet."


def _claim_link(name: str, claim: Mapping[str, Any], run: Run | None) -> str:
    """A claim's id, leading to it where its chapter has a run; for pages in book/."""
    if run is None:
        return str(claim["id"])
    return f'<a href="../notebooks/{name}.html#{claim_target(name, claim["id"])}">{claim["id"]}</a>'


def lessons(book: Book) -> str:
    """The chapters that teach, with the question that each answers."""
    found = {name: study for name, study in book.studies.items() if name.startswith("foundations_")}
    lines = [f"- {{doc}}`{study['title']} </notebooks/{name}>`: {study['question']}" for name, study in found.items()]
    return "\n".join(lines) or "No lesson yet."


def claim_filter(book: Book) -> str:
    """Boxes that show and hide studies and verdicts of the claim board: HTML and CSS, no script, so that they work anywhere."""
    tested = _tested(book)
    counts = tally([v for name in tested for v in _verdicts(book, name)])
    kinds = {style: f"{name} ({counts[name]})" for name, (style, _) in VERDICTS.items()}
    hidden = [
        f":root:has(#xai-show-{style}:not(:checked)) .xai-claims tr:has(.xai-{style}) {{ display: none; }}" for style in kinds
    ] + [f":root:has(#xai-show-{name}:not(:checked)) section:has(> .xai-of-{name}) {{ display: none; }}" for name in tested]
    groups = {"Verdict": kinds, "Study": {name: str(study["title"]) for name, study in tested.items()}}
    return (
        "<style>\n" + "\n".join(hidden) + "\n</style>\n\n"
        '<div class="xai-filter">\n' + "\n".join(_boxes(legend, one) for legend, one in groups.items()) + "\n</div>"
    )


def _boxes(legend: str, entries: Mapping[str, str]) -> str:
    lines = [
        f'<label><input type="checkbox" id="xai-show-{key}" checked> {html.escape(text)}</label>'
        for key, text in entries.items()
    ]
    return f"<fieldset>\n<legend>{legend}</legend>\n" + "\n".join(lines) + "\n</fieldset>"


def _verdicts(book: Book, name: str) -> Sequence[Mapping[str, Any]]:
    """Those of a study's published run; without one, every claim is not tested."""
    run = book.chapters.get(name)
    return run.verdicts if run else [{"verdict": "not tested"} for _ in book.studies[name].get("claims") or []]


def claim_board(book: Book) -> str:
    """Every claim of every study with its verdict; each row leads to the claim."""
    parts = []
    for name, study in _tested(book).items():
        run = book.chapters.get(name)
        found = {str(v["id"]): v for v in run.verdicts} if run else {}
        rows = []
        for claim in study.get("claims") or []:
            verdict = found.get(str(claim["id"]), {"verdict": "not tested", "reason": "no published run"})
            ours = interval(verdict.get("effect"), verdict.get("low"), verdict.get("high"))
            mark = badge(verdict["verdict"], verdict.get("reason"))
            rows.append(
                [_claim_link(name, claim, run), claim["statement"], reported(claim), ours, number(verdict.get("n")), mark]
            )
        head = ["Claim", "Statement", "Reported", "Ours [95 % interval]", "n", "Verdict"]
        shown = table(head, rows) if rows else "This study tests no claim."
        parts.append(f"## {cell(study['title'])}\n\n::::{{div}} xai-claims xai-of-{name}\n{shown}\n::::")
    return f"{claim_filter(book)}\n\n" + "\n\n".join(parts)


def verdict_vocabulary(book: Book) -> str:
    """The five verdicts as badges, for the page that explains them."""
    meaning = {
        "reproduced": "The interval lies on the side (or inside the tolerance) that the rule asks for; where the document "
        "gives an effect size, ours is compatible with it.",
        "reproduced in direction only": "The sign holds with the interval off 0, but the size the document reports lies "
        "outside our interval and its tolerance.",
        "not reproduced": "The interval contains 0 (or leaves the tolerance): the data do not show the effect.",
        "contradicted": "The interval lies on the other side of 0.",
        "not tested": "No decision, for one stated reason: scale, data not available, underspecified, budget, or bug found.",
    }
    return table(["Verdict", "When"], [(badge(name), meaning[name]) for name in VERDICTS])


def run_ledger(book: Book) -> str:
    """All published runs."""
    rows = [
        (code(run.record["run_id"]), book.studies[run.study]["title"], run.profile, str(run.record["finished"])[:10],
         duration(run.record["seconds"]), str(run.record.get("device", "–")), code(str(run.record.get("commit") or "–")[:12]))
        for run in book.ledger
    ]  # fmt: skip
    return table(["Run", "Study", "Profile", "Date", "Runtime", "Device", "Commit"], rows) if rows else "No published run yet."


def local_runs(book: Book) -> str:
    """The local runs and sweeps shown in this build, and those left out with the reason."""
    rows = [
        (f"{{doc}}`{book.studies[run.study]['title']} </{run.page}>`", run.profile, str(run.record["finished"])[:16],
         duration(run.record["seconds"]))
        for run in book.local
    ]  # fmt: skip
    swept = [(f"{{doc}}`{book.studies[one.study]['title']} </{one.page}>`", code(one.id), one.runs) for one in book.sweeps]
    parts = [table(["Study", "Profile", "Finished", "Runtime"], rows)] if rows else []
    parts += ["**Sweeps**", table(["Study", "Sweep", "Runs compared"], swept)] if swept else []
    parts += ["**Left out**", "\n".join(f"- {reason}" for reason in book.left_out)] if book.left_out else []
    return "\n\n".join(parts)


def commands(book: Book) -> str:
    """The profiles of every study with the command that runs them."""
    rows = [
        (study["title"], name, f"{profile['minutes']:g}", code(f"xai run {key} --profile {name}"))
        for key, study in book.studies.items()
        for name, profile in (study.get("profiles") or {}).items()
    ]
    return table(["Study", "Profile", "Minutes", "Command"], rows)


def changelog(book: Book) -> str:
    """CHANGELOG.md of the repository without its own title."""
    path = book.root / "CHANGELOG.md"
    if not path.is_file():
        return "No release yet."
    return re.sub(r"\A# .*\n", "", path.read_text(encoding="utf-8")).strip()


def _functions(kind: str, book: Book) -> str:
    return book_registry.functions(kind, book.keys)


BLOCKS: dict[str, Callable[[Book], str]] = {
    "verdict_board": verdict_board,
    "claim_board": claim_board,
    "highlights": highlights,
    "lessons": lessons,
    "verdict_vocabulary": verdict_vocabulary,
    "run_ledger": run_ledger,
    "local_runs": local_runs,
    "commands": commands,
    "changelog": changelog,
    "parameters": lambda book: book_reference.parameters(book.studies),
    "execution": lambda book: book_reference.execution(book.studies, book.ledger),
    "method_table": lambda book: book_reference.methods(),
    "axiom_table": lambda book: book_reference.axioms(book.studies),
    "metric_table": lambda book: book_reference.metrics(),
    "method_sheets": lambda book: book_sheets.methods(book.root, book.keys, book.studies),
    "metric_sheets": lambda book: book_sheets.metrics(book.root, book.keys, book.studies, book.chapters),
    "api": lambda book: book_api.page(PACKAGE),
    "controls": lambda book: book_controls.page(book.studies, book.chapters),
    "cross X1": lambda book: book_across.against_random(book_across.read(book.root), book.chapters),
    "cross X2": lambda book: book_across.spread(book_across.read(book.root), book.chapters),
    "cross X3": lambda book: book_across.removal(book_across.read(book.root), book.chapters),
    "cross X4": lambda book: book_across.controls(book.studies, book.chapters),
    "cross X5": lambda book: book_across.concordance(book_across.read(book.root), book.chapters),
    **{kind: partial(_functions, kind) for kind in ("baselines", "scores")},
    "data_cards": lambda book: book_cards.data_sets(book.keys, book.studies, book.chapters),
    "model_cards": lambda book: book_cards.models(book.root, book.keys, book.studies, book.chapters),
    "data_sets": lambda book: book_registry.data_sets(book.keys),
    "models": lambda book: book_registry.models(book.keys),
}
