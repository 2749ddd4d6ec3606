"""Pages of the sweeps of this machine: the comparison of a sweep's finished runs, with its figure and its table to download."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xai_lib.compendium import book_notebook, compare_tables
from xai_lib.compendium.compare_runs import compare
from xai_lib.compendium.sweep_plan import SWEEP, finished_runs
from xai_lib.errors import XaiError


@dataclass(frozen=True)
class SweepPage:
    """A sweep with a page: its study, its identifier, how many runs it compares, and the page without suffix."""

    study: str
    id: str
    runs: int
    page: str


def stage(root: Path, names: Sequence[str], target: Path) -> tuple[list[SweepPage], list[str]]:
    """Write a page for every sweep of which at least two runs are finished.

    Args:
        root: the repository, with runs/<study>/sweeps/<id>/.
        names: the studies.
        target: the stage of the book.

    Returns:
        The pages in the order of study and identifier, and one line for each sweep that cannot be shown.
    """
    pages, left_out = [], []
    for name in names:
        for folder in sorted(path.parent for path in (root / "runs" / name / "sweeps").glob(f"[!.]*/{SWEEP}")):
            try:
                count = len(finished_runs(folder))
                if count > 1:
                    pages.append(SweepPage(name, folder.name, count, _write(root, name, folder, target)))
            except XaiError as error:
                left_out.append(book_notebook.scrub(f"{name}, sweep {folder.name}: {error}", root))
    return pages, left_out


def _write(root: Path, name: str, folder: Path, target: Path) -> str:
    from xai_lib.compendium import compare_page  # late: loads matplotlib

    comparison = compare([folder], root)
    place = target / "runs" / name
    place.mkdir(parents=True, exist_ok=True)
    page = place / f"sweep-{folder.name}"
    downloads = target / "downloads" / "local"
    downloads.mkdir(parents=True, exist_ok=True)
    table = downloads / f"{name}-sweep-{folder.name}.csv"
    table.write_text(compare_tables.csv(comparison), encoding="utf-8")
    figure = ""
    if comparison.rows:
        metric = comparison.metric()
        page.with_suffix(".png").write_bytes(compare_page.picture(comparison, metric, ".png"))
        alt, caption = compare_page.described(comparison, metric)
        figure = f":::{{figure}} {page.name}.png\n:alt: {alt}\n\n{caption}\n:::\n\n"
    text = compare_tables.page_markdown(comparison)
    title, _, rest = text.partition("\n\n")
    link = f"{{download}}`Download the table </{table.relative_to(target).as_posix()}>`"
    page.with_suffix(".md").write_text(
        book_notebook.scrub(f"{title}\n\n{_INTRODUCTION} {link}\n\n{figure}{rest}", root), encoding="utf-8"
    )
    return page.relative_to(target).as_posix()


_INTRODUCTION = (
    "A sweep of this machine: every run has its own parameters, so none of them gives a verdict. "
    "Each run is compared with the first, on the same images."
)
