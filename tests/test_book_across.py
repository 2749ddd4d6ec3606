"""Cross-study questions: paired differences, ranges, matched removal, concordance, and what is missing."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from xai_lib.compendium import book_across
from xai_lib.compendium.book_across import CrossStudy
from xai_lib.errors import ConfigError

REPOSITORY = Path(__file__).parents[1]
N = 30
LEVEL = 10.0 * np.arange(N)  # images differ more than labels do
NOISE = np.random.default_rng(0).permutation(np.linspace(-0.1, 0.1, N))


def run(values: dict[tuple[str, str], np.ndarray], dataset: str = "d", model: str = "m") -> Any:
    """A published run: (metric, method) -> one value per image."""
    rows = [
        {"dataset": dataset, "model": model, "method": method, "metric": metric, "sample": f"i{k}", "seed": 0, "value": value}
        for (metric, method), own in values.items()
        for k, value in enumerate(own)
    ]
    return SimpleNamespace(results=lambda: pd.DataFrame(rows))


def questions(**own: Any) -> CrossStudy:
    return CrossStudy.model_validate({"against_random": [], "baseline_or_path": [], "removal": [], "concordance": [], **own})


def pair(study: str, **own: Any) -> dict[str, Any]:
    return {"study": study, "title": study, "metric": "score", "method": "IG", "control": "random", **own}


def test_scores_better_worse_and_undecided_are_counted() -> None:
    chapters = {
        "good": run({("score", "IG"): LEVEL + 1, ("score", "random"): LEVEL}),
        "bad": run({("score", "IG"): LEVEL - 2 + NOISE, ("score", "random"): LEVEL}),
        "open": run({("score", "IG"): LEVEL + NOISE, ("score", "random"): LEVEL}),
        "fall": run({("score", "IG"): LEVEL - 3, ("score", "random"): LEVEL}),
    }
    asked = questions(against_random=[pair("good"), pair("bad"), pair("open"), pair("fall", better="smaller"), pair("absent")])
    text = book_across.against_random(asked, chapters)
    assert "**Better than random in 2 of 4 scores, worse in 1, undecided in 1.**" in text
    assert "| {doc}`good </notebooks/good>` | 146 [" in text
    assert "| 1.00 [1.00, 1.00] | 30 |" in text
    assert "| 3.00 [3.00, 3.00] | 30 |" in text  # smaller is better
    assert text.endswith("Without a published run, and so not asked: `absent`.")


def test_a_metric_that_is_a_difference_needs_no_control() -> None:
    chapters = {"loss": run({("score", "IG"): 0.5 + NOISE})}
    text = book_across.against_random(questions(against_random=[pair("loss", control=None)]), chapters)
    assert "Better than random in 1 of 1 scores" in text
    assert "| – | 0.500 [0.4" in text


def test_trainings_are_units_where_a_score_belongs_to_no_image() -> None:
    rows = [
        {"dataset": "d", "model": "m", "method": "IG", "metric": "score", "sample": "", "seed": s, "value": s} for s in range(5)
    ]
    chapters: Any = {"seeds": SimpleNamespace(results=lambda: pd.DataFrame(rows))}
    score = questions(against_random=[pair("seeds", control=None)]).against_random[0]
    assert book_across.wide(chapters["seeds"], score, "score", ["IG"])["IG"].tolist() == [0, 1, 2, 3, 4]


def test_ranges_are_taken_image_by_image() -> None:
    found = {"a": LEVEL, "b": LEVEL + 2, "c": LEVEL + 1, "path": LEVEL + 0.5, "filter": LEVEL - 0.25}
    spread = {
        "study": "s", "title": "s", "metric": "score",
        "first": {"name": "baseline", "labels": ["a", "b", "c"]}, "second": {"name": "path", "labels": ["a", "path", "filter"]},
    }  # fmt: skip
    text = book_across.spread(questions(baseline_or_path=[spread]), {"s": run({("score", k): v for k, v in found.items()})})
    assert "| 2.00 [2.00, 2.00] | 0.750 [0.750, 0.750] | 1.25 [1.25, 1.25] | 30 |" in text


def test_what_a_baseline_or_a_value_adds_by_itself_is_no_gain() -> None:
    adds = {"x": 5.0, "y": -1.0}
    labels = {(b, v): f"{b} | {v}" for b in adds for v in adds}
    flat = pd.DataFrame({name: LEVEL + adds[b] + 3 * adds[v] for (b, v), name in labels.items()})
    assert book_across.matched_gain(flat, labels) == pytest.approx(np.zeros(N))
    matched = flat + pd.DataFrame({name: np.full(N, 0.5 * (b == v)) for (b, v), name in labels.items()})
    assert book_across.matched_gain(matched, labels) == pytest.approx(np.full(N, 0.5))
    with pytest.raises(ConfigError, match="same words"):
        book_across.matched_gain(flat, {("x", "z"): "x | y"})


def test_the_table_of_removal_has_a_row_per_baseline() -> None:
    values = {(b, v): LEVEL + i + 2 * j for i, b in enumerate("xy") for j, v in enumerate("xy")}
    chapters = {"s": run({("score", f"{b.upper()} | {v}"): own for (b, v), own in values.items()})}
    asked = {"study": "s", "title": "t", "metric": "score", "baselines": {"x": "X", "y": "Y"}, "values": ["x", "y"]}
    text = book_across.removal(questions(removal=[asked]), chapters)
    assert "| – | removed to x | removed to y |" in text
    assert "| x baseline | 145 [" in text
    assert text.index("x baseline") < text.index("y baseline")
    assert "own baseline: 0.00 [0.00, 0.00] (n = 30 images)." in text


def test_metrics_that_agree_in_their_own_direction_have_w_1() -> None:
    order = {"a": 0.0, "b": 1.0, "c": 2.0}
    values = {("up", k): LEVEL + v for k, v in order.items()} | {("down", k): LEVEL - v for k, v in order.items()}
    panel = {"study": "s", "title": "t", "methods": list(order), "metrics": {"up": "larger", "down": "smaller"}}
    text = book_across.concordance(questions(concordance=[panel]), {"s": run(values)})
    assert "| 3 | up; down | 1.00 [1.00, 1.00] | 1.00 | 0.500 | 30 |" in text
    panel["metrics"] = {"up": "larger", "down": "larger"}
    assert "| 0.00 [0.00, 0.00] | 0.00 | 0.500 | 30 |" in book_across.concordance(
        questions(concordance=[panel]), {"s": run(values)}
    )


def test_scores_that_no_method_wins_are_listed() -> None:
    entry = {"metric": "score", "better": "larger", "controls": ["blind"], "methods": ["a", "b"]}
    made = {
        "s": {"title": "S", "controls": [{**entry, "title": "lost"}, {**entry, "title": "won", "metric": "other"}]},
        "unpublished": {"title": "U", "controls": [{**entry, "title": "?"}]},
    }
    values = {("score", "blind"): LEVEL + 1, ("score", "a"): LEVEL, ("score", "b"): LEVEL}
    values |= {("other", "blind"): LEVEL, ("other", "a"): LEVEL + 1, ("other", "b"): LEVEL + 2}
    text = book_across.controls(made, {"s": run(values)})
    assert text.startswith("**In 1 of 2 scores no method is above the best control, in 0 more at most half of them are.**")
    assert text.endswith("No method is above it in:\n\n- lost")
    holes = {**entry, "title": "holes", "controls_metric": "score", "metric": "other"}  # no control without a model
    made["s"]["controls"].append(holes)
    assert book_across.controls(made, {"s": run(values)}) == text
    assert book_across.controls(made, {}) == "No published run has a control yet."


@pytest.mark.parametrize(("above", "more"), [(1, 1), (2, 1), (3, 0)])
def test_scores_that_at_most_half_of_the_methods_win_are_counted(above: int, more: int) -> None:
    entry = {"title": "t", "metric": "score", "better": "larger", "controls": ["blind"], "methods": ["a", "b", "c", "d"]}
    values = {("score", name): LEVEL + (1 if k < above else -1) for k, name in enumerate("abcd")} | {("score", "blind"): LEVEL}
    text = book_across.controls({"s": {"title": "S", "controls": [entry]}}, {"s": run(values)})
    assert text == f"**In 0 of 1 scores no method is above the best control, in {more} more at most half of them are.**"


def test_the_order_of_means_is_not_that_of_an_image_and_only_shared_images_count() -> None:
    far = np.where(np.arange(N) == 3, -1000.0, 1.0)  # one image turns the order of the means round
    values = {("one", "a"): 0 * LEVEL, ("one", "b"): far, ("one", "c"): 2 * far}
    values |= {("two", name): own for name, own in zip("abc", (0 * LEVEL, 1 + 0 * LEVEL, 2 + 0 * LEVEL), strict=True)}
    panel = {"study": "s", "title": "t", "methods": ["a", "b", "c"], "metrics": {"one": "larger", "two": "larger"}}
    whole = run(values).results()
    fewer = whole[(whole.metric == "one") | (whole["sample"] != "i5")]
    made: Any = SimpleNamespace(results=lambda: fewer)
    text = book_across.concordance(questions(concordance=[panel]), {"s": made})
    shown = text.splitlines()[-1].split(" | ")
    assert shown[-4].startswith("0.966 [")  # 28 of 29 images agree wholly, one not at all
    assert shown[-3:] == ["0.00", "0.500", "29 |"]


@pytest.mark.parametrize(("metric", "method"), [("scor", "IG"), ("score", "IQ")])
def test_what_the_run_has_not_measured_is_named(metric: str, method: str) -> None:
    asked = questions(against_random=[pair("s", metric=metric, method=method)])
    with pytest.raises(ConfigError, match=rf"s: '{metric}' has no value of '{method}'"):
        book_across.against_random(asked, {"s": run({("score", "IG"): LEVEL, ("score", "random"): LEVEL})})


def test_nothing_published_is_said() -> None:
    assert book_across.removal(questions(), {}) == "No published run answers this question yet."


def test_the_file_of_this_repository_is_read_and_faults_are_placed(tmp_path: Path) -> None:
    assert len(book_across.read(REPOSITORY).against_random) >= 8
    with pytest.raises(ConfigError, match="is missing"):
        book_across.read(tmp_path)
    (tmp_path / "book").mkdir()
    (tmp_path / book_across.FILE).write_text(
        "against_random: []\nbaseline_or_path: []\nremoval: []\nconcordance: [{study: s}]\n"
    )
    with pytest.raises(ConfigError, match=r"concordance\.0\.title"):
        book_across.read(tmp_path)
