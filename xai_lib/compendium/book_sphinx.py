"""Jupyter Book as a subprocess: a fresh folder, execution off, warnings are errors."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from xai_lib.errors import ConfigError, EngineError

_START = "from jupyter_book.cli.main import main; main()"
_SCRIPT = re.compile(r"<script\b[^>]*>.*?</script>", re.S)


def run(stage: Path, config: Path, output: Path, *, strict: bool) -> Path:
    """HTML of a stage.

    Args:
        stage: what `book.stage` wrote, with its own _toc.yml.
        config: the repository's _config.yml.
        output: gets `html` (replaced only by a build that succeeded) and `book.log`.
        strict: a warning is an error.

    Returns:
        output/html.

    Raises:
        ConfigError: no configuration.
        EngineError: a non-zero exit; the message lists the warnings.
    """
    if not config.is_file():
        raise ConfigError(f"{config} is missing; the book is configured at the root of the repository")
    work = output / "sphinx"
    if work.exists():
        shutil.rmtree(work)
    flags = ["-n", "-W", "--keep-going"] if strict else ["-n", "--keep-going"]
    paths = ["--config", str(config.resolve()), "--toc", str(stage.resolve() / "_toc.yml"), "--path-output", str(work)]
    command = [sys.executable, "-c", _START, "build", str(stage.resolve()), *paths, "--all", *flags]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "PYTHONUTF8": "1", "NO_COLOR": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL, check=False, cwd=stage.resolve()
    )
    log = output / "book.log"
    log.write_text(done.stdout + "\n" + done.stderr, encoding="utf-8")
    made = work / "_build" / "html"
    if done.returncode != 0 or not (made / "index.html").is_file():
        listed = warnings(done.stdout + "\n" + done.stderr, stage)
        shown = "\n".join(listed) or (done.stderr or done.stdout)[-2000:]
        raise EngineError(f"jupyter-book failed with exit code {done.returncode}; the whole log is {log}\n{shown}")
    _repair(made)
    html = output / "html"
    if html.exists():
        shutil.rmtree(html)
    shutil.move(made, html)
    return html


def _repair(html: Path) -> None:
    """Mend what the tools write on every page.

    Bibliography lists get no list role, because their children are no list items; the scripts of Thebe go, because they are
    written twice (the second one stops with an error), name a host outside and serve buttons that this book does not have.
    """
    for page in html.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        kept = _SCRIPT.sub(lambda found: "" if "thebe" in found[0].lower() else found[0], text)
        repaired = kept.replace('<div role="list" class="citation-list">', '<div class="citation-list">')
        if repaired != text:
            page.write_text(repaired, encoding="utf-8")


def warnings(log: str, stage: Path) -> list[str]:
    """The warnings and errors of a Sphinx log, each with the page it is about, without the path of the stage.

    >>> warnings("reading\\n/b/stage/book/index.md:3: WARNING: no label\\ndone", Path("/b/stage"))
    ['book/index.md:3: WARNING: no label']
    """
    marks = ("WARNING:", "ERROR:", "CRITICAL:", "SEVERE:")
    plain = re.sub(r"\x1b\[[\d;]*m", "", log)
    return [line.strip().replace(f"{stage}/", "") for line in plain.splitlines() if any(mark in line for mark in marks)]
