"""`xai compare`: the results of several runs of one study side by side; see `compare_runs` for how they are compared."""

import argparse
from collections.abc import Callable
from pathlib import Path

from xai_lib.compendium.compare_runs import Comparison, Row, compare
from xai_lib.compendium.compare_tables import COLUMNS, csv, how, markdown, tables
from xai_lib.compendium.results import write
from xai_lib.errors import ConfigError, StoreError

__all__ = ["Comparison", "Row", "add_arguments", "command", "compare", "csv", "how", "markdown", "tables"]


FORMATS = (".png", ".svg", ".pdf")
WRITTEN = "written by xai compare"
"""Stands in every file that may be overwritten without being asked (a table is known by its heading)."""


def check_target(path: Path, *, force: bool) -> None:
    """Refuse to write where that would destroy something.

    Raises:
        ConfigError: the folder does not exist, or the file exists and `xai compare` did not write it.
        StoreError: what is there cannot be read.
    """
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ConfigError(f"{path}: {'is a folder' if path.is_dir() else 'its folder does not exist'}; name a file")
    if force or not path.exists():
        return
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}; name another file") from None
    if WRITTEN.encode() not in content and content.partition(b"\n")[0] != ",".join(COLUMNS).encode():
        raise ConfigError(f"{path}: exists, and xai compare did not write it; name another file, or overwrite it with --force")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `xai compare`."""
    text = "run folder, sweep folder (all its finished runs) or study (its latest run); each is compared with the first"
    parser.add_argument("runs", nargs="+", metavar="RUN", help=text)
    parser.add_argument("--metric", help="metric of the figure; the one with most differences off 0 when not given")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the results as a long table")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write all tables and the figure as one page")
    parser.add_argument("--figure", type=Path, metavar="FILE", help=f"write the figure ({', '.join(FORMATS)})")
    parser.add_argument("--force", action="store_true", help="overwrite files that xai compare did not write")


def command(asked: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Carry out `xai compare`.

    Args:
        asked: the arguments of `add_arguments`.
        say: prints a text to stdout.

    Returns:
        The exit code 0.

    Raises:
        ConfigError, StoreError: as `compare`, `check_target` and `write`; nothing is printed then.
    """
    targets = [path for path in (asked.csv, asked.html, asked.figure) if path is not None]
    if len({path.absolute() for path in targets}) < len(targets):
        raise ConfigError("--csv, --html and --figure name the same file; give each its own")
    if asked.figure is not None and asked.figure.suffix not in FORMATS:
        raise ConfigError(f"--figure {asked.figure}: found suffix {asked.figure.suffix!r}, expected {', '.join(FORMATS)}")
    for path in targets:
        check_target(path, force=asked.force)
    comparison = compare(asked.runs)
    metric = comparison.metric(asked.metric) if asked.metric or asked.figure or comparison.rows else None
    made = {asked.csv: lambda: csv(comparison).encode()} if asked.csv else {}
    if asked.html or asked.figure:
        from xai_lib.compendium import compare_page  # late: loads matplotlib

        made |= {asked.html: lambda: compare_page.page(comparison, metric).encode()} if asked.html else {}
        made |= (
            {asked.figure: lambda: compare_page.picture(comparison, str(metric), asked.figure.suffix)} if asked.figure else {}
        )
    for path, content in made.items():
        write(path, content())
    say(markdown(comparison))
    return 0
