"""The reference of the library: what is listed, how, and what is refused."""

from pathlib import Path

import pytest

from xai_lib.compendium import book_api, book_pages
from xai_lib.errors import ConfigError

SOURCE = '''"""Means of things.

More."""

def mean(values: list[float], *, trim: float = 0.0) -> float:
    """The mean a | b.

    >>> mean([1.0])
    1.0
    """

def _hidden(): ...

class Kept(dict):
    """A record."""

    def method(self): ...
'''


@pytest.fixture
def package(tmp_path: Path) -> Path:
    top = tmp_path / "lib"
    (top / "studies").mkdir(parents=True)
    (top / "inner").mkdir()
    (top / "studies" / "one.py").write_text('"""x"""\ndef f():\n    """x"""\n')
    (top / "_private.py").write_text('"""x"""\ndef f():\n    """x"""\n')
    (top / "inner" / "__init__.py").write_text(SOURCE)
    (top / "empty.py").write_text('"""Constants only."""\nX = 1\n')
    return top


def test_public_names_are_listed_with_signature_and_docstring(package: Path) -> None:
    text = book_api.page(package)
    assert text.startswith("## `lib.inner`\n\nMeans of things.\n\n")
    assert "| `mean` | The mean a \\| b. |" in text
    assert (
        "mean(values: list[float], *, trim: float=0.0) -> float\n    The mean a | b.\n\n    >>> mean([1.0])\n    1.0\n" in text
    )
    assert "class Kept(dict)\n    A record." in text
    assert "_hidden" not in text
    assert "method" not in text
    assert text.count("## ") == 1


def test_a_name_without_docstring_is_refused(package: Path) -> None:
    (package / "bare.py").write_text('"""x"""\ndef f(): ...\n')
    with pytest.raises(ConfigError, match=r"lib\.bare\.f: has no docstring"):
        book_api.page(package)


def test_the_library_of_this_repository_is_covered() -> None:
    text = book_api.page(book_pages.PACKAGE)
    for name in (
        "xai_lib.stats",
        "xai_lib.paths",
        "xai_lib.models.training",
        "xai_lib.methods.gradient",
        "xai_lib.plotting.output",
    ):
        assert f"## `{name}`" in text
    assert "path_integral(model: Model, targets: Tensor, nodes: Nodes, *, score: Any='logit'" in text
    assert "xai_lib.compendium" not in {line.strip("# `") for line in text.splitlines() if line.startswith("## ")}
