"""What a page of the built book must be in a real browser. Each check returns problems; an empty list is a pass."""

import contextlib
import functools
import http.server
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urldefrag, urlencode, urljoin, urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Request, Route

ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
READY = """async () => {
  if (window.MathJax && MathJax.startup && MathJax.startup.promise) await MathJax.startup.promise;
  await document.fonts.ready;
  let height = -1, same = 0;
  while (same < 5) {
    await new Promise(done => setTimeout(done, 60));
    same = document.body.scrollHeight === height ? same + 1 : 0;
    height = document.body.scrollHeight;
  }
}"""
PROSE = """() => {
  const copy = (document.querySelector('main') || document.body).cloneNode(true);
  copy.querySelectorAll('pre, code, script, style, mjx-container').forEach(node => node.remove());
  return copy.textContent;
}"""
RESIDUE = re.compile(
    r"Traceback|papermill-error|<Figure size|np\.float|⟦|⟧|\{(?:numref|cite|eq|ref|doc|download)[:}]|\[\]|<!-- generated"
)
HEAVIEST = 3_000_000
"""Bytes of a page with its pictures."""
RAW_MATH = re.compile(r"\$\$|\\\(|\\\[")


@dataclass
class Visit:
    """One opened page: what the browser reported while it loaded."""

    url: str
    page: Page
    status: int = 0
    console: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words: object) -> None:
        pass


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a local server that serves `folder`."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def visit(browser: Browser, base: str, path: str) -> Iterator[Visit]:
    """A page in a fresh light profile, 1200 pixels wide, loaded to the end; requests to other hosts are blocked and noted."""
    context = browser.new_context(viewport={"width": 1200, "height": 900}, color_scheme="light", reduced_motion="reduce")
    page = context.new_page()
    seen = Visit(urljoin(base, path), page)

    def gate(route: Route, request: Request) -> None:
        if request.url.startswith(base) or request.url.startswith(("data:", "blob:")):
            route.continue_()
        else:
            seen.outside.append(request.url)
            route.abort()

    page.route("**/*", gate)
    page.on("console", lambda message: seen.console.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: seen.console.append(str(error)))
    try:
        response = page.goto(seen.url, wait_until="load")
        seen.status = response.status if response else 0
        page.evaluate(READY)
        yield seen
    finally:
        context.close()


def opens(seen: Visit) -> list[str]:
    titles = seen.page.locator("h1:visible").count()  # the theme keeps a second one for print
    return ([] if seen.status == 200 else [f"status {seen.status}"]) + ([] if titles == 1 else [f"{titles} h1"])


def console(seen: Visit) -> list[str]:
    return [f"console: {text[:200]}" for text in seen.console if "ERR_FAILED" not in text]


def requests(seen: Visit) -> list[str]:
    return [f"outside request: {url}" for url in seen.outside]


def residue(seen: Visit) -> list[str]:
    marks = seen.page.locator(".traceback, .output.stderr, .system-message, .problematic").count()
    found = sorted(set(RESIDUE.findall(seen.page.evaluate(PROSE))))
    empty = seen.page.locator("td").filter(has_text=re.compile(r"^\s*(nan|None|null)\s*$")).count()
    return (
        ([f"{marks} failure nodes"] if marks else [])
        + ([f"residue {found}"] if found else [])
        + ([f"{empty} cells hold nan, None or null"] if empty else [])
    )


def images(seen: Visit) -> list[str]:
    shown = seen.page.evaluate(
        "() => [...document.querySelectorAll('main img, article img')].map(i => [i.getAttribute('src'), i.alt, i.naturalWidth])"
    )
    problems, alts = [], set[str]()
    for source, alt, width in shown:
        if not width:
            problems.append(f"{source} is not decoded")
        if not 15 <= len(alt) <= 250 or re.search(r"\.(png|svg|jpe?g|webp)$|^[0-9a-f]{16,}", alt):
            problems.append(f"{source} has alt {alt!r}")
        if alt in alts:
            problems.append(f"alt {alt!r} is used twice")
        alts.add(alt)
    return problems


def captions(seen: Visit) -> list[str]:
    """Every figure with a picture has a caption that begins with its number, and no two have the same."""
    texts = seen.page.locator("main figure:has(img)").evaluate_all(
        "all => all.map(one => (one.querySelector('figcaption') || {textContent: ''}).textContent.trim())"
    )
    numbers = [match.group() if (match := re.match(r"Fig\. \d+(\.\d+)*", text)) else "" for text in texts]
    return [f"figure without a number: {text[:60]!r}" for text, number in zip(texts, numbers, strict=True) if not number] + [
        f"{number} is used twice" for number in sorted({n for n in numbers if n and numbers.count(n) > 1})
    ]


def board(seen: Visit) -> list[str]:
    """Boxes of the verdict board: each hides what it names, by mouse and by keyboard, and says how many there are."""
    page, problems = seen.page, []
    for box in page.locator(".xai-filter input[type=checkbox]").all():
        name = str(box.get_attribute("id")).removeprefix("xai-show-")
        said = re.search(r"\((\d+)\)$", box.locator("xpath=..").inner_text().strip())
        rows = page.locator(f".xai-claims tr:has(.xai-{name})" if said else f".xai-of-{name} tbody tr")
        every = page.locator(".xai-claims tbody tr")
        before, own = every.filter(visible=True).count(), rows.filter(visible=True).count()
        if said and int(said.group(1)) != own:
            problems.append(f"{name}: {said.group(1)} claims said, {own} shown")
        for way, press in {"mouse": box.click, "keyboard": functools.partial(box.press, "Space")}.items():
            press()
            left, others = rows.filter(visible=True).count(), every.filter(visible=True).count()
            if left or others != before - own:
                problems.append(f"{name}, {way}: {left} of {own} rows stay, {others} of {before - own} others are shown")
            press()
        if every.filter(visible=True).count() != before:
            problems.append(f"{name}: rows do not come back")
    return problems


def weight(seen: Visit) -> list[str]:
    """The page and its pictures; what all pages share is loaded once and does not count."""
    sizes = seen.page.evaluate(
        "() => ['navigation', 'resource'].flatMap(kind => performance.getEntriesByType(kind))"
        ".filter(one => ['navigation', 'img'].includes(one.initiatorType)).map(one => one.decodedBodySize)"
    )
    return [f"{sum(sizes) / 1e6:.2f} MB, allowed are {HEAVIEST / 1e6:g}"] if sum(sizes) > HEAVIEST else []


def mathematics(seen: Visit) -> list[str]:
    page = seen.page
    wanted, made, wrong = (page.locator(css).count() for css in (".math", "mjx-container", "mjx-merror, [data-mjx-error]"))
    raw = sorted(set(RAW_MATH.findall(page.evaluate(PROSE))))
    return (
        ([f"{wanted} formulas, none rendered"] if wanted and not made else [])
        + ([f"{wrong} formulas with errors"] if wrong else [])
        + ([f"raw math {raw}"] if raw else [])
    )


def identifiers(seen: Visit) -> list[str]:
    ids = seen.page.evaluate("() => [...document.querySelectorAll('[id]')].map(node => node.id)")
    return [f"id {name!r} is used {ids.count(name)} times" for name in sorted(set(ids)) if ids.count(name) > 1]


def accessible(seen: Visit) -> list[str]:
    problems = []
    for mode in ("light", "dark"):
        seen.page.evaluate("mode => Object.assign(document.documentElement.dataset, {theme: mode, mode})", mode)
        seen.page.evaluate(READY)
        for found in Axe().run(seen.page).response["violations"]:
            if found["impact"] in ("serious", "critical"):
                first = found["nodes"][0]
                problems.append(f"{mode}: {found['id']} ({len(found['nodes'])}), such as {first['html'][:120]}")
    return problems


def narrow(seen: Visit) -> list[str]:
    seen.page.set_viewport_size({"width": 360, "height": 780})
    seen.page.evaluate(READY)
    over = seen.page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return [f"{over} pixels wider than a screen of 360"] if over > 0 else []


CHECKS = (opens, console, requests, residue, images, captions, weight, mathematics, identifiers, board, accessible, narrow)
"""In this order, because the last two change the page."""


def found(seen: Visit, words: str) -> list[str]:
    """Pages that the book's search gives for some words, best first."""
    page = seen.page
    page.goto(urljoin(seen.url, f"/search.html?{urlencode({'q': words})}"), wait_until="load")
    page.wait_for_function("() => /finished|did not match/.test(document.querySelector('#search-results')?.textContent || '')")
    links = page.locator("#search-results li a").evaluate_all(
        "all => all.map(one => one.getAttribute('href').split(/[?#]/)[0])"
    )
    return list(dict.fromkeys(links))


def not_first(found: list[str], wanted: str, *, among: int = 3) -> list[str]:
    """The complaint where a page is not among the first of a search."""
    return [] if wanted in found[:among] else [f"{wanted} is not among the first {among}: {found[:among]}"]


def results_table(seen: Visit, prefix: str) -> dict[str, list[str]]:
    """The table of results against the document: claim -> the texts of its other cells."""
    rows = seen.page.locator(f"section:has(> #{prefix}-results), section#{prefix}-results").first.locator("table").first
    cells = rows.locator("tbody tr").evaluate_all("all => all.map(row => [...row.cells].map(cell => cell.textContent.trim()))")
    return {row[0]: row[1:] for row in cells}


@dataclass
class Anchors:
    """Ids and links of one page."""

    ids: set[str]
    links: list[str]


def anchors(seen: Visit) -> Anchors:
    ids = seen.page.evaluate("() => [...document.querySelectorAll('[id]')].map(node => node.id)")
    links = seen.page.evaluate("() => [...document.querySelectorAll('a[href]')].map(node => node.href)")
    return Anchors(set(ids), links)


def dead_links(pages: dict[str, Anchors], base: str, folder: Path) -> list[str]:
    """Internal links of the visited pages that lead to no file or to no anchor."""
    problems = set()
    for url, found in pages.items():
        for link in found.links:
            target, anchor = urldefrag(link)
            if not target.startswith(base):
                continue
            if target in pages:
                if anchor and anchor not in pages[target].ids:
                    problems.add(f"{urlsplit(url).path} -> {urlsplit(link).path}#{anchor}: no such anchor")
            elif not (folder / urlsplit(target).path.lstrip("/")).is_file():
                problems.add(f"{urlsplit(url).path} -> {urlsplit(link).path}: no such file")
    return sorted(problems)
