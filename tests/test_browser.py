"""The built book in headless Chromium, and the checks themselves on pages with one seeded fault each.

XAI_BOOK               folder of the built book (default build/html); without it the book's test is skipped
XAI_REQUIRE_BROWSER=1  what would be skipped fails instead
"""

import base64
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from book_fixture import picture

checks = pytest.importorskip("browser_checks", reason="Playwright and axe are not installed (pip install -e .[dev])")

from playwright.sync_api import Browser, sync_playwright  # noqa: E402

pytestmark = pytest.mark.browser

BOOK = Path(os.environ.get("XAI_BOOK", Path(__file__).resolve().parents[1] / "build" / "html"))
UNLISTED = {"index.html", "genindex.html", "search.html"}
GOOD = """<h1>Title</h1><p>Text with <a href="#end">a link</a>.</p>
<img src="bars.png" alt="Bars of sparseness for twelve images, mean 0.655." width="300"><p id="end">End.</p>"""
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
    write(folder, "good.html", GOOD)
    for name, bodies in SEEDED.items():
        for number, body in enumerate(bodies):
            write(folder, f"{name}-{number}.html", body)
    write(folder, "links.html", GOOD + '<a href="good.html#nowhere">anchor</a> <a href="gone.html">file</a>')
    with checks.served(folder) as base:
        yield base, folder


def test_every_check_passes_a_good_page(browser: Browser, seeded: tuple[str, Path]):
    with checks.visit(browser, seeded[0], "good.html") as seen:
        assert {check.__name__: check(seen) for check in checks.CHECKS if check(seen)} == {}


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


@pytest.mark.timeout(1200)
def test_book(browser: Browser):
    if not (BOOK / "index.html").is_file():
        give_up(f"no book is built in {BOOK} (make book)")
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
