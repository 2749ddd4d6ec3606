"""Numbers in the prose of chapters come from a run: typed ones are found, and the few that are settings are named."""

import re
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
NOT_PROSE = re.compile(
    r"\$\$.*?\$\$|\$[^$]+\$|⟦[^⟧]*⟧|```.*?```|`[^`]*`|\{[a-z:]+\}`[^`]*`|\]\([^)]*\)|https?://\S+|^\(.*\)=$",
    re.DOTALL | re.MULTILINE,
)
NUMBER = re.compile(r"(?<![\w.,])(?:\d[\d,]*\.\d+|\.\d+|\d+(?:\.\d+)?(?=\s?%)|\d{1,3}(?:,\d{3})+|\d{3,})(?![\w])")
SETTINGS = {
    "case_studies": {
        "0.51": "solution of an exercise, from the formula beside it",
        "0.5": "value of a parameter that the exercise names",
        "2.4": "an angle that the exercise asks about",
        "170": "definition of green",
    },
    "document_errata": {name: "name of a document" for name in ("000", "001", "002", "003", "004")},
    "foundations_gradients": {"0.94": "position on a line, as in the token behind it"},
    "foundations_maps": {"0.005": "the paper's setting", "0.04": "the paper's threshold"},
    "foundations_models": {"5": "definition of a column with both signs"},
    "roar": {"0.1307": "constant of the document's code"},
}
"""Typed numbers that no run could give, with what each is."""


def typed(text: str) -> list[str]:
    """Numbers with a decimal point or percent sign, or of three digits or more; not in formulas, code, tokens, roles, links."""
    return NUMBER.findall(NOT_PROSE.sub(" ", text))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A share of 0.153 and .21, or 41 %, 3.5 % of 1,000 and 50000.", ["0.153", ".21", "41", "3.5", "1,000", "50000"]),
        ("mean 0.2, n = 300)", ["0.2", "300"]),
        ("$x = 0.5$ and $$\n0.1\n$$ (label-0.2)", ["0.2"]),
        ("`p = 0.1`, ⟦mean metric=x; format=.2f⟧, {cite:t}`author2017`, {doc}`text 0.5 </a>`, [a](b-0.5.html)", []),
        ("mnist_5k, EfficientNet-Lite0, Lite-1.5x, Table 3, 2 of 10 seeds, version v1.2", []),
        ("```python\nx = 0.25\n```\nand http://a.b/0.7", []),
    ],
)
def test_typed_numbers_are_told_from_formulas_code_and_tokens(text: str, found: list[str]) -> None:
    assert typed(text) == found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_prose_holds_no_typed_result(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    found = {number for cell in cells if cell.cell_type == "markdown" for number in typed(cell.source)}
    assert found == set(SETTINGS.get(path.stem, {})), "write ⟦mean metric=…; method=…⟧, or name the setting in SETTINGS"
