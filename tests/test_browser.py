"""The built book in headless Chromium, and the checks themselves on pages with one seeded fault each.

XAI_BOOK               folder of the built book (default build/html); without it the book's test is skipped
XAI_REQUIRE_BROWSER=1  what would be skipped fails instead
"""

import base64
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from book_fixture import picture
from PIL import Image

from xai_lib.compendium import book_words, claims, study

checks = pytest.importorskip("browser_checks", reason="Playwright and axe are not installed (pip install -e .[dev])")

from playwright.sync_api import Browser, sync_playwright  # noqa: E402

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parents[1]
BOOK = Path(os.environ.get("XAI_BOOK", ROOT / "build" / "html"))
UNLISTED = {"index.html", "genindex.html", "search.html"}
GOOD = """<h1>Title</h1><p>Text with <a href="#end">a link</a>.</p>
<img src="bars.png" alt="Bars of sparseness for twelve images, mean 0.655." width="300"><p id="end">End.</p>"""
FILTER = """<h1>Board</h1>
<style>:root:has(#xai-show-good:not(:checked)) .xai-claims tr:has(.xai-good) { display: none; }
:root:has(#xai-show-one:not(:checked)) section:has(> .xai-of-one) { display: none; }</style>
<div class="xai-filter"><fieldset><legend>Show</legend>
<label><input type="checkbox" id="xai-show-good" checked> good (2)</label>
<label><input type="checkbox" id="xai-show-one" checked> one</label></fieldset></div>
<section><div class="xai-claims xai-of-one"><table><thead><tr><th>V</th></tr></thead><tbody>
<tr><td class="xai-good">a</td></tr><tr><td class="xai-bad">b</td></tr></tbody></table></div></section>
<section><div class="xai-claims xai-of-two"><table><thead><tr><th>V</th></tr></thead><tbody>
<tr><td class="xai-good">c</td></tr></tbody></table></div></section>"""
FIGURE = """<figure><img src="bars.png" alt="Bars of robustness for thirty images, mean 0.12." width="300">
<figcaption>{}</figcaption></figure>"""
SEEDED = {
    "opens": [GOOD + "<h1>Second</h1>", GOOD.replace("h1", "h2")],
    "console": [GOOD + "<script>console.error('broken')</script>", GOOD + "<script>missing()</script>"],
    "requests": [GOOD + '<script src="https://cdn.example.org/x.js"></script>'],
    "residue": [
        GOOD + '<div class="output traceback">x</div>', GOOD + "<p>⟦mean metric=x⟧</p>", GOOD + "<p>see {numref}`x`</p>",
        GOOD + "<p>Work [] shows</p>", GOOD + "<table><tr><td>nan</td></tr></table>",
        GOOD + '<div class="system-message">x</div>',
    ],
    "images": [
        GOOD.replace("bars.png", "gone.png"), GOOD.replace("Bars of sparseness for twelve images, mean 0.655.", "Bars"),
        GOOD.replace("Bars of sparseness for twelve images, mean 0.655.", "../_images/0123456789abcdef.png"),
        GOOD + '<img src="bars.png" alt="Bars of sparseness for twelve images, mean 0.655." width="30">',
    ],
    "captions": [GOOD + FIGURE.format("Bars."), GOOD + FIGURE.format("Fig. 1 A.") + FIGURE.format("Fig. 1 B.")],
    "weight": [
        GOOD + f"<!-- {'x' * 3_000_000} -->",
        GOOD + '<img src="noise.png" alt="Noise of a thousand rows, all levels equal." width="30">',
    ],
    "board": [
        FILTER.replace("(2)", "(3)"), FILTER.replace("tr:has(.xai-good)", "tr:has(.xai-gone)"),
        FILTER.replace("section:has(> .xai-of-one)", "section"),
        FILTER.replace("input type", 'input onkeydown="return false" type'),
        FILTER.replace("input type", 'input onclick="return false" type'),
    ],
    "mathematics": [
        GOOD + '<span class="math">x</span>', GOOD + "<p>$$x$$</p>",
        GOOD + '<span class="math"><mjx-container><mjx-merror>x</mjx-merror></mjx-container></span>',
    ],
    "identifiers": [GOOD + '<p id="end">again</p>'],
    "accessible": [
        GOOD + '<p style="color:#999;background:#fff">pale text</p>', GOOD + '<a href="#end"></a>',
        GOOD + '<style>[data-theme="dark"] .x {color:#444;background:#222}</style><p class="x">dark on dark</p>',
    ],
    "narrow": [GOOD + '<div style="width:900px">wide</div>'],
}  # fmt: skip


def give_up(reason: str) -> None:
    if os.environ.get("XAI_REQUIRE_BROWSER") == "1":
        pytest.fail(f"XAI_REQUIRE_BROWSER=1, but {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        give_up("no Chromium is installed (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=list(checks.ARGUMENTS))
        yield opened
        opened.close()


def write(folder: Path, name: str, body: str) -> None:
    head = '<meta charset="utf-8"><title>t</title><link rel="icon" href="data:,">'
    head += '<meta name="viewport" content="width=device-width">'
    text = f'<!doctype html><html lang="en"><head>{head}</head><body><main>{body}</main></body></html>'
    (folder / name).write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("seeded")
    (folder / "bars.png").write_bytes(base64.b64decode(picture("bars")))
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (1000, 1010, 3), dtype=np.uint8)).save(folder / "noise.png")
    write(folder, "good.html", GOOD)
    for name, bodies in SEEDED.items():
        for number, body in enumerate(bodies):
            write(folder, f"{name}-{number}.html", body)
    write(folder, "board.html", FILTER)
    write(folder, "captions.html", GOOD + FIGURE.format("Fig. 1.2 A.") + FIGURE.format("Fig. 1.3 B."))
    write(folder, "links.html", GOOD + '<a href="good.html#nowhere">anchor</a> <a href="gone.html">file</a>')
    with checks.served(folder) as base:
        yield base, folder


def test_every_check_passes_a_good_page(browser: Browser, seeded: tuple[str, Path]):
    with checks.visit(browser, seeded[0], "good.html") as seen:
        assert {check.__name__: check(seen) for check in checks.CHECKS if check(seen)} == {}


@pytest.mark.parametrize("name", ["board", "captions"])
def test_pages_with_a_board_or_figures_pass(browser: Browser, seeded: tuple[str, Path], name: str):
    with checks.visit(browser, seeded[0], f"{name}.html") as seen:
        assert getattr(checks, name)(seen) == []


def test_every_check_has_seeded_faults():
    assert set(SEEDED) == {check.__name__ for check in checks.CHECKS}


@pytest.mark.parametrize(
    ("name", "number"), [(name, number) for name, bodies in SEEDED.items() for number in range(len(bodies))]
)
def test_check_finds_its_fault(browser: Browser, seeded: tuple[str, Path], name: str, number: int):
    with checks.visit(browser, seeded[0], f"{name}-{number}.html") as seen:
        assert getattr(checks, name)(seen)


def test_missing_page_and_dead_links_are_found(browser: Browser, seeded: tuple[str, Path]):
    base, folder = seeded
    with checks.visit(browser, base, "no-such-page.html") as seen:
        assert "status 404" in checks.opens(seen)
    pages = {}
    for name in ("good.html", "links.html"):
        with checks.visit(browser, base, name) as seen:
            pages[seen.url] = checks.anchors(seen)
    assert checks.dead_links(pages, base, folder) == [
        "/links.html -> /gone.html: no such file",
        "/links.html -> /good.html#nowhere: no such anchor",
    ]


def built() -> Path:
    if not (BOOK / "index.html").is_file():
        give_up(f"no book is built in {BOOK} (make book)")
    return BOOK


SEARCHES = {
    "contour patch": "notebooks/baseline_study.html",
    "Guided Integrated Gradients": "notebooks/path_attribution.html",
    "KAR retraining": "notebooks/roar.html",
    "tightest box": "notebooks/wsol.html",
    "rotation frog": "notebooks/case_studies.html",
    "licence fingerprint": "book/data_and_licences.html",
}


@pytest.mark.timeout(300)
def test_search_finds_the_chapter(browser: Browser):
    with checks.served(built()) as base, checks.visit(browser, base, "book/index.html") as seen:
        problems = {words: checks.not_first(checks.found(seen, words), wanted) for words, wanted in SEARCHES.items()}
        assert seen.outside == []
    assert {words: why for words, why in problems.items() if why} == {}


def test_a_search_that_misses_its_chapter_is_found(browser: Browser, seeded: tuple[str, Path]):
    items = "".join(f'<li><a href="{name}.html?highlight=x#part">{name}</a></li>' for name in ("a", "b", "b", "c", "d"))
    write(seeded[1], "search.html", f'<div id="search-results"><p>Search finished.</p><ul>{items}</ul></div>')
    with checks.visit(browser, seeded[0], "good.html") as seen:
        hits = checks.found(seen, "x")
    assert hits == ["a.html", "b.html", "c.html", "d.html"]
    assert checks.not_first(hits, "c.html") == []
    assert checks.not_first(hits, "d.html") == ["d.html is not among the first 3: ['a.html', 'b.html', 'c.html']"]


WAY = [
    ("notebooks/foundations_gradients.html", "article h1", "Integrated Gradients"),
    ("notebooks/baseline_study.html", ".xai-headline", "claims reproduced"),
    (
        "notebooks/baseline_study.html#baseline-study-rerun",
        "section:has(> #baseline-study-rerun) pre",
        "xai run baseline_study",
    ),
]
"""A new student's way from the first page: what Integrated Gradients is, what the baseline study found, how to run it again."""


def test_a_new_student_goes_from_the_first_page_to_the_rerun_command_by_three_clicks(browser: Browser):
    with checks.served(built()) as base, checks.visit(browser, base, "book/index.html") as seen:
        for address, place, words in WAY:
            links = seen.page.locator("article a:visible")
            urls = links.evaluate_all("all => all.map(node => node.href)")
            assert base + address in urls, (address, seen.page.url)
            links.nth(urls.index(base + address)).click()
            seen.page.wait_for_url(base + address)
            shown = seen.page.locator(place).filter(has_text=words).first
            shown.wait_for(state="visible", timeout=20_000)
        assert seen.outside == []


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [name for name in study.names(place=ROOT) if study.load(name, place=ROOT).claims])
def test_numbers_and_verdicts_on_the_page_are_those_of_the_results(browser: Browser, name: str):
    ledger = ROOT / "book" / "runs" / name / "book"
    if not (ledger / "run.json").is_file():
        pytest.skip(f"{name} has no published run")
    own = study.load(name, place=ROOT)
    again = claims.judge(own, study.read_results(ledger / "results.csv"), profile="book")
    with checks.served(built()) as base, checks.visit(browser, base, f"notebooks/{name}.html") as seen:
        shown = checks.results_table(seen, name.replace("_", "-"))
    assert list(shown) == [claim.id for claim in own.claims]
    for claim, verdict in zip(own.claims, again, strict=True):
        reported, ours, n, _, mark = shown[claim.id]
        assert ours == book_words.interval(verdict.effect, verdict.low, verdict.high), claim.id
        assert n == book_words.number(verdict.n), claim.id
        assert verdict.verdict in mark, claim.id
        for value in re.findall(r"\d+\.\d+", claim.published.text):
            assert value in reported, claim.id


@pytest.mark.timeout(1200)
def test_book(browser: Browser):
    built()
    made = {path.relative_to(BOOK).as_posix() for path in BOOK.rglob("*.html") if "_static" not in path.parts} - UNLISTED
    problems: list[str] = []
    pages: dict[str, checks.Anchors] = {}
    rendered = 0
    with checks.served(BOOK) as base:
        with checks.visit(browser, base, "book/index.html") as seen:
            links = seen.page.locator(".bd-sidebar-primary nav a").evaluate_all(
                "all => all.map(node => node.href.split('#')[0])"
            )
            listed = {link.removeprefix(base) for link in links}
        problems += [f"{name}: not in the contents" for name in sorted(made - listed)]
        for name in sorted(made | listed):
            with checks.visit(browser, base, name) as seen:
                pages[seen.url] = checks.anchors(seen)
                rendered += seen.page.locator("mjx-container").count()
                problems += [f"{name}: {text}" for check in checks.CHECKS for text in check(seen)]
        problems += checks.dead_links(pages, base, BOOK)
    assert rendered > 0
    assert problems == [], "\n".join(problems)
