"""Verdicts with known answers: every verdict of every rule, its boundaries, and the order in which they follow each other."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny_study

from xai_lib import stats
from xai_lib.compendium import claims, study
from xai_lib.errors import ConfigError

N = 12
SPREAD = [0.1 * (i % 3 - 1) for i in range(N)]
"""Mean 0, so that a shift of s gives an effect of exactly s and an interval of s +- HALF."""
BASE = [float(i) for i in range(N)]
ESTIMATE = stats.bootstrap_interval(SPREAD)
GREATER = {"kind": "greater", "metric": "score", "method": "b", "versus": "a"}
ORDER = ["contradicted", "not reproduced", "reproduced"]


def shifted(shift: float, spread: list[float] = SPREAD) -> list[float]:
    return [base + shift + noise for base, noise in zip(BASE, spread, strict=True)]


@pytest.fixture
def make(tmp_path: Path) -> Any:
    """Judge one rule on results; returns its verdict."""

    def judge(
        rule: dict, frame: pd.DataFrame, values: dict | None = None, profile: str | None = "book", **how: Any
    ) -> claims.Verdict:
        claim = {**tiny_study.CONTENT["claims"][0], "rule": rule, "published": {"text": "t", "values": values or {}}}
        loaded = study.load("tiny", place=tiny_study.write(tmp_path, claims=[claim]))
        how.setdefault("exploratory", False)
        (verdict,) = claims.judge(loaded, frame, profile=profile, **how)
        return verdict

    return judge


@pytest.mark.parametrize(
    ("kind", "shift", "expected"),
    [
        ("greater", 0.5, "reproduced"),
        ("greater", 0.0, "not reproduced"),
        ("greater", -0.5, "contradicted"),
        ("less", -0.5, "reproduced"),
        ("less", 0.0, "not reproduced"),
        ("less", 0.5, "contradicted"),
    ],
)
def test_paired_direction(make: Any, kind: str, shift: float, expected: str) -> None:
    verdict = make({**GREATER, "kind": kind}, tiny_study.table({"a": BASE, "b": shifted(shift)}))
    assert (verdict.verdict, verdict.reason, verdict.n) == (expected, "", N)
    assert verdict.effect == pytest.approx(shift, abs=1e-12)
    assert verdict.low == pytest.approx(shift + ESTIMATE.low)
    assert verdict.high == pytest.approx(shift + ESTIMATE.high)
    assert f"n = {N}" in verdict.detail
    assert "interval" in verdict.detail


def test_an_interval_that_touches_zero_decides_nothing(make: Any) -> None:
    zeros = [0.0] * N
    assert make(GREATER, tiny_study.table({"a": zeros, "b": zeros})).verdict == "not reproduced"
    assert make(GREATER, tiny_study.table({"a": zeros, "b": [1e-9] * N})).verdict == "reproduced"
    one_of_twelve = make(GREATER, tiny_study.table({"a": zeros, "b": [1.0, *zeros[1:]]}))
    assert (one_of_twelve.low, one_of_twelve.verdict) == (0.0, "not reproduced")
    assert one_of_twelve.high > 0


@pytest.mark.parametrize(
    ("published", "tolerance", "expected"),
    [
        (0.5, 0.0, "reproduced"),
        (2.0, 0.0, "reproduced in direction only"),
        (2.0, 1.5, "reproduced"),
        (0.1, 0.0, "reproduced in direction only"),
    ],
)
def test_published_effect_outside_our_interval_is_direction_only(
    make: Any, published: float, tolerance: float, expected: str
) -> None:
    frame = tiny_study.table({"a": BASE, "b": shifted(0.5)})
    verdict = make({**GREATER, "tolerance": tolerance}, frame, values={"b": 3 + published, "a": 3.0})
    assert verdict.verdict == expected
    assert verdict.difference == pytest.approx(0.5 - published)
    assert make({**GREATER, "tolerance": tolerance, "published": published}, frame).verdict == expected


@pytest.mark.parametrize(
    ("published", "tolerance", "expected"),
    [(0.5, 0.2, "reproduced"), (0.5, 0.01, "not reproduced"), (0.7, 0.2, "not reproduced"), (1.0, 0.2, "contradicted")],
)
def test_number_needs_the_whole_interval_inside(make: Any, published: float, tolerance: float, expected: str) -> None:
    frame = tiny_study.table({"b": [0.5 + noise for noise in SPREAD]})
    rule = {"kind": "number", "metric": "score", "method": "b", "tolerance": tolerance}
    verdict = make({**rule, "published": published}, frame)
    assert (verdict.verdict, verdict.difference) == (expected, pytest.approx(0.5 - published))
    assert make(rule, frame, values={"b": published}).verdict == expected
    with pytest.raises(ConfigError, match="no `published` number"):
        make(rule, frame)


def test_number_boundary_is_inside(make: Any) -> None:
    rule = {"kind": "number", "metric": "score", "method": "b", "published": 0.75, "tolerance": 0.25}
    assert [make(rule, tiny_study.table({"b": [value] * N})).verdict for value in (1.0, math.nextafter(1.0, 2))] == [
        "reproduced",
        "contradicted",
    ]


@pytest.mark.parametrize(
    ("kind", "threshold", "expected"),
    [
        ("above", 0.2, "reproduced"),
        ("above", 0.5, "not reproduced"),
        ("above", 0.8, "contradicted"),
        ("below", 0.8, "reproduced"),
        ("below", 0.2, "contradicted"),
    ],
)
def test_thresholds(make: Any, kind: str, threshold: float, expected: str) -> None:
    rule = {"kind": kind, "metric": "score", "method": "b", "threshold": threshold}
    assert make(rule, tiny_study.table({"b": [0.5 + noise for noise in SPREAD]})).verdict == expected


@pytest.mark.parametrize(("shift", "expected"), [(0.0, "reproduced"), (0.3, "not reproduced"), (1.0, "contradicted")])
def test_equivalence_within_a_bound(make: Any, shift: float, expected: str) -> None:
    rule = {"kind": "equivalent", "metric": "score", "method": "b", "versus": "a", "bound": 0.3}
    assert make(rule, tiny_study.table({"a": BASE, "b": shifted(shift)})).verdict == expected


def test_shifting_the_data_walks_through_the_verdicts_in_order(make: Any) -> None:
    places = [
        ORDER.index(make(GREATER, tiny_study.table({"a": BASE, "b": shifted(step / 40)})).verdict) for step in range(-8, 9, 2)
    ]
    assert places == sorted(places)
    assert set(places) == {0, 1, 2}


def test_pairs_are_images_not_positions(make: Any) -> None:
    frame = tiny_study.table({"a": BASE, "b": shifted(0.5)})
    mixed = frame.sample(frac=1, random_state=3)
    assert make(GREATER, mixed) == make(GREATER, frame)
    wrong = frame.copy()
    wrong.loc[wrong["method"] == "b", "sample"] = [f"image{(i + 5) % N}" for i in range(N)]
    assert make(GREATER, wrong).verdict == "not reproduced"


def test_seeds_of_one_image_are_averaged_and_n_counts_images(make: Any) -> None:
    frames = [tiny_study.table({"a": BASE, "b": shifted(0.5 + 0.1 * seed)}, seed=seed) for seed in range(4)]
    verdict = make(GREATER, pd.concat(frames))
    assert (verdict.n, verdict.effect) == (N, pytest.approx(0.65))


def test_values_of_no_image_count_seeds(make: Any) -> None:
    rows = [tiny_study.table({"a": [0.5], "b": [0.5 + 0.1 * (1 + seed % 2)]}, seed=seed, sample="") for seed in range(5)]
    verdict = make({**GREATER, "min_n": 5}, pd.concat(rows))
    assert (verdict.verdict, verdict.n) == ("reproduced", 5)


def test_model_and_dataset_select_rows(make: Any) -> None:
    frame = pd.concat(
        [tiny_study.table({"a": BASE, "b": shifted(0.5)}), tiny_study.table({"a": BASE, "b": shifted(-0.5)}, model="other")]
    )
    assert make({**GREATER, "model": "m"}, frame).verdict == "reproduced"
    assert make({**GREATER, "model": "other"}, frame).verdict == "contradicted"
    assert make(GREATER, frame).verdict == "not reproduced"
    assert make({**GREATER, "dataset": "none"}, frame).reason == "data not available"


def test_undefined_values_are_left_out_and_counted(make: Any) -> None:
    frame = tiny_study.table({"a": BASE, "b": [math.nan, *shifted(0.5)[1:]]}, flags={0: "constant"})
    verdict = make(GREATER, frame)
    assert verdict.n == N - 1
    assert "1 undefined rows left out" in verdict.detail
    nothing = make(GREATER, tiny_study.table({"a": BASE, "b": [math.nan] * N}))
    assert (nothing.verdict, nothing.reason) == ("not tested", "data not available")


@pytest.mark.parametrize(("n", "verdict"), [(9, "not tested"), (10, "reproduced")])
def test_too_few_images_give_no_verdict_but_an_effect(make: Any, n: int, verdict: str) -> None:
    found = make(GREATER, tiny_study.table({"a": BASE[:n], "b": shifted(0.5)[:n]}))
    assert (found.verdict, found.reason) == (verdict, "scale" if n < 10 else "")
    assert found.effect > 0.4


def rules_on(*metrics: str) -> list[dict]:
    return [{**GREATER, "metric": metric} for metric in metrics]


def several(**shifts: float) -> pd.DataFrame:
    return pd.concat([tiny_study.table({"a": BASE, "b": shifted(shift)}, metric=metric) for metric, shift in shifts.items()])


@pytest.mark.parametrize(
    ("shifts", "expected", "held"),
    [
        ({"u": 0.5, "v": 0.5, "w": 0.0}, "reproduced", 2),
        ({"u": 0.5, "v": 0.0, "w": 0.0}, "not reproduced", 1),
        ({"u": 0.5, "v": -0.5, "w": -0.5}, "contradicted", 1),
        ({"u": 0.5, "v": -0.5}, "not tested", 1),
        ({"u": 0.5, "v": 0.5}, "reproduced", 2),
        ({"v": -0.5, "w": -0.5}, "contradicted", 0),
    ],
)
def test_at_least_two_of_three(make: Any, shifts: dict[str, float], expected: str, held: int) -> None:
    verdict = make({"kind": "at_least", "k": 2, "of": rules_on("u", "v", "w")}, several(**shifts))
    assert (verdict.verdict, verdict.effect) == (expected, held)


def test_holm_makes_many_sub_rules_harder(make: Any) -> None:
    # one of 12 differences is negative and the largest, so that Wilcoxon's p lies between .05 / 6 and .05
    spread = [0.3 + 0.01 * i for i in range(N - 1)] + [-0.5]
    frame = pd.concat([tiny_study.table({"a": BASE, "b": shifted(0.0, spread)}, metric=f"m{k}") for k in range(6)])
    p = stats.paired_test(spread, [0.0] * N)
    assert 0.05 / 6 < p < 0.05
    one = make({"kind": "greater", "metric": "m0", "method": "b", "versus": "a"}, frame)
    assert one.verdict == "reproduced"
    many = make({"kind": "at_least", "k": 1, "of": rules_on(*(f"m{k}" for k in range(6)))}, frame)
    assert (many.verdict, many.effect) == ("not reproduced", 0)


@pytest.mark.parametrize(
    ("shifts", "expected"),
    [
        ({"u": 0.5, "v": 0.5}, "reproduced"),
        ({"u": 0.5, "v": 0.0}, "not reproduced"),
        ({"u": 0.0, "v": -0.5}, "contradicted"),
        ({"u": 0.5}, "not tested"),
        ({"u": -0.5}, "contradicted"),
    ],
)
def test_all_takes_the_weakest(make: Any, shifts: dict[str, float], expected: str) -> None:
    verdict = make({"kind": "all", "of": rules_on("u", "v")}, several(**shifts))
    assert verdict.verdict == expected


def test_all_passes_direction_only_on(make: Any) -> None:
    rule = {"kind": "all", "of": [{**GREATER, "metric": "u", "published": 9.0}, {**GREATER, "metric": "v"}]}
    verdict = make(rule, several(u=0.5, v=0.5))
    assert (verdict.verdict, verdict.difference) == ("reproduced in direction only", pytest.approx(-8.5))


def test_not_tested_keeps_its_reason(make: Any) -> None:
    rule = {"kind": "not_tested", "reason": "underspecified", "note": "The paper gives no settings."}
    for profile in ("book", "smoke"):
        verdict = make(rule, tiny_study.table({"a": BASE}), profile=profile)
        assert (verdict.verdict, verdict.reason, verdict.detail) == ("not tested", "underspecified", rule["note"])


def test_small_profiles_and_exploratory_runs_show_effects_only(make: Any) -> None:
    frame = tiny_study.table({"a": BASE, "b": shifted(0.5)})
    small = make(GREATER, frame, profile="smoke")
    assert (small.verdict, small.reason, small.effect) == ("not tested", "scale", pytest.approx(0.5))
    assert small.detail.startswith("The smoke profile is too small for verdicts. score: b > a: mean 0.5")
    free = make(GREATER, frame, profile=None, exploratory=True)
    assert (free.verdict, free.effect) == ("exploratory", pytest.approx(0.5))
    assert claims.verdict_table([free])["verdict"][0] == "exploratory - not a verdict"


@pytest.mark.parametrize(("variable", "word"), [("book", "reproduced"), ("", "exploratory"), (None, "not tested")])
def test_inside_a_notebook_the_run_says_what_it_is(
    make: Any, monkeypatch: pytest.MonkeyPatch, variable: str | None, word: str
) -> None:
    monkeypatch.delenv("XAI_PROFILE", raising=False)
    if variable is not None:
        monkeypatch.setenv("XAI_PROFILE", variable)
    frame = tiny_study.table({"a": BASE, "b": shifted(0.5)})
    assert make(GREATER, frame, profile=None, exploratory=None).verdict == word


def test_unknown_profiles_are_refused(make: Any) -> None:
    frame = tiny_study.table({"a": BASE, "b": shifted(0.5)})
    with pytest.raises(ConfigError, match="unknown profile of tiny 'bok'"):
        make(GREATER, frame, profile="bok")
    with pytest.raises(ConfigError, match="no profile given"):
        make(GREATER, frame, profile=None, exploratory=False)


def test_table_and_record_are_plain(make: Any) -> None:
    missing = make(GREATER, tiny_study.table({"a": BASE}))
    table = claims.verdict_table([missing])
    assert table.loc[0, ["verdict", "reason", "n", "effect", "95 % interval", "difference"]].tolist() == [
        "not tested",
        "data not available",
        "",
        "",
        "",
        "",
    ]
    assert missing.record()["effect"] is None
    assert set(claims.VERDICTS) >= {missing.verdict}
